//! `GET /api/stats.php`.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::api::auth::{self, Viewer};
use crate::api::edge::Edge;
use crate::api::error;
use crate::api::surface::Surface;
use crate::db::{self, Totals};
use crate::domain::clock::Moment;
use crate::domain::error_chain::ErrorChain;
use crate::domain::ids::TenantId;
use crate::error::GatewayError;

/// Today, in UTC.
#[derive(Serialize)]
struct Stats {
    requests_today: u64,
    tokens_used: u64,
    /// Milliseconds from request in to last byte out, of the requests that were served.
    avg_latency: u64,
    /// From 0 to 1, without 4xx and client aborts; 1 where there was nothing.
    success_rate: f64,
    /// Providers that are enabled and have an account.
    active_providers: usize,
}

pub(in crate::api) async fn stats(edge: Data<Edge>, request: HttpRequest) -> HttpResponse {
    match read(&edge, &request).await {
        Ok(stats) => HttpResponse::Ok().json(stats),
        Err(refusal) => error::response(&refusal, Surface::Original),
    }
}

async fn read(edge: &Edge, request: &HttpRequest) -> Result<Stats, GatewayError> {
    let tenant = match auth::viewer(edge, request, edge.settings.public_stats)? {
        Viewer::Tenant(caller) => Some(caller.tenant),
        Viewer::Admin | Viewer::Anybody => None,
    };
    Ok(render(&totals(edge, tenant).await?, active_providers(edge)))
}

async fn totals(edge: &Edge, tenant: Option<TenantId>) -> Result<Totals, GatewayError> {
    let now = edge.clock.now();
    let read =
        db::blocking(&edge.store, move |store| store.totals(tenant, now.start_of_utc_day(), Moment::NEVER));
    read.await.map_err(|error| {
        log::error!(error = ErrorChain(&error).to_string(); "statistics could not be read");
        GatewayError::unavailable("the statistics cannot be read: the store is away")
    })
}

fn render(totals: &Totals, active_providers: usize) -> Stats {
    Stats {
        requests_today: totals.requests,
        tokens_used: totals.tokens,
        avg_latency: totals.average_latency().map_or(0, |latency| latency.as_millis() as u64),
        success_rate: totals.success_rate().unwrap_or(1.0),
        active_providers,
    }
}

fn active_providers(edge: &Edge) -> usize {
    edge.catalog.providers().iter().filter(|provider| provider.is_usable()).count()
}
