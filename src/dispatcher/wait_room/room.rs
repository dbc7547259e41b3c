//! The wait room of the process: the queue behind a lock, and its one timer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::arrival::{Arrival, Notice, Over};
use super::gauges::Gauges;
use super::layout;
use super::queue::{Door, FairQueue, NoSeat, Wake};
use super::sight::Groups;
use super::size::Size;
use super::snapshot::WaitRoomSnapshot;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::ids::TenantId;
use crate::domain::panics::Panics;
use crate::provider::{Declined, Freed, Seat, SeatKeeper};
use crate::quota::ModelIndex;
use crate::routing::{Catalog, Target};

/// Where the requests of all workers wait for capacity. A handle: clones share the room.
#[derive(Clone)]
pub struct WaitRoom(Arc<Inner>);

struct Inner {
    queue: Mutex<Guarded>,
    gauges: Arc<Gauges>,
    clock: SharedClock,
    panics: Panics,
    /// Rings when something is due earlier than the timer believes.
    earlier: Notify,
}

struct Guarded {
    queue: FairQueue<oneshot::Sender<Notice>>,
    /// When the timer will look.
    timer_at: Moment,
}

impl WaitRoom {
    /// A room for at most `max_waiting` requests to the providers of `catalog`. Somebody must run
    /// [`WaitRoom::keep_time`].
    pub fn new(catalog: &Catalog, max_waiting: usize, clock: SharedClock, panics: Panics) -> Self {
        let layout: Vec<Vec<Groups>> = catalog.providers().iter().map(|spec| layout::groups(spec)).collect();
        let gauges = Arc::new(Gauges::new(layout.len()));
        let queue = FairQueue::new(&layout, max_waiting, Arc::clone(&gauges));
        let queue = Mutex::new(Guarded { queue, timer_at: Moment::NEVER });
        Self(Arc::new(Inner { queue, gauges, clock, panics, earlier: Notify::new() }))
    }

    /// What tells the room that the provider at that position may have room. Costs two atomic operations while
    /// nobody waits for it.
    pub fn freed(&self, provider: usize) -> Freed {
        let room = self.clone();
        Freed::new(move || {
            room.0.gauges.advance(provider);
            if room.0.gauges.waiting(provider) > 0 {
                room.0.decide(|queue, now, wakes| queue.freed(now, provider, wakes));
            }
        })
    }

    /// Ends waits and begins rounds when their time has come; never returns. One for the process, away from the
    /// workers, so that no busy or dead one stops it. Cancel-safe: it holds nothing between its turns.
    pub async fn keep_time(self) {
        loop {
            let (now, next) = (self.0.clock.now(), self.set_timer());
            if next > now {
                let _is_earlier = timeout(next.saturating_since(now), self.0.earlier.notified()).await;
            }
            if next <= self.0.clock.now() {
                let tick = || self.0.decide(|queue, now, wakes| queue.tick(now, wakes));
                let _survived = self.0.panics.survive("the wait room", tick);
            }
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.queue.lock().queue.waiting()
    }

    pub fn snapshot(&self) -> WaitRoomSnapshot {
        let now = self.0.clock.now();
        self.0.queue.lock().queue.snapshot(now)
    }

    /// What a new request finds at a candidate before it asks; no lock while nobody waits there.
    pub(in crate::dispatcher) fn at_door(&self, target: Target, size: &Size) -> Door {
        if self.0.gauges.waiting(target.provider) == 0 {
            return Door::Free { round: self.0.gauges.round(target.provider) };
        }
        let now = self.0.clock.now();
        self.0.queue.lock().queue.at_door(now, target, size)
    }

    /// Seats a request; the notice comes over the receiver.
    ///
    /// # Errors
    /// [`Over`] when there is no place for one of its tenant.
    pub(in crate::dispatcher) fn park(
        &self,
        arrival: Arrival,
    ) -> Result<(Seat, oneshot::Receiver<Notice>), Over> {
        let (waker, woken) = oneshot::channel();
        let number = self.0.decide(|queue, now, wakes| queue.park(now, arrival, waker, wakes))?;
        Ok((Seat::new(number, Arc::clone(&self.0) as _), woken))
    }

    /// Takes back the request of that seat, whose candidates have declined.
    ///
    /// # Errors
    /// [`NoSeat`] when it does not wait on.
    pub(in crate::dispatcher) fn back(
        &self,
        seat: &Seat,
        declined: &[Declined],
    ) -> Result<oneshot::Receiver<Notice>, NoSeat> {
        let (waker, woken) = oneshot::channel();
        let back = (seat.number(), declined);
        self.0.decide(|queue, now, wakes| queue.back(now, back, waker, wakes)).map(|()| woken)
    }

    /// A place for a request that waits for its tenant's own limits, and for no provider; its old one if it has a
    /// number.
    ///
    /// # Errors
    /// [`Over`] when there is no place for one of its tenant.
    pub(in crate::dispatcher) fn sit_apart(
        &self,
        tenant: TenantId,
        weight: u32,
        number: Option<u64>,
    ) -> Result<Apart, Over> {
        let (waker, woken) = oneshot::channel();
        let who = (tenant, weight, number);
        let (number, is_first) =
            self.0.decide(|queue, now, wakes| queue.sit_apart(now, who, waker, wakes))?;
        Ok(Apart { room: self.clone(), tenant, number, first: (!is_first).then_some(woken) })
    }

    /// Whether somebody of that tenant, who came before, waits for its own limits.
    pub(in crate::dispatcher) fn is_behind_apart(&self, tenant: TenantId, number: Option<u64>) -> bool {
        self.0.queue.lock().queue.is_behind_apart(tenant, number)
    }

    /// Says when the timer looks next.
    fn set_timer(&self) -> Moment {
        let mut guarded = self.0.queue.lock();
        guarded.timer_at = guarded.queue.next_instant();
        guarded.timer_at
    }
}

impl Inner {
    /// Decides under the lock; wakes and sets the timer after it.
    fn decide<T>(
        &self,
        decision: impl FnOnce(
            &mut FairQueue<oneshot::Sender<Notice>>,
            Moment,
            &mut Vec<Wake<oneshot::Sender<Notice>>>,
        ) -> T,
    ) -> T {
        let now = self.clock.now();
        let mut wakes = Vec::new();
        let mut guarded = self.queue.lock();
        let decided = decision(&mut guarded.queue, now, &mut wakes);
        let is_earlier = guarded.queue.next_instant() < guarded.timer_at;
        drop(guarded);
        for Wake { waker, notice } in wakes {
            // Whose receiver is gone gives up its seat, and with it the offer.
            let _has_left = waker.send(notice);
        }
        if is_earlier {
            self.earlier.notify_one();
        }
        decided
    }
}

/// A place among those who wait, in no provider's line; given up by drop.
pub(in crate::dispatcher) struct Apart {
    room: WaitRoom,
    tenant: TenantId,
    number: u64,
    /// Tells when it is the first of its tenant; `None` once it is.
    first: Option<oneshot::Receiver<Notice>>,
}

impl Apart {
    pub(in crate::dispatcher) fn number(&self) -> u64 {
        self.number
    }

    /// Waits until it makes sense to ask the tenant's limits: `pause` for the first of the tenant; for all others until
    /// they are the first, or for `at_most`. Cancel-safe: the place stays what it is.
    pub(in crate::dispatcher) async fn wait(&mut self, pause: Duration, at_most: Duration) {
        match self.first.as_mut() {
            None => sleep(pause).await,
            Some(first) => {
                if timeout(at_most, first).await.is_ok() {
                    self.first = None;
                }
            }
        }
    }
}

impl fmt::Debug for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Apart({})", self.number)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.room.0.decide(|queue, _, wakes| queue.stand_up(self.tenant, self.number, wakes));
    }
}

impl SeatKeeper for Inner {
    fn granted(&self, number: u64, model: ModelIndex) {
        self.decide(|queue, now, wakes| queue.granted(now, number, model, wakes));
    }

    fn left(&self, number: u64) {
        self.decide(|queue, now, wakes| queue.left(now, number, wakes));
    }
}

impl fmt::Debug for WaitRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
