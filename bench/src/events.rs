//! The events of a stream, counted and timed.

use bytes::BytesMut;
use memchr::memmem;

use crate::stamp;

/// How a complete stream ends.
const DONE: &[u8] = b"data: [DONE]";

/// Cuts the events out of a stream's body and asks each for its stamp.
#[derive(Debug, Default)]
pub struct Events {
    pending: BytesMut,
    /// Events that had a stamp.
    pub stamped: usize,
    /// Whether `[DONE]` has been seen.
    pub is_done: bool,
}

impl Events {
    /// Takes a piece of the body that arrived at `now_ns`, and gives every event's age in nanoseconds to `on_age`.
    pub fn feed(&mut self, piece: &[u8], now_ns: u64, mut on_age: impl FnMut(u64)) {
        self.pending.extend_from_slice(piece);
        while let Some(end) = memmem::find(&self.pending, b"\n\n") {
            let event = self.pending.split_to(end + 2);
            match stamp::read(&event) {
                Some(stamp_ns) => {
                    self.stamped += 1;
                    on_age(now_ns.saturating_sub(stamp_ns));
                }
                None => self.is_done |= event.starts_with(DONE),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_events() {
        let body = b"data: {\"c\":\"@1000000000000000000 a\"}\n\n: hi\n\ndata: \"@1000000000000000001 b\"\n\ndata: [DONE]\n\n";
        for split in 0..=body.len() {
            let (mut events, mut ages) = (Events::default(), Vec::new());
            for piece in [&body[..split], &body[split..]] {
                events.feed(piece, 1_000_000_000_000_000_005, |age| ages.push(age));
            }
            assert_eq!((events.stamped, events.is_done), (2, true));
            assert_eq!(ages, [5, 4]);
        }
    }
}
