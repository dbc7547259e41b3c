//! What all actors of one provider share: its specification, its buckets, its health.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::cooling::{Cooling, Streak, cooling};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::failure::UpstreamFailure;
use crate::domain::ids::ProviderId;
use crate::domain::provider::{AccountSpec, ModelSpec, ProviderSpec};
use crate::quota::{AccountIndex, Answer, Book, BookSnapshot, Demand, Escalation, Hold, ModelIndex, Spent};

/// The state of one provider; survives its actors. Only the actors of that provider, and the attempts that
/// they started, reach it.
pub struct ProviderShared {
    spec: Arc<ProviderSpec>,
    clock: SharedClock,
    /// One short lock for every decision; no I/O and no waiting under it.
    state: Mutex<State>,
}

struct State {
    book: Book,
    streak: Streak,
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
}

impl ProviderShared {
    pub fn new(spec: Arc<ProviderSpec>, clock: SharedClock) -> Self {
        let models = spec.models.len();
        let escalations = spec.accounts.iter().map(|_| vec![Escalation::default(); models]).collect();
        let off_until = spec.accounts.iter().map(|_| vec![Moment::default(); models]).collect();
        let state = State { book: Book::new(&spec), streak: Streak::default(), escalations, off_until };
        Self { spec, clock, state: Mutex::new(state) }
    }

    pub(super) fn spec(&self) -> &ProviderSpec {
        &self.spec
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn model(&self, model: ModelIndex) -> Option<&ModelSpec> {
        self.spec.models.get(model.0)
    }

    pub(super) fn account(&self, account: AccountIndex) -> Option<&AccountSpec> {
        self.spec.accounts.get(account.0)
    }

    /// Takes what an attempt needs from all of its limits together, or says until when there is no room.
    pub(super) fn reserve(&self, demand: &Demand) -> Answer {
        let now = self.clock.now();
        self.state.lock().book.reserve(now, demand)
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
    pub(super) fn succeeded(&self, account: AccountIndex, model: ModelIndex) {
        let mut state = self.state.lock();
        state.streak.succeed();
        if let Some(escalation) = state.escalation(account, model) {
            escalation.reset();
        }
    }

    /// Leaves alone what `failure` says should be left alone.
    pub(super) fn failed(&self, account: AccountIndex, model: ModelIndex, failure: &UpstreamFailure) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        match cooling(failure.kind, failure.retry_after) {
            Cooling::None => {}
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
            Cooling::Provider => {
                if let Some(pause) = state.streak.fail() {
                    let accounts = (0..self.spec.accounts.len()).map(AccountIndex);
                    accounts.for_each(|account| state.switch_off(account, None, now + pause));
                }
            }
        }
    }

    /// Until when every account is off for the model, because of failures and not for want of capacity.
    pub(super) fn off_until(&self, model: ModelIndex) -> Option<Moment> {
        let now = self.clock.now();
        let state = self.state.lock();
        let accounts = state.off_until.iter();
        let earliest = accounts.map(|models| models.get(model.0).copied().unwrap_or_default()).min()?;
        (earliest > now).then_some(earliest)
    }

    pub(super) fn snapshot(&self) -> ProviderSnapshot {
        let book = self.state.lock().book.snapshot(self.clock.now());
        ProviderSnapshot { provider: self.spec.id.clone(), book }
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
