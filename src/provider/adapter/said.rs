//! Whether an answer says anything.

use super::Tokens;

/// A whole answer, as far as the gateway acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Whole {
    pub(in crate::provider) tokens: Tokens,
    pub(in crate::provider) said: Said,
}

/// Whether an answer, or an event of one, says anything: content, a tool call or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Said {
    Something,
    /// Nothing, and it does not end.
    Nothing,
    /// Nothing, and it ends for that reason.
    EndsWithNothing(Ending),
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Ending {
    /// It reached its cap.
    Length,
    /// The provider held back what it wrote.
    Filtered,
    /// It was done, or whatever else its provider calls it.
    Other,
}
