//! What may be said to the [`KeyringRefresher`](super::KeyringRefresher).

use actix::Message;
use serde::Serialize;

use super::keyring::Keyring;
use super::outage::RefreshState;
use crate::db::StoreError;
use crate::domain::clock::Moment;

/// Asked by the admin surface and by tests; the answer says how the refresher is doing.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "RefresherSnapshot")]
pub struct Observe;

/// How a refresher is doing.
#[derive(Clone, Debug, PartialEq, Serialize, actix::MessageResponse)]
pub struct RefresherSnapshot {
    #[serde(flatten)]
    pub state: RefreshState,
    /// Keys in force, those that no longer admit included.
    pub known_keys: usize,
    /// Milliseconds since the keys in force were loaded.
    pub staleness_ms: u64,
    /// Between two loads.
    pub interval_ms: u64,
}

/// Sent by the refresher's own task when a load ended; nobody waits for it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Loaded {
    /// When the store was asked.
    pub(super) asked_at: Moment,
    pub(super) keyring: Result<Keyring, StoreError>,
}
