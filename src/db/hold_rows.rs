//! What a local ledger keeps, as plain data.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::usage::Usage;

/// Whose budget an attempt counts against, by names that outlive the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldTarget {
    pub provider: String,
    pub account: String,
    /// The upstream's id; empty in a cooldown of all of an account.
    pub model: String,
}

/// One attempt, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    /// Minted by the one process that writes; grows with time.
    pub id: i64,
    pub target: Arc<HoldTarget>,
    pub reserved: Usage,
    pub send_by: Moment,
    pub first_byte: Option<Moment>,
    pub finish: Option<FinishRow>,
}

/// How an attempt came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishRow {
    pub at: Moment,
    /// We closed the call before its end.
    pub is_aborted: bool,
    /// `used` is the upstream's word and not our count.
    pub is_exact: bool,
    pub used: Usage,
}

/// What has become known of an attempt since it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldChange {
    pub id: i64,
    pub first_byte: Option<Moment>,
    pub finish: Option<FinishRow>,
}

/// A target left alone until an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CooldownRow {
    pub target: Arc<HoldTarget>,
    pub until: Moment,
    /// The kind of failure that asked for it.
    pub reason: String,
}

/// Since when the ledger knows every attempt at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageRow {
    pub target: HoldTarget,
    pub since: Moment,
    /// For how long each is kept after upstream can have counted it.
    pub kept: Duration,
}

/// Every limit of a provider is full for one window from `since`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRow {
    pub id: i64,
    /// `None`: of every provider.
    pub provider: Option<String>,
    pub since: Moment,
}

/// What one transaction writes, all of it or nothing: in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldBatch {
    pub inserted: Vec<HoldRow>,
    pub changed: Vec<HoldChange>,
    pub deleted: Vec<i64>,
    /// A later end of an earlier cooldown stays.
    pub cooldowns: Vec<CooldownRow>,
}

impl HoldBatch {
    /// Whether there is nothing in it but what is inserted.
    pub fn has_only_new_holds(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty() && self.cooldowns.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.has_only_new_holds()
    }
}

/// Requests that ended within one span of time, added up by who served them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedSpan {
    /// The last instant of the span.
    pub end: Moment,
    /// Provider and model; `None` where nobody answered.
    pub served_by: Option<(String, String)>,
    pub requests: u64,
    /// Upstream calls that were made for them, at whomever.
    pub attempts: u64,
    /// Of the calls that were answered.
    pub usage: Usage,
}
