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

/// What leaves a lease's share of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartLine {
    /// As in the claim's budget.
    pub scope: String,
    pub unit: Unit,
    /// Of what the lease holds.
    pub taken: u64,
    /// What stays held until a window after `last_count`; more than was taken is debt.
    pub held: u64,
    /// The last instant at which upstream can have counted it; `None` when nothing was sent, so that nothing is held.
    pub last_count: Option<Moment>,
}

/// One step of settling a lease: final, and written once however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Above that of every earlier part of the lease.
    pub number: u64,
    pub lines: Vec<PartLine>,
}

/// News of one granted attempt: its first byte, its end. Later news of a line replaces earlier. Of a lease: its parts, in
/// their order, each besides the earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub id: AttemptId,
    pub provider: ProviderId,
    /// All of it that no part has taken is free at once: of an attempt, because nothing was sent.
    pub is_given_back: bool,
    pub probe: Option<ProbeEnd>,
    pub lines: Vec<SettledLine>,
    pub parts: Vec<Part>,
}

impl Settlement {
    /// No news of that attempt, yet.
    pub fn of(id: AttemptId, provider: ProviderId) -> Self {
        Self { id, provider, is_given_back: false, probe: None, lines: Vec::new(), parts: Vec::new() }
    }
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
    let parts: Vec<Value> = settlement.parts.iter().map(|part| of_part(part, now)).collect();
    json!({
        "id": settlement.id.uuid().to_string(),
        "give_back": settlement.is_given_back,
        "probe": probe,
        "lines": lines,
        "parts": parts,
    })
}

fn of_part(part: &Part, now: Moment) -> Value {
    let of_line = |line: &PartLine| {
        let PartLine { scope, unit, taken, held, last_count } = line;
        json!([scope, unit.as_str(), units(*taken), units(*held), in_us(*last_count, now)])
    };
    json!([part.number, part.lines.iter().map(of_line).collect::<Vec<Value>>()])
}

fn in_us(instant: Option<Moment>, now: Moment) -> Option<i64> {
    instant.map(|instant| instant.unix_micros().saturating_sub(now.unix_micros()))
}

fn of_line(line: &SettledLine, now: Moment) -> Value {
    json!([
        line.scope,
        line.unit.as_str(),
        units(line.amount),
        in_us(line.last_count, now),
        line.is_final,
        units(line.returnable),
    ])
}
