//! How fast the queue moves.

use std::time::Duration;

use crate::domain::clock::Moment;

/// One new interval counts for an eighth of the mean. Chosen: follows a change within some ten grants.
const SMOOTHING: u32 = 8;

/// The mean time between two grants to waiting requests.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Moment>,
    mean: Duration,
}

impl Pace {
    pub(super) fn note(&mut self, now: Moment) {
        if let Some(last) = self.last.replace(now) {
            let interval = now.saturating_since(last);
            self.mean = (self.mean * (SMOOTHING - 1) + interval) / SMOOTHING;
        }
    }

    /// How long `count` grants take; zero while nothing is known.
    pub(super) fn of(&self, count: usize) -> Duration {
        self.mean.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
