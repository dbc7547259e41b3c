//! Completion events on disk while the store is away.
//!
//! ```text
//! <stats.spool>/<store>/<slot>/lock                           held by the process whose slot it is
//!                             /00000000000000000007.events    a segment: one line an event, each with a checksum
//! ```
//!
//! A process claims the first slot that is free and appends to segments of a bounded size; the oldest is replayed
//! first and deleted once the store has committed its events. Slots whose process is gone are emptied into one's
//! own. A full spool gives up its oldest segment. Nothing here knows an actor or the store; all of it blocks.

mod disk;
mod error;
mod index;
mod line;
mod probe;
mod slot;

pub(super) use disk::{Spool, SpoolState};
pub(super) use error::SpoolError;
pub(super) use probe::probe;
