//! One call, as the upstream saw it.

use std::time::Duration;

use freellmapi::domain::clock::Moment;

/// What is known of a call. An instant is absent until it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The request had come in full.
    pub(crate) arrival: Moment,
    /// Just before the first byte of the answer was written.
    pub(crate) first_byte: Option<Moment>,
    /// The last byte was written, or the client was seen to have gone.
    pub(crate) end: Option<Moment>,
    pub(crate) input_tokens: u64,
    /// The most that the request allowed the answer to be.
    pub(crate) output_cap: u64,
    /// What the answer had by its end.
    pub(crate) output_tokens: u64,
    pub(crate) is_refused: bool,
    /// The number that its client gave it, as the request's `user`.
    pub(crate) client: Option<usize>,
}

impl Call {
    pub(crate) fn arrived(arrival: Moment, input_tokens: u64, output_cap: u64) -> Self {
        Self {
            arrival,
            first_byte: None,
            end: None,
            input_tokens,
            output_cap,
            output_tokens: 0,
            is_refused: false,
            client: None,
        }
    }

    /// The last instant at which a request may be counted: its first byte, or, without one, its end.
    pub(crate) fn last_count(&self) -> Moment {
        self.first_byte.or(self.end).unwrap_or(Moment::NEVER)
    }

    pub(crate) fn reserved_tokens(&self) -> u64 {
        self.input_tokens + self.output_cap
    }

    pub(crate) fn used_tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    /// From arrival to first byte; none for a call that has had none.
    pub(crate) fn time_to_first_byte(&self) -> Option<Duration> {
        self.first_byte.map(|first| first.saturating_since(self.arrival))
    }
}
