//! All budgets of one provider.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::limit::Window;
use crate::domain::provider::ProviderSpec;

use super::account_pool::{Account, AccountPool};
use super::answer::Answer;
use super::demand::{AccountIndex, Demand, ModelIndex};
use super::hold::Hold;
use super::hold_rule::{Course, Finish, LATE_COUNT};
use super::layout::{BookLimit, Layout, LimitIndex};
use super::record::HoldRecord;
use super::refusal::Refusal;
use super::remaining::{Left, Remaining};
use super::snapshot::{BookSnapshot, BudgetSnapshot, CooldownSnapshot};
use super::spent::Spent;
use super::terms::Term;
use super::time_of_day::TimeOfDay;

/// The books of one provider: every limit of every account, and what attempts hold of them.
///
/// Its clock is the latest `now` that it was told: one that steps back grants nothing and releases nothing.
#[derive(Debug)]
pub struct Book {
    layout: Layout,
    /// The upstream's ids, for those who look.
    models: Vec<String>,
    accounts: AccountPool,
    open_holds: usize,
    latest: Moment,
    time_of_day: TimeOfDay,
}

impl Book {
    /// An empty book: a budget on each account for each of the provider's limits (scope account and pool) and of
    /// its models'.
    pub fn new(spec: &ProviderSpec) -> Self {
        let layout = Layout::new(spec);
        Self {
            accounts: AccountPool::new(spec, &layout),
            layout,
            models: spec.models.iter().map(|model| model.id.clone()).collect(),
            open_holds: 0,
            latest: Moment::from_unix_micros(i64::MIN),
            time_of_day: TimeOfDay::default(),
        }
    }

    /// The time of day at `now` is `wall`. Windows of a calendar go by it; without a word it is `now` itself. It may be
    /// set either way, and jumps where the machine has slept: nothing comes back early by a step back.
    /// Answers `now`.
    pub fn follow(&mut self, now: Moment, wall: Moment) -> Moment {
        if let Some(time_of_day) = self.time_of_day.changed(now, wall) {
            let now = self.catch_up(now);
            self.time_of_day = time_of_day;
            self.accounts.set_time_of_day(now, time_of_day);
        }
        now
    }

    /// Takes the demand from every budget that binds it, on the account that will have the most room left, or
    /// takes nothing.
    ///
    /// A refusal's instant is the earliest over the accounts; on each, the latest of its cooldown and of the
    /// budgets in the way. A budget's is exact when nothing is open in it. Else an open attempt may be what
    /// gives room: units that its end may give back (estimated tokens, a parallel slot) are worth asking for
    /// once a second, so the instant is a second from now where they would be enough; units that it is bound to
    /// hold for a window (a request; the output cap, unless usage is charged) cannot be back before a window from
    /// now. The one exception is an attempt that is never sent, which nobody can expect.
    pub fn reserve(&mut self, now: Moment, demand: &Demand) -> Answer {
        let now = self.catch_up(now);
        let Some(bound) = self.layout.bound(demand.model) else {
            return Answer::Refused(Refusal::NotUntil(Moment::NEVER));
        };
        if !self.layout.can_ever_fit(bound, demand.reserved()) {
            return Answer::Refused(Refusal::TooLarge);
        }
        let send_by = now + demand.send_within;
        let course = Course::reserved(demand.reserved(), send_by);
        let account = match self.accounts.choose(now, demand.model, bound, &course) {
            Ok(account) => account,
            Err(not_until) => return Answer::Refused(Refusal::NotUntil(not_until)),
        };
        let taken = self.accounts.get_mut(account).map(|chosen| chosen.take(bound, &course));
        self.open_holds += 1;
        let lines = taken.unwrap_or_default();
        Answer::Granted(Hold { account, model: demand.model, course, lines, ticket: None })
    }

    /// Where a ledger that decides elsewhere should look for room: the accounts that have room as far as this book
    /// knows, the one with the most first.
    ///
    /// # Errors
    /// The refusal of a book that knows no more than this one: what it holds is a part of what is held, so that it
    /// never refuses what the ledger would grant by the same limits.
    pub fn rank(&mut self, now: Moment, demand: &Demand) -> Result<Vec<AccountIndex>, Refusal> {
        let now = self.catch_up(now);
        let Some(bound) = self.layout.bound(demand.model) else {
            return Err(Refusal::NotUntil(Moment::NEVER));
        };
        if !self.layout.can_ever_fit(bound, demand.reserved()) {
            return Err(Refusal::TooLarge);
        }
        let course = Course::reserved(demand.reserved(), now + demand.send_within);
        self.accounts.rank(now, demand.model, bound, &course).map_err(Refusal::NotUntil)
    }

    /// Writes down what a ledger has granted on `account`, whether this book sees room for it or not.
    pub fn grant(&mut self, now: Moment, account: AccountIndex, demand: &Demand, send_by: Moment) -> Hold {
        let now = self.catch_up(now);
        let course = Course::reserved(demand.reserved(), send_by);
        let chosen = self.accounts.get_mut(account).zip(self.layout.bound(demand.model));
        let lines = chosen.map(|(account, bound)| account.grant(now, bound, &course)).unwrap_or_default();
        self.open_holds += 1;
        Hold { account, model: demand.model, course, lines, ticket: None }
    }

    /// The first byte of the answer arrived: upstream has counted the request. Only the first call counts.
    pub fn first_byte(&mut self, now: Moment, hold: &mut Hold) {
        let now = self.catch_up(now);
        if hold.course.first_byte.is_none() {
            hold.course.first_byte = Some(now);
            self.correct(now, hold);
        }
    }

    /// Closes a hold with what was really used. Use above the reservation is debt: it is written down although
    /// it exceeds the limit, and nothing is granted before it is paid.
    pub fn settle(&mut self, now: Moment, mut hold: Hold, spent: Spent) {
        let now = self.catch_up(now);
        self.open_holds = self.open_holds.saturating_sub(1);
        hold.course.finish = Finish::of(spent, now);
        if hold.course.finish.is_some() {
            self.correct(now, &mut hold);
        } else if let Some(account) = self.accounts.get_mut(hold.account) {
            account.give_back(now, &hold);
        }
    }

    /// Holds again what an attempt of an earlier process holds. One that had not ended was cut off when that
    /// process died, which is taken to be now: it cannot have been later.
    pub fn restore(&mut self, now: Moment, record: &HoldRecord) {
        let now = self.catch_up(now);
        let Some(bound) = self.layout.bound(record.model) else { return };
        if let Some(account) = self.accounts.get_mut(record.account) {
            account.restore(now, bound, &record.course_at(now));
        }
    }

    /// Holds all of some limits of an account for one window, because what was used of them until `since` is not
    /// known: after a restored backup, or where a limit is new. Late counts of those attempts are allowed for, so
    /// that a sliding window ends 5 s later, and a calendar's with the usual guard after its reset. What is held
    /// already stays held besides.
    pub fn block(
        &mut self,
        now: Moment,
        account: AccountIndex,
        since: Moment,
        which: impl Fn(Term<'_>) -> bool,
    ) {
        let now = self.catch_up(now);
        let places = self.layout.places.iter().enumerate();
        let chosen = places.filter(|(_, place)| which(Term::of(place))).map(|(index, _)| index);
        if let Some(account) = self.accounts.get_mut(account) {
            account.block(now, chosen, since + LATE_COUNT);
        }
    }

    /// Why each account is left alone for that model at `now`, and until when; in their order, `None` for one that is
    /// not. Empty where none is.
    pub fn left_alone(&self, now: Moment, model: ModelIndex) -> Vec<Option<(CooldownReason, Moment)>> {
        let accounts = || self.accounts.iter().map(|account| account.cooldowns.of_model(now, model));
        if accounts().all(|cooldown| cooldown.is_none()) { Vec::new() } else { accounts().collect() }
    }

    /// Leaves an account alone, or one model on it, until `until`; never shortens an earlier cooldown.
    pub fn cool_down(
        &mut self,
        account: AccountIndex,
        model: Option<ModelIndex>,
        until: Moment,
        reason: CooldownReason,
    ) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.cooldowns.extend(model, until, reason);
        }
    }

    /// Until when the model does not work on each of the accounts; in the past where it does.
    pub fn off_until(&self, model: ModelIndex) -> impl Iterator<Item = (AccountIndex, Moment)> {
        let accounts = self.accounts.iter().enumerate();
        accounts.map(move |(index, account)| (AccountIndex(index), account.cooldowns.off_until(model)))
    }

    /// Keeps everybody away from an account, or one model on it, while the attempt that was just granted finds out
    /// whether it is fit again: until `until`, or (`None`) no longer. Cooldowns stay as they are.
    pub fn probe(&mut self, account: AccountIndex, model: Option<ModelIndex>, until: Option<Moment>) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.cooldowns.probe(model, until);
        }
    }

    /// Holds `amount` of one limit on an account, besides what attempts hold: for what was used without a record, and
    /// counted at `last_count` at the latest.
    pub fn fill(
        &mut self,
        now: Moment,
        account: AccountIndex,
        limit: LimitIndex,
        amount: u64,
        last_count: Moment,
    ) {
        let now = self.catch_up(now);
        if let Some(account) = self.accounts.get_mut(account) {
            account.fill(now, limit, amount, last_count);
        }
    }

    /// The limits that every account has, in order.
    pub fn limits(&self) -> Vec<BookLimit> {
        self.layout.limits_with_models()
    }

    /// Whether any limit binds that model.
    pub fn is_limited(&self, model: ModelIndex) -> bool {
        self.layout.bound(model).is_some_and(|bound| !bound.places.is_empty())
    }

    /// What is held and what cools at `now`.
    pub fn snapshot(&self, now: Moment) -> BookSnapshot {
        let now = now.max(self.latest);
        BookSnapshot {
            open_holds: self.open_holds,
            budgets: self.accounts.iter().flat_map(|account| self.budgets_of(account, now)).collect(),
            cooldowns: self.accounts.iter().flat_map(|account| self.cooldowns_of(account, now)).collect(),
        }
    }

    /// What each limit has left at `now`, in the order of [`Terms::all`](super::Terms::all). Names nothing and so
    /// allocates little: for those who look often.
    pub fn left(&self, now: Moment) -> Vec<Left> {
        let now = now.max(self.latest);
        let mut all = vec![Left::default(); self.layout.places.len()];
        for account in self.accounts.iter() {
            for ((place, budget), sum) in self.layout.places.iter().zip(&account.budgets).zip(&mut all) {
                let max = place.limit.max;
                sum.left = sum.left.saturating_add(max.saturating_sub(budget.held_at(now)));
                sum.max = sum.max.saturating_add(max);
            }
        }
        all
    }

    /// Which accounts (`None`), and models on an account, are left alone at `now`, and why.
    pub fn cooling(&self, now: Moment) -> Vec<(AccountIndex, Option<ModelIndex>, CooldownReason)> {
        let now = now.max(self.latest);
        let of_account = |(index, account): (usize, &Account)| {
            let cooling = account.cooldowns.at(now);
            cooling.map(|(model, _, reason)| (AccountIndex(index), model, reason)).collect::<Vec<_>>()
        };
        self.accounts.iter().enumerate().flat_map(of_account).collect()
    }

    /// How long records must be kept: no attempt holds anything longer after the last instant at which upstream can
    /// have counted it, which is 5 s after its end at the latest.
    pub fn longest_hold(&self) -> Duration {
        self.layout.longest_hold()
    }

    /// What the daily and longer limits that bind `model` have left at `now`; `None` where none does. A walk over all
    /// accounts: for those who look now and then.
    pub fn remaining(&self, now: Moment, model: ModelIndex) -> Option<Remaining> {
        let long = |&index: &usize| {
            let (length, resets_at) = self.layout.places.get(index)?.day(now)?;
            Some((index, length, resets_at))
        };
        let long: Vec<_> = self.layout.bound(model)?.places.iter().filter_map(long).collect();
        let &(_, length, resets_at) = long.iter().min_by_key(|(_, length, _)| *length)?;
        let left_of = |account: &Account| {
            let budgets = long.iter().filter_map(|(index, ..)| account.budgets.get(*index));
            budgets.map(|budget| budget.left_at(now)).fold(1.0, f64::min)
        };
        let (sum, accounts) = self
            .accounts
            .iter()
            .fold((0.0, 0_u32), |(sum, count), account| (sum + left_of(account), count + 1));
        Some(Remaining { left: sum / f64::from(accounts.max(1)), length, resets_at })
    }

    /// Whether any limit binds that model that counts tokens, input or output, or what they cost in credits.
    pub fn has_token_limits(&self, model: ModelIndex) -> bool {
        self.layout.has_token_limits(model)
    }

    /// The least maximum, in tokens, among the limits on that model that output counts in; `None` where there is none.
    pub fn tightest_on_output(&self, model: ModelIndex) -> Option<u64> {
        self.layout.tightest_on_output(model)
    }

    /// Holds that are granted and not settled.
    pub fn open_holds(&self) -> usize {
        self.open_holds
    }

    fn catch_up(&mut self, now: Moment) -> Moment {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn correct(&mut self, now: Moment, hold: &mut Hold) {
        let Some(bound) = self.layout.bound(hold.model) else { return };
        if let Some(account) = self.accounts.get_mut(hold.account) {
            account.correct(now, bound.charging, hold);
        }
    }

    fn budgets_of<'a>(
        &'a self,
        account: &'a Account,
        now: Moment,
    ) -> impl Iterator<Item = BudgetSnapshot> + use<'a> {
        self.layout.places.iter().zip(&account.budgets).map(move |(place, budget)| BudgetSnapshot {
            account: account.name.clone(),
            scope: place.scope.clone(),
            unit: place.limit.unit.amounts(),
            window: place.limit.window.to_string(),
            window_ms: stated_ms(place.limit.window),
            max: place.limit.max,
            held: budget.held_at(now),
            free_at: budget.free_at(now),
        })
    }

    fn cooldowns_of<'a>(
        &'a self,
        account: &'a Account,
        now: Moment,
    ) -> impl Iterator<Item = CooldownSnapshot> + use<'a> {
        account.cooldowns.at(now).map(move |(model, until, reason)| CooldownSnapshot {
            account: account.name.clone(),
            model: model.and_then(|model| self.models.get(model.0).cloned()),
            until,
            reason: reason.as_str(),
        })
    }
}

fn stated_ms(window: Window) -> Option<u64> {
    match window {
        Window::Sliding(length) | Window::Spacing(length) => u64::try_from(length.as_millis()).ok(),
        Window::Calendar(_) | Window::InFlight => None,
    }
}
