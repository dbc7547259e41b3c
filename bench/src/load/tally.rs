//! What a run has seen.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::window::Window;
use crate::latencies::Latencies;

/// What all exchanges of a run have seen together.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Requests that were due within the window.
    pub(super) due: usize,
    /// Those of them that were due early enough to be answered within it.
    pub(super) expected: usize,
    /// From the instant at which a request was due to the end of its answer, or the first event of its stream.
    pub(super) answered: Latencies,
    /// From the instant that the mock wrote into an event to its arrival.
    pub(super) ages: Latencies,
    /// Streams whose first event has come, also outside the window.
    pub(super) begun: usize,
    errors: usize,
    first_error: Option<String>,
}

/// The tally of a run, shared by its exchanges.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<Seen>>);

impl Tally {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure, wherever in the run it was: a run with failures measures something else.
    pub(super) fn fail(&self, error: &io::Error) {
        let mut seen = self.lock();
        seen.errors += 1;
        seen.first_error.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.lock())
    }
}

impl Seen {
    /// Notes that a request is due, at `due`.
    pub(super) fn arrive(&mut self, window: &Window, due: Instant) {
        self.due += usize::from(window.counts(due));
        self.expected += usize::from(window.expects(due));
    }

    /// How many failed, with the first reason.
    pub(super) fn failures(&self) -> Value {
        json!({ "count": self.errors, "first": self.first_error })
    }
}
