//! Of what the ledger knows every attempt, and since when; pure.

use std::collections::HashMap;
use std::time::Duration;

use super::identity::Names;
use crate::db::{CoverageRow, HoldTarget};
use crate::domain::clock::Moment;
use crate::quota::{AccountIndex, BookLimit, ModelIndex};

/// What was known when the process started.
#[derive(Clone, Debug)]
pub(super) struct Coverage {
    rows: HashMap<HoldTarget, (Moment, Duration)>,
    /// Nothing was ever sent, so that everything is known.
    is_fresh: bool,
}

/// A part of the past that the ledger does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gap {
    /// Of the limit.
    pub(super) window: Duration,
    /// Where the limit's last window began.
    pub(super) from: Moment,
    /// From then on every attempt is kept.
    pub(super) known_from: Moment,
    /// Requests whose attempts are not kept have ended by then.
    pub(super) unknown_until: Moment,
}

impl Coverage {
    pub(super) fn new(rows: &[CoverageRow], is_fresh: bool) -> Self {
        let rows = rows.iter().map(|row| (row.target.clone(), (row.since, row.kept))).collect();
        Self { rows, is_fresh }
    }

    /// The instant from which on every attempt at the target is kept, seen from `now`.
    pub(super) fn complete_from(&self, now: Moment, target: &HoldTarget) -> Moment {
        match self.rows.get(target) {
            Some((since, kept)) => (*since).max(now - *kept).min(now),
            None if self.is_fresh => Moment::default(),
            None => now,
        }
    }

    /// The part of a limit's last window, on an account, in which not every attempt is known; `None` where all are.
    pub(super) fn gap(
        &self,
        now: Moment,
        names: &Names,
        account: AccountIndex,
        limit: &BookLimit,
    ) -> Option<Gap> {
        let window = limit.window?;
        let from = now - window;
        let targets = || limit.models.iter().filter_map(|model| names.target(account, Some(*model)));
        let known_from = targets().map(|target| self.complete_from(now, target)).max()?;
        let unknown_until = targets().map(|target| self.unknown_until(now, target)).max()?;
        (known_from > from).then_some(Gap { window, from, known_from, unknown_until })
    }

    /// The last instant at which a request can have ended whose attempts, made before [`Coverage::complete_from`], are
    /// not kept. None was under way when a process began to keep them; but one whose hold was swept may have been
    /// answered long before its client had taken all of it.
    fn unknown_until(&self, now: Moment, target: &HoldTarget) -> Moment {
        let is_swept = self.rows.get(target).is_some_and(|(since, kept)| *since < now - *kept);
        if is_swept { Moment::NEVER } else { self.complete_from(now, target) }
    }

    /// What will be known from now on, to be written before anything is sent. Attempts at a target without limits are
    /// not written down: whoever limits it later must not take silence for rest.
    pub(super) fn renewed(&self, now: Moment, names: &Names, limits: &[BookLimit]) -> Vec<CoverageRow> {
        let renewed = |(_, model, target): (AccountIndex, ModelIndex, &HoldTarget)| {
            let row = |since, kept| CoverageRow { target: target.clone(), since, kept };
            match longest_window(limits, model) {
                Some(kept) => Some(row(self.complete_from(now, target), kept)),
                None => self.rows.get(target).map(|(_, kept)| row(Moment::NEVER, *kept)),
            }
        };
        names.targets().filter_map(renewed).collect()
    }
}

/// The longest window of a model's limits, zero where they have none; `None` for a model without limits.
fn longest_window(limits: &[BookLimit], model: ModelIndex) -> Option<Duration> {
    let bound = limits.iter().filter(|limit| limit.models.contains(&model));
    bound.map(|limit| limit.window.unwrap_or_default()).max()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{limit, names, spec};
    use super::*;
    use crate::quota::Book;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn start(coverage: &Coverage, now: Moment, windows: &[u64]) -> Vec<CoverageRow> {
        let limits: Vec<_> = windows.iter().map(|seconds| limit(1, *seconds)).collect();
        let spec = spec(&limits);
        coverage.renewed(now, &names(&spec), &Book::new(&spec).limits())
    }

    fn first(coverage: &Coverage, now: Moment) -> Moment {
        let names = names(&spec(&[]));
        let (.., target) = names.targets().next().unwrap();
        coverage.complete_from(now, target)
    }

    #[test]
    fn a_fresh_store_has_always_known_everything() {
        let fresh = Coverage::new(&[], true);
        let rows = start(&fresh, NOW, &[60]);
        assert_eq!(rows.len(), 2, "one for each account");
        let next = Coverage::new(&rows, false);
        assert!(first(&next, NOW + HOUR) <= NOW + HOUR - Duration::from_secs(60));
    }

    #[test]
    fn what_is_new_is_known_from_now_on() {
        let rows = start(&Coverage::new(&[], false), NOW, &[60]);
        assert!(rows.iter().all(|row| row.since == NOW));
        let next = Coverage::new(&rows, false);
        assert_eq!(first(&next, NOW + Duration::from_secs(10)), NOW);
    }

    #[test]
    fn what_was_swept_is_not_known() {
        let rows = start(&Coverage::new(&[], true), NOW, &[60]);
        let longer = start(&Coverage::new(&rows, false), NOW + HOUR, &[3_600]);
        let kept = rows[0].kept;
        assert_eq!(longer[0].since, NOW + HOUR - kept);
        assert!(longer[0].kept >= HOUR);
    }

    #[test]
    fn what_was_not_limited_for_a_while_is_not_known() {
        let rows = start(&Coverage::new(&[], true), NOW, &[60]);
        let unlimited = start(&Coverage::new(&rows, false), NOW + HOUR, &[]);
        let again = Coverage::new(&unlimited, false);
        assert_eq!(first(&again, NOW + HOUR * 2), NOW + HOUR * 2);
        assert_eq!(start(&Coverage::new(&[], true), NOW, &[]), []);
    }

    #[test]
    fn a_clock_that_was_set_back_knows_nothing() {
        let rows = start(&Coverage::new(&[], false), NOW, &[60]);
        assert_eq!(first(&Coverage::new(&rows, false), NOW - HOUR), NOW - HOUR);
    }
}
