//! What a process has used, as the kernel tells it.

use std::{fs, io};

/// Ticks of utime and stime in a second: USER_HZ, which Linux keeps at 100 for programs on every architecture
/// that it runs on here. Source: proc(5), `sysconf(_SC_CLK_TCK)`.
const TICK_US: u64 = 10_000;

/// Processes that are looked at together: what is measured, and its workers.
#[derive(Clone, Debug)]
pub struct Watch(Vec<u32>);

impl Watch {
    /// Looks at these process ids.
    pub fn new(pids: Vec<u32>) -> Self {
        Self(pids)
    }

    /// The processor time that they have used, user and system, in microseconds; in steps of a tick.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn cpu_us(&self) -> io::Result<u64> {
        self.sum(|pid| cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?))
            .map(|ticks| ticks * TICK_US)
    }

    /// The memory that they hold, resident, in KiB.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn rss_kib(&self) -> io::Result<u64> {
        self.sum(|pid| resident_kib(&fs::read_to_string(format!("/proc/{pid}/status"))?))
    }

    fn sum(&self, of: impl Fn(u32) -> io::Result<u64>) -> io::Result<u64> {
        self.0.iter().map(|pid| of(*pid)).sum()
    }
}

/// Fields 14 and 15. The second field is the program's name, which may hold anything: what counts comes after its
/// last bracket.
fn cpu_ticks(stat: &str) -> io::Result<u64> {
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(|| io::Error::other("a stat without a name"))?;
    let ticks = |index| fields.split(' ').nth(index).and_then(|field| field.parse::<u64>().ok());
    ticks(11)
        .zip(ticks(12))
        .map(|(user, system)| user + system)
        .ok_or_else(|| io::Error::other("a short stat"))
}

fn resident_kib(status: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.ok_or_else(|| io::Error::other("a status without VmRSS: the process has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat).unwrap(), 300);
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    1234 kB\nThreads: 1\n").unwrap(), 1234);
        assert!(cpu_ticks("nothing").is_err());
    }

    #[test]
    fn this_process_can_be_watched() {
        let watch = Watch::new(vec![std::process::id()]);
        assert!(watch.rss_kib().unwrap() > 100);
        watch.cpu_us().unwrap();
    }
}
