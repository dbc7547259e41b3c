//! What the answers of one model have taught.

use crate::domain::input_tokens::InputTokens;
use crate::domain::provider::ModelSpec;
use crate::domain::usage::Usage;
use crate::quota::OutputCap;
use crate::quota::estimate::{Calibration, Vocabulary, image_tokens};

/// How one model counts, and how much it writes; the same on all accounts.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    calibration: Calibration,
    output_cap: OutputCap,
    image_tokens: u64,
}

/// What an attempt asked for, as far as its answer teaches something by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) input: InputTokens,
    /// What of it was reserved: the upper edge for the model.
    pub(super) input_reserved: u64,
    /// Whether the client stated a cap: then the length of the answer is its choice.
    pub(super) has_client_cap: bool,
    /// The cap that we stated instead.
    pub(super) added_cap: Option<u64>,
    pub(super) choices: u64,
}

impl Learned {
    pub(super) fn new(model: &ModelSpec) -> Self {
        let name = model.family.as_deref().unwrap_or(&model.id);
        Self {
            calibration: Calibration::new(Vocabulary::of(name)),
            output_cap: OutputCap::default(),
            image_tokens: image_tokens(name),
        }
    }

    /// The upper edge of an input, as this model counts.
    pub(super) fn input_edge(&self, input: InputTokens) -> u64 {
        self.calibration.upper_edge(input.with_images_at(self.image_tokens))
    }

    /// The cap for a request that states none; see [`OutputCap::cap`].
    pub(super) fn output_cap(&self, most: u64, tightest: u64) -> u64 {
        self.output_cap.cap(most, tightest)
    }

    /// Takes note of the upstream's word on one attempt.
    pub(super) fn note_reported(&mut self, asked: &Asked, usage: Usage) {
        // What images cost goes by their size, which says nothing of the vocabulary.
        if asked.input.images == 0 {
            self.calibration.note(asked.input, usage.input_tokens);
        }
    }

    /// Takes note of an answer that came to its end.
    pub(super) fn note_answer(&mut self, asked: &Asked, usage: Usage) {
        if !asked.has_client_cap {
            // Choices that were cut and others that were not cannot be told apart: their mean stands for all.
            self.output_cap.note(usage.output_tokens.div_ceil(asked.choices.max(1)), asked.added_cap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shipped_providers;

    fn learned(family: &str) -> Learned {
        let mut model = shipped_providers().unwrap().remove(0).models.remove(0);
        model.family = Some(family.to_owned());
        Learned::new(&model)
    }

    fn asked(has_client_cap: bool, choices: u64) -> Asked {
        let input = InputTokens { large: 1_000, small: 2_000, images: 0 };
        Asked { input, input_reserved: 0, has_client_cap, added_cap: None, choices }
    }

    const USAGE: Usage = Usage { input_tokens: 2_000, output_tokens: 6_000 };

    #[test]
    fn the_family_decides_where_the_estimate_starts_and_reports_move_it() {
        let input = asked(false, 1).input;
        assert_eq!(learned("smollm2").input_edge(input), 2_300);
        let mut mistaken = learned("gpt-oss-20b");
        assert_eq!(mistaken.input_edge(input), 1_150);
        (0..100).for_each(|_| mistaken.note_reported(&asked(false, 1), USAGE));
        assert!(mistaken.input_edge(input).abs_diff(2_300) <= 30, "{mistaken:?}");
    }

    #[test]
    fn images_cost_what_the_family_says_and_teach_nothing_of_its_vocabulary() {
        let input = InputTokens { images: 2, ..InputTokens::certain(488) };
        let mut gemma = learned("gemma-3-27b");
        assert_eq!(gemma.input_edge(input), 1_150);
        (0..100).for_each(|_| gemma.note_reported(&Asked { input, ..asked(false, 1) }, USAGE));
        assert_eq!(gemma.input_edge(input), 1_150);
    }

    #[test]
    fn only_answers_without_a_clients_cap_teach_one_and_each_choice_counts_alone() {
        let cap_after = |asked: &Asked| {
            let mut learned = learned("gpt-oss-20b");
            (0..100).for_each(|_| learned.note_answer(asked, USAGE));
            learned.output_cap(u64::MAX, u64::MAX)
        };
        assert_eq!(cap_after(&asked(true, 1)), 2_048);
        assert_eq!(cap_after(&asked(false, 1)), 6_144);
        assert_eq!(cap_after(&asked(false, 4)), 1_536);
    }
}
