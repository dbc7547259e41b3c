//! When how much of a budget comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::clock::Moment;

/// Up to this maximum every release keeps its exact instant. Chosen: the exact log has at most as many entries
/// as the budget has units, so up to here it is no longer than slots would make it.
const EXACT_MAX: u64 = 1024;

/// Slots per window above that. Chosen: a unit comes back late by at most a thousandth of the window (half of
/// that on average), far inside the one per cent of a pool that may go unused.
const SLOTS_PER_WINDOW: u32 = 1024;

/// Slots are never shorter than this, which bounds their number for windows of a second and less.
const MIN_SLOT: Duration = Duration::from_millis(1);

/// Amounts by the instant of their release, with their sum kept.
///
/// Bounded: with a maximum of up to [`EXACT_MAX`], one entry per attempt with at least one unit, all of which
/// fitted under the maximum when they were taken, so at most `max` entries. Above it release instants are rounded
/// *up* to slots, all of them between now and the furthest release, so at most
/// (window + 5 s + longest send delay) / slot + 2 entries: about 1,030 for windows of minutes and more.
#[derive(Debug)]
pub(super) struct ReleaseLog {
    /// In microseconds; 1 keeps instants exact.
    slot: i64,
    releases: BTreeMap<Moment, u64>,
    sum: u64,
    /// Everything that was to be released until here is gone.
    latest: Moment,
}

impl ReleaseLog {
    /// An empty log for a budget of `max` units per `window`.
    pub(super) fn new(max: u64, window: Duration) -> Self {
        let slot = (window / SLOTS_PER_WINDOW).max(MIN_SLOT).as_micros();
        let slot = if max <= EXACT_MAX { 1 } else { i64::try_from(slot).unwrap_or(i64::MAX) };
        let latest = Moment::from_unix_micros(i64::MIN);
        Self { slot, releases: BTreeMap::new(), sum: 0, latest }
    }

    /// Drops what is released by `now`; an earlier `now` than the latest seen changes nothing.
    pub(super) fn advance(&mut self, now: Moment) {
        self.latest = self.latest.max(now);
        while let Some(first) = self.releases.first_entry()
            && *first.key() <= self.latest
        {
            self.sum = self.sum.saturating_sub(first.remove());
        }
    }

    /// Writes down `amount` until `until`; returns the instant under which [`ReleaseLog::remove`] finds it.
    pub(super) fn add(&mut self, until: Moment, amount: u64) -> Moment {
        let until = self.rounded_up(until);
        if until > self.latest && amount > 0 {
            let entry = self.releases.entry(until).or_default();
            *entry = entry.saturating_add(amount);
            self.sum = self.sum.saturating_add(amount);
        }
        until
    }

    /// Takes back what [`ReleaseLog::add`] wrote down; nothing where it was released since.
    pub(super) fn remove(&mut self, until: Moment, amount: u64) {
        let Some(entry) = self.releases.get_mut(&until) else { return };
        *entry = entry.saturating_sub(amount);
        if *entry == 0 {
            self.releases.remove(&until);
        }
        self.sum = self.sum.saturating_sub(amount);
    }

    /// Everything not yet released.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// Everything not released by `now`, without dropping what is.
    pub(super) fn sum_at(&self, now: Moment) -> u64 {
        let released: u64 = self.releases.range(..=now).map(|(_, amount)| amount).sum();
        self.sum.saturating_sub(released)
    }

    /// The instant by which `amount` will have been released; `None` when that is more than there is.
    pub(super) fn instant_freeing(&self, amount: u64) -> Option<Moment> {
        if amount == 0 {
            return Some(self.latest);
        }
        let mut freed = 0_u64;
        self.releases.iter().find_map(|(until, released)| {
            freed = freed.saturating_add(*released);
            (freed >= amount).then_some(*until)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(micros: i64) -> Moment {
        Moment::from_unix_micros(micros)
    }

    #[test]
    fn a_small_budget_keeps_exact_instants() {
        let mut log = ReleaseLog::new(1024, MINUTE);
        assert_eq!(log.add(at(12_345), 3), at(12_345));
        log.advance(at(12_344));
        assert_eq!(log.sum(), 3);
        log.advance(at(12_345));
        assert_eq!(log.sum(), 0);
    }

    #[test]
    fn a_large_budget_rounds_releases_up_and_stays_bounded() {
        let mut log = ReleaseLog::new(1_000_000, MINUTE);
        for micros in 0..60_000 {
            let until = log.add(at(micros * 1000 + 1), 1);
            assert!(until > at(micros * 1000) && until <= at(micros * 1000 + 1 + 60_000_000 / 1024));
        }
        assert_eq!(log.sum(), 60_000);
        assert!(log.len() <= 1026, "{}", log.len());
    }

    #[test]
    fn what_was_released_is_not_taken_back_twice() {
        let mut log = ReleaseLog::new(10, MINUTE);
        let first = log.add(at(10), 4);
        log.add(at(20), 5);
        log.advance(at(10));
        log.remove(first, 4);
        assert_eq!(log.sum(), 5);
    }

    #[test]
    fn what_comes_too_late_to_matter_is_not_written_down() {
        let mut log = ReleaseLog::new(10, MINUTE);
        log.advance(at(100));
        let until = log.add(at(100), 4);
        assert_eq!(log.sum(), 0);
        log.remove(until, 4);
        assert_eq!((log.sum(), log.len()), (0, 0));
    }

    #[test]
    fn the_instant_of_enough_room_is_found() {
        let mut log = ReleaseLog::new(10, MINUTE);
        log.add(at(10), 4);
        log.add(at(20), 5);
        assert_eq!(log.instant_freeing(4), Some(at(10)));
        assert_eq!(log.instant_freeing(5), Some(at(20)));
        assert_eq!(log.instant_freeing(10), None);
    }

    #[test]
    fn looking_at_a_later_instant_changes_nothing() {
        let mut log = ReleaseLog::new(10, MINUTE);
        log.add(at(10), 4);
        log.add(at(20), 5);
        assert_eq!(log.sum_at(at(10)), 5);
        assert_eq!(log.sum(), 9);
    }
}
