//! How a simulation behaves: by whose clock, how fast, and how often it fails without a reason.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::clock::{SharedClock, SystemClock};

/// The share of requests that fail for no reason in the demo, in percent.
/// Chosen: often enough to see a failover within a minute of use, rare enough to look like a good day.
const DEMO_FAULT_PERCENT: u64 = 4;

/// The seed of the demo. Chosen: any would do; a fixed one makes two demos alike.
const DEMO_SEED: u64 = 2026;

/// How the simulated providers behave. The same seed draws the same faults in the same order of arrival.
#[derive(Clone)]
pub struct Behaviour {
    pub seed: u64,
    /// The share of requests that fail for no reason, in percent (0–100).
    pub fault_percent: u64,
    pub pace: Pace,
    /// What the limits are judged by. Pauses always run on the runtime's own time.
    pub clock: SharedClock,
}

/// How fast answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Without any pause.
    Instant,
    /// Like the provider: its latency and its tokens per second, both with some chance in them.
    Believable,
    /// Exactly so, at every provider.
    Fixed {
        /// From the request's arrival to the head of the answer.
        first_token: Duration,
        between_tokens: Duration,
    },
}

impl Behaviour {
    /// Believable latencies, and a fault now and then.
    pub fn demo() -> Self {
        Self { seed: DEMO_SEED, fault_percent: DEMO_FAULT_PERCENT, pace: Pace::Believable, ..Self::steady() }
    }

    /// No faults and no pauses: only the limits say no.
    pub fn steady() -> Self {
        Self { seed: 0, fault_percent: 0, pace: Pace::Instant, clock: Arc::new(SystemClock::start()) }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("seed", &self.seed)
            .field("fault_percent", &self.fault_percent)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}
