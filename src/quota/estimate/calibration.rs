//! What reported usage teaches about one model's tokenizer.

use serde::Serialize;

use super::vocabulary::Vocabulary;
use crate::domain::input_tokens::{InputTokens, raised};

/// How the estimates of one model are corrected, learned from what its upstream reports.
///
/// Three corrections, each of which moves by a fixed small step towards what an answer says, whatever it says: that
/// follows the median, so that a single report, however wrong, changes next to nothing; and each stays within bounds,
/// so that an upstream that always lies cannot make an estimate worthless.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Where its vocabulary lies between the two references: 0 is the large one, 1 the small one.
    blend: f64,
    /// What it counts for one token of the blend.
    ratio: f64,
    /// What its template adds to every request beyond what is estimated, in tokens.
    overhead: f64,
    /// Reports that told the references apart; counts up to [`SETTLED`].
    blend_reports: u32,
    is_known: bool,
}

/// Chosen: small enough that noise of one text stays below the promised error, large enough to get from one end to the
/// other within some dozens of answers.
const BLEND_STEP: f64 = 0.04;
const RATIO_STEP: f64 = 0.01;
const OVERHEAD_STEP: f64 = 4.0;

/// The ratio's bounds. Chosen: the vocabularies in use count half as much again at most on any script that the
/// references agree on; below the lower bound more would be debt than is saved.
const RATIO_MIN: f64 = 0.7;
const RATIO_MAX: f64 = 2.0;

/// Chosen: the template of gpt-oss adds about 70 tokens, one with today's date and tools about 200.
const OVERHEAD_MAX: f64 = 256.0;

/// Inputs up to here tell the template's overhead, longer ones the ratio.
const SHORT_TOKENS: f64 = 128.0;

/// From this ratio of the references on an input tells them apart.
const APART: f64 = 1.25;

/// Until so many reports have told the references apart, a model of unknown vocabulary reserves by the dearer one.
const SETTLED: u32 = 16;

impl Calibration {
    pub fn new(vocabulary: Vocabulary) -> Self {
        let (blend, is_known) = match vocabulary {
            Vocabulary::Large => (0.0, true),
            Vocabulary::Small => (1.0, true),
            Vocabulary::Unknown => (0.5, false),
        };
        Self { blend, ratio: 1.0, overhead: 0.0, blend_reports: 0, is_known }
    }

    /// The central estimate.
    pub fn tokens(&self, input: InputTokens) -> u64 {
        to_tokens(self.blended(input) * self.ratio + self.overhead)
    }

    /// The upper edge: what is reserved.
    pub fn upper_edge(&self, input: InputTokens) -> u64 {
        let central = self.tokens(input);
        if self.is_known || self.blend_reports >= SETTLED {
            return raised(central);
        }
        let dearer = input.large.max(input.small) as f64 * self.ratio + self.overhead;
        raised(central.max(to_tokens(dearer)))
    }

    /// Takes note of an input that was estimated as `input` and that the upstream counted as `reported` tokens.
    pub fn note(&mut self, input: InputTokens, reported: u64) {
        let blended = self.blended(input);
        // No upstream counts nothing; it has not said.
        if reported == 0 || blended <= 0.0 {
            return;
        }
        let reported = reported as f64;
        if blended <= SHORT_TOKENS {
            let excess = reported - blended * self.ratio;
            self.overhead = towards(self.overhead, excess, OVERHEAD_STEP).clamp(0.0, OVERHEAD_MAX);
            return;
        }
        let text = (reported - self.overhead).max(1.0);
        let (large, small) = (input.large as f64, input.small as f64);
        if small.max(large) >= small.min(large) * APART {
            let blend = (text / self.ratio - large) / (small - large);
            self.blend = towards(self.blend, blend, BLEND_STEP).clamp(0.0, 1.0);
            self.blend_reports = self.blend_reports.saturating_add(1).min(SETTLED);
        } else {
            self.ratio = towards(self.ratio, text / blended, RATIO_STEP).clamp(RATIO_MIN, RATIO_MAX);
        }
    }

    fn blended(&self, input: InputTokens) -> f64 {
        let (large, small) = (input.large as f64, input.small as f64);
        large + self.blend * (small - large)
    }
}

/// One step of at most `step` from `value` towards `target`.
fn towards(value: f64, target: f64, step: f64) -> f64 {
    value + (target - value).clamp(-step, step)
}

/// Rounded up; saturates, as conversions of floats do.
fn to_tokens(tokens: f64) -> u64 {
    tokens.ceil() as u64
}
