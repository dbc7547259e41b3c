//! What waits to be written, and when it is to be; pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::db::{CooldownRow, FinishRow, HoldBatch, HoldChange, HoldRow, HoldTarget};
use crate::domain::clock::Moment;

/// A change waits at most this long for a transaction to go with. The contract allows 500 ms until it is written;
/// chosen: two fifths of that, which leaves the rest to a write that is in the way.
const CHANGES_WITHIN: Duration = Duration::from_millis(200);

/// So many changes do not wait any longer. Chosen: half a millisecond of work on SQLite, little enough to be in the way
/// of nobody, and enough to share the cost of a transaction.
const CHANGES_AT_ONCE: usize = 64;

/// Rows in one transaction. Chosen: some 5 ms on SQLite, for as long as which others wait.
const INSERTED_MAX: usize = 512;
const CHANGED_MAX: usize = 1_024;

/// Everything that the ledger's thread has still to do. `A` is whom a written hold is answered to.
///
/// Bounded: a new hold waits for each asker, which has an admission permit; a change for each attempt whose hold was
/// written and that has ended since, of which there are no more than were open when the store went away, because
/// nothing new is sent then; and a cooldown for each target.
#[derive(Debug)]
pub(super) struct Queue<A> {
    inserted: Vec<(HoldRow, A)>,
    changes: BTreeMap<i64, Change>,
    cooldowns: BTreeMap<Arc<HoldTarget>, (Moment, &'static str)>,
    /// When the changes and cooldowns are to be written at the latest.
    due: Option<Moment>,
}

/// What has become known of one attempt.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    first_byte: Option<Moment>,
    finish: Option<FinishRow>,
    /// It was never sent: nothing is held.
    is_deleted: bool,
}

/// One transaction, and whom to tell.
#[derive(Debug)]
pub(super) struct Work<A> {
    pub(super) batch: HoldBatch,
    /// In the order of `batch.inserted`.
    pub(super) askers: Vec<A>,
    cooldowns: BTreeMap<Arc<HoldTarget>, (Moment, &'static str)>,
}

impl<A> Default for Queue<A> {
    fn default() -> Self {
        Self { inserted: Vec::new(), changes: BTreeMap::new(), cooldowns: BTreeMap::new(), due: None }
    }
}

impl<A> Queue<A> {
    /// A hold that is to be written before it is sent: at once. Ids grow from call to call.
    pub(super) fn insert(&mut self, row: HoldRow, asker: A) {
        self.inserted.push((row, asker));
    }

    pub(super) fn first_byte(&mut self, now: Moment, id: i64) {
        self.changes.entry(id).or_default().first_byte = Some(now);
        self.is_due_soon(now);
    }

    /// `None`: it was never sent.
    pub(super) fn finish(&mut self, now: Moment, id: i64, finish: Option<FinishRow>) {
        let change = self.changes.entry(id).or_default();
        change.finish = finish;
        change.is_deleted = finish.is_none();
        self.is_due_soon(now);
    }

    pub(super) fn cool_down(
        &mut self,
        now: Moment,
        target: Arc<HoldTarget>,
        until: Moment,
        reason: &'static str,
    ) {
        let cooldown = self.cooldowns.entry(target).or_insert((until, reason));
        if until > cooldown.0 {
            *cooldown = (until, reason);
        }
        self.is_due_soon(now);
    }

    /// What the next transaction is to write at `now`, if anything cannot wait. Then [`Queue::failed`] must be told if
    /// it could not be written.
    ///
    /// New holds take no changes along that can wait: alone, a hold is one statement without a transaction around it,
    /// and what becomes known of an attempt in the meantime (first byte, end) is one change and not two.
    pub(super) fn take(&mut self, now: Moment, is_closing: bool) -> Option<Work<A>> {
        let takes_changes =
            is_closing || self.due.is_some_and(|due| due <= now) || self.changes.len() >= CHANGES_AT_ONCE;
        if self.is_empty() || (self.inserted.is_empty() && !takes_changes) {
            return None;
        }
        let rest = self.inserted.split_off(INSERTED_MAX.min(self.inserted.len()));
        let (inserted, askers) = std::mem::replace(&mut self.inserted, rest).into_iter().unzip();
        let mut batch = HoldBatch { inserted, ..HoldBatch::default() };
        if !takes_changes {
            return Some(Work { batch, askers, cooldowns: BTreeMap::new() });
        }
        // Of a hold that is not written yet nothing can be changed.
        let first_left = self.inserted.first().map_or(i64::MAX, |(row, _)| row.id);
        for _ in 0..CHANGED_MAX {
            let Some(oldest) = self.changes.first_entry().filter(|entry| *entry.key() < first_left) else {
                break;
            };
            let (id, change) = oldest.remove_entry();
            match change {
                Change { is_deleted: true, .. } => batch.deleted.push(id),
                Change { first_byte, finish, .. } => {
                    batch.changed.push(HoldChange { id, first_byte, finish })
                }
            }
        }
        let cooldowns = std::mem::take(&mut self.cooldowns);
        batch.cooldowns = cooldowns.iter().map(cooldown_row).collect();
        self.due = (!self.changes.is_empty()).then_some(now);
        Some(Work { batch, askers, cooldowns })
    }

    /// That transaction was not written: what must not be lost goes with a later one. What has become known since
    /// holds. The new holds are forgotten: their askers are told.
    pub(super) fn failed(&mut self, now: Moment, batch: HoldBatch, cooldowns: Cooldowns) {
        for HoldChange { id, first_byte, finish } in batch.changed {
            let change = self.changes.entry(id).or_default();
            change.first_byte = change.first_byte.or(first_byte);
            if !change.is_deleted {
                change.finish = change.finish.or(finish);
            }
        }
        for id in batch.deleted {
            self.changes.entry(id).or_default().is_deleted = true;
        }
        for (target, (until, reason)) in cooldowns.0 {
            self.cool_down(now, target, until, reason);
        }
        if !self.is_empty() {
            self.due = Some(now + CHANGES_WITHIN);
        }
    }

    /// When there will be something to take, if nothing new arrives.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Whether somebody waits for a write.
    pub(super) fn has_new_holds(&self) -> bool {
        !self.inserted.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.changes.is_empty() && self.cooldowns.is_empty()
    }

    fn is_due_soon(&mut self, now: Moment) {
        self.due.get_or_insert(now + CHANGES_WITHIN);
    }
}

/// The cooldowns of a transaction, for the case that it fails.
#[derive(Debug)]
pub(super) struct Cooldowns(BTreeMap<Arc<HoldTarget>, (Moment, &'static str)>);

impl<A> Work<A> {
    pub(super) fn into_parts(self) -> (HoldBatch, Vec<A>, Cooldowns) {
        (self.batch, self.askers, Cooldowns(self.cooldowns))
    }
}

fn cooldown_row((target, (until, reason)): (&Arc<HoldTarget>, &(Moment, &'static str))) -> CooldownRow {
    CooldownRow { target: Arc::clone(target), until: *until, reason: (*reason).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::Usage;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000);

    fn hold(id: i64) -> HoldRow {
        HoldRow {
            id,
            target: target(),
            reserved: Usage::default(),
            send_by: NOW,
            first_byte: None,
            finish: None,
        }
    }

    fn target() -> Arc<HoldTarget> {
        Arc::new(HoldTarget { provider: "p".into(), account: "a".into(), model: "m".into() })
    }

    fn finish(at: Moment) -> FinishRow {
        FinishRow { at, is_aborted: false, is_exact: true, used: Usage::default() }
    }

    fn fail(queue: &mut Queue<i64>, now: Moment, work: Work<i64>) -> Vec<i64> {
        let (batch, askers, cooldowns) = work.into_parts();
        queue.failed(now, batch, cooldowns);
        askers
    }

    #[test]
    fn what_is_to_be_sent_does_not_wait_and_leaves_what_may() {
        let mut queue = Queue::default();
        queue.finish(NOW, 1, Some(finish(NOW)));
        assert!(queue.take(NOW, false).is_none());
        (2..5).for_each(|id| queue.insert(hold(id), id));
        let work = queue.take(NOW, false).unwrap();
        assert_eq!(work.batch.inserted.iter().map(|row| row.id).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(work.askers, [2, 3, 4]);
        assert!(work.batch.changed.is_empty());
        assert_eq!(queue.due(), Some(NOW + CHANGES_WITHIN), "an insert does not put the changes off");
    }

    #[test]
    fn what_is_due_or_many_goes_along() {
        let mut queue = Queue::default();
        queue.finish(NOW, 1, Some(finish(NOW)));
        queue.insert(hold(2), 2);
        let work = queue.take(NOW + CHANGES_WITHIN, false).unwrap();
        assert_eq!((work.batch.inserted.len(), work.batch.changed.len()), (1, 1));
        assert!(queue.is_empty() && queue.due().is_none());

        let many = i64::try_from(CHANGES_AT_ONCE).unwrap();
        (0..many).for_each(|id| queue.finish(NOW, id, Some(finish(NOW))));
        queue.insert(hold(many), many);
        assert_eq!(queue.take(NOW, false).unwrap().batch.changed.len(), CHANGES_AT_ONCE);
    }

    #[test]
    fn changes_of_one_attempt_are_one_and_due_in_time() {
        let mut queue: Queue<i64> = Queue::default();
        queue.first_byte(NOW, 1);
        let later = NOW + CHANGES_WITHIN / 2;
        queue.finish(later, 1, Some(finish(later)));
        assert_eq!(queue.due(), Some(NOW + CHANGES_WITHIN));
        assert!(queue.take(later, false).is_none());
        let work = queue.take(NOW + CHANGES_WITHIN, false).unwrap();
        let both = HoldChange { id: 1, first_byte: Some(NOW), finish: Some(finish(later)) };
        assert_eq!(work.batch.changed, [both]);
    }

    #[test]
    fn closing_waits_for_nothing() {
        let mut queue: Queue<i64> = Queue::default();
        assert!(queue.take(NOW, true).is_none());
        queue.finish(NOW, 1, Some(finish(NOW)));
        assert!(queue.take(NOW, true).is_some());
    }

    #[test]
    fn what_was_never_sent_is_deleted() {
        let mut queue = Queue::default();
        queue.insert(hold(1), 1);
        queue.finish(NOW, 1, None);
        let work = queue.take(NOW + CHANGES_WITHIN, false).unwrap();
        assert_eq!((work.batch.inserted.len(), work.batch.deleted), (1, vec![1]));
    }

    #[test]
    fn a_failure_forgets_new_holds_and_nothing_else() {
        let mut queue = Queue::default();
        queue.insert(hold(1), 1);
        queue.first_byte(NOW, 2);
        queue.finish(NOW, 3, None);
        queue.cool_down(NOW, target(), NOW + CHANGES_WITHIN, "rate_limited");
        let work = queue.take(NOW, false).unwrap();
        // Known only while the write was under way.
        queue.finish(NOW, 2, Some(finish(NOW)));
        assert_eq!(fail(&mut queue, NOW, work), [1]);
        assert!(queue.take(NOW, false).is_none(), "the store is left alone for a moment");
        let work = queue.take(NOW + CHANGES_WITHIN, false).unwrap();
        assert!(work.batch.inserted.is_empty());
        let both = HoldChange { id: 2, first_byte: Some(NOW), finish: Some(finish(NOW)) };
        assert_eq!((work.batch.changed, work.batch.deleted), (vec![both], vec![3]));
        assert_eq!(work.batch.cooldowns.len(), 1);
    }

    #[test]
    fn one_transaction_is_never_long() {
        let mut queue = Queue::default();
        (0..2_000).for_each(|id| queue.insert(hold(id), id));
        (0..3_000).for_each(|id| queue.finish(NOW, id, Some(finish(NOW))));
        let (mut inserted, mut changed) = (Vec::new(), 0);
        while let Some(work) = queue.take(NOW, true) {
            assert!(work.batch.inserted.len() <= INSERTED_MAX && work.batch.changed.len() <= CHANGED_MAX);
            inserted.extend(work.batch.inserted.iter().map(|row| row.id));
            let last = if inserted.len() == 2_000 { i64::MAX } else { *inserted.last().unwrap() };
            let is_known = |change: &HoldChange| change.id <= last;
            assert!(work.batch.changed.iter().all(is_known), "an end was written before its beginning");
            changed += work.batch.changed.len();
        }
        assert_eq!((inserted.len(), changed), (2_000, 3_000));
    }

    #[test]
    fn of_two_cooldowns_the_later_one_stays() {
        let mut queue: Queue<i64> = Queue::default();
        let [early, late] = [1, 2].map(|seconds| NOW + Duration::from_secs(seconds));
        queue.cool_down(NOW, target(), late, "rate_limited");
        queue.cool_down(NOW, target(), early, "unauthorized");
        let work = queue.take(NOW, true).unwrap();
        let row = CooldownRow { target: target(), until: late, reason: "rate_limited".to_owned() };
        assert_eq!(work.batch.cooldowns, [row]);
    }
}
