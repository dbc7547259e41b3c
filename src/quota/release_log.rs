//! When how much of a budget comes back.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::clock::Moment;

use super::span::Span;

/// Up to this maximum every release keeps its exact instant. Chosen: the exact log has at most as many entries
/// as the budget has units, so up to here it is no longer than slots would make it.
const EXACT_MAX: u64 = 1024;

/// Slots per window above that. Chosen: a unit comes back late by at most a thousandth of the window (half of
/// that on average), far inside the one per cent of a pool that may go unused.
const SLOTS_PER_WINDOW: u32 = 1024;

/// Slots are never shorter than this, which bounds their number for windows of a second and less.
const MIN_SLOT: Duration = Duration::from_millis(1);

/// Answers that are remembered until something changes. Chosen: a refusal asks two questions, and refusals in a row
/// are of a few sizes.
const MEMO_SIZE: usize = 4;

/// Amounts by the instant of their release, with their sum kept.
///
/// Bounded: with a maximum of up to [`EXACT_MAX`], one entry per attempt with at least one unit, all of which
/// fitted under the maximum when they were taken, so at most `max` entries. Above it release instants are rounded
/// *up* to slots, all of them between now and the furthest release, so at most
/// (window + 5 s + longest send delay) / slot + 2 entries: about 1,030 for windows of minutes and more. A calendar's
/// releases are few by themselves: one per reset. A restored book has no more than it had before.
///
/// One row of memory, sorted, not a tree: what comes is nearly always later than what is there, and a refusal, by
/// far the most frequent answer when it is full, only walks along it.
#[derive(Debug)]
pub(super) struct ReleaseLog {
    /// In microseconds; 1 keeps instants exact.
    slot: i64,
    releases: VecDeque<(Moment, u64)>,
    sum: u64,
    /// Everything that was to be released until here is gone.
    latest: Moment,
    memo: Memo,
}

/// What [`ReleaseLog::instant_freeing`] has answered since the last change, newest first. The log is full when it is
/// asked, and walking along a thousand entries costs a microsecond for each account.
#[derive(Debug, Default)]
struct Memo(Cell<[Option<Remembered>; MEMO_SIZE]>);

/// An amount, and the instant by which it will have been released.
type Remembered = (u64, Option<Moment>);

impl Memo {
    fn of(&self, amount: u64, find: impl FnOnce() -> Option<Moment>) -> Option<Moment> {
        let known = self.0.get();
        if let Some((_, instant)) = known.iter().flatten().find(|(asked, _)| *asked == amount) {
            return *instant;
        }
        let instant = find();
        let [first, second, third, _] = known;
        self.0.set([Some((amount, instant)), first, second, third]);
        instant
    }

    fn forget(&mut self) {
        self.0.set([None; MEMO_SIZE]);
    }
}

impl ReleaseLog {
    /// An empty log for a budget of `max` units per `span`.
    pub(super) fn new(max: u64, span: &Span) -> Self {
        let slot = match span {
            Span::Sliding(window) if max > EXACT_MAX => (*window / SLOTS_PER_WINDOW).max(MIN_SLOT),
            Span::InFlight if max > EXACT_MAX => MIN_SLOT,
            Span::Sliding(_) | Span::InFlight | Span::Calendar(_) => Duration::from_micros(1),
        };
        let slot = i64::try_from(slot.as_micros()).unwrap_or(i64::MAX);
        let latest = Moment::from_unix_micros(i64::MIN);
        Self { slot, releases: VecDeque::new(), sum: 0, latest, memo: Memo::default() }
    }

    /// Drops what is released by `now`; an earlier `now` than the latest seen changes nothing.
    pub(super) fn advance(&mut self, now: Moment) {
        self.latest = self.latest.max(now);
        while let Some((until, amount)) = self.releases.front().copied()
            && until <= self.latest
        {
            self.releases.pop_front();
            self.memo.forget();
            self.sum = self.sum.saturating_sub(amount);
        }
    }

    /// Writes down `amount` until `until`; returns the instant under which [`ReleaseLog::remove`] finds it.
    pub(super) fn add(&mut self, until: Moment, amount: u64) -> Moment {
        let until = self.rounded_up(until);
        if until > self.latest && amount > 0 {
            match self.find(until) {
                Ok((_, entry)) => *entry = entry.saturating_add(amount),
                Err(place) => self.releases.insert(place, (until, amount)),
            }
            self.sum = self.sum.saturating_add(amount);
            self.memo.forget();
        }
        until
    }

    /// Takes back what [`ReleaseLog::add`] wrote down; nothing where it was released since.
    pub(super) fn remove(&mut self, until: Moment, amount: u64) {
        let Ok((place, entry)) = self.find(until) else { return };
        *entry = entry.saturating_sub(amount);
        if *entry == 0 {
            self.releases.remove(place);
        }
        self.sum = self.sum.saturating_sub(amount);
        self.memo.forget();
    }

    /// The clock of releases was set back by `by`, to `now`. Nothing comes back sooner than it would have, and nothing
    /// before `at_least`. What was written down for an attempt before is not found again: it stays until then.
    pub(super) fn set_back(&mut self, now: Moment, by: Duration, at_least: Moment) {
        self.latest = now;
        for (until, amount) in std::mem::take(&mut self.releases) {
            let until = self.rounded_up((until - by).max(at_least));
            match self.releases.back_mut() {
                Some((last, sum)) if *last == until => *sum = sum.saturating_add(amount),
                _ => self.releases.push_back((until, amount)),
            }
        }
        self.memo.forget();
    }

    /// Everything not yet released.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// Everything not released by `now`, without dropping what is.
    pub(super) fn sum_at(&self, now: Moment) -> u64 {
        let due = self.releases.iter().take_while(|(until, _)| *until <= now);
        self.sum.saturating_sub(due.map(|(_, amount)| amount).sum())
    }

    /// The instant by which `amount` will have been released; `None` when that is more than there is.
    pub(super) fn instant_freeing(&self, amount: u64) -> Option<Moment> {
        if amount == 0 {
            return Some(self.latest);
        }
        let kept = self.sum.checked_sub(amount)?;
        self.memo.of(amount, || {
            if amount <= kept {
                return passing(self.releases.iter(), amount - 1);
            }
            // From the far end: it is the first release that leaves no more than `kept`, which comes sooner from there.
            passing(self.releases.iter().rev(), kept)
        })
    }

    /// Where that instant stands and what is written there, or where it would stand.
    fn find(&mut self, until: Moment) -> Result<(usize, &mut u64), usize> {
        let place = self.releases.binary_search_by_key(&until, |(until, _)| *until)?;
        self.releases.get_mut(place).map(|(_, amount)| (place, amount)).ok_or(place)
    }

    fn rounded_up(&self, until: Moment) -> Moment {
        let micros = until.unix_micros();
        let past_slot = micros.rem_euclid(self.slot);
        let to_next = if past_slot == 0 { 0 } else { self.slot - past_slot };
        Moment::from_unix_micros(micros.saturating_add(to_next))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.releases.len()
    }
}

/// The first of those entries with which their sum passes `amount`.
fn passing<'a>(mut entries: impl Iterator<Item = &'a (Moment, u64)>, amount: u64) -> Option<Moment> {
    let mut sum = 0_u64;
    let entry = entries.find(|(_, one)| {
        sum = sum.saturating_add(*one);
        sum > amount
    });
    entry.map(|(until, _)| *until)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Span = Span::Sliding(Duration::from_secs(60));

    fn at(micros: i64) -> Moment {
        Moment::from_unix_micros(micros)
    }

    #[test]
    fn a_small_budget_keeps_exact_instants() {
        let mut log = ReleaseLog::new(1024, &MINUTE);
        assert_eq!(log.add(at(12_345), 3), at(12_345));
        log.advance(at(12_344));
        assert_eq!(log.sum(), 3);
        log.advance(at(12_345));
        assert_eq!(log.sum(), 0);
    }

    #[test]
    fn a_large_budget_rounds_releases_up_and_stays_bounded() {
        let mut log = ReleaseLog::new(1_000_000, &MINUTE);
        for micros in 0..60_000 {
            let until = log.add(at(micros * 1000 + 1), 1);
            assert!(until > at(micros * 1000) && until <= at(micros * 1000 + 1 + 60_000_000 / 1024));
        }
        assert_eq!(log.sum(), 60_000);
        assert!(log.len() <= 1026, "{}", log.len());
    }

    #[test]
    fn what_was_released_is_not_taken_back_twice() {
        let mut log = ReleaseLog::new(10, &MINUTE);
        let first = log.add(at(10), 4);
        log.add(at(20), 5);
        log.advance(at(10));
        log.remove(first, 4);
        assert_eq!(log.sum(), 5);
    }

    #[test]
    fn what_comes_too_late_to_matter_is_not_written_down() {
        let mut log = ReleaseLog::new(10, &MINUTE);
        log.advance(at(100));
        let until = log.add(at(100), 4);
        assert_eq!(log.sum(), 0);
        log.remove(until, 4);
        assert_eq!((log.sum(), log.len()), (0, 0));
    }

    #[test]
    fn the_instant_of_enough_room_is_found() {
        let mut log = ReleaseLog::new(10, &MINUTE);
        log.add(at(10), 4);
        log.add(at(20), 5);
        assert_eq!(log.instant_freeing(1), Some(at(10)));
        assert_eq!(log.instant_freeing(4), Some(at(10)));
        assert_eq!(log.instant_freeing(5), Some(at(20)));
        assert_eq!(log.instant_freeing(9), Some(at(20)));
        assert_eq!(log.instant_freeing(10), None);
    }

    proptest! {
        /// Whatever was asked before: the answer is that of a walk along what is there now.
        #[test]
        fn a_remembered_answer_is_what_a_walk_would_find(
            steps in proptest::collection::vec((0_u8..4, 1_i64..40, 1_u64..8), 1..80),
        ) {
            let mut log = ReleaseLog::new(1_000, &MINUTE);
            let mut added = Vec::new();
            for (kind, micros, amount) in steps {
                match kind {
                    0 => log.advance(at(micros)),
                    1 => added.push((log.add(at(micros), amount), amount)),
                    2 => if let Some((until, amount)) = added.pop().filter(|(until, _)| *until > log.latest) {
                        log.remove(until, amount);
                    },
                    _ => {}
                }
                for amount in 1..12 {
                    let mut freed = 0;
                    let walked = log.releases.iter().find(|(_, one)| {
                        freed += one;
                        freed >= amount
                    });
                    let walked = walked.map(|(until, _)| *until);
                    prop_assert_eq!(log.instant_freeing(amount), walked);
                    prop_assert_eq!(log.instant_freeing(amount), walked, "asked again");
                }
            }
        }
    }

    #[test]
    fn looking_at_a_later_instant_changes_nothing() {
        let mut log = ReleaseLog::new(10, &MINUTE);
        log.add(at(10), 4);
        log.add(at(20), 5);
        assert_eq!(log.sum_at(at(10)), 5);
        assert_eq!(log.sum(), 9);
    }
}
