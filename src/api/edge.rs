//! What every handler of a worker can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::access::Gate;
use crate::db::Store;
use crate::dispatcher::DispatcherHandle;
use crate::domain::clock::SharedClock;
use crate::domain::panics::Panics;
use crate::domain::secret::Secret;
use crate::error::GatewayError;
use crate::metrics::Requests;
use crate::quota::TenantBooks;
use crate::routing::Catalog;
use crate::stats::Recorder;

use super::admission::Permits;
use super::metrics::Scrape;

/// A worker's view of the gateway. The dispatcher is the worker's own; the rest is shared by all.
pub struct Edge {
    pub dispatcher: DispatcherHandle,
    /// The worker's own, too.
    pub recorder: Recorder,
    pub gate: Arc<Gate>,
    pub permits: Permits,
    pub books: TenantBooks,
    pub catalog: Arc<Catalog>,
    pub store: Arc<dyn Store>,
    pub clock: SharedClock,
    pub readiness: Readiness,
    pub panics: Panics,
    /// Where those count who are refused for want of a key; whoever has one counts as it ends.
    pub requests: Arc<Requests>,
    pub scrape: Scrape,
    pub settings: EdgeSettings,
}

/// What the operator has set for the edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    pub request_body_limit: usize,
    /// How long a request's body may take.
    pub client_body_timeout: Duration,
    /// How long a client may take nothing before the system cuts it off.
    pub client_stall_timeout: Duration,
    pub heartbeat: Duration,
    pub public_models: bool,
    pub public_stats: bool,
    pub public_metrics: bool,
    pub admin_key: Option<Secret<String>>,
    /// Whether answers are simulated: said in a header of each.
    pub is_demo: bool,
}

/// Whether the gateway takes new requests, and whether those in flight may go on.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_draining: AtomicBool,
    is_cut_off: AtomicBool,
    waiting_for_cut_off: Arc<Notify>,
}

impl Readiness {
    pub fn start_draining(&self) {
        self.0.is_draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Acquire)
    }

    /// The time to drain is over: whatever is still in flight is to tell its client so, and to end.
    pub fn cut(&self) {
        self.0.is_cut_off.store(true, Ordering::Release);
        self.0.waiting_for_cut_off.notify_waiters();
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.0.is_cut_off.load(Ordering::Acquire)
    }

    /// Wakes who polls it when the time is over. What is polled for the first time after that asks
    /// [`is_cut_off`](Self::is_cut_off) first.
    pub(super) fn alarm(&self) -> OwnedNotified {
        Arc::clone(&self.0.waiting_for_cut_off).notified_owned()
    }

    /// Ends when the time to drain is over. Cancel-safe.
    pub(super) async fn cut_off(&self) {
        let alarm = self.alarm();
        if !self.is_cut_off() {
            alarm.await;
        }
    }

    /// What is said to those whose answers are cut.
    pub(super) fn stopping() -> GatewayError {
        GatewayError::unavailable("the gateway is being stopped")
    }
}
