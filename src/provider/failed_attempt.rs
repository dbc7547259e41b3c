//! A failure, as far as it speaks for the provider as a whole.

use super::breaker::Attempted;
use super::probe::Probes;
use crate::domain::consequence::Costs;
use crate::domain::failure::FailureKind;
use crate::quota::{AccountIndex, ModelIndex};

/// Which attempt failed, and how far it had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedAttempt {
    pub(super) account: AccountIndex,
    pub(super) model: ModelIndex,
    /// Whether its answer had begun as it should.
    pub(super) has_succeeded: bool,
    pub(super) probes: Probes,
}

impl FailedAttempt {
    /// What the failure says of the provider as a whole.
    pub(super) fn attempted(&self, kind: FailureKind) -> Attempted {
        match (kind.consequence().costs, kind) {
            (Costs::Provider, _) if self.has_succeeded => Attempted::BrokenOff,
            (Costs::Provider, FailureKind::Connect | FailureKind::Closed) => Attempted::Unreachable,
            (Costs::Provider, _) => Attempted::Failed,
            // Who refuses answers.
            (Costs::Nobody | Costs::Limit | Costs::Moment | Costs::Model | Costs::Account, _) => {
                Attempted::Answered
            }
        }
    }
}
