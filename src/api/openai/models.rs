//! `GET /v1/models` and `GET /v1/models/{id}`.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::chat::AUTOMATIC;
use crate::api::edge::Edge;
use crate::api::surface::Surface;
use crate::api::{auth, error};
use crate::domain::tenant::TenantPolicy;
use crate::error::GatewayError;
use crate::routing::{Catalog, Target};

/// Who owns a name that several providers answer to.
const GATEWAY: &str = "freellmapi";

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

/// One name that `model` may have.
#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    /// Unix seconds; 0, because no provider's catalogue says when a model was made.
    created: u64,
    owned_by: &'a str,
}

impl<'a> Model<'a> {
    fn new(id: &'a str, owned_by: &'a str) -> Self {
        Self { id, object: "model", created: 0, owned_by }
    }
}

pub(in crate::api) async fn list(edge: Data<Edge>, request: HttpRequest) -> HttpResponse {
    match auth::caller(&edge, &request) {
        Ok(caller) => {
            HttpResponse::Ok().json(List { object: "list", data: models(&edge.catalog, &caller.policy) })
        }
        Err(refusal) => error::response(&refusal, Surface::OpenAi),
    }
}

pub(in crate::api) async fn one(edge: Data<Edge>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    let refusal = match auth::caller(&edge, &request) {
        Ok(caller) => match models(&edge.catalog, &caller.policy).iter().find(|model| model.id == *name) {
            Some(model) => return HttpResponse::Ok().json(model),
            None => GatewayError::UnknownModel { name: format!("`{}`", name.into_inner()) },
        },
        Err(refusal) => refusal,
    };
    error::response(&refusal, Surface::OpenAi)
}

/// What a tenant may ask for; what it may not use does not exist for it.
fn models<'a>(catalog: &'a Catalog, policy: &TenantPolicy) -> Vec<Model<'a>> {
    let is_permitted = |target: &Target| {
        catalog.spec(*target).is_some_and(|(provider, model)| policy.permits(provider, model))
    };
    let automatic = AUTOMATIC.iter().map(|(name, _)| Model::new(name, GATEWAY));
    let named = catalog.names().into_iter().filter_map(|(name, targets)| {
        let permitted: Vec<Target> = targets.iter().copied().filter(is_permitted).collect();
        (!permitted.is_empty()).then(|| Model::new(name, owner(catalog, &permitted)))
    });
    automatic.chain(named).collect()
}

fn owner<'a>(catalog: &'a Catalog, targets: &[Target]) -> &'a str {
    match targets {
        [target] => catalog.spec(*target).map_or(GATEWAY, |(provider, _)| provider.id.as_str()),
        _ => GATEWAY,
    }
}
