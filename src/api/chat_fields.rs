//! The fields of a chat that the gateway understands; all others pass through.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use bytes::Bytes;
use bytestring::ByteString;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::chat_messages::{self, Input, Unreadable};
use super::strict_json;
use crate::domain::chat::{ChatRequest, Member};
use crate::error::GatewayError;

/// The most answers to one request. OpenAI's own bound (its API reference, 2026-11).
const N_MAX: u64 = 128;

/// Members of which no model reads anything, or that are counted by their parts.
const NOT_INPUT: [&str; 3] = [MESSAGES, "stream_options", "metadata"];

const MESSAGES: &str = "messages";

/// Reads what both surfaces have in common. `stream` is `default_stream` where it is not given.
///
/// # Errors
/// 400, naming the field and what would be right.
pub(super) fn read(body: Bytes, default_stream: bool) -> Result<ChatRequest, GatewayError> {
    let body = ByteString::try_from(body)
        .map_err(|error| malformed(format!("the body is not valid UTF-8 at byte {}", error.valid_up_to())))?;
    let members = strict_json::object(&body, MESSAGES).map_err(malformed)?;
    let name = |name| match name {
        Cow::Borrowed(name) => body.slice_ref(name),
        Cow::Owned(name) => name.into(),
    };
    let member = |(key, value)| Member { name: name(key), value: body.slice_ref(value) };
    let members = members.into_iter().map(member).collect();
    let mut chat = ChatRequest::new(body);
    chat.streamed = default_stream;
    chat.members = members;
    let fields = Fields::of(&chat)?;
    fields.fill(&mut chat);
    Ok(chat)
}

fn malformed(message: String) -> GatewayError {
    GatewayError::BadRequest { field: None, message }
}

/// The text of the member `name`, where it is given and not null.
pub(super) fn given<'a>(chat: &'a ChatRequest, name: &str) -> Option<&'a str> {
    let value = &*chat.member(name)?.value;
    (value != "null").then_some(value)
}

/// Adds a member that the client left out.
pub(super) fn add_default(chat: &mut ChatRequest, name: &str, value: &str) {
    chat.members.retain(|member| member.name != name);
    chat.members.push(Member { name: name.into(), value: value.into() });
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
        add_others(&mut input, chat);
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
        chat.opening = self.input.opening.opening();
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

fn messages(chat: &ChatRequest) -> Result<Input, GatewayError> {
    let Some(text) = given(chat, MESSAGES) else {
        return Err(GatewayError::bad_field(
            MESSAGES,
            "messages is required: an array of {role, content} objects",
        ));
    };
    chat_messages::read(text).map_err(|unreadable| match (unreadable, complaint(chat)) {
        // What cannot be understood in one way only comes before what is wrong.
        (_, Some(complaint)) => malformed(complaint),
        (Unreadable::Wrong(error), None) => error,
        (Unreadable::NotStrict, None) => malformed("messages can be read in several ways".to_owned()),
    })
}

fn complaint(chat: &ChatRequest) -> Option<String> {
    strict_json::complaint(chat.body())
}

/// Upstreams put more than the messages before the model: tools, schemas, and whatever a field of tomorrow holds.
/// What is an object or a list may be a text of any length.
fn add_others(input: &mut Input, chat: &ChatRequest) {
    for Member { name, value } in &chat.members {
        if !NOT_INPUT.contains(&&**name) && value.starts_with(['{', '[']) {
            input.add_text(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::estimate::{IMAGE_TOKENS, MESSAGE_OVERHEAD_TOKENS};

    fn error(body: &str) -> (Option<String>, String) {
        match read(Bytes::copy_from_slice(body.as_bytes()), true).unwrap_err() {
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
    fn bytes_that_are_no_text_are_refused_with_their_place() {
        let refused = read(Bytes::from_static(b"{\"a\":\"\xff\"}"), true).unwrap_err();
        assert_eq!(refused.to_string(), "the body is not valid UTF-8 at byte 6");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused_before_anything_else() {
        let wrong_role = r#"{"role":"robot","content":"x"}"#;
        let deep = format!("{}{}", "[".repeat(62), "]".repeat(62));
        let cases = [
            (r#"{"role":"user","role":"system","content":"x"}"#.to_owned(), "duplicate key \"role\""),
            (r#"{"role":"user","content":"x","a":{"b":1,"\u0062":2}}"#.to_owned(), "duplicate key \"b\""),
            (
                r#"{"role":"user","content":[{"type":"text","type":"x"}]}"#.to_owned(),
                "duplicate key \"type\"",
            ),
            (r#"{"role":"user","content":{"a":1,"a":2}}"#.to_owned(), "duplicate key \"a\""),
            (r#"[{"a":1,"a":2}]"#.to_owned(), "duplicate key \"a\""),
            (r#"{"role":"\ud800","content":"x"}"#.to_owned(), "not valid JSON"),
            (r#"{"role":"user","content":"\ud800"}"#.to_owned(), "not valid JSON"),
            (r#"{"role":"user","content":"x","n":1e999}"#.to_owned(), "not valid JSON"),
            (format!(r#"{{"role":"user","content":"x","a":{deep}}}"#), "nested deeper than 64 levels"),
        ];
        for (message, expected) in cases {
            for body in [
                format!(r#"{{"messages":[{message}]}}"#),
                format!(r#"{{"messages":[{wrong_role},{message}]}}"#),
            ] {
                let (field, words) = error(&body);
                assert!(field.is_none() && words.contains(expected), "{body}: {words}");
                assert!(words.contains("at line 1 column"), "{words}");
            }
        }
    }

    #[test]
    fn a_message_may_be_as_deep_as_any_value() {
        let deep = format!("{}{}", "[".repeat(61), "]".repeat(61));
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x","a":{deep}}}]}}"#);
        assert!(read(Bytes::from(body), true).is_ok());
    }

    #[test]
    fn a_wrong_value_is_shown_shortened() {
        let (_, message) = error(&with(&format!(r#","temperature":"{}""#, "x".repeat(1_000))));
        assert!(message.len() < 200, "{message}");
    }

    #[test]
    fn the_cap_is_the_largest_and_times_n_for_quotas() {
        let body = with(r#","max_tokens":10,"max_completion_tokens":20,"n":3"#);
        let chat = read(Bytes::from(body), true).unwrap();
        assert_eq!((chat.choice_cap, chat.choices), (Some(20), 3));
    }

    #[test]
    fn what_a_request_needs_is_seen() {
        let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"what is this?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}],
            "tools":[{"type":"function"}],"response_format":{"type":"json_schema"},"stream":false,
            "stream_options":{"include_usage":true}}"#;
        let chat = read(Bytes::from_static(body.as_bytes()), true).unwrap();
        assert!(chat.needs.tools && chat.needs.vision && chat.needs.json_schema);
        assert!(!chat.streamed && chat.wants_stream_usage);
        assert_eq!(chat.input_tokens.images, 1);
    }

    fn tokens(body: &str) -> u64 {
        read(Bytes::copy_from_slice(body.as_bytes()), true)
            .unwrap()
            .input_tokens
            .with_images_at(IMAGE_TOKENS)
            .large
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
            assert!(tokens(&body) >= 800, "{} tokens: {}", tokens(&body), &body[..80]);
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
            read(Bytes::from(with(r#","temperature":null,"max_tokens":null,"tools":null"#)), true).unwrap();
        assert_eq!(chat.choice_cap, None);
        assert!(!chat.needs.tools);
    }
}
