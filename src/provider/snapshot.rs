//! What is to be seen of a provider.

use serde::Serialize;

use super::breaker::BreakerSnapshot;
use super::measurements::MeasuredSnapshot;
use super::shared::ProviderShared;
use crate::domain::ids::ProviderId;
use crate::quota::BookSnapshot;

/// What a provider holds, for `Observe`.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderSnapshot {
    pub provider: ProviderId,
    pub book: BookSnapshot,
    pub breaker: BreakerSnapshot,
    /// How often the upstream said that a limit was used up while our own books saw room.
    pub limit_breaches: u64,
    /// How often the upstream refused an account's key or credit.
    pub accounts_refused: u64,
    pub measured: Vec<MeasuredSnapshot>,
}

impl ProviderShared {
    pub(super) fn snapshot(&self) -> ProviderSnapshot {
        let (now, book, breaker) =
            self.look(|now, state| (now, self.book_snapshot(now, state), state.breaker.snapshot(now)));
        ProviderSnapshot {
            provider: self.spec().id.clone(),
            book,
            breaker,
            limit_breaches: self.limit_breaches(),
            accounts_refused: self.accounts_refused(),
            measured: self.measurements().snapshot(now, self.spec()),
        }
    }
}
