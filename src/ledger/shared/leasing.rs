//! Takes the leases of one provider through the process's one owner, and tells it what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::handle::SharedLedger;
use super::lease::Lease;
use super::lease_policy::{Ask, PAUSE};
use super::leases::{Leases, Spend};
use super::news::News;
use super::parts;
use super::verdict::Verdict;
use crate::db::shared_ledger::{AttemptId, Claim, PartLine, ProbeEnd, Settlement};
use crate::domain::clock::Moment;
use crate::quota::{AccountIndex, ModelIndex, Terms};

/// How long no lease is asked for after one that would have been the probe of a cooldown. Chosen: as long as others
/// wait for a probe, before they look again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// How long the end waits for an answer that is due. Chosen: no claim is answered later.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How long news of leases may wait for each other before the owner is told, where they wait for those of others. Chosen:
/// they give nothing back that anybody waits for, and a settle is to be written within 500 ms.
const NEWS_WAIT: Duration = Duration::from_millis(100);

/// The leases of one provider. News are passed on under the lock: the parts of a lease are written in their order.
#[derive(Debug)]
pub(super) struct Leasing {
    ledger: Arc<SharedLedger>,
    /// By model: whether any lease is ever taken for it. Outside the lock, for every attempt asks.
    are_leased: Box<[bool]>,
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    /// News that wait for company.
    news: News,
    /// Restored copies of the database that were seen when it was last looked.
    restores: u64,
}

/// A lease that is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: ModelIndex,
    pub(super) claim: Claim,
    /// In the order of the claim.
    pub(super) accounts: Vec<AccountIndex>,
    /// How long an attempt may be on its way to its first byte out.
    pub(super) send_within: Duration,
}

impl Leasing {
    pub(super) fn new(ledger: Arc<SharedLedger>, terms: &Terms, models: usize) -> Self {
        let leases = Leases::new(terms, models);
        let are_leased = (0..models).map(|model| leases.are_for(ModelIndex(model))).collect();
        let state = State { leases, news: News::default(), restores: 0 };
        Self { ledger, are_leased, state: Mutex::new(state), answered: Condvar::new() }
    }

    /// Whether any lease is ever taken for that model.
    pub(super) fn is_for(&self, model: ModelIndex) -> bool {
        self.are_leased.get(model.0).is_some_and(|is_leased| *is_leased)
    }

    /// Takes these amounts from a lease on one of the accounts, the preferred one first; and the lease to ask for, if it
    /// is time for one.
    pub(super) fn spend(
        &self,
        now: Moment,
        model: ModelIndex,
        accounts: &[AccountIndex],
        amounts: &[u64],
    ) -> (Option<Spend>, Option<Vec<Ask>>) {
        let mut state = self.state.lock();
        self.heed_restores(&mut state);
        let spend = state.leases.spend(now, model, accounts, amounts);
        let wish = state.leases.wish(now, model);
        if wish.is_some() {
            // They go with the same call.
            self.pass_on(&mut state);
        }
        drop(state);
        if spend.is_some() {
            self.ledger.count_lease_spend();
        }
        (spend, wish)
    }

    /// What was leased from a database is not known to an older copy of it.
    fn heed_restores(&self, state: &mut State) {
        let restores = self.ledger.restores_seen();
        if std::mem::replace(&mut state.restores, restores) != restores {
            let news = state.leases.revoke_all();
            state.note(self.ledger.now(), news);
            self.pass_on(state);
        }
    }

    /// Asks for a lease; the answer comes by itself.
    pub(super) fn ask(self: &Arc<Self>, asked: Asked) {
        let leasing = Arc::clone(self);
        let claim = asked.claim.clone();
        self.ledger.reserve(claim, Box::new(move |verdict| leasing.tell(&asked, verdict)));
    }

    /// Called on the ledger's thread, or on the asker's while it asks.
    fn tell(self: &Arc<Self>, asked: &Asked, verdict: Verdict) {
        let now = self.ledger.now();
        let mut state = self.state.lock();
        let ends_at = match verdict {
            Verdict::Granted { is_probe: true, .. } => {
                // One attempt alone is to find out whether a cooldown is over: the next exact call.
                let news = Settlement::of(asked.claim.id, asked.claim.provider.clone());
                self.ledger.settle(Settlement { is_given_back: true, probe: Some(ProbeEnd::Left), ..news });
                state.leases.refused(now, asked.model, PROBE_PAUSE);
                None
            }
            Verdict::Granted { account, send_by, is_probe: false } => {
                let lease = asked.granted(account, send_by);
                let ends_at = lease.as_ref().map(Lease::spend_until);
                let news = lease.and_then(|lease| state.leases.granted(asked.model, lease));
                state.note(self.ledger.now(), news);
                self.pass_on(&mut state);
                ends_at
            }
            Verdict::NotUntil(_) | Verdict::TooLarge | Verdict::Away(_) => {
                state.leases.refused(now, asked.model, PAUSE);
                None
            }
        };
        drop(state);
        self.answered.notify_all();
        if let Some(ends_at) = ends_at {
            let leasing = Arc::downgrade(self);
            let expire = move |now| leasing.upgrade().iter().for_each(|leasing| leasing.expire(now));
            self.ledger.call_at(ends_at, Box::new(expire));
        }
    }

    fn expire(&self, now: Moment) {
        self.tell_now(|leases| leases.expire(now));
    }

    /// Part of what an open attempt took is counted for good.
    pub(super) fn counted(self: &Arc<Self>, lease: AttemptId, lines: Vec<PartLine>) {
        self.tell_soon(|leases| leases.counted(lease, lines));
    }

    /// An attempt has ended.
    pub(super) fn settle(self: &Arc<Self>, lease: AttemptId, lines: Vec<PartLine>) {
        self.tell_soon(|leases| leases.settle(lease, lines));
    }

    /// An attempt was not sent.
    pub(super) fn unspend(self: &Arc<Self>, lease: AttemptId, amounts: &[u64]) {
        self.tell_soon(|leases| leases.unspend(lease, amounts));
    }

    /// Nothing more is spent on that account, or on one model of it.
    pub(super) fn revoke(&self, account: AccountIndex, model: Option<ModelIndex>) {
        self.tell_now(|leases| leases.revoke(account, model));
    }

    /// Gives back all that is leased and not spent, and takes no more. Blocks, while an answer is due.
    pub(super) fn close(&self) {
        self.tell_now(Leases::close);
        let mut state = self.state.lock();
        while state.leases.are_awaited() {
            if self.answered.wait_for(&mut state, LAST_ANSWER).timed_out() {
                return;
            }
        }
    }

    fn tell_now(&self, change: impl FnOnce(&mut Leases) -> Vec<Settlement>) {
        let mut state = self.state.lock();
        let news = change(&mut state.leases);
        state.note(self.ledger.now(), news);
        self.pass_on(&mut state);
    }

    fn tell_soon(self: &Arc<Self>, change: impl FnOnce(&mut Leases) -> Option<Settlement>) {
        let mut state = self.state.lock();
        let is_first = state.news.is_empty();
        let news = change(&mut state.leases);
        state.note(self.ledger.now(), news);
        if state.leases.are_closed() {
            return self.pass_on(&mut state);
        }
        if is_first && !state.news.is_empty() {
            let leasing = Arc::downgrade(self);
            let pass_on = move |_| {
                leasing.upgrade().iter().for_each(|leasing| leasing.pass_on(&mut leasing.state.lock()));
            };
            self.ledger.call_at(self.ledger.now() + NEWS_WAIT, Box::new(pass_on));
        }
    }

    fn pass_on(&self, state: &mut State) {
        for mut news in state.news.take(usize::MAX, usize::MAX) {
            parts::fold(&mut news);
            self.ledger.settle(news);
        }
    }
}

impl State {
    fn note(&mut self, now: Moment, news: impl IntoIterator<Item = Settlement>) {
        for news in news {
            // Given up only where the owner, who has the same bound, would give it up.
            let _lost = self.news.add(now, news, false);
        }
    }
}

impl Asked {
    /// `send_by` is the claim's: what is spent before must have time to be sent.
    fn granted(&self, position: usize, send_by: Moment) -> Option<Lease> {
        let account = self.accounts.get(position)?;
        Lease::granted(&self.claim, (position, *account), send_by - self.send_within, send_by)
    }
}
