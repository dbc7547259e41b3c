//! The `freellmapi` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    freellmapi::cli::main()
}
