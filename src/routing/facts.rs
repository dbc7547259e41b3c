//! What the attempts at one target have shown: how soon it answers, how fast it writes, how often it fails.
//!
//! Everything is a mean over the last minutes that fades by halves, blended with what the model's rank leads us to
//! expect: no measurement, or only old ones, and the rank speaks alone.

use std::time::Duration;

use serde::Serialize;

use crate::domain::clock::Moment;

/// What is measured counts half as much after this time. Chosen: free tiers change their mood within minutes, and a
/// model that is asked once a minute still has ten measurements that count.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// As many measurements as the rank is worth. Chosen: three agreeing ones weigh as much as our own list.
const PRIOR_SPEED_WEIGHT: f64 = 3.0;
const PRIOR_SUCCESS_WEIGHT: f64 = 8.0;
const PRIOR_SUCCESS: f64 = 0.98;

/// The bounds of one measurement: one outlier, or a lie, moves a mean of logarithms by no more than these allow.
const FIRST_TOKEN_SECONDS: (f64, f64) = (0.01, 120.0);
const TOKENS_PER_SECOND: (f64, f64) = (1.0, 5_000.0);

/// Shorter answers say nothing of the speed of writing.
const TOKENS_MIN: u64 = 16;

/// A stream that takes no time was written before it was sent.
const WRITING_SECONDS_MIN: f64 = 0.05;

/// The length of the answer whose duration stands for the speed. Chosen: about 200 English words.
const TYPICAL_TOKENS: f64 = 300.0;

/// How long a typical answer of a model of rank 1 takes, and how much longer each further rank takes. Chosen so that
/// the ranks of the shipped catalogue, 1 to 9, run from 750 tokens a second (a small model on Groq's or Cerebras's
/// chips: 720 to 780, <https://kickllm.com/research/llm-speed-benchmark.html>, 2026-04, read 2026-11-23) to about 15 s,
/// past the slowest of that list (45 tokens a second after 1.8 s).
const BEST_SECONDS: f64 = 0.6;
const SECONDS_PER_RANK: f64 = 1.5;

/// The part of a typical answer's time that goes by before its first token.
const FIRST_TOKEN_PART: f64 = 1.0 / 3.0;

/// The worst rank that a measurement can give: about a minute for a typical answer. What a list puts behind it, an
/// unranked model above all, stands behind it until it is measured.
const WORST_RANK: f64 = 12.0;

/// So much of one measurement has to be left for a model to count as measured.
const MEASURED_WEIGHT: f64 = 0.5;

/// How one attempt went, timed from its own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// The answer was streamed.
    Streamed { first_token: Duration, writing: Duration, output_tokens: u64 },
    /// The answer came whole.
    Whole { took: Duration, output_tokens: u64 },
    /// It failed, and the target is to blame.
    Failed,
    /// The client left before the answer began.
    Left { waited: Duration },
}

/// The memory of one target. Its clock is the latest `now` that it was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    first_token: Mean,
    rate: Mean,
    answered: f64,
    failed: f64,
    /// When all of the above was last faded.
    faded_at: Moment,
    /// When an attempt last ended.
    seen_at: Option<Moment>,
}

/// A fading mean of logarithms: robust, because one measurement a hundred times too good weighs like one a hundred
/// times too bad.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

/// What is believed of a target, for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FactsSnapshot {
    pub first_token_ms: u64,
    pub tokens_per_second: f64,
    /// 0 to 1.
    pub success_ratio: f64,
    /// How many attempts of the last minutes this rests on, faded.
    pub attempts: f64,
}

impl Facts {
    /// Takes note of an attempt of a model of that rank of speed.
    pub fn note(&mut self, now: Moment, speed_rank: u32, went: Went) {
        self.fade(now);
        self.seen_at = self.seen_at.max(Some(now));
        match went {
            Went::Failed => {
                self.failed += 1.0;
                return;
            }
            Went::Left { waited } => return self.note_left(waited.as_secs_f64(), speed_rank),
            Went::Streamed { first_token, writing, output_tokens } => {
                self.first_token.add(first_token.as_secs_f64(), FIRST_TOKEN_SECONDS);
                self.note_rate(writing.as_secs_f64(), output_tokens);
            }
            Went::Whole { took, output_tokens } => {
                self.note_whole(took.as_secs_f64(), output_tokens, speed_rank)
            }
        }
        self.answered += 1.0;
    }

    /// The rank of speed that the measurements show; the model's own, `speed_rank`, where there are none. No
    /// measurement can beat 1, or be worse than 12.
    pub fn speed_rank(&self, now: Moment, speed_rank: u32) -> f64 {
        let seconds = self.typical_seconds(now, speed_rank);
        let rank = 1.0 + (seconds / BEST_SECONDS).ln() / SECONDS_PER_RANK.ln();
        let is_measured = self.first_token.weight * self.fading(now) >= MEASURED_WEIGHT;
        let beyond = if is_measured { 0.0 } else { (f64::from(speed_rank) - WORST_RANK).max(0.0) };
        // Tenths: what differs by less is equal, and equals keep their order.
        ((rank.clamp(1.0, WORST_RANK) + beyond) * 10.0).round() / 10.0
    }

    /// The part of recent attempts that were answered, 0 to 1; near 1 where there were none.
    pub fn success_ratio(&self, now: Moment) -> f64 {
        let fading = self.fading(now);
        let good = self.answered * fading + PRIOR_SUCCESS_WEIGHT * PRIOR_SUCCESS;
        good / ((self.answered + self.failed) * fading + PRIOR_SUCCESS_WEIGHT)
    }

    /// Whether no attempt has ended for so long.
    pub fn is_unseen_for(&self, now: Moment, time: Duration) -> bool {
        self.seen_at.is_none_or(|seen_at| now.saturating_since(seen_at) >= time)
    }

    pub fn snapshot(&self, now: Moment, speed_rank: u32) -> FactsSnapshot {
        let (first_token, rate) = self.believed(now, speed_rank);
        FactsSnapshot {
            first_token_ms: Duration::from_secs_f64(first_token).as_millis().try_into().unwrap_or(u64::MAX),
            tokens_per_second: (rate * 10.0).round() / 10.0,
            success_ratio: (self.success_ratio(now) * 1_000.0).round() / 1_000.0,
            attempts: ((self.answered + self.failed) * self.fading(now) * 10.0).round() / 10.0,
        }
    }

    fn note_rate(&mut self, seconds: f64, output_tokens: u64) {
        if output_tokens >= TOKENS_MIN {
            self.rate.add(count(output_tokens) / seconds.max(WRITING_SECONDS_MIN), TOKENS_PER_SECOND);
        }
    }

    /// An answer that comes whole does not say when it began: what is believed of the first token is taken off.
    fn note_whole(&mut self, seconds: f64, output_tokens: u64, speed_rank: u32) {
        if output_tokens < TOKENS_MIN {
            return self.first_token.add(seconds, FIRST_TOKEN_SECONDS);
        }
        let (believed, _) = self.believed(self.faded_at, speed_rank);
        let first_token = believed.min(seconds / 2.0);
        if first_token < believed {
            self.first_token.add(first_token, FIRST_TOKEN_SECONDS);
        }
        self.note_rate(seconds - first_token, output_tokens);
    }

    /// Of an answer that nobody waited for it is known that it takes at least so long. Were it not counted, whoever
    /// is so slow that all leave would never be measured.
    fn note_left(&mut self, seconds: f64, speed_rank: u32) {
        let (believed, _) = self.believed(self.faded_at, speed_rank);
        if seconds > believed {
            self.first_token.add(seconds, FIRST_TOKEN_SECONDS);
        }
    }

    fn typical_seconds(&self, now: Moment, speed_rank: u32) -> f64 {
        let (first_token, rate) = self.believed(now, speed_rank);
        first_token + TYPICAL_TOKENS / rate
    }

    /// Seconds to the first token and tokens per second.
    fn believed(&self, now: Moment, speed_rank: u32) -> (f64, f64) {
        let expected = BEST_SECONDS * SECONDS_PER_RANK.powf(f64::from(speed_rank).min(WORST_RANK) - 1.0);
        let first_token = expected * FIRST_TOKEN_PART;
        let rate = TYPICAL_TOKENS / (expected - first_token);
        let fading = self.fading(now);
        (self.first_token.blended(first_token, fading), self.rate.blended(rate, fading))
    }

    fn fading(&self, now: Moment) -> f64 {
        let halves = now.saturating_since(self.faded_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        0.5_f64.powf(halves)
    }

    fn fade(&mut self, now: Moment) {
        let fading = self.fading(now);
        self.first_token.fade(fading);
        self.rate.fade(fading);
        self.answered *= fading;
        self.failed *= fading;
        self.faded_at = self.faded_at.max(now);
    }
}

impl Mean {
    fn add(&mut self, value: f64, (least, most): (f64, f64)) {
        self.sum += value.clamp(least, most).ln();
        self.weight += 1.0;
    }

    fn fade(&mut self, fading: f64) {
        self.sum *= fading;
        self.weight *= fading;
    }

    fn blended(&self, prior: f64, fading: f64) -> f64 {
        let sum = self.sum * fading + PRIOR_SPEED_WEIGHT * prior.ln();
        (sum / (self.weight * fading + PRIOR_SPEED_WEIGHT)).exp()
    }
}

/// Beyond 2^53 a count is no measurement.
fn count(tokens: u64) -> f64 {
    u32::try_from(tokens).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_unix_micros(1_000_000_000);

    fn streamed(first_token_ms: u64, writing_ms: u64, output_tokens: u64) -> Went {
        let [first_token, writing] = [first_token_ms, writing_ms].map(Duration::from_millis);
        Went::Streamed { first_token, writing, output_tokens }
    }

    fn after(went: Went, times: usize) -> Facts {
        let mut facts = Facts::default();
        (0..times).for_each(|_| facts.note(START, 5, went));
        facts
    }

    #[test]
    fn without_measurements_the_rank_speaks() {
        for rank in [1, 5, 9, 30, 1_000] {
            let believed = Facts::default().speed_rank(START, rank);
            assert!((believed - f64::from(rank)).abs() < 1e-9, "{rank}: {believed}");
        }
        assert!((Facts::default().success_ratio(START) - PRIOR_SUCCESS).abs() < 1e-9);
    }

    #[test]
    fn measurements_outweigh_the_rank_and_fade() {
        let quick = after(streamed(200, 400, 400), 30);
        let rank = quick.speed_rank(START, 9);
        assert!(rank < 2.5, "{rank}");
        let slow = after(streamed(5_000, 20_000, 400), 30);
        assert!(slow.speed_rank(START, 1) > 8.0);
        let an_hour_later = START + Duration::from_secs(3_600);
        assert!((quick.speed_rank(an_hour_later, 9) - 9.0).abs() < 0.1, "it is forgotten");
    }

    #[test]
    fn a_whole_answer_tells_the_speed_too() {
        let whole = |took_ms| Went::Whole { took: Duration::from_millis(took_ms), output_tokens: 300 };
        assert!(after(whole(600), 30).speed_rank(START, 5) < 3.0);
        assert!(after(whole(15_000), 30).speed_rank(START, 5) > 7.0);
    }

    #[test]
    fn an_unranked_model_is_believed_once_it_is_measured() {
        assert!(after(streamed(200, 400, 400), 200).speed_rank(START, 1_000) < 2.0);
        assert!(after(streamed(200, 400, 400), 1).speed_rank(START, 1_000) <= WORST_RANK);
        let (quick, slow) = (after(streamed(10, 0, 1), 4), after(streamed(300, 0, 1), 4));
        assert!(quick.speed_rank(START, 1_000) < slow.speed_rank(START, 1_000));
    }

    #[test]
    fn who_is_left_waiting_was_slow_and_who_is_left_at_once_was_not() {
        let left = |seconds| Went::Left { waited: Duration::from_secs(seconds) };
        assert!(after(left(50), 20).speed_rank(START, 1) > 9.0);
        let rank = after(left(0), 20).speed_rank(START, 5);
        assert!((rank - 5.0).abs() < 1e-9, "{rank}");
        assert!((after(left(50), 20).success_ratio(START) - PRIOR_SUCCESS).abs() < 1e-9);
    }

    #[test]
    fn failures_lower_the_ratio_and_are_forgiven() {
        let failing = after(Went::Failed, 8);
        assert!(failing.success_ratio(START) < 0.5);
        let later = START + Duration::from_secs(1_800);
        assert!(failing.success_ratio(later) > 0.9);
    }

    #[test]
    fn who_was_not_asked_is_unseen() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert!(Facts::default().is_unseen_for(START, minutes(10)));
        let facts = after(Went::Failed, 1);
        assert!(!facts.is_unseen_for(START + minutes(9), minutes(10)));
        assert!(facts.is_unseen_for(START + minutes(10), minutes(10)));
    }

    proptest! {
        /// Whatever an upstream claims, it is a rank and a ratio in the end.
        #[test]
        fn no_lie_gets_beyond_the_bounds(
            claims in proptest::collection::vec((0u64..10_000_000, 0u64..10_000_000, any::<u64>(), 0u64..1_000, any::<bool>()), 0..60),
            rank in 1u32..10,
        ) {
            let mut facts = Facts::default();
            let mut now = START;
            for (first_ms, writing_ms, tokens, pause_s, has_failed) in claims {
                let went = if has_failed { Went::Failed } else { streamed(first_ms, writing_ms, tokens) };
                facts.note(now, rank, went);
                // A clock that steps back fades nothing.
                facts.note(START, rank, went);
                now = now + Duration::from_secs(pause_s);
            }
            let believed = facts.speed_rank(now, rank);
            prop_assert!((1.0..=WORST_RANK).contains(&believed), "{believed}");
            let ratio = facts.success_ratio(now);
            prop_assert!(ratio > 0.0 && ratio <= 1.0, "{ratio}");
        }
    }
}
