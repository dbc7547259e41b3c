//! How long to leave a target alone that refuses without saying until when.

use std::time::Duration;

/// The first waits. Source: the contract's "30 s, 2 min, 10 min …" for a 429 without an instant.
const FIRST_WAITS: [Duration; 3] =
    [Duration::from_secs(30), Duration::from_secs(2 * 60), Duration::from_secs(10 * 60)];

/// No wait is longer. Chosen: one probe an hour costs no budget worth naming, and a target that has come back
/// is found within the hour.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// The waits between 429s in a row that carry no hint: 30 s, 2 min, 10 min, then doubling, at most an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Escalation {
    refusals: usize,
    last: Duration,
}

impl Escalation {
    /// The wait after one more refusal.
    #[expect(clippy::should_implement_trait, reason = "waits never run out, and nobody iterates over them")]
    pub fn next(&mut self) -> Duration {
        let doubled = self.last.saturating_mul(2);
        self.last = FIRST_WAITS.get(self.refusals).copied().unwrap_or(doubled).min(MAX_WAIT);
        self.refusals = self.refusals.saturating_add(1);
        self.last
    }

    /// A success: the next refusal is a first one again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_an_hour_and_start_again_after_a_success() {
        let mut escalation = Escalation::default();
        let waits: Vec<u64> = (0..7).map(|_| escalation.next().as_secs()).collect();
        assert_eq!(waits, [30, 120, 600, 1200, 2400, 3600, 3600]);
        escalation.reset();
        assert_eq!(escalation.next().as_secs(), 30);
    }
}
