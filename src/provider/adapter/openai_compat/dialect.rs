//! The dialect as an [`Adapter`].

use super::{answer, failure, request};
use crate::domain::failure::UpstreamFailure;
use crate::provider::adapter::{Adapter, Call, Chunk, ErrorAnswer, StreamError, Tokens};

/// OpenAI's dialect.
pub(in crate::provider::adapter) struct OpenAiCompat;

impl Adapter for OpenAiCompat {
    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn encode(&self, call: &Call<'_>) -> Vec<u8> {
        request::encode(call)
    }

    fn check_whole(&self, body: &[u8]) -> Result<Tokens, UpstreamFailure> {
        answer::check_whole(body)
    }

    fn read_chunk(&self, data: &[u8]) -> Result<Chunk, StreamError> {
        answer::read_chunk(data)
    }

    fn classify(&self, answer: &ErrorAnswer<'_>) -> UpstreamFailure {
        failure::classify(answer)
    }
}
