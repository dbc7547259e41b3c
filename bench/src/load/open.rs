//! An open loop: requests are due at a fixed rate, whatever the answers do.
//!
//! Latency counts from the instant at which a request was due. So a server that stalls is charged for everybody who
//! had to wait, also for those whom a closed loop would not have sent meanwhile (coordinated omission).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::asking::ask;
use super::tally::Tally;
use super::target::Target;
use super::window::Window;
use crate::connection::Connection;
use crate::watch::Watch;

/// Requests that are due and not yet begun; when the client is so late, the pacer waits, and the lateness counts.
const DUE: usize = 1024;

/// Asks `per_second` times a second for `window`. Streams that last for `d` seconds are `per_second × d` at once.
///
/// # Errors
/// When a watched process is gone, or no thread can be had.
pub async fn open(target: &Target, per_second: f64, window: Window, watch: &Watch) -> io::Result<Value> {
    let tally = Tally::default();
    let arrivals = pace(window, per_second)?;
    let serving = serve(target, window, &tally, arrivals);
    let used = tokio::select! {
        used = window.pass(watch) => used?,
        () = serving => return Err(io::Error::other("the pacer ended early")),
    };
    // Dropped with `serving` is what is under way: its client leaves.
    let seen = tally.take();
    let (due, events) = (seen.due, seen.ages.count());
    let failures = seen.failures();
    let unanswered = seen.expected.saturating_sub(seen.answered.count());
    Ok(json!({
        "requests": used.report(due),
        "events": used.report(events),
        "latency": seen.answered.report(),
        "age": seen.ages.report(),
        "unanswered": unanswered,
        "failures": failures,
    }))
}

/// Says when each request is due, on a thread of its own: tokio's timers are only exact to a millisecond.
fn pace(window: Window, per_second: f64) -> io::Result<mpsc::Receiver<Instant>> {
    let (sender, receiver) = mpsc::channel(DUE);
    let gap = Duration::try_from_secs_f64(1.0 / per_second).map_err(io::Error::other)?;
    // One more second than needed: it ends when its receiver is gone.
    let until = window.start + window.whole() + Duration::from_secs(1);
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        let mut due = window.start;
        while due < until {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.blocking_send(due).is_err() {
                return;
            }
            due += gap;
        }
    })?;
    Ok(receiver)
}

/// Connections that nobody uses now.
type Idle = Arc<Mutex<Vec<Connection>>>;

async fn serve(target: &Target, window: Window, tally: &Tally, mut arrivals: mpsc::Receiver<Instant>) {
    let idle = Idle::default();
    let mut under_way = JoinSet::new();
    while let Some(due) = arrivals.recv().await {
        tally.lock().arrive(&window, due);
        let (target, tally, idle) = (target.clone(), tally.clone(), Arc::clone(&idle));
        under_way.spawn(async move {
            if let Err(error) = one(&target, (&window, due), &tally, &idle).await {
                tally.fail(&error);
            }
        });
        while under_way.try_join_next().is_some() {}
    }
}

async fn one(target: &Target, when: (&Window, Instant), tally: &Tally, idle: &Idle) -> io::Result<()> {
    let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => target.connect().await?,
    };
    ask(&mut connection, target, when, tally).await?;
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    Ok(())
}
