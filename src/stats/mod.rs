//! Completion events: one a request, from the worker that served it to the store.
//!
//! A worker collects its events in a [`Recorder`] and hands them over in batches, because a message to
//! another thread for every request costs more than all our other work on it (`docs/adr/0002`). The [`StatsActor`]
//! writes them; what the store does not take waits in a spool on disk (`docs/adr/0003`). Knows no SQL and no HTTP.

mod actor;
mod batch;
mod completion;
mod handle;
mod messages;
mod recorder;
mod spool;

pub use actor::{StatsActor, StatsPlan};
pub use completion::{Completion, Witness};
pub use handle::StatsHandle;
pub use messages::{Flush, Flushed, ObserveStats, Records, StatsSnapshot};
pub use recorder::{HandOver, LostEvents, OpenRequests, Recorder};

/// Whether the statistics' spool could be used at `folder`; leaves nothing there. Blocks.
///
/// # Errors
/// What the disk says, for a person.
pub fn check_spool(folder: &std::path::Path) -> Result<(), impl std::error::Error + use<>> {
    spool::probe(folder)
}
