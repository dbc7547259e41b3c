//! Whether a spool could be used, without using it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::error::SpoolError;

/// What the file is called that tells; it is there for the time of one write.
const PROBE: &str = ".freellmapi-probe";

/// As much as a disk must still take. Chosen: more than a file's entry, so that a full disk is noticed.
const PROBE_BYTES: [u8; 4_096] = [0; 4_096];

/// Whether a spool at `folder` can be made and written, tried in the folder itself or in the nearest one above it that
/// is there. Leaves nothing behind. Blocks.
///
/// # Errors
/// What the disk says.
pub(in crate::stats) fn probe(folder: &Path) -> Result<(), SpoolError> {
    let place =
        folder.ancestors().find(|ancestor| ancestor.exists()).filter(|place| !place.as_os_str().is_empty());
    let path = place.unwrap_or(Path::new(".")).join(format!("{PROBE}-{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create_new(true).open(&path).and_then(|file| write(file, &path));
    written.map_err(SpoolError::at(folder, "written"))
}

fn write(mut file: File, path: &Path) -> std::io::Result<()> {
    let written = file.write_all(&PROBE_BYTES).and_then(|()| file.sync_all());
    let removed = fs::remove_file(path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_and_tells_what_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("not/yet");
        probe(&spool).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir_all(&spool).unwrap();
        probe(&spool).unwrap();
        assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(probe(&file.join("spool")).is_err());
        assert!(probe(&file).is_err());
    }
}
