//! Whose turn it is.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::domain::ids::TenantId;

/// When a tenant is served next: the round of the deficit round robin, and within it the tenants in their order.
pub(super) type Turn = (u64, TenantId);

/// What a tenant's deficit gains in each round, for each of its weight: the cost of the smallest request. Chosen: any
/// larger quantum lets a tenant serve several requests in a row.
const QUANTUM: u64 = 1;

/// A tenant's account in a deficit round robin whose rounds are computed and not walked: it may be overdrawn by what
/// was served last, and the tenant's next turn is in the first round in which it has something again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    weight: u64,
    /// The round of its next turn.
    round: u64,
    /// What it will have then: between 1 and its quantum.
    deficit: u64,
}

impl Account {
    pub(super) fn new(weight: u32, round: u64) -> Self {
        let weight = u64::from(weight.max(1));
        Self { weight, round, deficit: QUANTUM * weight }
    }

    pub(super) fn set_weight(&mut self, weight: u32) {
        self.weight = u64::from(weight.max(1));
        self.deficit = self.deficit.min(self.quantum());
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// Pays for what was served. It is owed twice the cost of that at most: enough to make up for what others had
    /// while this was too large for what was left, and too little to save up while it waits for something else.
    pub(super) fn charge(&mut self, cost: u64, round: u64) {
        let credit_max = cost.saturating_mul(2).div_ceil(self.quantum());
        self.round = self.round.max(round.saturating_sub(credit_max));
        if cost < self.deficit {
            self.deficit -= cost;
            return;
        }
        let overdrawn = cost - self.deficit;
        let rounds = overdrawn / self.quantum() + 1;
        self.round = self.round.saturating_add(rounds);
        self.deficit = rounds.saturating_mul(self.quantum()).saturating_sub(overdrawn);
    }

    fn quantum(&self) -> u64 {
        QUANTUM.saturating_mul(self.weight)
    }
}

/// The order of the tenants at one provider.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The latest round in which somebody was served.
    round: u64,
    /// Who has somebody waiting.
    waiting: BTreeSet<Turn>,
    /// Who has nobody waiting, and has still to make up for what it had: it would get rid of that by leaving.
    resting: BTreeSet<Turn>,
    /// Whoever comes before has been looked at in vain.
    from: Option<Turn>,
    /// Whether somebody waits whose turn that is.
    is_exact: bool,
    is_at_end: bool,
    /// Of those before, the ones who have to be looked at again.
    again: BTreeSet<Turn>,
}

impl Turns {
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// A tenant has somebody waiting.
    pub(super) fn enter(&mut self, turn: Turn) {
        self.resting.remove(&turn);
        self.waiting.insert(turn);
        self.look_again_at(turn);
    }

    /// A tenant has nobody waiting any more; whether its account has to be kept.
    pub(super) fn rest(&mut self, turn: Turn) -> bool {
        self.waiting.remove(&turn);
        self.again.remove(&turn);
        self.is_exact = false;
        if self.waiting.is_empty() {
            // Nobody is there to whom it would have to be made up.
            return false;
        }
        let is_kept = turn.0 > self.round;
        if is_kept {
            self.resting.insert(turn);
        }
        is_kept
    }

    /// A tenant that has somebody waiting was served in its turn `then`, and comes again at `next`.
    pub(super) fn serve(&mut self, then: Turn, next: Turn) {
        self.round = self.round.max(then.0);
        if then != next && self.waiting.remove(&then) {
            self.is_exact = false;
            self.waiting.insert(next);
            if self.again.remove(&then) {
                self.look_again_at(next);
            }
        }
    }

    /// Who has made up for what it had, if there is one.
    pub(super) fn rested(&mut self) -> Option<TenantId> {
        let first = self.resting.first()?;
        let is_over = first.0 <= self.round || self.waiting.is_empty();
        is_over.then(|| self.resting.pop_first()).flatten().map(|(_, tenant)| tenant)
    }

    /// The tenant to look at: the first that was not looked at in vain.
    pub(super) fn current(&mut self) -> Option<Turn> {
        if let Some(again) = self.again.first() {
            return Some(*again);
        }
        if self.is_at_end || self.is_exact {
            return self.from.filter(|_| self.is_exact);
        }
        let from = self.from.map_or(Unbounded, Included);
        self.from = self.waiting.range((from, Unbounded)).next().copied();
        (self.is_exact, self.is_at_end) = (self.from.is_some(), self.from.is_none());
        self.from
    }

    /// The tenant of that turn was looked at in vain.
    pub(super) fn pass(&mut self, turn: Turn) {
        if self.again.remove(&turn) {
            return;
        }
        self.from = self.waiting.range((Excluded(turn), Unbounded)).next().copied();
        (self.is_exact, self.is_at_end) = (self.from.is_some(), self.from.is_none());
    }

    /// All of them have to be looked at again.
    pub(super) fn look_again(&mut self) {
        (self.from, self.is_exact, self.is_at_end) = (None, false, false);
        self.again.clear();
    }

    /// The tenant of that turn has to be looked at again.
    pub(super) fn look_again_at(&mut self, turn: Turn) {
        if self.is_at_end || self.from.is_some_and(|from| turn < from) {
            self.again.insert(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_paid_by_waiting_for_as_many_rounds() {
        let mut account = Account::new(1, 7);
        account.charge(1, 7);
        assert_eq!(account.round(), 8);
        account.charge(5, 8);
        assert_eq!(account.round(), 13);
    }

    #[test]
    fn a_weight_is_so_much_in_each_round() {
        let mut account = Account::new(3, 0);
        let rounds: Vec<u64> = (0..7)
            .map(|_| {
                account.charge(1, account.round());
                account.round()
            })
            .collect();
        assert_eq!(rounds, [0, 0, 1, 1, 1, 2, 2]);
        account.charge(10, 2);
        assert_eq!(account.round(), 5);
    }

    #[test]
    fn what_is_owed_is_bounded_by_what_it_is_for() {
        let mut account = Account::new(1, 0);
        account.charge(4, 1_000);
        assert_eq!(account.round(), 1_000 - 8 + 4);
        account.charge(4, 1_000);
        assert_eq!(account.round(), 1_000);
    }

    #[test]
    fn who_has_had_more_than_its_turn_does_not_get_rid_of_it_by_leaving() {
        let (one, other) = (TenantId(1), TenantId(2));
        let mut turns = Turns::default();
        turns.enter((0, one));
        turns.enter((0, other));
        turns.serve((0, one), (9, one));
        assert!(turns.rest((9, one)));
        assert_eq!(turns.rested(), None);
        turns.serve((0, other), (9, other));
        turns.serve((9, other), (10, other));
        assert_eq!(turns.rested(), Some(one));
    }

    #[test]
    fn who_was_looked_at_in_vain_is_passed_until_it_has_to_be_looked_at_again() {
        let [one, two, three] = [1, 2, 3].map(|tenant| (0, TenantId(tenant)));
        let mut turns = Turns::default();
        [one, two, three].into_iter().for_each(|turn| turns.enter(turn));
        assert_eq!(turns.current(), Some(one));
        turns.pass(one);
        turns.pass(two);
        assert_eq!(turns.current(), Some(three));
        turns.look_again_at(two);
        assert_eq!(turns.current(), Some(two));
        turns.pass(two);
        assert_eq!(turns.current(), Some(three), "and nobody else between");
        turns.pass(three);
        assert_eq!(turns.current(), None);
        turns.look_again_at(one);
        assert_eq!(turns.current(), Some(one));
        turns.look_again();
        assert_eq!(turns.current(), Some(one));
    }
}
