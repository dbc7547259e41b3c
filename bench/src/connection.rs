//! One kept connection of the load client.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::chunked::Chunked;
use crate::head::{self, Framing};

/// Room for what is read at once. Small, because ten thousand connections are held open at once.
const READ_BYTES: usize = 4 * 1024;

/// A connection on which one exchange at a time takes place. After an error it is of no further use.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    input: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: BytesMut::with_capacity(READ_BYTES) })
    }

    /// Sends `request` and reads the answer to its end; its body goes to `on_data` as it comes.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP, or its status is not 200.
    pub async fn exchange(&mut self, request: &[u8], on_data: impl FnMut(&[u8])) -> io::Result<()> {
        match self.ask(request, on_data).await? {
            200 => Ok(()),
            status => Err(io::Error::other(format!("status {status}"))),
        }
    }

    /// The same, whatever the status, which it answers.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP.
    pub async fn ask(&mut self, request: &[u8], mut on_data: impl FnMut(&[u8])) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let head = loop {
            self.fill().await?;
            if let Some(head) = head::response(&self.input)? {
                break head;
            }
        };
        self.input.advance(head.bytes);
        match head.framing {
            Framing::Length(bytes) => self.read_length(bytes, &mut on_data).await?,
            Framing::Chunked => self.read_chunks(&mut on_data).await?,
        }
        Ok(head.status)
    }

    async fn read_length(&mut self, bytes: usize, on_data: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = bytes;
        loop {
            let piece = self.input.split_to(left.min(self.input.len()));
            left -= piece.len();
            on_data(&piece);
            if left == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn read_chunks(&mut self, on_data: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut chunked = Chunked::default();
        while !chunked.read(&mut self.input, &mut *on_data)? {
            self.fill().await?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed in an answer")),
            _ => Ok(()),
        }
    }
}
