//! Where each event is on its way to the store, and what to do next; pure.
//!
//! ```text
//!               the store is near                     committed
//!   waiting ───────────────────────▶ at the store ────────────────▶ gone
//!      │                                  │ takes too long: a copy goes to the spool; failed: all of it
//!      │ the store is away or slow        ▼
//!      └────────────────────────────▶ to the spool ──▶ spool ──▶ at the store, segment by segment
//!                 the spool refused: back to waiting, where the oldest are lost beyond a bound
//! ```
//!
//! There are two hands: one store call and one spool call at a time. Every event that is due is in one of them
//! within [`STORE_PATIENCE`]; that, the flush interval and the workers' handover are what `kill -9` can lose.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::messages::{Flushed, StatsSnapshot};
use super::spool::SpoolState;
use crate::domain::pause::doubled;
use crate::domain::usage::UsageRecord;

/// How many events wait in memory while neither the store nor the spool takes them. Chosen: at about 400 bytes
/// each this is 40 MB, and at 100 requests a second it bridges more than a quarter of an hour.
const WAITING_MAX: usize = 100_000;

/// How many events go into one call. Chosen: both stores take it in well under a tenth of a second.
const WRITE_MAX: usize = 5_000;

/// How long events may lie in a store call before they go to the spool too. Chosen: ten times what a write takes,
/// and with the default flush of 500 ms and the handover of 50 ms a fifth of the promised second is left.
pub(super) const STORE_PATIENCE: Duration = Duration::from_millis(250);

/// The longest pause between two tries while the store is away.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Events in one call; shared, because a copy may go to the spool while the store still has them.
pub(super) type Events = Arc<[UsageRecord]>;

/// What to begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Write these to the store.
    Store(Events),
    /// Write the oldest segment of the spool to the store.
    Replay,
    /// Append these to the spool.
    Spool(Events),
}

/// The store call under way.
#[derive(Debug)]
struct AtStore {
    /// The events that came from memory; `None` for those of the spool.
    fresh: Option<Fresh>,
    is_overdue: bool,
}

#[derive(Debug)]
struct Fresh {
    events: Events,
    is_spooled: bool,
}

/// The spool call under way.
#[derive(Debug)]
struct ToSpool {
    events: Events,
    /// Whether the store has them too, so that nobody waits for them when the spool refuses.
    is_copy: bool,
}

/// Everything that has come in and is neither committed nor known to be on disk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: VecDeque<UsageRecord>,
    /// Whether those that wait have waited long enough.
    is_due: bool,
    is_draining: bool,
    /// Whether a drain no longer waits for the store call under way, where the spool has what it has.
    is_out_of_patience: bool,
    at_store: Option<AtStore>,
    to_spool: Option<ToSpool>,
    store: Trouble,
    disk: Trouble,
    spool: SpoolState,
    /// Whether to ask the spool although it is not known to hold anything.
    looks_into_spool: bool,
    written: u64,
    lost: u64,
}

/// How something that may be away has behaved lately.
#[derive(Debug, Default)]
struct Trouble {
    failures_in_a_row: u32,
    is_paused: bool,
}

impl Trouble {
    /// Answers how long to leave it alone.
    fn failed(&mut self, unit: Duration) -> Duration {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.is_paused = true;
        doubled(unit, self.failures_in_a_row, PAUSE_MAX)
    }

    fn is_away(&self) -> bool {
        self.failures_in_a_row > 0
    }
}

impl Batch {
    /// Takes events in; beyond the bound the oldest are lost, and counted.
    pub(super) fn push(&mut self, records: Vec<UsageRecord>) {
        self.waiting.extend(records);
        self.is_due |= self.is_draining;
        self.bound_waiting();
    }

    /// What waits is to be written now.
    pub(super) fn flush_is_due(&mut self) {
        self.is_due = true;
    }

    /// The spool may hold what this process has not put there.
    pub(super) fn look_into_spool(&mut self) {
        self.looks_into_spool = true;
    }

    /// The store call under way has taken [`STORE_PATIENCE`].
    pub(super) fn store_is_overdue(&mut self) {
        if let Some(at_store) = &mut self.at_store {
            at_store.is_overdue = true;
        }
    }

    pub(super) fn store_pause_is_over(&mut self) {
        self.store.is_paused = false;
    }

    pub(super) fn disk_pause_is_over(&mut self) {
        self.disk.is_paused = false;
    }

    /// From now on everything goes where it is safe at once, and nothing is replayed.
    pub(super) fn begin_draining(&mut self) {
        self.is_draining = true;
        self.is_due = true;
        self.disk.is_paused = false;
    }

    pub(super) fn end_draining(&mut self) {
        self.is_draining = false;
    }

    /// A drain has waited long enough for the store.
    pub(super) fn drain_is_overdue(&mut self) {
        self.is_out_of_patience = true;
    }

    /// What to begin now; ask until there is nothing.
    pub(super) fn next(&mut self) -> Option<Action> {
        let action = match self.next_to_spool() {
            Some(events) => Some(Action::Spool(events)),
            None => self.next_to_store(),
        };
        if self.waiting.is_empty() {
            self.is_due = false;
        }
        action
    }

    fn next_to_spool(&mut self) -> Option<Events> {
        if self.to_spool.is_some() || self.disk.is_paused {
            return None;
        }
        let (events, is_copy) = match self.overdue_unspooled() {
            Some(events) => (events, true),
            None if self.is_due && self.store_keeps_waiting() => (self.take_waiting()?, false),
            None => return None,
        };
        self.to_spool = Some(ToSpool { events: Arc::clone(&events), is_copy });
        Some(events)
    }

    fn next_to_store(&mut self) -> Option<Action> {
        if self.at_store.is_some() || self.store.is_paused {
            return None;
        }
        // A store that was away is tried with what lies on disk already, if there is any.
        let disk_takes_fresh = self.store.is_away() && !self.disk.is_away();
        let fresh = if self.is_due && !disk_takes_fresh { self.take_waiting() } else { None };
        let action = match fresh {
            Some(events) => Action::Store(events),
            None if self.can_replay() => Action::Replay,
            None => return None,
        };
        let fresh = match &action {
            Action::Store(events) => Some(Fresh { events: Arc::clone(events), is_spooled: false }),
            _ => None,
        };
        self.looks_into_spool &= fresh.is_some();
        self.at_store = Some(AtStore { fresh, is_overdue: false });
        Some(action)
    }

    fn can_replay(&self) -> bool {
        let may_hold_some = self.looks_into_spool || self.spool.events > 0;
        may_hold_some && !self.disk.is_paused && !self.is_draining
    }

    /// Whether whoever waits for the store would wait for long.
    fn store_keeps_waiting(&self) -> bool {
        self.store.is_away() || self.at_store.as_ref().is_some_and(|at_store| at_store.is_overdue)
    }

    fn overdue_unspooled(&self) -> Option<Events> {
        let at_store = self.at_store.as_ref().filter(|at_store| at_store.is_overdue)?;
        let fresh = at_store.fresh.as_ref().filter(|fresh| !fresh.is_spooled)?;
        Some(Arc::clone(&fresh.events))
    }

    fn take_waiting(&mut self) -> Option<Events> {
        let count = self.waiting.len().min(WRITE_MAX);
        (count > 0).then(|| self.waiting.drain(..count).collect())
    }

    /// The store has committed what it was given; so many rows were new.
    pub(super) fn stored(&mut self, inserted: usize) {
        self.at_store = None;
        self.written += inserted as u64;
        self.store = Trouble::default();
        self.is_out_of_patience = false;
    }

    /// The store has not taken what it was given, or nobody knows: writing is idempotent by event id, so it may be
    /// repeated. Answers how long to leave it alone.
    pub(super) fn store_failed(&mut self, flush: Duration) -> Duration {
        if let Some(fresh) = self.at_store.take().and_then(|at_store| at_store.fresh)
            && !fresh.is_spooled
        {
            self.keep(&fresh.events);
        }
        self.store.failed(flush)
    }

    /// Keeps events that only the store had: their copy on its way to the spool becomes the one that counts, or
    /// they wait again.
    fn keep(&mut self, events: &Events) {
        match &mut self.to_spool {
            Some(to_spool) if Arc::ptr_eq(&to_spool.events, events) => to_spool.is_copy = false,
            _ => self.wait_again(events),
        }
    }

    /// The spool could not be read, and the store was not asked. Answers how long to leave the spool alone.
    pub(super) fn replay_failed(&mut self, flush: Duration) -> Duration {
        self.at_store = None;
        self.looks_into_spool = true;
        self.disk.failed(flush)
    }

    /// The spool has taken what it was given.
    pub(super) fn spooled(&mut self) {
        self.disk = Trouble::default();
        let Some(ToSpool { events, .. }) = self.to_spool.take() else { return };
        let fresh = self.at_store.as_mut().and_then(|at_store| at_store.fresh.as_mut());
        if let Some(fresh) = fresh.filter(|fresh| Arc::ptr_eq(&fresh.events, &events)) {
            fresh.is_spooled = true;
        }
    }

    /// The spool has not taken what it was given. Answers how long to leave it alone.
    pub(super) fn spool_failed(&mut self, flush: Duration) -> Duration {
        if let Some(ToSpool { events, is_copy: false }) = self.to_spool.take() {
            self.wait_again(&events);
        }
        self.disk.failed(flush)
    }

    /// What the spool held after a call; calls may end in another order than they were told.
    pub(super) fn spool_is(&mut self, state: SpoolState) {
        if state.call > self.spool.call {
            self.spool = state;
        }
    }

    fn wait_again(&mut self, events: &Events) {
        for record in events.iter().rev() {
            self.waiting.push_front(record.clone());
        }
        self.is_due = true;
        self.bound_waiting();
    }

    fn bound_waiting(&mut self) {
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..surplus);
        self.lost += surplus as u64;
    }

    /// Whether events wait for the next flush.
    pub(super) fn is_collecting(&self) -> bool {
        !self.waiting.is_empty() && !self.is_due
    }

    pub(super) fn store_is_away(&self) -> bool {
        self.store.is_away()
    }

    pub(super) fn disk_is_away(&self) -> bool {
        self.disk.is_away()
    }

    /// Whether draining has come to its end: every event is safe, or nobody takes it.
    pub(super) fn is_drained(&self) -> bool {
        let is_safe_enough =
            |fresh: &Fresh| self.is_out_of_patience && (fresh.is_spooled || self.disk.is_paused);
        let fresh = self.at_store.as_ref().and_then(|at_store| at_store.fresh.as_ref());
        let store_has_fresh = fresh.is_some_and(|fresh| !is_safe_enough(fresh));
        let nobody_takes_more = self.disk.is_paused && (self.store.is_paused || self.store_keeps_waiting());
        !store_has_fresh && self.to_spool.is_none() && (self.waiting.is_empty() || nobody_takes_more)
    }

    /// What would be lost if the process ended now, and what would not.
    pub(super) fn flushed(&self) -> Flushed {
        let at_store = self.at_store.as_ref().and_then(|at_store| at_store.fresh.as_ref());
        let unsafe_at_store =
            at_store.filter(|fresh| !fresh.is_spooled).map_or(0, |fresh| fresh.events.len());
        let moving = self.to_spool.as_ref().filter(|to_spool| !to_spool.is_copy);
        let unsafe_to_spool = moving.map_or(0, |to_spool| to_spool.events.len());
        Flushed {
            unwritten: self.waiting.len() + unsafe_at_store + unsafe_to_spool,
            spooled: self.spool.events,
        }
    }

    pub(super) fn snapshot(&self) -> StatsSnapshot {
        let at_store = self.at_store.as_ref().and_then(|at_store| at_store.fresh.as_ref());
        let moving = self.to_spool.as_ref().filter(|to_spool| !to_spool.is_copy);
        StatsSnapshot {
            waiting: self.waiting.len() + moving.map_or(0, |to_spool| to_spool.events.len()),
            being_written: at_store.map_or(0, |fresh| fresh.events.len()),
            written: self.written,
            spooled: self.spool.events,
            spool_bytes: self.spool.bytes,
            damaged: self.spool.damaged,
            lost: self.lost + self.spool.lost,
            failures_in_a_row: self.store.failures_in_a_row,
            spool_failures_in_a_row: self.disk.failures_in_a_row,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::clock::Moment;
    use crate::domain::ids::{EventId, RequestId};

    const FLUSH: Duration = Duration::from_millis(500);

    fn records(count: usize) -> Vec<UsageRecord> {
        let record = |number: usize| UsageRecord {
            event_id: EventId::from_bytes((number as u128).to_be_bytes()),
            request_id: RequestId::from_incoming(Some("r")),
            ..UsageRecord::ended_at(Moment::default())
        };
        (0..count).map(record).collect()
    }

    fn due(count: usize) -> Batch {
        let mut batch = Batch::default();
        batch.push(records(count));
        batch.flush_is_due();
        batch
    }

    fn to_store(batch: &mut Batch) -> usize {
        match batch.next() {
            Some(Action::Store(events)) => events.len(),
            other => panic!("{other:?}"),
        }
    }

    fn to_spool(batch: &mut Batch) -> usize {
        match batch.next() {
            Some(Action::Spool(events)) => events.len(),
            other => panic!("{other:?}"),
        }
    }

    fn spool_holds(batch: &mut Batch, events: u64) {
        let call = batch.spool.call + 1;
        batch.spool_is(SpoolState { call, events, ..SpoolState::default() });
    }

    /// Everything is on disk and the store is left alone for a while.
    fn in_an_outage() -> Batch {
        let mut batch = due(1);
        to_store(&mut batch);
        batch.store_failed(FLUSH);
        to_spool(&mut batch);
        batch.spooled();
        spool_holds(&mut batch, 1);
        assert_eq!(batch.next(), None);
        batch
    }

    #[test]
    fn events_wait_until_they_are_due_and_go_one_write_at_a_time() {
        let mut batch = Batch::default();
        batch.push(records(WRITE_MAX + 1));
        assert_eq!(batch.next(), None);
        assert!(batch.is_collecting());
        batch.flush_is_due();
        assert_eq!(to_store(&mut batch), WRITE_MAX);
        assert_eq!(batch.next(), None);
        batch.stored(WRITE_MAX);
        assert_eq!(to_store(&mut batch), 1, "what was due still is");
        batch.stored(1);
        batch.push(records(1));
        assert_eq!(batch.next(), None, "what comes later is not");
        assert_eq!(batch.snapshot().written, WRITE_MAX as u64 + 1);
    }

    #[test]
    fn what_the_store_refuses_goes_to_the_spool() {
        let mut batch = due(3);
        assert_eq!(to_store(&mut batch), 3);
        assert_eq!(batch.store_failed(FLUSH), Duration::from_secs(1));
        assert_eq!(to_spool(&mut batch), 3);
        assert_eq!(batch.flushed().unwritten, 3, "not safe before the spool says so");
        batch.spooled();
        spool_holds(&mut batch, 3);
        assert_eq!(batch.flushed(), Flushed { unwritten: 0, spooled: 3 });
    }

    #[test]
    fn while_the_store_is_away_events_go_to_the_spool_and_the_spool_tries_the_store() {
        let mut batch = in_an_outage();
        batch.push(records(2));
        batch.flush_is_due();
        assert_eq!(to_spool(&mut batch), 2);
        batch.spooled();
        spool_holds(&mut batch, 3);
        assert_eq!(batch.next(), None);
        batch.store_pause_is_over();
        assert_eq!(batch.next(), Some(Action::Replay));
        assert_eq!(batch.store_failed(FLUSH), Duration::from_secs(2));
        batch.store_pause_is_over();
        assert_eq!(batch.next(), Some(Action::Replay));
        batch.stored(3);
        spool_holds(&mut batch, 0);
        assert_eq!(batch.next(), None);
        batch.push(records(1));
        batch.flush_is_due();
        assert_eq!(to_store(&mut batch), 1, "the store is near again");
    }

    #[test]
    fn fresh_events_come_before_replayed_ones_once_the_store_is_back() {
        let mut batch = due(1);
        spool_holds(&mut batch, 9);
        assert_eq!(to_store(&mut batch), 1);
        batch.stored(1);
        assert_eq!(batch.next(), Some(Action::Replay));
    }

    #[test]
    fn a_slow_store_gets_a_copy_made() {
        let mut batch = due(3);
        to_store(&mut batch);
        batch.push(records(2));
        batch.flush_is_due();
        assert_eq!(batch.next(), None);
        batch.store_is_overdue();
        assert_eq!(to_spool(&mut batch), 3);
        batch.spooled();
        assert_eq!(batch.flushed().unwritten, 2);
        assert_eq!(to_spool(&mut batch), 2, "and what waits behind it goes there too");
        batch.spooled();
        assert_eq!(batch.next(), None);
        batch.store_failed(FLUSH);
        assert_eq!((batch.next(), batch.flushed().unwritten), (None, 0), "the copy is enough");
    }

    #[test]
    fn a_copy_under_way_becomes_the_one_that_counts() {
        let mut batch = due(3);
        to_store(&mut batch);
        batch.store_is_overdue();
        to_spool(&mut batch);
        batch.store_failed(FLUSH);
        assert_eq!(batch.flushed().unwritten, 3);
        batch.spool_failed(FLUSH);
        assert_eq!((batch.next(), batch.flushed().unwritten), (None, 3), "neither took them");
        batch.disk_pause_is_over();
        assert_eq!(to_spool(&mut batch), 3);
    }

    #[test]
    fn a_copy_that_ends_late_vouches_for_its_own_events_only() {
        let mut batch = due(3);
        to_store(&mut batch);
        batch.store_is_overdue();
        to_spool(&mut batch);
        batch.stored(3);
        batch.push(records(1));
        batch.flush_is_due();
        assert_eq!(to_store(&mut batch), 1);
        batch.spooled();
        assert_eq!(batch.flushed().unwritten, 1);
    }

    #[test]
    fn without_a_disk_the_events_wait_in_memory_and_go_to_the_store() {
        let mut batch = due(3);
        to_store(&mut batch);
        batch.store_failed(FLUSH);
        to_spool(&mut batch);
        batch.spool_failed(FLUSH);
        assert_eq!(batch.next(), None);
        batch.store_pause_is_over();
        assert_eq!(to_store(&mut batch), 3);
    }

    #[test]
    fn a_spool_that_cannot_be_read_is_asked_again() {
        let mut batch = Batch::default();
        batch.look_into_spool();
        assert_eq!(batch.next(), Some(Action::Replay));
        batch.replay_failed(FLUSH);
        assert_eq!(batch.next(), None);
        batch.disk_pause_is_over();
        assert_eq!(batch.next(), Some(Action::Replay));
        batch.stored(0);
        assert_eq!(batch.next(), None, "once it was looked into, it is empty");
    }

    #[test]
    fn a_drain_waits_for_the_store_but_not_for_an_outage() {
        let mut batch = due(1);
        batch.begin_draining();
        to_store(&mut batch);
        assert!(!batch.is_drained());
        batch.push(records(1));
        batch.stored(1);
        assert_eq!(to_store(&mut batch), 1, "what comes in meanwhile is due at once");
        batch.stored(1);
        assert!(batch.is_drained());

        let mut batch = in_an_outage();
        batch.push(records(2));
        batch.begin_draining();
        assert_eq!(to_spool(&mut batch), 2);
        assert!(!batch.is_drained());
        batch.spooled();
        assert!(batch.is_drained());
        batch.store_pause_is_over();
        assert_eq!(batch.next(), None, "nothing is replayed any more");
    }

    #[test]
    fn a_drain_leaves_a_hanging_store_alone_once_the_spool_has_everything() {
        let mut batch = due(1);
        to_store(&mut batch);
        batch.begin_draining();
        batch.store_is_overdue();
        to_spool(&mut batch);
        batch.spooled();
        assert!(!batch.is_drained());
        batch.drain_is_overdue();
        assert!(batch.is_drained());
        batch.push(records(1));
        batch.begin_draining();
        assert!(!batch.is_drained());
        to_spool(&mut batch);
        batch.spooled();
        assert!(batch.is_drained(), "the second round need not wait again");
    }

    #[test]
    fn a_drain_ends_when_nobody_takes_anything() {
        let mut batch = in_an_outage();
        batch.push(records(2));
        batch.begin_draining();
        to_spool(&mut batch);
        batch.spool_failed(FLUSH);
        assert_eq!(batch.next(), None);
        assert!(batch.is_drained());
        assert_eq!(batch.flushed().unwritten, 2);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut batch = due(1);
        for _ in 0..50 {
            batch.next();
            assert!(batch.store_failed(FLUSH) <= PAUSE_MAX);
            assert!(batch.spool_failed(FLUSH) <= PAUSE_MAX);
        }
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_counted_as_lost() {
        let mut batch = due(WAITING_MAX + 7);
        assert_eq!(batch.snapshot().lost, 7);
        assert_eq!(batch.flushed().unwritten, WAITING_MAX);
        to_store(&mut batch);
        batch.push(records(WRITE_MAX));
        batch.store_failed(FLUSH);
        assert_eq!(batch.snapshot().lost, 7 + WRITE_MAX as u64);
    }

    #[derive(Clone, Copy, Debug)]
    enum Turn {
        Push(usize),
        FlushIsDue,
        StoreIsOverdue,
        StorePauseIsOver,
        DiskPauseIsOver,
        StoreEnds(bool),
        SpoolEnds(bool),
    }

    fn turn() -> impl Strategy<Value = Turn> {
        prop_oneof![
            (1_usize..4).prop_map(Turn::Push),
            Just(Turn::FlushIsDue),
            Just(Turn::StoreIsOverdue),
            Just(Turn::StorePauseIsOver),
            Just(Turn::DiskPauseIsOver),
            any::<bool>().prop_map(Turn::StoreEnds),
            any::<bool>().prop_map(Turn::SpoolEnds),
        ]
    }

    proptest! {
        /// A model of a store and a spool: after any history every event is in one of them or counted as unwritten,
        /// and when both work again all of them reach the store.
        #[test]
        fn no_history_loses_an_event(turns in proptest::collection::vec(turn(), 0..200)) {
            let mut world = World::default();
            for turn in turns {
                world.take(turn);
                world.check()?;
            }
            for _ in 0..100 {
                for turn in [
                    Turn::FlushIsDue, Turn::StorePauseIsOver, Turn::DiskPauseIsOver,
                    Turn::SpoolEnds(true), Turn::StoreEnds(true),
                ] {
                    world.take(turn);
                    world.check()?;
                }
            }
            prop_assert_eq!(world.stored.len(), world.pushed);
            prop_assert_eq!(world.batch.flushed(), Flushed { unwritten: 0, spooled: 0 });
        }
    }

    #[derive(Default)]
    struct World {
        batch: Batch,
        pushed: usize,
        stored: std::collections::BTreeSet<EventId>,
        spooled: Vec<EventId>,
        storing: Option<Vec<EventId>>,
        is_replay: bool,
        spooling: Option<Vec<EventId>>,
    }

    impl World {
        fn take(&mut self, turn: Turn) {
            match turn {
                Turn::Push(count) => {
                    self.batch.push(records(self.pushed + count).split_off(self.pushed));
                    self.pushed += count;
                }
                Turn::FlushIsDue => self.batch.flush_is_due(),
                Turn::StoreIsOverdue => self.batch.store_is_overdue(),
                Turn::StorePauseIsOver => self.batch.store_pause_is_over(),
                Turn::DiskPauseIsOver => self.batch.disk_pause_is_over(),
                Turn::StoreEnds(succeeds) => self.store_ends(succeeds),
                Turn::SpoolEnds(succeeds) => self.spool_ends(succeeds),
            }
            while let Some(action) = self.batch.next() {
                let ids = |events: &Events| events.iter().map(|event| event.event_id).collect::<Vec<_>>();
                match action {
                    Action::Store(events) => (self.storing, self.is_replay) = (Some(ids(&events)), false),
                    Action::Replay => (self.storing, self.is_replay) = (Some(self.spooled.clone()), true),
                    Action::Spool(events) => assert!(self.spooling.replace(ids(&events)).is_none()),
                }
            }
        }

        fn store_ends(&mut self, succeeds: bool) {
            let Some(ids) = self.storing.take() else { return };
            if !succeeds {
                self.batch.store_failed(FLUSH);
                return;
            }
            if self.is_replay {
                self.spooled.retain(|id| !ids.contains(id));
                spool_holds(&mut self.batch, self.spooled.len() as u64);
            }
            self.stored.extend(&ids);
            self.batch.stored(ids.len());
        }

        fn spool_ends(&mut self, succeeds: bool) {
            let Some(ids) = self.spooling.take() else { return };
            if !succeeds {
                self.batch.spool_failed(FLUSH);
                return;
            }
            self.spooled.extend(ids);
            spool_holds(&mut self.batch, self.spooled.len() as u64);
            self.batch.spooled();
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let safe: std::collections::BTreeSet<_> = self.stored.iter().chain(&self.spooled).collect();
            prop_assert!(safe.len() + self.batch.flushed().unwritten >= self.pushed);
            Ok(())
        }
    }
}
