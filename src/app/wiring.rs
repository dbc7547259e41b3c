//! A worker and everything that it is made of.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context};
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use parking_lot::Mutex;

use super::scrape::{Observed, Sources};
use crate::access::Gate;
use crate::api::{self, Edge, EdgeSettings, Permits, Readiness, Scrape};
use crate::config::Settings;
use crate::db::Store;
use crate::dispatcher::{
    Conversations, Dispatcher, DispatcherHandle, DispatcherSettings, Roster, Router, StartProvider, WaitRoom,
};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::panics::Panics;
use crate::ledger::shared::SharedLedger;
use crate::metrics::Metrics;
use crate::provider::{Absences, ProviderActor, ProviderShared, TlsConfig};
use crate::quota::TenantBooks;
use crate::routing::Catalog;
use crate::stats::{LostEvents, OpenRequests, Recorder, StatsHandle};

/// How long an idle connection of a client is kept. Longer than the 60 s that common balancers keep theirs, so
/// that it is not us who close one in the instant of its use.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long streams that are cut may take to say so.
const LAST_WORDS_SECONDS: u64 = 2;

/// Everything that a worker is made of.
#[derive(Clone)]
pub(super) struct Wiring {
    pub(super) settings: Settings,
    pub(super) catalog: Arc<Catalog>,
    pub(super) shared: Vec<Arc<ProviderShared>>,
    pub(super) gate: Arc<Gate>,
    pub(super) books: TenantBooks,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: SharedClock,
    pub(super) tls: TlsConfig,
    pub(super) stats: StatsHandle,
    pub(super) shared_ledger: Option<Arc<SharedLedger>>,
    pub(super) wait_room: WaitRoom,
    pub(super) conversations: Conversations,
    pub(super) panics: Panics,
    pub(super) metrics: Arc<Metrics>,
    pub(super) started_at: Moment,
    pub(super) permits: Permits,
    pub(super) readiness: Readiness,
    pub(super) recorders: Arc<Mutex<Vec<Recorder>>>,
    pub(super) open_requests: OpenRequests,
    pub(super) lost_events: LostEvents,
    pub(super) dispatchers: Arc<Mutex<Vec<Addr<Dispatcher>>>>,
    pub(super) providers: Arc<Mutex<Vec<Addr<ProviderActor>>>>,
    pub(super) is_demo: bool,
}

impl Wiring {
    /// Starts the workers behind `listener`.
    pub(super) fn serve(self, listener: TcpListener) -> io::Result<ServerHandle> {
        let (workers, drain) = (self.settings.server.workers, self.settings.server.drain_timeout);
        let head_timeout = self.settings.server.client_head_timeout;
        // The factory runs once on every worker's own thread.
        let server = HttpServer::new(move || {
            let edge = Data::new(self.worker());
            let cors = api::allow_origins(&self.settings.access.cors_origins);
            App::new().app_data(edge).wrap(cors).wrap(from_fn(api::tag_request)).configure(api::configure)
        })
        .workers(workers)
        .keep_alive(CLIENT_KEEP_ALIVE)
        .client_request_timeout(head_timeout)
        // What we cut at the drain timeout has this long to say so.
        .shutdown_timeout(drain.as_secs().saturating_add(LAST_WORDS_SECONDS))
        .tcp_nodelay(true)
        // Else a client that leaves is noticed only at the next write, and an upstream that is silent works on
        // for nobody.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                log::error!(error = error.to_string(); "the server ended");
            }
        });
        Ok(handle)
    }

    /// Builds one worker, on its own thread.
    fn worker(&self) -> Edge {
        let wiring = self.clone();
        let (open, lost) = (self.open_requests.clone(), self.lost_events.clone());
        let requests = Arc::clone(self.metrics.requests());
        let recorder = Recorder::new(self.stats.hand_over(), open, lost, Arc::clone(&requests));
        self.recorders.lock().push(recorder.clone());
        Edge {
            dispatcher: DispatcherHandle::start(move || wiring.dispatcher()),
            recorder,
            gate: Arc::clone(&self.gate),
            permits: self.permits.clone(),
            books: self.books.clone(),
            catalog: Arc::clone(&self.catalog),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            readiness: self.readiness.clone(),
            panics: self.panics.clone(),
            requests,
            scrape: self.scrape(),
            settings: self.edge_settings(),
        }
    }

    fn scrape(&self) -> Scrape {
        let usable = self.shared.iter().zip(self.catalog.providers()).filter(|(_, spec)| spec.is_usable());
        let sources = Arc::new(Sources {
            metrics: Arc::clone(&self.metrics),
            providers: usable.map(|(shared, spec)| Observed::new(spec, Arc::clone(shared))).collect(),
            permits: self.permits.clone(),
            permits_max: self.settings.server.max_in_flight,
            wait_room: self.wait_room.clone(),
            panics: self.panics.clone(),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            stats: self.stats.clone(),
            shared_ledger: self.shared_ledger.clone(),
            started_at: self.started_at,
        });
        Arc::new(move || Box::pin(Arc::clone(&sources).read()))
    }

    fn dispatcher(&self) -> Addr<Dispatcher> {
        let providers = self.shared.iter().zip(self.catalog.providers());
        let starters = providers.map(|(shared, spec)| (spec.id.clone(), self.provider(Arc::clone(shared))));
        let measurements = self.shared.iter().map(|shared| Arc::clone(shared.measurements()));
        let absences = self.shared.iter().map(|shared| Absences::new(Arc::clone(shared)));
        let router = Router::new(
            Arc::clone(&self.catalog),
            measurements.collect(),
            absences.collect(),
            self.conversations.clone(),
        );
        let dispatcher = Dispatcher::new(
            router,
            Roster::start(starters.collect()),
            Arc::clone(&self.clock),
            self.dispatcher_settings(),
            self.wait_room.clone(),
            self.books.clone(),
            self.panics.clone(),
        );
        let address = dispatcher.start();
        remember(&self.dispatchers, &address);
        address
    }

    fn provider(&self, shared: Arc<ProviderShared>) -> StartProvider {
        let (tls, limit) = (Arc::clone(&self.tls), self.settings.dispatch.response_body_limit);
        let providers = Arc::clone(&self.providers);
        Box::new(move || {
            let address = ProviderActor::new(Arc::clone(&shared), &tls, limit).start();
            remember(&providers, &address);
            address
        })
    }

    fn dispatcher_settings(&self) -> DispatcherSettings {
        let dispatch = &self.settings.dispatch;
        DispatcherSettings {
            strategy: dispatch.strategy,
            max_wait: dispatch.max_wait,
            max_attempts: dispatch.max_attempts,
        }
    }

    fn edge_settings(&self) -> EdgeSettings {
        EdgeSettings {
            request_body_limit: self.settings.server.request_body_limit,
            client_body_timeout: self.settings.server.client_body_timeout,
            client_stall_timeout: self.settings.dispatch.client_stall_timeout,
            heartbeat: self.settings.dispatch.heartbeat,
            public_models: self.settings.access.public_models,
            public_stats: self.settings.access.public_stats,
            public_metrics: self.settings.access.public_metrics,
            admin_key: self.settings.admin_key.clone(),
            is_demo: self.is_demo,
        }
    }
}

/// Adds an actor to those that can be observed, in the place of those that have died.
fn remember<A: Actor<Context = Context<A>>>(actors: &Mutex<Vec<Addr<A>>>, address: &Addr<A>) {
    let mut actors = actors.lock();
    actors.retain(Addr::connected);
    actors.push(address.clone());
}
