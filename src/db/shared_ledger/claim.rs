//! What one attempt asks of the shared ledger.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::{Builder, Uuid, Version};

use super::json::micros;
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::domain::limit::Unit;

/// The identity of one attempt, minted before the ledger is asked, so that it can be taken back whatever happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(Uuid);

impl AttemptId {
    /// Mints an id that sorts by time.
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// Mints the id of a lease, by which those who look at the ledger tell it from attempts; sorts among theirs.
    pub fn mint_lease() -> Self {
        Self(Builder::from_bytes(Uuid::now_v7().into_bytes()).with_version(Version::Custom).into_uuid())
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub(super) fn uuid(self) -> Uuid {
        self.0
    }
}

/// Over what time a limit adds up, as the ledger needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Any span of this length, already lengthened for the upstream's clock.
    Sliding(Duration),
    /// From reset to reset.
    Calendar {
        /// For example `day@UTC`.
        name: String,
        /// No window is longer, for example 25 h where a day may have an hour twice.
        longest: Duration,
        /// The next resets, ascending; two at least, and all within the longest attempt. Who makes budgets renews
        /// them as resets pass; beyond the last one known, holds last for `longest`.
        resets: Vec<Moment>,
    },
    /// What is in flight now.
    InFlight,
}

impl Span {
    /// By which the ledger knows it.
    pub fn name(&self) -> String {
        match self {
            Self::Sliding(length) => format!("sliding:{}", micros(*length)),
            Self::Calendar { name, .. } => name.clone(),
            Self::InFlight => "in_flight".to_owned(),
        }
    }

    pub(super) fn length_us(&self) -> i64 {
        match self {
            Self::Sliding(length) => micros(*length),
            Self::Calendar { longest, .. } => micros(*longest),
            Self::InFlight => 0,
        }
    }

    pub(super) fn resets_us(&self) -> Vec<i64> {
        match self {
            Self::Calendar { resets, .. } => resets.iter().map(|reset| reset.unix_micros()).collect(),
            Self::Sliding(_) | Self::InFlight => Vec::new(),
        }
    }
}

/// What a limit that the ledger has never seen is taken to have been used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The completion events of its last window, which must be complete: for limits whose window the statistics
    /// outlive and whose units the events tell.
    Statistics,
    /// Everything: nothing is granted for one window.
    Block,
    /// Nothing: for limits on what is in flight.
    Empty,
}

/// One limit as this replica's configuration states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub span: Span,
    /// At least 1.
    pub max: u64,
    pub fill: Fill,
}

/// All limits on the same unit and scope of one account. Made once per configuration and shared by all claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What the ledger knows the account by: a keyed fingerprint, or the operator's name for it.
    pub account: String,
    /// `account`, `pool:NAME` or `model:ID`.
    pub scope: String,
    pub unit: Unit,
    /// The models in that scope, as the statistics name them; `None` for all.
    pub models: Option<Vec<String>>,
    /// One at least, each of another span.
    pub definitions: Vec<Definition>,
}

/// What an attempt takes from one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimLine {
    pub budget: Arc<Budget>,
    /// In the budget's unit.
    pub amount: u64,
    /// From the latest instant of sending to the last at which upstream can count, should this replica die.
    pub crash_cap: Duration,
    /// How much of `amount` the end of the attempt may give back at once.
    pub returnable: u64,
    /// How much more must be left over: 0, but for leases.
    pub leave: u64,
}

/// What of an account is left alone together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountPart {
    pub account: String,
    /// Empty for all of it, `key:FINGERPRINT` for what only a key concerns, `model:ID`, `pool:NAME`.
    pub scope: String,
}

/// One account that could serve an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAccount {
    pub account: String,
    /// Whose cooldowns matter: scopes as in [`AccountPart`].
    pub cooldowns: Vec<String>,
    /// All of them or none; each of another budget of this account.
    pub lines: Vec<ClaimLine>,
}

/// What one attempt asks for: room on one of its accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub id: AttemptId,
    pub provider: ProviderId,
    /// How long after the call is made the attempt may still be sent.
    pub send_within: Duration,
    /// From the latest instant of sending until another attempt may be the probe, should this one become it.
    pub probe_within: Duration,
    /// In order of preference.
    pub accounts: Vec<ClaimAccount>,
}

/// A batch of claims as `ledger_reserve` reads it, with the budgets that its groups stand for.
pub(super) struct ReserveBatch {
    pub(super) body: Value,
    pub(super) budgets: Vec<Arc<Budget>>,
}

impl ReserveBatch {
    pub(super) fn new(provider: &ProviderId, claims: &[Claim]) -> Self {
        let mut budgets = Vec::new();
        let claims: Vec<Value> = claims.iter().map(|claim| of_claim(claim, &mut budgets)).collect();
        let groups: Vec<Value> = budgets.iter().map(|budget| of_budget(budget)).collect();
        let body = json!({ "provider": provider.as_str(), "groups": groups, "claims": claims });
        Self { body, budgets }
    }
}

/// Budgets of the same group (account, scope, unit) share its number; of two states of a configuration the first
/// seen in a batch speaks.
fn number(budget: &Arc<Budget>, budgets: &mut Vec<Arc<Budget>>) -> usize {
    let same = |known: &Arc<Budget>| {
        Arc::ptr_eq(known, budget)
            || (known.account == budget.account && known.scope == budget.scope && known.unit == budget.unit)
    };
    budgets.iter().position(same).unwrap_or_else(|| {
        budgets.push(Arc::clone(budget));
        budgets.len() - 1
    })
}

fn of_budget(budget: &Budget) -> Value {
    let limits: Vec<Value> = budget.definitions.iter().map(of_definition).collect();
    json!({ "account": budget.account, "scope": budget.scope, "unit": budget.unit.as_str(), "limits": limits })
}

fn of_definition(definition: &Definition) -> Value {
    json!({
        "span": definition.span.name(),
        "max": units(definition.max),
        "resets_us": definition.span.resets_us(),
    })
}

fn of_claim(claim: &Claim, budgets: &mut Vec<Arc<Budget>>) -> Value {
    let accounts: Vec<Value> = claim.accounts.iter().map(|account| of_account(account, budgets)).collect();
    json!({
        "id": claim.id.uuid().to_string(),
        "send_within_us": micros(claim.send_within),
        "probe_us": micros(claim.probe_within),
        "accounts": accounts,
    })
}

fn of_account(account: &ClaimAccount, budgets: &mut Vec<Arc<Budget>>) -> Value {
    let of_line = |line: &ClaimLine| {
        json!([
            number(&line.budget, budgets),
            units(line.amount),
            micros(line.crash_cap),
            units(line.returnable),
            units(line.leave),
        ])
    };
    let lines: Vec<Value> = account.lines.iter().map(of_line).collect();
    json!({ "account": account.account, "cooldowns": account.cooldowns, "lines": lines })
}

/// The most units that one line or maximum counts. Chosen: 2^40, a million of the largest context windows; sums of
/// millions of such lines still fit into 64 bits.
const MAX_UNITS: u64 = 1 << 40;

pub(super) fn units(amount: u64) -> u64 {
    amount.min(MAX_UNITS)
}
