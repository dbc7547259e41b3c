//! Streams that are opened and left open.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::asking::ask;
use super::tally::Tally;
use super::target::Target;
use super::window::Window;
use crate::watch::Watch;

/// Streams are opened in steps, so that nobody's backlog of connections overflows: 2,000 a second.
const STEP: Duration = Duration::from_millis(10);
const STREAMS_PER_STEP: usize = 20;

/// How long the first event of the last stream may take.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Opens `streams`, waits until each has an event, then for `settle`, and looks at the memory of the watched.
///
/// # Errors
/// When a watched process is gone.
pub async fn held(target: &Target, streams: usize, settle: Duration, watch: &Watch) -> io::Result<Value> {
    let (tally, window) = (Tally::default(), Window::begin(Duration::ZERO, Duration::MAX / 4));
    let mut under_way = JoinSet::new();
    let mut steps = interval(STEP);
    for stream in 0..streams {
        if stream % STREAMS_PER_STEP == 0 {
            steps.tick().await;
        }
        under_way.spawn(hold(target.clone(), window, tally.clone()));
    }
    let begun = all_begun(&tally, streams).await;
    sleep(settle).await;
    let rss_kib = watch.rss_kib()?;
    let seen = tally.take();
    Ok(json!({ "streams": begun, "rss_kib": rss_kib, "failures": seen.failures() }))
}

async fn hold(target: Target, window: Window, tally: Tally) {
    let asking = async {
        let mut connection = target.connect().await?;
        ask(&mut connection, &target, (&window, Instant::now()), &tally).await
    };
    if let Err(error) = asking.await {
        tally.fail(&error);
    }
}

async fn all_begun(tally: &Tally, streams: usize) -> usize {
    let patience = Instant::now() + PATIENCE;
    loop {
        let begun = tally.lock().begun;
        if begun >= streams || Instant::now() > patience {
            return begun;
        }
        sleep(POLL).await;
    }
}
