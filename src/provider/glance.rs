//! What the metrics see of a provider.

use super::shared::ProviderShared;
use crate::domain::cooldown::CooldownReason;
use crate::quota::Left;

/// The state of a provider in numbers.
#[derive(Clone, Debug)]
pub struct Glance {
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Attempts that are granted and not settled.
    pub open_holds: usize,
    /// Accounts, and models on an account, that are left alone, by reason in the order of [`CooldownReason::ALL`].
    pub cooling: [usize; CooldownReason::ALL.len()],
    /// By limit, in the order of its terms.
    pub left: Vec<Left>,
}

impl ProviderShared {
    /// For the metrics, which look often: it is locked for no longer than for a decision or two.
    pub fn glance(&self) -> Glance {
        self.look(|now, state| Glance {
            breaker: state.breaker.snapshot(now).state,
            open_holds: state.book.open_holds(),
            cooling: self.cooling(now, state),
            left: state.book.left(now),
        })
    }
}
