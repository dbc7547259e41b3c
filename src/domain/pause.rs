//! How long to leave alone what fails again and again.

use std::time::Duration;

/// Doublings beyond which a pause does not grow, whatever its bound: a thousandfold, and no shift overflows.
const DOUBLINGS_MAX: u32 = 10;

/// `first`, doubled so many times, at most `longest`.
pub fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(DOUBLINGS_MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_bound() {
        let pause = |times| doubled(Duration::from_secs(1), times, Duration::from_secs(60)).as_secs();
        assert_eq!([0, 1, 5, 6, u32::MAX].map(pause), [1, 2, 32, 60, 60]);
        assert_eq!(doubled(Duration::from_millis(1), u32::MAX, Duration::MAX).as_millis(), 1_024);
        assert_eq!(doubled(Duration::MAX, 1, Duration::MAX), Duration::MAX);
    }
}
