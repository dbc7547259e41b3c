//! How a wait ends in vain.

use super::{Cause, Entry, FairQueue, LOOK, Moment, NoSeat, Over, Target};

impl<W> FairQueue<W> {
    /// Why a request that has been refused does not wait on: its time is up, or every candidate has said that its
    /// room comes too late.
    pub(super) fn end_of(&mut self, now: Moment, number: u64) -> Option<NoSeat> {
        let entry = self.entries.get(&number)?;
        if entry.deadline <= now {
            return Some(NoSeat::Over(self.over(now, number, entry)));
        }
        let entry = self.entries.get_mut(&number)?;
        let in_time = entry.deadline.max(now + LOOK);
        let (providers, size) = (&self.providers, entry.size);
        let shut = |target: Target| providers.get(target.provider)?.shut(target.model, &size);
        let is_hopeful = |target: Target| shut(target).is_none_or(|shut| shut.until <= in_time);
        // What gave hope the last time mostly still does, and there may be a hundred candidates.
        if entry.candidates().nth(entry.hope).is_some_and(is_hopeful) {
            return None;
        }
        let hope = entry.candidates().iter().position(is_hopeful);
        if let Some(hope) = hope {
            entry.hope = hope;
            return None;
        }
        let (mut room_at, mut off_until) = (None, None);
        for shut in entry.candidates().iter().filter_map(shut) {
            let earliest = if shut.cause == Cause::Off { &mut off_until } else { &mut room_at };
            *earliest = Some(earliest.map_or(shut.until, |known: Moment| known.min(shut.until)));
        }
        Some(NoSeat::InVain { room_at, off_until })
    }

    /// Room is expected when a candidate says so, and when those before it have been served.
    pub(super) fn over(&self, now: Moment, number: u64, entry: &Entry<W>) -> Over {
        let position = self.places.position(entry.tenant, number);
        let shut = |target: Target| self.providers.get(target.provider)?.shut(target.model, &entry.size);
        let room_at =
            entry.candidates().iter().map(|target| shut(target).map_or(now, |shut| shut.until)).min();
        let room_in = room_at.filter(|at| *at != Moment::NEVER).map(|at| at.saturating_since(now));
        let is_away = |target| shut(target).is_some_and(|shut| shut.cause == Cause::LedgerAway);
        Over {
            retry_after: room_in.unwrap_or_default().max(self.pace.of(position)),
            position,
            is_ledger_away: entry.is_ledger_away || entry.candidates().iter().any(is_away),
        }
    }
}
