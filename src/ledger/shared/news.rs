//! News of attempts that wait to be written.

use std::collections::BTreeMap;

use crate::db::shared_ledger::{AttemptId, Settlement};

/// Attempts whose news are kept while the ledger is away. Chosen: ten minutes of a hundred attempts a second; some
/// 30 MB at most.
const NEWS_MAX: usize = 60_000;

/// At most one settlement per attempt: later news of a line replace earlier ones.
#[derive(Debug, Default)]
pub(super) struct News(BTreeMap<AttemptId, Settlement>);

impl News {
    /// Adds what has become known; the number of attempts whose news were given up for it.
    pub(super) fn add(&mut self, later: Settlement) -> u64 {
        match self.0.get_mut(&later.id) {
            Some(earlier) => merge(earlier, later),
            None => {
                self.0.insert(later.id, later);
            }
        }
        let is_full = self.0.len() > NEWS_MAX;
        if is_full {
            // Ids sort by age: the oldest is the next to end by its crash cap.
            self.0.pop_first();
        }
        u64::from(is_full)
    }

    /// Puts back what could not be written, in front of what has become known since.
    pub(super) fn put_back(&mut self, earlier: Vec<Settlement>) -> u64 {
        let restore = |mut settlement: Settlement| {
            if let Some(later) = self.0.remove(&settlement.id) {
                merge(&mut settlement, later);
            }
            self.add(settlement)
        };
        earlier.into_iter().map(restore).sum()
    }

    /// The oldest ones, at most so many.
    pub(super) fn take(&mut self, most: usize) -> Vec<Settlement> {
        std::iter::from_fn(|| self.0.pop_first()).take(most).map(|(_, settlement)| settlement).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn merge(earlier: &mut Settlement, later: Settlement) {
    earlier.is_given_back |= later.is_given_back;
    earlier.probe = later.probe.or(earlier.probe);
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
