//! What a ledger says to those who have asked it.

use actix::Message;

use super::shared::Grant;
use crate::domain::clock::Moment;
use crate::quota::{Refusal, Ticket};

/// The ledger's answer to a reservation that was pending; one-way, to the actor that has asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LedgerAnswered {
    pub ticket: Ticket,
    pub answer: LedgerAnswer,
}

/// What became of a pending reservation.
#[derive(Debug)]
pub enum LedgerAnswer {
    /// The hold that the book granted is written down: the attempt may be sent.
    Written,
    /// The ledger itself decided: the attempt may be sent, once the grant is accepted.
    Granted(Grant),
    /// The ledger itself decided: nothing is held.
    Refused(Refusal),
    /// Nothing could be written: the attempt may not be sent. Asking again makes sense at this instant.
    Away(Moment),
}
