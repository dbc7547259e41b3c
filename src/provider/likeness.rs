//! Events that differ from the one before by nothing but the text that they bring; pure.

use std::ops::Range;

use memchr::{memchr2, memmem};

use super::adapter::{ChoiceSet, Chunk};

/// The names of what a model writes, in the order in which they are looked for. No adapter reads anything else out of
/// a text under one of them ([`Adapter::read_chunk`](super::adapter::Adapter::read_chunk)).
const NAMES: [&[u8]; 3] = [b"\"content\":\"", b"\"reasoning_content\":\"", b"\"reasoning\":\""];

/// The longest event that is remembered, in bytes. Chosen: three times what providers send.
const REMEMBERED_MAX_BYTES: usize = 1_024;

/// After so many events in a row that were like none before, nothing is compared any more. Chosen: a stream whose
/// events all differ, by a random field for example, should not pay for a comparison each.
const STRANGERS_MAX: u8 = 8;

/// What the last event that was read looks like around its text, and what it meant: to read the next one is then to
/// compare, which costs a tenth of parsing it (callgrind, 2026-11-23).
///
/// A JSON string in the place of another one changes nothing else of a document. So what differs from the remembered
/// event by such a string alone is JSON, and means the same.
#[derive(Debug, Default)]
pub(super) struct Likeness {
    remembered: Option<Remembered>,
    strangers: u8,
}

#[derive(Debug)]
struct Remembered {
    /// The event's data without the text.
    around: Box<[u8]>,
    /// Where the text stood.
    position: usize,
    /// The choices that it carried a piece of: a piece means nothing else.
    seen: ChoiceSet,
}

impl Likeness {
    /// What an event means whose data is like that of the last one; `None` where it has to be read.
    pub(super) fn recognise(&mut self, data: &[u8]) -> Option<Chunk> {
        let chunk = self.remembered.as_ref()?.recognise(data)?;
        self.strangers = 0;
        Some(chunk)
    }

    /// Remembers an event that was not recognised and had to be read, if the next ones may be like it. It differs from
    /// the remembered one: that is not compared again.
    pub(super) fn remember(&mut self, data: &[u8], chunk: &Chunk) {
        let is_piece = !chunk.seen.is_empty() && chunk.finished.is_empty() && chunk.usage.is_none();
        if !is_piece || self.strangers >= STRANGERS_MAX {
            return;
        }
        let Some(place) = place_of_text(data) else { return };
        self.strangers += 1;
        self.remembered = Some(Remembered::new(data, place, chunk.seen));
    }
}

impl Remembered {
    fn new(data: &[u8], text: Range<usize>, seen: ChoiceSet) -> Self {
        let (before, behind) = (data.get(..text.start), data.get(text.end..));
        let around = [before.unwrap_or_default(), behind.unwrap_or_default()].concat();
        Self { around: around.into(), position: text.start, seen }
    }

    fn recognise(&self, data: &[u8]) -> Option<Chunk> {
        let (before, behind) = self.around.split_at_checked(self.position)?;
        let text = data.strip_prefix(before)?.strip_suffix(behind)?;
        is_plain(text).then(|| Chunk { seen: self.seen, ..Chunk::default() })
    }
}

/// Where the first text that is not empty lies between its quotes, in data that is JSON and not long.
fn place_of_text(data: &[u8]) -> Option<Range<usize>> {
    if data.len() > REMEMBERED_MAX_BYTES {
        return None;
    }
    NAMES.iter().find_map(|name| {
        let start = memmem::find(data, name)? + name.len();
        let end = start + memchr2(b'"', b'\\', data.get(start..)?)?;
        (start < end && data.get(end) == Some(&b'"')).then_some(start..end)
    })
}

/// Whether a text stands for itself between the quotes of a JSON string.
fn is_plain(text: &[u8]) -> bool {
    let stands_for_itself = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    text.iter().all(stands_for_itself) && std::str::from_utf8(text).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::provider::Dialect;
    use crate::provider::adapter::adapter;

    fn read(data: &[u8]) -> Option<Chunk> {
        adapter(Dialect::OpenAi).read_chunk(data).ok()
    }

    /// What has read `data` and was not like anything.
    fn after(data: &str) -> Likeness {
        let mut likeness = Likeness::default();
        assert_eq!(likeness.recognise(data.as_bytes()), None);
        likeness.remember(data.as_bytes(), &read(data.as_bytes()).unwrap());
        likeness
    }

    fn piece(text: &str) -> String {
        format!(
            r#"{{"id":"a","choices":[{{"index":1,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
        )
    }

    #[test]
    fn an_event_with_another_text_is_recognised() {
        let mut likeness = after(&piece("one"));
        for text in ["two", "", "a longer one", "zwölf", "一"] {
            let data = piece(text);
            assert_eq!(likeness.recognise(data.as_bytes()), read(data.as_bytes()), "{text}");
        }
    }

    #[test]
    fn reasoning_is_a_text_too() {
        let thinks = |text: &str| {
            format!(r#"{{"choices":[{{"delta":{{"content":"","reasoning_content":"{text}"}},"index":0}}]}}"#)
        };
        assert!(after(&thinks("hm")).recognise(thinks("so").as_bytes()).is_some());
    }

    #[test]
    fn what_is_not_plain_or_differs_elsewhere_has_to_be_read() {
        let mut likeness = after(&piece("one"));
        let finishes = piece("one").replace("null", "\"stop\"");
        let sneaks = piece(r#"x"},"finish_reason":"stop","more":{"a":"b"#);
        let others = [piece(r"\n"), piece("\n"), finishes, sneaks, piece("one") + " ", String::new()];
        for data in others {
            assert_eq!(likeness.recognise(data.as_bytes()), None, "{data}");
        }
        let mut broken = piece("one").into_bytes();
        let position = broken.windows(3).position(|bytes| bytes == b"one").unwrap();
        broken[position] = 0xff;
        assert_eq!(likeness.recognise(&broken), None);
    }

    #[test]
    fn only_pieces_of_an_answer_are_remembered() {
        let last = piece("one").replace("null", "\"stop\"");
        let usage = r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}"#;
        for data in [last.as_str(), usage, r#"{"content":"x"}"#] {
            let mut likeness = Likeness::default();
            if let Some(chunk) = read(data.as_bytes()) {
                likeness.remember(data.as_bytes(), &chunk);
            }
            assert_eq!(likeness.recognise(data.as_bytes()), None, "{data}");
        }
    }

    #[test]
    fn a_stream_of_strangers_is_not_compared_for_ever() {
        let data = |number: u8| piece("x").replace("\"a\"", &format!("\"{number}\""));
        let mut likeness = Likeness::default();
        for number in 0..2 * STRANGERS_MAX {
            likeness.remember(data(number).as_bytes(), &read(data(number).as_bytes()).unwrap());
        }
        assert!(likeness.recognise(data(STRANGERS_MAX - 1).as_bytes()).is_some());
        assert!(likeness.recognise(data(2 * STRANGERS_MAX - 1).as_bytes()).is_none());
    }

    /// Parts of which many an event can be made, whole and broken ones.
    const PARTS: [&str; 14] = [
        r#"{"choices":[{"index":0,"delta":{"#,
        r#""content":""#,
        r#""reasoning":""#,
        "word",
        "ü",
        r#"""#,
        r"\",
        ",",
        r#""finish_reason":"stop""#,
        r#""error":{"message":"no"}"#,
        r#""usage":{"prompt_tokens":1}"#,
        "}",
        "}]}",
        "\n",
    ];

    proptest! {
        #[test]
        fn what_is_recognised_means_what_reading_it_says(
            first in proptest::collection::vec(proptest::sample::select(&PARTS[..]), 0..4),
            text in proptest::collection::vec(proptest::sample::select(&PARTS[..]), 0..4),
            events in proptest::collection::vec((0_usize..8, 0_usize..14), 1..12),
        ) {
            let mut parts = vec![PARTS[0], PARTS[1]];
            parts.extend(first);
            parts.extend([PARTS[5], PARTS[12]]);
            parts.splice(2..2, text);
            let mut likeness = Likeness::default();
            for (place, part) in events {
                let data = parts.concat();
                let meaning = read(data.as_bytes());
                if let Some(chunk) = likeness.recognise(data.as_bytes()) {
                    prop_assert_eq!(Some(chunk), meaning, "{}", data);
                } else if let Some(chunk) = meaning {
                    likeness.remember(data.as_bytes(), &chunk);
                }
                let place = place.min(parts.len() - 1);
                parts[place] = PARTS[part];
            }
        }
    }
}
