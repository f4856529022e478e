//! Listening sockets, made by hand because glommio's own always share their port.
//!
//! A second server on the same port must be told so, as etcd's is; glommio's `bind` sets SO_REUSEPORT and would let
//! both run. A driver by name: the listener enters glommio by its descriptor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use glommio::net::{TcpListener, UnixStream};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted: what Go takes from `net.core.somaxconn` on current kernels.
const BACKLOG: i32 = 4096;

/// Go's defaults for accepted connections.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(15))
    .with_retries(9);

/// A bound and listening socket, not yet of any executor.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Binds and listens. With `reuse_port` other processes may share the port (`--socket-reuse-port`).
    ///
    /// SO_REUSEADDR is always on, as Go has it: a restart need not wait for the connections of the last run.
    pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        // Connections inherit it. A client that vanished is found by the kernel, long before our own PING.
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener(socket))
    }

    /// Where it listens; with port 0 in the request, the port that was given.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
    }

    /// Hands it to the executor this is called on.
    pub fn into_glommio(self) -> TcpListener {
        let descriptor = self.0.into_raw_fd();
        // SAFETY: the descriptor is a listening TCP socket that nobody else owns; glommio closes it.
        unsafe { TcpListener::from_raw_fd(descriptor) }
    }
}

/// Hands one end of a socket pair to the executor this is called on.
pub fn unix_into_glommio(socket: std::os::unix::net::UnixStream) -> UnixStream {
    let descriptor = socket.into_raw_fd();
    // SAFETY: the descriptor is a connected stream socket that nobody else owns; glommio closes it.
    unsafe { UnixStream::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_once_unless_it_is_shared_on_purpose() {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = Listener::bind(free, false).unwrap();
        let address = first.local_address().unwrap();
        assert_eq!(Listener::bind(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let first = Listener::bind(free, true).unwrap();
        Listener::bind(first.local_address().unwrap(), true).unwrap();
    }
}
