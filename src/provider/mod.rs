//! One provider: its keys, its quotas, its connections, and the attempts that run on them.
//!
//! Every worker has a [`ProviderActor`] for each provider; all of them share that provider's
//! [`ProviderShared`], which owns the buckets and which nobody else can reach. An attempt runs as a task of
//! its own on the worker's thread; its bytes never cross to another one (`docs/adr/0002`). Knows no surface of ours:
//! it answers with events and bodies, and `api` renders them.

mod absences;
mod actor;
mod adapter;
mod answer;
mod attempt;
mod breaker;
mod cooling;
mod counters;
mod decision;
mod empty_answer;
mod error_rules;
mod failed_attempt;
mod freed;
mod glance;
mod granted;
mod guard;
mod job;
mod learned;
mod likeness;
mod limit_blocks;
mod measurements;
mod messages;
mod off;
mod opening;
mod pending;
mod probe;
mod recent;
mod seat;
mod served;
mod shared;
mod snapshot;
mod sse;
mod state;
mod stream;
mod transport;

#[cfg(test)]
mod tests;

pub use absences::Absences;
pub use actor::ProviderActor;
pub use answer::{Answer, Whole};
pub use breaker::BreakerSnapshot;
pub use freed::Freed;
pub use glance::Glance;
pub use job::{Declined, Job, Route, Said};
pub use measurements::{MeasuredSnapshot, Measurements};
pub use messages::{ObserveProvider, Returned, Try, Verdict};
pub use seat::{Seat, SeatKeeper};
pub use served::Served;
pub use shared::ProviderShared;
pub use snapshot::ProviderSnapshot;
pub use stream::EventStream;
pub use transport::{TlsConfig, tls_config};
