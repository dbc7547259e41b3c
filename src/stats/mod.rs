//! Completion events: one a request, from the worker that served it to the store.
//!
//! A worker collects its events in a [`Recorder`] and hands them over in batches, because a message to
//! another thread for every request costs more than all our other work on it (`docs/adr/0002`). The [`StatsActor`]
//! writes them. Knows no SQL and no HTTP.

mod actor;
mod batch;
mod completion;
mod messages;
mod recorder;

pub use actor::StatsActor;
pub use completion::Completion;
pub use messages::{Flush, ObserveStats, Records, StatsSnapshot};
pub use recorder::{OpenRequests, Recorder};
