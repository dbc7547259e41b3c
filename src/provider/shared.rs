//! What all actors of one provider share: its specification, its buckets, its health.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::cooling::{Cooling, Streak, cooling};
use crate::domain::clock::SharedClock;
use crate::domain::failure::{FailureKind, UpstreamFailure};
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
        let state = State { book: Book::new(&spec), streak: Streak::default(), escalations };
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
            Cooling::Model(stated) => {
                let escalated = || state.escalation(account, model).map_or(Duration::ZERO, Escalation::next);
                let pause = stated.unwrap_or_else(escalated);
                let model = self.is_limited_by_model(failure.kind).then_some(model);
                state.book.cool_down(account, model, now + pause);
            }
            Cooling::Account(pause) => state.book.cool_down(account, None, now + pause),
            Cooling::Provider => {
                if let Some(pause) = state.streak.fail() {
                    for position in 0..self.spec.accounts.len() {
                        state.book.cool_down(AccountIndex(position), None, now + pause);
                    }
                }
            }
        }
    }

    /// Whether a refusal speaks of one model alone: not where all models of an account share its limits.
    fn is_limited_by_model(&self, kind: FailureKind) -> bool {
        kind != FailureKind::RateLimited || self.spec.limits.is_empty()
    }

    pub(super) fn snapshot(&self) -> ProviderSnapshot {
        let book = self.state.lock().book.snapshot(self.clock.now());
        ProviderSnapshot { provider: self.spec.id.clone(), book }
    }
}

impl State {
    fn escalation(&mut self, account: AccountIndex, model: ModelIndex) -> Option<&mut Escalation> {
        self.escalations.get_mut(account.0)?.get_mut(model.0)
    }
}
