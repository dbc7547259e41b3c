//! Refusals that are known without asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::db::shared_ledger::{Budget, Claim, ClaimAccount, ClaimLine, Cooled, Obstacle, SettledLine};
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
    cooling: BTreeMap<Target, Cooling>,
}

/// Account and scope.
type Target = (String, String);

/// A target that is left alone.
#[derive(Clone, Copy, Debug)]
struct Cooling {
    until: Moment,
    /// From here on the ledger is asked anew, for it may have been reopened.
    believed_until: Moment,
    /// Only because an attempt is finding out whether it is over.
    is_probed: bool,
}

/// How long a cooldown that another replica has begun is believed. Chosen: what one replica changes is known to all
/// within 5 s.
const BELIEVED: Duration = Duration::from_secs(5);

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
        let cooling = account.cooldowns.iter().filter_map(|scope| {
            let cooling = self.cooling.get(&(account.account.clone(), scope.clone()))?;
            (cooling.believed_until > now).then_some(cooling.until)
        });
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
            let target = (account.to_owned(), scope.to_owned());
            let cooling = Cooling { until, believed_until: until, is_probed: false };
            let known = self.cooling.entry(target).or_insert(cooling);
            if known.is_probed || known.until <= until {
                *known = cooling;
            }
        }
    }

    /// Writes down what the ledger says is left alone, of an answer that came `now`.
    pub(super) fn learn(&mut self, now: Moment, cooled: &[Cooled]) {
        for Cooled { account, scope, after, is_probed } in cooled {
            let until = now + *after;
            let believed_until = until.min(now + BELIEVED);
            let cooling = Cooling { until, believed_until, is_probed: *is_probed };
            let target = (account.clone(), scope.clone());
            // What was begun here meanwhile may not be written yet.
            let knows_more = self
                .cooling
                .get(&target)
                .is_some_and(|known| known.believed_until > now && known.until > until);
            if !knows_more && (self.cooling.len() < LIMITS_MAX || self.cooling.contains_key(&target)) {
                self.cooling.insert(target, cooling);
            }
        }
    }

    /// A probe of ours has come out: who waited for it may ask again.
    pub(super) fn forget_probes(&mut self) {
        self.cooling.retain(|_, cooling| !cooling.is_probed);
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
        self.cooling.retain(|_, cooling| cooling.until > now);
    }
}

fn key(budget: &Arc<Budget>) -> Key {
    (budget.account.clone(), budget.scope.clone(), budget.unit)
}

fn can_ever_fit(line: &ClaimLine) -> bool {
    let max = line.budget.definitions.iter().map(|definition| definition.max).min();
    max.is_none_or(|max| line.amount.saturating_add(line.leave) <= max)
}
