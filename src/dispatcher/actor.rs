//! The dispatcher of one worker.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MessageResult};
use tokio::sync::oneshot;

use super::course::{self, Step};
use super::messages::{Dispatch, DispatcherSnapshot, ObserveDispatcher, RefusalSnapshot, Resume, Woken};
use super::reasons::{reason_of, reason_of_shut};
use super::refusals::{Refusal as Refused, Refusals};
use super::roster::Roster;
use super::router::Router;
use super::tenant_units;
use super::wait_room::{Apart, Arrival, Cause, Door, Notice, Shut, Size, WaitRoom};
use crate::domain::chat::Strategy;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::panics::Panics;
use crate::domain::usage::Outcome;
use crate::error::GatewayError;
use crate::provider::{Job, ProviderActor, Returned, Route, Try, Verdict};
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
    /// Upstream calls for one request.
    pub max_attempts: u32,
}

/// Turns one request into attempts; parent of its worker's provider actors.
pub struct Dispatcher {
    router: Router,
    roster: Roster,
    clock: SharedClock,
    /// When the turn under way began: a turn is an instant, and the clock is asked once for it.
    now: Moment,
    settings: DispatcherSettings,
    wait_room: WaitRoom,
    books: TenantBooks,
    panics: Panics,
    refusals: Refusals,
    /// The place of the job that asks its tenant's limits right now, if it has one.
    apart: Option<Apart>,
}

impl Dispatcher {
    pub fn new(
        router: Router,
        roster: Roster,
        clock: SharedClock,
        settings: DispatcherSettings,
        wait_room: WaitRoom,
        books: TenantBooks,
        panics: Panics,
    ) -> Self {
        let (now, refusals) = (clock.now(), Refusals::default());
        Self { router, roster, clock, now, settings, wait_room, books, panics, refusals, apart: None }
    }

    /// A turn that panics costs the request that it was about: its job is dropped, which tells its client.
    fn survive(&mut self, turn: impl FnOnce(&mut Self)) {
        // What a turn that has panicked has left belongs to no other job.
        self.apart = None;
        let panics = self.panics.clone();
        let _survived = panics.survive("a dispatcher", || {
            self.now = self.clock.now();
            turn(self);
        });
    }

    fn open(&self, dispatch: Dispatch) -> Box<Job> {
        let Dispatch { request, completion, max_wait, reply } = dispatch;
        let max_wait = max_wait.map_or(self.settings.max_wait, |wait| wait.min(self.settings.max_wait));
        let route = Route { opened_at: self.now, wait_until: self.now + max_wait, ..Route::default() };
        Box::new(Job { request, completion, reply, route })
    }

    fn plan(&mut self, job: &mut Job) -> Result<Plan, GatewayError> {
        let planned = self.router.plan(job, self.settings.strategy, self.now);
        planned.map_err(|no_plan| {
            let request = &job.request;
            let tokens = request.input_tokens.upper_edge().saturating_add(request.choice_cap.unwrap_or(0));
            course::refusal_of(&no_plan, &course::name_of(&request.selector), tokens)
        })
    }

    /// Plans, takes what the tenant's own limits must have room for, and asks the first candidate.
    fn begin(&mut self, mut job: Box<Job>, context: &mut Context<Self>) {
        match self.plan(&mut job) {
            Ok(plan) => {
                job.route.plan = plan;
                self.take_units(job, context);
            }
            Err(error) => self.refuse(job, error),
        }
    }

    /// Goes on with the units of the tenant's own limits; without them the job waits for those, or ends.
    fn take_units(&mut self, mut job: Box<Job>, context: &mut Context<Self>) {
        match tenant_units::take(&mut job, &self.books, self.now) {
            Ok(()) if self.is_behind_its_own(&job) => {
                tenant_units::put_back(&mut job);
                job.route.seat = None;
                let until = job.route.wait_until;
                self.wait_apart(job, until, until, context);
            }
            Ok(()) => self.step(job, context),
            Err(refusal) => {
                // Whoever can use no provider's room stands in nobody's line.
                job.route.seat = None;
                let step = course::own_limit(&job.route, &refusal, self.now);
                self.follow(step, job, context);
            }
        }
    }

    /// Whether others of its tenant, who came before, wait for the tenant's own limits: it would overtake them. One that
    /// may not wait takes what they cannot use now.
    fn is_behind_its_own(&self, job: &Job) -> bool {
        !job.request.policy.limits.is_unlimited()
            && job.completion.attempts() == 0
            && self.now < job.route.wait_until
            && self.wait_room.is_behind_apart(job.completion.tenant(), job.route.place)
    }

    fn take_back(&mut self, Returned { mut job, verdict }: Returned, context: &mut Context<Self>) {
        if let Some(asked) = job.route.asked {
            job.route.why_not.note(asked, reason_of(&verdict));
        }
        if matches!(verdict, Verdict::Failed(_)) {
            job.route.seat = None;
        }
        self.widen(&mut job);
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
                let (attempts, now) = (job.completion.attempts(), self.now);
                course::note_failure(&mut job.route, failure, attempts, self.settings.max_attempts, now)
            }
        };
        match end {
            Some(error) => self.refuse(job, error),
            None => self.step(job, context),
        }
    }

    /// What was offered to the job, and was its own already, has come to nothing: all other candidates come into
    /// question again.
    fn widen(&mut self, job: &mut Job) {
        if job.route.seat.is_none() && std::mem::take(&mut job.route.is_offered) {
            course::forget(&mut job.route);
            let asked: Vec<Target> = job.route.asked.into_iter().collect();
            job.route.plan = self.plan(job).unwrap_or_default().without(&asked);
        }
    }

    fn step(&mut self, mut job: Box<Job>, context: &mut Context<Self>) {
        if job.reply.is_closed() {
            return job.completion.finish(Outcome::ClientLeft);
        }
        loop {
            match course::next_step(&mut job.route, self.now) {
                Step::Ask(target) => {
                    if let Some(provider) = self.provider_for(&mut job, target) {
                        let back = context.address().recipient();
                        return provider.do_send(Try { job, model: target.model, back });
                    }
                }
                step => return self.follow(step, job, context),
            }
        }
    }

    fn follow(&mut self, step: Step, job: Box<Job>, context: &mut Context<Self>) {
        match step {
            Step::Ask(_) => self.step(job, context),
            Step::Wait => self.wait(job, context),
            Step::WaitApart { until, room_at } => self.wait_apart(job, until, room_at, context),
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

    /// The provider's actor, if the job may ask there now; else the job's route knows why not.
    fn provider_for(&mut self, job: &mut Job, target: Target) -> Option<&Addr<ProviderActor>> {
        if job.route.seat.is_none() && !self.may_pass(job, target) {
            return None;
        }
        let now = self.now;
        match self.roster.child(target.provider, now) {
            Ok(provider) => {
                self.router.note_asked(job, target, now);
                Some(provider)
            }
            Err(not_before) => {
                job.route.why_not.note(target, WhyNot::Off(not_before));
                course::note_refusal(&mut job.route, &Refusal::NotUntil(not_before));
                None
            }
        }
    }

    /// Whether nobody who waits was there before.
    fn may_pass(&self, job: &mut Job, target: Target) -> bool {
        let route = &mut job.route;
        match self.wait_room.at_door(target, &Size::of(&job.request)) {
            Door::Free { round } => {
                route.round = round;
                return true;
            }
            Door::Shut { shut: Shut { until, cause }, round } => {
                route.round = round;
                match cause {
                    Cause::Full => course::note_refusal(route, &Refusal::NotUntil(until)),
                    Cause::Off => course::note_off(route, until),
                    Cause::LedgerAway => course::note_ledger_away(route, until),
                }
                route.why_not.note(target, reason_of_shut(cause, until));
            }
            Door::Behind => {
                course::note_behind(route);
                route.why_not.note(target, WhyNot::Behind);
            }
        }
        false
    }

    /// Has the job wait for a notice of the wait room; ends it at once when its client leaves.
    fn wait(&mut self, mut job: Box<Job>, context: &Context<Self>) {
        tenant_units::put_back(&mut job);
        let since = self.now;
        let woken = match self.seat(&mut job) {
            Ok(woken) => woken,
            Err(error) => return self.refuse(job, error),
        };
        let woken = async { woken.await.map_or(Woken::Forgotten, Woken::Told) };
        self.come_back(job, since, woken, context);
    }

    /// Has the job wait for its tenant's own limits until then, or until those who came before have got theirs.
    fn wait_apart(&mut self, mut job: Box<Job>, until: Moment, room_at: Moment, context: &Context<Self>) {
        let since = self.now;
        let seated = self.apart.take().map_or_else(
            || {
                let (tenant, weight) = (job.completion.tenant(), job.request.policy.weight);
                self.wait_room.sit_apart(tenant, weight, job.route.place)
            },
            Ok,
        );
        match seated {
            Ok(mut place) => {
                job.route.place = Some(place.number());
                let pause = until.saturating_since(since);
                let at_most = job.route.wait_until.saturating_since(since);
                let woken = async move {
                    place.wait(pause, at_most).await;
                    Woken::InTime(place)
                };
                self.come_back(job, since, woken, context);
            }
            Err(over) => {
                let retry_after = room_at.saturating_since(since).max(over.retry_after);
                self.refuse(job, GatewayError::OwnLimit { retry_after });
            }
        }
    }

    /// Takes the job back when it is `woken`.
    fn come_back(
        &self,
        mut job: Box<Job>,
        since: Moment,
        woken: impl Future<Output = Woken> + 'static,
        context: &Context<Self>,
    ) {
        let (myself, clock) = (context.address(), Arc::clone(&self.clock));
        actix::spawn(async move {
            tokio::select! {
                biased;
                () = job.reply.closed() => job.completion.finish(Outcome::ClientLeft),
                woken = woken => {
                    job.route.waited += clock.now().saturating_since(since);
                    myself.do_send(Resume { job, woken });
                }
            }
        });
    }

    /// Seats the job, or gives it its place back.
    fn seat(&self, job: &mut Job) -> Result<oneshot::Receiver<Notice>, GatewayError> {
        let declined = std::mem::take(&mut job.route.declined);
        if let Some(seat) = &job.route.seat {
            let woken = self.wait_room.back(seat, &declined);
            return woken.map_err(|no_seat| course::end_of_wait(&mut job.route, no_seat, self.now));
        }
        let arrival = Arrival {
            number: job.route.place,
            tenant: job.completion.tenant(),
            weight: job.request.policy.weight.max(1),
            size: Size::of(&job.request),
            deadline: job.route.wait_until,
            declined,
        };
        let (seat, woken) = self.wait_room.park(arrival).map_err(|over| {
            let room_in = job.route.room_at.map(|room_at| room_at.saturating_since(self.now));
            GatewayError::NoCapacity { retry_after: room_in.unwrap_or_default().max(over.retry_after) }
        })?;
        job.route.place = Some(seat.number());
        job.route.seat = Some(seat);
        Ok(woken)
    }

    /// Follows what has ended the wait.
    fn resume(&mut self, Resume { mut job, woken }: Resume, context: &mut Context<Self>) {
        match woken {
            Woken::Told(Notice::Offer { targets, round }) => {
                course::take_offer(&mut job.route, &targets, round);
                self.take_units(job, context);
            }
            Woken::Told(Notice::Over(over)) => self.refuse(job, course::waited_in_vain(over)),
            Woken::InTime(place) => {
                course::forget(&mut job.route);
                job.route.is_offered = false;
                // Nobody who came later asks before it has: it keeps its place until it has got what it waits for.
                self.apart = Some(place);
                self.begin(job, context);
                self.apart = None;
            }
            Woken::Told(Notice::First) | Woken::Forgotten => self.refuse(job, GatewayError::Internal),
        }
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

    fn handle(&mut self, resume: Resume, context: &mut Self::Context) {
        self.survive(|dispatcher| dispatcher.resume(resume, context));
    }
}

impl Handler<ObserveDispatcher> for Dispatcher {
    type Result = MessageResult<ObserveDispatcher>;

    fn handle(&mut self, _: ObserveDispatcher, _: &mut Self::Context) -> Self::Result {
        let wait_room = self.wait_room.snapshot();
        MessageResult(DispatcherSnapshot {
            waiting: wait_room.waiting,
            wait_room,
            panics: self.panics.count(),
            children: self.roster.snapshot(),
            refusals: self.refusals.iter().map(|refused| self.snapshot_of(refused)).collect(),
        })
    }
}
