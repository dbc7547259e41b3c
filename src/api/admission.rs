//! The door: how many requests are in flight, and whose.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::rebuffs::Rebuffs;
use crate::access::Caller;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::error::GatewayError;
use crate::quota::{Denied, Shares};

/// How many may be turned away slowly at once: those who show no valid key, and those whom there is no permit for.
/// Chosen: each costs a connection and a read buffer for up to 2 s; a client with a mistake in its key gets its
/// answer, and a flood costs no more than these.
const STRANGERS_MAX: usize = 64;
const SHED_MAX: usize = 256;

/// How many may read the metrics at once. Chosen: a pair of Prometheus servers, twice; a flood where they are public
/// costs no more than these.
const SCRAPES_MAX: usize = 4;

/// When who is shed at the door is to ask again. Chosen: a permit comes back with every answer's last byte.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The requests in flight over all workers, by tenant. One short lock: a request takes it twice, and a counter
/// without it could not tell whose share is used up.
#[derive(Clone, Debug)]
pub struct Permits {
    shares: Arc<Mutex<Shares>>,
    strangers: Seats,
    rebuffs: Rebuffs,
    shed: Seats,
    scrapes: Seats,
}

/// The right to be in flight; freed by drop, with the last byte of the answer.
#[derive(Debug)]
pub(super) struct Permit {
    shares: Arc<Mutex<Shares>>,
    tenant: TenantId,
}

impl Permits {
    pub fn new(max: usize) -> Self {
        Self {
            shares: Arc::new(Mutex::new(Shares::new(max))),
            strangers: Seats::new(STRANGERS_MAX),
            rebuffs: Rebuffs::new(),
            shed: Seats::new(SHED_MAX),
            scrapes: Seats::new(SCRAPES_MAX),
        }
    }

    /// How many are held now.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.shares.lock().held()).unwrap_or(usize::MAX)
    }

    /// # Errors
    /// 503 at once when all permits are held, or the tenant's share of them: to be shed at the door is cheaper for
    /// everybody than to wait in front of it.
    pub(super) fn take(&self, caller: &Caller, now: Moment) -> Result<Permit, GatewayError> {
        let taken = self.shares.lock().take(caller.tenant, caller.policy.weight, now);
        match taken {
            Ok(()) => Ok(Permit { shares: Arc::clone(&self.shares), tenant: caller.tenant }),
            Err(denied) => Err(shed(denied)),
        }
    }

    /// Where those are turned away whom nobody knows.
    pub(super) fn strangers(&self) -> &Seats {
        &self.strangers
    }

    /// How fast they are answered.
    pub(super) fn rebuffs(&self) -> &Rebuffs {
        &self.rebuffs
    }

    /// Of those who read the metrics.
    pub(super) fn scrapes(&self) -> &Seats {
        &self.scrapes
    }

    /// Where those are turned away whom there is no permit for.
    pub(super) fn shed(&self) -> &Seats {
        &self.shed
    }
}

fn shed(denied: Denied) -> GatewayError {
    let message = match denied {
        Denied::Full => "the gateway has as many requests in flight as it may",
        Denied::OverShare => {
            "this key's tenant has its share of the requests that the gateway may have in flight"
        }
    };
    GatewayError::Unavailable { message: message.to_owned(), retry_after: ASK_AGAIN }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shares.lock().give_back(self.tenant);
    }
}

/// A small number of places, first come, first served.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// One place; freed by drop.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Seats {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// A place, if there is one.
    pub(super) fn take(&self) -> Option<Seat> {
        // Made first, so that it takes itself back where it is one too many.
        let seat = Seat(Arc::clone(&self.taken));
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.max).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::KeyId;
    use crate::domain::tenant::TenantPolicy;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000);

    fn caller(tenant: i64) -> Caller {
        Caller { tenant: TenantId(tenant), key: KeyId(1), policy: TenantPolicy::unrestricted() }
    }

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = Permits::new(2);
        let held = [permits.take(&caller(1), NOW).unwrap(), permits.take(&caller(1), NOW).unwrap()];
        let refused = permits.take(&caller(2), NOW).unwrap_err();
        assert_eq!((refused.status(), refused.retry_after()), (503, Some(ASK_AGAIN)));
        drop(held);
        assert_eq!(permits.in_flight(), 0);
        assert!(permits.take(&caller(1), NOW).is_ok());
    }

    #[test]
    fn who_has_its_share_leaves_the_rest_to_the_others() {
        let permits = Permits::new(4);
        let mut held: Vec<_> = (0..4).map(|_| permits.take(&caller(1), NOW).unwrap()).collect();
        assert!(permits.take(&caller(2), NOW).is_err());
        held.truncate(3);
        assert!(permits.take(&caller(1), NOW).is_err());
        assert!(permits.take(&caller(2), NOW).is_ok());
    }

    #[test]
    fn seats_are_bounded_and_come_back() {
        let seats = Seats::new(2);
        let held = (seats.take(), seats.take());
        assert!(held.0.is_some() && held.1.is_some());
        for _ in 0..3 {
            assert!(seats.take().is_none());
        }
        drop(held);
        assert!(seats.take().is_some());
        assert_eq!(seats.taken.load(Ordering::Relaxed), 0);
    }
}
