//! `GET /metrics`, for Prometheus.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::LocalBoxFuture;

use super::edge::Edge;
use super::surface::Surface;
use super::{auth, error};
use crate::domain::error_chain::ErrorChain;
use crate::error::GatewayError;
use crate::metrics::MetricsError;

/// Prometheus's text format.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Reads everything that is counted; the composition root knows where. Does not block its caller's thread.
pub type Scrape = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<String, MetricsError>> + Send + Sync>;

pub(super) async fn metrics(edge: Data<Edge>, request: HttpRequest) -> HttpResponse {
    match read(&edge, &request).await {
        Ok(text) => HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT_FORMAT)).body(text),
        Err(refusal) => error::response(&refusal, Surface::Original),
    }
}

async fn read(edge: &Edge, request: &HttpRequest) -> Result<String, GatewayError> {
    if !edge.settings.public_metrics {
        auth::operator(edge, request)?;
    }
    let seat = edge.permits.scrapes().take();
    let _seat = seat.ok_or_else(|| GatewayError::unavailable("the metrics are being read by others"))?;
    (edge.scrape)().await.map_err(|error| {
        log::error!("the metrics cannot be read: {}", ErrorChain(&error));
        GatewayError::Internal
    })
}
