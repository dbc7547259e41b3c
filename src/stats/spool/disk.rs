//! The files of the spool.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::SpoolError;
use super::index::{Index, Segment, SegmentId};
use super::line;
use super::slot::Slot;
use crate::domain::error_chain::ErrorChain;
use crate::domain::usage::UsageRecord;

/// What the spool holds, and what it could not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::stats) struct SpoolState {
    /// Counts the calls: of two states the one with the higher number is the later.
    pub(in crate::stats) call: u64,
    pub(in crate::stats) events: u64,
    pub(in crate::stats) bytes: u64,
    /// Events given up because the spool was full, or whose file was taken away.
    pub(in crate::stats) lost: u64,
    /// Lines that could not be read again.
    pub(in crate::stats) damaged: u64,
}

/// The spool of one process. Every call blocks on the disk.
///
/// What [`Spool::append`] has answered survives the process (`write`) and, as far as the disk tells the truth, a
/// loss of power (`fdatasync`, once a call).
#[derive(Debug)]
pub(in crate::stats) struct Spool {
    root: PathBuf,
    max_bytes: u64,
    /// `None` until the disk has let us in.
    opened: Option<Opened>,
    call: u64,
    lost: u64,
    damaged: u64,
}

#[derive(Debug)]
struct Opened {
    slot: Slot,
    index: Index,
    /// The file that is appended to, while there is one.
    writer: Option<File>,
}

/// Lines that go into one segment.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    events: u64,
}

impl Spool {
    /// A spool of at most `max_bytes` below `root`; touches nothing yet.
    pub(in crate::stats) fn new(root: PathBuf, max_bytes: u64) -> Self {
        Self { root, max_bytes, opened: None, call: 0, lost: 0, damaged: 0 }
    }

    /// Writes events behind those that are there; the oldest make room when it is full.
    ///
    /// # Errors
    /// Some of them may be on the disk then: append all of them again, or keep them elsewhere.
    pub(in crate::stats) fn append(&mut self, records: &[UsageRecord]) -> Result<(), SpoolError> {
        let max_bytes = self.max_bytes;
        let opened = self.open()?;
        let mut given_up = Vec::new();
        let appended = opened.append(records, &mut given_up);
        let lost: u64 = given_up.iter().map(|segment| segment.events).sum();
        if lost > 0 {
            log::error!(events_lost = lost, spool_max_bytes = max_bytes;
                "the statistics' spool is full: its oldest events are lost");
            self.lost += lost;
        }
        if appended.is_err() {
            self.reopen_if_gone();
        }
        appended
    }

    /// The events of the oldest segment, those of processes that are gone included; `None` when there are none.
    /// End it with [`Spool::discard`] or [`Spool::put_back`].
    ///
    /// # Errors
    /// The segment stays where it is.
    pub(in crate::stats) fn oldest(&mut self) -> Result<Option<(SegmentId, Vec<UsageRecord>)>, SpoolError> {
        let root = self.root.clone();
        let opened = self.open()?;
        if opened.index.is_empty() {
            opened.adopt_orphans(&root);
        }
        let Some(segment) = opened.index.begin_replay() else { return Ok(None) };
        if opened.index.open_segment().is_none() {
            opened.writer = None;
        }
        let path = opened.slot.path(segment.id);
        match fs::read(&path) {
            Ok(content) => Ok(Some((segment.id, self.decode(segment, &content)))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                opened.index.remove(segment.id);
                self.lost += segment.events;
                log::error!(segment = path.display().to_string(), events_lost = segment.events;
                    "a segment of the statistics' spool was taken away");
                Ok(Some((segment.id, Vec::new())))
            }
            Err(error) => {
                opened.index.end_replay();
                Err(SpoolError::at(&path, "read")(error))
            }
        }
    }

    /// Deletes a segment whose events are committed.
    pub(in crate::stats) fn discard(&mut self, id: SegmentId) {
        if let Some(opened) = &mut self.opened {
            opened.index.remove(id);
            // Left behind, it is replayed once more at the next start, to no effect.
            delete(&opened.slot.path(id));
        }
    }

    /// Leaves a segment for later.
    pub(in crate::stats) fn put_back(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.index.end_replay();
        }
    }

    /// What it holds now.
    pub(in crate::stats) fn state(&mut self) -> SpoolState {
        self.call += 1;
        let index = self.opened.as_ref().map(|opened| &opened.index);
        SpoolState {
            call: self.call,
            events: index.map_or(0, Index::events),
            bytes: index.map_or(0, Index::bytes),
            lost: self.lost,
            damaged: self.damaged,
        }
    }

    fn open(&mut self) -> Result<&mut Opened, SpoolError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => Opened::open(&self.root, self.max_bytes)?,
        };
        Ok(self.opened.insert(opened))
    }

    /// A folder that somebody deleted takes its segments with it, and is made anew at the next call.
    fn reopen_if_gone(&mut self) {
        if let Some(gone) = self.opened.take_if(|opened| !opened.slot.folder().exists()) {
            self.lost += gone.index.events();
            log::error!(folder = gone.slot.folder().display().to_string(), events_lost = gone.index.events();
                "the statistics' spool was taken away");
        }
    }

    fn decode(&mut self, segment: Segment, content: &[u8]) -> Vec<UsageRecord> {
        let decoded = line::decode(content);
        if decoded.damaged > 0 {
            self.damaged += decoded.damaged;
            log::error!(segment = segment.id.0, events_damaged = decoded.damaged;
                "events in the statistics' spool are damaged and skipped");
        }
        decoded.records
    }
}

impl Opened {
    fn open(root: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let slot = Slot::claim(root)?;
        let index = Index::new(slot.segments()?, max_bytes);
        let mut opened = Self { slot, index, writer: None };
        opened.adopt_orphans(root);
        Ok(opened)
    }

    /// Moves the segments of processes that are gone into this slot.
    fn adopt_orphans(&mut self, root: &Path) {
        for orphan in self.slot.orphans(root) {
            let moved = orphan.segments().and_then(|segments| {
                segments.into_iter().try_for_each(|segment| self.adopt(&orphan, segment))
            });
            if let Err(error) = moved {
                log::warn!(error = ErrorChain(&error).to_string();
                    "statistics of a process that is gone could not be taken over yet");
            }
        }
    }

    fn adopt(&mut self, orphan: &Slot, segment: Segment) -> Result<(), SpoolError> {
        let id = self.index.adopt(segment.bytes, segment.events);
        self.writer = None;
        let (from, to) = (orphan.path(segment.id), self.slot.path(id));
        fs::rename(&from, &to).map_err(|error| {
            self.index.remove(id);
            SpoolError::at(&from, "moved")(error)
        })
    }

    fn append(&mut self, records: &[UsageRecord], given_up: &mut Vec<Segment>) -> Result<(), SpoolError> {
        let mut piece = Piece::default();
        for record in records {
            let line = line::encode(record);
            if piece.events > 0 && !self.index.fits((piece.bytes.len() + line.len()) as u64) {
                self.write(&std::mem::take(&mut piece), given_up)?;
            }
            piece.bytes.extend_from_slice(&line);
            piece.events += 1;
        }
        if piece.events > 0 {
            self.write(&piece, given_up)?;
        }
        self.sync()
    }

    fn write(&mut self, piece: &Piece, given_up: &mut Vec<Segment>) -> Result<(), SpoolError> {
        let bytes = piece.bytes.len() as u64;
        if !self.index.fits(bytes) {
            self.sync()?;
            self.seal();
        }
        for segment in self.index.make_room(bytes) {
            delete(&self.slot.path(segment.id));
            given_up.push(segment);
        }
        let path = self.writer()?;
        let (known, written) = match (&mut self.writer, self.index.open_segment()) {
            (Some(file), Some(segment)) => (segment.bytes, file.write_all(&piece.bytes)),
            _ => (0, Err(ErrorKind::NotFound.into())),
        };
        match written {
            Ok(()) => self.index.grew(bytes, piece.events),
            Err(_) => self.cut_back_to(known),
        }
        written.map_err(SpoolError::at(&path, "written"))
    }

    /// Makes sure that there is a file to append to; answers its path.
    fn writer(&mut self) -> Result<PathBuf, SpoolError> {
        if let (Some(segment), Some(_)) = (self.index.open_segment(), &self.writer) {
            return Ok(self.slot.path(segment.id));
        }
        let id = self.index.begin_segment();
        let path = self.slot.path(id);
        let created = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            // The folder's entry must last as the file's content does.
            .and_then(|file| File::open(self.slot.folder())?.sync_all().map(|()| file));
        match created {
            Ok(file) => {
                self.writer = Some(file);
                Ok(path)
            }
            Err(error) => {
                self.seal();
                self.index.remove(id);
                Err(SpoolError::at(&path, "created")(error))
            }
        }
    }

    /// Takes back what a failed write may have left; a file that does not allow it is written to no more.
    fn cut_back_to(&mut self, bytes: u64) {
        let is_cut = self.writer.as_ref().is_some_and(|file| file.set_len(bytes).is_ok());
        if !is_cut {
            self.seal();
        }
    }

    fn seal(&mut self) {
        self.index.seal();
        self.writer = None;
    }

    fn sync(&self) -> Result<(), SpoolError> {
        match &self.writer {
            Some(file) => file.sync_data().map_err(SpoolError::at(self.slot.folder(), "synced")),
            None => Ok(()),
        }
    }
}

fn delete(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        log::warn!(segment = path.display().to_string(), error = error.to_string();
            "a segment of the statistics' spool could not be deleted");
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::domain::clock::Moment;
    use crate::domain::ids::EventId;

    const MAX: u64 = 64 << 10;

    fn records(ids: std::ops::Range<u128>) -> Vec<UsageRecord> {
        let record = |id: u128| UsageRecord {
            event_id: EventId::from_bytes(id.to_be_bytes()),
            ..UsageRecord::ended_at(Moment::default())
        };
        ids.map(record).collect()
    }

    fn spool(folder: &TempDir) -> Spool {
        Spool::new(folder.path().join("store"), MAX)
    }

    /// Replays all that there is.
    fn drain(spool: &mut Spool) -> Vec<UsageRecord> {
        let mut all = Vec::new();
        while let Some((id, records)) = spool.oldest().unwrap() {
            all.extend(records);
            spool.discard(id);
        }
        all
    }

    fn segment_files(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files.extend(segment_files(&path)),
                false if path.extension().is_some_and(|extension| extension == "events") => files.push(path),
                false => {}
            }
        }
        files.sort();
        files
    }

    #[test]
    fn what_was_appended_is_replayed_in_order_and_its_files_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(&folder);
        let records = records(0..60);
        spool.append(&records[..1]).unwrap();
        spool.append(&records[1..50]).unwrap();
        spool.append(&records[50..]).unwrap();
        assert!(segment_files(folder.path()).len() > 1);
        assert_eq!(spool.state().events, 60);
        assert_eq!(drain(&mut spool), records);
        assert!(segment_files(folder.path()).is_empty());
        assert_eq!((spool.state().events, spool.state().bytes, spool.state().lost), (0, 0, 0));
    }

    #[test]
    fn what_is_appended_during_a_replay_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(&folder);
        let records = records(0..3);
        spool.append(&records[..2]).unwrap();
        let (id, first) = spool.oldest().unwrap().unwrap();
        spool.append(&records[2..]).unwrap();
        assert_eq!(first, records[..2]);
        spool.put_back();
        assert_eq!(spool.oldest().unwrap().unwrap(), (id, first));
        spool.discard(id);
        assert_eq!(drain(&mut spool), records[2..]);
    }

    #[test]
    fn a_successor_finds_what_a_crash_left_but_for_the_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(0..5);
        let mut predecessor = spool(&folder);
        predecessor.append(&records).unwrap();
        drop(predecessor);
        let file = segment_files(folder.path()).remove(0);
        let length = file.metadata().unwrap().len();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 3).unwrap();
        let mut successor = spool(&folder);
        assert_eq!(drain(&mut successor), records[..4]);
        assert_eq!(successor.state().damaged, 0);
    }

    #[test]
    fn a_damaged_event_is_skipped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(&folder);
        let records = records(0..5);
        spool.append(&records).unwrap();
        let file = segment_files(folder.path()).remove(0);
        let mut content = fs::read(&file).unwrap();
        content[30] ^= 1;
        fs::write(&file, content).unwrap();
        assert_eq!(drain(&mut spool), records[1..]);
        assert_eq!(spool.state().damaged, 1);
    }

    #[test]
    fn a_full_spool_keeps_the_newest_and_counts_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(&folder);
        let records = records(0..1_000);
        for some in records.chunks(7) {
            spool.append(some).unwrap();
            assert!(spool.state().bytes <= MAX);
        }
        let lost = spool.state().lost;
        assert!(lost > 0);
        let kept = drain(&mut spool);
        assert_eq!(kept, records[lost as usize..]);
        let on_disk: u64 =
            segment_files(folder.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert_eq!(on_disk, 0);
    }

    #[test]
    fn processes_that_live_do_not_share_and_the_dead_are_inherited() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(0..4);
        let (mut first, mut second, mut third) = (spool(&folder), spool(&folder), spool(&folder));
        first.append(&records[..1]).unwrap();
        second.append(&records[1..2]).unwrap();
        third.append(&records[2..3]).unwrap();
        assert_eq!(drain(&mut first), records[..1], "the others live");
        drop(third);
        assert_eq!(drain(&mut first), records[2..3]);
        drop(second);
        let mut fourth = spool(&folder);
        fourth.append(&records[3..]).unwrap();
        assert_eq!(
            drain(&mut fourth),
            [records[1].clone(), records[3].clone()],
            "the freed slot is used again"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("store");
        fs::write(&in_the_way, "a file").unwrap();
        let mut spool = spool(&folder);
        let error = spool.append(&records(0..1)).unwrap_err();
        assert!(error.to_string().contains("store/0 cannot be created"), "{error}");
        assert!(spool.oldest().is_err());
        assert_eq!(spool.state().events, 0);
        fs::remove_file(&in_the_way).unwrap();
        spool.append(&records(0..1)).unwrap();
        assert_eq!(spool.state().events, 1);
    }

    #[test]
    fn a_spool_that_is_taken_away_is_counted_and_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(&folder);
        spool.append(&records(0..1)).unwrap();
        fs::remove_file(segment_files(folder.path()).remove(0)).unwrap();
        assert_eq!(drain(&mut spool), []);
        assert_eq!(spool.state().lost, 1);

        spool.append(&records(1..2)).unwrap();
        let (id, _) = spool.oldest().unwrap().unwrap();
        fs::remove_dir_all(folder.path().join("store")).unwrap();
        spool.append(&records(2..3)).unwrap_err();
        assert_eq!(spool.state().lost, 2);
        spool.discard(id);
        let kept = records(3..4);
        spool.append(&kept).unwrap();
        assert_eq!(drain(&mut spool), kept);
    }

    /// `/dev/full` answers every write as a disk without room does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_and_costs_nothing_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(&folder);
        let records = records(0..3);
        spool.append(&records[..1]).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        spool.opened.as_mut().unwrap().writer = Some(full);
        let error = spool.append(&records[1..]).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
        assert_eq!(spool.state().events, 1);
        spool.append(&records[1..]).unwrap();
        assert_eq!((drain(&mut spool), spool.state().lost), (records, 0));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        spool(&folder).append(&records(0..1)).unwrap();
        let mode = folder.path().join("store/0").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
}
