//! What is sent: the client's own members, less what the provider refuses, under the names that it knows.

use crate::domain::chat::Member;
use crate::domain::provider::{Quirks, StreamUsage};
use crate::provider::adapter::Call;

/// Fields that choose another model, route, tool service or price upstream. They are dropped unless the
/// provider's file allows them: which candidate answers, and what it costs, is decided here.
const STEERING_FIELDS: [&str; 8] =
    ["models", "route", "provider", "plugins", "service_tier", "transforms", "web_search_options", "preset"];

/// About what the members that are written here take.
const OWN_MEMBERS_BYTES: usize = 128;

/// Fields that this adapter writes itself.
const OWN_FIELDS: [&str; 3] = ["model", "stream", "stream_options"];

/// Builds the body of a request.
pub(super) fn encode(call: &Call<'_>) -> Vec<u8> {
    let request = call.request;
    let mut object = ObjectWriter::with_capacity(
        request.body().len() + call.model.id.len() + OWN_MEMBERS_BYTES,
        request.members.len() + OWN_FIELDS.len() + 1,
    );
    object.text("model", &call.model.id);
    object.raw("stream", if call.request.streamed { "true" } else { "false" });
    let quirks = &call.provider.quirks;
    if call.request.streamed && quirks.stream_usage == StreamUsage::Asked {
        object.raw("stream_options", r#"{"include_usage":true}"#);
    }
    for member in &call.request.members {
        if is_forwarded(member, quirks) {
            object.raw(upstream_name(&member.name, quirks), &member.value);
        }
    }
    if let Some(cap) = call.added_output_cap {
        object.raw(upstream_name("max_tokens", quirks), &cap.to_string());
    }
    object.finish()
}

/// Explicit nulls and empty tool lists are common from clients, mean the default, and are refused by strict
/// servers (Mistral, seen in public reports up to 2026-08).
fn is_forwarded(member: &Member, quirks: &Quirks) -> bool {
    let Member { name, value } = member;
    let name = &**name;
    let is_steering =
        STEERING_FIELDS.contains(&name) && !quirks.allow_fields.iter().any(|allowed| allowed == name);
    let is_empty = value == "null" || (name == "tools" && is_empty_array(value));
    !(is_steering
        || is_empty
        || OWN_FIELDS.contains(&name)
        || quirks.drop_fields.iter().any(|field| field == name))
}

fn is_empty_array(value: &str) -> bool {
    value.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"[]")
}

fn upstream_name<'a>(name: &'a str, quirks: &'a Quirks) -> &'a str {
    quirks.rename_fields.iter().find(|(from, _)| from == name).map_or(name, |(_, to)| to)
}

/// Builds one JSON object from checked pieces. A name is written once: of `max_tokens` and
/// `max_completion_tokens` at a provider that knows one of them, the first stays.
struct ObjectWriter<'a> {
    text: Vec<u8>,
    names: Vec<&'a str>,
}

impl<'a> ObjectWriter<'a> {
    /// A writer with room for `bytes` and `members`, so that neither grows while it writes.
    fn with_capacity(bytes: usize, members: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Self { text, names: Vec::with_capacity(members) }
    }

    fn raw(&mut self, name: &'a str, value: &str) {
        if self.begins(name) {
            self.text.extend_from_slice(value.as_bytes());
        }
    }

    fn text(&mut self, name: &'a str, value: &str) {
        if self.begins(name) {
            self.string(value);
        }
    }

    /// Whether a member of that name begins here: no other one has.
    fn begins(&mut self, name: &'a str) -> bool {
        if self.names.contains(&name) {
            return false;
        }
        if !self.names.is_empty() {
            self.text.push(b',');
        }
        self.string(name);
        self.text.push(b':');
        self.names.push(name);
        true
    }

    fn string(&mut self, text: &str) {
        if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
            self.text.push(b'"');
            self.text.extend_from_slice(text.as_bytes());
            self.text.push(b'"');
        } else {
            self.text.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.text.push(b'}');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::shipped_providers;
    use crate::domain::chat::ChatRequest;
    use crate::domain::provider::ProviderSpec;

    fn provider(change: impl FnOnce(&mut ProviderSpec)) -> ProviderSpec {
        let mut provider = shipped_providers().unwrap().remove(0);
        provider.quirks = Quirks {
            drop_fields: Vec::new(),
            rename_fields: Vec::new(),
            allow_fields: Vec::new(),
            stream_usage: StreamUsage::Asked,
        };
        change(&mut provider);
        provider
    }

    fn request(members: &[(&str, &str)], streamed: bool) -> ChatRequest {
        let mut request = ChatRequest::new(ByteString::new());
        request.streamed = streamed;
        let member = |(name, value): &(&str, &str)| Member { name: (*name).into(), value: (*value).into() };
        request.members = members.iter().map(member).collect();
        request
    }

    fn encoded(provider: &ProviderSpec, request: &ChatRequest, added_output_cap: Option<u64>) -> Value {
        let model = &provider.models[0];
        serde_json::from_slice(&encode(&Call { request, provider, model, added_output_cap })).unwrap()
    }

    #[test]
    fn the_upstreams_model_replaces_the_clients() {
        let provider = provider(|provider| provider.models[0].id = "up \"stream\"".to_owned());
        let body = encoded(&provider, &request(&[("model", "\"auto\""), ("top_p", "0.5")], false), None);
        assert_eq!(body, json!({"model": "up \"stream\"", "stream": false, "top_p": 0.5}));
    }

    #[test]
    fn usage_is_asked_for_only_where_it_may_be() {
        let streamed = request(&[("stream_options", "{\"include_usage\":false}")], true);
        let asked = encoded(&provider(|_| ()), &streamed, None);
        assert_eq!(asked["stream_options"], json!({"include_usage": true}));
        let unasked = provider(|provider| provider.quirks.stream_usage = StreamUsage::Unasked);
        assert_eq!(encoded(&unasked, &streamed, None).get("stream_options"), None);
    }

    #[test]
    fn what_steers_upstream_is_dropped_unless_it_is_allowed() {
        let steering = request(&[("provider", "{}"), ("service_tier", "\"flex\"")], false);
        assert_eq!(encoded(&provider(|_| ()), &steering, None).as_object().unwrap().len(), 2);
        let allowing = provider(|provider| provider.quirks.allow_fields = vec!["service_tier".to_owned()]);
        assert_eq!(encoded(&allowing, &steering, None)["service_tier"], "flex");
    }

    #[test]
    fn a_renamed_field_is_never_written_twice() {
        let renaming = provider(|provider| {
            provider.quirks.rename_fields =
                vec![("max_tokens".to_owned(), "max_completion_tokens".to_owned())];
        });
        let both = request(&[("max_completion_tokens", "7"), ("max_tokens", "9")], false);
        let text = String::from_utf8(encode(&Call {
            request: &both,
            provider: &renaming,
            model: &renaming.models[0],
            added_output_cap: None,
        }))
        .unwrap();
        assert_eq!(text.matches("max_completion_tokens").count(), 1, "{text}");
        assert_eq!(encoded(&renaming, &request(&[], false), Some(5))["max_completion_tokens"], 5);
    }

    #[test]
    fn nulls_empty_tools_and_refused_fields_are_dropped() {
        let refusing = provider(|provider| provider.quirks.drop_fields = vec!["seed".to_owned()]);
        let request = request(&[("seed", "1"), ("tools", "[ ]"), ("stop", "null"), ("user", "\"u\"")], false);
        let body = encoded(&refusing, &request, None);
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["model", "stream", "user"]);
    }
}
