//! What an error means, by status and JSON code; never by text that looks like a number.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::failure::{FailureKind, UpstreamFailure, bounded};
use crate::provider::adapter::ErrorAnswer;

/// What an answer that is not a 2xx means.
pub(super) fn classify(answer: &ErrorAnswer<'_>) -> UpstreamFailure {
    UpstreamFailure {
        status: Some(answer.status),
        retry_after: answer.retry_after,
        message: message_of(answer.body).map(|message| bounded(&message)),
        ..UpstreamFailure::new(kind_of_status(answer.status), "the upstream answered with an error")
    }
}

/// Status alone decides here; text never does.
fn kind_of_status(status: u16) -> FailureKind {
    match status {
        401 | 403 => FailureKind::Unauthorized,
        402 => FailureKind::PaymentRequired,
        404 | 410 => FailureKind::ModelGone,
        413 => FailureKind::TooLarge,
        429 => FailureKind::RateLimited,
        408 => FailureKind::Upstream,
        400..=499 => FailureKind::InvalidRequest,
        500..=599 => FailureKind::Upstream,
        _ => FailureKind::Protocol,
    }
}

/// An error inside a 200: its numeric code says what it is, where there is one.
pub(super) fn reported(error: &RawValue) -> UpstreamFailure {
    let view: ErrorView<'_> = serde_json::from_str(error.get()).unwrap_or_default();
    let code = view.code.and_then(|code| code.get().parse::<u16>().ok());
    let kind = match code.map(kind_of_status) {
        // The request was accepted with a 200: what follows is the upstream's affair.
        None | Some(FailureKind::InvalidRequest | FailureKind::Protocol) => FailureKind::Upstream,
        Some(kind) => kind,
    };
    let failure = UpstreamFailure::new(kind, "the upstream reported an error inside its answer");
    let failure = UpstreamFailure { status: code, ..failure };
    match view.message {
        Some(message) => failure.with_message(&message),
        None => failure,
    }
}

/// The message of an error body, in whichever of the known shapes: `{"error":{"message"}}`,
/// `{"error":"text"}`, `{"message"}`, `{"detail"}`, `[{"error":{…}}]`. A body of another shape says nothing: it may
/// be a page, or repeat the request.
fn message_of(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let object = value.get(0).unwrap_or(&value);
    let error = object.get("error").unwrap_or(object);
    let message = error.get("message").or_else(|| error.get("detail")).unwrap_or(error);
    message.as_str().map(str::to_owned)
}

#[derive(Default, Deserialize)]
struct ErrorView<'a> {
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, body: &str) -> UpstreamFailure {
        classify(&ErrorAnswer { status, retry_after: None, body: body.as_bytes() })
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
            (302, FailureKind::Protocol),
            (500, FailureKind::Upstream),
            (503, FailureKind::Upstream),
            (529, FailureKind::Upstream),
        ];
        for (status, kind) in cases {
            // A text that looks like another status changes nothing.
            assert_eq!(classified(status, "402 tokens, 429 requests").kind, kind, "{status}");
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
        ];
        for shape in shapes {
            assert_eq!(classified(429, shape).message.as_deref(), Some("too fast"), "{shape}");
        }
        for silent in ["<html>too fast</html>", "", r#"{"detail":[{"input":"a prompt"}]}"#] {
            assert_eq!(classified(422, silent).message, None, "{silent}");
        }
    }
}
