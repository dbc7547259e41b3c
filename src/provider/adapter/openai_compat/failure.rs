//! What an error means, by status and JSON code; never by text that looks like a number.
//!
//! This is what all who speak the dialect have in common. Where a provider differs, its file says so
//! (`domain::signals`), and `provider::error_rules` lays that over what is found here.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::failure::{FailureKind, RetryHint, UpstreamFailure, bounded};
use crate::provider::adapter::{ErrorAnswer, delay};

/// Codes that mean the same at everybody who uses them. Sources:
/// <https://platform.openai.com/docs/guides/error-codes>, <https://console.groq.com/docs/errors>, llama.cpp's
/// <https://github.com/ggml-org/llama.cpp/pull/15780>, <https://openrouter.ai/docs/api/reference/errors-and-debugging>;
/// read 2026-08 to 2026-11.
const CODES: [(&str, FailureKind); 10] = [
    ("insufficient_quota", FailureKind::PaymentRequired),
    ("rate_limit_exceeded", FailureKind::RateLimited),
    ("invalid_api_key", FailureKind::Unauthorized),
    ("model_not_found", FailureKind::ModelGone),
    ("model_decommissioned", FailureKind::ModelGone),
    ("model_archived", FailureKind::ModelGone),
    ("context_length_exceeded", FailureKind::TooLarge),
    ("exceed_context_size_error", FailureKind::TooLarge),
    ("content_policy_violation", FailureKind::ContentPolicy),
    ("content_filter", FailureKind::ContentPolicy),
];

/// More codes than this are not kept of one error. Chosen: a refusal of Gemini's names each of its limits, about six.
const CODES_MAX: usize = 16;

/// What an answer that is not a 2xx means.
pub(super) fn classify(answer: &ErrorAnswer<'_>) -> UpstreamFailure {
    let body: Option<Value> = serde_json::from_slice(answer.body).ok();
    let words = Words::of(body.as_ref());
    let kind = match answer.status {
        // The same code as a 429's at Groq, for a request that never fits.
        413 => FailureKind::TooLarge,
        // What is not JSON does not come from the API: a firewall's page (`error code: 1010` at Groq and Cerebras), or
        // a server that knows no such route.
        403 | 404 if body.is_none() => FailureKind::Misdirected,
        status => words.kind().unwrap_or_else(|| kind_of_status(status)),
    };
    UpstreamFailure {
        status: Some(answer.status),
        message: words.message,
        codes: words.codes,
        ..UpstreamFailure::new(kind, "the upstream answered with an error")
    }
}

/// What the body of a refusal says of when to come back.
pub(super) fn retry_of(body: &[u8]) -> Option<RetryHint> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Words::of(Some(&body)).retry
}

fn kind_of_status(status: u16) -> FailureKind {
    match status {
        401 | 403 => FailureKind::Unauthorized,
        402 => FailureKind::PaymentRequired,
        404 | 410 => FailureKind::ModelGone,
        413 => FailureKind::TooLarge,
        429 => FailureKind::RateLimited,
        // 499 is the upstream's own hanging up: our client has not left, else nobody would read this.
        408 | 499 => FailureKind::Upstream,
        400..=499 => FailureKind::InvalidRequest,
        500..=599 => FailureKind::Upstream,
        _ => FailureKind::Protocol,
    }
}

/// An error inside a 200: its codes say what it is, where they do.
pub(super) fn reported(error: &RawValue) -> UpstreamFailure {
    of_report(&serde_json::from_str(error.get()).unwrap_or_default())
}

/// An error inside a 200 that stands there without a wrapper, as Mistral's and llama.cpp's do in a stream: what is no
/// piece of an answer and has a message.
pub(super) fn reported_flat(data: &[u8]) -> Option<UpstreamFailure> {
    let error: Value = serde_json::from_slice(data).ok()?;
    let is_error = error.get("message").or_else(|| error.get("detail")).is_some();
    is_error.then(|| of_report(&error))
}

fn of_report(error: &Value) -> UpstreamFailure {
    let words = Words::of(Some(error));
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let kind = match words.kind().or(status.map(kind_of_status)) {
        // The request was accepted with a 200: what follows is the upstream's affair.
        None | Some(FailureKind::InvalidRequest | FailureKind::Protocol) => FailureKind::Upstream,
        Some(kind) => kind,
    };
    UpstreamFailure {
        status,
        message: words.message,
        codes: words.codes,
        retry: words.retry,
        ..UpstreamFailure::new(kind, "the upstream reported an error inside its answer")
    }
}

/// What an error says, in whichever of the known shapes: `{"error":{"message","code",…}}`, `{"error":"text"}`, the
/// inside of it flat (Cerebras, Mistral), `{"detail"}` (NVIDIA), `[{"error":{…}}]` (Gemini), `{"errors":[{…}]}`
/// (Cloudflare). A body of another shape says nothing: it may be a page, or repeat the request.
#[derive(Debug, Default)]
struct Words {
    message: Option<String>,
    codes: Vec<String>,
    retry: Option<RetryHint>,
}

impl Words {
    fn of(body: Option<&Value>) -> Self {
        let Some(body) = body else { return Self::default() };
        let object = body.get(0).unwrap_or(body);
        let listed = object.get("errors").and_then(|errors| errors.get(0));
        let error = object.get("error").or(listed).unwrap_or(object);
        let message = error.get("message").or_else(|| error.get("detail")).unwrap_or(error).as_str();
        Self {
            message: message.map(bounded),
            codes: codes(error),
            retry: retry_delay(error)
                .or_else(|| reset_header(error))
                .or_else(|| message.and_then(delay::in_prose)),
        }
    }

    fn kind(&self) -> Option<FailureKind> {
        let meaning = |code: &String| CODES.iter().find(|(name, _)| name == code).map(|(_, kind)| *kind);
        self.codes.iter().find_map(meaning)
    }
}

/// Everything that classifies an error: its code, type and status, OpenRouter's metadata, and the limits that Gemini
/// lists, each under a name of its own.
fn codes(error: &Value) -> Vec<String> {
    let metadata = error.get("metadata");
    let own = ["code", "type", "status"].map(|name| error.get(name));
    let classes = ["error_type", "limit_source"].map(|name| metadata.and_then(|metadata| metadata.get(name)));
    let limits = details(error).flat_map(|detail| list(detail.get("violations")));
    let quotas = limits.map(|violation| violation.get("quotaId"));
    let reasons = details(error).map(|detail| detail.get("reason"));
    own.into_iter()
        .chain(classes)
        .chain(quotas)
        .chain(reasons)
        .filter_map(|value| spelled(value?))
        .take(CODES_MAX)
        .collect()
}

/// A code as it is spelled, be it a number or a text.
fn spelled(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(bounded(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn details(error: &Value) -> impl Iterator<Item = &Value> {
    list(error.get("details"))
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// Google's `RetryInfo`.
fn retry_delay(error: &Value) -> Option<RetryHint> {
    details(error).find_map(|detail| delay::stated(detail.get("retryDelay")?.as_str()?))
}

/// OpenRouter repeats its limit's headers in the body.
fn reset_header(error: &Value) -> Option<RetryHint> {
    let reset = error.get("metadata")?.get("headers")?.get("X-RateLimit-Reset")?;
    delay::stated(&spelled(reset)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, body: &str) -> UpstreamFailure {
        classify(&ErrorAnswer { status, body: body.as_bytes() })
    }

    #[test]
    fn the_status_decides() {
        let cases = [
            (400, FailureKind::InvalidRequest),
            (401, FailureKind::Unauthorized),
            (402, FailureKind::PaymentRequired),
            (403, FailureKind::Unauthorized),
            (404, FailureKind::ModelGone),
            (408, FailureKind::Upstream),
            (410, FailureKind::ModelGone),
            (413, FailureKind::TooLarge),
            (422, FailureKind::InvalidRequest),
            (429, FailureKind::RateLimited),
            (499, FailureKind::Upstream),
            (302, FailureKind::Protocol),
            (500, FailureKind::Upstream),
            (503, FailureKind::Upstream),
            (529, FailureKind::Upstream),
        ];
        for (status, kind) in cases {
            // A text that looks like another status changes nothing.
            assert_eq!(classified(status, "\"402 tokens, 429 requests\"").kind, kind, "{status}");
        }
    }

    #[test]
    fn a_code_says_more_than_the_status() {
        let cases = [
            (400, "rate_limit_exceeded", FailureKind::RateLimited),
            (400, "model_decommissioned", FailureKind::ModelGone),
            (400, "context_length_exceeded", FailureKind::TooLarge),
            (400, "exceed_context_size_error", FailureKind::TooLarge),
            (403, "insufficient_quota", FailureKind::PaymentRequired),
            (429, "insufficient_quota", FailureKind::PaymentRequired),
            (403, "content_policy_violation", FailureKind::ContentPolicy),
            (413, "rate_limit_exceeded", FailureKind::TooLarge),
            (400, "429", FailureKind::InvalidRequest),
            (400, "rate_limit_exceeded_not", FailureKind::InvalidRequest),
        ];
        for (status, code, kind) in cases {
            for name in ["code", "type"] {
                let body = format!(r#"{{"error":{{"message":"m","{name}":"{code}"}}}}"#);
                assert_eq!(classified(status, &body).kind, kind, "{status} {body}");
            }
        }
    }

    #[test]
    fn what_is_not_json_is_not_the_api() {
        for (status, kind) in [
            (403, FailureKind::Misdirected),
            (404, FailureKind::Misdirected),
            (401, FailureKind::Unauthorized),
            (410, FailureKind::ModelGone),
            (429, FailureKind::RateLimited),
            (503, FailureKind::Upstream),
        ] {
            for page in ["<html>no</html>", "error code: 1010", ""] {
                assert_eq!(classified(status, page).kind, kind, "{status} {page}");
            }
        }
    }

    #[test]
    fn the_message_is_found_in_every_known_shape() {
        let shapes = [
            r#"{"error":{"message":"too fast","code":"x"}}"#,
            r#"{"error":"too fast"}"#,
            r#"{"message":"too fast","type":"t"}"#,
            r#"[{"error":{"message":"too fast","status":"RESOURCE_EXHAUSTED"}}]"#,
            r#"{"detail":"too fast"}"#,
            r#"{"success":false,"errors":[{"code":3036,"message":"too fast"}]}"#,
        ];
        for shape in shapes {
            assert_eq!(classified(429, shape).message.as_deref(), Some("too fast"), "{shape}");
        }
        for silent in ["<html>too fast</html>", "", r#"{"detail":[{"input":"a prompt"}]}"#] {
            assert_eq!(classified(422, silent).message, None, "{silent}");
        }
    }

    #[test]
    fn the_codes_are_found_in_every_known_shape() {
        let shapes = [
            (r#"{"error":{"code":1302,"type":"t"}}"#, vec!["1302", "t"]),
            (r#"{"message":"m","type":"rate_limited","code":"1300"}"#, vec!["1300", "rate_limited"]),
            (r#"{"errors":[{"code":3036,"message":"m"}]}"#, vec!["3036"]),
            (
                r#"{"error":{"code":429,"metadata":{"error_type":"provider_overloaded"}}}"#,
                vec!["429", "provider_overloaded"],
            ),
            (
                r#"[{"error":{"code":429,"status":"S","details":[{"violations":[{"quotaId":"A"},{"quotaId":"B"}]}]}}]"#,
                vec!["429", "S", "A", "B"],
            ),
        ];
        for (shape, codes) in shapes {
            assert_eq!(classified(429, shape).codes, codes, "{shape}");
        }
    }

    #[test]
    fn the_body_says_when_to_come_back() {
        let body = br#"{"error":{"details":[{"x":1},{"retryDelay":"13s"}]}}"#;
        assert_eq!(retry_of(body), delay::stated("13s"));
        let body = br#"{"error":{"metadata":{"headers":{"X-RateLimit-Reset":"1795399994000"}}}}"#;
        assert_eq!(retry_of(body), delay::stated("1795399994"));
        assert_eq!(retry_of(br#"{"message":"Please try again in 7.66s"}"#), delay::stated("7.66s"));
        assert_eq!(retry_of(br#"{"message":"429 of 30s"}"#), None);
    }
}
