//! The shared ledger as the providers of one process see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::budgets::Past;
use super::handle::SharedLedger;
use super::provider::SharedProviderLedger;
use crate::db::{Store, StoreError};
use crate::domain::clock::{Moment, SharedClock};
use crate::ledger::kept::reach_back_to;
use crate::ledger::local::Plan;
use crate::ledger::provider_ledger::ProviderLedger;

/// How long the last news may take to be written when the process ends. Chosen: a restart of Postgres, twice; what is
/// not written then ends by its crash caps.
const LAST_NEWS: Duration = Duration::from_secs(5);

/// All providers of a process, and the one owner that they ask.
#[derive(Debug)]
pub struct SharedProviders {
    ledger: Arc<SharedLedger>,
    providers: HashMap<String, Arc<SharedProviderLedger>>,
}

impl SharedProviders {
    /// Starts the owner for the Postgres at `url`, where `store` is. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn start(
        url: &str,
        store: &dyn Store,
        clock: &SharedClock,
        plan: Plan<'_>,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let past = past(store, now, plan.retention)?;
        let ledger = Arc::new(SharedLedger::start(url, Arc::clone(clock))?);
        let provider = |(spec, names): (&crate::domain::provider::ProviderSpec, _)| {
            let access =
                SharedProviderLedger::new(now, Arc::clone(&ledger), Arc::new(spec.clone()), names, past);
            (spec.id.as_str().to_owned(), Arc::new(access))
        };
        let providers = plan.providers.into_iter().map(provider).collect();
        Ok(Self { ledger, providers })
    }

    /// The ledger of one provider; `None` for one that it was not started with.
    pub fn provider(&self, id: &str) -> Option<Arc<dyn ProviderLedger>> {
        let provider = Arc::clone(self.providers.get(id)?);
        Some(provider)
    }

    /// Where it stands, and what it has counted, through [`SharedLedger::snapshot`].
    pub fn ledger(&self) -> &Arc<SharedLedger> {
        &self.ledger
    }

    /// Writes what is still to be written, and ends. Blocks.
    pub fn close(&self) {
        self.providers.values().for_each(|provider| provider.close());
        if !self.ledger.drain(LAST_NEWS) {
            log::warn!("the shared ledger is away: what was used last is held until it expires by itself");
        }
    }
}

fn past(store: &dyn Store, now: Moment, retention: Duration) -> Result<Past, StoreError> {
    // A store that is younger than half of it has a while to go until anything is deleted.
    let nothing_is_deleted = reach_back_to(store, now, retention / 2)? == Moment::default();
    let reach = if nothing_is_deleted { Duration::MAX } else { retention };
    Ok(Past { is_empty: store.is_fresh()?, reach })
}
