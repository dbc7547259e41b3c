//! What one event of a stream says, as far as the gateway acts on it.

use super::choice_set::ChoiceSet;
use crate::domain::failure::UpstreamFailure;
use crate::domain::usage::Usage;

/// One event of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::provider) struct Chunk {
    /// The choices that it carries a piece of.
    pub(in crate::provider) seen: ChoiceSet,
    /// The choices of which it says why they end.
    pub(in crate::provider) finished: ChoiceSet,
    pub(in crate::provider) usage: Option<Usage>,
}

/// Why an event is not a piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::provider) enum StreamError {
    /// The upstream reports a failure.
    Reported(UpstreamFailure),
    /// It is not UTF-8.
    NotText,
    /// It is not what the dialect says.
    Malformed,
}
