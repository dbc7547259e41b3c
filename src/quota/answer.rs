//! The answer to a demand.

use super::hold::Hold;
use super::refusal::Refusal;

/// What became of a demand.
#[derive(Debug)]
#[must_use = "a grant that is not settled holds its units for good"]
pub enum Answer {
    /// Everything was taken; the attempt may be sent until [`Hold::send_by`].
    Granted(Hold),
    /// Nothing was taken.
    Refused(Refusal),
    /// A ledger decides and answers later under this ticket. A [`Book`](super::Book) in memory never says so.
    Pending(Ticket),
}

/// Names a demand whose answer comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);
