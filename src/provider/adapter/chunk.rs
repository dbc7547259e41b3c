//! What one event of a stream says, as far as the gateway acts on it.

use crate::domain::failure::UpstreamFailure;
use crate::domain::usage::Usage;

/// One event of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::provider) struct Chunk {
    /// It says why the answer ends.
    pub(in crate::provider) is_finish: bool,
    /// It carries a piece of the answer.
    pub(in crate::provider) has_choices: bool,
    pub(in crate::provider) usage: Option<Usage>,
}

/// Why an event is not a piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::provider) enum StreamError {
    /// The upstream reports a failure.
    Reported(UpstreamFailure),
    /// It is not what the dialect says.
    Malformed,
}
