//! The translation between our vocabulary and one wire dialect: synchronous, without I/O, clock or client.

mod choice_set;
mod chunk;
mod delay;
mod limit_hints;
mod openai_compat;
mod said;
mod tokens;

pub(super) use choice_set::ChoiceSet;
pub(super) use chunk::{Chunk, StreamError};
pub(super) use limit_hints::{LimitHeaders, LimitHints};
pub(super) use said::{Ending, Said, Whole};
pub(super) use tokens::Tokens;

use actix_web::http::header::HeaderMap;

use crate::domain::chat::ChatRequest;
use crate::domain::clock::Moment;
use crate::domain::failure::UpstreamFailure;
use crate::domain::provider::{Dialect, ModelSpec, ProviderSpec};

/// What a request is encoded for.
pub(super) struct Call<'a> {
    pub(super) request: &'a ChatRequest,
    pub(super) provider: &'a ProviderSpec,
    pub(super) model: &'a ModelSpec,
    /// An explicit cap of the output for a request that has none, where the reservation counted on one.
    pub(super) added_output_cap: Option<u64>,
}

/// An answer that is not a 2xx, as far as it was read.
pub(super) struct ErrorAnswer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

/// One dialect.
pub(super) trait Adapter: Sync {
    /// The path below the provider's base URL.
    fn path(&self) -> &'static str;

    /// The body to send.
    fn encode(&self, call: &Call<'_>) -> Vec<u8>;

    /// Checks a whole answer, reads its usage, or counts its texts where it tells none, and says whether it says
    /// anything.
    ///
    /// # Errors
    /// When it reports an error, or is not a chat completion.
    fn check_whole(&self, body: &[u8]) -> Result<Whole, UpstreamFailure>;

    /// Reads the data of one event of a stream. What it answers does not depend on what stands in the texts that the
    /// model writes: an event that differs from the one before in nothing else means the same.
    ///
    /// # Errors
    /// When it reports an error, or is not a chunk of a chat completion.
    fn read_chunk(&self, data: &[u8]) -> Result<Chunk, StreamError>;

    /// Whether the data of an event that [`read_chunk`](Self::read_chunk) has taken says anything.
    fn said(&self, data: &[u8]) -> Said;

    /// What an error answer means, by what all who speak the dialect have in common.
    fn classify(&self, answer: &ErrorAnswer<'_>) -> UpstreamFailure;

    /// What an answer says of the limits; of a refusal, what was read of its body counts too.
    fn limit_hints(
        &self,
        watched: &LimitHeaders,
        headers: &HeaderMap,
        refusal: Option<&[u8]>,
        now: Moment,
    ) -> LimitHints;
}

/// The adapter of a dialect.
pub(super) fn adapter(dialect: Dialect) -> &'static dyn Adapter {
    match dialect {
        Dialect::OpenAi => &openai_compat::OpenAiCompat,
    }
}
