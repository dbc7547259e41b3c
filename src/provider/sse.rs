//! Server-sent events out of a body that arrives in pieces of any size; pure.

use bytes::{Bytes, BytesMut};
use memchr::memchr_iter;

/// The longest event that is taken. Chosen: far beyond any chunk of a chat (a whole tool call in one delta
/// was seen at some 100 kB), far below what would hurt.
const EVENT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// An event was longer than [`EVENT_MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventTooLong;

/// Cuts a body into whole events. What lies in one piece is passed on without a copy.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// Whole events not yet taken, and perhaps the beginning of one more.
    ready: Bytes,
    /// The beginning of an event whose end has not come.
    partial: BytesMut,
    /// How much of `partial` is known to hold no end.
    scanned: usize,
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
            return Ok(Some(self.ready.split_to(end)));
        }
        if !self.ready.is_empty() {
            self.partial.extend_from_slice(&std::mem::take(&mut self.ready));
            self.note_scanned()?;
        }
        Ok(None)
    }

    /// The body has ended: an event that lacks only its blank line, if there is one.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.partial);
        let text = rest.trim_ascii();
        if text.is_empty() {
            return None;
        }
        let mut event = BytesMut::from(text);
        event.extend_from_slice(b"\n\n");
        Some(event.freeze())
    }

    /// An end may straddle two pieces: the last three bytes are looked at again.
    fn note_scanned(&mut self) -> Result<(), EventTooLong> {
        self.scanned = self.partial.len().saturating_sub(3);
        if self.partial.len() > EVENT_MAX_BYTES { Err(EventTooLong) } else { Ok(()) }
    }
}

/// The position after the first blank line at or after `from`; line ends are LF or CR LF.
fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr_iter(b'\n', rest).find_map(|position| match rest.get(position + 1..)? {
        [b'\n', ..] => Some(from + position + 2),
        [b'\r', b'\n', ..] => Some(from + position + 3),
        _ => None,
    })
}

/// What one event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Only comments or unknown fields: nothing for us.
    Comment,
    /// `data: [DONE]`.
    Done,
    Data(&'a [u8]),
}

/// Reads an event. Its data is the first `data` line: in a stream of chat chunks each is one line of JSON.
pub(super) fn read(event: &[u8]) -> Event<'_> {
    let data = event.split(|byte| *byte == b'\n').find_map(|line| {
        // Older llama.cpp servers report a failure in a field of its own (public report of 2025-09).
        let value = line.strip_prefix(b"data:").or_else(|| line.strip_prefix(b"error:"))?;
        Some(value.trim_ascii())
    });
    match data {
        None => Event::Comment,
        Some(b"[DONE]") => Event::Done,
        Some(data) => Event::Data(data),
    }
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
        assert_eq!(read(b"event: message\ndata: {}\n\n"), Event::Data(b"{}"));
        assert_eq!(read(b"data:[DONE]\r\n\r\n"), Event::Done);
        assert_eq!(read(b"error: {\"code\":500}\n\n"), Event::Data(b"{\"code\":500}"));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(cuts in proptest::collection::vec(0usize..80, 0..8)) {
            let body = b"data: {\"a\":1}\n\n: keep\r\n\r\ndata: two\ndata: lines\n\ndata: [DONE]\r\n\r\ndata: x\n\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([body.len()]) {
                pieces.push(&body[from..cut]);
                from = cut;
            }
            prop_assert_eq!(split(&pieces), split(&[body]));
        }
    }
}
