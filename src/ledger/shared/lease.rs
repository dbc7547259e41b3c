//! An amount of a fast limit held in advance, spent without asking.
//!
//! A lease is claimed like an attempt, with larger amounts, with `leave` set so that the end of a budget is left to exact
//! calls, and with `send_within` = its life + the longest delay of sending. So the ledger holds it until its last
//! possible attempt was sent, counted and is a window old, also when this process dies.
//!
//! Invariant: what the ledger holds of it is what is left to spend and what open attempts have taken; what an attempt
//! has counted leaves it as a part, for a window of its own.

use crate::db::shared_ledger::{AttemptId, Claim, Part, PartLine, Settlement};
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::domain::limit::Unit;
use crate::quota::AccountIndex;

/// What a lease has of one limit, still to be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LeaseLine {
    scope: String,
    unit: Unit,
    left: u64,
}

/// A granted lease of one account. Everything it says is news for the ledger, to be passed on in that order.
#[derive(Debug)]
#[must_use = "a lease that is not ended holds its units until its crash cap"]
pub(super) struct Lease {
    id: AttemptId,
    provider: ProviderId,
    account: AccountIndex,
    lines: Vec<LeaseLine>,
    /// Nothing is spent from here on.
    spend_until: Moment,
    /// Nothing that was spent is sent from here on.
    send_by: Moment,
    /// Attempts that have taken something and go on.
    open: usize,
    parts: u64,
    /// What was not spent has been given back.
    is_over: bool,
}

impl Lease {
    /// The lease that `claim` was granted on the account at `position` among its accounts.
    pub(super) fn granted(
        claim: &Claim,
        (position, account): (usize, AccountIndex),
        spend_until: Moment,
        send_by: Moment,
    ) -> Option<Self> {
        let lines = claim.accounts.get(position)?.lines.iter().map(|line| LeaseLine {
            scope: line.budget.scope.clone(),
            unit: line.budget.unit,
            left: line.amount,
        });
        Some(Self {
            id: claim.id,
            provider: claim.provider.clone(),
            account,
            lines: lines.collect(),
            spend_until,
            send_by,
            open: 0,
            parts: 0,
            is_over: false,
        })
    }

    pub(super) fn id(&self) -> AttemptId {
        self.id
    }

    pub(super) fn account(&self) -> AccountIndex {
        self.account
    }

    pub(super) fn spend_until(&self) -> Moment {
        self.spend_until
    }

    /// What is left to spend at `now`, in the order of the claim's lines.
    pub(super) fn left(&self, now: Moment) -> impl Iterator<Item = u64> {
        let is_spent = self.is_over || now >= self.spend_until;
        self.lines.iter().map(move |line| if is_spent { 0 } else { line.left })
    }

    /// Takes an attempt's amounts, in the order of the claim's lines: all or none. The instant by which it is sent
    /// or given back; `None` when there is not enough left or the lease is over.
    pub(super) fn spend(&mut self, now: Moment, amounts: &[u64]) -> Option<Moment> {
        let is_same_shape = amounts.len() == self.lines.len();
        if !is_same_shape || self.left(now).zip(amounts).any(|(left, amount)| left < *amount) {
            return None;
        }
        if self.is_over || now >= self.spend_until {
            return None;
        }
        for (line, amount) in self.lines.iter_mut().zip(amounts) {
            line.left = line.left.saturating_sub(*amount);
        }
        self.open += 1;
        Some(self.send_by)
    }

    /// An attempt goes on, and part of what it took is counted for good.
    pub(super) fn counted(&mut self, lines: Vec<PartLine>) -> Settlement {
        Settlement { parts: self.part(lines).into_iter().collect(), ..self.news() }
    }

    /// An attempt has ended: what it holds of everything that was not counted before. Use above what it took is debt.
    pub(super) fn settle(&mut self, lines: Vec<PartLine>) -> Settlement {
        self.open = self.open.saturating_sub(1);
        let parts = self.part(lines).into_iter().collect();
        Settlement { parts, is_given_back: self.is_done(), ..self.news() }
    }

    /// An attempt was not sent: what it took can be spent again, or goes back.
    pub(super) fn unspend(&mut self, amounts: &[u64]) -> Option<Settlement> {
        self.open = self.open.saturating_sub(1);
        for (line, amount) in self.lines.iter_mut().zip(amounts) {
            line.left = line.left.saturating_add(*amount);
        }
        self.is_over.then(|| self.give_back())
    }

    /// Nothing more is spent: gives back what was not. Nothing new the second time.
    pub(super) fn end(&mut self) -> Option<Settlement> {
        let was_over = std::mem::replace(&mut self.is_over, true);
        (!was_over).then(|| self.give_back())
    }

    /// Whether the ledger was told all there is to tell.
    pub(super) fn is_done(&self) -> bool {
        self.is_over && self.open == 0
    }

    fn give_back(&mut self) -> Settlement {
        let unspent = |line: &mut LeaseLine| PartLine {
            scope: line.scope.clone(),
            unit: line.unit,
            taken: std::mem::take(&mut line.left),
            held: 0,
            last_count: None,
        };
        let lines: Vec<PartLine> = self.lines.iter_mut().map(unspent).filter(|line| line.taken > 0).collect();
        let parts = self.part(lines).into_iter().collect();
        Settlement { parts, is_given_back: self.is_done(), ..self.news() }
    }

    fn part(&mut self, lines: Vec<PartLine>) -> Option<Part> {
        let number = self.parts + 1;
        (!lines.is_empty()).then(|| {
            self.parts = number;
            Part { number, lines }
        })
    }

    fn news(&self) -> Settlement {
        Settlement::of(self.id, self.provider.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::db::shared_ledger::{Budget, ClaimAccount, ClaimLine};

    fn at(millis: i64) -> Moment {
        Moment::from_unix_micros(millis * 1_000)
    }

    fn line(unit: Unit, amount: u64) -> ClaimLine {
        let (account, scope) = ("a".to_owned(), "account".to_owned());
        let budget = Arc::new(Budget { account, scope, unit, models: None, definitions: Vec::new() });
        ClaimLine { budget, amount, crash_cap: Duration::ZERO, returnable: amount, leave: 0 }
    }

    /// Of 40 tokens and 4 requests, spent within half a second and sent within two.
    fn lease() -> Lease {
        let lines = vec![line(Unit::Tokens, 40), line(Unit::Requests, 4)];
        let account = ClaimAccount { account: "a".to_owned(), cooldowns: Vec::new(), lines };
        let claim = Claim {
            id: AttemptId::mint_lease(),
            provider: ProviderId::new("p"),
            send_within: Duration::from_secs(2),
            probe_within: Duration::ZERO,
            accounts: vec![account],
        };
        Lease::granted(&claim, (0, AccountIndex(7)), at(500), at(2_000)).unwrap()
    }

    fn part(unit: Unit, taken: u64, held: u64, last_count: Option<Moment>) -> PartLine {
        PartLine { scope: "account".to_owned(), unit, taken, held, last_count }
    }

    /// The number of each part, with what its lines take and hold; and whether the rest is given back.
    type Told = (Vec<(u64, Vec<(u64, u64)>)>, bool);

    fn told(settlement: &Settlement) -> Told {
        let lines = |part: &Part| part.lines.iter().map(|line| (line.taken, line.held)).collect();
        let parts = settlement.parts.iter().map(|part| (part.number, lines(part)));
        (parts.collect(), settlement.is_given_back)
    }

    #[test]
    fn it_is_spent_whole_amounts_at_a_time_until_its_life_is_over() {
        let mut lease = lease();
        assert_eq!(lease.spend(at(0), &[30, 1]), Some(at(2_000)));
        assert_eq!(lease.spend(at(0), &[11, 1]), None, "too many tokens");
        assert_eq!(lease.spend(at(0), &[10]), None, "another shape");
        assert_eq!(lease.spend(at(500), &[1, 1]), None, "too late");
        assert_eq!(lease.spend(at(500), &[0, 0]), None, "too late for nothing, too");
        assert_eq!(lease.spend(at(499), &[10, 1]), Some(at(2_000)));
        assert_eq!(lease.left(at(499)).collect::<Vec<_>>(), [0, 2]);
        lease.end();
        assert!(!lease.is_done(), "attempts are open");
    }

    #[test]
    fn each_attempt_leaves_it_for_a_window_of_its_own() {
        let mut lease = lease();
        lease.spend(at(0), &[10, 1]).unwrap();
        lease.spend(at(0), &[10, 1]).unwrap();
        let counted = lease.counted(vec![part(Unit::Requests, 1, 1, Some(at(100)))]);
        assert_eq!(told(&counted), (vec![(1, vec![(1, 1)])], false));
        // Twice what was estimated is debt.
        let settled = lease.settle(vec![part(Unit::Tokens, 10, 20, Some(at(300)))]);
        assert_eq!(told(&settled), (vec![(2, vec![(10, 20)])], false));
        assert_eq!(told(&lease.end().unwrap()), (vec![(3, vec![(20, 0), (2, 0)])], false));
        assert_eq!(lease.end(), None, "it ends once");
        assert!(lease.spend(at(0), &[0, 0]).is_none());
        let last = lease.settle(vec![part(Unit::Tokens, 10, 1, Some(at(900)))]);
        assert_eq!(told(&last), (vec![(4, vec![(10, 1)])], true));
        assert!(lease.is_done());
    }

    #[test]
    fn what_was_not_sent_is_spent_again_or_given_back() {
        let mut lease = lease();
        lease.spend(at(0), &[40, 4]).unwrap();
        assert_eq!(lease.unspend(&[40, 4]), None);
        lease.spend(at(1), &[40, 4]).unwrap();
        assert_eq!(told(&lease.end().unwrap()), (vec![], false), "there is nothing to give back");
        assert_eq!(told(&lease.unspend(&[40, 4]).unwrap()), (vec![(1, vec![(40, 0), (4, 0)])], true));
    }

    #[test]
    fn one_that_nobody_used_is_given_back_whole() {
        let (mut lease, whole) = (lease(), vec![(1, vec![(40, 0), (4, 0)])]);
        assert_eq!(told(&lease.end().unwrap()), (whole, true));
    }
}
