//! The one place that renders a [`GatewayError`], in the shape of the surface that was asked.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::http::{ConnectionType, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use super::surface::Surface;
use crate::domain::failure::bounded;
use crate::error::GatewayError;

/// A client should not sit out a wait that is longer than this; it is told so.
const RETRY_SOON: Duration = Duration::from_secs(60);

/// The error as a response.
pub(super) fn response(error: &GatewayError, surface: Surface) -> HttpResponse {
    let mut response = HttpResponse::build(status(error, surface));
    if let Some(delay) = error.retry_after() {
        response.insert_header((RETRY_AFTER, seconds(delay)));
        response.insert_header(("retry-after-ms", delay.as_micros().div_ceil(1_000).to_string()));
        if delay > RETRY_SOON {
            response.insert_header(("x-should-retry", "false"));
        }
    }
    if let GatewayError::MethodNotAllowed { allow } = error {
        response.insert_header((ALLOW, *allow));
    }
    response.json(value(error, surface))
}

/// The response, after which the connection is closed unless it `is_fit` for another request.
pub(super) fn last_unless(is_fit: bool, mut response: HttpResponse) -> HttpResponse {
    if !is_fit {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// The error as the last event of a stream.
pub(super) fn event(error: &GatewayError, surface: Surface) -> Bytes {
    format!("data: {}\n\n", value(error, surface)).into()
}

fn status(error: &GatewayError, surface: Surface) -> StatusCode {
    StatusCode::from_u16(code(error, surface)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn code(error: &GatewayError, surface: Surface) -> u16 {
    match (error.plain(), surface) {
        // The original API has no resource that a model could be missing from.
        (GatewayError::UnknownModel { .. }, Surface::Original) => 400,
        _ => error.status(),
    }
}

/// Whole seconds, rounded up: who waits them finds what was promised.
fn seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

fn value(error: &GatewayError, surface: Surface) -> Value {
    match surface {
        Surface::Original => original(error),
        Surface::OpenAi => openai(error),
    }
}

/// What is said may repeat what the client sent, but not all of it.
fn words(error: &GatewayError) -> String {
    bounded(&error.to_string())
}

/// The same with what explains it, for a shape that has no other place for that.
fn words_with_details(error: &GatewayError) -> String {
    match error.details() {
        [] => words(error),
        details => format!("{}: {}", words(error), details.join("; ")),
    }
}

fn original(error: &GatewayError) -> Value {
    let mut value = json!({"error": words(error), "code": code(error, Surface::Original)});
    if let (Some(delay), Some(object)) = (error.retry_after(), value.as_object_mut()) {
        object.insert("retry_after".to_owned(), seconds(delay).into());
    }
    if let (details @ [_, ..], Some(object)) = (error.details(), value.as_object_mut()) {
        object.insert("details".to_owned(), details.into());
    }
    if let (Some(position), Some(object)) = (error.queue_position(), value.as_object_mut()) {
        object.insert("queue_position".to_owned(), position.into());
    }
    value
}

fn openai(error: &GatewayError) -> Value {
    let (kind, param, code): (&str, Option<&str>, Option<&str>) = match error.plain() {
        GatewayError::BadRequest { field, .. } => {
            ("invalid_request_error", field.as_deref(), Some("invalid_value"))
        }
        GatewayError::TooLong { .. } => {
            ("invalid_request_error", Some("messages"), Some("context_length_exceeded"))
        }
        GatewayError::UnknownModel { .. } => {
            ("invalid_request_error", Some("model"), Some("model_not_found"))
        }
        GatewayError::Unauthorized { .. } => ("invalid_request_error", None, Some("invalid_api_key")),
        GatewayError::UnknownPath { .. } => ("invalid_request_error", None, Some("unknown_url")),
        GatewayError::MethodNotAllowed { .. } => {
            ("invalid_request_error", None, Some("method_not_supported"))
        }
        GatewayError::BodyTooLarge { .. } => ("invalid_request_error", None, Some("request_too_large")),
        GatewayError::BodyTimeout => ("invalid_request_error", None, Some("request_timeout")),
        GatewayError::NoCapacity { .. }
        | GatewayError::WaitedInVain { .. }
        | GatewayError::OwnLimit { .. } => ("requests", None, Some("rate_limit_exceeded")),
        GatewayError::Unavailable { .. } => ("server_error", None, Some("service_unavailable")),
        // What explains another error has been taken off.
        GatewayError::Internal | GatewayError::Explained { .. } => {
            ("server_error", None, Some("internal_error"))
        }
    };
    json!({"error": {"message": words_with_details(error), "type": kind, "param": param, "code": code}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_shape_has_its_code_and_its_delay() {
        let error = GatewayError::NoCapacity { retry_after: Duration::from_millis(59_001) };
        let value = original(&error);
        assert_eq!(value["code"], 429);
        assert_eq!(value["retry_after"], 60);
        assert!(value["error"].is_string());
    }

    #[test]
    fn who_waited_in_vain_is_told_its_place_in_the_queue() {
        let error =
            GatewayError::WaitedInVain { retry_after: Duration::from_millis(2_500), queue_position: 7 };
        assert_eq!(original(&error)["queue_position"], 7);
        assert_eq!(original(&error)["retry_after"], 3);
        let value = openai(&error);
        assert!(value["error"]["message"].as_str().unwrap().contains("number 7"), "{value}");
        let at_once = GatewayError::NoCapacity { retry_after: Duration::from_secs(1) };
        assert_eq!(original(&at_once).get("queue_position"), None);
    }

    #[test]
    fn the_openai_shape_has_all_four_keys() {
        for error in [GatewayError::Internal, GatewayError::bad_field("temperature", "too hot")] {
            let value = openai(&error);
            let object = value["error"].as_object().unwrap();
            for key in ["message", "type", "param", "code"] {
                assert!(object.contains_key(key), "{key}");
            }
        }
    }

    #[test]
    fn what_explains_an_error_stands_where_the_shape_has_room_for_it() {
        let plain = GatewayError::NoCapacity { retry_after: Duration::from_secs(7) };
        let explained = plain.clone().explained(vec!["a/b: no capacity".to_owned(), "c/d: busy".to_owned()]);
        let shown = original(&explained);
        assert_eq!(shown["details"], json!(["a/b: no capacity", "c/d: busy"]));
        assert_eq!((&shown["code"], &shown["retry_after"]), (&json!(429), &json!(7)));
        assert_eq!(shown["error"], original(&plain)["error"]);
        assert!(original(&plain).get("details").is_none());
        let shown = openai(&explained);
        assert_eq!(shown["error"].as_object().unwrap().len(), 4, "{shown}");
        assert_eq!(shown["error"]["code"], "rate_limit_exceeded");
        let message = shown["error"]["message"].as_str().unwrap();
        assert!(message.ends_with(": a/b: no capacity; c/d: busy"), "{message}");
        assert_eq!(response(&explained, Surface::OpenAi).status(), 429);
    }

    #[test]
    fn a_long_wait_tells_clients_not_to_sit_it_out() {
        let long =
            response(&GatewayError::NoCapacity { retry_after: Duration::from_secs(61) }, Surface::OpenAi);
        assert_eq!(long.headers().get("x-should-retry").unwrap(), "false");
        assert_eq!(long.headers().get("retry-after").unwrap(), "61");
        let short =
            response(&GatewayError::NoCapacity { retry_after: Duration::from_secs(60) }, Surface::OpenAi);
        assert!(short.headers().get("x-should-retry").is_none());
    }
}
