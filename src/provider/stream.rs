//! An answer as it streams: whole events, usage read from them, settled when it is dropped.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::rt::time::{Sleep, sleep};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::adapter::{Adapter, ChoiceSet, Chunk, StreamError};
use super::guard::AttemptGuard;
use super::likeness::Likeness;
use super::served::Served;
use super::sse::{self, Event, Splitter};
use super::transport::Body;
use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, Phase, UpstreamFailure};
use crate::domain::provider::Timeouts;
use crate::domain::usage::Outcome;
use crate::stats::Completion;

/// How a complete stream ends.
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// Events of an upstream's stream, cut out of its body and understood.
pub(super) struct Events {
    body: Option<Body>,
    splitter: Splitter,
    likeness: Likeness,
    adapter: &'static dyn Adapter,
}

/// One event that matters.
pub(super) enum Read {
    /// To be passed on.
    Chunk(Bytes, Chunk),
    Done,
}

impl Events {
    pub(super) fn new(body: Body, adapter: &'static dyn Adapter) -> Self {
        Self { body: Some(body), splitter: Splitter::default(), likeness: Likeness::default(), adapter }
    }

    /// The next event that is not a comment; `None` at the end of the body.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Read, UpstreamFailure>>> {
        loop {
            match self.splitter.next_event() {
                Ok(Some(event)) => match self.understand(event) {
                    Some(read) => return Poll::Ready(Some(read)),
                    None => continue,
                },
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match std::task::ready!(body.poll_next_unpin(context)) {
                Some(Ok(piece)) => {
                    if let Err(error) = self.splitter.push(piece) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
                Some(Err(failure)) => return Poll::Ready(Some(Err(failure))),
                None => {
                    self.body = None;
                    let last = self.splitter.finish().and_then(|event| self.understand(event));
                    return Poll::Ready(last);
                }
            }
        }
    }

    fn understand(&mut self, event: Bytes) -> Option<Result<Read, UpstreamFailure>> {
        let data = match sse::read(&event) {
            Event::Comment => return None,
            Event::Done => return Some(Ok(Read::Done)),
            Event::Data(data) => data,
        };
        Some(match self.meaning(&data) {
            Ok(chunk) => {
                let instead = sse::without_rest(&event, &data);
                Ok(Read::Chunk(instead.unwrap_or(event), chunk))
            }
            Err(StreamError::Reported(failure)) => Err(failure),
            Err(StreamError::NotText) => Err(UpstreamFailure::new(
                FailureKind::Protocol,
                "the stream holds an event that is not UTF-8",
            )),
            Err(StreamError::Malformed) => Err(UpstreamFailure::new(
                FailureKind::Protocol,
                "the stream holds an event that is not a chat chunk",
            )),
        })
    }

    fn meaning(&mut self, data: &[u8]) -> Result<Chunk, StreamError> {
        if let Some(chunk) = self.likeness.recognise(data) {
            return Ok(chunk);
        }
        let chunk = self.adapter.read_chunk(data)?;
        self.likeness.remember(data, &chunk);
        Ok(chunk)
    }

    /// Leaves the connection fit for reuse.
    fn finish(&mut self) {
        if let Some(body) = self.body.take() {
            body.drain();
        }
    }
}

impl From<sse::EventTooLong> for UpstreamFailure {
    fn from(_: sse::EventTooLong) -> Self {
        Self::new(FailureKind::Protocol, "the stream holds an event that is too long")
    }
}

/// A stream on its way to the client, from its first event to `[DONE]`.
///
/// Yields whole events, or one failure as its last item: after a failure there is no `[DONE]`, so that a cut
/// answer never looks complete. Dropping it aborts the upstream call and settles the attempt.
pub struct EventStream {
    pub served: Served,
    /// By itself, for it is gone at the first look, and as many streams are open as a process can bear.
    first: Option<Box<(Bytes, Chunk)>>,
    events: Events,
    guard: AttemptGuard,
    completion: Completion,
    wants_usage: bool,
    started_at: Moment,
    /// Wakes us at `silent_until` or before. It is set anew only when it has rung: to move it for every event would
    /// cost more than to be woken once too often in a whole stall timeout.
    silence: Pin<Box<Sleep>>,
    /// Until when the next event has time, and what has run out then.
    silent_until: (Moment, Phase),
    seen: ChoiceSet,
    finished: ChoiceSet,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// `[DONE]` or a failure has been yielded.
    Over,
}

/// What an [`EventStream`] is made of.
pub(super) struct Begun {
    pub(super) served: Served,
    pub(super) first: (Bytes, Chunk),
    pub(super) events: Events,
    pub(super) guard: AttemptGuard,
    pub(super) completion: Completion,
    pub(super) wants_usage: bool,
    pub(super) started_at: Moment,
}

impl EventStream {
    pub(super) fn new(begun: Begun) -> Self {
        let Begun { served, first, events, guard, mut completion, wants_usage, started_at } = begun;
        // Whatever drops it before its end: the client has left.
        completion.ends_as(Outcome::ClientLeft);
        let now = guard.shared().clock().now();
        let silent_until = patience(&guard.shared().spec().timeouts, started_at, now);
        Self {
            served,
            first: Some(Box::new(first)),
            events,
            guard,
            completion,
            wants_usage,
            started_at,
            silence: Box::pin(sleep(silent_until.0.saturating_since(now))),
            silent_until,
            seen: ChoiceSet::default(),
            finished: ChoiceSet::default(),
            state: State::Running,
        }
    }

    /// It is cut by us: dropped now, it ends as such.
    pub fn cut(&mut self) {
        self.completion.ends_as(Outcome::Cut);
    }

    /// Takes note of a chunk, and decides whether the client sees it.
    fn pass(&mut self, event: Bytes, chunk: Chunk) -> Option<Bytes> {
        self.seen |= chunk.seen;
        self.finished |= chunk.finished;
        if let Some(usage) = chunk.usage {
            self.guard.report(usage);
        }
        let has_choices = !chunk.seen.is_empty();
        if has_choices {
            // A piece is about a token.
            self.guard.count_output(1);
        }
        self.completion.first_byte();
        // A chunk of usage alone is there because we asked; the client sees it if it asked too.
        let is_hidden = !has_choices && chunk.usage.is_some() && !self.wants_usage;
        (!is_hidden).then_some(event)
    }

    fn complete(&mut self) -> Bytes {
        self.state = State::Over;
        self.guard.ended();
        self.events.finish();
        self.note_usage();
        self.completion.upstream_ended();
        self.completion.ends_as(Outcome::Served);
        DONE
    }

    fn fail(&mut self, failure: UpstreamFailure) -> UpstreamFailure {
        self.state = State::Over;
        let failure = self.guard.failed(failure);
        self.note_usage();
        self.completion.ends_as(Outcome::Cut);
        failure
    }

    fn note_usage(&mut self) {
        let (usage, is_reported) = self.guard.usage();
        self.completion.used(usage, is_reported);
    }

    fn now(&self) -> Moment {
        self.guard.shared().clock().now()
    }

    /// An event has come: how long the next one may take.
    ///
    /// # Errors
    /// When the answer has taken its whole time: an upstream that never pauses meets no timer.
    fn expect_next(&mut self) -> Result<(), UpstreamFailure> {
        let now = self.now();
        let (until, phase) = patience(&self.guard.shared().spec().timeouts, self.started_at, now);
        if until <= now {
            return Err(self.fail(overdue(phase)));
        }
        self.silent_until = (until, phase);
        Ok(())
    }

    /// Rings when the upstream has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<Phase> {
        let (until, phase) = self.silent_until;
        loop {
            let has_rung = self.silence.as_mut().poll(context).is_ready();
            // A timer that is polled in the wake of many reads may not be let through by the runtime, so that an
            // upstream that floods us would never be silent: the clock has the last word.
            let now = self.now();
            if until <= now {
                return Poll::Ready(phase);
            }
            if !has_rung {
                return Poll::Pending;
            }
            self.silence.set(sleep(until.saturating_since(now)));
        }
    }

    fn end_of_body(&mut self) -> Result<Bytes, UpstreamFailure> {
        if !self.finished.is_empty() && self.finished.covers(self.seen) {
            // Some servers say why every choice ends and then just end: that is complete.
            return Ok(self.complete());
        }
        let cut = UpstreamFailure::new(FailureKind::Protocol, "the upstream ended its answer in the middle");
        Err(self.fail(cut))
    }
}

/// Until when an event that is waited for from `now` on may take, and what has run out then.
fn patience(timeouts: &Timeouts, started_at: Moment, now: Moment) -> (Moment, Phase) {
    let (stalled, over) = (now + timeouts.stall, started_at + timeouts.total);
    if over < stalled { (over, Phase::Total) } else { (stalled, Phase::Stall) }
}

fn overdue(phase: Phase) -> UpstreamFailure {
    UpstreamFailure::new(FailureKind::Timeout(phase), "the upstream takes too long")
}

impl Stream for EventStream {
    type Item = Result<Bytes, UpstreamFailure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.state == State::Over {
            return Poll::Ready(None);
        }
        if let Some(first) = this.first.take() {
            let (event, chunk) = *first;
            if let Some(event) = this.pass(event, chunk) {
                return Poll::Ready(Some(Ok(event)));
            }
        }
        loop {
            match this.events.poll_read(context) {
                Poll::Ready(Some(Ok(Read::Chunk(event, chunk)))) => {
                    if let Err(failure) = this.expect_next() {
                        return Poll::Ready(Some(Err(failure)));
                    }
                    if let Some(event) = this.pass(event, chunk) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
                Poll::Ready(Some(Ok(Read::Done))) => return Poll::Ready(Some(Ok(this.complete()))),
                Poll::Ready(Some(Err(failure))) => return Poll::Ready(Some(Err(this.fail(failure)))),
                Poll::Ready(None) => return Poll::Ready(Some(this.end_of_body())),
                Poll::Pending => {
                    let phase = std::task::ready!(this.poll_silence(context));
                    return Poll::Ready(Some(Err(this.fail(overdue(phase)))));
                }
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if self.state == State::Running {
            self.note_usage();
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("served", &self.served).finish_non_exhaustive()
    }
}
