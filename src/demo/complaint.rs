//! An answer that is an error: OpenAI's object, or a provider's own when a limit is the reason.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use serde_json::{Value, json};

use super::fault::Fault;
use super::judge::Breach;
use super::refusal::Wording;
use crate::domain::clock::Moment;

/// What a busy provider asks for, in seconds. Chosen: a busy moment passes soon.
const BUSY_RETRY_AFTER_SECS: u64 = 2;

/// Why a request gets no answer.
#[derive(Debug)]
pub(super) struct Complaint {
    status: StatusCode,
    body: Value,
    retry_after_secs: Option<u64>,
}

impl Complaint {
    /// 400, or 422 for a field that the provider does not know.
    pub(super) fn invalid(status: StatusCode, param: Option<&str>, message: &str) -> Self {
        Self::plain(status, "invalid_request_error", param, None, message)
    }

    /// 401.
    pub(super) fn unauthorized() -> Self {
        let message = "No API key was given. Send one as `Authorization: Bearer KEY`.";
        Self::plain(StatusCode::UNAUTHORIZED, "invalid_request_error", None, Some("invalid_api_key"), message)
    }

    /// 404.
    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        let code = Some("model_not_found");
        Self::plain(StatusCode::NOT_FOUND, "invalid_request_error", Some("model"), code, &message)
    }

    /// 429 with the time to wait, or 413 for what is larger than the limit itself.
    pub(super) fn breach(wording: Wording, breach: &Breach, now: Moment) -> Self {
        let Some(free_at) = breach.free_at else {
            let message = format!("Request too large: the limit is {}.", breach.max);
            let code = Some("rate_limit_exceeded");
            return Self::plain(StatusCode::PAYLOAD_TOO_LARGE, "tokens", None, code, &message);
        };
        let retry_after_secs = whole_seconds(free_at.saturating_since(now)).max(1);
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            body: wording.limit_body(breach, retry_after_secs, free_at),
            retry_after_secs: Some(retry_after_secs),
        }
    }

    /// What a fault answers at once; `None` for one that shows itself later.
    pub(super) fn of_fault(fault: Fault, wording: Wording) -> Option<Self> {
        match fault {
            Fault::RateLimited => Some(Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                body: wording.busy_body(),
                retry_after_secs: Some(BUSY_RETRY_AFTER_SECS),
            }),
            Fault::Internal => {
                Some(Self::server(StatusCode::INTERNAL_SERVER_ERROR, "The server had an error."))
            }
            Fault::Overloaded => {
                Some(Self::server(StatusCode::SERVICE_UNAVAILABLE, "The server is overloaded."))
            }
            Fault::Cut | Fault::SlowStart => None,
        }
    }

    fn server(status: StatusCode, message: &str) -> Self {
        Self::plain(status, "server_error", None, None, message)
    }

    fn plain(status: StatusCode, kind: &str, param: Option<&str>, code: Option<&str>, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
        Self { status, body, retry_after_secs: None }
    }

    pub(super) fn into_response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after_secs {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        response.json(self.body)
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::Unit;

    #[test]
    fn the_time_to_wait_is_rounded_up() {
        let now = Moment::from_unix_micros(0);
        for (micros, seconds) in [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2), (59_000_000, 59)] {
            let free_at = Some(now + Duration::from_micros(micros));
            let breach = Breach { unit: Unit::Requests, max: 1, window: None, free_at };
            let complaint = Complaint::breach(Wording::OpenAi, &breach, now);
            assert_eq!(complaint.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(complaint.retry_after_secs, Some(seconds), "{micros}");
        }
    }

    #[test]
    fn what_never_fits_is_told_no_time() {
        let breach = Breach { unit: Unit::Tokens, max: 1, window: None, free_at: None };
        let complaint = Complaint::breach(Wording::Groq, &breach, Moment::default());
        assert_eq!(complaint.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(complaint.retry_after_secs, None);
    }
}
