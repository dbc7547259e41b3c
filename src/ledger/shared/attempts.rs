//! The attempts of one provider that the shared ledger has granted, and what it is told of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::budgets;
use super::handle::SharedLedger;
use crate::db::shared_ledger::{AttemptId, ProbeEnd, Settlement};
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::quota::{AccountIndex, Book, Demand, Finish, Hold, HoldRecord, Spent, Terms, Ticket};

/// Those that go on; bounded by the admission permits of their requests.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) ledger: Arc<SharedLedger>,
    pub(super) provider: ProviderId,
    pub(super) terms: Terms,
    open: Mutex<HashMap<Ticket, Open>>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: AttemptId,
    /// Whether it finds out whether a cooldown is over, and nobody knows yet.
    is_probe: bool,
    /// Whether the first byte has settled all that it holds.
    is_settled: bool,
}

/// What the ledger has granted and nobody has taken yet; dropped so, it is given back.
#[must_use = "a grant that nobody accepts is given back"]
pub struct Grant {
    attempts: Arc<Attempts>,
    ticket: Ticket,
    open: Open,
    account: AccountIndex,
    demand: Demand,
    send_by: Moment,
    is_accepted: bool,
}

impl Attempts {
    pub(super) fn new(ledger: Arc<SharedLedger>, provider: ProviderId, terms: Terms) -> Self {
        Self { ledger, provider, terms, open: Mutex::default() }
    }

    /// The first byte of the answer has arrived at `now`: part of what is held is settled by it.
    pub(super) fn first_byte(&self, now: Moment, hold: &Hold) {
        let record = hold.record();
        let Some(open) = self.find(hold).filter(|_| record.first_byte.is_none()) else { return };
        let lines = budgets::settled_lines(&self.terms, &HoldRecord { first_byte: Some(now), ..record });
        let is_settled = lines.len() == budgets::count(&self.terms, hold.model())
            && lines.iter().all(|line| line.is_final);
        let mut attempts = self.open.lock();
        if let Some(open) = hold.ticket().and_then(|ticket| attempts.get_mut(&ticket)) {
            open.is_settled = is_settled;
        }
        drop(attempts);
        if !lines.is_empty() {
            self.ledger.settle(Settlement { lines, ..self.news(open.id) });
        }
    }

    /// It was answered as it should be: if it was to find out whether a cooldown is over, it is.
    pub(super) fn answered(&self, hold: &Hold) {
        let Some(ticket) = hold.ticket() else { return };
        let mut attempts = self.open.lock();
        let Some(open) = attempts.get_mut(&ticket).filter(|open| open.is_probe) else { return };
        open.is_probe = false;
        let id = open.id;
        drop(attempts);
        self.ledger.settle(Settlement { probe: Some(ProbeEnd::Passed), ..self.news(id) });
    }

    pub(super) fn settle(&self, now: Moment, hold: &Hold, spent: Spent) {
        let Some(open) = hold.ticket().and_then(|ticket| self.open.lock().remove(&ticket)) else { return };
        let Some(finish) = Finish::of(spent, now) else { return self.give_back(open) };
        let record = HoldRecord { finish: Some(finish), ..hold.record() };
        if !open.is_settled || open.is_probe {
            let lines = budgets::settled_lines(&self.terms, &record);
            self.ledger.settle(Settlement { lines, probe: open.left(), ..self.news(open.id) });
        }
    }

    fn find(&self, hold: &Hold) -> Option<Open> {
        self.open.lock().get(&hold.ticket()?).copied()
    }

    fn give_back(&self, open: Open) {
        self.ledger.settle(Settlement { is_given_back: true, probe: open.left(), ..self.news(open.id) });
    }

    fn news(&self, id: AttemptId) -> Settlement {
        Settlement {
            id,
            provider: self.provider.clone(),
            is_given_back: false,
            probe: None,
            lines: Vec::new(),
        }
    }
}

impl Open {
    /// A probe that has decided nothing makes way for the next one. One that was refused has cooled its target down
    /// again, which ends it too.
    fn left(self) -> Option<ProbeEnd> {
        self.is_probe.then_some(ProbeEnd::Left)
    }
}

impl Grant {
    pub(super) fn new(
        attempts: Arc<Attempts>,
        (ticket, id, is_probe): (Ticket, AttemptId, bool),
        account: AccountIndex,
        demand: Demand,
        send_by: Moment,
    ) -> Self {
        Self {
            attempts,
            ticket,
            open: Open { id, is_probe, is_settled: false },
            account,
            demand,
            send_by,
            is_accepted: false,
        }
    }

    /// Takes it, and writes it into the book that mirrors what this process holds.
    pub fn accept(mut self, now: Moment, book: &mut Book) -> Hold {
        self.is_accepted = true;
        self.attempts.open.lock().insert(self.ticket, self.open);
        let mut hold = book.grant(now, self.account, &self.demand, self.send_by);
        hold.keep_as(self.ticket);
        hold
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.is_accepted {
            self.attempts.give_back(self.open);
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("ticket", &self.ticket)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::clock::SystemClock;
    use crate::ledger::fixture::{limit, spec};
    use crate::quota::ModelIndex;

    #[test]
    fn a_grant_that_nobody_takes_is_given_back() {
        let spec = spec(&[limit(1, 60)]);
        // Nobody listens there: what is told stays to be seen.
        let ledger =
            SharedLedger::start("postgres://127.0.0.1:1/none", Arc::new(SystemClock::start())).unwrap();
        let ledger = Arc::new(ledger);
        let attempts = Arc::new(Attempts::new(Arc::clone(&ledger), spec.id.clone(), Terms::new(&spec)));
        let demand = Demand {
            model: ModelIndex(0),
            input_tokens: 1,
            output_tokens: 1,
            send_within: Duration::ZERO,
            is_streamed: true,
        };
        let named = (Ticket(1), AttemptId::mint(), true);
        drop(Grant::new(Arc::clone(&attempts), named, AccountIndex(0), demand, Moment::NEVER));
        assert!(!ledger.drain(Duration::from_millis(200)), "nothing was given back");
        assert_eq!(ledger.snapshot().unwritten, 1);
    }
}
