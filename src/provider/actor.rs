//! One provider on one worker.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, MessageResult, Recipient};

use super::adapter::adapter;
use super::attempt::Attempt;
use super::decision;
use super::guard::AttemptGuard;
use super::job::Job;
use super::learned::Asked;
use super::messages::{ObserveProvider, Returned, Try, Verdict};
use super::probe::Probe;
use super::shared::ProviderShared;
use super::transport::{TlsConfig, Transport};
use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, Phase, UpstreamFailure};
use crate::domain::limit::TokensCharged;
use crate::ledger::{LedgerAnswer, LedgerAnswered, Reserved};
use crate::quota::{Answer, Demand, Hold, ModelIndex, Refusal, Ticket};

/// Only requests with an admission permit send messages here, one at a time each; the bound is theirs. The
/// number matters to `try_send` alone, which nobody uses here.
const MAILBOX_CAPACITY: usize = 1_024;

/// Decides whether its provider has capacity for an attempt and starts it; owns this worker's connections to
/// the provider. The buckets and the health are shared with the same provider's actors on other workers.
pub struct ProviderActor {
    shared: Arc<ProviderShared>,
    transport: Rc<Transport>,
    response_body_limit: usize,
    /// Attempts whose limits live in a ledger that has not answered yet; bounded by the admission permits.
    waiting: HashMap<Ticket, Reserving>,
}

/// An attempt whose reservation is asked for.
struct Reserving {
    attempt: Try,
    asked: Asked,
    /// Goes with what is not granted yet.
    probe: Option<Probe>,
    /// What is granted already and only has to be written down.
    guard: Option<AttemptGuard>,
}

impl ProviderActor {
    /// Must be called on the worker's own thread: connections live there.
    pub fn new(shared: Arc<ProviderShared>, tls: &TlsConfig, response_body_limit: usize) -> Self {
        let path = adapter(shared.spec().dialect).path();
        let transport = Rc::new(Transport::new(tls, shared.spec(), path));
        Self { shared, transport, response_body_limit, waiting: HashMap::new() }
    }

    fn demand(&self, job: &Job, index: ModelIndex) -> (Demand, Option<u64>) {
        let added = self.added_output_cap(job, index);
        let send_within = self.shared.spec().timeouts.connect.saturating_mul(SEND_WITHIN_CONNECTS);
        let choice_cap = job.request.choice_cap.or(added).unwrap_or(0);
        let output_tokens = job.request.output_tokens(choice_cap);
        let input_tokens = self.shared.input_edge(index, job.request.input_tokens);
        (Demand { model: index, input_tokens, output_tokens, send_within }, added)
    }

    /// Where an upstream charges by the cap, or may, what was reserved is what is asked for.
    fn added_output_cap(&self, job: &Job, index: ModelIndex) -> Option<u64> {
        if job.request.choice_cap.is_some() || !self.shared.has_token_limits(index) {
            return None;
        }
        match self.shared.spec().tokens_charged {
            TokensCharged::Usage => None,
            TokensCharged::Reserve | TokensCharged::Unknown => self.shared.output_cap(index),
        }
    }

    fn reserve(&mut self, attempt: Try, asker: &Recipient<LedgerAnswered>) {
        if self.shared.model(attempt.model).is_none() {
            return self.give_back(attempt, Refusal::TooLarge);
        }
        if attempt.job.patience(&self.shared.spec().timeouts, self.shared.clock().now()).0.is_zero() {
            return Self::overdue(attempt);
        }
        let (demand, added_cap) = self.demand(&attempt.job, attempt.model);
        let request = &attempt.job.request;
        let asked = Asked {
            input: request.input_tokens,
            input_reserved: demand.input_tokens,
            has_client_cap: request.choice_cap.is_some(),
            added_cap,
            choices: request.choices,
        };
        let (reserved, probe) = self.shared.reserve(&demand, asker);
        let mut reserving = Reserving { attempt, asked, probe, guard: None };
        match reserved {
            Reserved::Now(answer) => self.follow(answer, reserving),
            Reserved::Writing(ticket, hold) => {
                reserving.guard = Some(self.guard(hold, &mut reserving));
                self.waiting.insert(ticket, reserving);
            }
            Reserved::Asked(ticket) => {
                self.waiting.insert(ticket, reserving);
            }
        }
    }

    /// The time for the whole request is over before this attempt has begun: no fault of the provider's.
    fn overdue(Try { job, back, .. }: Try) {
        let failure = UpstreamFailure::new(
            FailureKind::Timeout(Phase::Total),
            "the time for the whole request is over",
        );
        back.do_send(Returned { job, verdict: Verdict::Failed(failure) });
    }

    fn follow(&mut self, answer: Answer, reserving: Reserving) {
        match answer {
            Answer::Granted(hold) => {
                let mut reserving = reserving;
                let guard = self.guard(hold, &mut reserving);
                self.begin(reserving, guard);
            }
            Answer::Refused(refusal) => self.give_back(reserving.attempt, refusal),
            Answer::Pending(ticket) => {
                self.waiting.insert(ticket, reserving);
            }
        }
    }

    fn give_back(&self, Try { job, model, back }: Try, refusal: Refusal) {
        let verdict = match (refusal, self.shared.off_until(model)) {
            (Refusal::NotUntil(_), Some(instant)) => Verdict::Off(instant),
            (refusal, _) => Verdict::Refused(refusal),
        };
        back.do_send(Returned { job, verdict });
    }

    /// Goes on with what the ledger has answered.
    fn resume(&mut self, answer: LedgerAnswer, mut reserving: Reserving) {
        match (answer, reserving.guard.take()) {
            (LedgerAnswer::Written, Some(guard)) => self.begin(reserving, guard),
            (LedgerAnswer::Decided(answer), _) => {
                decision::count(self.shared.metrics(), decision::of(&answer));
                self.follow(answer, reserving);
            }
            (LedgerAnswer::Away(until), _) => give_up(reserving.attempt, until),
            // A ledger that has written what nobody granted.
            (LedgerAnswer::Written, None) => give_up(reserving.attempt, Moment::NEVER),
        }
    }

    fn guard(&self, hold: Hold, reserving: &mut Reserving) -> AttemptGuard {
        AttemptGuard::new(Arc::clone(&self.shared), (hold, reserving.probe.take()), reserving.asked)
    }

    fn begin(&self, reserving: Reserving, guard: AttemptGuard) {
        let Reserving { attempt: Try { job, back, .. }, asked, .. } = reserving;
        let attempt = Attempt {
            job,
            guard,
            transport: Rc::clone(&self.transport),
            back,
            added_output_cap: asked.added_cap,
            response_body_limit: self.response_body_limit,
        };
        let panics = self.shared.panics().clone();
        // What it leaves behind when it panics is settled and recorded as it is dropped; its client gets 500.
        actix::spawn(async move { panics.survive_all("an attempt", attempt.run()).await });
    }
}

/// Hands back what could not be written down; what it held has been given back as its guard was dropped.
fn give_up(Try { job, back, .. }: Try, until: Moment) {
    back.do_send(Returned { job, verdict: Verdict::LedgerAway(until) });
}

/// TCP and TLS each have the connect timeout; a third part is for the machine.
const SEND_WITHIN_CONNECTS: u32 = 3;

impl Actor for ProviderActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Handler<Try> for ProviderActor {
    type Result = ();

    fn handle(&mut self, attempt: Try, context: &mut Self::Context) {
        let panics = self.shared.panics().clone();
        // Not kept: an actor that holds its own address never ends.
        let asker = context.address().recipient();
        let _survived = panics.survive("a provider actor", || self.reserve(attempt, &asker));
    }
}

impl Handler<LedgerAnswered> for ProviderActor {
    type Result = ();

    fn handle(&mut self, LedgerAnswered { ticket, answer }: LedgerAnswered, _: &mut Self::Context) {
        if let Some(reserving) = self.waiting.remove(&ticket) {
            let panics = self.shared.panics().clone();
            let _survived = panics.survive("a provider actor", || self.resume(answer, reserving));
        }
    }
}

impl Handler<ObserveProvider> for ProviderActor {
    type Result = MessageResult<ObserveProvider>;

    fn handle(&mut self, _: ObserveProvider, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.shared.snapshot())
    }
}
