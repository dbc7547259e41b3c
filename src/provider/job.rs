//! One client request on its way through the candidates.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::answer::Answer;
use crate::domain::chat::ChatRequest;
use crate::domain::clock::Moment;
use crate::domain::failure::{Phase, UpstreamFailure};
use crate::domain::provider::Timeouts;
use crate::error::GatewayError;
use crate::routing::{ConversationKey, Plan, Target, WhyNots};
use crate::stats::Completion;

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
