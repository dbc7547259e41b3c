//! What the head of every answer says: its request id, whether it is simulated, whether the connection stays.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode, Version};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpRequest};

use super::edge::Edge;
use crate::domain::ids::RequestId;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Marks every answer of `freellmapi demo`, so that none is mistaken for a real one.
const X_DEMO: HeaderName = HeaderName::from_static("x-freellmapi-demo");

/// Middleware: keeps a sane incoming id or mints one, for the handlers and for the answer; closes the connection
/// after it while the gateway drains, or where the client's protocol needs it. An answer to somebody who shows no valid
/// key waits for its turn among those.
///
/// # Errors
/// Those of the service behind it.
pub async fn tag_request<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let incoming = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = RequestId::from_incoming(incoming);
    request.extensions_mut().insert(id.clone());
    let mut response = next.call(request).await?;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let edge = response.request().app_data::<Data<Edge>>();
    let is_draining = edge.is_some_and(|edge| edge.readiness.is_draining());
    let is_demo = edge.is_some_and(|edge| edge.settings.is_demo);
    let is_old = response.request().version() < Version::HTTP_11;
    let is_kept = is_draining || wait_for_turn(&response).await;
    let head = response.response_mut().head_mut();
    if is_demo {
        head.headers_mut().insert(X_DEMO, HeaderValue::from_static("simulated"));
    }
    // HTTP/1.0 knows no chunks: its streams end with the connection.
    head.no_chunking(is_old);
    // While we drain, the client's next request belongs on a connection to somebody else.
    if is_old || is_draining || !is_kept {
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Whether the connection may be kept.
async fn wait_for_turn<B>(response: &ServiceResponse<B>) -> bool {
    if response.status() != StatusCode::UNAUTHORIZED {
        return true;
    }
    match response.request().app_data::<Data<Edge>>() {
        Some(edge) => edge.permits.rebuffs().turn(edge.clock.now()).await,
        None => true,
    }
}

/// The id of a request that went through [`tag_request`].
pub(super) fn request_id(request: &HttpRequest) -> RequestId {
    request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::mint)
}
