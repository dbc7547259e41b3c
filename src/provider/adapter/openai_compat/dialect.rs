//! The dialect as an [`Adapter`].

use actix_web::http::header::HeaderMap;

use super::{answer, failure, request};
use crate::domain::clock::Moment;
use crate::domain::failure::UpstreamFailure;
use crate::provider::adapter::{
    Adapter, Call, Chunk, ErrorAnswer, LimitHeaders, LimitHints, Said, StreamError, Whole, limit_hints,
};

/// OpenAI's dialect.
pub(in crate::provider::adapter) struct OpenAiCompat;

impl Adapter for OpenAiCompat {
    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn encode(&self, call: &Call<'_>) -> Vec<u8> {
        request::encode(call)
    }

    fn check_whole(&self, body: &[u8]) -> Result<Whole, UpstreamFailure> {
        answer::check_whole(body)
    }

    fn read_chunk(&self, data: &[u8]) -> Result<Chunk, StreamError> {
        answer::read_chunk(data)
    }

    fn said(&self, data: &[u8]) -> Said {
        answer::said(data)
    }

    fn classify(&self, answer: &ErrorAnswer<'_>) -> UpstreamFailure {
        failure::classify(answer)
    }

    fn limit_hints(
        &self,
        watched: &LimitHeaders,
        headers: &HeaderMap,
        refusal: Option<&[u8]>,
        now: Moment,
    ) -> LimitHints {
        let exhausted = watched.exhausted(headers, now);
        let retry =
            refusal.and_then(|body| limit_hints::retry_of(headers).or_else(|| failure::retry_of(body)));
        LimitHints { retry, exhausted }
    }
}
