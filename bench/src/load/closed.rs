//! A closed loop: every connection asks again as soon as it has its answer.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::tally::Tally;
use super::target::Target;
use super::window::Window;
use crate::latencies::Latencies;
use crate::watch::Watch;

/// After a failure, so that a server that refuses everybody does not get all the processor time of the client.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Keeps `connections` busy for `window`, and finds how many answers a second come back. The latencies of a closed
/// loop are those of its own queue.
///
/// # Errors
/// When a watched process is gone.
pub async fn closed(target: &Target, connections: usize, window: Window, watch: &Watch) -> io::Result<Value> {
    let tally = Tally::default();
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(target.clone(), window, tally.clone()));
    }
    let used = window.pass(watch).await?;
    let mut answered = Latencies::default();
    while let Some(latencies) = clients.join_next().await {
        answered.merge(latencies.unwrap_or_default());
    }
    let failures = tally.take().failures();
    let answers = used.report(answered.count());
    Ok(json!({ "requests": answers, "latency": answered.report(), "failures": failures }))
}

async fn client(target: Target, window: Window, tally: Tally) -> Latencies {
    let mut answered = Latencies::default();
    while !window.is_over() {
        if let Err(error) = one_connection(&target, window, &mut answered).await {
            tally.fail(&error);
            sleep(AFTER_FAILURE).await;
        }
    }
    answered
}

async fn one_connection(target: &Target, window: Window, answered: &mut Latencies) -> io::Result<()> {
    let mut connection = target.connect().await?;
    let mut asked = Instant::now();
    while !window.is_over() {
        connection.exchange(&target.request, |_| {}).await?;
        let now = Instant::now();
        if window.counts(now) {
            answered.add(u64::try_from((now - asked).as_nanos()).unwrap_or(u64::MAX));
        }
        asked = now;
    }
    Ok(())
}
