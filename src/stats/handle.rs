//! The way to the writer of the statistics, whichever it is now.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::SendError;
use actix::prelude::Request;
use actix::{Addr, Handler, Message};
use parking_lot::Mutex;

use super::actor::StatsActor;
use super::messages::Records;
use super::recorder::HandOver;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::pause::doubled;

/// How long after a restart the next one comes at the earliest: doubled each time, up to the second. Chosen: the
/// recorders keep minutes of events, and an actor that dies of what it finds would only fill the log.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Holds the [`StatsActor`] and starts another when it has died of a panic. What the dead one had only in memory is
/// lost, and counted by it but for what lay in its mailbox; its spool is inherited, and what the recorders have not
/// handed over waits for the next.
#[derive(Clone)]
pub struct StatsHandle(Arc<Inner>);

struct Inner {
    start: Box<dyn Fn() -> Addr<StatsActor> + Send + Sync>,
    clock: SharedClock,
    /// Locked for one look and one message: a batch of each worker every 50 ms.
    child: Mutex<Child>,
}

struct Child {
    address: Addr<StatsActor>,
    restarts: u32,
    not_before: Moment,
}

impl StatsHandle {
    /// Starts the actor by `start`, which is kept for the next one.
    pub fn start(clock: SharedClock, start: impl Fn() -> Addr<StatsActor> + Send + Sync + 'static) -> Self {
        let child = Child { address: start(), restarts: 0, not_before: Moment::default() };
        Self(Arc::new(Inner { start: Box::new(start), clock, child: Mutex::new(child) }))
    }

    /// The way for a worker's batches.
    pub fn hand_over(&self) -> HandOver {
        let handle = self.clone();
        Arc::new(move |records| handle.record(records))
    }

    /// Hands events over. They come back while the mailbox is full, and between a death and the next start.
    fn record(&self, records: Records) -> Result<(), SendError<Records>> {
        let mut child = self.0.child.lock();
        // One that was just started must live until the next time: who dies of its start takes nothing along.
        if self.0.revive(&mut child) {
            return Err(SendError::Closed(records));
        }
        child.address.try_send(records)
    }

    /// Asks the actor.
    pub fn send<M>(&self, message: M) -> Request<StatsActor, M>
    where
        M: Message<Result: Send> + Send + 'static,
        StatsActor: Handler<M>,
    {
        let mut child = self.0.child.lock();
        self.0.revive(&mut child);
        child.address.send(message)
    }
}

impl Inner {
    /// Starts another if the last one is dead and it is time; whether it did.
    fn revive(&self, child: &mut Child) -> bool {
        if child.address.connected() {
            return false;
        }
        let now = self.clock.now();
        if now < child.not_before {
            return false;
        }
        child.address = (self.start)();
        child.restarts = child.restarts.saturating_add(1);
        child.not_before = now + doubled(FIRST_PAUSE, child.restarts, PAUSE_MAX);
        log::error!(restarts = child.restarts; "the writer of the statistics died and was started again");
        true
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use actix::{Actor, Arbiter};

    use super::*;
    use crate::db::{self, Store};
    use crate::domain::clock::{Clock, SystemClock};
    use crate::domain::usage::{Outcome, Surface, UsageRecord};
    use crate::metrics::{Ended, Metrics};
    use crate::stats::{LostEvents, ObserveStats, OpenRequests, Recorder, StatsPlan};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The machine's clock, which panics when it is asked while it is told to.
    #[derive(Debug, Default)]
    struct TrippingClock {
        trips: AtomicBool,
    }

    impl Clock for TrippingClock {
        fn now(&self) -> Moment {
            assert!(!self.trips.load(Ordering::Acquire), "on purpose");
            SystemClock::start().now()
        }
    }

    fn record() -> UsageRecord {
        UsageRecord::ended_at(SystemClock::start().now())
    }

    fn ended() -> Ended {
        Ended {
            surface: Surface::OpenAi,
            outcome: Outcome::Served,
            duration: Duration::ZERO,
            first_token: None,
            before: None,
            after: None,
            waited: None,
        }
    }

    fn store(folder: &Path) -> Arc<dyn Store> {
        let store = db::open(&format!("sqlite:{}/test.db", folder.display())).unwrap();
        store.migrate().unwrap();
        store
    }

    async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
        let waiting = async {
            while !is_met() {
                actix_web::rt::time::sleep(Duration::from_millis(5)).await;
            }
        };
        actix_web::rt::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    #[actix_web::test]
    async fn a_writer_that_panics_is_followed_by_another_and_no_waiting_event_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (store, clock, lost) =
            (store(folder.path()), Arc::new(TrippingClock::default()), LostEvents::default());
        let plan = StatsPlan {
            flush: Duration::from_millis(20),
            retention: Duration::from_secs(3_600),
            spool: folder.path().join("spool"),
            spool_max_bytes: 1 << 20,
        };
        let arbiter = Arbiter::new();
        let handle = {
            let (arbiter, store, clock, lost) =
                (arbiter.handle(), Arc::clone(&store), Arc::clone(&clock), lost.clone());
            StatsHandle::start(Arc::new(SystemClock::start()), move || {
                let (store, clock, lost, plan) =
                    (Arc::clone(&store), Arc::clone(&clock), lost.clone(), plan.clone());
                StatsActor::start_in_arbiter(&arbiter, move |_| StatsActor::new(store, clock, plan, lost))
            })
        };
        let requests = Arc::clone(Metrics::new().unwrap().requests());
        let recorder = Recorder::new(handle.hand_over(), OpenRequests::default(), lost.clone(), requests);
        let stored = || store.totals(None, Moment::default(), Moment::NEVER).unwrap().requests;
        recorder.record(record(), &ended());
        until("the first event", || stored() == 1).await;

        // Its successors die when they start, in which they ask what the time is.
        clock.trips.store(true, Ordering::Release);
        handle.0.child.lock().address.do_send(Die);
        until("it died", || !handle.0.child.lock().address.connected()).await;
        for _ in 0..10 {
            recorder.record(record(), &ended());
        }
        until("its successors died", || handle.0.child.lock().restarts >= 2).await;
        clock.trips.store(false, Ordering::Release);
        until("every event", || stored() == 11).await;
        assert_eq!(lost.count(), 0);
        assert!(handle.send(ObserveStats).await.is_ok());
        arbiter.stop();
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Die;

    impl Handler<Die> for StatsActor {
        type Result = ();

        fn handle(&mut self, _: Die, _: &mut Self::Context) {
            panic!("on purpose");
        }
    }
}
