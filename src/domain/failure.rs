//! How an attempt at an upstream can fail: data to decide on.

use std::fmt;
use std::time::Duration;

/// What went wrong, as far as the next step depends on it. The text is a metric label: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection: nothing was sent.
    Connect,
    /// The connection closed before an answer began; it may have been a stale one from the pool.
    Closed,
    Timeout(Phase),
    /// 429: the upstream says that there is no room.
    RateLimited,
    /// 401 or 403: the account's key is not accepted.
    Unauthorized,
    /// 402: the account is out of credit.
    PaymentRequired,
    /// 404 or 410: the model is not there.
    ModelGone,
    /// 413: this request can never fit there.
    TooLarge,
    /// 400 or 422: the upstream finds the request wrong.
    InvalidRequest,
    /// 5xx, or an error reported inside a 200.
    Upstream,
    /// An answer that is not what the dialect says: not JSON, the wrong shape, too large, cut.
    Protocol,
}

/// Which wait ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    FirstToken,
    Stall,
    Total,
}

impl FailureKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Timeout(Phase::FirstToken) => "timeout_first_token",
            Self::Timeout(Phase::Stall) => "timeout_stall",
            Self::Timeout(Phase::Total) => "timeout_total",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::PaymentRequired => "payment_required",
            Self::ModelGone => "model_gone",
            Self::TooLarge => "too_large",
            Self::InvalidRequest => "invalid_request",
            Self::Upstream => "upstream",
            Self::Protocol => "protocol",
        }
    }
}

impl FailureKind {
    /// What a client may know of a failure: its kind, not the upstream's own words, which may name an account.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Connect => "no connection to the provider",
            Self::Closed => "the provider closed the connection",
            Self::Timeout(_) => "the provider did not answer in time",
            Self::RateLimited => "the provider is at its limit",
            Self::Unauthorized => "the provider refused the operator's key",
            Self::PaymentRequired => "the provider asks for payment",
            Self::ModelGone => "the provider does not have this model",
            Self::TooLarge => "the request is too large for the provider",
            Self::InvalidRequest => "the provider refused the request",
            Self::Upstream => "the provider reported an error",
            Self::Protocol => "the provider sent an answer that makes no sense",
        }
    }
}

/// The longest text of an upstream that is kept. Chosen: enough for the longest useful message seen.
const DETAIL_MAX_CHARS: usize = 500;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFailure {
    pub kind: FailureKind,
    pub status: Option<u16>,
    /// The upstream's own words or ours on what happened; bounded, without control characters.
    pub detail: String,
    /// When the upstream said to come back.
    pub retry_after: Option<Duration>,
}

impl UpstreamFailure {
    pub fn new(kind: FailureKind, detail: &str) -> Self {
        Self { kind, status: None, detail: bounded(detail), retry_after: None }
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(DETAIL_MAX_CHARS).collect()
}

impl fmt::Display for UpstreamFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(status) = self.status {
            write!(f, " (HTTP {status})")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_text_is_bounded_and_printable() {
        let failure = UpstreamFailure::new(FailureKind::Upstream, &"a\u{1b}[31m\n".repeat(1_000));
        assert_eq!(failure.detail.chars().count(), DETAIL_MAX_CHARS);
        assert!(!failure.detail.chars().any(char::is_control));
    }
}
