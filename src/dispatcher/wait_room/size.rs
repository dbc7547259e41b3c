//! How much a request asks for.

use crate::domain::chat::ChatRequest;
use crate::domain::input_tokens::{DEAREST_IMAGE_TOKENS, InputTokens};

/// What one unit of cost stands for, in tokens. Chosen: about what free tiers allow per request they allow (of the
/// shipped catalogue of 2026-11-22, 200 to 2,000 tokens a minute for each request a minute), so that a small
/// request and a thousand tokens weigh alike.
const TOKENS_PER_COST: u64 = 1_000;

/// The output of a request that states no cap, for its cost alone: the original API's default (its documentation,
/// 2026-11-22).
const USUAL_OUTPUT_TOKENS: u64 = 1_024;

/// The tokens that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// By every vocabulary: which one counts is each model's affair.
    pub input: InputTokens,
    /// Of all choices; `None` where it states no cap: what is reserved for each is each provider's affair then.
    pub output_tokens: Option<u64>,
    pub choices: u64,
}

impl Size {
    pub fn of(request: &ChatRequest) -> Self {
        let output_tokens = request.choice_cap.map(|cap| request.output_tokens(cap));
        Self { input: request.input_tokens, output_tokens, choices: request.choices }
    }

    /// Whether a limit that has no room for `other` surely has none for this. Sizes with and without a cap say
    /// nothing about each other.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_output_covered = match (self.output_tokens, other.output_tokens) {
            (Some(mine), Some(theirs)) => mine >= theirs,
            (None, None) => self.choices >= other.choices,
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_output_covered
            && self.input.large >= other.input.large
            && self.input.small >= other.input.small
            && self.input.images >= other.input.images
    }

    /// What both of two that are comparable cover.
    pub(super) fn least(&self, other: &Self) -> Self {
        let input = InputTokens {
            large: self.input.large.min(other.input.large),
            small: self.input.small.min(other.input.small),
            images: self.input.images.min(other.input.images),
        };
        let output_tokens = self.output_tokens.min(other.output_tokens);
        Self { input, output_tokens, choices: self.choices.min(other.choices) }
    }

    /// How large it is, roughly: two magnitudes for each doubling.
    pub(super) fn magnitude(&self) -> u32 {
        let tokens = self.input.large.max(self.input.small).saturating_add(self.output_tokens.unwrap_or(0));
        let bits = u64::BITS - tokens.leading_zeros();
        let is_upper_half = bits > 1 && tokens >> (bits - 2) & 1 == 1;
        2 * bits + u32::from(is_upper_half)
    }

    /// What serving it costs its tenant's deficit: one for the request, one for each thousand tokens.
    pub(super) fn cost(&self) -> u64 {
        let input = self.input.with_images_at(DEAREST_IMAGE_TOKENS);
        let usual = USUAL_OUTPUT_TOKENS.saturating_mul(self.choices);
        let tokens = input.large.max(input.small).saturating_add(self.output_tokens.unwrap_or(usual));
        (tokens / TOKENS_PER_COST).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(input_tokens: u64, output_tokens: Option<u64>) -> Size {
        Size { input: InputTokens::certain(input_tokens), output_tokens, choices: 1 }
    }

    #[test]
    fn a_size_covers_what_is_no_larger_in_any_part() {
        assert!(size(10, Some(10)).covers(&size(10, Some(9))));
        assert!(!size(10, Some(10)).covers(&size(9, Some(11))));
        assert!(size(10, None).covers(&size(10, None)));
        assert!(!size(10, None).covers(&size(1, Some(1))));
        assert!(!size(10, Some(u64::MAX)).covers(&size(1, None)));
        assert!(!size(10, None).covers(&Size { choices: 2, ..size(1, None) }));
        let small = InputTokens { small: 11, ..InputTokens::certain(10) };
        assert!(!size(10, None).covers(&Size { input: small, ..size(10, None) }), "some model counts more");
    }

    #[test]
    fn a_magnitude_is_half_a_doubling() {
        let magnitudes: Vec<u32> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, u64::MAX]
            .into_iter()
            .map(|tokens| size(tokens, None).magnitude())
            .collect();
        assert_eq!(magnitudes, [0, 2, 4, 5, 6, 6, 7, 7, 8, 8, 9, 129]);
    }

    #[test]
    fn the_cost_counts_the_request_and_its_tokens() {
        assert_eq!(size(100, Some(100)).cost(), 1);
        assert_eq!(size(100, None).cost(), 2);
        assert_eq!(size(9_000, Some(1_000)).cost(), 11);
        assert_eq!(size(u64::MAX, Some(u64::MAX)).cost(), u64::MAX / TOKENS_PER_COST + 1);
    }
}
