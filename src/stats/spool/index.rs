//! Which segments there are, which is appended to, replayed, or given up; pure.

use std::collections::VecDeque;

/// Where a segment stands in the order of writing; also its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stats) struct SegmentId(pub(super) u64);

/// The largest segment. Chosen: some 600 events, which either store commits in well under the time that fresh
/// events can wait, and a thousand files in a full spool of the default size.
const SEGMENT_MAX_BYTES: u64 = 256 << 10;

/// A small spool still has so many segments: a full one gives up a part of what it holds, not all.
const SEGMENTS_LEAST: u64 = 8;

/// One file of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    pub(super) events: u64,
}

/// The segments of one process, oldest first.
#[derive(Debug)]
pub(super) struct Index {
    segments: VecDeque<Segment>,
    /// Whether the newest is still appended to.
    is_open: bool,
    replaying: Option<SegmentId>,
    next: u64,
    max_bytes: u64,
}

impl Index {
    /// Continues with the segments that were found, oldest first; none of them is appended to any more.
    pub(super) fn new(found: Vec<Segment>, max_bytes: u64) -> Self {
        let next = found.last().map_or(1, |newest| newest.id.0.saturating_add(1));
        Self { segments: found.into(), is_open: false, replaying: None, next, max_bytes }
    }

    /// Whether `bytes` still go into the segment that is appended to, or would into a new one.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        let used = self.open_segment().map_or(0, |segment| segment.bytes);
        used + bytes <= SEGMENT_MAX_BYTES.min(self.max_bytes / SEGMENTS_LEAST)
    }

    /// The segment that is appended to.
    pub(super) fn open_segment(&self) -> Option<&Segment> {
        self.segments.back().filter(|_| self.is_open)
    }

    /// Begins a new segment, which is appended to from now on.
    pub(super) fn begin_segment(&mut self) -> SegmentId {
        let id = self.adopt(0, 0);
        self.is_open = true;
        id
    }

    /// Takes in a segment that somebody else wrote; answers the id that it has here.
    pub(super) fn adopt(&mut self, bytes: u64, events: u64) -> SegmentId {
        let id = SegmentId(self.next);
        self.next = self.next.saturating_add(1);
        self.seal();
        self.segments.push_back(Segment { id, bytes, events });
        id
    }

    /// Nothing more is appended to the newest segment.
    pub(super) fn seal(&mut self) {
        self.is_open = false;
    }

    /// Counts what was appended.
    pub(super) fn grew(&mut self, bytes: u64, events: u64) {
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes += bytes;
            segment.events += events;
        }
    }

    /// Takes out the oldest segments until there is room for `bytes`; the caller deletes them, and their events are
    /// lost. The one that is replayed stays: its events may be in the store already.
    pub(super) fn make_room(&mut self, bytes: u64) -> Vec<Segment> {
        let mut given_up = Vec::new();
        while self.bytes() + bytes > self.max_bytes {
            let oldest = self.segments.iter().find(|segment| !self.is_in_use(segment.id)).copied();
            let Some(oldest) = oldest else { break };
            self.remove(oldest.id);
            given_up.push(oldest);
        }
        given_up
    }

    /// The segment to replay now: the oldest. It is appended to no more.
    pub(super) fn begin_replay(&mut self) -> Option<Segment> {
        let oldest = *self.segments.front()?;
        if self.open_segment().is_some_and(|open| open.id == oldest.id) {
            self.seal();
        }
        self.replaying = Some(oldest.id);
        Some(oldest)
    }

    /// The replay has ended without success; the segment's turn comes again.
    pub(super) fn end_replay(&mut self) {
        self.replaying = None;
    }

    /// Forgets a segment: its events are committed, or it cannot be read.
    pub(super) fn remove(&mut self, id: SegmentId) {
        self.segments.retain(|segment| segment.id != id);
        if self.replaying == Some(id) {
            self.replaying = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn events(&self) -> u64 {
        self.segments.iter().map(|segment| segment.events).sum()
    }

    fn is_in_use(&self, id: SegmentId) -> bool {
        self.replaying == Some(id) || self.open_segment().is_some_and(|open| open.id == id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 64 << 10;

    fn append(index: &mut Index, bytes: u64) -> u64 {
        if !index.fits(bytes) {
            index.seal();
        }
        let lost = index.make_room(bytes).iter().map(|segment| segment.events).sum();
        if index.open_segment().is_none() {
            index.begin_segment();
        }
        index.grew(bytes, 1);
        lost
    }

    #[test]
    fn segments_are_replayed_in_the_order_of_writing() {
        let mut index = Index::new(Vec::new(), MAX);
        assert_eq!(index.begin_replay(), None);
        for _ in 0..20 {
            append(&mut index, 1_000);
        }
        let mut order = Vec::new();
        while let Some(segment) = index.begin_replay() {
            order.push((segment.id.0, segment.events));
            index.remove(segment.id);
        }
        assert_eq!(order, [(1, 8), (2, 8), (3, 4)]);
        assert!(index.is_empty());
    }

    #[test]
    fn a_segment_that_is_replayed_is_appended_to_no_more() {
        let mut index = Index::new(Vec::new(), MAX);
        append(&mut index, 10);
        let replayed = index.begin_replay().unwrap();
        append(&mut index, 10);
        assert_eq!(index.begin_replay().unwrap(), replayed, "and stays the oldest until it is done");
        index.remove(replayed.id);
        assert_eq!(index.begin_replay().unwrap().id, SegmentId(2));
    }

    #[test]
    fn numbering_goes_on_after_what_was_found() {
        let found = Segment { id: SegmentId(41), bytes: 9, events: 1 };
        let mut index = Index::new(vec![found], MAX);
        assert!(index.open_segment().is_none(), "a predecessor's segment may end in a torn record");
        assert_eq!(index.begin_segment(), SegmentId(42));
        assert_eq!(index.adopt(5, 2), SegmentId(43));
        assert!(index.open_segment().is_none());
        assert_eq!((index.bytes(), index.events()), (14, 3));
    }

    #[test]
    fn a_full_spool_gives_up_its_oldest_but_not_what_is_being_replayed() {
        let mut index = Index::new(Vec::new(), MAX);
        let first = index.begin_segment();
        index.grew(MAX / 2, 7);
        let second = index.begin_segment();
        index.grew(MAX / 2, 5);
        index.seal();
        assert_eq!(index.begin_replay().unwrap().id, first);
        let given_up = index.make_room(1);
        assert_eq!(given_up, [Segment { id: second, bytes: MAX / 2, events: 5 }]);
        index.end_replay();
        assert_eq!(index.make_room(MAX)[0].id, first);
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_every_event_is_there_or_counted(
            appends in proptest::collection::vec((1_u64..8_000, any::<bool>()), 0..300),
        ) {
            let mut index = Index::new(Vec::new(), MAX);
            let (mut lost, mut replayed) = (0, 0);
            for (count, (bytes, also_replays)) in appends.into_iter().enumerate() {
                lost += append(&mut index, bytes);
                prop_assert!(index.bytes() <= MAX);
                if also_replays && let Some(segment) = index.begin_replay() {
                    replayed += segment.events;
                    index.remove(segment.id);
                }
                prop_assert_eq!(index.events() + lost + replayed, count as u64 + 1);
            }
        }
    }
}
