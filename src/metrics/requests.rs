//! What client requests count in.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, Registry};

use super::registry::{counters, histogram, histograms};
use crate::domain::usage::{Outcome, Surface};
use crate::telemetry::{OVERHEAD, QUEUE_WAIT, REQUEST_DURATION, REQUESTS, TIME_TO_FIRST_TOKEN, UNAUTHORIZED};

/// Upper bounds in seconds. Chosen: from an answer out of a cache to the default `total_timeout` of 10 min.
const DURATION_BUCKETS: [f64; 14] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Chosen: from the fastest free tiers to the default `first_token_timeout` of 60 s.
pub(super) const FIRST_TOKEN_BUCKETS: [f64; 12] =
    [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// Chosen: a request costs us some 100 µs; what a ledger on a slow disk or far away adds is tens of milliseconds.
const OVERHEAD_BUCKETS: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];

/// Chosen: from no wait at all to the default `max_wait` of 20 s and what an operator may make of it.
const WAIT_BUCKETS: [f64; 12] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub surface: Surface,
    pub outcome: Outcome,
    /// Request in to last byte out.
    pub duration: Duration,
    /// Request in to first event out; `None` for what was not streamed or not answered.
    pub first_token: Option<Duration>,
    /// Body in to first upstream call, without waits; `None` when nobody was called.
    pub before: Option<Duration>,
    /// The upstream's last byte to ours; `None` for what was not served.
    pub after: Option<Duration>,
    /// Time spent waiting for capacity; `None` when it never came so far.
    pub waited: Option<Duration>,
}

/// Shared by all workers. Every call is a few relaxed atomic additions.
pub struct Requests {
    /// In the order of [`Surface::ALL`].
    surfaces: Vec<OfSurface>,
    before: Histogram,
    after: Histogram,
    waits: Histogram,
}

struct OfSurface {
    /// In the order of [`Outcome::ALL`].
    outcomes: Vec<IntCounter>,
    unauthorized: IntCounter,
    durations: Histogram,
    first_tokens: Histogram,
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = counters(registry, &REQUESTS)?;
        let unauthorized = counters(registry, &UNAUTHORIZED)?;
        let durations = histograms(registry, &REQUEST_DURATION, &DURATION_BUCKETS)?;
        let first_tokens = histograms(registry, &TIME_TO_FIRST_TOKEN, &FIRST_TOKEN_BUCKETS)?;
        let overhead = histograms(registry, &OVERHEAD, &OVERHEAD_BUCKETS)?;
        let of_surface = |surface: Surface| {
            let surface = surface.as_str();
            let outcome =
                |outcome: Outcome| requests.get_metric_with_label_values(&[surface, outcome.as_str()]);
            Ok(OfSurface {
                outcomes: Outcome::ALL.into_iter().map(outcome).collect::<prometheus::Result<_>>()?,
                unauthorized: unauthorized.get_metric_with_label_values(&[surface])?,
                durations: durations.get_metric_with_label_values(&[surface])?,
                first_tokens: first_tokens.get_metric_with_label_values(&[surface])?,
            })
        };
        Ok(Self {
            surfaces: Surface::ALL.into_iter().map(of_surface).collect::<prometheus::Result<_>>()?,
            before: overhead.get_metric_with_label_values(&["request"])?,
            after: overhead.get_metric_with_label_values(&["answer"])?,
            waits: histogram(registry, &QUEUE_WAIT, &WAIT_BUCKETS)?,
        })
    }

    /// A request has ended.
    pub fn ended(&self, ended: &Ended) {
        let Some(surface) = self.surfaces.get(ended.surface as usize) else { return };
        if let Some(outcome) = surface.outcomes.get(ended.outcome as usize) {
            outcome.inc();
        }
        surface.durations.observe(ended.duration.as_secs_f64());
        observe(&surface.first_tokens, ended.first_token);
        observe(&self.before, ended.before);
        observe(&self.after, ended.after);
        observe(&self.waits, ended.waited);
    }

    /// Somebody without a valid key was refused.
    pub fn unauthorized(&self, surface: Surface) {
        if let Some(surface) = self.surfaces.get(surface as usize) {
            surface.unauthorized.inc();
        }
    }
}

fn observe(histogram: &Histogram, duration: Option<Duration>) {
    if let Some(duration) = duration {
        histogram.observe(duration.as_secs_f64());
    }
}
