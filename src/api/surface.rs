//! The two dialects in which clients speak to us.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem::Finder;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::strict_json;
use crate::domain::usage;

/// In a text the quotes would be escaped, so that this is found only as a whole string.
static CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""content""#));

/// Which shape answers and errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// The original API, `/api/….php`.
    Original,
    /// OpenAI's, `/v1/…`.
    OpenAi,
}

impl Surface {
    /// By what name it is counted.
    pub(super) fn counted(self) -> usage::Surface {
        match self {
            Self::Original => usage::Surface::Original,
            Self::OpenAi => usage::Surface::OpenAi,
        }
    }

    /// An event as this surface shows it. The original API's `content` is always a text: its documented client
    /// prints whatever it finds there.
    pub(super) fn event(self, event: Bytes) -> Bytes {
        match self {
            Self::OpenAi => event,
            Self::Original => with_text(event),
        }
    }
}

fn with_text(event: Bytes) -> Bytes {
    if !may_hold_null_content(&event) {
        return event;
    }
    let mut shown = BytesMut::with_capacity(event.len());
    let mut taken = 0;
    for null in null_contents(&event) {
        shown.put_slice(event.get(taken..null.start).unwrap_or_default());
        shown.put_slice(br#""""#);
        taken = null.end;
    }
    shown.put_slice(event.get(taken..).unwrap_or_default());
    shown.freeze()
}

/// Looks without reading the JSON: nearly no event goes on to [`null_contents`].
fn may_hold_null_content(event: &[u8]) -> bool {
    CONTENT.find_iter(event).any(|position| {
        let after = event.get(position + CONTENT.needle().len()..).unwrap_or_default();
        let value = after.trim_ascii_start().strip_prefix(b":").unwrap_or_default();
        value.trim_ascii_start().starts_with(b"null")
    })
}

/// Where a delta's content is null, as llama.cpp begins its streams. That of log probabilities may be null too, and
/// stays so.
fn null_contents(event: &[u8]) -> Vec<Range<usize>> {
    let Ok(text) = std::str::from_utf8(event) else { return Vec::new() };
    let chunks =
        text.lines().filter_map(|line| serde_json::from_str::<Chunk<'_>>(line.strip_prefix("data:")?).ok());
    let deltas = chunks.flat_map(|chunk| chunk.choices).filter_map(|choice| choice.delta);
    let contents = deltas.filter_map(|delta| delta.content).map(RawValue::get);
    contents.filter(|content| *content == "null").map(|content| strict_json::span(text, content)).collect()
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    content: Option<&'a RawValue>,
}

/// A value that is there, `null` too: an `Option` alone would take it for absent.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_api_has_no_null_content() {
        let event =
            Bytes::from_static(br#"data: {"choices":[{"delta":{"role":"assistant","content":null}}]}"#);
        let shown = Surface::Original.event(event.clone());
        assert_eq!(&shown[..], br#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#);
        assert_eq!(Surface::OpenAi.event(event.clone()), event);
    }

    fn shown(event: &'static str) -> Bytes {
        Surface::Original.event(Bytes::from_static(event.as_bytes()))
    }

    #[test]
    fn null_content_is_seen_in_any_spacing_and_in_every_choice() {
        let spaced = shown("data: {\"choices\": [{\"delta\": {\"content\" :\tnull}}]}\r\n\r\n");
        assert_eq!(&spaced[..], b"data: {\"choices\": [{\"delta\": {\"content\" :\t\"\"}}]}\r\n\r\n");
        let several = shown(concat!(
            r#"data: {"choices":[{"index":0,"delta":{"content":null}},{"index":1,"delta":{"content":"a"}},"#,
            r#"{"index":2,"delta":{"content":null,"role":"assistant"}}]}"#
        ));
        let expected = concat!(
            r#"data: {"choices":[{"index":0,"delta":{"content":""}},{"index":1,"delta":{"content":"a"}},"#,
            r#"{"index":2,"delta":{"content":"","role":"assistant"}}]}"#
        );
        assert_eq!(&several[..], expected.as_bytes());
    }

    #[test]
    fn the_null_content_of_log_probabilities_stays() {
        let both = shown(r#"data: {"choices":[{"logprobs":{"content":null},"delta":{"content":null}}]}"#);
        assert_eq!(&both[..], br#"data: {"choices":[{"logprobs":{"content":null},"delta":{"content":""}}]}"#);
    }

    #[test]
    fn what_has_no_null_content_is_passed_on_as_it_is() {
        let events = [
            r#"data: {"choices":[{"delta":{"content":"a"},"logprobs":null}]}"#,
            r#"data: {"choices":[{"delta":{"content":"\"content\":null"}}]}"#,
            r#"data: {"choices":[{"delta":{},"logprobs":{"content":null}}]}"#,
            r#"data: {"choices":[{"delta":{"content":"nullify","role":"content"}}]}"#,
            r#"data: {"choices":[{"delta":null}],"content":null}"#,
            "data: [DONE]",
            "data: {\"content\":null",
        ];
        for event in events {
            assert_eq!(&shown(event)[..], event.as_bytes());
        }
    }
}
