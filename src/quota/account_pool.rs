//! The accounts of one provider, each with budgets of its own, and the choice between them.

use std::cmp::Reverse;

use crate::domain::clock::Moment;
use crate::domain::provider::ProviderSpec;

use super::budget::{Budget, Room};
use super::cooldown::Cooldowns;
use super::demand::{AccountIndex, ModelIndex};
use super::hold::{Hold, Line};
use super::hold_rule::{Charging, Course};
use super::layout::{Bound, Layout, LimitIndex};
use super::time_of_day::TimeOfDay;

/// All accounts of one provider.
#[derive(Debug)]
pub(super) struct AccountPool {
    accounts: Vec<Account>,
}

/// One account's budgets, in the order of the layout, and its cooldowns.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) budgets: Vec<Budget>,
    pub(super) cooldowns: Cooldowns,
}

impl AccountPool {
    pub(super) fn new(spec: &ProviderSpec, layout: &Layout) -> Self {
        let account = |name: &str| Account {
            name: name.to_owned(),
            budgets: layout.places.iter().map(|place| Budget::new(&place.limit)).collect(),
            cooldowns: Cooldowns::new(spec.models.len()),
        };
        Self { accounts: spec.accounts.iter().map(|spec| account(&spec.name)).collect() }
    }

    /// The account with the most room for that course, the first of equals.
    ///
    /// # Errors
    /// When none has room: the earliest instant at which asking one of them again makes sense.
    pub(super) fn choose(
        &mut self,
        now: Moment,
        model: ModelIndex,
        bound: &Bound,
        course: &Course,
    ) -> Result<AccountIndex, Moment> {
        let mut best: Option<(Room, AccountIndex)> = None;
        let mut not_until = Moment::NEVER;
        for (index, account) in self.accounts.iter_mut().enumerate() {
            match account.offer(now, model, bound, course) {
                Ok(room) if best.is_some_and(|(most, _)| room <= most) => {}
                Ok(room) => best = Some((room, AccountIndex(index))),
                Err(instant) => not_until = not_until.min(instant),
            }
        }
        best.map(|(_, index)| index).ok_or(not_until)
    }

    /// All accounts with room for that course, the one with the most first; of equals in their order.
    ///
    /// # Errors
    /// As for [`AccountPool::choose`].
    pub(super) fn rank(
        &mut self,
        now: Moment,
        model: ModelIndex,
        bound: &Bound,
        course: &Course,
    ) -> Result<Vec<AccountIndex>, Moment> {
        let mut fit = Vec::new();
        let mut not_until = Moment::NEVER;
        for (index, account) in self.accounts.iter_mut().enumerate() {
            match account.offer(now, model, bound, course) {
                Ok(room) => fit.push((Reverse(room), AccountIndex(index))),
                Err(instant) => not_until = not_until.min(instant),
            }
        }
        fit.sort();
        if fit.is_empty() { Err(not_until) } else { Ok(fit.into_iter().map(|(_, index)| index).collect()) }
    }

    pub(super) fn get_mut(&mut self, index: AccountIndex) -> Option<&mut Account> {
        self.accounts.get_mut(index.0)
    }

    pub(super) fn set_time_of_day(&mut self, now: Moment, time_of_day: TimeOfDay) {
        let budgets = self.accounts.iter_mut().flat_map(|account| &mut account.budgets);
        budgets.for_each(|budget| budget.set_time_of_day(now, time_of_day));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }
}

impl Account {
    /// Takes what that course holds from every budget that binds it.
    pub(super) fn take(&mut self, bound: &Bound, course: &Course) -> Vec<Line> {
        let take = |&index: &usize| {
            let held = self.budgets.get_mut(index)?.take(bound.charging, course);
            Some(Line { budget: index, held })
        };
        bound.places.iter().filter_map(take).collect()
    }

    /// The same, released first what is due.
    pub(super) fn grant(&mut self, now: Moment, bound: &Bound, course: &Course) -> Vec<Line> {
        for &index in &bound.places {
            if let Some(budget) = self.budgets.get_mut(index) {
                budget.advance(now);
            }
        }
        self.take(bound, course)
    }

    /// Writes down what an attempt that has ended still holds.
    pub(super) fn restore(&mut self, now: Moment, bound: &Bound, course: &Course) {
        for &index in &bound.places {
            if let Some(budget) = self.budgets.get_mut(index) {
                budget.advance(now);
                budget.take(bound.charging, course);
            }
        }
    }

    /// Holds `amount` of one limit that was counted at `last_count` at the latest.
    pub(super) fn fill(&mut self, now: Moment, limit: LimitIndex, amount: u64, last_count: Moment) {
        if let Some(budget) = self.budgets.get_mut(limit.0) {
            budget.advance(now);
            budget.fill(amount, last_count);
        }
    }

    /// Brings every line of a hold up to what is now known of its course.
    pub(super) fn correct(&mut self, now: Moment, charging: Charging, hold: &mut Hold) {
        for line in &mut hold.lines {
            let Some(budget) = self.budgets.get_mut(line.budget) else { continue };
            budget.advance(now);
            budget.give_back(line.held);
            line.held = budget.take(charging, &hold.course);
        }
    }

    /// Gives back everything that a hold took.
    pub(super) fn give_back(&mut self, now: Moment, hold: &Hold) {
        for line in &hold.lines {
            let Some(budget) = self.budgets.get_mut(line.budget) else { continue };
            budget.advance(now);
            budget.give_back(line.held);
        }
    }

    /// Holds all of those budgets, as if upstream had counted that much until `last_count`.
    pub(super) fn block(&mut self, now: Moment, budgets: impl Iterator<Item = usize>, last_count: Moment) {
        for index in budgets {
            if let Some(budget) = self.budgets.get_mut(index) {
                budget.advance(now);
                budget.block(last_count);
            }
        }
    }

    /// The smallest room that would be left in any budget; an error names the instant at which the last thing
    /// in the way is gone, be it a budget or a cooldown.
    fn offer(
        &mut self,
        now: Moment,
        model: ModelIndex,
        bound: &Bound,
        course: &Course,
    ) -> Result<Room, Moment> {
        let mut least = Room::ALL;
        let mut not_until = Some(self.cooldowns.end(model)).filter(|end| *end > now);
        for &index in &bound.places {
            let Some(budget) = self.budgets.get_mut(index) else { continue };
            budget.advance(now);
            match budget.room_after(bound.charging, course) {
                Some(room) => least = least.min(room),
                None => not_until = not_until.max(Some(budget.not_until(now, bound.charging, course))),
            }
        }
        not_until.map_or(Ok(least), Err)
    }
}
