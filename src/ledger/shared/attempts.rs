//! The attempts of one provider that the shared ledger has granted, and what it is told of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::budgets;
use super::handle::SharedLedger;
use super::leases::Spend;
use super::leasing::Leasing;
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
    pub(super) leasing: Arc<Leasing>,
    open: Mutex<HashMap<Ticket, Open>>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Its own, or that of the lease that pays for it.
    id: AttemptId,
    is_leased: bool,
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
    /// `models` is how many the provider has.
    pub(super) fn new(ledger: Arc<SharedLedger>, provider: ProviderId, terms: Terms, models: usize) -> Self {
        let leasing = Arc::new(Leasing::new(Arc::clone(&ledger), &terms, models));
        Self { ledger, provider, terms, leasing, open: Mutex::default() }
    }

    /// Writes an attempt that a lease pays for into the book that mirrors what this process holds.
    pub(super) fn lease(
        &self,
        now: Moment,
        book: &mut Book,
        ticket: Ticket,
        demand: &Demand,
        spend: Spend,
    ) -> Hold {
        let open = Open { id: spend.lease, is_leased: true, is_probe: false, is_settled: false };
        self.open.lock().insert(ticket, open);
        let send_by = spend.send_by.min(now + demand.send_within);
        let mut hold = book.grant(now, spend.account, demand, send_by);
        hold.keep_as(ticket);
        hold
    }

    /// The first byte of the answer has arrived at `now`: part of what is held is settled by it.
    pub(super) fn first_byte(&self, now: Moment, hold: &Hold) {
        let record = hold.record();
        let Some(open) = self.find(hold).filter(|_| record.first_byte.is_none()) else { return };
        let record = HoldRecord { first_byte: Some(now), ..record };
        if open.is_leased {
            let lines = budgets::part_lines(&self.terms, &record);
            if !lines.is_empty() {
                self.leasing.counted(open.id, lines);
            }
            return;
        }
        let lines = budgets::settled_lines(&self.terms, &record);
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
        let record = HoldRecord { finish: Finish::of(spent, now), ..hold.record() };
        if open.is_leased {
            return self.settle_leased(open.id, &record);
        }
        if record.finish.is_none() {
            return self.give_back(open);
        }
        if !open.is_settled || open.is_probe {
            let lines = budgets::settled_lines(&self.terms, &record);
            self.ledger.settle(Settlement { lines, probe: open.left(), ..self.news(open.id) });
        }
    }

    fn settle_leased(&self, lease: AttemptId, record: &HoldRecord) {
        match record.finish {
            None => self.leasing.unspend(lease, &budgets::reserved_amounts(&self.terms, record)),
            Some(_) => self.leasing.settle(lease, budgets::part_lines(&self.terms, record)),
        }
    }

    fn find(&self, hold: &Hold) -> Option<Open> {
        self.open.lock().get(&hold.ticket()?).copied()
    }

    fn give_back(&self, open: Open) {
        self.ledger.settle(Settlement { is_given_back: true, probe: open.left(), ..self.news(open.id) });
    }

    fn news(&self, id: AttemptId) -> Settlement {
        Settlement::of(id, self.provider.clone())
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
            open: Open { id, is_leased: false, is_probe, is_settled: false },
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
        let attempts = Arc::new(Attempts::new(Arc::clone(&ledger), spec.id.clone(), Terms::new(&spec), 1));
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
