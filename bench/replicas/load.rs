//! Who asks, and what is counted.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use freellmapi::domain::clock::{Moment, SharedClock};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::limiter::Limiter;

/// After a failure, so that who is refused at once does not get all the processor time.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Requests that are due and not yet begun. When the replica is so late the pacer waits, and the lateness counts.
const DUE: usize = 1_024;

/// How long what was due is waited for after the window; what comes later has not been answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// How it is asked.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    /// Everybody asks again as soon as he is answered.
    Closed { askers: usize },
    /// Requests are due at even distances. A latency counts from the instant at which its request was due, so that
    /// a pause is charged for everybody who had to wait.
    Open { per_second: u32 },
}

/// The span that counts, after a time to warm up.
pub(super) struct Window {
    clock: SharedClock,
    start: Moment,
    from: Moment,
    until: Moment,
}

/// What has been seen.
#[derive(Default)]
struct Tally {
    /// In the window; in an open loop those that were due in it.
    admitted: u64,
    due: u64,
    /// Of an open loop; those of a closed one are of its own queue.
    latencies_us: Vec<u128>,
    failures: u64,
    first_failure: Option<String>,
}

type Seen = Rc<RefCell<Tally>>;

impl Window {
    /// Begins now; counts for `length` after `warm_up`.
    pub(super) fn begin(clock: SharedClock, warm_up: Duration, length: Duration) -> Self {
        let start = clock.now();
        let from = start + warm_up;
        Self { clock, start, from, until: from + length }
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn counts(&self, instant: Moment) -> bool {
        instant >= self.from && instant < self.until
    }
}

impl Tally {
    /// Counts wherever in the run it was: a run with failures measures something else.
    fn fail(&mut self, reason: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(reason);
    }
}

/// Asks for as long as the window lasts.
///
/// # Errors
/// When no thread can be had.
pub(super) async fn run(limiter: &Rc<Limiter>, window: Window, manner: Manner) -> io::Result<Value> {
    let (window, seen) = (Rc::new(window), Seen::default());
    match manner {
        Manner::Closed { askers } => closed(limiter, &window, &seen, askers).await,
        Manner::Open { per_second } => open(limiter, &window, &seen, per_second).await?,
    }
    let seen = seen.take();
    let counted = window.until.saturating_since(window.from).as_secs_f64();
    Ok(json!({
        "admitted": seen.admitted,
        "ledger": limiter.counters(),
        "seconds": counted,
        "unanswered": seen.due.saturating_sub(seen.admitted + seen.failures),
        "failures": { "count": seen.failures, "first": seen.first_failure },
        "latencies_us": seen.latencies_us,
    }))
}

async fn closed(limiter: &Rc<Limiter>, window: &Rc<Window>, seen: &Seen, askers: usize) {
    let mut all = JoinSet::new();
    for _ in 0..askers {
        all.spawn_local(ask_on(Rc::clone(limiter), Rc::clone(window), Rc::clone(seen)));
    }
    all.join_all().await;
}

async fn ask_on(limiter: Rc<Limiter>, window: Rc<Window>, seen: Seen) {
    while window.now() < window.until {
        match limiter.admit().await {
            Ok(admission) => {
                seen.borrow_mut().admitted += u64::from(window.counts(window.now()));
                limiter.end(admission);
            }
            Err(reason) => {
                seen.borrow_mut().fail(reason);
                sleep(AFTER_FAILURE).await;
            }
        }
        // Who is answered from memory must not keep the others from asking.
        yield_now().await;
    }
}

async fn open(limiter: &Rc<Limiter>, window: &Rc<Window>, seen: &Seen, per_second: u32) -> io::Result<()> {
    let mut arrivals = pace(window, per_second)?;
    let mut under_way = JoinSet::new();
    while let Some(due) = arrivals.recv().await {
        under_way.spawn_local(ask_once(Rc::clone(limiter), Rc::clone(window), Rc::clone(seen), due));
        while under_way.try_join_next().is_some() {}
    }
    // Those that are dropped after this are the unanswered ones.
    let _late = timeout(PATIENCE, async { while under_way.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn ask_once(limiter: Rc<Limiter>, window: Rc<Window>, seen: Seen, due: Moment) {
    let counts = window.counts(due);
    seen.borrow_mut().due += u64::from(counts);
    match limiter.admit().await {
        Ok(admission) => {
            if counts {
                let mut seen = seen.borrow_mut();
                seen.admitted += 1;
                seen.latencies_us.push(window.now().saturating_since(due).as_micros());
            }
            limiter.end(admission);
        }
        Err(reason) => seen.borrow_mut().fail(reason),
    }
}

/// Says when each request is due, on a thread of its own: tokio's timers are only exact to a millisecond.
fn pace(window: &Window, per_second: u32) -> io::Result<mpsc::Receiver<Moment>> {
    let (sender, receiver) = mpsc::channel(DUE);
    let gap = Duration::from_secs(1) / per_second.max(1);
    let (clock, mut due, until) = (window.clock.clone(), window.start, window.until);
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        while due < until {
            rest(due.saturating_since(clock.now()));
            if sender.blocking_send(due).is_err() {
                return;
            }
            due = due + gap;
        }
    })?;
    Ok(receiver)
}

#[expect(clippy::disallowed_methods, reason = "an even pace is what this thread is for")]
fn rest(length: Duration) {
    std::thread::sleep(length);
}
