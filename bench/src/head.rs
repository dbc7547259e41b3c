//! Heads of requests and responses: their length, and how long what follows is.

use std::io;

/// More header lines than any of the programs that are measured sends.
const HEADERS: usize = 32;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    Chunked,
}

/// What matters of a response's head.
#[derive(Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its length, with the empty line.
    pub bytes: usize,
    pub status: u16,
    pub framing: Framing,
}

/// What matters of a request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Its length, with the empty line.
    pub bytes: usize,
    pub body_bytes: usize,
}

/// Reads the head of a response; `None` while it is incomplete.
///
/// # Errors
/// When it is not HTTP, or its body has no stated end.
pub fn response(input: &[u8]) -> io::Result<Option<ResponseHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = head.parse(input).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let framing =
        framing(head.headers)?.ok_or_else(|| io::Error::other("a response without a stated end"))?;
    Ok(Some(ResponseHead { bytes, status: head.code.unwrap_or_default(), framing }))
}

/// Reads the head of a request; `None` while it is incomplete.
///
/// # Errors
/// When it is not HTTP, or its body comes in chunks: nothing that is measured sends those.
pub fn request(input: &[u8]) -> io::Result<Option<RequestHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(bytes) = head.parse(input).map_err(io::Error::other)? else {
        return Ok(None);
    };
    match framing(head.headers)?.unwrap_or(Framing::Length(0)) {
        Framing::Length(body_bytes) => Ok(Some(RequestHead { bytes, body_bytes })),
        Framing::Chunked => Err(io::Error::other("a request in chunks")),
    }
}

fn framing(headers: &[httparse::Header<'_>]) -> io::Result<Option<Framing>> {
    let value = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if value("transfer-encoding").is_some() {
        return Ok(Some(Framing::Chunked));
    }
    let Some(length) = value("content-length") else { return Ok(None) };
    let length = std::str::from_utf8(length.value).ok().and_then(|text| text.trim().parse().ok());
    length.map(|length| Some(Framing::Length(length))).ok_or_else(|| io::Error::other("a content-length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_where_it_ends() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let head = response(text).unwrap().unwrap();
        assert_eq!(head, ResponseHead { bytes: text.len() - 5, status: 200, framing: Framing::Length(5) });
        let text = b"HTTP/1.1 429 No\r\ntransfer-encoding: chunked\r\n\r\n";
        let head = response(text).unwrap().unwrap();
        assert_eq!(head, ResponseHead { bytes: text.len(), status: 429, framing: Framing::Chunked });
    }

    #[test]
    fn an_incomplete_head_is_waited_for() {
        assert_eq!(response(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        assert_eq!(request(b"POST / HT").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
        assert!(request(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(request(b"\x00\x01").is_err());
    }

    #[test]
    fn a_request_without_a_body_has_none() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(request(text).unwrap(), Some(RequestHead { bytes: text.len(), body_bytes: 0 }));
    }
}
