//! What a provider (or an operator) states about how much may be used.

use std::fmt;
use std::time::Duration;

use super::calendar::{Calendar, Period};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    Requests,
    /// Input and output together.
    Tokens,
    InputTokens,
    OutputTokens,
    /// What the provider's own currency counts, by the model's price; amounts are in millionths of a credit.
    Credits,
    /// Attempts in flight at once; has no window.
    Parallel,
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Credits => "credits",
            Self::Parallel => "parallel",
        }
    }

    /// What its amounts are numbers of.
    pub fn amounts(self) -> &'static str {
        match self {
            Self::Credits => "micro_credits",
            Self::Requests | Self::Tokens | Self::InputTokens | Self::OutputTokens | Self::Parallel => {
                self.as_str()
            }
        }
    }
}

/// Whose use a limit adds up; model and pool lie within one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Account,
    Model,
    /// All models of the account that name this pool.
    Pool(String),
}

/// Over what time a limit adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Any span of this length.
    Sliding(Duration),
    /// At least so far apart: one request in any span of this length.
    Spacing(Duration),
    /// From one midnight, or first of the month, to the next.
    Calendar(Calendar),
    /// No window: what is in flight now (unit `parallel`).
    InFlight,
}

impl Window {
    /// Whether it is a day long, sliding or by the calendar.
    pub fn is_day(self) -> bool {
        const DAY: Duration = Duration::from_secs(86_400);
        match self {
            Self::Sliding(length) => length == DAY,
            Self::Calendar(calendar) => calendar.period == Period::Day,
            Self::Spacing(_) | Self::InFlight => false,
        }
    }
}

impl fmt::Display for Window {
    /// As a configuration spells it: `60s`, `spacing:1s`, `day@UTC`; `in flight` for none. Never changes: rows of a
    /// ledger may be keyed by it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sliding(length) => write_length(f, *length),
            Self::Spacing(length) => {
                f.write_str("spacing:")?;
                write_length(f, *length)
            }
            Self::Calendar(calendar) => calendar.fmt(f),
            Self::InFlight => f.write_str("in flight"),
        }
    }
}

fn write_length(f: &mut fmt::Formatter<'_>, length: Duration) -> fmt::Result {
    let ms = length.as_millis();
    if ms.is_multiple_of(1_000) { write!(f, "{}s", ms / 1_000) } else { write!(f, "{ms}ms") }
}

/// One limit, as stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub scope: Scope,
    pub unit: Unit,
    /// In units of `unit`, credits in millionths; at least 1.
    pub max: u64,
    pub window: Window,
}

/// When and what an upstream counts for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensCharged {
    /// Input and the output cap, on arrival; nothing is given back.
    Reserve,
    /// What was really used, at the end.
    Usage,
    /// Nobody says: the larger of both counts, from the end.
    Unknown,
}

/// When an upstream counts a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestsCharged {
    /// When it arrives.
    Arrival,
    /// At some instant between our first byte out and its first byte back.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;

    #[test]
    fn windows_read_as_they_are_configured() {
        let month = Calendar { period: Period::Month, zone: Zone::named("Europe/Berlin").unwrap() };
        let cases = [
            (Window::Sliding(Duration::from_secs(86_400)), "86400s", true),
            (Window::Sliding(Duration::from_millis(1_500)), "1500ms", false),
            (Window::Spacing(Duration::from_secs(1)), "spacing:1s", false),
            (Window::Calendar(Calendar { period: Period::Day, zone: Zone::UTC }), "day@UTC", true),
            (Window::Calendar(month), "month@Europe/Berlin", false),
            (Window::InFlight, "in flight", false),
        ];
        for (window, text, is_day) in cases {
            assert_eq!((window.to_string().as_str(), window.is_day()), (text, is_day));
        }
    }
}
