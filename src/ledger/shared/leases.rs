//! The leases of one provider: those that are spent, and those that wait for their last attempts; pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lease::Lease;
use super::lease_policy::{Ask, Caps, Policy};
use crate::db::shared_ledger::{AttemptId, PartLine, Settlement};
use crate::domain::clock::Moment;
use crate::quota::{AccountIndex, ModelIndex, Terms};

/// All leases of one provider. What its methods return is to be told to the ledger, in the order in which it came.
#[derive(Debug)]
pub(super) struct Leases {
    /// By model; `None` for one whose limits are not fast.
    policies: Vec<Option<Policy>>,
    /// Until their last attempt has ended. By age: the oldest is spent first.
    leases: BTreeMap<AttemptId, (ModelIndex, Lease)>,
    is_closed: bool,
}

/// What a lease has paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spend {
    pub(super) lease: AttemptId,
    pub(super) account: AccountIndex,
    /// The attempt is sent by this instant or not at all.
    pub(super) send_by: Moment,
}

impl Leases {
    pub(super) fn new(terms: &Terms, models: usize) -> Self {
        let policy = |model| Caps::of(terms, ModelIndex(model)).map(Policy::new);
        Self { policies: (0..models).map(policy).collect(), leases: BTreeMap::new(), is_closed: false }
    }

    /// Whether any lease is ever taken for that model.
    pub(super) fn are_for(&self, model: ModelIndex) -> bool {
        self.policy(model).is_some()
    }

    /// Takes these amounts from a lease on the first of the accounts that has one with enough.
    pub(super) fn spend(
        &mut self,
        now: Moment,
        model: ModelIndex,
        accounts: &[AccountIndex],
        amounts: &[u64],
    ) -> Option<Spend> {
        self.policies.get_mut(model.0)?.as_mut()?.note(now, amounts);
        accounts.iter().find_map(|account| {
            let its = |(of, lease): &&mut (ModelIndex, Lease)| *of == model && lease.account() == *account;
            self.leases.values_mut().filter(its).find_map(|(_, lease)| {
                let send_by = lease.spend(now, amounts)?;
                Some(Spend { lease: lease.id(), account: *account, send_by })
            })
        })
    }

    /// The lease to ask for now; whoever is told must ask, and pass the answer on.
    pub(super) fn wish(&mut self, now: Moment, model: ModelIndex) -> Option<Vec<Ask>> {
        if self.is_closed {
            return None;
        }
        let leases = &self.leases;
        let left = |then| {
            let mut sums: Vec<u64> = Vec::new();
            for (_, lease) in leases.values().filter(|(of, _)| *of == model) {
                let left: Vec<u64> = lease.left(then).collect();
                sums.resize(left.len().max(sums.len()), 0);
                sums.iter_mut().zip(left).for_each(|(sum, left)| *sum = sum.saturating_add(left));
            }
            sums
        };
        self.policies.get_mut(model.0)?.as_mut()?.wish(now, left)
    }

    /// A lease was granted. News, where nobody spends it any more.
    pub(super) fn granted(&mut self, model: ModelIndex, lease: Lease) -> Option<Settlement> {
        if let Some(policy) = self.policy_mut(model) {
            policy.granted();
        }
        let id = lease.id();
        self.leases.insert(id, (model, lease));
        if self.is_closed { self.change(id, Lease::end) } else { None }
    }

    /// A lease was not granted: none is asked for before that pause is over.
    pub(super) fn refused(&mut self, now: Moment, model: ModelIndex, pause: Duration) {
        if let Some(policy) = self.policy_mut(model) {
            policy.refused(now, pause);
        }
    }

    /// Part of what an open attempt took is counted for good.
    pub(super) fn counted(&mut self, lease: AttemptId, lines: Vec<PartLine>) -> Option<Settlement> {
        self.change(lease, |lease| Some(lease.counted(lines)))
    }

    /// An attempt has ended.
    pub(super) fn settle(&mut self, lease: AttemptId, lines: Vec<PartLine>) -> Option<Settlement> {
        self.change(lease, |lease| Some(lease.settle(lines)))
    }

    /// An attempt was not sent.
    pub(super) fn unspend(&mut self, lease: AttemptId, amounts: &[u64]) -> Option<Settlement> {
        self.change(lease, |lease| lease.unspend(amounts))
    }

    /// Ends the leases whose time is over.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<Settlement> {
        self.end(|_, lease| lease.spend_until() <= now)
    }

    /// Ends the leases of an account, for all of its models or for one.
    pub(super) fn revoke(&mut self, account: AccountIndex, model: Option<ModelIndex>) -> Vec<Settlement> {
        self.end(|of, lease| lease.account() == account && model.is_none_or(|model| model == of))
    }

    /// Ends all leases.
    pub(super) fn revoke_all(&mut self) -> Vec<Settlement> {
        self.end(|_, _| true)
    }

    /// Ends all leases, those too that are still to come.
    pub(super) fn close(&mut self) -> Vec<Settlement> {
        self.is_closed = true;
        self.revoke_all()
    }

    /// Whether none is taken any more.
    pub(super) fn are_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether an answer to a wish is due.
    pub(super) fn are_awaited(&self) -> bool {
        self.policies.iter().flatten().any(Policy::is_asking)
    }

    fn end(&mut self, is_meant: impl Fn(ModelIndex, &Lease) -> bool) -> Vec<Settlement> {
        let meant = self.leases.iter().filter(|(_, (model, lease))| is_meant(*model, lease));
        let ids: Vec<AttemptId> = meant.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.change(id, Lease::end)).collect()
    }

    /// Changes a lease, and forgets it when all is said.
    fn change(
        &mut self,
        id: AttemptId,
        change: impl FnOnce(&mut Lease) -> Option<Settlement>,
    ) -> Option<Settlement> {
        let (_, lease) = self.leases.get_mut(&id)?;
        let news = change(lease);
        if lease.is_done() {
            self.leases.remove(&id);
        }
        news
    }

    fn policy(&self, model: ModelIndex) -> Option<&Policy> {
        self.policies.get(model.0)?.as_ref()
    }

    fn policy_mut(&mut self, model: ModelIndex) -> Option<&mut Policy> {
        self.policies.get_mut(model.0)?.as_mut()
    }
}

#[cfg(test)]
mod properties;
