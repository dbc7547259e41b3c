//! The event of one request while it is still under way.

use std::fmt;

use super::recorder::Recorder;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::ids::{EventId, KeyId, RequestId, TenantId};
use crate::domain::usage::{Outcome, ServedBy, Usage, UsageRecord};

/// Goes with a request through all rooms and records it exactly once, when it is dropped, however it ended.
pub struct Completion {
    recorder: Recorder,
    clock: SharedClock,
    record: UsageRecord,
    witness: Option<Witness>,
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
        started_at: Moment,
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
        Self { recorder, clock, record, witness: None }
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
        self.recorder.record(self.record.clone());
        self.recorder.note_ended();
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}
