//! How much of a day's quota is left.

use std::time::Duration;

use crate::domain::clock::Moment;

/// What one limit has left, over all accounts of its provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// In the limit's unit; an account that owes has nothing.
    pub left: u64,
    pub max: u64,
}

/// What the daily limits that bind a model have left, over all accounts of its provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remaining {
    /// 0 to 1: the mean over the accounts of what the tightest daily limit of each has left.
    pub left: f64,
    /// How long the limit's day is.
    pub length: Duration,
    /// When it begins anew; `None` for one that slides.
    pub resets_at: Option<Moment>,
}
