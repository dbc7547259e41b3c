//! The handle by which the rest of the process asks the shared ledger.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use super::counters::SharedLedgerCounters;
use super::job::{Cooling, Report};
use super::memory::KnownCooling;
use super::owner;
use super::verdict::{Answer, Verdict};
use crate::db::StoreError;
use crate::db::shared_ledger::{AccountPart, Claim, Settlement, Why};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::ids::ProviderId;

/// Orders that wait for the owner's next turn. Chosen: a turn takes microseconds, so this many wait only if the
/// machine stands still; news have their own, larger bound in the core.
const ORDERS_MAX: usize = 65_536;

/// When to ask again that found the inbox full.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Called on the owner's thread, with the time: it must only pass that on.
pub(super) type Call = Box<dyn FnOnce(Moment) + Send>;

/// What the owner is told.
pub(super) enum Order {
    Reserve(Claim, Answer),
    Settle(Settlement),
    Cool(ProviderId, Cooling),
    ForgetRefusals,
    Report(Report),
    /// Call that at that instant.
    CallAt(Moment, Call),
    /// Finish what is unwritten by that instant, then end.
    Drain(Moment),
}

/// Where the shared ledger stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SharedLedgerStatus {
    pub counters: SharedLedgerCounters,
    /// Whether the last call failed.
    pub is_away: bool,
    pub claims_waiting: usize,
    /// Attempts of which something is yet to be written.
    pub unwritten: usize,
}

#[derive(Default)]
pub(super) struct Inbox {
    pub(super) orders: VecDeque<Order>,
    pub(super) status: SharedLedgerStatus,
    /// The owner has ended: nobody takes orders any more.
    pub(super) is_closed: bool,
}

/// What the handle, the owner and its connections share. A mutex held for a push, and not a channel, because reports
/// and news must never be refused by a bound that claims have filled.
#[derive(Default)]
pub(super) struct Post {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) arrived: Condvar,
    /// Attempts that leases paid for. Outside the inbox, for they are what need not ask the owner.
    pub(super) lease_spends: AtomicU64,
    /// What is left alone of each provider, as far as is known; replaced as a whole when it changes.
    pub(super) cooling: Mutex<BTreeMap<ProviderId, Arc<[KnownCooling]>>>,
}

impl Post {
    pub(super) fn push(&self, order: Order) {
        let mut inbox = self.inbox.lock();
        if !inbox.is_closed {
            inbox.orders.push_back(order);
            self.arrived.notify_one();
        }
    }

    /// Takes no more orders; those that nobody has taken.
    pub(super) fn close(&self) -> VecDeque<Order> {
        let mut inbox = self.inbox.lock();
        inbox.is_closed = true;
        std::mem::take(&mut inbox.orders)
    }
}

/// Asks the budgets that all replicas share. Never blocks, but for [`Self::drain`]; may be called by anybody.
pub struct SharedLedger {
    post: Arc<Post>,
    clock: SharedClock,
    owner: Mutex<Option<JoinHandle<()>>>,
}

impl SharedLedger {
    /// Starts the owner and its connections to the Postgres at `url`, which may be away.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`]; [`StoreError::Query`] when the machine has no thread to give.
    pub fn start(url: &str, clock: SharedClock) -> Result<Self, StoreError> {
        let post = Arc::new(Post::default());
        let owner = owner::start(url, Arc::clone(&post), Arc::clone(&clock))?;
        Ok(Self { post, clock, owner: Mutex::new(Some(owner)) })
    }

    /// Asks for an attempt; `answer` is called exactly once, within a second and the owner's turn. An attempt that is
    /// granted must be settled, on every path.
    pub fn reserve(&self, claim: Claim, answer: Answer) {
        let mut inbox = self.post.inbox.lock();
        if inbox.is_closed || inbox.orders.len() >= ORDERS_MAX {
            drop(inbox);
            return answer(Verdict::Away(self.clock.now() + ASK_AGAIN));
        }
        inbox.orders.push_back(Order::Reserve(claim, answer));
        drop(inbox);
        self.post.arrived.notify_one();
    }

    /// Tells what has become known of a granted attempt: the first byte, the end. Written at once where others may wait
    /// for what it gives back; else with more of its kind within 200 ms, sooner where calls are slow. Kept while the
    /// ledger is away.
    pub fn settle(&self, settlement: Settlement) {
        self.post.push(Order::Settle(settlement));
    }

    /// Leaves a part of an account alone for that long, for good when `None`: at once in this process, and in all
    /// replicas with the next call. Never shortens an earlier cooldown.
    pub fn cool_down(&self, provider: &ProviderId, part: AccountPart, duration: Option<Duration>, why: Why) {
        self.post.push(Order::Cool(provider.clone(), Cooling::Cool { part, duration, why }));
    }

    /// Ends a cooldown.
    pub fn reopen(&self, provider: &ProviderId, part: AccountPart) {
        self.post.push(Order::Cool(provider.clone(), Cooling::Reopen { part }));
    }

    /// What is left alone of a provider as far as this process knows: what it began itself, and what the ledger said
    /// when it was asked last, what waits for its probe included.
    pub(super) fn cooling(&self, provider: &ProviderId) -> Arc<[KnownCooling]> {
        self.post.cooling.lock().get(provider).cloned().unwrap_or_default()
    }

    /// Forgets what was refused: call it when limits have changed.
    pub fn forget_refusals(&self) {
        self.post.push(Order::ForgetRefusals);
    }

    /// Has that called at that instant or soon after, unless the owner ends before.
    pub(super) fn call_at(&self, at: Moment, call: Call) {
        self.post.push(Order::CallAt(at, call));
    }

    /// The time on the ledger's clock.
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// How often the database turned out to be an older copy of itself.
    pub(super) fn restores_seen(&self) -> u64 {
        self.post.inbox.lock().status.counters.restores_seen
    }

    /// Counts an attempt that a lease paid for.
    pub(super) fn count_lease_spend(&self) {
        self.post.lease_spends.fetch_add(1, Ordering::Relaxed);
    }

    /// Where it stands, as of the owner's last turn.
    pub fn snapshot(&self) -> SharedLedgerStatus {
        self.post.inbox.lock().status
    }

    /// Writes what is unwritten, for at most `patience`, and ends the owner; whether everything was written. Blocks:
    /// not for an arbiter's thread. Whoever asks after it is told that the ledger is away.
    pub fn drain(&self, patience: Duration) -> bool {
        let Some(owner) = self.owner.lock().take() else { return true };
        self.post.push(Order::Drain(self.clock.now() + patience));
        let has_ended = owner.join().is_ok();
        has_ended && self.snapshot().unwritten == 0
    }
}

impl Drop for SharedLedger {
    /// Ends the owner without waiting; holds that were not settled end by their crash caps.
    fn drop(&mut self) {
        self.post.push(Order::Drain(self.clock.now()));
    }
}

impl fmt::Debug for SharedLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLedger").field("status", &self.snapshot()).finish_non_exhaustive()
    }
}
