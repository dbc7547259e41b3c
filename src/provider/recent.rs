//! How many of the last attempts failed; pure.

use std::time::Duration;

use crate::domain::clock::Moment;

/// Attempts older than this are forgotten. Chosen: long enough to see a handful at a request every few seconds, short
/// enough that a provider is judged by how it is now.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// The window slides by a sixth of itself.
const SLICES: usize = 6;
const SLICE_MICROS: i64 = 5_000_000;

/// Counts of the last [`WINDOW`], in slices.
#[derive(Debug, Default)]
pub(super) struct Recent {
    slices: [Slice; SLICES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    /// Which span of time it counts.
    number: i64,
    successes: u32,
    failures: u32,
}

impl Recent {
    pub(super) fn succeeded(&mut self, now: Moment) {
        if let Some(slice) = self.slice(now) {
            slice.successes = slice.successes.saturating_add(1);
        }
    }

    pub(super) fn failed(&mut self, now: Moment) {
        if let Some(slice) = self.slice(now) {
            slice.failures = slice.failures.saturating_add(1);
        }
    }

    /// What was counted as a success has failed: the newest success that is still there becomes a failure.
    pub(super) fn failed_after_all(&mut self, now: Moment) {
        self.failed(now);
        let counted = self.slices.iter_mut().filter(|slice| slice.successes > 0);
        if let Some(newest) = counted.max_by_key(|slice| slice.number) {
            newest.successes -= 1;
        }
    }

    /// Attempts and, of these, failures.
    pub(super) fn sums(&self, now: Moment) -> (u32, u32) {
        let oldest = number(now) - SLICES as i64 + 1;
        let live = self.slices.iter().filter(|slice| slice.number >= oldest);
        live.fold((0, 0), |(attempts, failures), slice| {
            let all = slice.successes.saturating_add(slice.failures);
            (attempts.saturating_add(all), failures.saturating_add(slice.failures))
        })
    }

    /// The slice that counts `now`, emptied if it last counted another span.
    fn slice(&mut self, now: Moment) -> Option<&mut Slice> {
        let number = number(now);
        let position = usize::try_from(number.rem_euclid(SLICES as i64)).ok()?;
        let slice = self.slices.get_mut(position)?;
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        Some(slice)
    }
}

fn number(now: Moment) -> i64 {
    now.unix_micros().div_euclid(SLICE_MICROS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Never more than what the window holds, never less than what its whole slices hold.
        #[test]
        fn sums_are_those_of_the_window(steps in proptest::collection::vec((0u64..9_000, any::<bool>()), 1..80)) {
            let mut recent = Recent::default();
            let mut now = Moment::from_unix_micros(1_000_000_007);
            let mut all = Vec::new();
            for (pause_ms, fails) in steps {
                now = now + Duration::from_millis(pause_ms);
                if fails { recent.failed(now) } else { recent.succeeded(now) }
                all.push((now, fails));
                let count = |within: Duration| {
                    let inside = all.iter().filter(|(at, _)| now.saturating_since(*at) < within);
                    let failed = inside.clone().filter(|(_, fails)| *fails).count();
                    (inside.count() as u32, failed as u32)
                };
                let (attempts, failures) = recent.sums(now);
                let (most, least) = (count(WINDOW), count(WINDOW - Duration::from_secs(5)));
                prop_assert!(least.0 <= attempts && attempts <= most.0);
                prop_assert!(least.1 <= failures && failures <= most.1);
            }
        }
    }

    #[test]
    fn a_success_that_fails_is_counted_once() {
        let mut recent = Recent::default();
        recent.succeeded(Moment::from_unix_micros(0));
        recent.failed_after_all(Moment::from_unix_micros(6_000_000));
        assert_eq!(recent.sums(Moment::from_unix_micros(6_000_000)), (1, 1));
    }
}
