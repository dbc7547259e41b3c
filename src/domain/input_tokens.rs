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
    /// Images, which every model counts in its own way; not in the two counts.
    pub images: u64,
}

/// What an image counts where nobody knows which model reads it: `quota::estimate` has no dearer rule.
pub const DEAREST_IMAGE_TOKENS: u64 = 1_600;

/// The error of the estimate that the tests bound, in percent.
pub const ERROR_PERCENT: u64 = 15;

impl InputTokens {
    /// The same by every vocabulary: what a template or a picture adds.
    pub const fn certain(tokens: u64) -> Self {
        Self { large: tokens, small: tokens, images: 0 }
    }

    /// The same without images: each counts `image_tokens` by every vocabulary.
    pub fn with_images_at(mut self, image_tokens: u64) -> Self {
        let images = std::mem::take(&mut self.images);
        self += image_tokens.saturating_mul(images);
        self
    }

    /// What no vocabulary is expected to exceed.
    pub fn upper_edge(self) -> u64 {
        let input = self.with_images_at(DEAREST_IMAGE_TOKENS);
        raised(input.large.max(input.small))
    }

    /// What no vocabulary is expected to stay below: an image may count next to nothing.
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
        self.images = self.images.saturating_add(other.images);
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
        let tokens = InputTokens { large: 100, small: 300, images: 0 };
        assert_eq!((tokens.lower_edge(), tokens.upper_edge()), (85, 345));
        assert_eq!(InputTokens::default().upper_edge(), 0);
        let image = InputTokens { images: 1, ..tokens };
        assert_eq!((image.lower_edge(), image.upper_edge()), (85, 2_185));
    }

    #[test]
    fn what_is_added_counts_in_both_and_never_overflows() {
        let mut tokens = InputTokens { large: 1, small: 2, images: 0 };
        tokens += 5;
        tokens += InputTokens { large: 10, small: 20, images: 3 };
        assert_eq!(tokens, InputTokens { large: 16, small: 27, images: 3 });
        assert_eq!(tokens.with_images_at(10), InputTokens { large: 46, small: 57, images: 0 });
        tokens += u64::MAX;
        assert_eq!((tokens.upper_edge(), tokens.large), (u64::MAX, u64::MAX));
    }
}
