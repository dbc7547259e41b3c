//! What comes back: a whole answer or the events of a stream, understood as far as the gateway acts on them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::{reported, reported_flat};
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::usage::Usage;
use crate::provider::adapter::{Chunk, Ending, Said, StreamError, Tokens, Whole};
use crate::quota::estimate::input_tokens;

/// Checks a whole answer, reads its usage, or counts its texts where it tells none, and says whether it says anything.
pub(super) fn check_whole(body: &[u8]) -> Result<Whole, UpstreamFailure> {
    // The parser passes over texts that nobody asks for without looking at their bytes.
    let text = std::str::from_utf8(body)
        .map_err(|_| UpstreamFailure::new(FailureKind::Protocol, "the answer is not UTF-8"))?;
    // The parser's own words may quote the answer, and this goes into the log.
    let completion: CompletionView<'_> = serde_json::from_str(text)
        .map_err(|_| UpstreamFailure::new(FailureKind::Protocol, "the answer is not a chat completion"))?;
    if let Some(error) = completion.error {
        return Err(reported(error));
    }
    match completion.choices {
        Some(choices) if choices.iter().any(|choice| choice.message.is_some()) => {
            let messages = choices.iter().filter_map(|choice| choice.message);
            let counted = || Tokens::Counted { output_tokens: messages.map(message_tokens).sum() };
            let tokens = completion.usage.and_then(usage).map_or_else(counted, Tokens::Reported);
            Ok(Whole { tokens, said: said_by(&choices) })
        }
        _ => {
            let nothing = || UpstreamFailure::new(FailureKind::Protocol, "the answer has no choices");
            Err(reported_flat(body).unwrap_or_else(nothing))
        }
    }
}

/// Of several choices the first one's end stands for all.
fn said_by(choices: &[WholeChoiceView<'_>]) -> Said {
    if choices.iter().filter_map(|choice| choice.message).any(message_says) {
        return Said::Something;
    }
    Said::EndsWithNothing(
        choices.first().and_then(|choice| choice.finish_reason).map_or(Ending::Other, ending),
    )
}

/// Whether a message has content, a tool call or a refusal. One of another shape does.
fn message_says(raw: &RawValue) -> bool {
    has_content(raw.get().as_bytes())
        || serde_json::from_str::<SayingView<'_>>(raw.get()).map_or(true, |view| {
            let said = [view.content, view.tool_calls, view.function_call, view.refusal, view.audio];
            said.into_iter().flatten().any(is_something)
        })
}

/// In a text the quotes would be escaped.
static CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"content\":"));

/// The common case without reading the message: content that is a text, and not an empty one.
fn has_content(message: &[u8]) -> bool {
    let Some(position) = CONTENT.find(message) else { return false };
    let value = message.get(position + CONTENT.needle().len()..).unwrap_or_default().trim_ascii_start();
    matches!(value, [b'"', first, ..] if *first != b'"')
}

/// Anything but null and what is empty.
fn is_something(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "\"\"" | "[]" | "{}" | "false")
}

fn ending(finish_reason: &RawValue) -> Ending {
    match finish_reason.get() {
        "\"length\"" | "\"model_length\"" => Ending::Length,
        "\"content_filter\"" => Ending::Filtered,
        _ => Ending::Other,
    }
}

/// Whether the data of one event says anything. Reasoning does: who streams it has begun to answer.
pub(super) fn said(data: &[u8]) -> Said {
    // What cannot be read is not held back.
    let Ok(view) = serde_json::from_slice::<OpeningView<'_>>(data) else { return Said::Something };
    let choices = view.choices.unwrap_or_default();
    let says = |choice: &DeltaChoiceView<'_>| choice.delta.as_ref().is_some_and(delta_says);
    if choices.iter().any(says) {
        return Said::Something;
    }
    let ends = choices.iter().find_map(|choice| choice.finish_reason.filter(|raw| is_reason(raw)));
    ends.map_or(Said::Nothing, |reason| Said::EndsWithNothing(ending(reason)))
}

/// Anything but a role and what is empty, under whatever name.
fn delta_says(delta: &HashMap<Cow<'_, str>, &RawValue>) -> bool {
    delta.iter().any(|(name, value)| name != "role" && is_something(value))
}

/// The upper edge of what a model has written into one message. A message of another shape counts as it stands.
fn message_tokens(raw: &RawValue) -> u64 {
    let Ok(message) = serde_json::from_str::<MessageView<'_>>(raw.get()) else {
        return input_tokens(raw.get());
    };
    let written = [message.content, message.reasoning_content, message.reasoning, message.tool_calls];
    written.into_iter().flatten().map(text_tokens).sum()
}

/// Of a string its text, of anything else its JSON.
fn text_tokens(raw: &RawValue) -> u64 {
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => input_tokens(&text),
        Err(_) => input_tokens(raw.get()),
    }
}

/// Reads the data of one event.
pub(super) fn read_chunk(data: &[u8]) -> Result<Chunk, StreamError> {
    // The parser passes over texts that nobody asks for without looking at their bytes.
    let text = std::str::from_utf8(data).map_err(|_| StreamError::NotText)?;
    let view: ChunkView<'_> = serde_json::from_str(text).map_err(|_| StreamError::Malformed)?;
    if let Some(error) = view.error {
        return Err(StreamError::Reported(reported(error)));
    }
    if view.choices.is_none()
        && let Some(failure) = reported_flat(data)
    {
        return Err(StreamError::Reported(failure));
    }
    let mut chunk = Chunk {
        usage: view.usage.or(view.x_groq.and_then(|extension| extension.usage)).and_then(usage),
        ..Chunk::default()
    };
    for choice in view.choices.unwrap_or_default() {
        let index = choice.index();
        chunk.seen.insert(index);
        if choice.is_finished() {
            chunk.finished.insert(index);
        }
    }
    Ok(chunk)
}

/// Usage that cannot be read is no usage: it does not spoil the answer that it comes with.
fn usage(raw: &RawValue) -> Option<Usage> {
    let view: UsageView = serde_json::from_str(raw.get()).ok()?;
    match (view.prompt_tokens, view.completion_tokens) {
        // An object of other units, as AI Horde sends it, says nothing of tokens.
        (None, None) => None,
        (input, output) => {
            Some(Usage { input_tokens: input.unwrap_or(0), output_tokens: output.unwrap_or(0) })
        }
    }
}

#[derive(Deserialize)]
struct UsageView {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionView<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<WholeChoiceView<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WholeChoiceView<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

/// What a client takes for an answer.
#[derive(Deserialize)]
struct SayingView<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
}

/// An event as it is read until the first that says something.
#[derive(Deserialize)]
struct OpeningView<'a> {
    #[serde(borrow)]
    choices: Option<Vec<DeltaChoiceView<'a>>>,
}

#[derive(Deserialize)]
struct DeltaChoiceView<'a> {
    #[serde(borrow)]
    delta: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

/// What a model writes. Reasoning has a name of its own at each server that shows it, and is charged as output.
#[derive(Deserialize)]
struct MessageView<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkView<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<ChoiceView<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    x_groq: Option<ExtensionView<'a>>,
}

#[derive(Deserialize)]
struct ChoiceView<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

impl ChoiceView<'_> {
    /// An answer of one choice may leave its index out; one that makes no sense does not spoil the chunk.
    fn index(&self) -> u64 {
        self.index.and_then(|raw| raw.get().parse().ok()).unwrap_or(0)
    }

    /// Some servers put an empty reason into every chunk: only words are a reason.
    fn is_finished(&self) -> bool {
        self.finish_reason.is_some_and(is_reason)
    }
}

fn is_reason(raw: &RawValue) -> bool {
    raw.get().starts_with('"') && raw.get() != "\"\""
}

/// Groq reports usage in an extension of its own.
#[derive(Deserialize)]
struct ExtensionView<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::adapter::ChoiceSet;

    fn set(indices: &[u64]) -> ChoiceSet {
        let mut set = ChoiceSet::default();
        indices.iter().for_each(|index| set.insert(*index));
        set
    }

    #[test]
    fn a_whole_answer_gives_its_usage() {
        let body =
            br#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        let reported = Usage { input_tokens: 3, output_tokens: 4 };
        assert_eq!(
            check_whole(body),
            Ok(Whole { tokens: Tokens::Reported(reported), said: Said::Something })
        );
    }

    #[test]
    fn an_answer_that_tells_no_usage_is_counted() {
        let cases = [
            (r#""content":"x""#, input_tokens("x")),
            (r#""role":"assistant","content":null"#, 0),
            (r#""content":"and then\nthe cat""#, input_tokens("and then\nthe cat")),
            (r#""content":"x","reasoning_content":"and then""#, input_tokens("x") + input_tokens("and then")),
            (r#""content":null,"tool_calls":[{"id":"a"}]"#, input_tokens(r#"[{"id":"a"}]"#)),
            (r#""content":[{"text":"a"}]"#, input_tokens(r#"[{"text":"a"}]"#)),
        ];
        for (message, output_tokens) in cases {
            let body = format!(r#"{{"choices":[{{"message":{{{message}}}}}],"usage":null,"error":null}}"#);
            let whole = check_whole(body.as_bytes()).unwrap();
            assert_eq!(whole.tokens, Tokens::Counted { output_tokens }, "{message}");
        }
        let two = br#"{"choices":[{"message":{"content":"x"}},{"message":{"content":"y"}}]}"#;
        let output_tokens = input_tokens("x") + input_tokens("y");
        assert_eq!(check_whole(two).unwrap().tokens, Tokens::Counted { output_tokens });
    }

    #[test]
    fn an_answer_without_a_word_is_seen() {
        let other = Said::EndsWithNothing(Ending::Other);
        let length = Said::EndsWithNothing(Ending::Length);
        let cases = [
            (r#"{"message":{"content":"x"},"finish_reason":"stop"}"#, Said::Something),
            (r#"{"message":{"content": "x"}}"#, Said::Something),
            (r#"{"message":{"content":[{"text":"x"}]}}"#, Said::Something),
            (r#"{"message":{"content":null,"tool_calls":[{"id":"a"}]}}"#, Said::Something),
            (r#"{"message":{"content":"","refusal":"no"}}"#, Said::Something),
            (r#"{"message":"another shape"}"#, Said::Something),
            (r#"{"message":{"content":""},"finish_reason":"stop"}"#, other),
            (r#"{"message":{"content":null,"tool_calls":[]}}"#, other),
            (r#"{"message":{"role":"assistant"},"finish_reason":null}"#, other),
            (r#"{"message":{"content":"","reasoning_content":"hm"},"finish_reason":"length"}"#, length),
            (
                r#"{"message":{"content":""},"finish_reason":"content_filter"}"#,
                Said::EndsWithNothing(Ending::Filtered),
            ),
            (r#"{"message":{"content":""}},{"message":{"content":"x"}}"#, Said::Something),
        ];
        for (choices, said) in cases {
            let body = format!(r#"{{"choices":[{choices}]}}"#);
            assert_eq!(check_whole(body.as_bytes()).unwrap().said, said, "{choices}");
        }
    }

    #[test]
    fn an_event_without_a_word_is_seen() {
        let cases = [
            (r#"{"delta":{"content":"x"}}"#, Said::Something),
            (r#"{"delta":{"reasoning":"hm"}}"#, Said::Something),
            (r#"{"delta":{"tool_calls":[{}]},"finish_reason":"tool_calls"}"#, Said::Something),
            (r#"{"delta":{"role":"assistant","content":""},"finish_reason":null}"#, Said::Nothing),
            (
                r#"{"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":""}"#,
                Said::Nothing,
            ),
            (r#"{"delta":{}}"#, Said::Nothing),
            ("", Said::Nothing),
            (r#"{"delta":{},"finish_reason":"stop"}"#, Said::EndsWithNothing(Ending::Other)),
            (r#"{"finish_reason":"length"}"#, Said::EndsWithNothing(Ending::Length)),
            (r#"{"delta":[7]}"#, Said::Something),
        ];
        for (choice, expected) in cases {
            assert_eq!(said(format!(r#"{{"choices":[{choice}]}}"#).as_bytes()), expected, "{choice}");
        }
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        let cases = [
            (&b"<html>busy</html>"[..], FailureKind::Protocol),
            (b"{\"choices\":[", FailureKind::Protocol),
            (b"[]", FailureKind::Protocol),
            (b"{}", FailureKind::Protocol),
            (b"{\"choices\":[]}", FailureKind::Protocol),
            (br#"{"choices":[{"text":"completions, not chat"}]}"#, FailureKind::Protocol),
            (br#"{"error":{"code":429,"message":"slow down"}}"#, FailureKind::RateLimited),
            (br#"{"error":{"code":"x","message":"broken"}}"#, FailureKind::Upstream),
            (br#"{"error":"broken"}"#, FailureKind::Upstream),
        ];
        for (body, kind) in cases {
            assert_eq!(check_whole(body).unwrap_err().kind, kind, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn chunks_are_read() {
        let delta = br#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}"#;
        assert_eq!(read_chunk(delta), Ok(Chunk { seen: set(&[0]), ..Chunk::default() }));
        let finish = br#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        assert_eq!(read_chunk(finish), Ok(Chunk { seen: set(&[0]), finished: set(&[0]), usage: None }));
        let two = br#"{"choices":[{"index":0,"finish_reason":null},{"index":2,"finish_reason":"length"}]}"#;
        assert_eq!(read_chunk(two), Ok(Chunk { seen: set(&[0, 2]), finished: set(&[2]), usage: None }));
        let usage = br#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
        let expected = Some(Usage { input_tokens: 1, output_tokens: 2 });
        assert_eq!(read_chunk(usage), Ok(Chunk { usage: expected, ..Chunk::default() }));
        let groq = br#"{"choices":[],"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}"#;
        assert_eq!(read_chunk(groq), Ok(Chunk { usage: expected, ..Chunk::default() }));
    }

    #[test]
    fn only_words_are_a_reason_to_end() {
        for reason in ["null", "\"\"", "false", "{}", "0"] {
            let data = format!(r#"{{"choices":[{{"index":0,"finish_reason":{reason}}}]}}"#);
            let chunk = read_chunk(data.as_bytes()).unwrap();
            assert_eq!((chunk.seen, chunk.finished), (set(&[0]), set(&[])), "{reason}");
        }
    }

    #[test]
    fn an_index_that_makes_no_sense_is_the_first() {
        for index in ["null", "-1", "\"1\"", "1.5", "{}"] {
            let data = format!(r#"{{"choices":[{{"index":{index},"delta":{{}}}}]}}"#);
            assert_eq!(read_chunk(data.as_bytes()).unwrap().seen, set(&[0]), "{index}");
        }
    }

    #[test]
    fn usage_that_makes_no_sense_does_not_spoil_a_chunk() {
        for usage in ["{\"prompt_tokens\":-1}", "7", "\"many\"", "[]", "{}", "{\"kudos\":3}"] {
            let data = format!(r#"{{"choices":[{{"delta":{{}}}}],"usage":{usage}}}"#);
            assert!(read_chunk(data.as_bytes()).is_ok_and(|chunk| chunk.usage.is_none()), "{usage}");
        }
    }

    #[test]
    fn an_error_event_is_reported() {
        let Err(StreamError::Reported(failure)) =
            read_chunk(br#"{"error":{"code":503,"message":"overloaded"}}"#)
        else {
            panic!("expected a report")
        };
        assert_eq!((failure.kind, failure.status), (FailureKind::Upstream, Some(503)));
        assert_eq!(read_chunk(b"not json"), Err(StreamError::Malformed));
    }
}
