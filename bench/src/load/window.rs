//! The span that counts.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::watch::Watch;

/// How long before the end of a window a request must have been due to count: what is under way at the end is
/// given up, and what should have been answered by then and was not is a failure.
const PATIENCE: Duration = Duration::from_millis(250);

/// The span that counts, after a time to warm up.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub(super) start: Instant,
    from: Instant,
    until: Instant,
}

impl Window {
    /// Begins now; counts for `length` after `warm_up`.
    pub fn begin(warm_up: Duration, length: Duration) -> Self {
        let start = Instant::now();
        let from = start + warm_up;
        Self { start, from, until: from + length }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    pub(super) fn counts(&self, instant: Instant) -> bool {
        instant >= self.from && instant < self.until
    }

    /// Whether what was due then must be answered within the window.
    pub(super) fn expects(&self, due: Instant) -> bool {
        due >= self.from && due + PATIENCE < self.until
    }

    /// From the first request, with the time to warm up.
    pub(super) fn whole(&self) -> Duration {
        self.until - self.start
    }

    /// Returns at the end, with what the watched processes used in the meantime.
    pub(super) async fn pass(&self, watch: &Watch) -> io::Result<Used> {
        sleep_until(self.from).await;
        let (began, cpu_us) = (Instant::now(), watch.cpu_us()?);
        sleep_until(self.until).await;
        let cpu_us = watch.cpu_us()?.saturating_sub(cpu_us);
        Ok(Used { cpu_us, metered: began.elapsed(), counted: self.until - self.from })
    }
}

/// What was used while a window passed.
pub(super) struct Used {
    cpu_us: u64,
    /// Between the two looks at the processor time. On a busy core a look comes late.
    metered: Duration,
    /// What results are counted for.
    counted: Duration,
}

impl Used {
    /// The rate of `count` things, and the processor time that one of them cost; null when there were none.
    pub(super) fn report(&self, count: usize) -> Value {
        // Counts of a run are far below 2^52.
        let per_second = count as f64 / self.counted.as_secs_f64();
        let cpu_us_per_second = self.cpu_us as f64 / self.metered.as_secs_f64();
        let cpu_us_each = (count > 0).then(|| cpu_us_per_second / per_second);
        json!({
            "count": count,
            "per_second": per_second,
            "cpu_us_each": cpu_us_each,
            "core_share": cpu_us_per_second / 1e6,
        })
    }
}
