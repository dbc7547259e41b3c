//! What all actors of one provider share: its specification, its buckets, its health.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Recipient;
use parking_lot::Mutex;

use super::adapter::{LimitHeaders, LimitHints};
use super::breaker::{Attempted, Breaker, Passage};
use super::cooling::{self, ACCOUNT_OFF, MODEL_OFF};
use super::counters::Counters;
use super::decision;
use super::error_rules;
use super::failed_attempt::FailedAttempt;
use super::freed::Freed;
use super::learned::{Asked, Learned};
use super::limit_blocks::{LimitBlocks, LimitProbe};
use super::measurements::Measurements;
use super::probe::{Probe, Probes};
use super::served::ServedName;
use super::state::State;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::consequence::Costs;
use crate::domain::cooldown::CooldownReason;
use crate::domain::failure::UpstreamFailure;
use crate::domain::input_tokens::InputTokens;
use crate::domain::panics::Panics;
use crate::domain::provider::{AccountSpec, ModelSpec, ProviderSpec};
use crate::domain::signals::RefusedLimit;
use crate::domain::usage::Usage;
use crate::ledger::{LedgerAnswered, LeftAlone, ProviderLedger, Reserved};
use crate::metrics::ProviderMetrics;
use crate::quota::{AccountIndex, Answer, Book, CooldownScope, Demand, Hold, ModelIndex, Refusal, Spent};
use crate::routing::Went;

/// The state of one provider; survives its actors. Only the actors of that provider, and the attempts that
/// they started, reach it.
pub struct ProviderShared {
    spec: Arc<ProviderSpec>,
    /// Of its models, in their order.
    names: Vec<Arc<ServedName>>,
    pub(super) clock: SharedClock,
    panics: Panics,
    limit_headers: LimitHeaders,
    counters: Counters,
    measurements: Arc<Measurements>,
    /// Where what is held is kept through restarts; `None` where memory has to do.
    pub(super) ledger: Option<Arc<dyn ProviderLedger>>,
    /// What its attempts count in, where anybody asks.
    metrics: Option<ProviderMetrics>,
    /// Those who wait for it.
    freed: Freed,
    /// One short lock for every decision; no I/O and no waiting under it.
    pub(super) state: Mutex<State>,
}

impl ProviderShared {
    pub fn new(spec: Arc<ProviderSpec>, clock: SharedClock, panics: Panics) -> Self {
        let blocks = LimitBlocks::new(&spec);
        let learned = spec.models.iter().map(Learned::new).collect();
        let state = State { book: Book::new(&spec), breaker: Breaker::default(), blocks, learned };
        let limit_headers = LimitHeaders::new(&spec.signals.limit_headers);
        let counters = Counters::default();
        let names = spec.models.iter().map(|model| Arc::new(ServedName::new(&spec.id, model))).collect();
        let measurements = Arc::new(Measurements::new(&spec));
        Self {
            spec,
            names,
            clock,
            panics,
            limit_headers,
            counters,
            measurements,
            ledger: None,
            metrics: None,
            freed: Freed::nobody(),
            state: Mutex::new(state),
        }
    }

    /// What its attempts have shown, for those who choose.
    pub fn measurements(&self) -> &Arc<Measurements> {
        &self.measurements
    }

    /// The same, with what `ledger` has kept, and keeping there what is held from now on.
    pub fn with_ledger(mut self, ledger: Arc<dyn ProviderLedger>) -> Self {
        ledger.restore(self.clock.now(), &mut self.state.get_mut().book);
        self.ledger = Some(ledger);
        self
    }

    /// The same, counting in `metrics`.
    pub fn with_metrics(self, metrics: ProviderMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    pub(super) fn metrics(&self) -> Option<&ProviderMetrics> {
        self.metrics.as_ref()
    }

    /// The same, telling those who wait whenever there may be room again.
    #[must_use]
    pub fn telling(mut self, freed: Freed) -> Self {
        self.freed = freed;
        self
    }

    pub(super) fn spec(&self) -> &ProviderSpec {
        &self.spec
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The headers that tell what is left.
    pub(super) fn limit_headers(&self) -> &LimitHeaders {
        &self.limit_headers
    }

    /// How often the upstream said that a limit was used up while our own books saw room: every attempt is within
    /// them. `freellmapi_limit_breach_total`.
    pub fn limit_breaches(&self) -> u64 {
        self.counters.limit_breaches.load(Ordering::Relaxed)
    }

    /// How often the upstream refused an account's key or credit, which switches the account off for a while.
    pub fn accounts_refused(&self) -> u64 {
        self.counters.accounts_refused.load(Ordering::Relaxed)
    }

    /// Where the panics of this provider's attempts are counted.
    pub(super) fn panics(&self) -> &Panics {
        &self.panics
    }

    pub(super) fn model(&self, model: ModelIndex) -> Option<&ModelSpec> {
        self.spec.models.get(model.0)
    }

    pub(super) fn served_name(&self, model: ModelIndex) -> Option<Arc<ServedName>> {
        self.names.get(model.0).cloned()
    }

    pub(super) fn account(&self, account: AccountIndex) -> Option<&AccountSpec> {
        self.spec.accounts.get(account.0)
    }

    /// Takes what an attempt needs from all of its limits together, or says until when there is no room. While the
    /// provider is failing, or a limit is thought to be open again, one attempt alone is let through, as the probe; it
    /// is within the limits like any other. What a ledger has to say first is answered to `asker`.
    pub(super) fn reserve(
        self: &Arc<Self>,
        demand: &Demand,
        asker: impl FnOnce() -> Recipient<LedgerAnswered>,
    ) -> (Reserved, Option<Probe>) {
        self.admit(|now, book| match &self.ledger {
            Some(ledger) => ledger.reserve(now, book, demand, &asker()),
            None => Reserved::Now(book.reserve(now, demand)),
        })
    }

    /// Lets an attempt through that `reserve` lets through, as a probe where one is due.
    pub(super) fn admit(
        self: &Arc<Self>,
        reserve: impl FnOnce(Moment, &mut Book) -> Reserved,
    ) -> (Reserved, Option<Probe>) {
        let (now, mut state) = (self.clock.now(), self.state.lock());
        let passage = state.breaker.passage(now);
        if let Passage::NotUntil(until) = passage {
            return (Reserved::Now(Answer::Refused(Refusal::NotUntil(until))), None);
        }
        let reserved = reserve(state.book.follow(now, self.clock.wall()), &mut state.book);
        decision::count(self.metrics(), decision::of_reserved(&reserved));
        let is_refused = matches!(reserved, Reserved::Now(Answer::Refused(_)));
        let is_probe = passage == Passage::AsProbe && !is_refused;
        let breaker = is_probe.then(|| state.breaker.start_probe(now));
        let limit = match &reserved {
            Reserved::Now(Answer::Granted(hold)) | Reserved::Writing(_, hold) => {
                state.start_limit_probe(now, hold)
            }
            Reserved::Now(Answer::Refused(_) | Answer::Pending(_)) | Reserved::Asked(_) => None,
        };
        drop(state);
        let probes = Probes { breaker, limit };
        let probe = (probes != Probes::default()).then(|| Probe::new(Arc::clone(self), probes));
        (reserved, probe)
    }

    /// A probe is over, whatever it found.
    pub(super) fn abandon(&self, probes: Probes) {
        let mut state = self.state.lock();
        if let Some(probe) = probes.breaker {
            state.breaker.abandon(probe);
        }
        if let Some(probe) = probes.limit
            && state.blocks.abandon(probe)
        {
            state.end_limit_probe(probe.account, probe.target);
        }
        drop(state);
        self.freed.tell();
    }

    pub(super) fn has_token_limits(&self, model: ModelIndex) -> bool {
        self.state.lock().book.has_token_limits(model)
    }

    /// The upper edge of an input, as the model counts; the dearest vocabulary's for a model that is not there.
    pub(super) fn input_edge(&self, model: ModelIndex, input: InputTokens) -> u64 {
        let state = self.state.lock();
        state.learned.get(model.0).map_or_else(|| input.upper_edge(), |learned| learned.input_edge(input))
    }

    /// The cap for a request that states none, in tokens.
    pub(super) fn output_cap(&self, model: ModelIndex) -> Option<u64> {
        let most = self.model(model)?.max_output_tokens.unwrap_or(u64::MAX);
        let state = self.state.lock();
        let tightest = state.book.tightest_on_output(model).unwrap_or(u64::MAX);
        Some(state.learned.get(model.0)?.output_cap(most, tightest))
    }

    /// Learns from what an attempt used: from the upstream's word if it is one, from the length if it is all.
    pub(super) fn learn(
        &self,
        model: ModelIndex,
        asked: &Asked,
        (usage, is_reported): (Usage, bool),
        is_whole: bool,
    ) {
        let mut state = self.state.lock();
        let Some(learned) = state.learned.get_mut(model.0) else { return };
        if is_reported {
            learned.note_reported(asked, usage);
        }
        if is_whole {
            learned.note_answer(asked, usage);
        }
    }

    pub(super) fn first_byte(&self, hold: &mut Hold) {
        let now = self.clock.now();
        if let Some(ledger) = &self.ledger {
            ledger.first_byte(now, hold);
        }
        self.state.lock().book.first_byte(now, hold);
    }

    pub(super) fn settle(&self, now: Moment, hold: Hold, spent: Spent) {
        let model = hold.model();
        if let Some(ledger) = &self.ledger {
            ledger.settle(now, &hold, spent);
        }
        let mut state = self.state.lock();
        state.book.settle(now, hold, spent);
        self.measurements.note_use(now, model, || state.book.remaining(now, model));
        drop(state);
        self.freed.tell();
    }

    /// An attempt at the model has ended so.
    pub(super) fn went(&self, now: Moment, model: ModelIndex, went: Went) {
        self.measurements.note(now, model, went);
    }

    /// The account and the model have answered: what escalates starts over.
    pub(super) fn succeeded(&self, now: Moment, account: AccountIndex, model: ModelIndex, probes: Probes) {
        let mut state = self.state.lock();
        state.breaker.note(now, Attempted::Answered, probes.breaker);
        if state.blocks.answered(account, model, probes.limit)
            && let Some(LimitProbe { target, .. }) = probes.limit
        {
            state.end_limit_probe(account, target);
        }
    }

    /// Leaves alone what an answer says is used up.
    pub(super) fn heed(&self, account: AccountIndex, model: ModelIndex, hints: &LimitHints) {
        if hints.exhausted.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut state = self.state.lock();
        for exhausted in &hints.exhausted {
            let target = state.blocks.target(&self.spec, &exhausted.limit, model);
            let share =
                if exhausted.refills { LimitBlocks::max(&self.spec, &exhausted.limit, model) } else { 1 };
            let until = now + exhausted.reset_at.saturating_since(now) / share;
            let until = until.min(cooling::cap(exhausted.limit.period, now));
            self.leave_alone(&mut state, now, (account, target), until, CooldownReason::RateLimited);
        }
    }

    /// What a failure means at this provider: its own error table goes before the dialect's.
    pub(super) fn understood(&self, failure: UpstreamFailure) -> UpstreamFailure {
        error_rules::apply(&self.spec.signals.errors, failure)
    }

    /// Leaves alone what `failure`, understood, says should be left alone.
    pub(super) fn failed(&self, attempt: &FailedAttempt, failure: &UpstreamFailure) {
        let now = self.clock.now();
        let FailedAttempt { account, model, .. } = *attempt;
        let mut state = self.state.lock();
        state.breaker.note(now, attempt.attempted(failure.kind), attempt.probes.breaker);
        let Some(reason) = CooldownReason::of(failure.kind) else { return };
        match failure.kind.consequence().costs {
            Costs::Nobody | Costs::Provider => {}
            Costs::Limit => {
                self.counters.limit_breaches.fetch_add(1, Ordering::Relaxed);
                let unknown = RefusedLimit::default();
                let target =
                    state.blocks.target(&self.spec, failure.limit.as_deref().unwrap_or(&unknown), model);
                if let Some(until) = state.refused(now, attempt, target, failure) {
                    self.leave_alone(&mut state, now, (account, target), until, reason);
                }
            }
            Costs::Moment => {
                let until = cooling::busy_until(failure.retry, now);
                let accounts = (0..self.spec.accounts.len()).map(AccountIndex);
                accounts.for_each(|account| state.book.cool_down(account, Some(model), until, reason));
            }
            Costs::Model => {
                let target = (account, CooldownScope::Model(model));
                self.leave_alone(&mut state, now, target, now + MODEL_OFF, reason);
            }
            Costs::Account => {
                self.counters.accounts_refused.fetch_add(1, Ordering::Relaxed);
                log::error!(provider = self.spec.id.as_str(), failure = failure.kind.as_str(),
                    account = self.account(account).map_or("", |account| account.name.as_str());
                    "an account is off: the provider does not accept it");
                let target = (account, CooldownScope::Account);
                self.leave_alone(&mut state, now, target, now + ACCOUNT_OFF, reason);
            }
        }
    }

    /// Leaves what shares a cooldown alone until then, and has it remembered: through a restart, by other replicas.
    fn leave_alone(
        &self,
        state: &mut State,
        now: Moment,
        (account, scope): (AccountIndex, CooldownScope),
        until: Moment,
        reason: CooldownReason,
    ) {
        state.cool_down(account, scope, until, reason);
        if let Some(ledger) = &self.ledger {
            let level = state.blocks.escalation(account, scope).map_or(0, |escalation| escalation.level());
            ledger.cool_down(now, &LeftAlone { account, scope, until, reason, level });
        }
    }

    /// For those who only look; not for long, because it is locked meanwhile.
    pub(super) fn look<T>(&self, look: impl FnOnce(Moment, &State) -> T) -> T {
        let now = self.clock.now();
        look(now, &self.state.lock())
    }
}
