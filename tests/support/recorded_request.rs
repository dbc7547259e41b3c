//! A request as a fake upstream received it.

use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// One request, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    /// In their order, with the names as they were written.
    pub(crate) headers: Vec<(String, String)>,
    /// Without the framing of chunks.
    pub(crate) body: Vec<u8>,
    /// Which connection it came over, counted from 0.
    pub(crate) connection: usize,
    /// When its head had arrived.
    pub(crate) received_at: Moment,
}

impl RecordedRequest {
    /// The value of a header, whatever the case of its name; the first one of several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Reads one request; `None` when the peer leaves before its end. What follows it stays in `inbox`.
    pub(super) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        inbox: &mut Vec<u8>,
        connection: usize,
    ) -> Option<Self> {
        let head = take_until(stream, inbox, b"\r\n\r\n").await?;
        let received_at = SystemClock::start().now();
        let head = String::from_utf8(head).expect("a head in UTF-8");
        let mut lines = head.lines();
        let mut words = lines.next().expect("a request line").split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next().expect("a path").to_owned());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut request = Self { method, path, headers, body: Vec::new(), connection, received_at };
        request.body = request.read_body(stream, inbox).await?;
        Some(request)
    }

    async fn read_body(&self, stream: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
        if self.header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
            return read_chunks(stream, inbox).await;
        }
        let length = self.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        take(stream, inbox, length).await
    }
}

async fn read_chunks(stream: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = String::from_utf8(take_until(stream, inbox, b"\r\n").await?).expect("a chunk's length");
        let length = usize::from_str_radix(line.trim(), 16).expect("a chunk's length in hex");
        let chunk = take(stream, inbox, length + 2).await?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

/// Takes what stands up to and with `end`.
async fn take_until(
    stream: &mut (impl AsyncRead + Unpin),
    inbox: &mut Vec<u8>,
    end: &[u8],
) -> Option<Vec<u8>> {
    loop {
        if let Some(position) = memchr::memmem::find(inbox, end) {
            return take(stream, inbox, position + end.len()).await;
        }
        fill(stream, inbox).await?;
    }
}

async fn take(stream: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while inbox.len() < length {
        fill(stream, inbox).await?;
    }
    let rest = inbox.split_off(length);
    Some(std::mem::replace(inbox, rest))
}

/// Reads what comes next into `inbox`; `None` when the peer has gone.
pub(super) async fn fill(stream: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(inbox).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}
