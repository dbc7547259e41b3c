//! One replica of the bench for replicas: it asks for room in one limit that other processes use as well, and counts
//! how often it gets it, and how long that takes.
//!
//! An example of the gateway's package, for it asks the gateway's own ledger as a provider actor does. `bench/run
//! --replicas` starts as many of them as it wants replicas, beside a database that it watches. Each prints `ready`, waits
//! for a line on stdin so that all begin together, and ends with one line of JSON.

mod ledger;
mod limiter;
mod load;
mod redis;
mod row_lock;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use freellmapi::domain::clock::{SharedClock, SystemClock};
use tokio::time::sleep;

use limiter::{Contender, Limiter};
use load::{Manner, Window};

/// How often a replica asks until it is admitted for the first time, and how long it rests in between. Chosen: several
/// replicas that meet a limit which is new to the ledger may be told to come back; a second each is its own patience.
const FIRST_TRIES: u32 = 30;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// What goes wrong ends the run: its text is all that anybody needs.
type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "One replica of bench/run --replicas")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a database with the gateway's tables and those of the row lock
    Create {
        /// URL of an administrator's database on the same server
        #[arg(long)]
        postgres: String,
        #[arg(long)]
        database: String,
    },
    /// Uses units of a limit at even distances over its last window, as if it had been in use all the time
    Fill {
        #[command(flatten)]
        limit: Limit,
        #[arg(long)]
        units: u32,
    },
    /// Asks as fast as the answers come
    Closed {
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        window: Span,
        #[arg(long)]
        askers: usize,
    },
    /// Asks at even distances, whatever the answers do
    Open {
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        window: Span,
        #[arg(long)]
        per_second: u32,
    },
}

/// The one limit that everybody asks for, and who keeps it.
#[derive(Args, Clone)]
struct Limit {
    #[arg(long)]
    contender: Contender,
    /// postgres://… or, for Redis, 127.0.0.1:PORT
    #[arg(long, default_value = "")]
    to: String,
    /// By what the replicas know it; a name that is new is a limit that nothing was taken from
    #[arg(long)]
    name: String,
    #[arg(long)]
    max: u64,
    #[arg(long)]
    window_s: u64,
}

#[derive(Args, Clone, Copy)]
struct Span {
    #[arg(long)]
    warm_up_ms: u64,
    #[arg(long)]
    ms: u64,
}

impl Limit {
    fn window(&self) -> Duration {
        Duration::from_secs(self.window_s)
    }
}

impl Span {
    fn begin(self, clock: &SharedClock) -> Window {
        Window::begin(
            Arc::clone(clock),
            Duration::from_millis(self.warm_up_ms),
            Duration::from_millis(self.ms),
        )
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The ledger's actor needs actix's runtime; it is tokio's, of one thread, and does for the others too.
    match actix::System::new().block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is gone there is nobody to tell.
            let _untold = writeln!(io::stderr(), "replicas: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Outcome<()> {
    let clock: SharedClock = Arc::new(SystemClock::start());
    match command {
        Command::Create { postgres, database } => row_lock::create_database(&postgres, &database),
        Command::Fill { limit, units } => limiter::fill(&limit, &clock, units).await,
        Command::Closed { limit, window, askers } => {
            admit(&limit, &clock, window, Manner::Closed { askers }).await
        }
        Command::Open { limit, window, per_second } => {
            admit(&limit, &clock, window, Manner::Open { per_second }).await
        }
    }
}

async fn admit(limit: &Limit, clock: &SharedClock, span: Span, manner: Manner) -> Outcome<()> {
    let limiter = Rc::new(Limiter::open(limit, clock).await?);
    be_admitted(&limiter).await?;
    wait_for_the_others()?;
    let report = load::run(&limiter, span.begin(clock), manner).await?;
    limiter.close();
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

/// Says that everything is connected, and blocks until the harness says that all replicas are. The runtime stands still
/// meanwhile, which is what is wanted.
fn wait_for_the_others() -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    match io::stdin().read_line(&mut String::new())? {
        0 => Err(io::Error::other("the harness has gone")),
        _ => Ok(()),
    }
}

/// What is made by the first call alone, connections above all, is no part of what is measured.
async fn be_admitted(limiter: &Limiter) -> Result<(), String> {
    let mut outcome = Ok(());
    for _ in 0..FIRST_TRIES {
        outcome = limiter.admit_and_end().await;
        if outcome.is_ok() {
            break;
        }
        sleep(BETWEEN_TRIES).await;
    }
    outcome
}
