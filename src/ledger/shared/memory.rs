//! Refusals that are known without asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::db::shared_ledger::{Budget, Claim, ClaimAccount, ClaimLine, Obstacle, SettledLine};
use crate::domain::clock::Moment;
use crate::domain::limit::Unit;

/// Amounts remembered per limit. Chosen: a refusal of less covers those of more until the same instant; further
/// amounts only tell later instants apart.
const AMOUNTS_MAX: usize = 16;

/// Limits remembered. Chosen: accounts × limits of a large provider; beyond it the ledger is asked.
const LIMITS_MAX: usize = 4_096;

/// Account, scope, unit.
type Key = (String, String, Unit);

/// What one provider's limits last refused, by limit and units: that much or more does not fit until then.
#[derive(Debug, Default)]
pub(super) struct Memory {
    refusals: BTreeMap<Key, BTreeMap<u64, Moment>>,
    /// Account and scope.
    cooling: BTreeMap<(String, String), Moment>,
}

/// What memory says of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    NotUntil(Moment),
    TooLarge,
}

impl Memory {
    /// The answer to a claim, if no account could be granted on: `None` means that the ledger must be asked.
    pub(super) fn answer(&self, now: Moment, claim: &Claim) -> Option<Known> {
        let mut not_until = None;
        for account in claim.accounts.iter().filter(|account| account.lines.iter().all(can_ever_fit)) {
            let until = self.account_until(now, account)?;
            not_until = Some(not_until.map_or(until, |earliest: Moment| earliest.min(until)));
        }
        Some(not_until.map_or(Known::TooLarge, Known::NotUntil))
    }

    fn account_until(&self, now: Moment, account: &ClaimAccount) -> Option<Moment> {
        let lines = account.lines.iter().filter_map(|line| self.line_until(line));
        let cooling = account
            .cooldowns
            .iter()
            .filter_map(|scope| self.cooling.get(&(account.account.clone(), scope.clone())).copied());
        lines.chain(cooling).max().filter(|until| *until > now)
    }

    fn line_until(&self, line: &ClaimLine) -> Option<Moment> {
        let wanted = line.amount.saturating_add(line.leave);
        self.refusals.get(&key(&line.budget))?.range(..=wanted).map(|(_, until)| *until).max()
    }

    /// Writes down what stood in the way, of an answer that came `now`.
    pub(super) fn remember(&mut self, now: Moment, obstacles: &[Obstacle]) {
        self.forget_what_is_over(now);
        for obstacle in obstacles {
            let key = key(&obstacle.budget);
            if self.refusals.len() >= LIMITS_MAX && !self.refusals.contains_key(&key) {
                continue;
            }
            let amounts = self.refusals.entry(key).or_default();
            amounts.insert(obstacle.amount, now + obstacle.after);
            if amounts.len() > AMOUNTS_MAX {
                amounts.pop_last();
            }
        }
    }

    /// Leaves an account, or a model on it, alone without asking.
    pub(super) fn cool_down(&mut self, now: Moment, account: &str, scope: &str, duration: Option<Duration>) {
        let until = duration.map_or(Moment::NEVER, |duration| now + duration);
        self.forget_what_is_over(now);
        if self.cooling.len() < LIMITS_MAX {
            let entry = self.cooling.entry((account.to_owned(), scope.to_owned())).or_insert(until);
            *entry = until.max(*entry);
        }
    }

    /// Forgets the refusals of limits that an attempt of ours has just given something back to.
    pub(super) fn forget(&mut self, lines: &[SettledLine]) {
        let gives_back =
            |scope: &str, unit: Unit| lines.iter().any(|line| line.scope == scope && line.unit == unit);
        self.refusals.retain(|(_, scope, unit), _| *unit == Unit::Requests || !gives_back(scope, *unit));
    }

    /// Forgets everything: limits or accounts have changed, or an attempt was not sent.
    pub(super) fn forget_refusals(&mut self) {
        self.refusals.clear();
    }

    /// Ends a cooldown.
    pub(super) fn reopen(&mut self, account: &str, scope: &str) {
        self.cooling.remove(&(account.to_owned(), scope.to_owned()));
    }

    fn forget_what_is_over(&mut self, now: Moment) {
        self.refusals.retain(|_, amounts| {
            amounts.retain(|_, until| *until > now);
            !amounts.is_empty()
        });
        self.cooling.retain(|_, until| *until > now);
    }
}

fn key(budget: &Arc<Budget>) -> Key {
    (budget.account.clone(), budget.scope.clone(), budget.unit)
}

fn can_ever_fit(line: &ClaimLine) -> bool {
    let max = line.budget.definitions.iter().map(|definition| definition.max).min();
    max.is_none_or(|max| line.amount.saturating_add(line.leave) <= max)
}
