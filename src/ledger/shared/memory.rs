//! Refusals that are known without asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::db::shared_ledger::{
    AccountPart, Budget, Claim, ClaimAccount, ClaimLine, Cooled, Obstacle, SettledLine, Why,
};
use crate::domain::clock::Moment;
use crate::domain::limit::Unit;

/// Amounts remembered per limit. Chosen: a refusal of less covers those of more until the same instant; further
/// amounts only tell later instants apart.
const AMOUNTS_MAX: usize = 16;

/// Limits remembered. Chosen: accounts × limits of a large provider; beyond it the ledger is asked.
const LIMITS_MAX: usize = 4_096;

/// Account, scope, unit.
type Key = (String, String, Unit);

/// What one provider's limits last refused, by limit and units: that much or more does not fit until then. And what is
/// left alone of its accounts.
#[derive(Debug, Default)]
pub(super) struct Memory {
    refusals: BTreeMap<Key, BTreeMap<u64, Moment>>,
    /// Also what only waits for its probe: what comes of that goes on from how often it was in vain.
    cooling: BTreeMap<AccountPart, Cooling>,
    /// Whether `cooling` is not what was told last.
    has_changed: bool,
}

/// A part of an account that is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cooling {
    until: Moment,
    why: Why,
    /// From here on the ledger is asked anew, for it may have been reopened.
    believed_until: Moment,
    /// Only because an attempt is finding out whether it is over.
    is_probed: bool,
    /// Begun here, when so many calls had been made: the next one takes it along.
    begun_at: Option<u64>,
}

/// A part of an account that is left alone until an instant, or waits for its probe since then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownCooling {
    pub(super) part: AccountPart,
    pub(super) until: Moment,
    pub(super) why: Why,
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
        // Nearly always nothing is left alone at all.
        let scopes = account.cooldowns.iter().filter(|_| !self.cooling.is_empty());
        let cooling = scopes.filter_map(|scope| {
            let part = AccountPart { account: account.account.clone(), scope: scope.clone() };
            let cooling = self.cooling.get(&part)?;
            (cooling.believed_until > now).then_some(cooling.until)
        });
        lines.chain(cooling).max().filter(|until| *until > now)
    }

    /// Whether anybody was refused of late, so that room that comes back is waited for.
    pub(super) fn has_refused(&self) -> bool {
        !self.refusals.is_empty()
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

    /// Leaves a part of an account alone without asking, when so many calls have been made.
    pub(super) fn cool_down(
        &mut self,
        (now, calls): (Moment, u64),
        part: &AccountPart,
        duration: Option<Duration>,
        why: Why,
    ) {
        let until = duration.map_or(Moment::NEVER, |duration| now + duration);
        let cooling = Cooling { until, why, believed_until: until, is_probed: false, begun_at: Some(calls) };
        let is_longer = |known: &Cooling| !known.is_probed && known.until > until;
        if !self.cooling.get(part).is_some_and(is_longer) {
            self.keep(now, part.clone(), cooling);
        }
    }

    /// Writes down what the ledger says of the parts that the call of that number asked for, of an answer that came
    /// `now`.
    pub(super) fn learn<'a>(
        &mut self,
        now: Moment,
        call: u64,
        asked: impl Iterator<Item = &'a ClaimAccount>,
        cooled: &[Cooled],
    ) {
        // What was begun here since may not be written yet.
        let knows_more = |known: &Cooling| known.begun_at.is_some_and(|calls| calls >= call);
        let asked = asked.filter(|_| !self.cooling.is_empty());
        let parts = asked.flat_map(|ClaimAccount { account, cooldowns, .. }| {
            cooldowns.iter().map(|scope| AccountPart { account: account.clone(), scope: scope.clone() })
        });
        let is_told = |part: &AccountPart| cooled.iter().any(|cooled| cooled.part == *part);
        let is_open = |part: &AccountPart| self.cooling.get(part).is_some_and(|known| !knows_more(known));
        let open: Vec<AccountPart> = parts.filter(|part| is_open(part) && !is_told(part)).collect();
        open.iter().for_each(|part| self.reopen(part));
        for Cooled { part, after, is_probed, why } in cooled {
            let until = now + *after;
            let believed_until = until.min(now + BELIEVED);
            let cooling = Cooling { until, why: *why, believed_until, is_probed: *is_probed, begun_at: None };
            let is_later = |known: &Cooling| known.believed_until > now && known.until > until;
            let stays = |known: &Cooling| knows_more(known) || is_later(known);
            if !self.cooling.get(part).is_some_and(stays) {
                self.keep(now, part.clone(), cooling);
            }
        }
    }

    /// A probe of ours has come out: who waited for it may ask again.
    pub(super) fn forget_probes(&mut self) {
        let before = self.cooling.len();
        self.cooling.retain(|_, cooling| !cooling.is_probed);
        self.has_changed |= before != self.cooling.len();
    }

    /// All that is left alone, if that has changed since this was asked last.
    pub(super) fn take_changed_cooling(&mut self) -> Option<Arc<[KnownCooling]>> {
        let known = |(part, cooling): (&AccountPart, &Cooling)| KnownCooling {
            part: part.clone(),
            until: cooling.until,
            why: cooling.why,
        };
        std::mem::take(&mut self.has_changed).then(|| self.cooling.iter().map(known).collect())
    }

    fn keep(&mut self, now: Moment, part: AccountPart, cooling: Cooling) {
        if self.cooling.len() >= LIMITS_MAX {
            self.cooling.retain(|_, cooling| cooling.until > now);
        }
        if self.cooling.len() < LIMITS_MAX || self.cooling.contains_key(&part) {
            self.cooling.insert(part, cooling);
            self.has_changed = true;
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
    pub(super) fn reopen(&mut self, part: &AccountPart) {
        self.has_changed |= self.cooling.remove(part).is_some();
    }

    fn forget_what_is_over(&mut self, now: Moment) {
        self.refusals.retain(|_, amounts| {
            amounts.retain(|_, until| *until > now);
            !amounts.is_empty()
        });
    }
}

fn key(budget: &Arc<Budget>) -> Key {
    (budget.account.clone(), budget.scope.clone(), budget.unit)
}

fn can_ever_fit(line: &ClaimLine) -> bool {
    let max = line.budget.definitions.iter().map(|definition| definition.max).min();
    max.is_none_or(|max| line.amount.saturating_add(line.leave) <= max)
}
