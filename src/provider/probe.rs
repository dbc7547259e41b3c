//! The attempt that decides whether a provider is fit again.

use std::sync::Arc;

use super::breaker::ProbeNumber;
use super::shared::ProviderShared;

/// Goes with an attempt that is the probe. Dropped before the provider has answered or failed, it makes way for the
/// next one.
pub(super) struct Probe {
    shared: Arc<ProviderShared>,
    number: ProbeNumber,
}

impl Probe {
    pub(super) fn new(shared: Arc<ProviderShared>, number: ProbeNumber) -> Self {
        Self { shared, number }
    }

    pub(super) fn number(&self) -> ProbeNumber {
        self.number
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.abandon(self.number);
    }
}
