//! Somebody who waits for a hold to be written.

use std::fmt;
use std::time::Duration;

use actix::Recipient;

use super::messages::{LedgerAnswer, LedgerAnswered};
use crate::domain::clock::SharedClock;
use crate::quota::Ticket;

/// How long those wait whose hold could not be written. Chosen: as long as a request for capacity waits at most before
/// it looks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Is answered exactly once, whatever happens: dropped without a word it hears that nothing was written.
pub(super) struct Asker {
    ticket: Ticket,
    clock: SharedClock,
    /// Until it has been answered.
    recipient: Option<Recipient<LedgerAnswered>>,
}

impl Asker {
    pub(super) fn new(ticket: Ticket, clock: SharedClock, recipient: Recipient<LedgerAnswered>) -> Self {
        Self { ticket, clock, recipient: Some(recipient) }
    }

    /// Its hold is written.
    pub(super) fn written(mut self) {
        self.answer(LedgerAnswer::Written);
    }

    /// Nobody may be there any more: a worker that has ended has given the hold back as it did.
    fn answer(&mut self, answer: LedgerAnswer) {
        if let Some(recipient) = self.recipient.take() {
            recipient.do_send(LedgerAnswered { ticket: self.ticket, answer });
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if self.recipient.is_some() {
            self.answer(LedgerAnswer::Away(self.clock.now() + ASK_AGAIN));
        }
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
