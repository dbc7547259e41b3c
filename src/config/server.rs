//! `[server]`: the HTTP end towards clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::available_parallelism;
use std::time::Duration;

use toml::Value;

use super::duration::{duration, positive};
use super::reader::{Parsed, Section};
use super::scalar::count;
use super::size::size;

/// How the gateway listens, how much it takes in, and how it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Threads that serve requests, each with its own dispatcher; at least 1.
    pub workers: usize,
    /// The largest request body, in bytes.
    pub request_body_limit: usize,
    /// How long the head of a connection's first request may take; above zero.
    pub client_head_timeout: Duration,
    /// How long a request's body may take; above zero.
    pub client_body_timeout: Duration,
    /// Client requests held at once; more are shed. At least 1.
    pub max_in_flight: usize,
    /// How long a stopping server still serves while it already reports unready.
    pub shutdown_grace: Duration,
    /// How long streams in flight may go on after that.
    pub drain_timeout: Duration,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<ServerSettings> {
    let listen = section.required("listen", listen);
    let workers = section.required("workers", workers);
    let request_body_limit = section.required("request_body_limit", size);
    let client_head_timeout = section.required("client_head_timeout", positive);
    let client_body_timeout = section.required("client_body_timeout", positive);
    let max_in_flight = section.required("max_in_flight", count);
    let shutdown_grace = section.required("shutdown_grace", duration);
    let drain_timeout = section.required("drain_timeout", duration);
    Some(ServerSettings {
        listen: listen?,
        workers: workers?,
        request_body_limit: request_body_limit?,
        client_head_timeout: client_head_timeout?,
        client_body_timeout: client_body_timeout?,
        max_in_flight: max_in_flight?,
        shutdown_grace: shutdown_grace?,
        drain_timeout: drain_timeout?,
    })
}

/// An address and a port. Names are not resolved, because the answer could change between two starts;
/// `localhost` is the exception that everybody writes.
pub(super) fn listen(value: &Value) -> Parsed<SocketAddr> {
    value.as_str().and_then(socket).ok_or_else(|| {
        "expected an IP address (or localhost) and a port, for example \"127.0.0.1:3001\" or \"[::]:3001\"".into()
    })
}

fn socket(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().ok(),
    }
}

fn workers(value: &Value) -> Parsed<usize> {
    match value.as_str() {
        // One is right where the system cannot tell: more would only be a guess.
        Some("cores") => Ok(available_parallelism().map_or(1, usize::from)),
        _ => count(value).map_err(|_| "expected \"cores\" or a whole number of at least 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_listened_on() {
        assert_eq!(socket("localhost:0"), Some((Ipv4Addr::LOCALHOST, 0).into()));
        assert_eq!(socket("127.0.0.1:3001"), Some((Ipv4Addr::LOCALHOST, 3001).into()));
        assert!(socket("[::1]:3001").is_some());
        for wrong in ["localhost", "example.org:3001", "127.0.0.1", ":3001", "127.0.0.1:70000", "3001"] {
            assert_eq!(socket(wrong), None, "{wrong}");
        }
    }
}
