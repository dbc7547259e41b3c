//! Whose folder is whose: processes that share a spool each have a slot of it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::SpoolError;
use super::index::{Segment, SegmentId};
use super::line;

/// How many processes may share one spool. Chosen: more replicas than anybody runs on one machine.
const SLOTS: u32 = 64;

const SEGMENT_SUFFIX: &str = ".events";

/// A folder that nobody else uses while this lives; the operating system takes the lock back however the process
/// ends.
#[derive(Debug)]
pub(super) struct Slot {
    folder: PathBuf,
    _lock: File,
}

impl Slot {
    /// Claims the first slot of `root` that is free; makes what is not there.
    pub(super) fn claim(root: &Path) -> Result<Self, SpoolError> {
        for number in 0..SLOTS {
            let folder = root.join(number.to_string());
            make_folder(&folder).map_err(SpoolError::at(&folder, "created"))?;
            if let Some(slot) = Self::lock(folder)? {
                return Ok(slot);
            }
        }
        Err(SpoolError::NoSlot { folder: root.to_owned(), slots: SLOTS })
    }

    /// The other slots of `root` that have segments and no process.
    pub(super) fn orphans(&self, root: &Path) -> Vec<Self> {
        let others = (0..SLOTS).map(|number| root.join(number.to_string()));
        others
            .filter(|folder| *folder != self.folder && has_segments(folder))
            // One that cannot be locked is somebody's, or will be looked at again.
            .filter_map(|folder| Self::lock(folder).ok().flatten())
            .collect()
    }

    fn lock(folder: PathBuf) -> Result<Option<Self>, SpoolError> {
        let path = folder.join("lock");
        let failed = |error| SpoolError::at(&path, "locked")(error);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { folder, _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SpoolError::at(&path, "locked")(error)),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a segment is.
    pub(super) fn path(&self, id: SegmentId) -> PathBuf {
        self.folder.join(format!("{:020}{SEGMENT_SUFFIX}", id.0))
    }

    /// The segments that lie here, oldest first. A record that a crash tore is cut off, and an empty segment is
    /// deleted.
    pub(super) fn segments(&self) -> Result<Vec<Segment>, SpoolError> {
        let mut ids = segment_ids(&self.folder).map_err(SpoolError::at(&self.folder, "listed"))?;
        ids.sort_unstable();
        let mut segments = Vec::with_capacity(ids.len());
        for id in ids {
            let path = self.path(id);
            let segment = scan(id, &path).map_err(SpoolError::at(&path, "read"))?;
            if segment.bytes == 0 {
                fs::remove_file(&path).map_err(SpoolError::at(&path, "deleted"))?;
            } else {
                segments.push(segment);
            }
        }
        Ok(segments)
    }
}

/// For its owner only: it tells who asked how much.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn has_segments(folder: &Path) -> bool {
    segment_ids(folder).is_ok_and(|ids| !ids.is_empty())
}

fn segment_ids(folder: &Path) -> io::Result<Vec<SegmentId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT_SUFFIX));
        ids.extend(number.and_then(|number| number.parse().ok()).map(SegmentId));
    }
    Ok(ids)
}

fn scan(id: SegmentId, path: &Path) -> io::Result<Segment> {
    let content = fs::read(path)?;
    let whole = line::whole_bytes(&content);
    if whole < content.len() {
        log::warn!(segment = path.display().to_string(), torn_bytes = content.len() - whole;
            "an event that a crash cut short is dropped");
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(Segment { id, bytes: whole as u64, events: line::lines(&content) })
}
