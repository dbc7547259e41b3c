//! The writer of completion events.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::batch::{Action, Batch, Events, STORE_PATIENCE};
use super::messages::{Flush, Flushed, ObserveStats, Records, StatsSnapshot};
use super::recorder::LostEvents;
use super::spool::{Spool, SpoolError, SpoolState};
use crate::db::{self, Store, StoreError};
use crate::domain::clock::SharedClock;
use crate::domain::error_chain::ErrorChain;

/// How many batches wait unread. Each worker sends at most one every 50 ms or 512 events; 256 is more than
/// ten seconds of silence of this actor with one worker, and a second with a dozen.
const MAILBOX_CAPACITY: usize = 256;

/// How often old events are thrown away and abandoned spools looked for: often enough that a purge is small.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);

/// How long a [`Flush`] waits for a store that is slow, while everything it has lies in the spool too. Chosen: well
/// within what supervisors leave between SIGTERM and SIGKILL.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// What the actor goes by.
#[derive(Clone, Debug)]
pub struct StatsPlan {
    /// How long events are collected before they are written.
    pub flush: Duration,
    /// How long raw events are kept.
    pub retention: Duration,
    /// The folder of this store's spool.
    pub spool: PathBuf,
    /// Bytes that the spool may grow to.
    pub spool_max_bytes: u64,
}

/// Writes events to the store in batches, or to the spool while the store does not take them; one call to each at
/// a time, on the blocking pool. The pure `Batch` decides.
pub struct StatsActor {
    batch: Batch,
    store: Arc<dyn Store>,
    /// Locked on the blocking pool only, for the time of one file operation: a replay reads a segment, leaves, and
    /// comes back when the store has it.
    spool: Arc<Mutex<Spool>>,
    clock: SharedClock,
    plan: StatsPlan,
    /// Lost before they came here, or with a predecessor.
    lost: LostEvents,
    /// Whoever drains and waits for the last write.
    flushing: Vec<oneshot::Sender<Flushed>>,
    flush_timer_is_set: bool,
    /// Numbers the store calls, so that a timer finds its own.
    store_calls: u64,
    told_lost: u64,
}

impl StatsActor {
    pub fn new(store: Arc<dyn Store>, clock: SharedClock, plan: StatsPlan, lost: LostEvents) -> Self {
        let spool = Arc::new(Mutex::new(Spool::new(plan.spool.clone(), plan.spool_max_bytes)));
        Self {
            batch: Batch::default(),
            store,
            spool,
            clock,
            plan,
            // A predecessor has told its own.
            told_lost: lost.count(),
            lost,
            flushing: Vec::new(),
            flush_timer_is_set: false,
            store_calls: 0,
        }
    }

    /// Begins whatever is to be done now; comes after everything that happens.
    fn act(&mut self, context: &mut Context<Self>) {
        while let Some(action) = self.batch.next() {
            match action {
                Action::Store(events) => self.store(events, context),
                Action::Replay => self.replay(context),
                Action::Spool(events) => self.append(events, context),
            }
        }
        if self.batch.is_collecting() && !std::mem::replace(&mut self.flush_timer_is_set, true) {
            context.run_later(self.plan.flush, |actor, context| {
                actor.flush_timer_is_set = false;
                actor.batch.flush_is_due();
                actor.act(context);
            });
        }
        if self.batch.is_drained() {
            self.answer_flushing();
        }
    }

    fn store(&mut self, events: Events, context: &mut Context<Self>) {
        let (store, myself) = (Arc::clone(&self.store), context.address());
        actix::spawn(async move {
            let inserted = db::blocking(&store, move |store| store.record(&events)).await;
            myself.do_send(Stored(inserted));
        });
        self.watch_store_call(context);
    }

    fn replay(&mut self, context: &mut Context<Self>) {
        let (store, spool, myself) = (Arc::clone(&self.store), Arc::clone(&self.spool), context.address());
        actix::spawn(async move {
            let replayed = db::blocking(&store, move |store| Ok(replay_oldest(store, &spool))).await;
            myself.do_send(match replayed {
                Ok((result, state)) => Replayed(result, Some(state)),
                Err(error) => Replayed(Err(ReplayError::Store(error)), None),
            });
        });
        self.watch_store_call(context);
    }

    fn append(&self, events: Events, context: &Context<Self>) {
        let (spool, myself) = (Arc::clone(&self.spool), context.address());
        actix::spawn(async move {
            let append = move || {
                let mut spool = spool.lock();
                (spool.append(&events), spool.state())
            };
            myself.do_send(match tokio::task::spawn_blocking(append).await {
                Ok((result, state)) => Spooled(result, Some(state)),
                Err(error) => Spooled(Err(SpoolError::BrokenOff(error.to_string())), None),
            });
        });
    }

    fn watch_store_call(&mut self, context: &mut Context<Self>) {
        self.store_calls += 1;
        let call = self.store_calls;
        context.run_later(STORE_PATIENCE, move |actor, context| {
            if actor.store_calls == call {
                actor.batch.store_is_overdue();
                actor.act(context);
            }
        });
    }

    fn store_took(&mut self, inserted: usize) {
        if self.batch.store_is_away() {
            log::info!("the store takes statistics again");
        }
        self.batch.stored(inserted);
    }

    fn store_refused(&mut self, error: &StoreError, context: &mut Context<Self>) {
        if !self.batch.store_is_away() {
            log::error!(error = ErrorChain(error).to_string();
                "statistics could not be written to the store; they wait in the spool until it is back");
        }
        let pause = self.batch.store_failed(self.plan.flush);
        context.run_later(pause, |actor, context| {
            actor.batch.store_pause_is_over();
            actor.tell_losses();
            actor.act(context);
        });
    }

    fn disk_refused(
        &mut self,
        error: &SpoolError,
        is_told: bool,
        pause: Duration,
        context: &mut Context<Self>,
    ) {
        if !is_told {
            log::error!(error = ErrorChain(error).to_string();
                "the statistics' spool cannot be used: while the store is away, events wait in memory only");
        }
        context.run_later(pause, |actor, context| {
            actor.batch.disk_pause_is_over();
            actor.act(context);
        });
    }

    /// Says how many events were lost for want of memory; the spool says its own losses. At most once a pause.
    fn tell_losses(&mut self) {
        let lost = self.snapshot().lost;
        if lost > self.told_lost {
            log::error!(events_lost = lost - self.told_lost, events_lost_total = lost; "statistics are lost");
            self.told_lost = lost;
        }
    }

    fn snapshot(&self) -> StatsSnapshot {
        let mut snapshot = self.batch.snapshot();
        snapshot.lost += self.lost.count();
        snapshot
    }

    /// Throws away events that are older than the retention, and looks for what a dead process left.
    fn tidy(&mut self, context: &mut Context<Self>) {
        let (store, before) = (Arc::clone(&self.store), self.clock.now() - self.plan.retention);
        actix::spawn(async move {
            if let Err(error) = db::blocking(&store, move |store| store.purge_events(before)).await {
                log::warn!(error = ErrorChain(&error).to_string(); "old events could not be purged");
            }
        });
        self.batch.look_into_spool();
        self.act(context);
    }

    fn answer_flushing(&mut self) {
        if self.flushing.is_empty() {
            return;
        }
        let flushed = self.batch.flushed();
        for waiting in self.flushing.drain(..) {
            let _asker_is_gone = waiting.send(flushed);
        }
        self.batch.end_draining();
    }
}

/// Writes the oldest segment of the spool to the store and deletes it then; how many of its events were new. Blocks.
fn replay_oldest(store: &dyn Store, spool: &Mutex<Spool>) -> (Result<usize, ReplayError>, SpoolState) {
    let result = replay_segment(store, spool);
    (result, spool.lock().state())
}

fn replay_segment(store: &dyn Store, spool: &Mutex<Spool>) -> Result<usize, ReplayError> {
    let Some((segment, events)) = spool.lock().oldest().map_err(ReplayError::Spool)? else { return Ok(0) };
    let inserted = if events.is_empty() { Ok(0) } else { store.record(&events) };
    match inserted {
        Ok(inserted) => {
            spool.lock().discard(segment);
            log::info!(events = events.len(), new = inserted; "spooled statistics were written to the store");
            Ok(inserted)
        }
        Err(error) => {
            spool.lock().put_back();
            Err(ReplayError::Store(error))
        }
    }
}

/// Why a segment was not replayed.
#[derive(Debug)]
enum ReplayError {
    Store(StoreError),
    Spool(SpoolError),
}

impl Actor for StatsActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
        context.run_interval(TIDY_EVERY, Self::tidy);
        // At once too: what a predecessor left is written, and who restarts often purges all the same.
        self.tidy(context);
    }
}

impl Drop for StatsActor {
    /// Whoever dies of a panic says what goes with it. Some of it may be in a store call that succeeds.
    fn drop(&mut self) {
        let unwritten = self.batch.flushed().unwritten as u64;
        if std::thread::panicking() && unwritten > 0 {
            self.lost.add(unwritten);
            log::error!(events_lost = unwritten; "statistics are lost with their writer");
        }
    }
}

impl Handler<Records> for StatsActor {
    type Result = ();

    fn handle(&mut self, Records(records): Records, context: &mut Self::Context) {
        self.batch.push(records);
        self.act(context);
    }
}

impl Handler<Flush> for StatsActor {
    type Result = ResponseFuture<Flushed>;

    fn handle(&mut self, _: Flush, context: &mut Self::Context) -> Self::Result {
        let (waiting, answer) = oneshot::channel();
        self.flushing.push(waiting);
        self.batch.begin_draining();
        context.run_later(FLUSH_PATIENCE, |actor, _| {
            actor.batch.drain_is_overdue();
            actor.answer_flushing();
        });
        self.act(context);
        Box::pin(async move { answer.await.unwrap_or_default() })
    }
}

impl Handler<ObserveStats> for StatsActor {
    type Result = MessageResult<ObserveStats>;

    fn handle(&mut self, _: ObserveStats, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.snapshot())
    }
}

/// The store call with fresh events has ended; the actor says it to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct Stored(Result<usize, StoreError>);

impl Handler<Stored> for StatsActor {
    type Result = ();

    fn handle(&mut self, Stored(result): Stored, context: &mut Self::Context) {
        match result {
            Ok(inserted) => self.store_took(inserted),
            Err(error) => self.store_refused(&error, context),
        }
        self.act(context);
    }
}

/// The replay of a segment has ended; the actor says it to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct Replayed(Result<usize, ReplayError>, Option<SpoolState>);

impl Handler<Replayed> for StatsActor {
    type Result = ();

    fn handle(&mut self, Replayed(result, state): Replayed, context: &mut Self::Context) {
        self.batch.spool_is(state.unwrap_or_default());
        match result {
            Ok(inserted) => self.store_took(inserted),
            Err(ReplayError::Store(error)) => self.store_refused(&error, context),
            Err(ReplayError::Spool(error)) => {
                let is_told = self.batch.disk_is_away();
                let pause = self.batch.replay_failed(self.plan.flush);
                self.disk_refused(&error, is_told, pause, context);
            }
        }
        self.act(context);
    }
}

/// The append to the spool has ended; the actor says it to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct Spooled(Result<(), SpoolError>, Option<SpoolState>);

impl Handler<Spooled> for StatsActor {
    type Result = ();

    fn handle(&mut self, Spooled(result, state): Spooled, context: &mut Self::Context) {
        self.batch.spool_is(state.unwrap_or_default());
        match result {
            Ok(()) => {
                if self.batch.disk_is_away() {
                    log::info!("the statistics' spool can be used again");
                }
                self.batch.spooled();
            }
            Err(error) => {
                let is_told = self.batch.disk_is_away();
                let pause = self.batch.spool_failed(self.plan.flush);
                self.disk_refused(&error, is_told, pause, context);
            }
        }
        self.act(context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{Clock, FakeClock, Moment};
    use crate::domain::usage::UsageRecord;

    const FLUSH: Duration = Duration::from_millis(20);
    const RETENTION: Duration = Duration::from_secs(60);

    /// How long the purge may take before the test fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[actix::test]
    async fn a_start_throws_old_events_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = db::open(&format!("sqlite:{}/test.db", folder.path().display())).unwrap();
        store.migrate().unwrap();
        let clock = Arc::new(FakeClock::at(Moment::from_unix_micros(1_000_000_000)));
        let (old, young) = (clock.now() - RETENTION - Duration::from_micros(1), clock.now() - RETENTION);
        store.record(&[UsageRecord::ended_at(old), UsageRecord::ended_at(young)]).unwrap();

        let plan = StatsPlan {
            flush: FLUSH,
            retention: RETENTION,
            spool: folder.path().join("spool"),
            spool_max_bytes: 1024 * 1024,
        };
        let _writer = StatsActor::new(Arc::clone(&store), clock, plan, LostEvents::default()).start();
        let purged = async {
            let count = |store: &dyn Store| {
                store.totals(None, Moment::from_unix_micros(0), Moment::NEVER).map(|totals| totals.requests)
            };
            while db::blocking(&store, count).await.unwrap() > 1 {}
        };
        tokio::time::timeout(PATIENCE, purged).await.unwrap();
    }
}
