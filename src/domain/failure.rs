//! How an attempt at an upstream can fail: data to decide on.

use std::time::Duration;

use super::clock::Moment;
use super::signals::{Period, RefusedLimit};

/// What went wrong, as far as the next step depends on it. The text is a metric label: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection: nothing was sent.
    Connect,
    /// The connection closed before an answer began; it may have been a stale one from the pool.
    Closed,
    Timeout(Phase),
    /// A limit of ours is used up, says the upstream; mostly 429.
    RateLimited,
    /// The upstream, or this model there, is busy: no limit of ours.
    Overloaded,
    /// The account's key is not accepted; mostly 401 or 403.
    Unauthorized,
    /// The account is out of credit; mostly 402.
    PaymentRequired,
    /// The model is not there, or not for this account; mostly 404 or 410.
    ModelGone,
    /// This request can never fit there; mostly 413.
    TooLarge,
    /// The model there cannot do what the request needs: tools, images, a format.
    Unsupported,
    /// The provider's policy forbids the content.
    ContentPolicy,
    /// The model said nothing, or nothing that the provider could read.
    NoAnswer,
    /// The upstream finds the request wrong; mostly 400 or 422.
    InvalidRequest,
    /// Not the provider's API has answered but a firewall, or a page: 403 or 404 without JSON.
    Misdirected,
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
            Self::Overloaded => "overloaded",
            Self::Unauthorized => "unauthorized",
            Self::PaymentRequired => "payment_required",
            Self::ModelGone => "model_gone",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::ContentPolicy => "content_policy",
            Self::NoAnswer => "no_answer",
            Self::InvalidRequest => "invalid_request",
            Self::Misdirected => "misdirected",
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
            Self::Overloaded => "the provider is busy",
            Self::Unauthorized => "the provider refused the operator's key",
            Self::PaymentRequired => "the provider asks for payment",
            Self::ModelGone => "the provider does not have this model",
            Self::TooLarge => "the request is too large for the provider",
            Self::Unsupported => "the provider cannot do what the request needs",
            Self::ContentPolicy => "the provider's policy forbids the content",
            Self::NoAnswer => "the model said nothing",
            Self::InvalidRequest => "the provider refused the request",
            Self::Misdirected => "something other than the provider's API answered",
            Self::Upstream => "the provider reported an error",
            Self::Protocol => "the provider sent an answer that makes no sense",
        }
    }
}

/// The longest foreign text that is kept. Chosen: enough for the longest useful message seen.
const TEXT_MAX_CHARS: usize = 500;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFailure {
    pub kind: FailureKind,
    pub status: Option<u16>,
    /// Our words on what happened: fit for the log.
    pub detail: String,
    /// The upstream's own words, bounded and without control characters. They may repeat a prompt or name an
    /// account: never for the log, and for the client only where it is told what is wrong with its request.
    pub message: Option<String>,
    /// The error's codes and classes as the upstream spells them: data to classify by, never shown.
    pub codes: Vec<String>,
    /// When the upstream said to come back.
    pub retry: Option<RetryHint>,
    /// Which limit it was about, where that is known.
    pub limit: Option<Box<RefusedLimit>>,
}

/// When an upstream says to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryHint {
    After(Duration),
    At(Moment),
}

impl RetryHint {
    /// The instant that is meant by one who says so at `now`.
    pub fn instant(self, now: Moment) -> Moment {
        match self {
            Self::After(delay) => now + delay,
            Self::At(instant) => instant,
        }
    }
}

impl UpstreamFailure {
    /// Over what time the limit counts that it was about, where that is known.
    pub fn period(&self) -> Option<Period> {
        self.limit.as_ref()?.period
    }

    pub fn new(kind: FailureKind, detail: &str) -> Self {
        Self {
            kind,
            status: None,
            detail: bounded(detail),
            message: None,
            codes: Vec::new(),
            retry: None,
            limit: None,
        }
    }

    /// The same with the upstream's own words.
    pub fn with_message(self, message: &str) -> Self {
        Self { message: Some(bounded(message)), ..self }
    }

    /// Blanks `secret` wherever the upstream repeats it.
    pub fn without_secret(mut self, secret: &str) -> Self {
        if let Some(message) = &mut self.message {
            *message = message.replace(secret, "[secret]");
        }
        self
    }
}

/// `text`, shortened, without what could forge a line or command a terminal.
pub fn bounded(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_text_is_bounded_and_printable() {
        let failure =
            UpstreamFailure::new(FailureKind::Upstream, "").with_message(&"a\u{1b}[31m\n".repeat(1_000));
        let message = failure.message.unwrap();
        assert_eq!(message.chars().count(), TEXT_MAX_CHARS);
        assert!(!message.chars().any(char::is_control));
    }

    #[test]
    fn a_secret_that_an_upstream_repeats_is_blanked() {
        let failure =
            UpstreamFailure::new(FailureKind::InvalidRequest, "").with_message("bad key gsk_1, use gsk_2");
        assert_eq!(failure.without_secret("gsk_1").message.unwrap(), "bad key [secret], use gsk_2");
    }
}
