//! What is held and what cools, over all replicas.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::reply::from_micros;

/// All that the ledger knows at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SharedSnapshot {
    /// The database's clock, in microseconds since the Unix epoch.
    pub now_us: i64,
    pub limits: Vec<SharedLimit>,
    pub cooldowns: Vec<SharedCooldown>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SharedLimit {
    pub provider: String,
    pub account: String,
    pub scope: String,
    pub unit: String,
    pub span: String,
    /// `None` when no replica has used it for a minute.
    pub max: Option<u64>,
    pub held: u64,
    /// Of what is held: what leases have that is not spent, or whose attempts go on.
    pub leased: u64,
    /// Attempts whose part may still change.
    pub open: u64,
    /// Zero when it is not blocked.
    #[serde(rename = "blocked_for_us", deserialize_with = "duration")]
    pub blocked_for: Duration,
    /// Until something of what is held comes back; zero when nothing is held.
    #[serde(rename = "next_release_us", deserialize_with = "duration")]
    pub next_release: Duration,
}

/// A target left alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SharedCooldown {
    pub provider: String,
    pub account: String,
    /// As in [`AccountPart`](super::AccountPart).
    pub scope: String,
    pub reason: String,
    /// Zero when it waits for its probe; thousands of years when only an operator ends it.
    #[serde(rename = "for_us", deserialize_with = "duration")]
    pub remaining: Duration,
    /// Whether an attempt is finding out.
    pub probing: bool,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    i64::deserialize(deserializer).map(from_micros)
}
