//! What the room says of itself to those who look.

use serde::Serialize;

use crate::domain::ids::TenantId;

/// The state of the process's wait room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WaitRoomSnapshot {
    /// Requests that wait for capacity, or for their tenant's own limits.
    pub waiting: usize,
    /// Of those who wait for capacity.
    pub tenants: Vec<TenantWaiting>,
    /// How long the oldest of them has waited.
    pub oldest_wait_ms: u64,
    /// Offers of room since the start, and those that were taken.
    pub offers_made: u64,
    pub offers_taken: u64,
}

/// How many requests of one tenant wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TenantWaiting {
    pub tenant: TenantId,
    pub waiting: usize,
}
