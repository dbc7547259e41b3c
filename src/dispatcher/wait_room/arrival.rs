//! What goes into the queue and what comes out.

use std::time::Duration;

use super::size::Size;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::provider::Declined;
use crate::routing::Target;

/// A request that begins to wait.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its earlier number, when it has waited before: it gets its old place.
    pub number: Option<u64>,
    pub tenant: TenantId,
    /// Of its tenant; at least 1.
    pub weight: u32,
    pub size: Size,
    pub deadline: Moment,
    /// Its candidates, and what each of them has said.
    pub declined: Vec<Declined>,
}

/// Why a waiting request is woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// These candidates, all of one provider, may have room: ask them now. What they say is said in `round`.
    Offer { targets: Vec<Target>, round: u64 },
    /// Of those of its tenant who wait for its own limits it is the first: ask them.
    First,
    /// It has waited long enough, and has no seat any more.
    Over(Over),
}

/// How a wait ends without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// When room is expected for it, from now on.
    pub retry_after: Duration,
    /// Its place in the queue, from 1.
    pub position: usize,
    /// Whether it waited for a ledger, and not for room.
    pub is_ledger_away: bool,
}
