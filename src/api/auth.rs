//! Who asks: the key in the request against the keys in memory.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use ring::hmac;

use super::edge::Edge;
use crate::access::{Caller, Refused};
use crate::domain::secret::Secret;
use crate::error::GatewayError;

const MISSING: &str = "no API key was given; send it as `Authorization: Bearer freellmapi-…`";
const OPERATOR_ONLY: &str =
    "this is for the operator; send the admin key (FREELLMAPI_ADMIN_KEY) as `Authorization: Bearer …`";
const WRONG: &str = "the API key is not valid, has expired or was revoked";

/// Whose statistics may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Viewer {
    Tenant(Caller),
    Admin,
    Anybody,
}

/// The tenant and key of a request.
///
/// # Errors
/// 401 for a key of any length and form that is not valid; 503 while the store has been away for so long that
/// an unknown key may be a new one.
pub(super) fn caller(edge: &Edge, request: &HttpRequest) -> Result<Caller, GatewayError> {
    let key = presented(request).ok_or(GatewayError::Unauthorized { message: MISSING })?;
    admit(edge, key)
}

/// Who asks for something that the operator may have opened to everybody.
///
/// # Errors
/// As [`caller`], unless `is_public` and no key was given.
pub(super) fn viewer(edge: &Edge, request: &HttpRequest, is_public: bool) -> Result<Viewer, GatewayError> {
    match presented(request) {
        None if is_public => Ok(Viewer::Anybody),
        None => Err(GatewayError::Unauthorized { message: MISSING }),
        Some(key) if is_admin(edge.settings.admin_key.as_ref(), key) => Ok(Viewer::Admin),
        Some(key) => admit(edge, key).map(Viewer::Tenant),
    }
}

/// Lets the operator in.
///
/// # Errors
/// 401 for everybody without the admin key, tenants included.
pub(super) fn operator(edge: &Edge, request: &HttpRequest) -> Result<(), GatewayError> {
    let admin_key = edge.settings.admin_key.as_ref();
    match presented(request) {
        Some(key) if is_admin(admin_key, key) => Ok(()),
        _ => Err(GatewayError::Unauthorized { message: OPERATOR_ONLY }),
    }
}

fn admit(edge: &Edge, key: &str) -> Result<Caller, GatewayError> {
    edge.gate.admit(key, edge.clock.now()).map_err(|refused| match refused {
        Refused::StoreAway => GatewayError::unavailable("keys cannot be checked: the store is away"),
        _ => GatewayError::Unauthorized { message: WRONG },
    })
}

fn presented(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = header.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    // What is not text is a wrong key, not a missing one.
    let key = std::str::from_utf8(key).unwrap_or("?").trim();
    (!key.is_empty()).then_some(key)
}

/// Compares through a keyed digest, so that the time taken says nothing about the admin key.
fn is_admin(admin_key: Option<&Secret<String>>, presented: &str) -> bool {
    admin_key.is_some_and(|expected| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, expected.expose().as_bytes());
        let tag = hmac::sign(&key, expected.expose().as_bytes());
        hmac::verify(&key, presented.as_bytes(), tag.as_ref()).is_ok()
    })
}
