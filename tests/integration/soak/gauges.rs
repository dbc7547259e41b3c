//! What the system says about a process.

use std::fs;
use std::path::Path;

/// What a process holds at an instant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) sockets: u64,
    /// Descriptors that are no sockets.
    pub(crate) files: u64,
    pub(crate) spool_bytes: u64,
}

impl Gauges {
    pub(crate) fn of(process: u32, spool: &Path) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let (mut sockets, mut files) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
            // One that was closed since points nowhere.
            match entry.and_then(|entry| fs::read_link(entry.path())) {
                Ok(target) if target.to_string_lossy().starts_with("socket:") => sockets += 1,
                Ok(_) => files += 1,
                Err(_) => {}
            }
        }
        Self {
            resident_kib: field(&status, "VmRSS:"),
            threads: field(&status, "Threads:"),
            sockets,
            files,
            spool_bytes: bytes_below(spool),
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |path: &Path| {
        if path.is_dir() { bytes_below(path) } else { path.metadata().map_or(0, |metadata| metadata.len()) }
    };
    entries.map(|entry| size(&entry.unwrap().path())).sum()
}
