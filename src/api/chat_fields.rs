//! The fields of a chat that the gateway understands; all others pass through.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::strict_json;
use crate::domain::chat::{ChatRequest, Member, MemberValue};
use crate::error::GatewayError;
use crate::quota::estimate::{IMAGE_TOKENS, MESSAGE_OVERHEAD_TOKENS, input_tokens};

/// Who may speak, in OpenAI's terms (its API reference, 2026-11).
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// The most answers to one request. OpenAI's own bound (its API reference, 2026-11).
const N_MAX: u64 = 128;

/// Reads what both surfaces have in common. `stream` is `default_stream` where it is not given.
///
/// # Errors
/// 400, naming the field and what would be right.
pub(super) fn read(body: &Bytes, default_stream: bool) -> Result<ChatRequest, GatewayError> {
    let members =
        strict_json::object(body).map_err(|message| GatewayError::BadRequest { field: None, message })?;
    let mut chat = ChatRequest::new(body.clone());
    chat.streamed = default_stream;
    chat.members =
        members.into_iter().map(|(name, span)| Member { name, value: MemberValue::Received(span) }).collect();
    let fields = Fields::of(&chat)?;
    fields.fill(&mut chat);
    Ok(chat)
}

/// The text of the member `name`, where it is given and not null.
pub(super) fn given<'a>(chat: &'a ChatRequest, name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(chat.value_text(chat.member(name)?)).ok()?;
    (text != "null").then_some(text)
}

/// Adds a member that the client left out.
pub(super) fn add_default(chat: &mut ChatRequest, name: &str, value: &str) {
    chat.members.retain(|member| member.name != name);
    chat.members.push(Member { name: name.to_owned(), value: MemberValue::Added(value.to_owned()) });
}

/// Reads the member `name` as a `T`.
///
/// # Errors
/// 400 that says what is `expected`.
pub(super) fn parse<T: DeserializeOwned>(
    chat: &ChatRequest,
    name: &str,
    expected: &str,
) -> Result<Option<T>, GatewayError> {
    let Some(text) = given(chat, name) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|_| wrong(name, expected, text))
}

/// How much of a wrong value is shown to the client.
const SHOWN_MAX_CHARS: usize = 40;

/// The error for a field whose value is not what it should be.
pub(super) fn wrong(field: &str, expected: &str, got: &str) -> GatewayError {
    let mut shown: String = got.chars().take(SHOWN_MAX_CHARS).collect();
    if shown.len() < got.len() {
        shown.push('…');
    }
    GatewayError::bad_field(field, format!("{field} must be {expected}, got {shown}"))
}

/// What the members say, read before the request is changed by it.
struct Fields {
    streamed: Option<bool>,
    wants_stream_usage: bool,
    needs_tools: bool,
    needs_json_schema: bool,
    input: Input,
    tools_tokens: u64,
    choice_cap: Option<u64>,
    answers: u64,
}

impl Fields {
    fn of(chat: &ChatRequest) -> Result<Self, GatewayError> {
        within(chat, "temperature", 0.0, 2.0)?;
        within(chat, "top_p", 0.0, 1.0)?;
        let (tools, functions) = (list(chat, "tools")?, list(chat, "functions")?);
        Ok(Self {
            streamed: parse(chat, "stream", "true or false")?,
            wants_stream_usage: wants_stream_usage(chat)?,
            needs_tools: tools.is_some() || functions.is_some(),
            needs_json_schema: needs_json_schema(chat)?,
            input: messages(chat)?,
            tools_tokens: [tools, functions].into_iter().flatten().map(input_tokens).sum(),
            choice_cap: choice_cap(chat)?,
            answers: positive(chat, "n", &format!("a whole number from 1 to {N_MAX}"), N_MAX)?.unwrap_or(1),
        })
    }

    fn fill(self, chat: &mut ChatRequest) {
        chat.streamed = self.streamed.unwrap_or(chat.streamed);
        chat.wants_stream_usage = self.wants_stream_usage;
        chat.needs.tools = self.needs_tools;
        chat.needs.vision = self.input.has_images;
        chat.needs.json_schema = self.needs_json_schema;
        chat.input_tokens = self.input.tokens.saturating_add(self.tools_tokens);
        chat.choice_cap = self.choice_cap;
        chat.output_cap = self.choice_cap.map(|cap| cap.saturating_mul(self.answers));
    }
}

fn within(chat: &ChatRequest, name: &str, least: f64, most: f64) -> Result<(), GatewayError> {
    let expected = format!("a number from {least:.1} to {most:.1}");
    match parse::<f64>(chat, name, &expected)? {
        Some(value) if !(least..=most).contains(&value) => {
            Err(wrong(name, &expected, given(chat, name).unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// The text of a list that is not empty.
fn list<'a>(chat: &'a ChatRequest, name: &str) -> Result<Option<&'a str>, GatewayError> {
    let items: Option<Vec<IgnoredAny>> = parse(chat, name, "an array")?;
    Ok(items.filter(|items| !items.is_empty()).and_then(|_| given(chat, name)))
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

fn wants_stream_usage(chat: &ChatRequest) -> Result<bool, GatewayError> {
    let options: Option<StreamOptions> =
        parse(chat, "stream_options", "an object like {\"include_usage\": true}")?;
    Ok(options.and_then(|options| options.include_usage).unwrap_or(false))
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: String,
}

fn needs_json_schema(chat: &ChatRequest) -> Result<bool, GatewayError> {
    let format: Option<ResponseFormat> = parse(chat, "response_format", "an object with a `type`")?;
    Ok(format.is_some_and(|format| format.r#type == "json_schema"))
}

/// The largest of all cap fields.
fn choice_cap(chat: &ChatRequest) -> Result<Option<u64>, GatewayError> {
    let expected = "a whole number of at least 1";
    let caps = [
        positive(chat, "max_tokens", expected, u64::MAX)?,
        positive(chat, "max_completion_tokens", expected, u64::MAX)?,
    ];
    Ok(caps.into_iter().flatten().max())
}

fn positive(chat: &ChatRequest, name: &str, expected: &str, most: u64) -> Result<Option<u64>, GatewayError> {
    match parse::<u64>(chat, name, expected)? {
        Some(value) if value == 0 || value > most => {
            Err(wrong(name, expected, given(chat, name).unwrap_or_default()))
        }
        value => Ok(value),
    }
}

/// What the messages hold, added up.
#[derive(Default)]
struct Input {
    tokens: u64,
    has_images: bool,
}

fn messages(chat: &ChatRequest) -> Result<Input, GatewayError> {
    let Some(text) = given(chat, "messages") else {
        return Err(GatewayError::bad_field(
            "messages",
            "messages is required: an array of {role, content} objects",
        ));
    };
    let messages: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|_| wrong("messages", "an array of {role, content} objects", text))?;
    if messages.is_empty() {
        return Err(GatewayError::bad_field("messages", "messages must hold at least one message"));
    }
    let mut input = Input::default();
    for (position, message) in messages.into_iter().enumerate() {
        input.add_message(&format!("messages[{position}]"), message)?;
    }
    Ok(input)
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl Input {
    fn add_message(&mut self, at: &str, raw: &RawValue) -> Result<(), GatewayError> {
        let message: Message<'_> = serde_json::from_str(raw.get())
            .map_err(|_| wrong(at, "an object with a role and a content", raw.get()))?;
        check_role(at, message.role)?;
        self.tokens = self.tokens.saturating_add(MESSAGE_OVERHEAD_TOKENS);
        let calls = [message.tool_calls, message.function_call];
        for call in calls.into_iter().flatten() {
            self.add_text(call.get());
        }
        match message.content {
            Some(content) => self.add_content(&format!("{at}.content"), content),
            None if calls.iter().any(Option::is_some) => Ok(()),
            None => Err(GatewayError::bad_field(
                format!("{at}.content"),
                format!("{at}.content is required: a string or an array of parts"),
            )),
        }
    }

    fn add_content(&mut self, at: &str, raw: &RawValue) -> Result<(), GatewayError> {
        if raw.get().starts_with('"') {
            let text: Text<'_> =
                serde_json::from_str(raw.get()).map_err(|_| wrong(at, "a string", raw.get()))?;
            self.add_text(&text.0);
            return Ok(());
        }
        let parts: Vec<Part<'_>> = serde_json::from_str(raw.get())
            .map_err(|_| wrong(at, "a string or an array of parts with a `type`", raw.get()))?;
        for part in parts {
            match part.text {
                Some(text) => self.add_text(&text),
                None => self.tokens = self.tokens.saturating_add(IMAGE_TOKENS),
            }
            self.has_images |= part.r#type == "image_url";
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str) {
        self.tokens = self.tokens.saturating_add(input_tokens(text));
    }
}

/// A string, borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn check_role(at: &str, role: Option<&RawValue>) -> Result<(), GatewayError> {
    let field = format!("{at}.role");
    let expected = format!("one of {}", ROLES.join(", "));
    let Some(raw) = role else {
        return Err(GatewayError::bad_field(&*field, format!("{field} is required: {expected}")));
    };
    let known = serde_json::from_str::<String>(raw.get()).is_ok_and(|role| ROLES.contains(&role.as_str()));
    if known { Ok(()) } else { Err(wrong(&field, &expected, raw.get())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str) -> (Option<String>, String) {
        match read(&Bytes::copy_from_slice(body.as_bytes()), true).unwrap_err() {
            GatewayError::BadRequest { field, message } => (field, message),
            other => panic!("expected a bad request, got {other:?}"),
        }
    }

    fn with(extra: &str) -> String {
        format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{extra}}}"#)
    }

    #[test]
    fn every_wrong_field_is_named() {
        let cases = [
            ("{}".to_owned(), "messages"),
            (r#"{"messages":[]}"#.to_owned(), "messages"),
            (r#"{"messages":"hi"}"#.to_owned(), "messages"),
            (r#"{"messages":[1]}"#.to_owned(), "messages[0]"),
            (r#"{"messages":[{"content":"x"}]}"#.to_owned(), "messages[0].role"),
            (r#"{"messages":[{"role":"robot","content":"x"}]}"#.to_owned(), "messages[0].role"),
            (r#"{"messages":[{"role":"user"}]}"#.to_owned(), "messages[0].content"),
            (r#"{"messages":[{"role":"user","content":3}]}"#.to_owned(), "messages[0].content"),
            (with(r#","temperature":3"#), "temperature"),
            (with(r#","temperature":"hot""#), "temperature"),
            (with(r#","top_p":-1"#), "top_p"),
            (with(r#","max_tokens":0"#), "max_tokens"),
            (with(r#","max_tokens":1.5"#), "max_tokens"),
            (with(r#","max_tokens":-1"#), "max_tokens"),
            (with(r#","n":0"#), "n"),
            (with(r#","stream":"yes""#), "stream"),
            (with(r#","tools":{}"#), "tools"),
            (with(r#","stream_options":true"#), "stream_options"),
        ];
        for (body, field) in cases {
            let (named, message) = error(&body);
            assert_eq!(named.as_deref(), Some(field), "{body}");
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn a_wrong_value_is_shown_shortened() {
        let (_, message) = error(&with(&format!(r#","temperature":"{}""#, "x".repeat(1_000))));
        assert!(message.len() < 200, "{message}");
    }

    #[test]
    fn the_cap_is_the_largest_and_times_n_for_quotas() {
        let body = with(r#","max_tokens":10,"max_completion_tokens":20,"n":3"#);
        let chat = read(&Bytes::from(body), true).unwrap();
        assert_eq!((chat.choice_cap, chat.output_cap), (Some(20), Some(60)));
    }

    #[test]
    fn what_a_request_needs_is_seen() {
        let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"what is this?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}],
            "tools":[{"type":"function"}],"response_format":{"type":"json_schema"},"stream":false,
            "stream_options":{"include_usage":true}}"#;
        let chat = read(&Bytes::from_static(body.as_bytes()), true).unwrap();
        assert!(chat.needs.tools && chat.needs.vision && chat.needs.json_schema);
        assert!(!chat.streamed && chat.wants_stream_usage);
        assert!(chat.input_tokens > IMAGE_TOKENS);
    }

    #[test]
    fn nulls_are_absent() {
        let chat =
            read(&Bytes::from(with(r#","temperature":null,"max_tokens":null,"tools":null"#)), true).unwrap();
        assert_eq!(chat.output_cap, None);
        assert!(!chat.needs.tools);
    }
}
