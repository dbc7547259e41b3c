//! What every handler of a worker can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::access::Gate;
use crate::db::Store;
use crate::dispatcher::DispatcherHandle;
use crate::domain::clock::SharedClock;
use crate::domain::secret::Secret;
use crate::routing::Catalog;

use super::admission::Permits;

/// A worker's view of the gateway. The dispatcher is the worker's own; the rest is shared by all.
pub struct Edge {
    pub dispatcher: DispatcherHandle,
    pub gate: Arc<Gate>,
    pub permits: Permits,
    pub catalog: Arc<Catalog>,
    pub store: Arc<dyn Store>,
    pub clock: SharedClock,
    pub readiness: Readiness,
    pub settings: EdgeSettings,
}

/// What the operator has set for the edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    pub request_body_limit: usize,
    pub heartbeat: Duration,
    pub public_models: bool,
    pub public_stats: bool,
    pub admin_key: Option<Secret<String>>,
    /// Whether answers are simulated: said in a header of each.
    pub is_demo: bool,
}

/// Whether the gateway takes new requests.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    is_draining: Arc<AtomicBool>,
}

impl Readiness {
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}
