//! The socket that clients connect to.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Listens on `address`. A client that takes no byte for `client_stall_timeout` loses its connection.
///
/// The operating system keeps that time, for each connection that is accepted here and whatever it is sent. The
/// server cannot: it does not poll an answer while its client's socket is full, and a watchdog of ours could drop the
/// answer but not close the connection, which the server owns. It also costs nothing while clients do read.
///
/// # Errors
/// When the address cannot be had.
pub fn listen(address: SocketAddr, client_stall_timeout: Duration) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    cut_off_after(&listener, client_stall_timeout)?;
    Ok(listener)
}

/// Connections inherit the option from the socket that accepts them (tcp(7), read 2026-11-23).
#[cfg(target_os = "linux")]
fn cut_off_after(listener: &TcpListener, client_stall_timeout: Duration) -> io::Result<()> {
    socket2::SockRef::from(listener).set_tcp_user_timeout(Some(client_stall_timeout))
}

#[cfg(not(target_os = "linux"))]
fn cut_off_after(_: &TcpListener, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn connections_inherit_the_time() {
        let stall = Duration::from_secs(7);
        let listener = listen((std::net::Ipv4Addr::LOCALHOST, 0).into(), stall).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(socket2::SockRef::from(&accepted).tcp_user_timeout().unwrap(), Some(stall));
    }
}
