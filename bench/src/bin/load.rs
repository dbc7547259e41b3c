//! The load client as a program. Prints one JSON object.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use freellmapi_bench::arguments::{Arguments, UsageError, exit_code};
use freellmapi_bench::load::{self, Target, Window};
use freellmapi_bench::script::Wish;
use freellmapi_bench::watch::Watch;
use serde_json::Value;

const USAGE: &str = "
usage: load closed  --to 127.0.0.1:PORT [--connections 64]
       load open    --to 127.0.0.1:PORT [--rate 500] [--events N --pace-ms MS]
       load held    --to 127.0.0.1:PORT --streams N --events N --pace-ms MS
       load flood   --to 127.0.0.1:PORT [--connections 64]
       load counted --to 127.0.0.1:PORT --requests N [--events N --pace-ms MS]
all:   [--key KEY] [--watch PID,PID] [--warm-up-ms 1000] [--ms 5000]";

fn main() -> ExitCode {
    exit_code("load", USAGE, run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let manner = words.next().ok_or_else(|| UsageError::new("no manner of load is given"))?;
    let mut arguments = Arguments::new(words)?;
    let address: SocketAddr = arguments.need("to")?;
    let key: String = arguments.take("key", "none".to_owned())?;
    let wish = Wish { events: arguments.take("events", 0)?, pace_ms: arguments.take("pace-ms", 0)? };
    let common = Common {
        target: Target::new(address, &key, wish),
        watch: Watch::new(arguments.take_list("watch")?),
        warm_up: Duration::from_millis(arguments.take("warm-up-ms", 1_000)?),
        length: Duration::from_millis(arguments.take("ms", 5_000)?),
    };
    let manner = Manner::read(&manner, &mut arguments)?;
    arguments.finish()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(common.load(manner))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

enum Manner {
    Closed { connections: usize },
    Open { per_second: f64 },
    Held { streams: usize },
    Flood { connections: usize },
    Counted { requests: usize },
}

impl Manner {
    fn read(name: &str, arguments: &mut Arguments) -> Result<Self, UsageError> {
        Ok(match name {
            "closed" => Self::Closed { connections: arguments.take("connections", 64)? },
            "open" => Self::Open { per_second: arguments.take("rate", 500.0)? },
            "held" => Self::Held { streams: arguments.need("streams")? },
            "flood" => Self::Flood { connections: arguments.take("connections", 64)? },
            "counted" => Self::Counted { requests: arguments.need("requests")? },
            _ => return Err(UsageError::new(format!("'{name}' is no manner of load"))),
        })
    }
}

struct Common {
    target: Target,
    watch: Watch,
    warm_up: Duration,
    length: Duration,
}

impl Common {
    async fn load(&self, manner: Manner) -> std::io::Result<Value> {
        let Self { target, watch, .. } = self;
        match manner {
            Manner::Closed { connections } => load::closed(target, connections, self.window(), watch).await,
            Manner::Open { per_second } => load::open(target, per_second, self.window(), watch).await,
            Manner::Held { streams } => load::held(target, streams, self.warm_up, watch).await,
            Manner::Flood { connections } => load::flood(target, connections, self.window(), watch).await,
            Manner::Counted { requests } => load::counted(target, requests).await,
        }
    }

    fn window(&self) -> Window {
        Window::begin(self.warm_up, self.length)
    }
}
