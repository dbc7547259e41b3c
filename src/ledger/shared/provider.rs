//! One provider's access to the shared ledger.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Recipient;
use parking_lot::Mutex;

use super::attempts::{Attempts, Grant};
use super::budgets::{self, Budgets, Past};
use super::handle::SharedLedger;
use super::lease_policy::Ask;
use super::leasing;
use super::scopes::Heard;
use super::verdict::Verdict;
use crate::db::shared_ledger::{AttemptId, Why};
use crate::domain::clock::Moment;
use crate::domain::provider::ProviderSpec;
use crate::ledger::identity::Names;
use crate::ledger::left_alone::LeftAlone;
use crate::ledger::messages::{LedgerAnswer, LedgerAnswered};
use crate::ledger::provider_ledger::{ProviderLedger, Reserved};
use crate::quota::{AccountIndex, Answer, Book, CooldownScope, Demand, Hold, Refusal, Spent, Terms, Ticket};

/// Asks the ledger for every attempt at a limited model. The provider's book mirrors what this process holds, which is
/// a part of what is held: what does not fit there is refused without asking, and where most is left there is asked
/// first. Where limits are fast, leases pay without asking.
pub struct SharedProviderLedger {
    spec: Arc<ProviderSpec>,
    names: Names,
    past: Past,
    attempts: Arc<Attempts>,
    budgets: Mutex<Arc<Budgets>>,
    heard: Mutex<Heard>,
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
            attempts: Arc::new(Attempts::new(ledger, spec.id.clone(), terms, spec.models.len())),
            budgets: Mutex::new(Arc::new(budgets)),
            heard: Mutex::default(),
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

    /// Gives back what is leased and not spent, and leases no more. Blocks.
    pub(super) fn close(&self) {
        self.attempts.leasing.close();
    }

    /// Pays for an attempt from a lease, and asks for the next one in good time.
    fn spend_leased(
        &self,
        now: Moment,
        book: &mut Book,
        demand: &Demand,
        accounts: &[AccountIndex],
    ) -> Option<Hold> {
        let Attempts { leasing, terms, .. } = &*self.attempts;
        if !leasing.is_for(demand.model) {
            return None;
        }
        let amounts = budgets::amounts(terms, demand);
        let (spend, wish) = leasing.spend(now, demand.model, accounts, &amounts);
        if let Some(asks) = wish {
            self.ask_lease(now, demand, accounts, &asks);
        }
        Some(self.attempts.lease(now, book, self.ticket(), demand, spend?))
    }

    fn ask_lease(&self, now: Moment, demand: &Demand, accounts: &[AccountIndex], asks: &[Ask]) {
        let claim = self.budgets(now).lease(&self.spec, &self.attempts.terms, demand, accounts, asks);
        self.attempts.leasing.ask(leasing::Asked {
            model: demand.model,
            claim,
            accounts: accounts.to_vec(),
            send_within: demand.send_within,
        });
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
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
        if let Some(hold) = self.spend_leased(now, book, demand, &accounts) {
            return Reserved::Now(Answer::Granted(hold));
        }
        let ticket = self.ticket();
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

    fn cool_down(&self, now: Moment, left_alone: &LeftAlone) {
        let LeftAlone { account, scope, until, reason, level } = *left_alone;
        let Some(part) = self.budgets(now).scopes().part(account, scope, reason) else { return };
        // A pool is none of an account's leases alone: all of them end.
        let model = if let CooldownScope::Model(model) = scope { Some(model) } else { None };
        self.attempts.leasing.revoke(account, model);
        let duration = (until < Moment::NEVER).then(|| until.saturating_since(now));
        self.attempts.ledger.cool_down(&self.spec.id, part, duration, Why { reason, level });
    }

    fn left_alone(&self) -> Option<Arc<[LeftAlone]>> {
        let known = self.attempts.ledger.cooling(&self.spec.id);
        let budgets = Arc::clone(&self.budgets.lock());
        Some(self.heard.lock().of(known, budgets.scopes()))
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
