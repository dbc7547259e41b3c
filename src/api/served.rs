//! Who served an answer, told in headers, in a comment of a stream, or in the body.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use serde::Serialize;

use crate::provider::Served;

const X_ROUTED_VIA: HeaderName = HeaderName::from_static("x-routed-via");
const X_FALLBACK_ATTEMPTS: HeaderName = HeaderName::from_static("x-fallback-attempts");
const X_QUEUE_WAIT_MS: HeaderName = HeaderName::from_static("x-queue-wait-ms");

/// Says in the headers who served.
pub(super) fn headers(response: &mut HttpResponseBuilder, served: &Served) {
    response.insert_header((X_ROUTED_VIA, &*served.by.route));
    response.insert_header((X_FALLBACK_ATTEMPTS, number(served.fallback_attempts.into())));
    response.insert_header((X_QUEUE_WAIT_MS, number(queue_wait_ms(served))));
}

/// Most are 0, and that is written already.
fn number(number: u64) -> HeaderValue {
    if number == 0 { HeaderValue::from_static("0") } else { HeaderValue::from(number) }
}

/// The same as a comment, for a stream whose headers are out already.
pub(super) fn comment(served: &Served) -> Bytes {
    format!(
        ": x-routed-via: {}\n: x-fallback-attempts: {}\n: x-queue-wait-ms: {}\n\n",
        served.by.route,
        served.fallback_attempts,
        queue_wait_ms(served)
    )
    .into()
}

fn queue_wait_ms(served: &Served) -> u64 {
    u64::try_from(served.queue_wait.as_millis()).unwrap_or(u64::MAX)
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
        let by = &served.by;
        Self { platform: by.provider.as_str(), model: &by.model, display_name: &by.display_name }
    }
}
