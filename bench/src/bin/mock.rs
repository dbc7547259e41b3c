//! The mock of an upstream as a program. Prints its port, serves until it is ended.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use freellmapi_bench::arguments::{Arguments, exit_code};
use freellmapi_bench::mock;
use tokio::net::TcpSocket;

/// As many streams may be opened within one turn.
const BACKLOG: u32 = 4096;

const USAGE: &str = "
usage: mock [--listen 127.0.0.1:0]";

fn main() -> ExitCode {
    exit_code("mock", USAGE, run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::new(std::env::args().skip(1))?;
    let address = arguments.take("listen", std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    arguments.finish()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
        Ok(mock::serve(listener).await?)
    })
}
