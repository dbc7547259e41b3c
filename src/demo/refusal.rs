//! The bodies of a 429, each provider's in its own shape.
//!
//! The shapes are the documented ones (keys, codes and the words that tell a day from a minute); the sentences are
//! ours. Sources: <https://console.groq.com/docs/rate-limits> and
//! <https://inference-docs.cerebras.ai/support/rate-limits> (2026-08-22), <https://docs.mistral.ai> (2026-08-21),
//! <https://docs.sambanova.ai/docs/en/models/rate-limits> (2026-08-22),
//! <https://openrouter.ai/docs/api-reference/errors> (2026-09-27); GitHub Models as it was before 2026-07-30.

use std::time::Duration;

use serde_json::{Value, json};

use super::judge::Breach;
use crate::domain::clock::Moment;
use crate::domain::limit::Unit;

/// Whose way of saying no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wording {
    OpenAi,
    Groq,
    Cerebras,
    SambaNova,
    OpenRouter,
    Mistral,
    GitHub,
}

impl Wording {
    /// The body for a limit that was broken; `retry_at` is when the same request would be admitted.
    pub(super) fn limit_body(self, breach: &Breach, retry_after_secs: u64, retry_at: Moment) -> Value {
        let span = Span::of(breach.window);
        let (unit, max) = (unit_name(breach.unit), breach.max);
        match self {
            Self::OpenAi | Self::SambaNova => self.openai_body(
                &format!("Rate limit reached: {max} {unit} per {}. Try again in {retry_after_secs}s.", span.name()),
                "rate_limit_error",
            ),
            Self::Groq => self.openai_body(
                &format!(
                    "Rate limit reached on {unit} per {} ({}): Limit {max}. Please try again in {retry_after_secs}s.",
                    span.name(),
                    abbreviation(breach.unit, span),
                ),
                unit,
            ),
            Self::Cerebras => cerebras_body(breach.unit, span),
            Self::OpenRouter => json!({"error": {
                "code": 429,
                "message": format!("Rate limit exceeded: free-models-per-{}.", span.short()),
                "metadata": {"headers": {
                    "X-RateLimit-Limit": max.to_string(),
                    "X-RateLimit-Remaining": "0",
                    "X-RateLimit-Reset": (retry_at.unix_micros() / 1000).to_string(),
                }},
            }}),
            Self::Mistral => json!({
                "object": "error",
                "message": "Rate limit exceeded",
                "type": "rate_limited",
                "param": null,
                "code": "1300",
            }),
            Self::GitHub => github_body(max, span, retry_after_secs),
        }
    }

    /// The body when the provider is busy, although the caller kept every limit.
    pub(super) fn busy_body(self) -> Value {
        let message = "We are experiencing high traffic right now. Please try again soon.";
        match self {
            Self::Cerebras => json!({
                "message": message,
                "type": "too_many_requests_error",
                "param": "queue",
                "code": "queue_exceeded",
            }),
            Self::OpenRouter => json!({"error": {
                "code": 429,
                "message": "Provider returned error",
                "metadata": {"raw": message, "provider_name": "Simulated"},
            }}),
            Self::Mistral => json!({
                "object": "error",
                "message": "Service tier capacity exceeded for this model.",
                "type": "invalid_request_error",
                "param": null,
                "code": "3505",
            }),
            Self::GitHub => json!({"error": {
                "code": "RateLimitReached",
                "message": message,
                "details": message,
            }}),
            Self::OpenAi | Self::Groq | Self::SambaNova => self.openai_body(message, "rate_limit_error"),
        }
    }

    fn openai_body(self, message: &str, kind: &str) -> Value {
        let error = json!({"message": message, "type": kind, "param": null, "code": "rate_limit_exceeded"});
        match self {
            Self::SambaNova => json!({"error": error, "request_id": "simulated"}),
            _ => json!({"error": error}),
        }
    }
}

fn cerebras_body(unit: Unit, span: Span) -> Value {
    let (subject, reason, kind, code) = match unit {
        Unit::Tokens | Unit::InputTokens | Unit::OutputTokens => {
            ("Tokens", "too many tokens processed", "too_many_tokens_error", "token_quota_exceeded")
        }
        Unit::Requests | Unit::Credits | Unit::Parallel => {
            ("Requests", "too many requests sent", "too_many_requests_error", "request_quota_exceeded")
        }
    };
    json!({
        "message": format!("{subject} per {} limit exceeded - {reason}.", span.name()),
        "type": kind,
        "param": "quota",
        "code": code,
    })
}

fn github_body(max: u64, span: Span, retry_after_secs: u64) -> Value {
    let message = format!(
        "Rate limit of {max} per {}s exceeded for UserByModelBy{}. Please wait {retry_after_secs} seconds before retrying.",
        span.seconds(),
        span.capitalised(),
    );
    json!({"error": {"code": "RateLimitReached", "message": message, "details": message}})
}

/// The span of time that a provider names when it refuses.
#[derive(Clone, Copy)]
enum Span {
    Minute,
    Hour,
    Day,
}

impl Span {
    fn of(window: Option<Duration>) -> Self {
        match window.unwrap_or_default().as_secs() {
            0..3600 => Self::Minute,
            3600..86_400 => Self::Hour,
            _ => Self::Day,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Minute => "min",
            Self::Hour | Self::Day => self.name(),
        }
    }

    fn capitalised(self) -> &'static str {
        match self {
            Self::Minute => "Minute",
            Self::Hour => "Hour",
            Self::Day => "Day",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Requests => "requests",
        Unit::Parallel => "concurrent requests",
        Unit::Credits => "credits",
        Unit::Tokens | Unit::InputTokens | Unit::OutputTokens => "tokens",
    }
}

fn abbreviation(unit: Unit, span: Span) -> &'static str {
    let counts_tokens = matches!(unit, Unit::Tokens | Unit::InputTokens | Unit::OutputTokens);
    match (counts_tokens, span) {
        (true, Span::Minute) => "TPM",
        (true, Span::Hour) => "TPH",
        (true, Span::Day) => "TPD",
        (false, Span::Minute) => "RPM",
        (false, Span::Hour) => "RPH",
        (false, Span::Day) => "RPD",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Wording; 7] = [
        Wording::OpenAi,
        Wording::Groq,
        Wording::Cerebras,
        Wording::SambaNova,
        Wording::OpenRouter,
        Wording::Mistral,
        Wording::GitHub,
    ];

    fn breach(unit: Unit, window_secs: u64) -> Breach {
        Breach { unit, max: 50, window: Some(Duration::from_secs(window_secs)), free_at: None }
    }

    fn body(wording: Wording, unit: Unit, window_secs: u64) -> Value {
        wording.limit_body(&breach(unit, window_secs), 7, Moment::from_unix_micros(1_790_000_000_123_456))
    }

    #[test]
    fn groq_tells_the_minute_from_the_day_by_its_abbreviations() {
        for (unit, window_secs, told) in [
            (Unit::Requests, 60, "(RPM)"),
            (Unit::Requests, 86_400, "(RPD)"),
            (Unit::Tokens, 60, "(TPM)"),
            (Unit::Tokens, 86_400, "(TPD)"),
            (Unit::Tokens, 3600, "(TPH)"),
        ] {
            let body = body(Wording::Groq, unit, window_secs);
            assert!(body["error"]["message"].as_str().unwrap().contains(told), "{body}");
            assert_eq!(body["error"]["code"], "rate_limit_exceeded");
        }
    }

    #[test]
    fn each_provider_has_its_own_shape() {
        assert_eq!(body(Wording::Cerebras, Unit::Tokens, 60)["code"], "token_quota_exceeded");
        assert_eq!(body(Wording::Cerebras, Unit::Requests, 60)["code"], "request_quota_exceeded");
        assert_eq!(body(Wording::SambaNova, Unit::Tokens, 86_400)["request_id"], "simulated");
        assert_eq!(body(Wording::Mistral, Unit::Requests, 60)["code"], "1300");
        let openrouter = body(Wording::OpenRouter, Unit::Requests, 60);
        assert_eq!(openrouter["error"]["code"], 429);
        assert_eq!(openrouter["error"]["metadata"]["headers"]["X-RateLimit-Reset"], "1790000000123");
        let github = body(Wording::GitHub, Unit::Requests, 86_400);
        assert_eq!(
            github["error"]["message"],
            "Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 7 seconds before retrying."
        );
    }

    #[test]
    fn a_busy_provider_names_no_limit_of_the_caller() {
        for wording in ALL {
            let text = wording.busy_body().to_string();
            assert!(!text.contains("per minute") && !text.contains("per-min"), "{text}");
        }
    }
}
