//! How many tokens a text is, without its tokenizer.
//!
//! Invariant: the central estimate stays within [`ERROR_PERCENT`](crate::domain::input_tokens::ERROR_PERCENT) of the
//! two reference tokenizers on the kinds of text in `tests/fixtures/tokens`; `docs/ESTIMATE.md` has the table. An exact
//! tokenizer was measured and rejected: its tables take twice the memory that the whole gateway may have.
//! Knows nothing of messages and of JSON: it is given texts. What an estimate takes too much is given back when
//! upstream reports the real count; what it takes too little is debt.

mod calibration;
mod class;
mod image;
mod piece;
mod state;
mod table;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use calibration::Calibration;
pub use image::{IMAGE_TOKENS, image_tokens};
pub use vocabulary::Vocabulary;

use crate::domain::input_tokens::InputTokens;

/// Tokens that a chat template puts around one message, whatever its text.
/// Chosen: start, role, separator and end make four or five in `ChatML` and Llama 3; the rest covers the start of
/// the text and of the answer, which even a single message pays.
pub const MESSAGE_OVERHEAD_TOKENS: u64 = 8;

/// The central estimate of the tokens of `text` by both vocabularies, without any template around it.
///
/// One pass, no allocation, two loads from small tables per byte.
pub fn text_tokens(text: &str) -> InputTokens {
    let hundredths = table::hundredths(text.as_bytes());
    InputTokens { large: hundredths.large.div_ceil(100), small: hundredths.small.div_ceil(100), images: 0 }
}

/// The upper edge of the tokens of `text` by any vocabulary.
pub fn input_tokens(text: &str) -> u64 {
    text_tokens(text).upper_edge()
}
