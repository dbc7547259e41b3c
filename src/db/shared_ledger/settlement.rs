//! What has become known of an attempt.

use serde_json::{Value, json};

use super::claim::{AttemptId, units};
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::domain::limit::Unit;

/// How an attempt that was a probe came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeEnd {
    /// The target works again: its cooldown is over.
    Passed,
    /// Nobody knows, for instance because the client left: the next attempt is the probe. A failure is told by
    /// cooling the target down again.
    Left,
}

/// What an attempt now holds of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledLine {
    /// As in the claim's budget.
    pub scope: String,
    pub unit: Unit,
    pub amount: u64,
    /// The last instant at which upstream can have counted it; `None` while nobody knows.
    pub last_count: Option<Moment>,
    /// Whether nothing of it can change any more.
    pub is_final: bool,
    /// How much of `amount` may still come back at once when the attempt ends.
    pub returnable: u64,
}

/// News of one granted attempt: its first byte, its end. Later news of a line replaces earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub id: AttemptId,
    pub provider: ProviderId,
    /// Nothing was sent: all of it is free at once.
    pub is_given_back: bool,
    pub probe: Option<ProbeEnd>,
    pub lines: Vec<SettledLine>,
}

/// A batch as `ledger_settle` reads it at `now`, the clock that the lines' instants are on. The call takes time, so
/// the database dates everything late, never early.
pub(super) fn settle_batch(settlements: &[Settlement], now: Moment) -> Value {
    let settlements: Vec<Value> =
        settlements.iter().map(|settlement| of_settlement(settlement, now)).collect();
    json!({ "settlements": settlements })
}

fn of_settlement(settlement: &Settlement, now: Moment) -> Value {
    let probe = settlement.probe.map(|probe| match probe {
        ProbeEnd::Passed => "passed",
        ProbeEnd::Left => "left",
    });
    let lines: Vec<Value> = settlement.lines.iter().map(|line| of_line(line, now)).collect();
    json!({
        "id": settlement.id.uuid().to_string(),
        "give_back": settlement.is_given_back,
        "probe": probe,
        "lines": lines,
    })
}

fn of_line(line: &SettledLine, now: Moment) -> Value {
    let last_in_us = line.last_count.map(|last| last.unix_micros().saturating_sub(now.unix_micros()));
    json!([
        line.scope,
        line.unit.as_str(),
        units(line.amount),
        last_in_us,
        line.is_final,
        units(line.returnable),
    ])
}
