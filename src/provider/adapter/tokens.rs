//! What a whole answer says of its tokens.

use crate::domain::usage::Usage;

/// The tokens of a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Tokens {
    /// The upstream's word.
    Reported(Usage),
    /// The upstream says nothing: what the texts of the answer may be, an upper edge.
    Counted { output_tokens: u64 },
}
