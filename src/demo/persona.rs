//! What tells the simulated providers apart: their tempo and the way they say no.
//!
//! The numbers are illustrative: chosen so that a fast provider looks fast beside a slow one. They are not
//! measurements and no promise of what the real ones do.

use std::time::Duration;

use super::behaviour::Pace;
use super::random::SplitMix64;
use super::refusal::Wording;
use crate::domain::ids::ProviderId;

/// How many times later a slow start comes. Chosen: long enough for `demo`'s console to show it.
const SLOW_START_FACTOR: u32 = 10;

/// Latencies and rates vary by this much to both sides, in percent. Chosen: visible, and never confusing two tempi.
const VARIATION_PERCENT: u32 = 30;

/// The character of one provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Persona {
    /// From a request's arrival to its first token.
    first_token: Duration,
    tokens_per_second: u32,
    pub(super) wording: Wording,
}

/// The pauses of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tempo {
    pub(super) first_token: Duration,
    pub(super) between_tokens: Duration,
}

impl Persona {
    /// The persona of a provider; a plain, middling one for a provider without one of its own.
    pub(super) fn of(provider: &ProviderId) -> Self {
        match provider.as_str() {
            "groq" => Self::new(120, 300, Wording::Groq),
            "cerebras" => Self::new(150, 2000, Wording::Cerebras),
            "sambanova" => Self::new(300, 200, Wording::SambaNova),
            "openrouter" => Self::new(700, 40, Wording::OpenRouter),
            "mistral" => Self::new(400, 60, Wording::Mistral),
            "github" => Self::new(600, 50, Wording::GitHub),
            _ => Self::new(500, 50, Wording::OpenAi),
        }
    }

    const fn new(first_token_millis: u64, tokens_per_second: u32, wording: Wording) -> Self {
        Self { first_token: Duration::from_millis(first_token_millis), tokens_per_second, wording }
    }

    /// The pauses of the next answer.
    pub(super) fn tempo(&self, pace: Pace, random: &mut SplitMix64) -> Tempo {
        match pace {
            Pace::Instant => Tempo { first_token: Duration::ZERO, between_tokens: Duration::ZERO },
            Pace::Fixed { first_token, between_tokens } => Tempo { first_token, between_tokens },
            Pace::Believable => Tempo {
                first_token: varied(self.first_token, random),
                between_tokens: varied(Duration::from_secs(1) / self.tokens_per_second.max(1), random),
            },
        }
    }
}

impl Tempo {
    /// The same with a first token that is very late.
    pub(super) fn with_slow_start(self) -> Self {
        Self { first_token: self.first_token * SLOW_START_FACTOR, ..self }
    }

    /// The time that an answer of so many tokens takes.
    pub(super) fn whole_answer(self, tokens: u64) -> Duration {
        let pauses = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_token.saturating_add(self.between_tokens.saturating_mul(pauses))
    }
}

fn varied(duration: Duration, random: &mut SplitMix64) -> Duration {
    let drawn = u32::try_from(random.below(u64::from(2 * VARIATION_PERCENT + 1))).unwrap_or(0);
    duration * (100 - VARIATION_PERCENT + drawn) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tempo_of(provider: &str, pace: Pace) -> Tempo {
        Persona::of(&ProviderId::new(provider)).tempo(pace, &mut SplitMix64::new(5))
    }

    #[test]
    fn believable_tempi_vary_around_the_provider_s_own() {
        let persona = Persona::of(&ProviderId::new("groq"));
        let mut random = SplitMix64::new(1);
        for _ in 0..500 {
            let tempo = persona.tempo(Pace::Believable, &mut random);
            assert!((84..=156).contains(&tempo.first_token.as_millis()), "{tempo:?}");
            assert!((2300..=4400).contains(&tempo.between_tokens.as_micros()), "{tempo:?}");
        }
    }

    #[test]
    fn cerebras_is_faster_than_openrouter() {
        let fast = tempo_of("cerebras", Pace::Believable);
        let slow = tempo_of("openrouter", Pace::Believable);
        assert!(fast.between_tokens < slow.between_tokens && fast.first_token < slow.first_token);
    }

    #[test]
    fn an_instant_pace_has_no_pauses() {
        let tempo = tempo_of("mistral", Pace::Instant);
        assert_eq!(tempo.with_slow_start().whole_answer(1000), Duration::ZERO);
    }

    #[test]
    fn a_whole_answer_takes_its_first_token_and_the_pauses_between() {
        let pace = Pace::Fixed {
            first_token: Duration::from_millis(100),
            between_tokens: Duration::from_millis(10),
        };
        let tempo = tempo_of("any", pace);
        assert_eq!(tempo.whole_answer(1), Duration::from_millis(100));
        assert_eq!(tempo.whole_answer(11), Duration::from_millis(200));
        assert_eq!(tempo.with_slow_start().whole_answer(1), Duration::from_secs(1));
    }
}
