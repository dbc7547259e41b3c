//! What a ledger that decides itself has granted.

use std::sync::Arc;

use super::probe::{Probe, Probes};
use super::shared::ProviderShared;
use crate::ledger::shared::Grant;
use crate::quota::Hold;

impl ProviderShared {
    /// Takes what a ledger has granted. Where a limit is thought to be open again, it is the probe.
    pub(super) fn accept(self: &Arc<Self>, grant: Grant, probe: &mut Option<Probe>) -> Hold {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let hold = grant.accept(now, &mut state.book);
        self.follow_others(&mut state, now, &hold);
        let limit = state.start_limit_probe(now, &hold);
        drop(state);
        if limit.is_some() {
            let breaker = probe.take().and_then(Probe::into_breaker);
            *probe = Some(Probe::new(Arc::clone(self), Probes { breaker, limit }));
        }
        hold
    }

    /// The answer to the attempt has begun as it should.
    pub(super) fn answered(&self, hold: &Hold) {
        if let Some(ledger) = &self.ledger {
            ledger.answered(hold);
        }
    }
}
