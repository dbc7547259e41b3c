//! A client that speaks TCP and decides for itself what HTTP is.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::app::KEY;

/// The longest wait for the other end. Chosen: only a broken test ever waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection; dropping it closes it.
pub(crate) struct RawClient(TcpStream);

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// A connection that can hold little of what it does not read.
    pub(crate) async fn with_small_buffer(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        Self(socket.connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Sends what can be sent; whether the other end still takes it.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Sends the bytes one by one, with a pause between, until the other end has had enough or they are all sent.
    pub(crate) async fn drip(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            // What arrives meanwhile is the other end's last word: there is no point in going on.
            if timeout(pause, self.0.readable()).await.is_ok() || !self.try_send(&[*byte]).await {
                return;
            }
        }
    }

    /// Closes the sending half.
    pub(crate) async fn send_no_more(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Reads until `text` has come, and returns everything up to then.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&read).contains(text) {
                assert_ne!(
                    self.0.read_buf(&mut read).await.unwrap(),
                    0,
                    "closed: {}",
                    String::from_utf8_lossy(&read)
                );
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {text:?} in time"));
        String::from_utf8(read).unwrap()
    }

    /// Reads until the other end closes; a reset counts as closing, and what came before it as read.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        let reading = async { while self.0.read_buf(&mut read).await.is_ok_and(|count| count > 0) {} };
        timeout(PATIENCE, reading).await.expect("the other end closes");
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads so much and no more.
    pub(crate) async fn read_bytes(&mut self, count: usize) {
        let mut read = vec![0; count];
        timeout(PATIENCE, self.0.read_exact(&mut read)).await.expect("bytes in time").unwrap();
    }

    /// Takes nothing for so long: the wait is what the other end is to notice, or to bear.
    pub(crate) async fn read_nothing_for(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Takes what comes for so long.
    pub(crate) async fn read_for(&mut self, time: Duration) {
        let mut sink = [0; 1_024];
        let reading = async { while self.0.read(&mut sink).await.is_ok_and(|count| count > 0) {} };
        let _time_is_up = timeout(time, reading).await;
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

/// The head of a chat with a body of that length.
pub(crate) fn chat_head(length: usize) -> Vec<u8> {
    format!(
        "POST /api/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// A whole chat.
pub(crate) fn chat(body: &[u8]) -> Vec<u8> {
    [chat_head(body.len()).as_slice(), body].concat()
}
