//! What the ledger answers.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Error;

use super::claim::{AccountPart, Budget};
use super::json::Json;
use crate::domain::cooldown::CooldownReason;

/// What was decided on one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Granted {
        /// A position in the claim's accounts.
        account: usize,
        /// Whether a cooldown has just ended and this attempt alone finds out whether it may stay so.
        is_probe: bool,
    },
    /// Not before that long from now.
    Refused { after: Duration },
    /// More than the maximum on every account: never.
    TooLarge,
    /// A limit of it must be introduced first.
    Unknown,
    /// The attempt was released before.
    Void,
}

/// A limit that stood in a claim's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub budget: Arc<Budget>,
    /// That much, or more, does not fit.
    pub amount: u64,
    /// … before that long from now.
    pub after: Duration,
}

/// Why a part of an account is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    pub reason: CooldownReason,
    /// How many waits there were in a row for want of an instant.
    pub level: u32,
}

/// A part of an account that is left alone, or waits for its probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooled {
    pub part: AccountPart,
    /// … that long from now; zero when that is over and nobody finds out.
    pub after: Duration,
    /// Only because an attempt is finding out whether it is over.
    pub is_probed: bool,
    pub why: Why,
}

/// The answer to a batch of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// When it was decided, on the database's clock, in microseconds: for tests and logs, never to calculate with.
    pub now_us: i64,
    /// Grows with each call; one lower than seen before tells of a restored copy.
    pub serial: i64,
    /// In the order of the claims.
    pub decisions: Vec<Decision>,
    pub obstacles: Vec<Obstacle>,
    /// Of the parts that were asked for; those that are not there are open.
    pub cooled: Vec<Cooled>,
}

/// The answer to a batch of settlements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Settled {
    pub now_us: i64,
    /// Attempts of which the ledger held something.
    pub settled: u64,
    /// Attempts that it does not know: settled before, expired, or lost.
    pub missing: u64,
}

#[derive(Deserialize)]
struct RawReserved {
    now_us: i64,
    serial: i64,
    verdicts: Vec<RawVerdict>,
    blocked: Vec<(usize, u64, i64)>,
    standing: Vec<(String, String, i64, bool, String, u32)>,
}

#[derive(Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum RawVerdict {
    Granted { account: usize, probe: bool },
    Refused { in_us: i64 },
    TooLarge,
    Unknown,
    Void,
}

pub(super) fn read_reserved(answer: Json, budgets: &[Arc<Budget>]) -> Result<Reserved, Error> {
    let raw: RawReserved = answer.read()?;
    let obstacle = |(group, amount, in_us): (usize, u64, i64)| {
        let budget = Arc::clone(budgets.get(group)?);
        Some(Obstacle { budget, amount, after: from_micros(in_us) })
    };
    Ok(Reserved {
        now_us: raw.now_us,
        serial: raw.serial,
        decisions: raw.verdicts.into_iter().map(decision).collect(),
        obstacles: raw.blocked.into_iter().filter_map(obstacle).collect(),
        cooled: raw.standing.into_iter().map(cooled).collect(),
    })
}

fn cooled(
    (account, scope, in_us, is_probed, reason, level): (String, String, i64, bool, String, u32),
) -> Cooled {
    let why = Why { reason: CooldownReason::named(&reason), level };
    Cooled { part: AccountPart { account, scope }, after: from_micros(in_us), is_probed, why }
}

fn decision(raw: RawVerdict) -> Decision {
    match raw {
        RawVerdict::Granted { account, probe } => Decision::Granted { account, is_probe: probe },
        RawVerdict::Refused { in_us } => Decision::Refused { after: from_micros(in_us) },
        RawVerdict::TooLarge => Decision::TooLarge,
        RawVerdict::Unknown => Decision::Unknown,
        RawVerdict::Void => Decision::Void,
    }
}

pub(super) fn from_micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
