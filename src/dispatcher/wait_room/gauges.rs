//! What is read of the queue without its lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Two numbers for each provider. An event at a provider advances its round and then looks whether anybody waits; a
/// request that begins to wait is counted first and then looks whether the round is still the one in which it was
/// refused. Both are sequentially consistent, so at least one sees the other: no wake-up is lost, and an event costs
/// no lock while nobody waits.
#[derive(Debug)]
pub struct Gauges(Box<[Gauge]>);

#[derive(Debug, Default)]
struct Gauge {
    /// What was refused in an earlier round may be granted now.
    round: AtomicU64,
    waiting: AtomicUsize,
}

impl Gauges {
    pub fn new(providers: usize) -> Self {
        Self((0..providers).map(|_| Gauge::default()).collect())
    }

    pub(super) fn round(&self, provider: usize) -> u64 {
        self.0.get(provider).map_or(0, |gauge| gauge.round.load(Ordering::SeqCst))
    }

    pub fn advance(&self, provider: usize) {
        if let Some(gauge) = self.0.get(provider) {
            gauge.round.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How many wait for that provider.
    pub(super) fn waiting(&self, provider: usize) -> usize {
        self.0.get(provider).map_or(0, |gauge| gauge.waiting.load(Ordering::SeqCst))
    }

    pub(super) fn came(&self, provider: usize) {
        if let Some(gauge) = self.0.get(provider) {
            gauge.waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn went(&self, provider: usize) {
        if let Some(gauge) = self.0.get(provider) {
            gauge.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
