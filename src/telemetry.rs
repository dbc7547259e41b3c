//! The log: one line an event on stderr, with its facts as key-values; never a key, a prompt or an answer.

use std::borrow::Cow;
use std::io::Write;

use env_logger::{Builder, Target};
use log::LevelFilter;

/// Sets the log up; `filter` is the text of `RUST_LOG`, if it is set.
pub fn start(filter: Option<&str>) {
    let mut builder = Builder::new();
    // What the server's own crates say below a warning helps nobody who runs a gateway. actix-http calls every
    // client that leaves an error.
    builder.filter_level(LevelFilter::Info);
    for noisy in ["actix_server", "actix_web", "awc", "rustls"] {
        builder.filter_module(noisy, LevelFilter::Warn);
    }
    builder.filter_module("actix_http", LevelFilter::Off);
    if let Some(filter) = filter {
        builder.parse_filters(filter);
    }
    builder.target(Target::Stderr).format(|out, record| {
        let time = out.timestamp_millis();
        write!(out, "{time} {:5} {}", record.level(), printable(&record.args().to_string()))?;
        let mut pairs = Pairs(out);
        // A line that cannot be written is lost; there is nowhere to say so.
        let _unwritten = record.key_values().visit(&mut pairs);
        writeln!(pairs.0)
    });
    // A second call, as tests make it, keeps the first log.
    let _is_set_already = builder.try_init();
    std::panic::set_hook(Box::new(|panic| log_panic(panic.location())));
}

/// Where, and not what: a panic's words may repeat a piece of a prompt.
fn log_panic(location: Option<&std::panic::Location<'_>>) {
    let place = location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    log::error!(place = place; "a panic: this is a bug");
}

/// One line is one event: what would break it, or command a terminal, is escaped.
fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) { text.escape_debug().to_string().into() } else { text.into() }
}

/// Writes ` key=value` for each pair.
struct Pairs<'a>(&'a mut env_logger::fmt::Formatter);

impl<'kvs> log::kv::VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        write!(self.0, " {key}={}", printable(&value.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_forge_a_line() {
        assert_eq!(printable("nope\n2026 INFO forged\u{1b}[31m"), "nope\\n2026 INFO forged\\u{1b}[31m");
        assert_eq!(printable("as it is"), "as it is");
    }
}
