//! The signals that ask the program to stop.

use std::{fs, io};

use actix_web::rt::signal::unix::{Signal, SignalKind, signal};

/// Listens for SIGTERM, SIGINT and SIGHUP, from its making on.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// A terminal that was closed. `None` when it is to be ignored.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// # Errors
    /// When the system lets nobody listen.
    pub(super) fn listen() -> io::Result<Self> {
        let hears_hangup = !hangup_is_ignored();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: hears_hangup.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for the first of them that came since [`StopSignals::listen`].
    pub(super) async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does: listening would undo that. Known on Linux
/// only; elsewhere a closed terminal is always a stop.
fn hangup_is_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// SIGHUP is number 1, the lowest bit of the mask. Source: proc_pid_status(5), read 2026-11-22.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bit_of_sighup_in_the_ignored_ones_counts() {
        let status = |ignored: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{ignored}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        for heard in ["0000000000001000", "fffffffffffffffe", "", "x"] {
            assert!(!ignores_hangup(&status(heard)), "{heard}");
        }
        assert!(!ignores_hangup(""));
    }
}
