//! The commands of the program. No logic of their own: each reads its arguments, calls a room, prints.

mod arguments;
mod check;
mod demo;
mod failure;
mod grants;
mod key;
mod label;
mod ledger;
mod migrate;
mod model;
mod output;
mod serve;
mod stop_signals;
mod tenant;

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::Failure;

/// Runs the program with the process's arguments and environment.
///
/// The exit codes are those of sysexits: 64 usage, 78 bad configuration, 69 store unreachable or in use, 74 when
/// a new key cannot be printed, 0 after a clean drain, 1 when `check` finds something.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let environment = environment();
    crate::telemetry::start(environment.get("RUST_LOG").map(String::as_str));
    match run(arguments, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the process's environment")]
fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn usage(error: &clap::Error) -> ExitCode {
    // Help and version are errors to clap, but not to the shell.
    let code = if error.use_stderr() { failure::USAGE } else { 0 };
    let _unwritten = error.print();
    ExitCode::from(code)
}

fn run(arguments: Arguments, environment: HashMap<String, String>) -> Result<(), Failure> {
    let sources = crate::config::Sources { file: arguments.config, environment };
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&sources),
        Command::Demo => demo::run(sources),
        Command::Check => check::run(&sources),
        Command::Migrate => migrate::run(&sources),
        Command::Tenant { command } => tenant::run(&sources, command),
        Command::Key { command } => key::run(&sources, command),
        Command::Model { command } => model::run(&sources, &command),
        Command::Ledger { command } => ledger::run(&sources, &command),
    }
}
