//! Who is asked, and for what.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::connection::Connection;
use crate::script::Wish;

/// A server under load.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    /// What every exchange sends.
    pub(super) request: Arc<[u8]>,
    pub(super) wish: Wish,
}

impl Target {
    /// Asks `address` for `wish`, with `key` as Bearer; an empty one is no key at all.
    pub fn new(address: SocketAddr, key: &str, wish: Wish) -> Self {
        Self { address, request: wish.request(&address.to_string(), key).into(), wish }
    }

    pub(super) async fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address).await
    }
}
