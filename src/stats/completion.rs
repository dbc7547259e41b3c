//! The event of one request while it is still under way.

use std::fmt;
use std::time::Duration;

use super::recorder::Recorder;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::ids::{EventId, KeyId, RequestId, TenantId};
use crate::domain::usage::{Outcome, ServedBy, Surface, Usage, UsageRecord};
use crate::metrics::Ended;

/// Goes with a request through all rooms and records it exactly once, when it is dropped, however it ended.
pub struct Completion {
    recorder: Recorder,
    clock: SharedClock,
    record: UsageRecord,
    witness: Option<Witness>,
    course: Course,
}

/// What the metrics tell of a request and the statistics do not.
struct Course {
    surface: Surface,
    body_in_at: Moment,
    /// From the body in to the first upstream call, without waits.
    before: Option<Duration>,
    waited: Option<Duration>,
    upstream_ended_at: Option<Moment>,
}

/// Is told how a request ended, at its very end.
pub type Witness = Box<dyn FnOnce(&UsageRecord) + Send>;

impl Completion {
    /// Opens the event of a request that came in at `started_at`. Until somebody says otherwise it ends as
    /// [`Outcome::Internal`]: a request that nobody brought to an end was lost by us.
    pub fn open(
        recorder: Recorder,
        clock: SharedClock,
        request_id: RequestId,
        caller: (TenantId, KeyId),
        (surface, started_at): (Surface, Moment),
    ) -> Self {
        let record = UsageRecord {
            event_id: EventId::mint(),
            request_id,
            tenant: caller.0,
            key: caller.1,
            served_by: None,
            outcome: Outcome::Internal,
            streamed: false,
            attempts: 0,
            usage: Usage::default(),
            usage_reported: false,
            started_at,
            first_byte_at: None,
            ended_at: started_at,
        };
        recorder.note_opened();
        let course =
            Course { surface, body_in_at: started_at, before: None, waited: None, upstream_ended_at: None };
        Self { recorder, clock, record, witness: None, course }
    }

    /// The request's body has come in: from here on the time is ours.
    pub fn body_is_in(&mut self) {
        self.course.body_in_at = self.clock.now();
    }

    /// It waited so long for capacity, in all.
    pub fn waited(&mut self, waited: Duration) {
        self.course.waited = Some(waited);
    }

    /// An upstream is called at `now`; only the first call counts.
    pub fn called(&mut self, now: Moment) {
        if self.course.before.is_none() {
            let waited = self.course.waited.unwrap_or_default();
            let before = now.saturating_since(self.course.body_in_at).saturating_sub(waited);
            self.course.before = Some(before);
        }
    }

    /// The upstream's last byte has come: from here on the time is ours again.
    pub fn upstream_ended(&mut self) {
        self.course.upstream_ended_at = Some(self.clock.now());
    }

    pub fn request_id(&self) -> &RequestId {
        &self.record.request_id
    }

    /// Who asked.
    pub fn tenant(&self) -> TenantId {
        self.record.tenant
    }

    /// Has `witness` told how the request ends, in the place of whoever was to be.
    pub fn witness(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    pub fn has_witness(&self) -> bool {
        self.witness.is_some()
    }

    /// Drops the witness untold.
    pub fn dismiss_witness(&mut self) {
        self.witness = None;
    }

    pub fn is_streamed(&mut self, streamed: bool) {
        self.record.streamed = streamed;
    }

    /// Counts one upstream call and answers how many there are now.
    pub fn count_attempt(&mut self) -> u32 {
        self.record.attempts = self.record.attempts.saturating_add(1);
        self.record.attempts
    }

    pub fn attempts(&self) -> u32 {
        self.record.attempts
    }

    pub fn served_by(&mut self, served_by: ServedBy) {
        self.record.served_by = Some(served_by);
    }

    /// The first byte of the answer is on its way to the client.
    pub fn first_byte(&mut self) {
        if self.record.first_byte_at.is_none() {
            self.record.first_byte_at = Some(self.clock.now());
        }
    }

    /// Sets what was used: the upstream's word, or our count.
    pub fn used(&mut self, usage: Usage, is_reported: bool) {
        self.record.usage = usage;
        self.record.usage_reported = is_reported;
    }

    /// Sets how it ends, if it were dropped now.
    pub fn ends_as(&mut self, outcome: Outcome) {
        self.record.outcome = outcome;
    }

    fn ended(&self) -> Ended {
        let UsageRecord { outcome, streamed, started_at, first_byte_at, ended_at, .. } = self.record;
        let Course { surface, before, waited, upstream_ended_at, .. } = self.course;
        let since_upstream = |instant: Moment| ended_at.saturating_since(instant);
        Ended {
            surface,
            outcome,
            duration: ended_at.saturating_since(started_at),
            first_token: first_byte_at.filter(|_| streamed).map(|at| at.saturating_since(started_at)),
            before,
            after: upstream_ended_at.filter(|_| outcome == Outcome::Served).map(since_upstream),
            waited,
        }
    }

    /// Ends it.
    pub fn finish(mut self, outcome: Outcome) {
        self.ends_as(outcome);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.record.ended_at = self.clock.now();
        if let Some(witness) = self.witness.take() {
            witness(&self.record);
        }
        self.recorder.record(self.record.clone(), &self.ended());
        self.recorder.note_ended();
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}
