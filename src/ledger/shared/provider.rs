//! One provider's access to the shared ledger.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Recipient;
use parking_lot::Mutex;

use super::attempts::{Attempts, Grant};
use super::budgets::{Budgets, Past};
use super::handle::SharedLedger;
use super::verdict::Verdict;
use crate::db::shared_ledger::AttemptId;
use crate::domain::clock::Moment;
use crate::domain::provider::ProviderSpec;
use crate::ledger::identity::Names;
use crate::ledger::messages::{LedgerAnswer, LedgerAnswered};
use crate::ledger::provider_ledger::{ProviderLedger, Reserved};
use crate::quota::{AccountIndex, Answer, Book, Demand, Hold, ModelIndex, Refusal, Spent, Terms, Ticket};

/// Asks the ledger for every attempt at a limited model. The provider's book mirrors what this process holds, which is
/// a part of what is held: what does not fit there is refused without asking, and where most is left there is asked
/// first.
pub struct SharedProviderLedger {
    spec: Arc<ProviderSpec>,
    names: Names,
    past: Past,
    attempts: Arc<Attempts>,
    budgets: Mutex<Arc<Budgets>>,
    tickets: AtomicU64,
}

/// What an answer needs to find its way back.
struct Asked {
    attempts: Arc<Attempts>,
    ticket: Ticket,
    id: AttemptId,
    demand: Demand,
    /// In the order of the claim.
    accounts: Vec<AccountIndex>,
    recipient: Recipient<LedgerAnswered>,
}

impl SharedProviderLedger {
    pub(super) fn new(
        now: Moment,
        ledger: Arc<SharedLedger>,
        spec: Arc<ProviderSpec>,
        names: Names,
        past: Past,
    ) -> Self {
        let terms = Terms::new(&spec);
        let budgets = Budgets::new(now, &spec, &terms, &names, past);
        Self {
            attempts: Arc::new(Attempts::new(ledger, spec.id.clone(), terms)),
            budgets: Mutex::new(Arc::new(budgets)),
            tickets: AtomicU64::new(0),
            spec,
            names,
            past,
        }
    }

    fn budgets(&self, now: Moment) -> Arc<Budgets> {
        let mut budgets = self.budgets.lock();
        if budgets.are_outdated(now) {
            *budgets = Arc::new(Budgets::new(now, &self.spec, &self.attempts.terms, &self.names, self.past));
        }
        Arc::clone(&budgets)
    }
}

impl ProviderLedger for SharedProviderLedger {
    /// Other replicas serve on meanwhile: what is held is asked for, never remembered.
    fn restore(&self, _: Moment, _: &mut Book) {}

    fn reserve(
        &self,
        now: Moment,
        book: &mut Book,
        demand: &Demand,
        asker: &Recipient<LedgerAnswered>,
    ) -> Reserved {
        if !book.is_limited(demand.model) {
            return Reserved::Now(book.reserve(now, demand));
        }
        let accounts = match book.rank(now, demand) {
            Ok(accounts) => accounts,
            Err(refusal) => return Reserved::Now(Answer::Refused(refusal)),
        };
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let claim = self.budgets(now).claim(&self.spec, &self.attempts.terms, demand, &accounts);
        let asked = Asked {
            attempts: Arc::clone(&self.attempts),
            ticket,
            id: claim.id,
            demand: *demand,
            accounts,
            recipient: asker.clone(),
        };
        self.attempts.ledger.reserve(claim, Box::new(move |verdict| asked.tell(verdict)));
        Reserved::Asked(ticket)
    }

    fn first_byte(&self, now: Moment, hold: &Hold) {
        self.attempts.first_byte(now, hold);
    }

    fn answered(&self, hold: &Hold) {
        self.attempts.answered(hold);
    }

    fn settle(&self, now: Moment, hold: &Hold, spent: Spent) {
        self.attempts.settle(now, hold, spent);
    }

    fn cool_down(
        &self,
        now: Moment,
        account: AccountIndex,
        model: Option<ModelIndex>,
        until: Moment,
        reason: &'static str,
    ) {
        let Some(target) = self.names.target(account, model) else { return };
        let scope = if target.model.is_empty() { String::new() } else { format!("model:{}", target.model) };
        let duration = (until < Moment::NEVER).then(|| until.saturating_since(now));
        self.attempts.ledger.cool_down(&self.spec.id, &target.account, &scope, duration, reason);
    }
}

impl Asked {
    /// Called on the ledger's thread, or on the asker's while it asks.
    fn tell(self, verdict: Verdict) {
        let Self { attempts, ticket, id, demand, accounts, recipient } = self;
        let answer = match verdict {
            Verdict::Granted { account, send_by, is_probe } => {
                let account = accounts.get(account).copied().unwrap_or(AccountIndex(usize::MAX));
                LedgerAnswer::Granted(Grant::new(attempts, (ticket, id, is_probe), account, demand, send_by))
            }
            Verdict::NotUntil(until) => LedgerAnswer::Refused(Refusal::NotUntil(until)),
            Verdict::TooLarge => LedgerAnswer::Refused(Refusal::TooLarge),
            Verdict::Away(until) => LedgerAnswer::Away(until),
        };
        // A worker that has ended drops the answer, which gives back what was granted.
        recipient.do_send(LedgerAnswered { ticket, answer });
    }
}

impl fmt::Debug for SharedProviderLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedProviderLedger").field("names", &self.names).finish_non_exhaustive()
    }
}
