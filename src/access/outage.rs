//! When to load, and what deserves a line in the log; pure.
//!
//! ```text
//!           start                  succeeded
//!   Idle ──────────▶ Loading ──────────────────▶ Idle
//!                       │  failed: an outage begins, or goes on, until one succeeds
//!                       └────────────────────────▶ Idle
//! ```

use serde::Serialize;

/// How the loads of the keyring went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefreshState {
    /// Whether a load is in flight.
    pub is_loading: bool,
    /// Whether the last load failed.
    pub is_store_away: bool,
    /// Loads that succeeded.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
    /// Ticks that found the last load still in flight.
    pub skipped: u64,
}

/// What a finished load changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    OutageBegan,
    OutageEnded,
    Nothing,
}

impl RefreshState {
    /// Whether a load is to begin now: one at a time, so that a slow store is not asked ever more often.
    pub(super) fn start(&mut self) -> bool {
        if self.is_loading {
            self.skipped += 1;
            return false;
        }
        self.is_loading = true;
        true
    }

    /// Notes how the load in flight ended.
    pub(super) fn finish(&mut self, succeeded: bool) -> Change {
        let was_away = self.is_store_away;
        self.is_loading = false;
        self.is_store_away = !succeeded;
        if succeeded {
            self.loads += 1;
        } else {
            self.failures += 1;
        }
        match (was_away, self.is_store_away) {
            (false, true) => Change::OutageBegan,
            (true, false) => Change::OutageEnded,
            _ => Change::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_when_it_begins_and_once_when_it_ends() {
        let mut state = RefreshState::default();
        let changes = [true, false, false, true, true].map(|succeeded| {
            assert!(state.start());
            state.finish(succeeded)
        });
        assert_eq!(
            changes,
            [Change::Nothing, Change::OutageBegan, Change::Nothing, Change::OutageEnded, Change::Nothing]
        );
        assert_eq!((state.loads, state.failures), (3, 2));
    }

    #[test]
    fn a_second_load_waits_for_the_first() {
        let mut state = RefreshState::default();
        assert!(state.start());
        assert!(!state.start());
        state.finish(true);
        assert!(state.start());
        assert_eq!(state.skipped, 1);
    }
}
