//! One upstream call, from the grant to the first event or the whole answer.

use std::rc::Rc;
use std::sync::Arc;

use actix::Recipient;
use actix_web::rt::time::timeout;
use futures_util::future::poll_fn;
use send_wrapper::SendWrapper;

use super::adapter::{Call, ErrorAnswer, Tokens, adapter};
use super::answer::{Answer, Whole};
use super::guard::AttemptGuard;
use super::job::Job;
use super::messages::{Returned, Verdict};
use super::served::Served;
use super::stream::{Begun, EventStream, Events, Read};
use super::transport::{Response, Transport};
use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, Phase, UpstreamFailure};
use crate::domain::usage::{Outcome, ServedBy};

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
    Stream(Box<(bytes::Bytes, super::adapter::Chunk)>, Events),
}

impl Attempt {
    /// Runs to the answer or to the failure that goes back to the dispatcher; ends at once, and with it the
    /// upstream call, when the client leaves.
    pub(super) async fn run(mut self) {
        self.job.completion.count_attempt();
        let started_at = self.guard.shared().clock().now();
        let Some((mut reply, outcome)) = self.outcome().await else { return };
        // The sender was lent out while the client was watched; it goes back into the job.
        std::mem::swap(&mut self.job.reply, &mut reply);
        match outcome {
            Ok(success) => self.deliver(success, started_at),
            Err(failure) => self.give_back(failure),
        }
    }

    /// `None` when the client left first.
    async fn outcome(
        &mut self,
    ) -> Option<(tokio::sync::oneshot::Sender<Answer>, Result<Success, UpstreamFailure>)> {
        let (nobody, _) = tokio::sync::oneshot::channel();
        let mut reply = std::mem::replace(&mut self.job.reply, nobody);
        let outcome = tokio::select! {
            biased;
            () = reply.closed() => {
                self.job.completion.ends_as(Outcome::ClientLeft);
                return None;
            }
            outcome = self.call() => outcome,
        };
        Some((reply, outcome))
    }

    async fn call(&mut self) -> Result<Success, UpstreamFailure> {
        let timeouts = self.guard.shared().spec().timeouts;
        let (limit, phase) = match self.job.request.streamed {
            true => (timeouts.first_token.min(timeouts.total), Phase::FirstToken),
            false => (timeouts.total, Phase::Total),
        };
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
        self.guard.sending();
        self.transport.send(self.guard.account(), body).await
    }

    async fn error_answer(&self, response: Response) -> UpstreamFailure {
        let (status, retry_after) = (response.status, response.retry_after);
        let body = response.body.read_error().await;
        let shared = self.guard.shared();
        let failure =
            adapter(shared.spec().dialect).classify(&ErrorAnswer { status, retry_after, body: &body });
        let account = shared.account(self.guard.account());
        let keys = account.map(|account| account.keys.as_slice()).unwrap_or_default();
        keys.iter().fold(failure, |failure, key| failure.without_secret(key.expose()))
    }

    async fn whole(&mut self, response: Response) -> Result<Success, UpstreamFailure> {
        let body = response.body.read_whole(self.response_body_limit).await?;
        let tokens = adapter(self.guard.shared().spec().dialect).check_whole(&body)?;
        Ok(Success::Whole(body, tokens))
    }

    async fn first_event(&mut self, response: Response) -> Result<Success, UpstreamFailure> {
        let mut events = Events::new(response.body, adapter(self.guard.shared().spec().dialect));
        match poll_fn(|context| events.poll_read(context)).await {
            Some(Ok(Read::Chunk(event, chunk))) => Ok(Success::Stream(Box::new((event, chunk)), events)),
            Some(Ok(Read::Done)) | None => {
                Err(UpstreamFailure::new(FailureKind::Protocol, "the upstream's stream holds no answer"))
            }
            Some(Err(failure)) => Err(failure),
        }
    }

    fn deliver(self, success: Success, started_at: Moment) {
        let Self { mut job, mut guard, .. } = self;
        guard.succeeded();
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
            Success::Whole(body, tokens) => {
                guard.ended();
                match tokens {
                    Tokens::Reported(usage) => guard.report(usage),
                    Tokens::Counted { output_tokens } => guard.count_output(output_tokens),
                }
                let (usage, is_reported) = guard.usage();
                completion.used(usage, is_reported);
                // Dropped unread: the client has left.
                completion.ends_as(Outcome::ClientLeft);
                Answer::Whole(Box::new(Whole { body, served, completion }))
            }
            Success::Stream(first, events) => {
                let begun = Begun {
                    served,
                    first: *first,
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
        log::warn!(
            request_id = job.completion.request_id().as_str(),
            provider = guard.shared().spec().id.as_str(),
            failure = failure.kind.as_str(),
            status = failure.status.unwrap_or(0),
            attempt = job.completion.attempts();
            "an attempt failed: {}", failure.detail
        );
        guard.failed(&failure);
        drop(guard);
        back.do_send(Returned { job, verdict: Verdict::Failed(failure) });
    }
}
