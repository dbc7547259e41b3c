//! What a connection is given to do, and what it reports.

use std::sync::Arc;
use std::time::Duration;

use crate::db::shared_ledger::{AccountPart, AttemptId, Budget, Claim, Reserved, Settled, Settlement, Why};
use crate::domain::ids::ProviderId;

/// A target to leave alone, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cooling {
    Cool { part: AccountPart, duration: Option<Duration>, why: Why },
    Reopen { part: AccountPart },
}

/// One turn of a provider: its parts are carried out in the order of the fields, until one fails.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) release: Vec<AttemptId>,
    /// Hold every limit for one window.
    pub(super) block: bool,
    pub(super) cooling: Vec<Cooling>,
    pub(super) introduce: Vec<Arc<Budget>>,
    pub(super) settle: Vec<Settlement>,
    pub(super) sweep: bool,
    pub(super) reserve: Vec<Claim>,
}

/// A turn, with the number by which its report is known.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) provider: ProviderId,
    pub(super) work: Work,
}

/// Why a turn ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection, or it was lost.
    Unreachable,
    /// The database refused: a lock or the time ran out.
    Refused,
}

/// How far a turn came.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) number: u64,
    /// The parts before `settle` are done.
    pub(super) is_prepared: bool,
    pub(super) settled: Option<Settled>,
    pub(super) swept: u64,
    /// Whether the claims may have reached the database.
    pub(super) was_asked: bool,
    pub(super) reserved: Option<Reserved>,
    pub(super) failure: Option<Failure>,
}
