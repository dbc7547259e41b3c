//! Who served a request.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::ProviderId;

/// Who served a request, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub provider: ProviderId,
    pub model: Arc<str>,
    pub display_name: Arc<str>,
    /// Attempts that failed before this one.
    pub fallback_attempts: u32,
    /// Time spent waiting for capacity.
    pub queue_wait: Duration,
}
