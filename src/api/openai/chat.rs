//! `POST /v1/chat/completions`.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use crate::api::chat::{Dialect, answer};
use crate::api::chat_fields::{given, parse, read as read_fields, wrong};
use crate::api::edge::Edge;
use crate::api::surface::Surface;
use crate::domain::chat::{ChatRequest, ModelSelector, Strategy};
use crate::error::GatewayError;

/// The names that leave the choice to us.
pub(super) const AUTOMATIC: [(&str, Option<Strategy>); 3] =
    [("auto", None), ("auto:fast", Some(Strategy::Fast)), ("auto:smart", Some(Strategy::Smart))];

const DIALECT: Dialect = Dialect { surface: Surface::OpenAi, read, whole: |body, _| body };

pub(in crate::api) async fn chat(
    edge: Data<Edge>,
    request: HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    answer(&DIALECT, &edge, &request, &mut payload).await
}

fn read(body: Bytes) -> Result<ChatRequest, GatewayError> {
    let mut chat = read_fields(body, false)?;
    chat.selector = selector(&chat)?;
    Ok(chat)
}

fn selector(chat: &ChatRequest) -> Result<ModelSelector, GatewayError> {
    let expected = "a model's name from /v1/models, for example \"auto\"";
    let Some(name) = parse::<String>(chat, "model", expected)? else {
        return Err(GatewayError::bad_field("model", format!("model is required: {expected}")));
    };
    if name.is_empty() {
        return Err(wrong("model", expected, given(chat, "model").unwrap_or_default()));
    }
    Ok(match AUTOMATIC.iter().find(|(automatic, _)| *automatic == name) {
        Some((_, strategy)) => ModelSelector::Auto(*strategy),
        None => ModelSelector::Named(name),
    })
}
