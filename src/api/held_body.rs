//! A whole answer that is longer than what the server takes at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::admission::Permit;
use crate::domain::usage::Outcome;
use crate::stats::Completion;

/// The server takes answers up to this length in one go (actix-http 3.20 writes when it has 32 KiB); of a longer one
/// it asks for more when the client's socket has taken what there is.
pub(super) const TAKEN_AT_ONCE_BYTES: usize = 32 * 1024;

/// Holds its permit until the last byte is with the client's socket, so that clients who do not read cannot pile up
/// answers in memory. Dropped before that, its client has left.
pub(super) struct HeldBody {
    whole: Bytes,
    is_taken: bool,
    completion: Option<Completion>,
    _permit: Permit,
}

impl HeldBody {
    pub(super) fn new(whole: Bytes, mut completion: Completion, permit: Permit) -> Self {
        completion.ends_as(Outcome::ClientLeft);
        Self { whole, is_taken: false, completion: Some(completion), _permit: permit }
    }
}

impl MessageBody for HeldBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.whole.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if !std::mem::replace(&mut self.is_taken, true) {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.whole))));
        }
        if let Some(completion) = self.completion.take() {
            completion.finish(Outcome::Served);
        }
        Poll::Ready(None)
    }
}
