//! What may be said to a [`ProviderActor`](super::ProviderActor), and what it says back.

use actix::{Message, Recipient};

use super::job::Job;
use super::snapshot::ProviderSnapshot;
use crate::domain::clock::Moment;
use crate::domain::failure::UpstreamFailure;
use crate::quota::{ModelIndex, Refusal};

/// Asks for one attempt at `job` with the model. Sent by the dispatcher of the same worker, and only for a
/// request that holds an admission permit: that is its bound. The answer goes to the client over `job.reply`,
/// or the job comes back.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Try {
    pub job: Box<Job>,
    pub model: ModelIndex,
    pub back: Recipient<Returned>,
}

/// Hands a job back to its dispatcher: nothing has gone to the client yet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Returned {
    pub job: Box<Job>,
    pub verdict: Verdict,
}

/// Why a job came back.
#[derive(Debug)]
pub enum Verdict {
    /// Our own books said no; nothing was sent.
    Refused(Refusal),
    /// It is left alone until then, because of failures and not for want of capacity.
    Off(Moment),
    /// The attempt could not be written down, so it was not sent; asking again makes sense then.
    LedgerAway(Moment),
    /// The attempt failed.
    Failed(UpstreamFailure),
}

/// Asks for a [`ProviderSnapshot`].
#[derive(Debug, Message)]
#[rtype(result = "ProviderSnapshot")]
pub struct ObserveProvider;
