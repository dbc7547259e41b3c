//! One upstream call, from the grant to the first event or the whole answer.

use std::rc::Rc;
use std::sync::Arc;

use actix::Recipient;
use actix_web::rt::time::timeout;
use futures_util::future::poll_fn;
use send_wrapper::SendWrapper;

use super::adapter::{Call, ErrorAnswer, Said, Tokens, adapter};
use super::answer::{Answer, Whole};
use super::empty_answer;
use super::guard::AttemptGuard;
use super::job::Job;
use super::messages::{Returned, Verdict};
use super::opening::Opening;
use super::served::Served;
use super::stream::{Begun, EventStream, Events, Read};
use super::transport::{Response, Transport};
use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::usage::{Outcome, ServedBy};
use crate::quota::Refusal;

/// TCP and TLS each have the connect timeout.
const CONNECTING_CONNECTS: u32 = 2;

/// Everything that one attempt needs; runs as a task of its own on the worker's thread.
pub(super) struct Attempt {
    pub(super) job: Box<Job>,
    pub(super) guard: AttemptGuard,
    pub(super) transport: Rc<Transport>,
    pub(super) back: Recipient<Returned>,
    /// An explicit cap for a request that has none.
    pub(super) added_output_cap: Option<u64>,
    pub(super) response_body_limit: usize,
}

/// What an attempt brings when it succeeds.
enum Success {
    Whole(bytes::Bytes, Tokens),
    Stream(Box<Streaming>),
}

/// A stream that has begun.
struct Streaming {
    first: (bytes::Bytes, super::adapter::Chunk),
    events: Events,
}

impl Attempt {
    /// Runs to the answer or to the failure that goes back to the dispatcher; ends at once, and with it the
    /// upstream call, when the client leaves.
    pub(super) async fn run(mut self) {
        let started_at = self.guard.shared().clock().now();
        let connecting = self.guard.shared().spec().timeouts.connect.saturating_mul(CONNECTING_CONNECTS);
        // Nothing waits between here and the connection.
        if !self.guard.is_in_time(started_at, connecting) {
            return self.ask_anew(started_at);
        }
        self.job.completion.count_attempt();
        let Some((mut reply, outcome)) = self.outcome(started_at).await else { return };
        // The sender was lent out while the client was watched; it goes back into the job.
        std::mem::swap(&mut self.job.reply, &mut reply);
        match outcome {
            Ok(success) => self.deliver(success),
            Err(failure) => self.give_back(failure),
        }
    }

    /// The machine, or the ledger, took so long that the grant would run out on the way: asks anew.
    fn ask_anew(self, now: Moment) {
        let Self { job, guard, back, .. } = self;
        drop(guard);
        back.do_send(Returned { job, verdict: Verdict::Refused(Refusal::NotUntil(now)) });
    }

    /// `None` when the client left first.
    async fn outcome(
        &mut self,
        started_at: Moment,
    ) -> Option<(tokio::sync::oneshot::Sender<Answer>, Result<Success, UpstreamFailure>)> {
        let (nobody, _) = tokio::sync::oneshot::channel();
        let mut reply = std::mem::replace(&mut self.job.reply, nobody);
        let outcome = tokio::select! {
            biased;
            () = reply.closed() => {
                self.job.completion.ends_as(Outcome::ClientLeft);
                return None;
            }
            outcome = self.call(started_at) => outcome,
        };
        Some((reply, outcome))
    }

    async fn call(&mut self, started_at: Moment) -> Result<Success, UpstreamFailure> {
        let (limit, phase) = self.job.patience(&self.guard.shared().spec().timeouts, started_at);
        match timeout(limit, self.exchange()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(UpstreamFailure::new(FailureKind::Timeout(phase), "the upstream did not answer in time"))
            }
        }
    }

    async fn exchange(&mut self) -> Result<Success, UpstreamFailure> {
        let response = self.send().await?;
        self.guard.first_byte();
        self.heed(&response);
        if !(200..300).contains(&response.status) {
            return Err(self.error_answer(response).await);
        }
        if response.is_encoded {
            return Err(UpstreamFailure::new(
                FailureKind::Protocol,
                "the answer is compressed, which was not asked for",
            ));
        }
        if self.job.request.streamed { self.first_event(response).await } else { self.whole(response).await }
    }

    async fn send(&mut self) -> Result<Response, UpstreamFailure> {
        let shared = Arc::clone(self.guard.shared());
        let provider = shared.spec();
        let Some(model) = shared.model(self.guard.model()) else {
            return Err(UpstreamFailure::new(FailureKind::Connect, "no such model"));
        };
        let adapter = adapter(provider.dialect);
        let call =
            Call { request: &self.job.request, provider, model, added_output_cap: self.added_output_cap };
        let body = adapter.encode(&call);
        let sent_at = self.guard.sending();
        self.job.completion.waited(self.job.route.waited);
        self.job.completion.called(sent_at);
        self.transport.send(self.guard.account(), body).await
    }

    async fn error_answer(&self, response: Response) -> UpstreamFailure {
        let (status, headers) = (response.status, response.headers().clone());
        let body = response.body.read_error().await;
        let shared = self.guard.shared();
        let adapter = adapter(shared.spec().dialect);
        let failure = adapter.classify(&ErrorAnswer { status, body: &body });
        let now = shared.clock().now();
        let hints = adapter.limit_hints(shared.limit_headers(), &headers, Some(&body), now);
        let failure = hints.complete(failure);
        let account = shared.account(self.guard.account());
        let keys = account.map(|account| account.keys.as_slice()).unwrap_or_default();
        keys.iter().fold(failure, |failure, key| failure.without_secret(key.expose()))
    }

    /// A head may say that nothing is left of a limit, also of one that was kept.
    fn heed(&self, response: &Response) {
        let shared = self.guard.shared();
        if shared.limit_headers().is_empty() {
            return;
        }
        let (adapter, headers) = (adapter(shared.spec().dialect), response.headers());
        let now = shared.clock().now();
        self.guard.heed(&adapter.limit_hints(shared.limit_headers(), headers, None, now));
    }

    async fn whole(&mut self, response: Response) -> Result<Success, UpstreamFailure> {
        let body = response.body.read_whole(self.response_body_limit).await?;
        let whole = adapter(self.guard.shared().spec().dialect).check_whole(&body)?;
        if let Said::EndsWithNothing(ending) = whole.said
            && !empty_answer::is_meant(&self.job.request, ending)
        {
            // It is paid for all the same.
            self.note_tokens(whole.tokens);
            return Err(empty_answer::failure());
        }
        Ok(Success::Whole(body, whole.tokens))
    }

    async fn first_event(&mut self, response: Response) -> Result<Success, UpstreamFailure> {
        let adapter = adapter(self.guard.shared().spec().dialect);
        let mut events = Events::new(response.body, adapter);
        let mut opening = Opening::default();
        loop {
            match poll_fn(|context| events.poll_read(context)).await {
                Some(Ok(Read::Chunk(event, chunk))) => {
                    if let Some(usage) = chunk.usage {
                        self.guard.report(usage);
                    }
                    if let Some(first) = opening.take(event, chunk, adapter, &self.job.request)? {
                        return Ok(Success::Stream(Box::new(Streaming { first, events })));
                    }
                }
                Some(Ok(Read::Done)) | None => return Err(opening.ended()),
                Some(Err(failure)) => return Err(failure),
            }
        }
    }

    fn note_tokens(&mut self, tokens: Tokens) {
        match tokens {
            Tokens::Reported(usage) => self.guard.report(usage),
            Tokens::Counted { output_tokens } => self.guard.count_output(output_tokens),
        }
    }

    fn deliver(mut self, success: Success) {
        let started_at = self.job.route.opened_at;
        if let Success::Whole(_, tokens) = &success {
            self.note_tokens(*tokens);
        }
        let Self { mut job, mut guard, .. } = self;
        guard.succeeded(matches!(success, Success::Stream(..)));
        let shared = Arc::clone(guard.shared());
        let Some(by) = shared.served_name(guard.model()) else { return };
        job.completion.served_by(ServedBy { provider: by.provider.clone(), model: Arc::clone(&by.model) });
        let served = Served {
            by,
            fallback_attempts: job.completion.attempts().saturating_sub(1),
            queue_wait: job.route.waited,
        };
        let Job { request, mut completion, reply, .. } = *job;
        let answer = match success {
            Success::Whole(body, _) => {
                guard.ended();
                completion.upstream_ended();
                let (usage, is_reported) = guard.usage();
                completion.used(usage, is_reported);
                // Dropped unread: the client has left.
                completion.ends_as(Outcome::ClientLeft);
                Answer::Whole(Box::new(Whole { body, served, completion }))
            }
            Success::Stream(streaming) => {
                let Streaming { first, events } = *streaming;
                let begun = Begun {
                    served,
                    first,
                    events,
                    guard,
                    completion,
                    wants_usage: request.wants_stream_usage,
                    started_at,
                };
                Answer::Stream(SendWrapper::new(Box::new(EventStream::new(begun))))
            }
        };
        // Unread when the client has left; dropping the answer then settles and records it.
        let _unread = reply.send(answer);
    }

    fn give_back(self, failure: UpstreamFailure) {
        let Self { job, mut guard, back, .. } = self;
        let failure = guard.failed(failure);
        log::warn!(
            request_id = job.completion.request_id().as_str(),
            provider = guard.shared().spec().id.as_str(),
            failure = failure.kind.as_str(),
            status = failure.status.unwrap_or(0),
            attempt = job.completion.attempts();
            "an attempt failed: {}", failure.detail
        );
        drop(guard);
        back.do_send(Returned { job, verdict: Verdict::Failed(failure) });
    }
}
