//! `POST /api/chat.php`.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::{BufMut, Bytes, BytesMut};

use crate::api::chat::{Dialect, answer};
use crate::api::chat_fields::{add_default, given, parse, read as read_fields, wrong};
use crate::api::edge::Edge;
use crate::api::served::RoutedVia;
use crate::api::surface::Surface;
use crate::domain::chat::{ChatRequest, ModelSelector};
use crate::domain::ids::ModelNumber;
use crate::error::GatewayError;
use crate::provider::Served;

/// The defaults that the original documentation states (read 2026-11-22).
const DEFAULT_TEMPERATURE: &str = "0.7";
const DEFAULT_MAX_TOKENS: u64 = 1_024;

const DIALECT: Dialect = Dialect { surface: Surface::Original, read, whole };

pub(in crate::api) async fn chat(
    edge: Data<Edge>,
    request: HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    answer(&DIALECT, &edge, &request, &mut payload).await
}

fn read(body: Bytes) -> Result<ChatRequest, GatewayError> {
    let mut chat = read_fields(body, true)?;
    chat.selector = selector(&chat)?;
    // Names of the other surface choose nothing here.
    chat.members.retain(|member| member.name != "model_id");
    if given(&chat, "temperature").is_none() {
        add_default(&mut chat, "temperature", DEFAULT_TEMPERATURE);
    }
    if chat.choice_cap.is_none() {
        add_default(&mut chat, "max_tokens", &DEFAULT_MAX_TOKENS.to_string());
        chat.choice_cap = Some(DEFAULT_MAX_TOKENS);
    }
    Ok(chat)
}

fn selector(chat: &ChatRequest) -> Result<ModelSelector, GatewayError> {
    let expected = "a model's whole number from /api/models.php, or null";
    match parse::<i64>(chat, "model_id", expected)? {
        None => Ok(ModelSelector::Auto(None)),
        Some(number) if number > 0 => Ok(ModelSelector::Number(ModelNumber(number))),
        Some(_) => Err(wrong("model_id", expected, given(chat, "model_id").unwrap_or_default())),
    }
}

/// Adds `_routed_via` as the last member, without reading the answer again: it was checked to be an object.
fn whole(answer: Bytes, served: &Served) -> Bytes {
    let routed_via = serde_json::json!(RoutedVia::from(served)).to_string();
    let text = answer.trim_ascii_end();
    let object = text.strip_suffix(b"}").unwrap_or(text);
    let mut whole = BytesMut::with_capacity(object.len() + routed_via.len() + 20);
    whole.put_slice(object);
    whole.put_slice(br#","_routed_via":"#);
    whole.put_slice(routed_via.as_bytes());
    whole.put_u8(b'}');
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(extra: &str) -> Result<ChatRequest, GatewayError> {
        read(Bytes::from(format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{extra}}}"#)))
    }

    #[test]
    fn the_documented_defaults_are_sent() {
        let chat = read_text("").unwrap();
        assert!(chat.streamed);
        assert_eq!(given(&chat, "temperature"), Some("0.7"));
        assert_eq!(given(&chat, "max_tokens"), Some("1024"));
        assert_eq!((chat.choice_cap, chat.choices), (Some(1_024), 1));
        let three = read_text(r#","n":3"#).unwrap();
        assert_eq!((three.choice_cap, three.choices), (Some(1_024), 3));
        assert_eq!(chat.selector, ModelSelector::Auto(None));
    }

    #[test]
    fn a_null_is_as_good_as_nothing() {
        let chat = read_text(r#","model_id":null,"temperature":null,"max_tokens":null"#).unwrap();
        assert_eq!(given(&chat, "temperature"), Some("0.7"));
        assert_eq!(given(&chat, "max_tokens"), Some("1024"));
    }

    #[test]
    fn a_number_pins_a_model() {
        assert_eq!(read_text(r#","model_id":7"#).unwrap().selector, ModelSelector::Number(ModelNumber(7)));
        for wrong in ["0", "-1", "1.5", "\"7\"", "true", "99999999999999999999"] {
            let error = read_text(&format!(r#","model_id":{wrong}"#)).unwrap_err();
            assert!(error.to_string().contains("model_id"), "{error}");
        }
    }
}
