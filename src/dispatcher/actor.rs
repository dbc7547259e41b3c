//! The dispatcher of one worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, MessageResult};

use super::course::{self, Step};
use super::messages::{Dispatch, DispatcherSnapshot, ObserveDispatcher, RefusalSnapshot, Resume};
use super::refusals::{Refusal as Refused, Refusals};
use super::roster::Roster;
use super::router::Router;
use super::tenant_units;
use crate::domain::chat::{ModelSelector, Strategy};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::panics::Panics;
use crate::domain::usage::Outcome;
use crate::error::GatewayError;
use crate::provider::{Job, Returned, Route, Try, Verdict};
use crate::quota::{Refusal, TenantBooks};
use crate::routing::{Plan, Target, WhyNot};

/// Only requests with an admission permit send messages here; the bound is theirs (see `ProviderActor`).
const MAILBOX_CAPACITY: usize = 1_024;

/// How a dispatcher chooses and waits.
#[derive(Clone, Copy, Debug)]
pub struct DispatcherSettings {
    pub strategy: Strategy,
    /// The longest wait for capacity.
    pub max_wait: Duration,
    /// Requests that may wait for capacity at once, in the whole process.
    pub max_waiting: usize,
    /// Upstream calls for one request.
    pub max_attempts: u32,
}

/// How many requests wait for capacity, counted over all workers.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Turns one request into attempts; parent of its worker's provider actors.
pub struct Dispatcher {
    router: Router,
    roster: Roster,
    clock: SharedClock,
    settings: DispatcherSettings,
    waiting: Waiting,
    books: TenantBooks,
    panics: Panics,
    refusals: Refusals,
}

impl Dispatcher {
    pub fn new(
        router: Router,
        roster: Roster,
        clock: SharedClock,
        settings: DispatcherSettings,
        waiting: Waiting,
        books: TenantBooks,
        panics: Panics,
    ) -> Self {
        Self { router, roster, clock, settings, waiting, books, panics, refusals: Refusals::default() }
    }

    /// A turn that panics costs the request that it was about: its job is dropped, which tells its client.
    fn survive(&mut self, turn: impl FnOnce(&mut Self)) {
        let panics = self.panics.clone();
        let _survived = panics.survive("a dispatcher", || turn(self));
    }

    fn open(&self, dispatch: Dispatch) -> Box<Job> {
        let Dispatch { request, completion, max_wait, reply } = dispatch;
        let max_wait = max_wait.map_or(self.settings.max_wait, |wait| wait.min(self.settings.max_wait));
        let opened_at = self.clock.now();
        let route = Route { opened_at, wait_until: opened_at + max_wait, ..Route::default() };
        Box::new(Job { request, completion, reply, route })
    }

    fn plan(&mut self, job: &mut Job) -> Result<Plan, GatewayError> {
        let planned = self.router.plan(job, self.settings.strategy, self.clock.now());
        planned.map_err(|no_plan| {
            let request = &job.request;
            let tokens = request.input_tokens.upper_edge().saturating_add(request.choice_cap.unwrap_or(0));
            course::refusal_of(&no_plan, &name_of(&request.selector), tokens)
        })
    }

    /// Plans, takes what the tenant's own limits must have room for, and asks the first candidate.
    fn begin(&mut self, mut job: Box<Job>, context: &mut Context<Self>) {
        match self.plan(&mut job) {
            Ok(plan) => {
                job.route.plan = plan;
                let now = self.clock.now();
                match tenant_units::take(&mut job, &self.books, now) {
                    Ok(()) => self.step(job, context),
                    Err(refusal) => {
                        let step = course::own_limit(&job.route, &refusal, now);
                        self.follow(step, job, context);
                    }
                }
            }
            Err(error) => self.refuse(job, error),
        }
    }

    fn take_back(&mut self, Returned { mut job, verdict }: Returned, context: &mut Context<Self>) {
        if let Some(asked) = job.route.asked {
            job.route.why_not.note(asked, reason_of(&verdict));
        }
        let end = match verdict {
            Verdict::Refused(refusal) => {
                course::note_refusal(&mut job.route, &refusal);
                None
            }
            Verdict::Off(until) => {
                course::note_off(&mut job.route, until);
                None
            }
            Verdict::LedgerAway(until) => {
                course::note_ledger_away(&mut job.route, until);
                None
            }
            Verdict::Failed(failure) => {
                let (attempts, now) = (job.completion.attempts(), self.clock.now());
                course::note_failure(&mut job.route, failure, attempts, self.settings.max_attempts, now)
            }
        };
        match end {
            Some(error) => self.refuse(job, error),
            None => self.step(job, context),
        }
    }

    fn step(&mut self, mut job: Box<Job>, context: &mut Context<Self>) {
        if job.reply.is_closed() {
            return job.completion.finish(Outcome::ClientLeft);
        }
        let step = course::next_step(&mut job.route, self.clock.now());
        self.follow(step, job, context);
    }

    fn follow(&mut self, step: Step, mut job: Box<Job>, context: &mut Context<Self>) {
        match step {
            Step::Ask(target) => self.ask(job, target, context),
            Step::Wait { until, room_at } => {
                tenant_units::put_back(&mut job);
                self.wait(job, until, room_at, context);
            }
            Step::Refuse(error) => self.refuse(job, error),
        }
    }

    /// Ends the request unanswered, and says why each candidate did not answer: to the client in its terms, to the
    /// operator in full.
    fn refuse(&mut self, job: Box<Job>, error: GatewayError) {
        // What is wrong with the request itself needs no other reason.
        if error.retry_after().is_none() {
            return job.refuse(error);
        }
        let reasons = self.router.why_not(&job, self.settings.strategy);
        let request_id = job.completion.request_id().clone();
        if log::log_enabled!(log::Level::Debug) {
            let reasons = self.router.snapshot(&reasons);
            log::debug!(request_id = request_id.as_str(), status = error.status(); "nobody answers: {reasons:?}");
        }
        let error = error.explained(self.router.told(&reasons));
        self.refusals.push(Refused { request_id, status: error.status(), reasons });
        job.refuse(error);
    }

    fn snapshot_of(&self, refused: &Refused) -> RefusalSnapshot {
        RefusalSnapshot {
            request_id: refused.request_id.clone(),
            status: refused.status,
            why_not: self.router.snapshot(&refused.reasons),
        }
    }

    fn ask(&mut self, mut job: Box<Job>, target: Target, context: &mut Context<Self>) {
        match self.roster.child(target.provider, self.clock.now()) {
            Ok(provider) => {
                self.router.note_asked(&job, target, self.clock.now());
                provider.do_send(Try { job, model: target.model, back: context.address().recipient() });
            }
            Err(not_before) => {
                job.route.why_not.note(target, WhyNot::Off(not_before));
                course::note_refusal(&mut job.route, &Refusal::NotUntil(not_before));
                self.step(job, context);
            }
        }
    }

    /// Comes back to the request when capacity should be there; ends it at once when its client leaves.
    fn wait(&self, mut job: Box<Job>, until: Moment, room_at: Moment, context: &Context<Self>) {
        let now = self.clock.now();
        if self.waiting.0.fetch_add(1, Ordering::Relaxed) >= self.settings.max_waiting {
            self.waiting.0.fetch_sub(1, Ordering::Relaxed);
            return job.refuse(GatewayError::NoCapacity { retry_after: room_at.saturating_since(now) });
        }
        let seat = Seat(self.waiting.clone());
        let pause = until.saturating_since(now);
        let myself = context.address();
        let clock = Arc::clone(&self.clock);
        actix::spawn(async move {
            let _seat = seat;
            tokio::select! {
                biased;
                () = job.reply.closed() => job.completion.finish(Outcome::ClientLeft),
                () = actix_web::rt::time::sleep(pause) => {
                    job.route.waited += clock.now().saturating_since(now);
                    myself.do_send(Resume(job));
                }
            }
        });
    }
}

/// A place among those who wait; given up by drop.
struct Seat(Waiting);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn reason_of(verdict: &Verdict) -> WhyNot {
    match verdict {
        Verdict::Refused(Refusal::NotUntil(instant)) => WhyNot::NotUntil(*instant),
        Verdict::Refused(Refusal::TooLarge) => WhyNot::TooLarge,
        Verdict::LedgerAway(until) => WhyNot::LedgerAway(*until),
        Verdict::Off(until) => WhyNot::Off(*until),
        Verdict::Failed(failure) => WhyNot::Failed(failure.kind),
    }
}

fn name_of(selector: &ModelSelector) -> String {
    match selector {
        ModelSelector::Auto(_) => "auto".to_owned(),
        ModelSelector::Number(number) => number.to_string(),
        ModelSelector::Named(name) => format!("`{name}`"),
    }
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Handler<Dispatch> for Dispatcher {
    type Result = ();

    fn handle(&mut self, dispatch: Dispatch, context: &mut Self::Context) {
        self.survive(|dispatcher| {
            let job = dispatcher.open(dispatch);
            dispatcher.begin(job, context);
        });
    }
}

impl Handler<Returned> for Dispatcher {
    type Result = ();

    fn handle(&mut self, returned: Returned, context: &mut Self::Context) {
        self.survive(|dispatcher| dispatcher.take_back(returned, context));
    }
}

impl Handler<Resume> for Dispatcher {
    type Result = ();

    fn handle(&mut self, Resume(mut job): Resume, context: &mut Self::Context) {
        (job.route.room_at, job.route.off_until) = (None, None);
        job.route.is_ledger_away = false;
        self.survive(|dispatcher| dispatcher.begin(job, context));
    }
}

impl Handler<ObserveDispatcher> for Dispatcher {
    type Result = MessageResult<ObserveDispatcher>;

    fn handle(&mut self, _: ObserveDispatcher, _: &mut Self::Context) -> Self::Result {
        MessageResult(DispatcherSnapshot {
            waiting: self.waiting.count(),
            panics: self.panics.count(),
            children: self.roster.snapshot(),
            refusals: self.refusals.iter().map(|refused| self.snapshot_of(refused)).collect(),
        })
    }
}
