//! What a provider sees of a ledger.

use std::fmt;
use std::sync::Arc;

use actix::Recipient;

use super::left_alone::LeftAlone;
use super::messages::LedgerAnswered;
use crate::domain::clock::Moment;
use crate::quota::{Answer, Book, Demand, Hold, Spent, Ticket};

/// Where one provider's holds are kept. Every call returns at once; most are made under that provider's lock, which is
/// why they are handed its book.
pub trait ProviderLedger: Send + Sync + fmt::Debug {
    /// Puts into an empty book what attempts before this process still hold. Called once, before anything else.
    fn restore(&self, now: Moment, book: &mut Book);

    /// Takes what an attempt needs, or says until when there is no room. What is pending is answered to `asker`, once,
    /// under the ticket; that may happen before this call returns.
    fn reserve(
        &self,
        now: Moment,
        book: &mut Book,
        demand: &Demand,
        asker: &Recipient<LedgerAnswered>,
    ) -> Reserved;

    /// The first byte of the answer has arrived.
    fn first_byte(&self, now: Moment, hold: &Hold);

    /// The attempt's answer has begun as it should.
    fn answered(&self, _hold: &Hold) {}

    /// The attempt has come to its end, or was never sent.
    fn settle(&self, now: Moment, hold: &Hold, spent: Spent);

    /// An account, or a part of it, is left alone because upstream said so.
    fn cool_down(&self, now: Moment, left_alone: &LeftAlone);

    /// What everybody leaves alone, this process included, as the ledger said when it was asked last; `None` where
    /// nobody else keeps holds there.
    fn left_alone(&self) -> Option<Arc<[LeftAlone]>> {
        None
    }
}

/// What became of a demand.
#[derive(Debug)]
#[must_use = "a grant that is not settled holds its units for good"]
pub enum Reserved {
    /// Everything is decided.
    Now(Answer),
    /// The book granted it, and it is being written down under the hold's ticket: not to be sent before the ledger
    /// says so. Given up before, it is settled like any hold that was not sent.
    Writing(Ticket, Hold),
    /// The ledger decides, and answers under this ticket.
    Asked(Ticket),
}
