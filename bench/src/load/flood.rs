//! A flood: every connection asks again as soon as it is answered, whatever the answer says, and comes back at once
//! where it is closed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::target::Target;
use super::window::Window;
use crate::watch::Watch;

/// After a connection that could not be had, so that a full backlog does not get all the processor time of the client.
const AFTER_NO_CONNECTION: Duration = Duration::from_millis(1);

/// What a flood has seen within its window.
#[derive(Debug, Default)]
struct Seen {
    statuses: BTreeMap<u16, usize>,
    connections: usize,
}

/// Asks over so many connections for `window`; reports how many answers a second come back, by status, and how many
/// connections were opened.
///
/// # Errors
/// When a watched process is gone.
pub async fn flood(target: &Target, connections: usize, window: Window, watch: &Watch) -> io::Result<Value> {
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(target.clone(), window));
    }
    let used = window.pass(watch).await?;
    let mut all = Seen::default();
    while let Some(seen) = clients.join_next().await {
        let seen = seen.unwrap_or_default();
        all.connections += seen.connections;
        seen.statuses
            .into_iter()
            .for_each(|(status, count)| *all.statuses.entry(status).or_default() += count);
    }
    let answers = used.report(all.statuses.values().sum());
    Ok(json!({ "requests": answers, "statuses": all.statuses, "connections": all.connections }))
}

async fn client(target: Target, window: Window) -> Seen {
    let mut seen = Seen::default();
    let until = window.start + window.whole();
    // An answer that is held back is not waited for beyond the window.
    while timeout_at(until, one_connection(&target, window, &mut seen)).await.is_ok() {}
    seen
}

async fn one_connection(target: &Target, window: Window, seen: &mut Seen) {
    let Ok(mut connection) = target.connect().await else { return sleep(AFTER_NO_CONNECTION).await };
    seen.connections += usize::from(window.counts(Instant::now()));
    while let Ok(status) = connection.ask(&target.request, |_| {}).await {
        if window.counts(Instant::now()) {
            *seen.statuses.entry(status).or_default() += 1;
        }
    }
}
