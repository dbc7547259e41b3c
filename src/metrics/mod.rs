//! What is counted for `/metrics`, and its text.
//!
//! What happens often is counted where it happens, in counters and histograms of fixed buckets: a few relaxed atomic
//! additions, no lock and no allocation. What a room knows of itself anyway is read when somebody asks, into a
//! [`Sheet`], and counted nowhere twice. The names stand in [`telemetry`](crate::telemetry). Knows no room and no HTTP.
//!
//! Invariant: the values of labels are words of ours or come from the configuration, so that the number of series is
//! bounded by it, whatever clients send.

mod provider;
mod registry;
mod requests;
mod sheet;

pub use provider::{Decision, ProviderMetrics};
pub use registry::{Metrics, MetricsError};
pub use requests::{Ended, Requests};
pub use sheet::Sheet;
