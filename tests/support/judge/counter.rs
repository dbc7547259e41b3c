//! The ways in which upstreams are known to count against a limit of so much per window; pure.
//!
//! Instants must not go back from one count to the next.

use std::collections::VecDeque;
use std::time::Duration;

use freellmapi::domain::clock::Moment;

/// How an upstream's windows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// One ends at every instant.
    Sliding,
    /// They follow each other from this instant on, before it and after it.
    Calendar(Moment),
    /// One begins with the first call after the end of the one before.
    Anchored,
    /// Room of a whole maximum, which refills evenly, a maximum per window.
    Bucket,
}

/// What was counted so far against one limit in one way.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    windows: Windows,
    max: u64,
    window: Duration,
    /// Sliding: what lies in the window that ends now.
    recent: VecDeque<(Moment, u64)>,
    /// Calendar and anchored: when the current window began.
    began: Option<Moment>,
    /// Sliding, calendar, anchored: the sum of the current window. Bucket: the level, in units × microseconds of window.
    sum: u128,
    latest: Moment,
}

impl Counter {
    pub(crate) fn new(windows: Windows, max: u64, window: Duration) -> Self {
        let latest = Moment::from_unix_micros(i64::MIN);
        Self { windows, max, window, recent: VecDeque::new(), began: None, sum: 0, latest }
    }

    /// Counts `amount` at `at`; how much is in the current window now.
    pub(crate) fn count(&mut self, at: Moment, amount: u64) -> u64 {
        self.advance(at);
        if self.windows == Windows::Anchored && self.began.is_none() {
            self.began = Some(at);
        }
        if self.windows == Windows::Sliding {
            self.recent.push_back((at, amount));
        }
        self.sum += u128::from(amount) * self.scale();
        self.level()
    }

    /// Whether `amount` more would be within the limit at `at`.
    pub(crate) fn has_room(&mut self, at: Moment, amount: u64) -> bool {
        self.advance(at);
        self.level() + amount <= self.max
    }

    /// What is in the current window, rounded up.
    fn level(&self) -> u64 {
        u64::try_from(self.sum.div_ceil(self.scale())).unwrap_or(u64::MAX)
    }

    fn scale(&self) -> u128 {
        if self.windows == Windows::Bucket { self.window.as_micros() } else { 1 }
    }

    fn advance(&mut self, at: Moment) {
        assert!(at >= self.latest, "a judge's instants go back: {at:?} after {:?}", self.latest);
        let passed = at.saturating_since(self.latest);
        let is_first = self.latest == Moment::from_unix_micros(i64::MIN);
        self.latest = at;
        match self.windows {
            // A window is half open: what lies a whole window back is out of it.
            Windows::Sliding => {
                while let Some((then, amount)) = self.recent.front().copied()
                    && then + self.window <= at
                {
                    self.recent.pop_front();
                    self.sum -= u128::from(amount);
                }
            }
            Windows::Calendar(origin) => {
                let length = i64::try_from(self.window.as_micros()).unwrap();
                let past = (at.unix_micros() - origin.unix_micros()).rem_euclid(length);
                self.begin(Some(Moment::from_unix_micros(at.unix_micros() - past)));
            }
            Windows::Anchored => {
                if self.began.is_some_and(|began| began + self.window <= at) {
                    self.begin(None);
                }
            }
            Windows::Bucket if is_first => {}
            Windows::Bucket => {
                self.sum = self.sum.saturating_sub(passed.as_micros() * u128::from(self.max));
            }
        }
    }

    fn begin(&mut self, began: Option<Moment>) {
        if self.began != began {
            self.began = began;
            self.sum = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    fn at(ms: i64) -> Moment {
        Moment::from_unix_micros(1_790_000_000_000_000 + ms * 1_000)
    }

    fn counter(windows: Windows) -> Counter {
        Counter::new(windows, 2, WINDOW)
    }

    /// The most that a counter saw.
    fn most(windows: Windows, instants: &[i64]) -> u64 {
        let mut counter = counter(windows);
        instants.iter().map(|ms| counter.count(at(*ms), 1)).max().unwrap()
    }

    #[test]
    fn a_sliding_window_sees_what_lies_across_every_edge() {
        // Two before a whole second and two after it: only a sliding window of the same length sees four.
        let instants = [900, 950, 1_050, 1_890];
        assert_eq!(most(Windows::Sliding, &instants), 4);
        assert_eq!(most(Windows::Calendar(at(0)), &instants), 2);
        assert_eq!(most(Windows::Sliding, &[0, 500, 1_000, 1_500]), 2);
        assert_eq!(most(Windows::Sliding, &[0, 500, 999]), 3);
    }

    #[test]
    fn a_calendar_counts_from_edge_to_edge() {
        assert_eq!(most(Windows::Calendar(at(0)), &[1_000, 1_400, 1_999]), 3);
        assert_eq!(most(Windows::Calendar(at(0)), &[1_000, 1_400, 2_000]), 2);
        assert_eq!(most(Windows::Calendar(at(500)), &[1_000, 1_400, 1_499, 1_500]), 3);
    }

    #[test]
    fn an_anchored_window_begins_with_its_first_call() {
        assert_eq!(most(Windows::Anchored, &[300, 1_299, 1_299]), 3);
        // The second window begins at 1,300 and not at 1,500.
        assert_eq!(most(Windows::Anchored, &[300, 1_300, 2_250, 2_299]), 3);
        assert_eq!(most(Windows::Anchored, &[300, 1_300, 2_250, 2_300]), 2);
    }

    #[test]
    fn a_bucket_refills_evenly() {
        assert_eq!(most(Windows::Bucket, &[0, 0, 500, 1_000]), 2);
        assert_eq!(most(Windows::Bucket, &[0, 0, 499]), 3);
        // What was not used is not kept beyond the maximum.
        assert_eq!(most(Windows::Bucket, &[0, 60_000, 60_000, 60_000]), 3);
    }

    #[test]
    fn room_is_what_may_still_be_counted() {
        for windows in [Windows::Sliding, Windows::Calendar(at(0)), Windows::Anchored, Windows::Bucket] {
            let mut counter = counter(windows);
            counter.count(at(10), 1);
            assert!(counter.has_room(at(20), 1) && !counter.has_room(at(20), 2), "{windows:?}");
            counter.count(at(20), 1);
            assert!(!counter.has_room(at(30), 1), "{windows:?}");
            assert!(counter.has_room(at(2_500), 2), "{windows:?}");
        }
    }
}
