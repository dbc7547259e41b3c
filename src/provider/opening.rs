//! The beginning of a stream, held back until it says something: until then another provider may answer.

use bytes::{Bytes, BytesMut};

use super::adapter::{Adapter, Chunk, Said};
use super::empty_answer;
use super::sse::{self, Event};
use crate::domain::chat::ChatRequest;
use crate::domain::failure::{FailureKind, UpstreamFailure};

/// More than this is not held back: whoever sends so much before the first word is taken to have begun. Chosen: one
/// event with the role, perhaps one with filter results, are what comes in practice.
const HELD_MAX_BYTES: usize = 64 * 1024;

/// Events that say nothing yet, as one piece.
#[derive(Debug, Default)]
pub(super) struct Opening {
    held: Option<(BytesMut, Chunk)>,
}

impl Opening {
    /// Takes the next event; gives all of them back, as if they were one, with the first that says something.
    ///
    /// # Errors
    /// [`FailureKind::NoAnswer`] when the answer is over and has said nothing, unless that is meant.
    pub(super) fn take(
        &mut self,
        event: Bytes,
        chunk: Chunk,
        adapter: &dyn Adapter,
        request: &ChatRequest,
    ) -> Result<Option<(Bytes, Chunk)>, UpstreamFailure> {
        let said = match sse::read(&event) {
            Event::Data(data) => adapter.said(data.as_ref()),
            Event::Comment | Event::Done => Said::Something,
        };
        match said {
            Said::EndsWithNothing(ending) if request.choices == 1 => {
                if !empty_answer::is_meant(request, ending) {
                    return Err(empty_answer::failure());
                }
            }
            // One of several choices may be empty.
            Said::EndsWithNothing(_) | Said::Something => {}
            Said::Nothing => {
                let is_full = self.hold(&event, chunk, request);
                return Ok(if is_full { self.all(Bytes::new(), Chunk::default()) } else { None });
            }
        }
        Ok(self.all(event, chunk))
    }

    /// The stream has ended before it said anything.
    pub(super) fn ended(self) -> UpstreamFailure {
        match self.held {
            Some(_) => empty_answer::failure(),
            None => UpstreamFailure::new(FailureKind::Protocol, "the upstream's stream holds no answer"),
        }
    }

    /// Whether no more can be held.
    fn hold(&mut self, event: &[u8], chunk: Chunk, request: &ChatRequest) -> bool {
        let (bytes, together) = self.held.get_or_insert_default();
        // Usage alone is there because we asked.
        if !chunk.seen.is_empty() || chunk.usage.is_none() || request.wants_stream_usage {
            bytes.extend_from_slice(event);
        }
        *together = merged(*together, chunk);
        bytes.len() > HELD_MAX_BYTES
    }

    fn all(&mut self, event: Bytes, chunk: Chunk) -> Option<(Bytes, Chunk)> {
        Some(match self.held.take() {
            None => (event, chunk),
            Some((mut bytes, together)) => {
                bytes.extend_from_slice(&event);
                (bytes.freeze(), merged(together, chunk))
            }
        })
    }
}

fn merged(mut first: Chunk, second: Chunk) -> Chunk {
    first.seen |= second.seen;
    first.finished |= second.finished;
    first.usage = second.usage.or(first.usage);
    first
}
