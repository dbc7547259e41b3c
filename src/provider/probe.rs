//! The attempt that decides whether a provider, or a limit that was refused, is fit again.

use std::sync::Arc;

use super::breaker::ProbeNumber;
use super::limit_blocks::LimitProbe;
use super::shared::ProviderShared;

/// What an attempt finds out for everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probes {
    /// Whether the provider as a whole is fit.
    pub(super) breaker: Option<ProbeNumber>,
    /// Whether a limit that was refused without an instant has room.
    pub(super) limit: Option<LimitProbe>,
}

/// Goes with an attempt that is a probe. Dropped before the provider has answered or failed, it makes way for the
/// next one.
pub(super) struct Probe {
    shared: Arc<ProviderShared>,
    probes: Probes,
}

impl Probe {
    pub(super) fn new(shared: Arc<ProviderShared>, probes: Probes) -> Self {
        Self { shared, probes }
    }

    pub(super) fn probes(&self) -> Probes {
        self.probes
    }

    /// Hands over what it finds out of the provider as a whole; whoever takes it has to tell how it came out.
    pub(super) fn into_breaker(mut self) -> Option<ProbeNumber> {
        self.probes.breaker.take()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.abandon(self.probes);
    }
}
