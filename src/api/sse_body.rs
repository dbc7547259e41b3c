//! The body of a streamed answer: events as they come, comments while nothing does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::time::{Sleep, sleep};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

use super::admission::Permit;
use super::surface::Surface;
use super::{error, served};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::failure::UpstreamFailure;
use crate::error::GatewayError;
use crate::provider::{Answer, EventStream};

const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Dropping it, as the server does when the client leaves, aborts the request.
pub(super) struct SseBody {
    state: State,
    surface: Surface,
    heartbeat: Duration,
    beat: Pin<Box<Sleep>>,
    clock: SharedClock,
    last_byte_at: Moment,
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
    pub(super) fn streaming(
        events: Box<EventStream>,
        surface: Surface,
        heartbeat: Duration,
        clock: SharedClock,
        permit: Permit,
    ) -> Self {
        Self::new(State::Streaming(events), surface, heartbeat, clock, permit)
    }

    /// A stream that begins with the first heartbeat.
    pub(super) fn waiting(
        answer: oneshot::Receiver<Answer>,
        surface: Surface,
        heartbeat: Duration,
        clock: SharedClock,
        permit: Permit,
    ) -> Self {
        let mut body = Self::new(State::Waiting(answer), surface, heartbeat, clock, permit);
        body.beat.set(sleep(Duration::ZERO));
        body.last_byte_at = body.last_byte_at - heartbeat;
        body
    }

    fn new(state: State, surface: Surface, heartbeat: Duration, clock: SharedClock, permit: Permit) -> Self {
        let last_byte_at = clock.now();
        Self {
            state,
            surface,
            heartbeat,
            beat: Box::pin(sleep(heartbeat)),
            clock,
            last_byte_at,
            _permit: permit,
        }
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
                Some(Ok(event)) => Some(self.surface.event(event)),
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
        error::event(error, self.surface)
    }

    fn poll_beat(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            ready!(self.beat.as_mut().poll(context));
            let silence = self.clock.now().saturating_since(self.last_byte_at);
            if silence >= self.heartbeat {
                self.beat.set(sleep(self.heartbeat));
                return Poll::Ready(KEEP_ALIVE);
            }
            self.beat.set(sleep(self.heartbeat - silence));
        }
    }
}

/// The answer broke off after its first event.
fn cut(failure: &UpstreamFailure) -> GatewayError {
    GatewayError::unavailable(format!("the answer was cut: {}", failure.kind.explanation()))
}

impl Stream for SseBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let bytes = match self.poll_answer(context) {
            Poll::Ready(Some(bytes)) => bytes,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => ready!(self.poll_beat(context)),
        };
        self.last_byte_at = self.clock.now();
        Poll::Ready(Some(Ok(bytes)))
    }
}
