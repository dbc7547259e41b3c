//! What one attempt asks for.

use std::time::Duration;

use serde::Serialize;

use crate::domain::usage::Usage;

/// A position in [`ProviderSpec::accounts`](crate::domain::provider::ProviderSpec::accounts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AccountIndex(pub usize);

/// A position in [`ProviderSpec::models`](crate::domain::provider::ProviderSpec::models).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ModelIndex(pub usize);

/// What one attempt may use at most, and how long its sending may be put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    pub model: ModelIndex,
    /// The upper edge of the estimate of the whole input, in tokens.
    pub input_tokens: u64,
    /// The output cap that is sent along, in tokens.
    pub output_tokens: u64,
    /// The attempt is sent within this time of the grant, or not at all.
    pub send_within: Duration,
    /// Whether its answer comes as a stream, whose first byte is not its end.
    pub is_streamed: bool,
}

impl Demand {
    /// The tokens that a grant reserves.
    pub(super) fn reserved(&self) -> Usage {
        Usage { input_tokens: self.input_tokens, output_tokens: self.output_tokens }
    }
}
