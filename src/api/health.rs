//! `GET /livez` and `GET /readyz`, for load balancers and supervisors; no key.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use super::edge::Edge;
use crate::db;

/// The process runs.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// The process takes requests: it does from the start, because it listens only once the store is migrated, and
/// no longer while it drains. A store that is away later degrades it; what needs no store is still served.
pub(super) async fn ready(edge: Data<Edge>) -> HttpResponse {
    if edge.readiness.is_draining() {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "draining"}));
    }
    let is_there = db::blocking(&edge.store, |store| store.ping()).await.is_ok();
    let status = if is_there { "ok" } else { "degraded" };
    HttpResponse::Ok().json(json!({"status": status, "in_flight": edge.permits.in_flight()}))
}
