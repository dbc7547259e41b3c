//! The composition root: builds every part, wires them downstream first, runs them, and drains them.

mod scrape;
mod wiring;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use actix_web::dev::ServerHandle;
use actix_web::rt::time::{sleep, timeout};
use parking_lot::Mutex;
use thiserror::Error;

use self::wiring::Wiring;
use crate::access::{
    ApiKey, Gate, KeyringRefresher, MasterKey, MasterKeyError, Pepper, PepperError, ProvisionError,
    ensure_tenant_and_key, load_keyring, refresh_interval,
};
use crate::api::{self, Permits, Readiness};
use crate::config::Settings;
use crate::db::{self, Backend, Store, StoreError, StoreLock};
use crate::dispatcher::{Conversations, Dispatcher, WaitRoom};
use crate::domain::clock::SharedClock;
use crate::domain::panics::Panics;
use crate::domain::provider::ProviderSpec;
use crate::ledger::shared::{SharedLedger, SharedProviders};
use crate::ledger::{self, LocalLedger, Names, ProcessLedger};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::{ProviderActor, ProviderShared, tls_config};
use crate::quota::TenantBooks;
use crate::routing::Catalog;
use crate::stats::{Flush, Flushed, LostEvents, OpenRequests, Recorder, StatsActor, StatsHandle, StatsPlan};

/// How long the events of what was cut may take to come in, and how often that is looked at.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(2);
const OPEN_REQUESTS_POLL: Duration = Duration::from_millis(5);

/// How long the last events may take to be written when the gateway stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the ledger waits for another writer before it says that nothing can be written. Chosen: a second of a
/// caller's wait, after which it looks again anyway.
const LEDGER_PATIENCE: Duration = Duration::from_secs(1);

/// What names a store's spool: the digest of this text, which is no key, cut to so many bytes.
const SPOOL_MARK: &str = "the name of the spool";
const SPOOL_NAME_BYTES: usize = 8;

/// Why the gateway cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Pepper(#[from] PepperError),
    #[error("server.listen = \"{address}\": {source}; choose another address with FREELLMAPI_LISTEN")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("the store's thread ended: {0}")]
    Thread(String),
}

/// A store that is migrated, with the pepper that its keys are digested with.
pub struct OpenStore {
    pub store: Arc<dyn Store>,
    pub pepper: Pepper,
}

impl OpenStore {
    /// Opens and migrates the store that `settings` name. Blocks.
    ///
    /// # Errors
    /// When it cannot be reached or migrated, or its pepper cannot be unwrapped. A master key is made only for a
    /// store that has nothing sealed yet: beside one that has, a new key would open nothing.
    pub fn open(settings: &Settings) -> Result<Self, StartError> {
        let store = db::open(&settings.store.url)?;
        store.migrate()?;
        let (variable, url) = (settings.master_key.as_ref(), &settings.store.url);
        let master_key = match MasterKey::find(variable, url)? {
            Some(master_key) => master_key,
            None if Pepper::is_sealed(&*store)? => {
                return Err(MasterKeyError::FileMissing(MasterKey::file(url)?).into());
            }
            None => MasterKey::obtain(variable, url)?,
        };
        let pepper = Pepper::obtain(&*store, &master_key)?;
        Ok(Self { store, pepper })
    }
}

/// The gateway while it runs.
pub struct Running {
    pub address: SocketAddr,
    /// The key that was minted because the store was empty; shown once.
    pub minted_key: Option<ApiKey>,
    pub readiness: Readiness,
    pub permits: Permits,
    /// Every worker's dispatcher, to be observed.
    pub dispatchers: Arc<Mutex<Vec<Addr<Dispatcher>>>>,
    /// Every provider's shared state is observed through one of its actors.
    pub providers: Arc<Mutex<Vec<Addr<ProviderActor>>>>,
    pub stats: StatsHandle,
    server: ServerHandle,
    recorders: Arc<Mutex<Vec<Recorder>>>,
    background: Arbiter,
    open_requests: OpenRequests,
    shutdown_grace: Duration,
    drain_timeout: Duration,
    /// On Postgres: where the ledger that all replicas share stands.
    pub shared_ledger: Option<Arc<SharedLedger>>,
    /// Keeps what is held.
    ledger: ProcessLedger,
    _lock: Option<StoreLock>,
}

/// What starting brings up on a blocking thread.
struct Prepared {
    lock: Option<StoreLock>,
    store: Arc<dyn Store>,
    minted_key: Option<ApiKey>,
    gate: Arc<Gate>,
    books: TenantBooks,
    catalog: Arc<Catalog>,
    stats: StatsPlan,
    ledger: ProcessLedger,
}

/// Starts the gateway on the calling actix system. `is_demo` marks every answer as simulated.
///
/// # Errors
/// [`StartError`] says what stands in the way; nothing is left running then.
pub async fn start(settings: Settings, clock: SharedClock, is_demo: bool) -> Result<Running, StartError> {
    let tls = tls_config()?;
    // Comes before everything else, so that a busy port is said at once; nobody is accepted before the server runs.
    let listener = api::listen(settings.server.listen, settings.dispatch.client_stall_timeout)
        .map_err(|source| StartError::Listen { address: settings.server.listen, source })?;
    let address = listener.local_addr().unwrap_or(settings.server.listen);
    let panics = Panics::default();
    let metrics = Arc::new(Metrics::new()?);
    let (settings, prepared) = prepare_aside(settings, Arc::clone(&clock), panics.clone()).await?;
    let Prepared { lock, store, minted_key, gate, books, catalog, stats, ledger } = prepared;

    let background = Arbiter::new();
    let lost_events = LostEvents::default();
    let stats = start_stats(&background, &store, &clock, (stats, lost_events.clone()));
    start_refresher(&background, &store, &gate, &books, &clock);
    let max_waiting = settings.dispatch.max_waiting;
    let wait_room = WaitRoom::new(&catalog, max_waiting, Arc::clone(&clock), panics.clone());
    background.spawn(wait_room.clone().keep_time());

    let wiring = Wiring {
        started_at: clock.now(),
        shared: share(&catalog, &clock, &panics, &wait_room, (&ledger, &metrics))?,
        metrics,
        panics,
        catalog,
        gate,
        books,
        store,
        clock,
        tls,
        stats: stats.clone(),
        shared_ledger: ledger.shared(),
        wait_room,
        conversations: Conversations::default(),
        permits: Permits::new(settings.server.max_in_flight),
        readiness: Readiness::default(),
        recorders: Arc::default(),
        open_requests: OpenRequests::default(),
        lost_events,
        dispatchers: Arc::default(),
        providers: Arc::default(),
        is_demo,
        settings,
    };
    let running = wiring.clone();
    let server = wiring.serve(listener).map_err(|source| StartError::Listen { address, source })?;
    Ok(Running {
        address,
        minted_key,
        readiness: running.readiness,
        permits: running.permits,
        dispatchers: running.dispatchers,
        providers: running.providers,
        stats,
        server,
        recorders: running.recorders,
        background,
        open_requests: running.open_requests,
        shutdown_grace: running.settings.server.shutdown_grace,
        drain_timeout: running.settings.server.drain_timeout,
        shared_ledger: running.shared_ledger,
        ledger,
        _lock: lock,
    })
}

impl Running {
    /// Stops taking requests, lets those in flight finish, writes the last events.
    pub async fn drain(self) {
        self.readiness.start_draining();
        sleep(self.shutdown_grace).await;
        self.stop_serving().await;
        self.flush().await;
        let ledger = self.ledger;
        let _panicked = actix_web::rt::task::spawn_blocking(move || ledger.close()).await;
        self.background.stop();
    }

    /// Lets what is in flight finish; what the drain timeout finds unfinished tells its client, and ends.
    async fn stop_serving(&self) {
        let stopped = self.server.stop(true);
        let mut stopped = std::pin::pin!(stopped);
        tokio::select! {
            () = &mut stopped => {}
            () = sleep(self.drain_timeout) => {
                self.readiness.cut();
                stopped.await;
            }
        }
        // A worker says that it has stopped before it drops its connections: their events are still to come.
        let ended = async {
            while self.open_requests.count() > 0 {
                sleep(OPEN_REQUESTS_POLL).await;
            }
        };
        let _ended_in_time = timeout(LAST_EVENTS_TIMEOUT, ended).await;
    }

    /// Hands over what the workers have collected, and waits until it is written, or spooled for the next start.
    async fn flush(&self) {
        let mut flushed = None;
        // The second round takes what did not fit into the mailbox, or ended during the first.
        for _ in 0..2 {
            self.recorders.lock().iter().for_each(|recorder| {
                let _all_is_sent_in_the_next_round = recorder.hand_over();
            });
            flushed = timeout(FLUSH_TIMEOUT, self.stats.send(Flush)).await.ok().and_then(Result::ok);
        }
        match flushed {
            None => log::error!("statistics may be lost: nobody has written the last events"),
            Some(Flushed { unwritten: 0, spooled: 0 }) => {}
            Some(Flushed { unwritten: 0, spooled }) => {
                log::warn!(spooled = spooled; "the store is away: statistics wait in the spool for the next start");
            }
            Some(Flushed { unwritten, .. }) => {
                log::error!(events_lost = unwritten; "statistics are lost: neither the store nor the spool takes them");
            }
        }
    }
}

async fn prepare_aside(
    settings: Settings,
    clock: SharedClock,
    panics: Panics,
) -> Result<(Settings, Prepared), StartError> {
    let prepared = actix_web::rt::task::spawn_blocking(move || {
        let prepared = prepare(&settings, &clock, panics)?;
        Ok((settings, prepared))
    });
    prepared.await.map_err(|error| StartError::Thread(error.to_string()))?
}

fn prepare(settings: &Settings, clock: &SharedClock, panics: Panics) -> Result<Prepared, StartError> {
    let lock = db::lock_exclusively(&settings.store.url)?;
    let now = clock.now();
    let OpenStore { store, pepper } = OpenStore::open(settings)?;
    let minted_key = ensure_tenant_and_key(&*store, &pepper, settings.api_key.as_ref(), now)?;
    let stats = stats_plan(settings, &pepper);
    let catalog = Arc::new(Catalog::new(numbered(&settings.providers, &*store)?));
    let ledger = open_ledger(settings, &*store, &catalog, &pepper, (clock, panics))?;
    let books = TenantBooks::default();
    let gate = Arc::new(Gate::new(pepper, load_keyring(&*store, &books, now)?, now));
    Ok(Prepared { lock, store, minted_key, gate, books, catalog, stats, ledger })
}

/// The ledger has connections of its own, so that nobody's query is in its way.
fn open_ledger(
    settings: &Settings,
    store: &dyn Store,
    catalog: &Catalog,
    pepper: &Pepper,
    (clock, panics): (&SharedClock, Panics),
) -> Result<ProcessLedger, StoreError> {
    let providers = catalog.providers().iter().map(|spec| (&**spec, ledger_names(pepper, spec))).collect();
    let plan = ledger::Plan { providers, retention: retention(settings), panics };
    match store.backend() {
        Backend::Sqlite => {
            let store = db::open_impatient(&settings.store.url, LEDGER_PATIENCE)?;
            Ok(ProcessLedger::Local(LocalLedger::open(store, Arc::clone(clock), plan)?))
        }
        Backend::Postgres => {
            Ok(ProcessLedger::Shared(SharedProviders::start(&settings.store.url, store, clock, plan)?))
        }
    }
}

/// By what names the ledger knows what `pepper`'s store has kept.
pub fn ledger_names(pepper: &Pepper, spec: &ProviderSpec) -> Names {
    Names::new(spec, |text| pepper.digest(text))
}

/// How long the statistics keep an event.
pub fn retention(settings: &Settings) -> Duration {
    Duration::from_secs(u64::from(settings.stats.retention_days) * 86_400)
}

/// Each store has a spool of its own, named by its pepper, which no move or new address of the store changes: what
/// one store's tenants did is never written into another.
fn stats_plan(settings: &Settings, pepper: &Pepper) -> StatsPlan {
    let mark = pepper.digest(SPOOL_MARK);
    let name: String = mark.iter().take(SPOOL_NAME_BYTES).map(|byte| format!("{byte:02x}")).collect();
    StatsPlan {
        flush: settings.stats.flush,
        retention: retention(settings),
        spool: settings.stats.spool.join(name),
        spool_max_bytes: settings.stats.spool_max as u64,
    }
}

/// The providers with the numbers that the store gives their models.
///
/// # Errors
/// When the store fails.
pub fn numbered(providers: &[ProviderSpec], store: &dyn Store) -> Result<Vec<Arc<ProviderSpec>>, StoreError> {
    let names: Vec<_> = providers
        .iter()
        .flat_map(|provider| provider.models.iter().map(|model| (provider.id.clone(), model.id.clone())))
        .collect();
    let mut numbers = store.number_models(&names)?.into_iter();
    let numbered = providers.iter().cloned().map(|mut provider| {
        for model in &mut provider.models {
            model.number = numbers.next();
        }
        Arc::new(provider)
    });
    Ok(numbered.collect())
}

/// The handle is the actor's parent.
fn start_stats(
    background: &Arbiter,
    store: &Arc<dyn Store>,
    clock: &SharedClock,
    (plan, lost): (StatsPlan, LostEvents),
) -> StatsHandle {
    let (arbiter, store, of_actor) = (background.handle(), Arc::clone(store), Arc::clone(clock));
    StatsHandle::start(Arc::clone(clock), move || {
        let (store, clock) = (Arc::clone(&store), Arc::clone(&of_actor));
        let (plan, lost) = (plan.clone(), lost.clone());
        StatsActor::start_in_arbiter(&arbiter, move |_| StatsActor::new(store, clock, plan, lost))
    })
}

fn start_refresher(
    background: &Arbiter,
    store: &Arc<dyn Store>,
    gate: &Arc<Gate>,
    books: &TenantBooks,
    clock: &SharedClock,
) {
    let every = refresh_interval(store.backend());
    let (store, gate, clock) = (Arc::clone(store), Arc::clone(gate), Arc::clone(clock));
    let books = books.clone();
    KeyringRefresher::start_in_arbiter(&background.handle(), move |_| {
        KeyringRefresher::new(store, gate, books, clock, every)
    });
}

fn share(
    catalog: &Catalog,
    clock: &SharedClock,
    panics: &Panics,
    wait_room: &WaitRoom,
    (ledger, metrics): (&ProcessLedger, &Metrics),
) -> Result<Vec<Arc<ProviderShared>>, MetricsError> {
    let share = |(position, spec): (usize, &Arc<ProviderSpec>)| {
        let shared = ProviderShared::new(Arc::clone(spec), Arc::clone(clock), panics.clone());
        let mut shared = shared.telling(wait_room.freed(position));
        // Who cannot be asked has nothing to count.
        if spec.is_usable() {
            shared = shared.with_metrics(metrics.provider(spec)?);
        }
        let ledger = ledger.provider(spec.id.as_str());
        Ok(Arc::new(match ledger {
            Some(ledger) => shared.with_ledger(ledger),
            None => shared,
        }))
    };
    catalog.providers().iter().enumerate().map(share).collect()
}
