//! Every path.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource};

use super::surface::Surface;
use super::{error, health, openai, original};
use crate::error::GatewayError;

/// Adds all routes to an application that has an `Edge` as data.
pub fn configure(config: &mut ServiceConfig) {
    for path in ["/api/chat.php", "/api/chat"] {
        config.service(post(path).route(web::post().to(original::chat::chat)));
    }
    for path in ["/api/models.php", "/api/models"] {
        config.service(get(path).route(web::get().to(original::models::models)));
    }
    for path in ["/api/stats.php", "/api/stats"] {
        config.service(get(path).route(web::get().to(original::stats::stats)));
    }
    config
        .service(post("/v1/chat/completions").route(web::post().to(openai::chat::chat)))
        .service(get("/v1/models").route(web::get().to(openai::models::list)))
        .service(get("/v1/models/{name:.*}").route(web::get().to(openai::models::one)))
        .service(get("/livez").route(web::get().to(health::live)))
        .service(get("/readyz").route(web::get().to(health::ready)))
        .default_service(web::to(unknown_path));
}

fn get(path: &str) -> Resource {
    web::resource(path).default_service(web::to(only_get))
}

fn post(path: &str) -> Resource {
    web::resource(path).default_service(web::to(only_post))
}

async fn only_get(request: HttpRequest) -> HttpResponse {
    error::response(&GatewayError::MethodNotAllowed { allow: "GET" }, surface_of(&request))
}

async fn only_post(request: HttpRequest) -> HttpResponse {
    error::response(&GatewayError::MethodNotAllowed { allow: "POST" }, surface_of(&request))
}

/// How much of an unknown path is repeated to the client.
const SHOWN_MAX_CHARS: usize = 100;

async fn unknown_path(request: HttpRequest) -> HttpResponse {
    let path = request.path().chars().take(SHOWN_MAX_CHARS).collect();
    error::response(&GatewayError::UnknownPath { path }, surface_of(&request))
}

fn surface_of(request: &HttpRequest) -> Surface {
    if request.path().starts_with("/v1/") { Surface::OpenAi } else { Surface::Original }
}
