//! Bodies in chunks, as they arrive.

use std::io;

use bytes::{Buf, BytesMut};

/// A line with the size of a chunk is never longer.
const LINE_MAX_BYTES: usize = 128;

/// Where in a chunked body the reader is.
///
/// ```text
/// Size ──> Data ──> Size …        the line break after a chunk's data is an empty line before the next size
///   └─ 0 ─> Trailer ──> Over
/// ```
#[derive(Debug, Default)]
pub struct Chunked(State);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    /// So many bytes of this chunk are to come.
    Data(usize),
    Trailer,
    Over,
}

impl Chunked {
    /// Takes what `input` holds, and gives the data to `on_data`; true when the body has ended.
    ///
    /// # Errors
    /// When a size is none.
    pub fn read(&mut self, input: &mut BytesMut, mut on_data: impl FnMut(&[u8])) -> io::Result<bool> {
        loop {
            self.0 = match self.0 {
                State::Over => return Ok(true),
                State::Data(0) => State::Size,
                State::Data(left) => {
                    if input.is_empty() {
                        return Ok(false);
                    }
                    let piece = input.split_to(left.min(input.len()));
                    on_data(&piece);
                    State::Data(left - piece.len())
                }
                state @ (State::Size | State::Trailer) => match line(input)? {
                    Some(line) => after_line(state, &line)?,
                    None => return Ok(false),
                },
            };
        }
    }
}

/// Takes one line, without its end.
fn line(input: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        let is_bounded = input.len() <= LINE_MAX_BYTES;
        return if is_bounded { Ok(None) } else { Err(io::Error::other("a chunk without a size")) };
    };
    let mut line = input.split_to(end);
    input.advance(1);
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Ok(Some(line))
}

fn after_line(state: State, line: &[u8]) -> io::Result<State> {
    if let State::Trailer = state {
        return Ok(if line.is_empty() { State::Over } else { State::Trailer });
    }
    if line.is_empty() {
        return Ok(State::Size);
    }
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
    match size.ok_or_else(|| io::Error::other("a chunk's size is no number"))? {
        0 => Ok(State::Trailer),
        size => Ok(State::Data(size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5\r\nhello\r\n10;x=y\r\n, this is a body\r\n0\r\ntrailer: 1\r\n\r\nrest";

    #[test]
    fn any_split_gives_the_same_data() {
        for split in 0..=BODY.len() {
            let (mut reader, mut data, mut input) = (Chunked::default(), Vec::new(), BytesMut::new());
            let mut is_over = false;
            for piece in [&BODY[..split], &BODY[split..]] {
                input.extend_from_slice(piece);
                is_over = reader.read(&mut input, |piece| data.extend_from_slice(piece)).unwrap();
            }
            assert!(is_over);
            assert_eq!(data, b"hello, this is a body");
            assert_eq!(&input[..], b"rest");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let mut reader = Chunked::default();
        assert!(reader.read(&mut BytesMut::from(&b"xyz\r\n"[..]), |_| {}).is_err());
        let endless = [b'1'; LINE_MAX_BYTES + 1];
        assert!(Chunked::default().read(&mut BytesMut::from(&endless[..]), |_| {}).is_err());
    }
}
