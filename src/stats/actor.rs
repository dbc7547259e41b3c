//! The writer of completion events.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::messages::{Flush, ObserveStats, Records, StatsSnapshot};
use crate::db::{self, Store, StoreError};
use crate::domain::clock::SharedClock;
use crate::domain::error_chain::ErrorChain;

/// How many batches wait unread. Each worker sends at most one every 50 ms or 512 events; 256 is more than
/// ten seconds of silence of this actor with one worker, and a second with a dozen.
const MAILBOX_CAPACITY: usize = 256;

/// How often old events are thrown away: often enough that a purge is small.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

/// Writes events to the store in batches; one write at a time, on the blocking pool.
pub struct StatsActor {
    batch: Batch,
    store: Arc<dyn Store>,
    clock: SharedClock,
    /// How long events are collected before they are written.
    flush: Duration,
    /// How long raw events are kept.
    retention: Duration,
    /// Whoever drains and waits for the last write.
    flushing: Vec<oneshot::Sender<usize>>,
    timer_is_set: bool,
}

impl StatsActor {
    pub fn new(store: Arc<dyn Store>, clock: SharedClock, flush: Duration, retention: Duration) -> Self {
        let (batch, flushing) = (Batch::default(), Vec::new());
        Self { batch, store, clock, flush, retention, flushing, timer_is_set: false }
    }

    /// Throws away events that are older than the retention.
    fn purge(&self) {
        let (store, before) = (Arc::clone(&self.store), self.clock.now() - self.retention);
        actix::spawn(async move {
            if let Err(error) = db::blocking(&store, move |store| store.purge_events(before)).await {
                log::warn!(error = ErrorChain(&error).to_string(); "old events could not be purged");
            }
        });
    }

    fn write_after(&mut self, delay: Duration, context: &mut Context<Self>) {
        if !std::mem::replace(&mut self.timer_is_set, true) {
            context.run_later(delay, |actor, context| {
                actor.timer_is_set = false;
                actor.write(context);
            });
        }
    }

    fn write(&mut self, context: &mut Context<Self>) {
        let Some(records) = self.batch.begin() else { return };
        let store = Arc::clone(&self.store);
        let myself = context.address();
        actix::spawn(async move {
            let written = db::blocking(&store, move |store| store.record(&records)).await;
            myself.do_send(Written(written.map(|_newly_inserted| ())));
        });
    }

    fn answer_flushing(&mut self) {
        let unwritten = self.batch.unwritten();
        for waiting in self.flushing.drain(..) {
            let _asker_is_gone = waiting.send(unwritten);
        }
    }
}

impl Actor for StatsActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
        // At once too: who restarts more often than the interval would never purge.
        self.purge();
        context.run_interval(PURGE_EVERY, |actor, _| actor.purge());
    }
}

impl Handler<Records> for StatsActor {
    type Result = ();

    fn handle(&mut self, Records(records): Records, context: &mut Self::Context) {
        self.batch.push(records);
        self.write_after(self.flush, context);
    }
}

impl Handler<Flush> for StatsActor {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, _: Flush, context: &mut Self::Context) -> Self::Result {
        let (waiting, answer) = oneshot::channel();
        self.flushing.push(waiting);
        self.write(context);
        if !self.batch.is_writing() {
            self.answer_flushing();
        }
        Box::pin(async move { answer.await.unwrap_or(0) })
    }
}

impl Handler<ObserveStats> for StatsActor {
    type Result = MessageResult<ObserveStats>;

    fn handle(&mut self, _: ObserveStats, _: &mut Self::Context) -> Self::Result {
        let snapshot: StatsSnapshot = self.batch.snapshot();
        MessageResult(snapshot)
    }
}

/// The write under way has ended; the actor says it to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct Written(Result<(), StoreError>);

impl Handler<Written> for StatsActor {
    type Result = ();

    fn handle(&mut self, Written(result): Written, context: &mut Self::Context) {
        match result {
            Ok(()) => {
                self.batch.succeed();
                if self.flushing.is_empty() {
                    self.write_after(self.flush, context);
                } else {
                    self.write(context);
                }
            }
            Err(error) => {
                let pause = self.batch.fail(self.flush);
                log::error!(error = ErrorChain(&error).to_string(), unwritten = self.batch.unwritten(),
                    retry_in_ms = pause.as_millis() as u64; "statistics could not be written");
                self.write_after(pause, context);
                self.answer_flushing();
            }
        }
        if !self.batch.is_writing() && self.batch.unwritten() == 0 {
            self.answer_flushing();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{Clock, FakeClock, Moment};
    use crate::domain::ids::{EventId, KeyId, RequestId, TenantId};
    use crate::domain::usage::{Outcome, Usage, UsageRecord};

    const FLUSH: Duration = Duration::from_millis(20);
    const RETENTION: Duration = Duration::from_secs(60);

    /// How long the purge may take before the test fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn event_ended_at(at: Moment) -> UsageRecord {
        UsageRecord {
            event_id: EventId::mint(),
            request_id: RequestId::from_incoming(None),
            tenant: TenantId(1),
            key: KeyId(1),
            served_by: None,
            outcome: Outcome::Served,
            streamed: false,
            attempts: 1,
            usage: Usage::default(),
            usage_reported: false,
            started_at: at,
            first_byte_at: None,
            ended_at: at,
        }
    }

    #[actix::test]
    async fn a_start_throws_old_events_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = db::open(&format!("sqlite:{}/test.db", folder.path().display())).unwrap();
        store.migrate().unwrap();
        let clock = Arc::new(FakeClock::at(Moment::from_unix_micros(1_000_000_000)));
        let (old, young) = (clock.now() - RETENTION - Duration::from_micros(1), clock.now() - RETENTION);
        store.record(&[event_ended_at(old), event_ended_at(young)]).unwrap();

        let _writer = StatsActor::new(Arc::clone(&store), clock, FLUSH, RETENTION).start();
        let purged = async {
            let count = |store: &dyn Store| {
                store.totals(None, Moment::from_unix_micros(0), Moment::NEVER).map(|totals| totals.requests)
            };
            while db::blocking(&store, count).await.unwrap() > 1 {}
        };
        tokio::time::timeout(PATIENCE, purged).await.unwrap();
    }
}
