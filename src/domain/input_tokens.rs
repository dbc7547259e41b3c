//! How many tokens an input is estimated at, as long as nobody knows which model reads it.

use std::ops::AddAssign;

use serde::Serialize;

/// The central estimate of an input's tokens, by two vocabularies between or near which all others lie. They agree on
/// English and differ by up to three times on other scripts, so that one number cannot serve both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InputTokens {
    /// By a vocabulary of 200,000 entries, trained on all scripts.
    pub large: u64,
    /// By one of 49,000 entries, trained mostly on English.
    pub small: u64,
}

/// The error of the estimate that the tests bound, in percent.
pub const ERROR_PERCENT: u64 = 15;

impl InputTokens {
    /// The same by every vocabulary: what a template or a picture adds.
    pub const fn certain(tokens: u64) -> Self {
        Self { large: tokens, small: tokens }
    }

    /// What no vocabulary is expected to exceed.
    pub fn upper_edge(self) -> u64 {
        raised(self.large.max(self.small))
    }

    /// What no vocabulary is expected to stay below.
    pub fn lower_edge(self) -> u64 {
        let least = self.large.min(self.small);
        least.saturating_sub(least.saturating_mul(ERROR_PERCENT) / 100)
    }
}

/// An estimate with its error on top.
pub fn raised(tokens: u64) -> u64 {
    tokens.saturating_add(tokens.saturating_mul(ERROR_PERCENT).div_ceil(100))
}

impl AddAssign for InputTokens {
    fn add_assign(&mut self, other: Self) {
        self.large = self.large.saturating_add(other.large);
        self.small = self.small.saturating_add(other.small);
    }
}

impl AddAssign<u64> for InputTokens {
    fn add_assign(&mut self, tokens: u64) {
        *self += Self::certain(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_enclose_both_vocabularies() {
        let tokens = InputTokens { large: 100, small: 300 };
        assert_eq!((tokens.lower_edge(), tokens.upper_edge()), (85, 345));
        assert_eq!(InputTokens::default().upper_edge(), 0);
    }

    #[test]
    fn what_is_added_counts_in_both_and_never_overflows() {
        let mut tokens = InputTokens { large: 1, small: 2 };
        tokens += 5;
        tokens += InputTokens { large: 10, small: 20 };
        assert_eq!(tokens, InputTokens { large: 16, small: 27 });
        tokens += u64::MAX;
        assert_eq!((tokens.upper_edge(), tokens.large), (u64::MAX, u64::MAX));
    }
}
