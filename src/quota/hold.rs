//! What one attempt has taken.

use crate::domain::clock::Moment;

use super::answer::Ticket;
use super::demand::{AccountIndex, ModelIndex};
use super::hold_rule::{Course, Held};
use super::record::HoldRecord;

/// An attempt's units, taken from every budget that binds it. Consumed by [`Book::settle`](super::Book::settle),
/// of the book that granted it: until then what it holds does not come back.
#[derive(Debug)]
#[must_use = "a hold that is not settled holds its units for good"]
pub struct Hold {
    pub(super) account: AccountIndex,
    pub(super) model: ModelIndex,
    pub(super) course: Course,
    pub(super) lines: Vec<Line>,
    pub(super) ticket: Option<Ticket>,
}

/// A hold's part in one budget.
#[derive(Debug)]
pub(super) struct Line {
    /// The budget's position in its account.
    pub(super) budget: usize,
    /// As the budget has it written down, so that it can be corrected there.
    pub(super) held: Held,
}

impl Hold {
    /// The account that pays, and whose key the attempt must use.
    pub fn account(&self) -> AccountIndex {
        self.account
    }

    pub fn model(&self) -> ModelIndex {
        self.model
    }

    /// The attempt is sent by this instant or not at all.
    pub fn send_by(&self) -> Moment {
        self.course.send_by
    }

    /// The name by which a ledger keeps it; `None` where none does.
    pub fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// A ledger keeps it from now on, under that name.
    pub fn keep_as(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// What is known of it, for a ledger to write down.
    pub fn record(&self) -> HoldRecord {
        let Course { reserved, send_by, first_byte, finish } = self.course;
        HoldRecord { account: self.account, model: self.model, reserved, send_by, first_byte, finish }
    }
}
