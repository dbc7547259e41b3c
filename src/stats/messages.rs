//! What may be said to the [`StatsActor`](super::StatsActor).

use actix::Message;
use serde::Serialize;

use crate::domain::usage::UsageRecord;

/// Events of one worker, oldest first. Sent by a [`Recorder`](super::Recorder); there is no answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Records(pub Vec<UsageRecord>);

/// Asks for everything received so far to be written; sent when the server drains.
/// The answer comes when that has happened or has failed: how many events are still unwritten.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct Flush;

/// Asks for a [`StatsSnapshot`].
#[derive(Debug, Message)]
#[rtype(result = "StatsSnapshot")]
pub struct ObserveStats;

/// What the actor holds and has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    pub waiting: usize,
    pub being_written: usize,
    pub written: u64,
    pub lost: u64,
    /// Writes that failed since the last one that succeeded.
    pub failures_in_a_row: u32,
}
