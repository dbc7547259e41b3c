//! What can go wrong with the spool.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The spool's disk refused something.
#[derive(Debug, Error)]
pub(in crate::stats) enum SpoolError {
    #[error("{} cannot be {action}", .path.display())]
    Disk {
        /// What was tried, as a participle.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// More processes share the folder than a machine should run.
    #[error("all {slots} slots of {} are in use by other processes", .folder.display())]
    NoSlot { folder: PathBuf, slots: u32 },
    /// A job of ours panicked, or the runtime is ending.
    #[error("the work on the spool was broken off: {0}")]
    BrokenOff(String),
}

impl SpoolError {
    /// Turns what the disk said while `path` was `action` (created, written, …) into ours.
    pub(super) fn at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { action, path: path.to_owned(), source }
    }
}
