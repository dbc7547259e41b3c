//! One client request on its way through the candidates.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::answer::Answer;
use super::seat::Seat;
use crate::domain::chat::ChatRequest;
use crate::domain::clock::Moment;
use crate::domain::failure::{Phase, UpstreamFailure};
use crate::domain::provider::Timeouts;
use crate::error::GatewayError;
use crate::routing::{ConversationKey, Plan, Target, WhyNots};
use crate::stats::Completion;

/// How long all ledgers together may take for a request that does not wait. Chosen: a call that is not away ends by its
/// statement timeout of 200 ms; to be refused by a call that is merely under way helps nobody.
const LEDGER_GRACE: Duration = Duration::from_millis(250);

/// The same for a request that has waited and was offered room at the last moment: its client counts on the deadline.
const LEDGER_GRACE_OFFERED: Duration = Duration::from_millis(50);

/// A request with everything that has to go with it; exactly one actor or task has it at any time.
pub struct Job {
    pub request: Arc<ChatRequest>,
    /// Records the request when it ends, whatever becomes of this job.
    pub completion: Completion,
    /// Where the answer goes; its other end is dropped when the client leaves.
    pub reply: oneshot::Sender<Answer>,
    pub route: Route,
}

/// What the dispatcher remembers of a job between its attempts.
#[derive(Debug, Default)]
pub struct Route {
    pub plan: Plan,
    /// The candidate that is asked now.
    pub asked: Option<Target>,
    /// When the dispatcher got the request: its waits and attempts together have the provider's total timeout.
    pub opened_at: Moment,
    /// The wait room's round in which it is asked.
    pub round: u64,
    /// The candidates that have no room now, and what they have said.
    pub declined: Vec<Declined>,
    /// Whether others wait who were before it at some candidate, which may have room.
    pub is_behind: bool,
    /// Its place among those who wait.
    pub seat: Option<Seat>,
    /// The number of the place that it had last: if it has to wait again it gets it back.
    pub place: Option<u64>,
    /// Whether `plan` is what the wait room has offered, and not all candidates.
    pub is_offered: bool,
    /// How long ledgers may take that are asked after the wait is over; from the first one on.
    pub ledgers_until: Option<Moment>,
    /// Until when the request may wait for capacity.
    pub wait_until: Moment,
    /// The earliest instant at which a candidate that refused would have room.
    pub room_at: Option<Moment>,
    /// The earliest instant at which a candidate that is off may be asked again.
    pub off_until: Option<Moment>,
    /// Whether a candidate could not be asked because its limits could not be written down.
    pub is_ledger_away: bool,
    /// Whether every refusal so far was for good.
    pub is_too_large: bool,
    pub last_failure: Option<UpstreamFailure>,
    /// The candidate that failed last, to see a repetition.
    pub failed_at: Option<Target>,
    /// The candidates that are not asked for this request any more.
    pub failed: Vec<Target>,
    /// Why each candidate that was asked did not answer.
    pub why_not: WhyNots,
    /// The conversation that the request belongs to, where that is known.
    pub conversation: Option<ConversationKey>,
    /// Time spent waiting for capacity.
    pub waited: Duration,
}

/// A candidate that has no room for a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declined {
    pub target: Target,
    /// `None` where others wait who were before: it has not been asked.
    pub said: Option<Said>,
}

/// What a candidate has said, in which round of the wait room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is full until then.
    Full { until: Moment, round: u64 },
    /// It is off until then, because of failures.
    Off { until: Moment, round: u64 },
    /// It may have room, but that cannot be written down before then. This says nothing of its room, so it holds
    /// beyond the round.
    LedgerAway { until: Moment },
    /// It will never have room for that request.
    TooLarge,
}

impl Job {
    /// How long the next attempt may take, and what has run out then: its first token's time, or what is left of the
    /// time for everything since the request came.
    pub(super) fn patience(&self, timeouts: &Timeouts, now: Moment) -> (Duration, Phase) {
        let left = (self.route.opened_at + timeouts.total).saturating_since(now);
        match self.request.streamed {
            true if timeouts.first_token < left => (timeouts.first_token, Phase::FirstToken),
            _ => (left, Phase::Total),
        }
    }

    /// Until when a ledger that is asked at `now` may take to answer: as long as the request may wait, and a little
    /// longer where it is asked near the end.
    pub(super) fn ledger_until(&mut self, now: Moment) -> Moment {
        let grace = if self.route.is_offered { LEDGER_GRACE_OFFERED } else { LEDGER_GRACE };
        self.route.wait_until.max(*self.route.ledgers_until.get_or_insert(now + grace))
    }

    /// Tells the client that there is no answer.
    pub fn refuse(mut self, error: GatewayError) {
        self.completion.waited(self.route.waited);
        self.completion.finish(error.outcome());
        // The client may have left meanwhile.
        let _unread = self.reply.send(Answer::Refused(error));
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("completion", &self.completion)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}
