//! The fields of a chat that the gateway understands; all others pass through.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

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

/// Members of which no model reads anything, or that are counted by their parts.
const NOT_INPUT: [&str; 3] = ["messages", "stream_options", "metadata"];

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
    choice_cap: Option<u64>,
    choices: u64,
}

impl Fields {
    fn of(chat: &ChatRequest) -> Result<Self, GatewayError> {
        within(chat, "temperature", 0.0..=2.0, "a number from 0.0 to 2.0")?;
        within(chat, "top_p", 0.0..=1.0, "a number from 0.0 to 1.0")?;
        let mut input = messages(chat)?;
        input.add_others(chat);
        Ok(Self {
            streamed: parse(chat, "stream", "true or false")?,
            wants_stream_usage: wants_stream_usage(chat)?,
            needs_tools: has_items(chat, "tools")? || has_items(chat, "functions")?,
            needs_json_schema: needs_json_schema(chat)?,
            input,
            choice_cap: choice_cap(chat)?,
            choices: positive(chat, "n", "a whole number from 1 to 128", N_MAX)?.unwrap_or(1),
        })
    }

    fn fill(self, chat: &mut ChatRequest) {
        chat.streamed = self.streamed.unwrap_or(chat.streamed);
        chat.wants_stream_usage = self.wants_stream_usage;
        chat.needs.tools = self.needs_tools;
        chat.needs.vision = self.input.has_images;
        chat.needs.json_schema = self.needs_json_schema;
        chat.input_tokens = self.input.tokens;
        chat.choice_cap = self.choice_cap;
        chat.choices = self.choices;
    }
}

fn within(
    chat: &ChatRequest,
    name: &str,
    range: RangeInclusive<f64>,
    expected: &str,
) -> Result<(), GatewayError> {
    match parse::<f64>(chat, name, expected)? {
        Some(value) if !range.contains(&value) => {
            Err(wrong(name, expected, given(chat, name).unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// Whether the member `name` is a list that is not empty.
fn has_items(chat: &ChatRequest, name: &str) -> Result<bool, GatewayError> {
    let items: Option<Vec<IgnoredAny>> = parse(chat, name, "an array")?;
    Ok(items.is_some_and(|items| !items.is_empty()))
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
        input.add_message(Place(position), message)?;
    }
    Ok(input)
}

impl Input {
    /// Upstreams put more than the messages before the model: tools, schemas, and whatever a field of tomorrow
    /// holds. What is an object or a list may be a text of any length.
    fn add_others(&mut self, chat: &ChatRequest) {
        let others = chat.members.iter().filter(|member| !NOT_INPUT.contains(&member.name.as_str()));
        for text in others.filter_map(|member| std::str::from_utf8(chat.value_text(member)).ok()) {
            if text.starts_with(['{', '[']) {
                self.add_text(text);
            }
        }
    }

    fn add_message(&mut self, at: Place, raw: &RawValue) -> Result<(), GatewayError> {
        let Some(members) = strict_json::members(raw.get()) else {
            return Err(wrong(&at.to_string(), "an object with a role and a content", raw.get()));
        };
        let given = |wanted: &str| find(&members, wanted).filter(|value| *value != "null");
        check_role(at, given("role"))?;
        self.tokens = self.tokens.saturating_add(MESSAGE_OVERHEAD_TOKENS);
        self.add_all_but(&members, &["role", "content"]);
        match given("content") {
            Some(content) => self.add_content(at, content),
            None if given("tool_calls").or(given("function_call")).is_some() => Ok(()),
            None => Err(GatewayError::bad_field(
                format!("{at}.content"),
                format!("{at}.content is required: a string or an array of parts"),
            )),
        }
    }

    fn add_content(&mut self, at: Place, raw: &str) -> Result<(), GatewayError> {
        if let Some(text) = string(raw) {
            self.add_text(&text);
            return Ok(());
        }
        let expected = || wrong(&format!("{at}.content"), "a string or an array of parts with a `type`", raw);
        let parts: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| expected())?;
        parts.into_iter().try_for_each(|part| self.add_part(part.get()).ok_or_else(expected))
    }

    /// `None` for what is no part.
    fn add_part(&mut self, raw: &str) -> Option<()> {
        let members = strict_json::members(raw)?;
        match string(find(&members, "type")?)?.as_ref() {
            "text" => {
                if let Some(text) = find(&members, "text").filter(|text| *text != "null") {
                    self.add_text(&string(text)?);
                }
                self.add_all_but(&members, &["type", "text"]);
            }
            "image_url" => {
                self.has_images = true;
                self.tokens = self.tokens.saturating_add(IMAGE_TOKENS);
                self.add_all_but(&members, &["type", "image_url"]);
            }
            // A file, a sound, a thing of tomorrow: it may be read as it stands.
            _ => self.add_text(raw),
        }
        Some(())
    }

    fn add_all_but(&mut self, members: &[(Cow<'_, str>, &str)], known: &[&str]) {
        for (_, value) in members.iter().filter(|(name, value)| !known.contains(&&**name) && *value != "null")
        {
            self.add_text(value);
        }
    }

    fn add_text(&mut self, text: &str) {
        self.tokens = self.tokens.saturating_add(input_tokens(text));
    }
}

fn find<'a>(members: &[(Cow<'_, str>, &'a str)], wanted: &str) -> Option<&'a str> {
    members.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
}

/// The text of a JSON string, borrowed where it holds no escapes; `None` for any other value.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    /// The field borrows; a bare `Cow` would always copy.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0)
}

/// Where a message stands, put into words only for an error.
#[derive(Clone, Copy)]
struct Place(usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages[{}]", self.0)
    }
}

fn check_role(at: Place, role: Option<&str>) -> Result<(), GatewayError> {
    if role.and_then(string).is_some_and(|role| ROLES.contains(&role.as_ref())) {
        return Ok(());
    }
    let (field, expected) = (format!("{at}.role"), format!("one of {}", ROLES.join(", ")));
    Err(match role {
        Some(raw) => wrong(&field, &expected, raw),
        None => GatewayError::bad_field(&*field, format!("{field} is required: {expected}")),
    })
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
            (r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#.to_owned(), "messages[0].content"),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":3}]}]}"#.to_owned(),
                "messages[0].content",
            ),
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
        assert_eq!((chat.choice_cap, chat.choices), (Some(20), 3));
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

    fn tokens(body: &str) -> u64 {
        read(&Bytes::copy_from_slice(body.as_bytes()), true).unwrap().input_tokens
    }

    #[test]
    fn what_is_not_understood_is_counted_as_it_stands() {
        let text = "and then the cat sat down on the mat ".repeat(100);
        let message = |member: &str| format!(r#"{{"messages":[{{"role":"user","content":"hi",{member}}}]}}"#);
        let part = |part: &str| format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
        let hidden = [
            message(&format!(r#""reasoning_content":"{text}""#)),
            message(&format!(r#""name":"{text}""#)),
            message(&format!(r#""refusal":"{text}""#)),
            message(&format!(r#""audio":{{"id":"{text}"}}"#)),
            message(&format!(r#""tool_calls":[{{"function":{{"arguments":"{text}"}}}}]"#)),
            part(&format!(r#"{{"type":"file","file":{{"file_data":"{text}"}}}}"#)),
            part(&format!(r#"{{"type":"input_audio","input_audio":{{"data":"{text}"}}}}"#)),
            part(&format!(r#"{{"type":"text","text":"hi","more":"{text}"}}"#)),
            part(&format!(r#"{{"type":"image_url","image_url":{{"url":"x"}},"text":"{text}"}}"#)),
            with(&format!(r#","response_format":{{"type":"json_schema","json_schema":{{"d":"{text}"}}}}"#)),
            with(&format!(r#","prediction":{{"content":"{text}"}}"#)),
            with(&format!(r#","documents":["{text}"]"#)),
            with(&format!(r#","tools":[{{"description":"{text}"}}]"#)),
        ];
        for body in hidden {
            assert!(tokens(&body) >= 900, "{} tokens: {}", tokens(&body), &body[..80]);
        }
    }

    #[test]
    fn what_no_model_reads_costs_nothing() {
        let bare = tokens(&with(""));
        for extra in
            [r#","stream_options":{"include_usage":true}"#, r#","metadata":{"a":"b"}"#, r#","user":"u""#]
        {
            assert_eq!(tokens(&with(extra)), bare, "{extra}");
        }
        let nulls = r#"{"messages":[{"role":"user","content":"hi","name":null,"tool_calls":null}]}"#;
        assert_eq!(tokens(nulls), bare);
    }

    #[test]
    fn an_image_has_one_price_whatever_its_size() {
        let image = |data: &str| {
            let url =
                format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#);
            tokens(&format!(r#"{{"messages":[{{"role":"user","content":[{url}]}}]}}"#))
        };
        assert_eq!(image("AAAA"), MESSAGE_OVERHEAD_TOKENS + IMAGE_TOKENS);
        assert_eq!(image("AAAA"), image(&"A7".repeat(10_000)));
    }

    #[test]
    fn nulls_are_absent() {
        let chat =
            read(&Bytes::from(with(r#","temperature":null,"max_tokens":null,"tools":null"#)), true).unwrap();
        assert_eq!(chat.choice_cap, None);
        assert!(!chat.needs.tools);
    }
}
