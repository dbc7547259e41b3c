//! How long something that failed is left alone.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::pause::doubled;

/// Chosen: a restart of Postgres takes about a second; the first try should not miss its end by much.
const FIRST: Duration = Duration::from_millis(250);
/// Chosen: what a window of seconds allows is lost while nobody notices that the ledger is back; a try a second and
/// replica costs a database that starts nothing.
const LONGEST: Duration = Duration::from_secs(1);

/// Doubling delays after failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Option<Moment>,
}

impl Backoff {
    pub(super) fn failed(&mut self, now: Moment) {
        let delay = doubled(FIRST, self.failures, LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + delay);
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The instant of the next try, when that is not now.
    pub(super) fn closed_until(&self, now: Moment) -> Option<Moment> {
        self.not_before.filter(|until| *until > now)
    }

    /// Whether the last try failed, so that one at a time is enough.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_end_with_a_success() {
        let now = Moment::from_unix_micros(0);
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..8)
            .map(|_| {
                backoff.failed(now);
                backoff.closed_until(now).unwrap().saturating_since(now).as_millis()
            })
            .collect();
        assert_eq!(delays, [250, 500, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]);
        assert_eq!(backoff.closed_until(now + LONGEST), None);
        assert!(backoff.is_failing());
        backoff.succeeded();
        assert!(!backoff.is_failing() && backoff.closed_until(now).is_none());
    }
}
