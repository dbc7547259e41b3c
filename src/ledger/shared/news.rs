//! News of attempts that wait to be written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parts;
use crate::db::shared_ledger::{AttemptId, Settlement};
use crate::domain::clock::Moment;

/// Attempts whose news are kept while the ledger is away. Chosen: ten minutes of a hundred attempts a second; some
/// 30 MB at most.
const NEWS_MAX: usize = 60_000;

/// How long news wait for more of them while nobody waits for what they give back, the call that writes them included:
/// each is a commit, and a claim behind it waits for that. Chosen: the contract allows 500 ms until a settle is written;
/// less than half of it, so that a call that fails can be made again.
const GATHERED_FOR: Duration = Duration::from_millis(200);

/// At most one settlement per attempt: later news of a line replace earlier ones.
#[derive(Debug, Default)]
pub(super) struct News {
    of: BTreeMap<AttemptId, Settlement>,
    /// Until when they may wait.
    due_at: Option<Moment>,
    /// How long the last call took.
    call_took: Duration,
}

impl News {
    /// Adds what has become known; the number of attempts whose news were given up for it. It is written soon, at once
    /// where it `is_urgent`.
    pub(super) fn add(&mut self, now: Moment, later: Settlement, is_urgent: bool) -> u64 {
        let gathered_for = GATHERED_FOR.saturating_sub(self.call_took);
        let due_at = if is_urgent { now } else { now + gathered_for };
        self.due_at = Some(self.due_at.map_or(due_at, |earlier| earlier.min(due_at)));
        match self.of.get_mut(&later.id) {
            Some(earlier) => merge(earlier, later),
            None => {
                self.of.insert(later.id, later);
            }
        }
        let is_full = self.of.len() > NEWS_MAX;
        if is_full {
            // Ids sort by age: the oldest is the next to end by its crash cap.
            self.of.pop_first();
        }
        u64::from(is_full)
    }

    /// A call took so long: the slower they are, the less there is time to gather.
    pub(super) fn call_took(&mut self, time: Duration) {
        self.call_took = time;
    }

    /// From now on they wait for nothing.
    pub(super) fn urge(&mut self) {
        self.due_at = self.due_at.map(|_| Moment::from_unix_micros(i64::MIN));
    }

    /// When they must be written, where there are any.
    pub(super) fn due_at(&self) -> Option<Moment> {
        self.due_at
    }

    /// Puts back what could not be written, in front of what has become known since.
    pub(super) fn put_back(&mut self, now: Moment, earlier: Vec<Settlement>) -> u64 {
        let restore = |mut settlement: Settlement| {
            if let Some(later) = self.of.remove(&settlement.id) {
                merge(&mut settlement, later);
            }
            self.add(now, settlement, true)
        };
        earlier.into_iter().map(restore).sum()
    }

    /// The oldest ones, at most so many, of at most so many lines in all; of one alone that has more, its first parts.
    /// What is left then is due as before.
    pub(super) fn take(&mut self, most: usize, most_lines: usize) -> Vec<Settlement> {
        let mut taken = Vec::new();
        let mut room = most_lines;
        while taken.len() < most
            && let Some(mut oldest) = self.of.first_entry()
        {
            let size = parts::size(oldest.get());
            if size <= room {
                room -= size;
                taken.push(oldest.remove());
                continue;
            }
            let is_alone = taken.is_empty();
            if is_alone && oldest.get().parts.len() > 1 {
                taken.push(parts::first_of(oldest.get_mut(), room));
            } else if is_alone {
                taken.push(oldest.remove());
            }
            break;
        }
        if self.of.is_empty() {
            self.due_at = None;
        }
        taken
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

fn merge(earlier: &mut Settlement, later: Settlement) {
    earlier.is_given_back |= later.is_given_back;
    earlier.probe = later.probe.or(earlier.probe);
    earlier.parts.extend(later.parts);
    for line in later.lines {
        let same = |known: &&mut crate::db::shared_ledger::SettledLine| {
            known.scope == line.scope && known.unit == line.unit
        };
        match earlier.lines.iter_mut().find(same) {
            // What is final stays as it is.
            Some(known) if known.is_final => {}
            Some(known) => *known = line,
            None => earlier.lines.push(line),
        }
    }
}
