//! Who of a provider's accounts is left alone, for those who explain a refusal.

use std::sync::Arc;

use super::shared::ProviderShared;
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::quota::ModelIndex;

/// A view of one provider that shows nothing else.
#[derive(Clone)]
pub struct Absences(Arc<ProviderShared>);

impl Absences {
    pub fn new(shared: Arc<ProviderShared>) -> Self {
        Self(shared)
    }

    /// Why each account is left alone for that model now, and until when; in their order, `None` for one that is not.
    /// Empty where none is. Locks the provider for a moment: for requests that nobody answers.
    pub fn of(&self, model: ModelIndex) -> Vec<Option<(CooldownReason, Moment)>> {
        self.0.look(|now, state| state.book.left_alone(now, model))
    }
}
