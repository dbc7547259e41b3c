//! Which web pages may call us from a browser.

use actix_cors::Cors;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use actix_web::middleware::Condition;

/// How long a browser may remember the answer to its preflight. Browsers cap it at one or two hours themselves.
const MAX_AGE_SECONDS: usize = 3_600;

/// What a page may read of an answer, beside what every page may.
const EXPOSED: [HeaderName; 5] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-routed-via"),
    HeaderName::from_static("x-fallback-attempts"),
    HeaderName::from_static("x-queue-wait-ms"),
    HeaderName::from_static("retry-after"),
];

/// Middleware: lets pages of these origins in, and none where there are none.
pub fn allow_origins(origins: &[String]) -> Condition<Cors> {
    let cors = Cors::default()
        .allowed_methods(["GET", "POST"])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE])
        .allowed_header(HeaderName::from_static("x-request-id"))
        .allowed_header(HeaderName::from_static("x-max-wait-ms"))
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE_SECONDS);
    let cors = origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin));
    Condition::new(!origins.is_empty(), cors)
}
