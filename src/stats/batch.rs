//! The events that wait to be written, and what is lost when there are too many; pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::messages::StatsSnapshot;
use crate::domain::usage::UsageRecord;

/// How many events wait in memory while the store is away. Chosen: at about 400 bytes each this is 40 MB,
/// and at 100 requests a second it bridges more than a quarter of an hour.
const WAITING_MAX: usize = 100_000;

/// How many events go into one write. Chosen: both stores take it in well under a tenth of a second.
const WRITE_MAX: usize = 5_000;

/// The longest pause between two tries while the store is away.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Events on their way to the store: waiting, or in the one write that is under way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: VecDeque<UsageRecord>,
    writing: Vec<UsageRecord>,
    written: u64,
    lost: u64,
    failures_in_a_row: u32,
}

impl Batch {
    /// Takes events in; beyond the bound the oldest are lost, and counted.
    pub(super) fn push(&mut self, records: Vec<UsageRecord>) {
        self.waiting.extend(records);
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            self.lost += 1;
        }
    }

    /// What to write now; `None` while a write is under way or nothing waits.
    pub(super) fn begin(&mut self) -> Option<Vec<UsageRecord>> {
        if !self.writing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let count = self.waiting.len().min(WRITE_MAX);
        self.writing = self.waiting.drain(..count).collect();
        Some(self.writing.clone())
    }

    /// The write under way has succeeded.
    pub(super) fn succeed(&mut self) {
        self.written += self.writing.len() as u64;
        self.writing.clear();
        self.failures_in_a_row = 0;
    }

    /// The write under way has failed: its events wait again, in front. Writing is idempotent by event id, so
    /// a write whose outcome is unknown may be repeated. Answers how long to pause.
    pub(super) fn fail(&mut self, flush: Duration) -> Duration {
        for record in std::mem::take(&mut self.writing).into_iter().rev() {
            self.waiting.push_front(record);
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        flush.saturating_mul(1 << self.failures_in_a_row.min(10)).min(PAUSE_MAX)
    }

    pub(super) fn unwritten(&self) -> usize {
        self.waiting.len() + self.writing.len()
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    pub(super) fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            waiting: self.waiting.len(),
            being_written: self.writing.len(),
            written: self.written,
            lost: self.lost,
            failures_in_a_row: self.failures_in_a_row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Moment;
    use crate::domain::ids::{EventId, KeyId, RequestId, TenantId};
    use crate::domain::usage::{Outcome, Usage};

    fn records(count: usize) -> Vec<UsageRecord> {
        let moment = Moment::from_unix_micros(0);
        let record = UsageRecord {
            event_id: EventId::mint(),
            request_id: RequestId::mint(),
            tenant: TenantId(1),
            key: KeyId(1),
            served_by: None,
            outcome: Outcome::Served,
            streamed: false,
            attempts: 1,
            usage: Usage::default(),
            usage_reported: true,
            started_at: moment,
            first_byte_at: None,
            ended_at: moment,
        };
        vec![record; count]
    }

    #[test]
    fn one_write_at_a_time() {
        let mut batch = Batch::default();
        batch.push(records(WRITE_MAX + 1));
        assert_eq!(batch.begin().map(|write| write.len()), Some(WRITE_MAX));
        assert_eq!(batch.begin(), None);
        batch.succeed();
        assert_eq!(batch.begin().map(|write| write.len()), Some(1));
        batch.succeed();
        assert_eq!(batch.unwritten(), 0);
    }

    #[test]
    fn a_failed_write_loses_nothing_and_keeps_the_order() {
        let mut batch = Batch::default();
        batch.push(records(3));
        let first = batch.begin();
        let pause = batch.fail(Duration::from_millis(500));
        assert_eq!(pause, Duration::from_secs(1));
        assert_eq!(batch.begin(), first);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut batch = Batch::default();
        batch.push(records(1));
        for _ in 0..50 {
            batch.begin();
            assert!(batch.fail(Duration::from_millis(500)) <= PAUSE_MAX);
        }
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_counted_as_lost() {
        let mut batch = Batch::default();
        batch.push(records(WAITING_MAX + 7));
        assert_eq!(batch.snapshot().lost, 7);
        assert_eq!(batch.unwritten(), WAITING_MAX);
    }
}
