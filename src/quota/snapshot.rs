//! What a book says of itself to those who look.

use serde::Serialize;

use crate::domain::clock::Moment;

/// The state of one provider's budgets at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BookSnapshot {
    /// Attempts that are granted and not settled.
    pub open_holds: usize,
    /// Account by account, in the order of the provider's limits, then of its models'.
    pub budgets: Vec<BudgetSnapshot>,
    pub cooldowns: Vec<CooldownSnapshot>,
}

/// One limit on one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetSnapshot {
    /// The account's display name.
    pub account: String,
    /// `account`, `pool:NAME` or `model:ID`.
    pub scope: String,
    /// What `max` and `held` are numbers of: `requests`, `tokens`, … or `micro_credits`.
    pub unit: &'static str,
    /// As configured: `60s`, `spacing:1s`, `day@UTC`; `in flight` for what only counts that.
    pub window: String,
    /// A sliding window or a spacing in milliseconds; `None` for calendars and for what is counted in flight.
    pub window_ms: Option<u64>,
    pub max: u64,
    /// More than `max` where attempts used more than was estimated.
    pub held: u64,
    /// When a unit will be free again, as far as is settled; `None` while one is. Unix microseconds.
    pub free_at: Option<Moment>,
}

/// An account, or a model on it, that is left alone for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CooldownSnapshot {
    /// The account's display name.
    pub account: String,
    /// The upstream's id; `None` for the whole account.
    pub model: Option<String>,
    /// Unix microseconds.
    pub until: Moment,
    /// A [`CooldownReason`](crate::domain::cooldown::CooldownReason)'s label.
    pub reason: &'static str,
}
