//! What all actors of one provider share: its specification, its buckets, its health.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::breaker::{Attempted, Breaker, BreakerSnapshot, Passage, ProbeNumber};
use super::cooling::{Cooling, cooling};
use super::probe::Probe;
use super::served::ServedName;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::ids::ProviderId;
use crate::domain::panics::Panics;
use crate::domain::provider::{AccountSpec, ModelSpec, ProviderSpec};
use crate::quota::{
    AccountIndex, Answer, Book, BookSnapshot, Demand, Escalation, Hold, ModelIndex, Refusal, Spent,
};

/// The state of one provider; survives its actors. Only the actors of that provider, and the attempts that
/// they started, reach it.
pub struct ProviderShared {
    spec: Arc<ProviderSpec>,
    /// Of its models, in their order.
    names: Vec<Arc<ServedName>>,
    clock: SharedClock,
    panics: Panics,
    /// One short lock for every decision; no I/O and no waiting under it.
    state: Mutex<State>,
}

struct State {
    book: Book,
    breaker: Breaker,
    /// Of 429s that state no delay, by account and model.
    escalations: Vec<Vec<Escalation>>,
    /// Until when failures, not limits, keep an account and model from being asked.
    off_until: Vec<Vec<Moment>>,
}

/// What a provider holds, for `Observe`.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderSnapshot {
    pub provider: ProviderId,
    pub book: BookSnapshot,
    pub breaker: BreakerSnapshot,
}

impl ProviderShared {
    pub fn new(spec: Arc<ProviderSpec>, clock: SharedClock, panics: Panics) -> Self {
        let models = spec.models.len();
        let escalations = spec.accounts.iter().map(|_| vec![Escalation::default(); models]).collect();
        let off_until = spec.accounts.iter().map(|_| vec![Moment::default(); models]).collect();
        let state = State { book: Book::new(&spec), breaker: Breaker::default(), escalations, off_until };
        let names = spec.models.iter().map(|model| Arc::new(ServedName::new(&spec.id, model))).collect();
        Self { spec, names, clock, panics, state: Mutex::new(state) }
    }

    pub(super) fn spec(&self) -> &ProviderSpec {
        &self.spec
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
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
    /// provider is failing one attempt alone is let through, as the probe; it is within the limits like any other.
    pub(super) fn reserve(self: &Arc<Self>, demand: &Demand) -> (Answer, Option<Probe>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let passage = state.breaker.passage(now);
        if let Passage::NotUntil(until) = passage {
            return (Answer::Refused(Refusal::NotUntil(until)), None);
        }
        let answer = state.book.reserve(now, demand);
        let is_probe = passage == Passage::AsProbe && !matches!(answer, Answer::Refused(_));
        let number = is_probe.then(|| state.breaker.start_probe(now));
        drop(state);
        (answer, number.map(|number| Probe::new(Arc::clone(self), number)))
    }

    pub(super) fn abandon(&self, probe: ProbeNumber) {
        self.state.lock().breaker.abandon(probe);
    }

    pub(super) fn has_token_limits(&self, model: ModelIndex) -> bool {
        self.state.lock().book.has_token_limits(model)
    }

    pub(super) fn first_byte(&self, hold: &mut Hold) {
        let now = self.clock.now();
        self.state.lock().book.first_byte(now, hold);
    }

    pub(super) fn settle(&self, hold: Hold, spent: Spent) {
        let now = self.clock.now();
        self.state.lock().book.settle(now, hold, spent);
    }

    /// The account and the model have answered: what escalates starts over.
    pub(super) fn succeeded(&self, account: AccountIndex, model: ModelIndex, probe: Option<ProbeNumber>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.breaker.note(now, Attempted::Answered, probe);
        if let Some(escalation) = state.escalation(account, model) {
            escalation.reset();
        }
    }

    /// Leaves alone what `failure` says should be left alone.
    pub(super) fn failed(&self, attempt: &FailedAttempt, failure: &UpstreamFailure) {
        let now = self.clock.now();
        let FailedAttempt { account, model, .. } = *attempt;
        let mut state = self.state.lock();
        state.breaker.note(now, attempt.attempted(failure.kind), attempt.probe);
        match cooling(failure.kind, failure.retry_after) {
            Cooling::None | Cooling::Provider => {}
            Cooling::Limit(stated) => {
                let escalated = || state.escalation(account, model).map_or(Duration::ZERO, Escalation::next);
                let pause = stated.unwrap_or_else(escalated);
                // Where all models of an account share its limits, so do they share a refusal.
                let model = self.spec.limits.is_empty().then_some(model);
                state.book.cool_down(account, model, now + pause);
            }
            Cooling::Model(pause) => state.switch_off(account, Some(model), now + pause),
            Cooling::Account(pause) => {
                log::error!(provider = self.spec.id.as_str(), failure = failure.kind.as_str(),
                    account = self.account(account).map_or("", |account| account.name.as_str());
                    "an account is off: the provider does not accept it");
                state.switch_off(account, None, now + pause);
            }
        }
    }

    /// Until when the provider, or every account of it for the model, is off, because of failures and not for want
    /// of capacity.
    pub(super) fn off_until(&self, model: ModelIndex) -> Option<Moment> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let accounts = state.off_until.iter();
        let earliest = accounts.map(|models| models.get(model.0).copied().unwrap_or_default()).min();
        let opens = match state.breaker.passage(now) {
            Passage::NotUntil(until) => Some(until),
            Passage::Free | Passage::AsProbe => None,
        };
        earliest.filter(|earliest| *earliest > now).max(opens)
    }

    pub(super) fn snapshot(&self) -> ProviderSnapshot {
        let now = self.clock.now();
        let state = self.state.lock();
        let (book, breaker) = (state.book.snapshot(now), state.breaker.snapshot(now));
        ProviderSnapshot { provider: self.spec.id.clone(), book, breaker }
    }
}

/// Which attempt failed, and how far it had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedAttempt {
    pub(super) account: AccountIndex,
    pub(super) model: ModelIndex,
    /// Whether its answer had begun as it should.
    pub(super) has_succeeded: bool,
    pub(super) probe: Option<ProbeNumber>,
}

impl FailedAttempt {
    /// What the failure says of the provider as a whole.
    fn attempted(&self, kind: FailureKind) -> Attempted {
        match (cooling(kind, None), kind) {
            (Cooling::Provider, _) if self.has_succeeded => Attempted::BrokenOff,
            (Cooling::Provider, FailureKind::Connect | FailureKind::Closed) => Attempted::Unreachable,
            (Cooling::Provider, _) => Attempted::Failed,
            // Who refuses answers.
            (Cooling::None | Cooling::Limit(_) | Cooling::Model(_) | Cooling::Account(_), _) => {
                Attempted::Answered
            }
        }
    }
}

impl State {
    /// Switches the model off on the account, or all its models.
    fn switch_off(&mut self, account: AccountIndex, model: Option<ModelIndex>, until: Moment) {
        self.book.cool_down(account, model, until);
        let models = self.off_until.get_mut(account.0).into_iter().flatten().enumerate();
        let chosen = models.filter(|(position, _)| model.is_none_or(|model| model.0 == *position));
        chosen.for_each(|(_, off_until)| *off_until = until.max(*off_until));
    }

    fn escalation(&mut self, account: AccountIndex, model: ModelIndex) -> Option<&mut Escalation> {
        self.escalations.get_mut(account.0)?.get_mut(model.0)
    }
}
