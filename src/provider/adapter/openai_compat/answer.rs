//! What comes back: a whole answer or the events of a stream, understood as far as the gateway acts on them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::reported;
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::usage::Usage;
use crate::provider::adapter::{Chunk, StreamError, Tokens};
use crate::quota::estimate::input_tokens;

/// Checks a whole answer and reads its usage, or counts its texts where it tells none.
pub(super) fn check_whole(body: &[u8]) -> Result<Tokens, UpstreamFailure> {
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
            Ok(completion.usage.and_then(usage).map_or_else(counted, Tokens::Reported))
        }
        _ => Err(UpstreamFailure::new(FailureKind::Protocol, "the answer has no choices")),
    }
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
        self.finish_reason.is_some_and(|raw| raw.get().starts_with('"') && raw.get() != "\"\"")
    }
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
        assert_eq!(check_whole(body), Ok(Tokens::Reported(reported)));
    }

    #[test]
    fn an_answer_that_tells_no_usage_is_counted() {
        let cases = [
            (r#""content":"x""#, 1),
            (r#""role":"assistant","content":null"#, 0),
            (r#""content":"and then\nthe cat""#, 5),
            (r#""content":"x","reasoning_content":"and then""#, 3),
            (r#""content":null,"tool_calls":[{"id":"a"}]"#, input_tokens(r#"[{"id":"a"}]"#)),
            (r#""content":[{"text":"a"}]"#, input_tokens(r#"[{"text":"a"}]"#)),
        ];
        for (message, output_tokens) in cases {
            let body = format!(r#"{{"choices":[{{"message":{{{message}}}}}],"usage":null,"error":null}}"#);
            assert_eq!(check_whole(body.as_bytes()), Ok(Tokens::Counted { output_tokens }), "{message}");
        }
        let two = br#"{"choices":[{"message":{"content":"x"}},{"message":{"content":"y"}}]}"#;
        assert_eq!(check_whole(two), Ok(Tokens::Counted { output_tokens: 2 }));
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
