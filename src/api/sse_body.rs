//! The body of a streamed answer: events as they come, comments while nothing does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::time::{Sleep, sleep};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;

use super::admission::Permit;
use super::edge::Readiness;
use super::surface::Surface;
use super::{error, served};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::failure::UpstreamFailure;
use crate::domain::ids::RequestId;
use crate::domain::panics::Panics;
use crate::error::GatewayError;
use crate::provider::{Answer, EventStream};

const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// How a stream is shown to its client.
pub(super) struct Manner {
    pub(super) surface: Surface,
    pub(super) heartbeat: Duration,
    pub(super) clock: SharedClock,
    pub(super) readiness: Readiness,
    pub(super) panics: Panics,
    /// A client that takes nothing for so long has been cut off.
    pub(super) client_stall_timeout: Duration,
    pub(super) request_id: RequestId,
}

/// Dropping it, as the server does when the client leaves, aborts the request.
pub(super) struct SseBody {
    state: State,
    manner: Manner,
    beat: Pin<Box<Sleep>>,
    cut_off: Pin<Box<OwnedNotified>>,
    last_byte_at: Moment,
    /// Whether the last bytes have been asked for and nothing since: the server has no room for more, because its
    /// client takes none.
    is_client_slow: bool,
    /// Held to the last byte.
    _permit: Permit,
}

enum State {
    /// Headers are out, an answer is not there yet.
    Waiting(oneshot::Receiver<Answer>),
    Streaming(Box<EventStream>),
    Over,
}

impl SseBody {
    /// A stream whose first event is there.
    pub(super) fn streaming(events: Box<EventStream>, manner: Manner, permit: Permit) -> Self {
        Self::new(State::Streaming(events), manner, permit)
    }

    /// A stream that begins with the first heartbeat.
    pub(super) fn waiting(answer: oneshot::Receiver<Answer>, manner: Manner, permit: Permit) -> Self {
        let mut body = Self::new(State::Waiting(answer), manner, permit);
        body.beat.set(sleep(Duration::ZERO));
        body.last_byte_at = body.last_byte_at - body.manner.heartbeat;
        body
    }

    fn new(state: State, manner: Manner, permit: Permit) -> Self {
        let beat = Box::pin(sleep(manner.heartbeat));
        let cut_off = Box::pin(manner.readiness.alarm());
        let last_byte_at = manner.clock.now();
        Self { state, manner, beat, cut_off, last_byte_at, is_client_slow: false, _permit: permit }
    }

    /// The next bytes of the stream, of whatever kind.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.is_client_slow = false;
        let bytes = match self.poll_answer(context) {
            Poll::Ready(Some(bytes)) => bytes,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => match self.poll_cut_off(context) {
                Poll::Ready(bytes) => bytes,
                Poll::Pending => ready!(self.poll_beat(context)),
            },
        };
        self.last_byte_at = self.manner.clock.now();
        self.is_client_slow = true;
        Poll::Ready(Some(bytes))
    }
    /// The next bytes of the answer; pending while there are none.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.state {
            State::Over => Poll::Ready(None),
            State::Waiting(answer) => {
                let answer = ready!(Pin::new(answer).poll(context));
                Poll::Ready(Some(self.begin(answer.unwrap_or(Answer::Refused(GatewayError::Internal)))))
            }
            State::Streaming(events) => Poll::Ready(match ready!(events.poll_next_unpin(context)) {
                Some(Ok(event)) => Some(self.manner.surface.event(event)),
                Some(Err(failure)) => Some(self.end(&cut(&failure))),
                None => None,
            }),
        }
    }

    fn begin(&mut self, answer: Answer) -> Bytes {
        match answer {
            Answer::Stream(events) => {
                let events = events.take();
                let comment = served::comment(&events.served);
                self.state = State::Streaming(events);
                comment
            }
            Answer::Refused(refusal) => self.end(&refusal),
            // A streamed request is never answered whole.
            Answer::Whole(_) => self.end(&GatewayError::Internal),
        }
    }

    /// Ends in-band and without `[DONE]`: a cut answer never looks complete.
    fn end(&mut self, error: &GatewayError) -> Bytes {
        self.state = State::Over;
        error::event(error, self.manner.surface)
    }

    /// Ends the stream when the time to drain is over.
    fn poll_cut_off(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        if !self.manner.readiness.is_cut_off() {
            ready!(self.cut_off.as_mut().poll(context));
        }
        Poll::Ready(self.end_as_cut(&Readiness::stopping()))
    }

    /// Ends what would have gone on.
    fn end_as_cut(&mut self, error: &GatewayError) -> Bytes {
        if let State::Streaming(events) = &mut self.state {
            events.cut();
        }
        self.end(error)
    }

    fn poll_beat(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            ready!(self.beat.as_mut().poll(context));
            let silence = self.manner.clock.now().saturating_since(self.last_byte_at);
            if silence >= self.manner.heartbeat {
                self.beat.set(sleep(self.manner.heartbeat));
                return Poll::Ready(KEEP_ALIVE);
            }
            self.beat.set(sleep(self.manner.heartbeat - silence));
        }
    }
}

/// The answer broke off after its first event.
fn cut(failure: &UpstreamFailure) -> GatewayError {
    GatewayError::unavailable(format!("the answer was cut: {}", failure.kind.explanation()))
}

impl Stream for SseBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        let panics = body.manner.panics.clone();
        let polled = panics.survive("a stream", || body.poll_bytes(context));
        let bytes = std::task::ready!(
            polled.unwrap_or_else(|| Poll::Ready(Some(body.end_as_cut(&GatewayError::Internal))))
        );
        Poll::Ready(bytes.map(Ok))
    }
}

impl Drop for SseBody {
    /// Who is cut off looks like one who leaves: the difference is told in the log.
    fn drop(&mut self) {
        let stalled = self.manner.clock.now().saturating_since(self.last_byte_at);
        if self.is_client_slow && stalled >= self.manner.client_stall_timeout {
            log::warn!(
                request_id = self.manner.request_id.as_str(), stalled_ms = stalled.as_millis() as u64;
                "a client was cut off: it took nothing of its stream for dispatch.client_stall_timeout"
            );
        }
    }
}
