//! What the shared ledger counts, for metrics.

use serde::Serialize;

/// Totals since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SharedLedgerCounters {
    /// Calls that were begun.
    pub calls: u64,
    /// Claims in all those calls: divided by the calls, the mean size of a batch.
    pub claims_asked: u64,
    pub granted: u64,
    /// Refusals by the database.
    pub refused: u64,
    /// Refusals that cost no query.
    pub refused_from_memory: u64,
    /// Claims that were told that the ledger is away.
    pub away: u64,
    /// Attempts taken back because the outcome of their call was unknown.
    pub unknown_outcomes: u64,
    /// Calls that failed or took too long.
    pub calls_failed: u64,
    /// Attempts whose news were written.
    pub settled: u64,
    /// Of those, attempts that the ledger did not know any more.
    pub settled_missing: u64,
    /// News given up because too many were waiting: their holds end by their crash caps.
    pub news_lost: u64,
    /// Times that the database turned out to be an older copy of itself.
    pub restores_seen: u64,
    /// Rows swept.
    pub swept: u64,
    /// Attempts paid from leases.
    pub lease_spends: u64,
}
