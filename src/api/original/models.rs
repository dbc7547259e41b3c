//! `GET /api/models.php`.

use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::api::auth::Viewer;
use crate::api::edge::Edge;
use crate::api::surface::Surface;
use crate::api::{auth, error};
use crate::domain::ids::ModelNumber;
use crate::domain::limit::{Limit, Scope, Unit, Window};
use crate::domain::provider::{ModelSpec, ProviderSpec};
use crate::domain::tenant::TenantPolicy;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

pub(in crate::api) async fn models(edge: Data<Edge>, request: HttpRequest) -> HttpResponse {
    match auth::viewer(&edge, &request, edge.settings.public_models) {
        Ok(Viewer::Tenant(caller)) => HttpResponse::Ok().json(rows(&edge, &caller.policy)),
        Ok(Viewer::Admin | Viewer::Anybody) => {
            HttpResponse::Ok().json(rows(&edge, &TenantPolicy::unrestricted()))
        }
        Err(refusal) => error::response(&refusal, Surface::Original),
    }
}

/// One model, with the tightest limit of each kind that it is under.
#[derive(Serialize)]
struct Row<'a> {
    id: Option<ModelNumber>,
    platform: &'a str,
    model_id: &'a str,
    display_name: &'a str,
    intelligence_rank: u32,
    speed_rank: u32,
    size_label: &'a str,
    rpm_limit: Option<u64>,
    rpd_limit: Option<u64>,
    tpm_limit: Option<u64>,
    tpd_limit: Option<u64>,
    context_window: Option<u64>,
    enabled: bool,
}

fn rows<'a>(edge: &'a Edge, policy: &TenantPolicy) -> Vec<Row<'a>> {
    let providers = edge.catalog.providers().iter();
    let mut rows: Vec<_> = providers
        .flat_map(|provider| provider.models.iter().map(move |model| (&**provider, model)))
        .filter(|(provider, model)| policy.permits(provider, model))
        .map(|(provider, model)| row(provider, model))
        .collect();
    rows.sort_by_key(|row| (row.intelligence_rank, row.id));
    rows
}

fn row<'a>(provider: &'a ProviderSpec, model: &'a ModelSpec) -> Row<'a> {
    let tightest = |unit, window| tightest(provider, model, unit, window);
    Row {
        id: model.number,
        platform: provider.id.as_str(),
        model_id: &model.id,
        display_name: &model.display_name,
        intelligence_rank: model.intelligence_rank,
        speed_rank: model.speed_rank,
        size_label: &model.size_label,
        rpm_limit: tightest(Unit::Requests, MINUTE),
        rpd_limit: tightest(Unit::Requests, DAY),
        tpm_limit: tightest(Unit::Tokens, MINUTE),
        tpd_limit: tightest(Unit::Tokens, DAY),
        context_window: model.context_window,
        enabled: model.enabled && provider.is_usable(),
    }
}

fn tightest(provider: &ProviderSpec, model: &ModelSpec, unit: Unit, length: Duration) -> Option<u64> {
    let applies = |limit: &&Limit| match &limit.scope {
        Scope::Account | Scope::Model => true,
        Scope::Pool(pool) => model.pool.as_ref() == Some(pool),
    };
    let limits = provider.limits.iter().filter(applies).chain(&model.limits);
    limits
        .filter(|limit| limit.unit == unit)
        .filter(|limit| limit.window == Window::Sliding(length) || (length == DAY && limit.window.is_day()))
        .map(|limit| limit.max)
        .min()
}
