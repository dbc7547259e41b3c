//! The door: how many requests are in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::GatewayError;

/// Counts the requests in flight, over all workers.
#[derive(Clone, Debug)]
pub struct Permits {
    in_flight: Arc<AtomicUsize>,
    max: usize,
}

/// The right to be in flight; freed by drop, with the last byte of the answer.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permits {
    pub fn new(max: usize) -> Self {
        Self { in_flight: Arc::default(), max }
    }

    /// How many are held now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// # Errors
    /// 503 at once when all permits are held: to be shed at the door is cheaper for everybody than to wait in
    /// front of it.
    pub(super) fn take(&self) -> Result<Permit, GatewayError> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < self.max {
            return Ok(Permit(Arc::clone(&self.in_flight)));
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Err(GatewayError::unavailable("the gateway has as many requests in flight as it may"))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = Permits::new(2);
        let held = [permits.take().unwrap(), permits.take().unwrap()];
        assert!(permits.take().is_err());
        drop(held);
        assert_eq!(permits.in_flight(), 0);
        assert!(permits.take().is_ok());
    }
}
