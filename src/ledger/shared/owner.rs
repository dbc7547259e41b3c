//! Carries out what the core decides: one thread that owns it, and one per connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::core::Core;
use super::handle::{Call, Order, Post, SharedLedgerStatus};
use super::job::{Cooling, Failure, Job, Report};
use super::verdict::{Answer, Verdict};
use crate::db::shared_ledger::{Budget, LedgerConnection};
use crate::db::{StoreError, StoreUrl};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::error_chain::ErrorChain;
use crate::domain::ids::ProviderId;

/// Connections of a process. Source: the contract says 2 to 4. Chosen: calls of different providers rarely wait for
/// each other, and one connection may hang.
const CONNECTIONS: usize = 3;

/// Rows of each kind in one sweep. Chosen: some ten milliseconds, and more than five seconds of use can leave.
const ROWS_PER_SWEEP: i64 = 2_000;

/// The longest sleep of the owner, so that nothing depends on the computed instant alone.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Starts the threads.
pub(super) fn start(url: &str, post: Arc<Post>, clock: SharedClock) -> Result<JoinHandle<()>, StoreError> {
    let StoreUrl::Postgres(_) = StoreUrl::parse(url)? else {
        return Err(StoreError::BadUrl("the shared ledger needs `postgres://`".to_owned()));
    };
    let mut desks = Vec::new();
    for number in 0..CONNECTIONS {
        // One job at a time: it is given to a connection that has none.
        let (give, jobs) = sync_channel(1);
        let worker = Worker {
            url: url.to_owned(),
            post: Arc::clone(&post),
            clock: Arc::clone(&clock),
            connection: None,
        };
        spawn(format!("ledger-{number}"), move || worker.run(&jobs))?;
        desks.push(Connection { give, job: None });
    }
    let owner = Owner { core: Core::new(), connections: desks, calls: Vec::new(), post, clock, drain: None };
    spawn("ledger".to_owned(), move || owner.run())
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    Builder::new().name(name).spawn(run).map_err(|error| StoreError::Query(Box::new(error)))
}

/// One connection's thread, as the owner sees it.
struct Connection {
    give: SyncSender<Job>,
    /// The number of the job that it has, also when nobody waits for its report any more.
    job: Option<u64>,
}

struct Owner {
    core: Core<Answer>,
    connections: Vec<Connection>,
    /// What is to be called when. As many as leases are alive: a few per model.
    calls: Vec<(Moment, Call)>,
    post: Arc<Post>,
    clock: SharedClock,
    drain: Option<Moment>,
}

impl Owner {
    fn run(mut self) {
        loop {
            let orders = self.wait();
            let mut answers = Vec::new();
            for order in orders {
                self.take(order, &mut answers);
            }
            let now = self.clock.now();
            answers.extend(self.expire(now));
            self.give_jobs(now);
            self.publish();
            for (answer, verdict) in answers {
                answer(verdict);
            }
            self.call_what_is_due(now);
            if self.drain.is_some_and(|deadline| deadline <= now || self.core.unwritten() == 0) {
                return;
            }
        }
    }

    /// Sleeps until an order arrives or something is due; all orders that arrived.
    fn wait(&self) -> Vec<Order> {
        let now = self.clock.now();
        let calls = self.calls.iter().map(|(at, _)| *at);
        let due = self.core.next_wake(now).into_iter().chain(self.drain).chain(calls).min();
        let sleep = due.map_or(LONGEST_SLEEP, |due| due.saturating_since(now).min(LONGEST_SLEEP));
        let mut inbox = self.post.inbox.lock();
        if inbox.orders.is_empty() {
            self.post.arrived.wait_for(&mut inbox, sleep);
        }
        inbox.orders.drain(..).collect()
    }

    fn take(&mut self, order: Order, answers: &mut Vec<(Answer, Verdict)>) {
        let now = self.clock.now();
        match order {
            Order::Reserve(claim, answer) => answers.extend(self.core.reserve(now, claim, answer)),
            Order::Settle(settlement) => self.core.settle(now, settlement),
            Order::Cool(provider, cooling) => self.core.cool(now, provider, cooling),
            Order::ForgetRefusals => self.core.forget_refusals(),
            Order::CallAt(at, call) => self.calls.push((at, call)),
            Order::Drain(deadline) => {
                self.drain = Some(deadline);
                self.core.drain();
            }
            Order::Report(report) => {
                let number = Some(report.number);
                let is_his = |connection: &&mut Connection| connection.job == number;
                if let Some(connection) = self.connections.iter_mut().find(is_his) {
                    connection.job = None;
                }
                answers.extend(self.core.finish(now, report));
            }
        }
    }

    /// Gives up what is late, and says so: a call that comes back all the same tells nobody.
    fn expire(&mut self, now: Moment) -> Vec<(Answer, Verdict)> {
        let failed = self.core.counters.calls_failed;
        let answers = self.core.expire(now);
        let late = self.core.counters.calls_failed - failed;
        if late > 0 {
            log::warn!("the shared ledger did not answer: {late} calls are given up, for now");
        }
        answers
    }

    fn give_jobs(&mut self, now: Moment) {
        for connection in self.connections.iter_mut().filter(|connection| connection.job.is_none()) {
            let Some(job) = self.core.next_job(now) else { return };
            connection.job = Some(job.number);
            // A thread that has gone takes no job; the call is given up at its deadline like any other.
            if connection.give.try_send(job).is_err() {
                log::error!("a connection's thread of the shared ledger has ended");
            }
        }
    }

    fn call_what_is_due(&mut self, now: Moment) {
        for (_, call) in self.calls.extract_if(.., |(at, _)| *at <= now) {
            call(now);
        }
    }

    fn publish(&mut self) {
        for (provider, cooling) in self.core.take_changed_cooling() {
            self.post.cooling.lock().insert(provider, cooling);
        }
        let mut inbox = self.post.inbox.lock();
        inbox.status = SharedLedgerStatus {
            counters: self.core.counters,
            is_away: self.core.is_away(),
            claims_waiting: self.core.claims_waiting(),
            unwritten: self.core.unwritten(),
        };
        inbox.status.counters.lease_spends = self.post.lease_spends.load(Ordering::Relaxed);
    }
}

impl Drop for Owner {
    /// However the owner ends: nobody who asks is left without an answer.
    fn drop(&mut self) {
        let now = self.clock.now();
        for order in self.post.close() {
            if let Order::Reserve(_, answer) = order {
                answer(Verdict::Away(now));
            }
        }
        for (answer, verdict) in self.core.expire(Moment::NEVER) {
            answer(verdict);
        }
    }
}

/// One connection, made when first needed and again after every failure.
struct Worker {
    url: String,
    post: Arc<Post>,
    clock: SharedClock,
    connection: Option<LedgerConnection>,
}

impl Worker {
    /// Works until the owner has gone.
    fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            let mut report = Report { number: job.number, ..Report::default() };
            if let Err(error) = self.work(job, &mut report) {
                // Its state is unknown: it might still be at the call.
                self.connection = None;
                let is_unreachable = matches!(error, StoreError::Unreachable { .. });
                report.failure = Some(if is_unreachable { Failure::Unreachable } else { Failure::Refused });
                log::warn!("the shared ledger did not answer: {}", ErrorChain(&error));
            }
            self.post.push(Order::Report(report));
        }
    }

    fn work(&mut self, job: Job, report: &mut Report) -> Result<(), StoreError> {
        let Job { provider, work, .. } = job;
        let clock = Arc::clone(&self.clock);
        let ledger = match &mut self.connection {
            Some(ledger) => ledger,
            missing => missing.insert(LedgerConnection::open(&self.url)?),
        };
        if !work.release.is_empty() {
            ledger.release(&work.release)?;
        }
        if work.block {
            ledger.block(None)?;
        }
        for cooling in &work.cooling {
            cool(ledger, &provider, cooling)?;
        }
        if !work.introduce.is_empty() {
            let budgets: Vec<&Budget> = work.introduce.iter().map(Arc::as_ref).collect();
            ledger.introduce(&provider, &budgets)?;
        }
        report.is_prepared = true;
        if !work.settle.is_empty() {
            report.settled = Some(ledger.settle(&work.settle, clock.now())?);
        }
        if work.sweep {
            report.swept = u64::try_from(ledger.sweep(ROWS_PER_SWEEP)?).unwrap_or(0);
        }
        if !work.reserve.is_empty() {
            report.was_asked = true;
            report.reserved = Some(ledger.reserve(&provider, &work.reserve)?);
        }
        Ok(())
    }
}

fn cool(ledger: &mut LedgerConnection, provider: &ProviderId, cooling: &Cooling) -> Result<(), StoreError> {
    match cooling {
        Cooling::Cool { part, duration, why } => ledger.cool_down(provider, part, *duration, *why),
        Cooling::Reopen { part } => ledger.reopen(provider, part),
    }
}
