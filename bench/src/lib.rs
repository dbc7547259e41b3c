//! What measures the gateway: a mock of an upstream, a load client, and what both are made of.
//!
//! Everything here is as cheap as it can be, because it competes with what is measured for the machine's cores:
//! one thread, tokio's sockets, HTTP/1.1 read by `httparse`, nothing parsed that is not needed.

pub mod arguments;
pub mod chunked;
pub mod connection;
pub mod events;
pub mod head;
pub mod latencies;
pub mod load;
pub mod mock;
pub mod script;
pub mod stamp;
pub mod watch;
