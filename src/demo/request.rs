//! The reading of a chat request, as strict as the provider's own data says.

use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::complaint::Complaint;
use super::judge::Arrival;
use super::speech::prompt_tokens;
use super::tool_call::ToolCall;
use crate::domain::provider::{ModelSpec, ProviderSpec, StreamUsage};

/// The cap on the output where neither the request nor the model states one, in tokens.
/// Source: what Groq reserved for a request without a cap, measured by a public report of 2026-08-20.
const DEFAULT_OUTPUT_CAP: u64 = 8192;

/// What each message costs beside its text, in tokens. Chosen: role and separators, as in OpenAI's counting recipe.
const TOKENS_PER_MESSAGE: u64 = 3;

/// A chat request that can be answered.
#[derive(Clone, Debug)]
pub(super) struct ChatCall {
    pub(super) model: String,
    pub(super) streamed: bool,
    /// Whether the stream ends with a usage chunk.
    pub(super) tells_usage: bool,
    pub(super) prompt_tokens: u64,
    pub(super) output_cap: u64,
    /// The text of the last message of the user; empty when there is none.
    pub(super) question: String,
    pub(super) tool_call: Option<ToolCall>,
}

#[derive(Deserialize)]
struct Wire {
    model: String,
    messages: Vec<WireMessage>,
    stream: Option<bool>,
    stream_options: Option<WireStreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
}

#[derive(Deserialize)]
struct WireMessage {
    role: String,
    #[serde(default)]
    content: Value,
}

#[derive(Deserialize)]
struct WireStreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl ChatCall {
    /// Reads `body` as the provider of `spec` would.
    ///
    /// # Errors
    /// 400 for what is malformed, 404 for a model that the provider has not, 422 for a field that it refuses.
    pub(super) fn parse(body: &[u8], spec: &ProviderSpec) -> Result<Self, Complaint> {
        let members: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| bad_request(&error))?;
        if let Some(field) = refused_field(&members, spec) {
            let message = format!("`{field}`: extra inputs are not permitted.");
            return Err(Complaint::invalid(StatusCode::UNPROCESSABLE_ENTITY, Some(field), &message));
        }
        let wire: Wire = serde_json::from_value(members.into()).map_err(|error| bad_request(&error))?;
        let model = spec.models.iter().find(|model| model.id == wire.model);
        let model = model.ok_or_else(|| Complaint::unknown_model(&wire.model))?;
        Self::checked(wire, model, spec.quirks.stream_usage)
    }

    fn checked(wire: Wire, model: &ModelSpec, stream_usage: StreamUsage) -> Result<Self, Complaint> {
        let cap = wire.max_tokens.max(wire.max_completion_tokens);
        if wire.messages.is_empty() {
            return Err(invalid("messages", "`messages` must hold at least one message."));
        }
        if cap == Some(0) {
            return Err(invalid("max_tokens", "`max_tokens` must be at least 1."));
        }
        if wire.n.is_some_and(|choices| choices != 1) {
            return Err(invalid("n", "`n` must be 1."));
        }
        let tools = wire.tools.unwrap_or_default();
        let tool_call = ToolCall::demanded(&tools, wire.tool_choice.as_ref())
            .map_err(|message| invalid("tool_choice", &message))?;
        let asks_usage = wire.stream_options.is_some_and(|options| options.include_usage);
        Ok(Self {
            prompt_tokens: count_prompt(&wire.messages, &tools),
            question: question(&wire.messages),
            model: wire.model,
            streamed: wire.stream.unwrap_or(false),
            tells_usage: asks_usage || stream_usage == StreamUsage::Unasked,
            output_cap: cap.or(model.max_output_tokens).unwrap_or(DEFAULT_OUTPUT_CAP),
            tool_call,
        })
    }

    pub(super) fn arrival(&self) -> Arrival {
        Arrival { prompt_tokens: self.prompt_tokens, output_cap: self.output_cap }
    }
}

/// The first field that the provider's data says it refuses.
fn refused_field<'a>(members: &'a Map<String, Value>, spec: &ProviderSpec) -> Option<&'a str> {
    let refuses_stream_options = spec.quirks.stream_usage != StreamUsage::Asked;
    let is_refused = |name: &str| {
        (refuses_stream_options && name == "stream_options")
            || spec.quirks.drop_fields.iter().any(|field| field == name)
    };
    members.keys().map(String::as_str).find(|name| is_refused(name))
}

fn bad_request(error: &serde_json::Error) -> Complaint {
    Complaint::invalid(StatusCode::BAD_REQUEST, None, &format!("The request cannot be read: {error}."))
}

fn invalid(param: &str, message: &str) -> Complaint {
    Complaint::invalid(StatusCode::BAD_REQUEST, Some(param), message)
}

fn count_prompt(messages: &[WireMessage], tools: &[Value]) -> u64 {
    let message_bytes: usize = messages.iter().map(|message| text_of(&message.content).len()).sum();
    let tool_bytes: usize = tools.iter().map(|tool| tool.to_string().len()).sum();
    prompt_tokens(message_bytes + tool_bytes) + TOKENS_PER_MESSAGE * messages.len() as u64
}

fn question(messages: &[WireMessage]) -> String {
    let last = messages.iter().rev().find(|message| message.role == "user");
    last.map(|message| text_of(&message.content)).unwrap_or_default()
}

/// The text of a message's content, which is a string or a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::spec;
    use super::*;

    fn parse(body: &Value) -> Result<ChatCall, Complaint> {
        ChatCall::parse(body.to_string().as_bytes(), &spec("groq", Vec::new()))
    }

    fn minimal() -> Value {
        json!({"model": "model-a", "messages": [{"role": "user", "content": "Hi"}]})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = minimal();
        body[name] = value;
        body
    }

    #[test]
    fn a_minimal_request_is_not_streamed_and_has_the_model_s_cap() {
        let call = parse(&minimal()).unwrap();
        assert!(!call.streamed && !call.tells_usage);
        assert_eq!(call.output_cap, 4096);
        assert_eq!(call.prompt_tokens, 1 + TOKENS_PER_MESSAGE);
    }

    #[test]
    fn the_larger_of_both_caps_counts() {
        let mut body = with("max_tokens", json!(10));
        body["max_completion_tokens"] = json!(20);
        assert_eq!(parse(&body).unwrap().output_cap, 20);
    }

    #[test]
    fn the_question_is_the_last_word_of_the_user_also_in_parts() {
        let body = with(
            "messages",
            json!([
                {"role": "user", "content": "first"},
                {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}]},
                {"role": "assistant", "content": null},
            ]),
        );
        assert_eq!(parse(&body).unwrap().question, "second");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (name, value) in [
            ("messages", json!([])),
            ("messages", json!("Hi")),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(-1)),
            ("n", json!(2)),
            ("tool_choice", json!("required")),
        ] {
            assert!(parse(&with(name, value.clone())).is_err(), "{name}: {value}");
        }
        assert!(ChatCall::parse(b"{", &spec("groq", Vec::new())).is_err());
        assert!(ChatCall::parse(b"[]", &spec("groq", Vec::new())).is_err());
    }

    #[test]
    fn a_provider_refuses_the_fields_that_its_data_says_it_refuses() {
        let mut spec = spec("mistral", Vec::new());
        spec.quirks.stream_usage = StreamUsage::Unasked;
        spec.quirks.drop_fields = vec!["logit_bias".to_owned()];
        let read = |body: Value| ChatCall::parse(body.to_string().as_bytes(), &spec);
        assert!(read(with("stream_options", json!({"include_usage": true}))).is_err());
        assert!(read(with("logit_bias", json!({}))).is_err());
        assert!(read(minimal()).unwrap().tells_usage);
    }
}
