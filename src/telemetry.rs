//! What operators see: the log, one line an event on stderr, with its facts as key-values; and the name of every metric.
//! Never a key, a prompt or an answer.

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

/// One family of metrics. Its name and the names of its labels never change; the values of a label are words of ours or
/// come from the configuration, so that no client can make a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

impl Family {
    const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, labels }
    }
}

pub const REQUESTS: Family = Family::new(
    "freellmapi_requests_total",
    "Chats that have ended, by the API that they came by and by how they ended.",
    &["surface", "outcome"],
);
pub const UNAUTHORIZED: Family = Family::new(
    "freellmapi_unauthorized_total",
    "Chats refused for want of a valid key; no other family counts them.",
    &["surface"],
);
pub const REQUEST_DURATION: Family = Family::new(
    "freellmapi_request_duration_seconds",
    "From the head of a chat in to its last byte out, refusals included.",
    &["surface"],
);
pub const TIME_TO_FIRST_TOKEN: Family = Family::new(
    "freellmapi_time_to_first_token_seconds",
    "From the head of a streamed chat in to the first event of its answer out.",
    &["surface"],
);
pub const OVERHEAD: Family = Family::new(
    "freellmapi_overhead_seconds",
    "Our own time: request is from the body in to the first upstream call, without waits for \
     capacity; answer is from the upstream's last byte to ours out.",
    &["stage"],
);
pub const QUEUE_WAIT: Family = Family::new(
    "freellmapi_queue_wait_seconds",
    "Time that a chat waited for capacity, of those that came to an upstream call or a refusal; \
     0 for who did not wait.",
    &[],
);
pub const QUEUE_DEPTH: Family =
    Family::new("freellmapi_queue_depth", "Chats that wait for capacity now.", &[]);
pub const IN_FLIGHT: Family =
    Family::new("freellmapi_requests_in_flight", "Chats in flight: the permits that are held.", &[]);
pub const IN_FLIGHT_MAX: Family =
    Family::new("freellmapi_requests_in_flight_max", "Permits that there are: server.max_in_flight.", &[]);
pub const ATTEMPTS: Family = Family::new(
    "freellmapi_attempts_total",
    "Upstream calls that have ended, by outcome: served, abandoned (by us, mostly because the \
     client left), or the kind of failure.",
    &["provider", "outcome"],
);
pub const ANSWERS: Family = Family::new(
    "freellmapi_answers_total",
    "Upstream calls that were answered in full, by model.",
    &["provider", "model"],
);
pub const ATTEMPT_TIME_TO_FIRST_TOKEN: Family = Family::new(
    "freellmapi_attempt_time_to_first_token_seconds",
    "From an upstream call to the first event of its streamed answer.",
    &["provider"],
);
pub const TOKENS: Family = Family::new(
    "freellmapi_tokens_total",
    "Tokens of upstream calls, as reported, else as estimated.",
    &["provider", "direction"],
);
pub const LIMIT_DECISIONS: Family = Family::new(
    "freellmapi_limit_decisions_total",
    "Answers of our own books when room for an upstream call was asked for; pending is decided \
     later.",
    &["provider", "decision"],
);
pub const LIMIT_REMAINING: Family = Family::new(
    "freellmapi_limit_remaining_ratio",
    "The share of a limit that is left, over all accounts of the provider; 0 where more is held \
     than it allows.",
    &["provider", "scope", "unit", "window"],
);
pub const LIMIT_BREACHES: Family = Family::new(
    "freellmapi_limit_breach_total",
    "Times that an upstream said that a limit was used up while our own books saw room.",
    &["provider"],
);
pub const ACCOUNTS_REFUSED: Family = Family::new(
    "freellmapi_accounts_refused_total",
    "Times that an upstream refused an account's key or credit.",
    &["provider"],
);
pub const HOLDS_OPEN: Family =
    Family::new("freellmapi_holds_open", "Upstream calls that are granted and not settled.", &["provider"]);
pub const BREAKER_STATE: Family = Family::new(
    "freellmapi_provider_breaker_state",
    "1 for the state that the provider's circuit breaker is in, 0 for the others.",
    &["provider", "state"],
);
pub const COOLING: Family = Family::new(
    "freellmapi_provider_cooling",
    "Accounts, and models on an account, that are left alone for now, by reason.",
    &["provider", "reason"],
);
pub const LEDGER_AWAY: Family = Family::new(
    "freellmapi_ledger_away",
    "1 while the last call of the shared ledger has failed, else 0.",
    &[],
);
pub const LEDGER_CALLS: Family =
    Family::new("freellmapi_ledger_calls_total", "Calls of the shared ledger that were begun.", &[]);
pub const LEDGER_CALLS_FAILED: Family =
    Family::new("freellmapi_ledger_calls_failed_total", "Of those, calls that failed or took too long.", &[]);
pub const LEDGER_CLAIMS: Family = Family::new(
    "freellmapi_ledger_claims_total",
    "Attempts that asked the shared ledger for room, by its answer.",
    &["answer"],
);
pub const LEDGER_CLAIMS_WAITING: Family = Family::new(
    "freellmapi_ledger_claims_waiting",
    "Attempts that wait for the shared ledger's next call.",
    &[],
);
pub const LEDGER_UNKNOWN_OUTCOMES: Family = Family::new(
    "freellmapi_ledger_unknown_outcomes_total",
    "Attempts that were taken back because the outcome of their call is not known.",
    &[],
);
pub const LEDGER_UNWRITTEN: Family = Family::new(
    "freellmapi_ledger_unwritten",
    "Attempts of which the shared ledger is yet to be told something.",
    &[],
);
pub const LEDGER_NEWS_LOST: Family = Family::new(
    "freellmapi_ledger_news_lost_total",
    "Attempts of which it was never told, because too many waited: their crash caps end them.",
    &[],
);
pub const LEDGER_NEWS_LATE: Family = Family::new(
    "freellmapi_ledger_news_late_total",
    "Attempts that it did not know any more when it was told of them.",
    &[],
);
pub const LEDGER_RESTORES: Family = Family::new(
    "freellmapi_ledger_restores_total",
    "Times that the database turned out to be an older copy of itself, which holds every limit for one window.",
    &[],
);
pub const LEDGER_LEASED: Family = Family::new(
    "freellmapi_ledger_leased_total",
    "Upstream calls that were paid from a lease, without a call of the shared ledger.",
    &[],
);
pub const EVENTS_WRITTEN: Family =
    Family::new("freellmapi_events_written_total", "Completion events that were written to the store.", &[]);
pub const EVENTS_LOST: Family = Family::new(
    "freellmapi_events_lost_total",
    "Completion events that neither the store nor the spool has taken.",
    &[],
);
pub const EVENTS_WAITING: Family =
    Family::new("freellmapi_events_waiting", "Completion events in memory that are yet to be written.", &[]);
pub const SPOOL_EVENTS: Family =
    Family::new("freellmapi_spool_events", "Completion events on disk that wait for the store.", &[]);
pub const SPOOL_BYTES: Family = Family::new("freellmapi_spool_bytes", "What they take there.", &[]);
pub const KEYS_AGE: Family = Family::new(
    "freellmapi_keys_age_seconds",
    "How old the keys in memory are: known keys are good for 300 s without word from the store.",
    &[],
);
pub const PANICS: Family =
    Family::new("freellmapi_panics_total", "Panics that were survived; each cost one request.", &[]);
pub const BUILD_INFO: Family =
    Family::new("freellmapi_build_info", "1, with the version that runs.", &["version"]);
pub const START_TIME: Family =
    Family::new("freellmapi_start_time_seconds", "When this process started serving, in Unix time.", &[]);

/// Every family, in the order of `docs/METRICS.md`.
pub const FAMILIES: [Family; 40] = [
    REQUESTS,
    UNAUTHORIZED,
    REQUEST_DURATION,
    TIME_TO_FIRST_TOKEN,
    OVERHEAD,
    QUEUE_WAIT,
    QUEUE_DEPTH,
    IN_FLIGHT,
    IN_FLIGHT_MAX,
    ATTEMPTS,
    ANSWERS,
    ATTEMPT_TIME_TO_FIRST_TOKEN,
    TOKENS,
    LIMIT_DECISIONS,
    LIMIT_REMAINING,
    LIMIT_BREACHES,
    ACCOUNTS_REFUSED,
    HOLDS_OPEN,
    BREAKER_STATE,
    COOLING,
    LEDGER_AWAY,
    LEDGER_CALLS,
    LEDGER_CALLS_FAILED,
    LEDGER_CLAIMS,
    LEDGER_CLAIMS_WAITING,
    LEDGER_UNKNOWN_OUTCOMES,
    LEDGER_UNWRITTEN,
    LEDGER_NEWS_LOST,
    LEDGER_NEWS_LATE,
    LEDGER_RESTORES,
    LEDGER_LEASED,
    EVENTS_WRITTEN,
    EVENTS_LOST,
    EVENTS_WAITING,
    SPOOL_EVENTS,
    SPOOL_BYTES,
    KEYS_AGE,
    PANICS,
    BUILD_INFO,
    START_TIME,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_forge_a_line() {
        assert_eq!(printable("nope\n2026 INFO forged\u{1b}[31m"), "nope\\n2026 INFO forged\\u{1b}[31m");
        assert_eq!(printable("as it is"), "as it is");
    }
}
