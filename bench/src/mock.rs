//! The mock of an upstream: answers at once, as cheaply as a socket allows.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::head;
use crate::script::{self, EventTemplate, Wish};
use crate::stamp::{self, DIGITS};

/// What all connections say.
#[derive(Clone, Debug)]
struct Lines {
    answer: Vec<u8>,
    event: EventTemplate,
    end: Vec<u8>,
}

/// Serves `listener` until the future is dropped; connections that broke end by themselves.
///
/// # Errors
/// When nothing can be accepted any more.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let lines =
        Lines { answer: script::json_answer(), event: EventTemplate::new(), end: script::stream_end() };
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = Connection { stream, input: BytesMut::new(), lines: lines.clone() };
        tokio::spawn(async move {
            // Who was measured has left, or was killed: it counts its failures itself.
            let _ended = connection.serve().await;
        });
    }
}

struct Connection {
    stream: TcpStream,
    input: BytesMut,
    lines: Lines,
}

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        while let Some(wish) = self.next_wish().await? {
            if wish.events == 0 {
                self.stream.write_all(&self.lines.answer).await?;
            } else {
                self.write_events(wish).await?;
            }
        }
        Ok(())
    }

    /// Reads one request; `None` when the peer has closed.
    async fn next_wish(&mut self) -> io::Result<Option<Wish>> {
        loop {
            if let Some(head) = head::request(&self.input)?
                && let Some(body) = self.input.get(head.bytes..head.bytes + head.body_bytes)
            {
                let wish = Wish::of(body);
                self.input.advance(head.bytes + head.body_bytes);
                return Ok(Some(wish));
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Writes every event by itself, as providers do; those that are paced keep to their schedule.
    async fn write_events(&mut self, wish: Wish) -> io::Result<()> {
        self.stream.write_all(script::STREAM_HEAD).await?;
        let pace = Duration::from_millis(wish.pace_ms);
        let mut due = Instant::now();
        for event in 0..wish.events {
            // The first one at once, and not after a timer: tokio's are a millisecond coarse.
            if event > 0 && !pace.is_zero() {
                due += pace;
                sleep_until(due).await;
            }
            let EventTemplate { text, stamp_at } = &mut self.lines.event;
            if let Some(digits) = text.get_mut(*stamp_at..*stamp_at + DIGITS) {
                stamp::write(digits, stamp::now_ns());
            }
            self.stream.write_all(text).await?;
        }
        self.stream.write_all(&self.lines.end).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection;
    use crate::events::Events;

    async fn asked(wishes: &[Wish]) -> Vec<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener));
        let mut connection = connection::Connection::open(address).await.unwrap();
        let mut bodies = Vec::new();
        for wish in wishes {
            let mut body = Vec::new();
            let request = wish.request("127.0.0.1", "key");
            connection.exchange(&request, |piece| body.extend_from_slice(piece)).await.unwrap();
            bodies.push(body);
        }
        server.abort();
        bodies
    }

    #[tokio::test]
    async fn one_connection_gets_what_it_wishes() {
        let stream = Wish { events: 50, pace_ms: 0 };
        let paced = Wish { events: 3, pace_ms: 1 };
        let bodies = asked(&[Wish::default(), stream, Wish::default(), paced]).await;
        for answer in [&bodies[0], &bodies[2]] {
            let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
            assert_eq!(answer["usage"]["total_tokens"], 231);
        }
        for (body, events) in [(&bodies[1], 50), (&bodies[3], 3)] {
            let mut seen = Events::default();
            seen.feed(body, stamp::now_ns(), |_| {});
            assert_eq!((seen.stamped, seen.is_done), (events, true));
        }
    }
}
