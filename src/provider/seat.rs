//! A place among those who wait for capacity, seen from here.

use std::fmt;
use std::sync::Arc;

use crate::quota::ModelIndex;

/// Whoever keeps the places of those who wait; the dispatcher's wait room.
pub trait SeatKeeper: Send + Sync {
    /// The request of that number has got what it waited for, at that model of the provider that was offered.
    fn granted(&self, number: u64, model: ModelIndex);

    /// The request of that number is over.
    fn left(&self, number: u64);
}

/// Goes with a job that waits, or that asks for the room that it was offered; dropping it gives up the place.
pub struct Seat {
    number: u64,
    /// `None` once it has been granted.
    keeper: Option<Arc<dyn SeatKeeper>>,
}

impl Seat {
    pub fn new(number: u64, keeper: Arc<dyn SeatKeeper>) -> Self {
        Self { number, keeper: Some(keeper) }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The books have granted what was offered: the next in the queue can be asked.
    pub(super) fn granted(mut self, model: ModelIndex) {
        if let Some(keeper) = self.keeper.take() {
            keeper.granted(self.number, model);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.left(self.number);
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({})", self.number)
    }
}
