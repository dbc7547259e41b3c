//! What may be said to the [`StatsActor`](super::StatsActor).

use actix::Message;
use serde::Serialize;

use crate::domain::usage::UsageRecord;

/// Events of one worker, oldest first. Sent by a [`Recorder`](super::Recorder); there is no answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Records(pub Vec<UsageRecord>);

/// Asks for everything received so far to be made safe: written, or spooled where the store is away. Sent when the
/// server drains. The answer comes when that has happened, or cannot, or has taken too long.
#[derive(Debug, Message)]
#[rtype(result = "Flushed")]
pub struct Flush;

/// Where the events are after a [`Flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Only in memory: lost when the process ends now.
    pub unwritten: usize,
    /// In the spool on disk: written by the next process that uses it.
    pub spooled: u64,
}

/// Asks for a [`StatsSnapshot`].
#[derive(Debug, Message)]
#[rtype(result = "StatsSnapshot")]
pub struct ObserveStats;

/// What the actor holds and has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// Events only in memory that no store call has.
    pub waiting: usize,
    /// Fresh events in the store call under way.
    pub being_written: usize,
    /// Rows that were new to the store.
    pub written: u64,
    /// Events in the spool on disk.
    pub spooled: u64,
    /// What they take there.
    pub spool_bytes: u64,
    /// Events of the spool that could not be read again.
    pub damaged: u64,
    /// Events that are gone: more than the memory or the spool holds.
    pub lost: u64,
    /// Writes to the store that failed since the last one that succeeded.
    pub failures_in_a_row: u32,
    /// The same for the spool.
    pub spool_failures_in_a_row: u32,
}
