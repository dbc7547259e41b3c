//! What is counted of a provider as a whole.

use std::sync::atomic::AtomicU64;

/// What went wrong so far; for the metrics.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) limit_breaches: AtomicU64,
    pub(super) accounts_refused: AtomicU64,
}
