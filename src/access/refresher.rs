//! The actor that keeps the gate's keys fresh.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler};

use super::gate::Gate;
use super::load::load_keyring;
use super::messages::{Loaded, Observe, RefresherSnapshot};
use super::outage::{Change, RefreshState};
use crate::db::{self, Backend, Store};
use crate::domain::clock::SharedClock;
use crate::domain::error_chain::ErrorChain;
use crate::quota::TenantBooks;

/// One load's end, and a handful of observers at a time.
const MAILBOX_CAPACITY: usize = 16;

/// How often to ask the store, so that a command's change is seen in the time promised (1 s on SQLite, 5 s on
/// Postgres). Chosen: half of it, which leaves the other half to the load itself.
pub fn refresh_interval(backend: Backend) -> Duration {
    match backend {
        Backend::Sqlite => Duration::from_millis(500),
        Backend::Postgres => Duration::from_millis(2_500),
    }
}

/// Loads all keys, and what their tenants may do, at an interval and puts them in force. While the store is away the old ones stay, see
/// [`Gate::admit`]. One for the whole process.
pub struct KeyringRefresher {
    store: Arc<dyn Store>,
    gate: Arc<Gate>,
    books: TenantBooks,
    clock: SharedClock,
    interval: Duration,
    state: RefreshState,
}

impl fmt::Debug for KeyringRefresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringRefresher")
            .field("store", &self.store)
            .field("interval", &self.interval)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl KeyringRefresher {
    /// A refresher that first loads one `interval` after its start: `gate` was just filled.
    pub fn new(
        store: Arc<dyn Store>,
        gate: Arc<Gate>,
        books: TenantBooks,
        clock: SharedClock,
        interval: Duration,
    ) -> Self {
        Self { store, gate, books, clock, interval, state: RefreshState::default() }
    }

    /// Starts a load unless one is in flight; its end comes back as a message.
    fn tick(&mut self, context: &mut Context<Self>) {
        if !self.state.start() {
            return;
        }
        let asked_at = self.clock.now();
        let store = Arc::clone(&self.store);
        let (refresher, books) = (context.address(), self.books.clone());
        actix::spawn(async move {
            let keyring = db::blocking(&store, move |store| load_keyring(store, &books, asked_at)).await;
            refresher.do_send(Loaded { asked_at, keyring });
        });
    }
}

impl Actor for KeyringRefresher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
        context.run_interval(self.interval, Self::tick);
    }
}

impl Handler<Loaded> for KeyringRefresher {
    type Result = ();

    fn handle(&mut self, loaded: Loaded, _: &mut Self::Context) {
        let change = self.state.finish(loaded.keyring.is_ok());
        match loaded.keyring {
            Ok(keyring) => self.gate.replace(keyring, loaded.asked_at),
            Err(error) => {
                self.gate.note_store_away();
                if change == Change::OutageBegan {
                    log::warn!(
                        "keys cannot be refreshed, known ones stay good for 5 min: {}",
                        ErrorChain(&error)
                    );
                }
            }
        }
        if change == Change::OutageEnded {
            log::info!("keys are refreshed again");
        }
    }
}

impl Handler<Observe> for KeyringRefresher {
    type Result = RefresherSnapshot;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> RefresherSnapshot {
        RefresherSnapshot {
            state: self.state,
            known_keys: self.gate.known_keys(),
            staleness_ms: millis(self.gate.staleness(self.clock.now())),
            interval_ms: millis(self.interval),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use actix::Addr;

    use super::*;
    use crate::access::{Keyring, Pepper, Refused};
    use crate::db::{NewKey, open};
    use crate::domain::clock::{Clock, FakeClock, Moment};
    use crate::domain::tenant::TenantChange;

    const INTERVAL: Duration = Duration::from_secs(1);

    struct Room {
        books: TenantBooks,
        store: Arc<dyn Store>,
        gate: Arc<Gate>,
        clock: Arc<FakeClock>,
        refresher: Addr<KeyringRefresher>,
        _folder: tempfile::TempDir,
    }

    /// A started refresher over a store that is not migrated yet: asking it for keys fails.
    fn room() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&format!("sqlite:{}/test.db", folder.path().display())).unwrap();
        let clock = Arc::new(FakeClock::at(Moment::from_unix_micros(1_000_000)));
        let gate = Arc::new(Gate::new(Pepper::of(b"pepper"), Keyring::default(), clock.now()));
        let books = TenantBooks::default();
        let refresher = KeyringRefresher::new(
            Arc::clone(&store),
            Arc::clone(&gate),
            books.clone(),
            clock.clone(),
            INTERVAL,
        )
        .start();
        Room { books, store, gate, clock, refresher, _folder: folder }
    }

    impl Room {
        /// Lets time pass until the refresher's snapshot is as wished. The runtime's clock stands still while a
        /// load runs on the thread pool, so that each step lets it come further.
        async fn wait_until(&self, is_reached: impl Fn(&RefresherSnapshot) -> bool) -> RefresherSnapshot {
            for _ in 0..100_000 {
                let snapshot = self.refresher.send(Observe).await.unwrap();
                if is_reached(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(INTERVAL).await;
            }
            panic!("the refresher never got there");
        }
    }

    #[actix::test]
    async fn an_outage_keeps_the_old_keys_and_ends_by_itself() {
        tokio::time::pause();
        let room = room();
        room.wait_until(|snapshot| snapshot.state.failures >= 2).await;
        assert_eq!(room.gate.admit("new", room.clock.now()), Err(Refused::StoreAway));

        room.store.migrate().unwrap();
        let tenant = room.store.add_tenant("t", room.clock.now()).unwrap();
        let digest = room.gate.pepper().digest("new");
        room.store.add_key(&NewKey::without_end(tenant.id, "", digest, room.clock.now())).unwrap();
        room.clock.advance(INTERVAL);
        let snapshot = room.wait_until(|snapshot| snapshot.known_keys == 1).await;

        assert!(!snapshot.state.is_store_away);
        assert_eq!(snapshot.staleness_ms, 0);
        assert_eq!(room.gate.admit("new", room.clock.now()).map(|caller| caller.tenant), Ok(tenant.id));
        assert_eq!(room.gate.admit("other", room.clock.now()), Err(Refused::Unknown));
    }

    #[actix::test]
    async fn a_revocation_is_noticed() {
        tokio::time::pause();
        let room = room();
        room.store.migrate().unwrap();
        let tenant = room.store.add_tenant("t", room.clock.now()).unwrap();
        let digest = room.gate.pepper().digest("key");
        let key = NewKey::without_end(tenant.id, "", digest, room.clock.now());
        let id = room.store.add_key(&key).unwrap();
        let before = room.wait_until(|snapshot| snapshot.known_keys == 1).await;
        assert!(room.gate.admit("key", room.clock.now()).is_ok());

        room.store.revoke_key(id, room.clock.now()).unwrap();
        // The load after the next one was certainly begun after the revocation.
        room.wait_until(|snapshot| snapshot.state.loads >= before.state.loads + 2).await;
        assert_eq!(room.gate.admit("key", room.clock.now()), Err(Refused::Revoked));
    }

    #[actix::test]
    async fn a_changed_policy_comes_into_force_and_its_book_before_it() {
        tokio::time::pause();
        let room = room();
        room.store.migrate().unwrap();
        let digest = room.gate.pepper().digest("key");
        let (tenant, _) = room.store.add_tenant_with_key("t", "", &digest, room.clock.now()).unwrap();
        let before = room.wait_until(|snapshot| snapshot.known_keys == 1).await;
        assert!(room.gate.admit("key", room.clock.now()).unwrap().policy.limits.is_unlimited());
        assert!(!room.books.has(tenant.id));

        let change = TenantChange { rpm: Some(Some(7)), ..TenantChange::default() };
        room.store.change_tenant("t", &change).unwrap();
        let then = room.wait_until(|snapshot| snapshot.state.loads >= before.state.loads + 2).await;
        assert_eq!(room.gate.admit("key", room.clock.now()).unwrap().policy.limits.rpm, Some(7));
        assert!(room.books.has(tenant.id));

        room.store.remove_tenant("t").unwrap();
        room.wait_until(|snapshot| snapshot.state.loads >= then.state.loads + 2).await;
        assert_eq!(room.gate.admit("key", room.clock.now()), Err(Refused::Unknown));
        assert!(!room.books.has(tenant.id));
    }
}
