//! Every path.

use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder};

use super::edge::Edge;
use super::surface::Surface;
use super::{body, error, health, metrics, openai, original};
use crate::error::GatewayError;

/// Adds all routes to an application that has an `Edge` as data. They are tried in this order, so the busiest is first.
pub fn configure(config: &mut ServiceConfig) {
    config.service(post("/v1/chat/completions").route(web::post().to(openai::chat::chat)));
    for path in ["/api/chat.php", "/api/chat"] {
        config.service(post(path).route(web::post().to(original::chat::chat)));
    }
    for path in ["/api/models.php", "/api/models"] {
        config.service(get(path, original::models::models));
    }
    for path in ["/api/stats.php", "/api/stats"] {
        config.service(get(path, original::stats::stats));
    }
    config
        .service(get("/v1/models", openai::models::list))
        .service(get("/v1/models/{name:.*}", openai::models::one))
        .service(get("/livez", health::live))
        .service(get("/readyz", health::ready))
        .service(get("/metrics", metrics::metrics))
        .default_service(web::to(unknown_path));
}

/// What is read: GET, and HEAD, as monitors and balancers ask.
fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args> + Clone,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(only_get))
}

fn post(path: &str) -> Resource {
    web::resource(path).default_service(web::to(only_post))
}

async fn only_get(edge: Data<Edge>, request: HttpRequest, payload: Payload) -> HttpResponse {
    refuse(&GatewayError::MethodNotAllowed { allow: "GET, HEAD" }, &edge, &request, payload).await
}

async fn only_post(edge: Data<Edge>, request: HttpRequest, payload: Payload) -> HttpResponse {
    refuse(&GatewayError::MethodNotAllowed { allow: "POST" }, &edge, &request, payload).await
}

async fn unknown_path(edge: Data<Edge>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let path = request.path().to_owned();
    refuse(&GatewayError::UnknownPath { path }, &edge, &request, payload).await
}

async fn refuse(
    refusal: &GatewayError,
    edge: &Edge,
    request: &HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    let is_fit = body::turn_away(&mut payload, edge.permits.strangers()).await;
    let is_kept = edge.permits.rebuffs().turn(edge.clock.now()).await;
    error::last_unless(is_fit && is_kept, error::response(refusal, surface_of(request)))
}

fn surface_of(request: &HttpRequest) -> Surface {
    if request.path().starts_with("/v1/") { Surface::OpenAi } else { Surface::Original }
}
