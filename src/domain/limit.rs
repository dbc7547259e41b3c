//! What a provider (or an operator) states about how much may be used.

use std::time::Duration;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    Requests,
    /// Input and output together.
    Tokens,
    InputTokens,
    OutputTokens,
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
            Self::Parallel => "parallel",
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
    /// No window: what is in flight now (unit `parallel`).
    InFlight,
}

/// One limit, as stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub scope: Scope,
    pub unit: Unit,
    /// In units of `unit`; at least 1.
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
