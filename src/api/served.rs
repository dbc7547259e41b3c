//! Who served an answer, told in headers, in a comment of a stream, or in the body.

use actix_web::HttpResponseBuilder;
use bytes::Bytes;
use serde::Serialize;

use crate::provider::Served;

/// Says in the headers who served.
pub(super) fn headers(response: &mut HttpResponseBuilder, served: &Served) {
    response.insert_header(("x-routed-via", printable(&format!("{}/{}", served.provider, served.model))));
    response.insert_header(("x-fallback-attempts", served.fallback_attempts.to_string()));
    response.insert_header(("x-queue-wait-ms", served.queue_wait.as_millis().to_string()));
}

/// The same as a comment, for a stream whose headers are out already.
pub(super) fn comment(served: &Served) -> Bytes {
    let route = printable(&format!("{}/{}", served.provider, served.model));
    let wait = served.queue_wait.as_millis();
    format!(
        ": x-routed-via: {route}\n: x-fallback-attempts: {}\n: x-queue-wait-ms: {wait}\n\n",
        served.fallback_attempts
    )
    .into()
}

/// A model's id comes from the configuration and may be any text; a header takes visible ASCII.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_ascii_graphic() { character } else { '?' }).collect()
}

/// `_routed_via` of the original API.
#[derive(Serialize)]
pub(super) struct RoutedVia<'a> {
    platform: &'a str,
    model: &'a str,
    display_name: &'a str,
}

impl<'a> From<&'a Served> for RoutedVia<'a> {
    fn from(served: &'a Served) -> Self {
        Self { platform: served.provider.as_str(), model: &served.model, display_name: &served.display_name }
    }
}
