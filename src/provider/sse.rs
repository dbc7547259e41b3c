//! Server-sent events out of a body that arrives in pieces of any size; pure.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr_iter, memchr2_iter};

/// The longest event that is taken. Chosen: far beyond any chunk of a chat (a whole tool call in one delta
/// was seen at some 100 kB), far below what would hurt.
const EVENT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What some servers put before a text in UTF-8; SSE says to skip it at the start of the body.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event was longer than [`EVENT_MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventTooLong;

/// Cuts a body into whole events, whose lines end with LF or CR LF. What lies in one piece is passed on without a
/// copy, unless its lines end with CR alone.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// Whole events not yet taken, and perhaps the beginning of one more.
    ready: Bytes,
    /// The beginning of an event whose end has not come.
    partial: BytesMut,
    /// How much of `partial` is known to hold no end.
    scanned: usize,
    /// Whether an event was taken: before the first one a byte order mark is skipped.
    is_begun: bool,
}

impl Splitter {
    /// Takes the next piece of the body. Call it when [`next_event`](Self::next_event) has answered `None`.
    pub(super) fn push(&mut self, piece: Bytes) -> Result<(), EventTooLong> {
        debug_assert!(self.ready.is_empty(), "take the events before the next piece");
        if self.partial.is_empty() {
            self.ready = piece;
            return Ok(());
        }
        self.partial.extend_from_slice(&piece);
        if end_of_event(&self.partial, self.scanned).is_some() {
            self.ready = self.partial.split().freeze();
            self.scanned = 0;
            return Ok(());
        }
        self.note_scanned()
    }

    /// The next whole event, with the blank line that ends it.
    pub(super) fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLong> {
        if let Some(end) = end_of_event(&self.ready, 0) {
            let event = self.ready.split_to(end);
            return Ok(Some(self.cleaned(event)));
        }
        if !self.ready.is_empty() {
            self.partial.extend_from_slice(&std::mem::take(&mut self.ready));
            self.note_scanned()?;
        }
        Ok(None)
    }

    /// The body has ended: an event that lacks only its blank line, if there is one.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.partial).freeze();
        let rest = self.cleaned(rest);
        let text = rest.trim_ascii();
        if text.is_empty() {
            return None;
        }
        let mut event = BytesMut::from(text);
        event.extend_from_slice(b"\n\n");
        Some(event.freeze())
    }

    /// The event as everybody reads it.
    fn cleaned(&mut self, mut event: Bytes) -> Bytes {
        if !std::mem::replace(&mut self.is_begun, true) && event.starts_with(BYTE_ORDER_MARK) {
            event.advance(BYTE_ORDER_MARK.len());
        }
        with_line_feeds(event)
    }

    /// An end may straddle two pieces: the last three bytes are looked at again.
    fn note_scanned(&mut self) -> Result<(), EventTooLong> {
        self.scanned = self.partial.len().saturating_sub(3);
        if self.partial.len() > EVENT_MAX_BYTES { Err(EventTooLong) } else { Ok(()) }
    }
}

/// The position after the first blank line at or after `from`; line ends are LF, CR LF or CR.
///
/// A CR after a LF, with nothing behind it yet, may be half of a CR LF: it is not taken for an end before the next
/// byte is there. After two CRs nothing is waited for: who ends lines so sends no LF.
fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr2_iter(b'\n', b'\r', rest).find_map(|position| match rest.get(position..)? {
        [b'\n', b'\n', ..] | [b'\r', b'\r', ..] => Some(from + position + 2),
        [b'\n', b'\r', b'\n', ..] => Some(from + position + 3),
        [b'\n', b'\r', _, ..] => Some(from + position + 2),
        _ => None,
    })
}

/// CRs that stand alone become LFs: simple clients know no other line end.
fn with_line_feeds(event: Bytes) -> Bytes {
    let is_alone = |position: &usize| event.get(position + 1) != Some(&b'\n');
    let mut alone = memchr_iter(b'\r', &event).filter(is_alone).peekable();
    if alone.peek().is_none() {
        return event;
    }
    let mut lines = BytesMut::from(&*event);
    for position in alone {
        if let Some(byte) = lines.get_mut(position) {
            *byte = b'\n';
        }
    }
    lines.freeze()
}

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Only comments or unknown fields: nothing for us.
    Comment,
    /// `data: [DONE]`.
    Done,
    /// All `data` lines; borrowed where there is one, as in nearly every stream of chat chunks.
    Data(Cow<'a, [u8]>),
}

/// Reads an event as the [`Splitter`] gives it.
pub(super) fn read(event: &[u8]) -> Event<'_> {
    let data = lines(event).filter_map(value).map(Cow::Borrowed).reduce(joined);
    match data {
        None => Event::Comment,
        Some(data) if *data == *b"[DONE]" => Event::Done,
        Some(data) => Event::Data(data),
    }
}

fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b'\n', event).chain([event.len()]).map(move |end| {
        let line = event.get(start..end).unwrap_or_default();
        start = end + 1;
        line
    })
}

/// What a line says, if it says anything to us.
fn value(line: &[u8]) -> Option<&[u8]> {
    // Older llama.cpp servers report a failure in a field of its own (public report of 2025-09).
    let value = line.strip_prefix(b"data:").or_else(|| line.strip_prefix(b"error:"))?;
    Some(value.trim_ascii())
}

fn joined<'a>(text: Cow<'a, [u8]>, line: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    let mut text = text.into_owned();
    text.push(b'\n');
    text.extend_from_slice(&line);
    Cow::Owned(text)
}

/// The most that stands around the data of an event that holds nothing else: `data: ` and two line ends.
const AROUND_DATA_MAX_BYTES: usize = b"data: \r\n\r\n".len();

/// The event to pass on instead of `event`, where that holds more than the data that was read from it: what was not
/// looked at, be it a second line of data or one that claims that the answer is over, does not reach the client.
pub(super) fn without_rest(event: &[u8], data: &[u8]) -> Option<Bytes> {
    if event.len() - data.len() <= AROUND_DATA_MAX_BYTES {
        return None;
    }
    let mut only = BytesMut::with_capacity(data.len() + AROUND_DATA_MAX_BYTES);
    only.extend_from_slice(b"data: ");
    // Lines that were joined are JSON: between its parts a space says the same as a line end.
    only.extend(data.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
    only.extend_from_slice(b"\n\n");
    Some(only.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.push(Bytes::copy_from_slice(piece)).unwrap();
            while let Some(event) = splitter.next_event().unwrap() {
                events.push(event.to_vec());
            }
        }
        events.extend(splitter.finish().map(|event| event.to_vec()));
        events
    }

    #[test]
    fn events_end_at_blank_lines_of_either_kind() {
        let events = split(&[b"data: 1\n\ndata: 2\r\n\r\n: c\n\ndata: [DONE]\n\n"]);
        assert_eq!(events, [&b"data: 1\n\n"[..], b"data: 2\r\n\r\n", b": c\n\n", b"data: [DONE]\n\n"]);
    }

    #[test]
    fn events_end_at_carriage_returns_too_and_are_given_with_line_feeds() {
        let expected = [&b"data: 1\n\n"[..], b": c\ndata: 2\n\n"];
        assert_eq!(split(&[b"data: 1\r\r: c\rdata: 2\r\r"]), expected);
        assert_eq!(split(&[b"data: 1\n\r: c\rdata: 2\n\n"]), expected);
        assert_eq!(split(&[b"data: 1\r\n\r: c\ndata: 2\r"]), [&b"data: 1\r\n\n"[..], expected[1]]);
    }

    #[test]
    fn two_carriage_returns_are_not_waited_on() {
        let mut splitter = Splitter::default();
        splitter.push(Bytes::from_static(b"data: 1\r\r")).unwrap();
        assert!(splitter.next_event().unwrap().is_some());
    }

    #[test]
    fn half_of_a_line_end_is_no_line_end() {
        assert_eq!(split(&[b"data: 1\r", b"\ndata: 2\r\n\r", b"\n"]), [b"data: 1\r\ndata: 2\r\n\r\n"]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_alone() {
        assert_eq!(split(&[b"\xef\xbb", b"\xbfdata: 1\n\n"]), [b"data: 1\n\n"]);
        assert_eq!(split(&[b"\xef\xbb\xbfdata: 1"]), [b"data: 1\n\n"]);
        let later = split(&[b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n"]);
        assert_eq!(later[1], b"\xef\xbb\xbfdata: 2\n\n");
    }

    #[test]
    fn a_last_event_without_its_blank_line_is_completed() {
        assert_eq!(split(&[b"data: 1\n\ndata: [DONE]\n"]), [&b"data: 1\n\n"[..], b"data: [DONE]\n\n"]);
        assert_eq!(split(&[b"data: 1\n\n\n"]), [&b"data: 1\n\n"[..]]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut splitter = Splitter::default();
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let refused =
            (0..100).any(|_| splitter.push(piece.clone()).is_err() || splitter.next_event().is_err());
        assert!(refused);
    }

    #[test]
    fn events_are_read() {
        assert_eq!(read(b": OPENROUTER PROCESSING\n\n"), Event::Comment);
        let one_line = [
            (&b"event: message\ndata: {}\n\n"[..], &b"{}"[..]),
            (b"data: {}\r\nid: 7\r\n\r\n", b"{}"),
            (b"error: {\"code\":500}\n\n", b"{\"code\":500}"),
        ];
        for (event, data) in one_line {
            assert!(matches!(read(event), Event::Data(Cow::Borrowed(read)) if read == data));
        }
        assert_eq!(read(b"data:[DONE]\r\n\r\n"), Event::Done);
        let two_lines = Event::Data(Cow::Borrowed(&b"{\"a\":\n1}"[..]));
        assert_eq!(read(b"data: {\"a\":\nid: 7\r\ndata: 1}\n\n"), two_lines);
    }

    #[test]
    fn only_the_data_that_was_read_goes_on() {
        let passed_on = |event: &'static [u8]| {
            let Event::Data(data) = read(event) else { panic!("no data") };
            without_rest(event, &data)
        };
        assert_eq!(passed_on(b"data: {}\r\n\r\n"), None);
        assert_eq!(passed_on(b"data:{}\n\n"), None);
        let only = Some(Bytes::from_static(b"data: {}\n\n"));
        assert_eq!(passed_on(b"data: {\ndata: }\n\n"), Some(Bytes::from_static(b"data: { }\n\n")));
        assert_eq!(passed_on(b"event: x\nid: 1\ndata: {}\n\n"), only);
    }

    /// Pieces of which every kind of end, in any order, can be made.
    const WORDS: [&[u8]; 9] = [
        b"data: {\"a\":1}",
        b"data: two",
        b": keep",
        b"data: [DONE]",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"\n\n",
    ];

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            words in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..24),
            cuts in proptest::collection::vec(0usize..200, 0..12),
        ) {
            let body = words.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([body.len()]) {
                pieces.push(&body[from..cut]);
                from = cut;
            }
            prop_assert_eq!(split(&pieces), split(&[&body]));
        }

        #[test]
        fn every_kind_of_line_end_gives_the_same_data(
            lines in proptest::collection::vec(proptest::sample::select(&["data: a", ": c", "", "id: 1"][..]), 0..24),
        ) {
            let data = |end: &str| -> Vec<Vec<u8>> {
                let body: String = lines.iter().flat_map(|line| [line, end]).collect();
                let events = split(&[body.as_bytes()]);
                events.iter().filter_map(|event| match read(event) {
                    Event::Data(data) => Some(data.into_owned()),
                    Event::Comment | Event::Done => None,
                }).collect()
            };
            prop_assert_eq!(data("\n"), data("\r\n"));
            prop_assert_eq!(data("\n"), data("\r"));
        }
    }
}
