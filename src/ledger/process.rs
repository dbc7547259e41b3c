//! The ledger of a process, whichever its store allows.

use std::sync::Arc;

use super::local::LocalLedger;
use super::provider_ledger::ProviderLedger;
use super::shared::{SharedLedger, SharedProviders};

/// Where what this process holds is kept.
#[derive(Debug)]
pub enum ProcessLedger {
    /// It serves alone, from an embedded store.
    Local(LocalLedger),
    /// It is one of several replicas on one Postgres.
    Shared(SharedProviders),
}

impl ProcessLedger {
    /// The ledger of one provider; `None` for one that it was not opened with.
    pub fn provider(&self, id: &str) -> Option<Arc<dyn ProviderLedger>> {
        match self {
            Self::Local(ledger) => ledger.provider(id),
            Self::Shared(ledger) => ledger.provider(id),
        }
    }

    /// The shared one, to be observed.
    pub fn shared(&self) -> Option<Arc<SharedLedger>> {
        match self {
            Self::Local(_) => None,
            Self::Shared(ledger) => Some(Arc::clone(ledger.ledger())),
        }
    }

    /// Writes what is still to be written, and ends. Blocks.
    pub fn close(self) {
        match self {
            Self::Local(ledger) => ledger.close(),
            Self::Shared(ledger) => ledger.close(),
        }
    }
}
