//! Listening sockets, made by hand because glommio's own always share their port.
//!
//! A second server on the same port must be told so, as etcd's is; glommio's `bind` sets SO_REUSEPORT and would let
//! both run. A driver by name: the listener enters glommio by its descriptor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use glommio::net::TcpListener;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

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

    /// Binds a name in the file system and listens. What a server left there that is gone is replaced; a socket that still
    /// takes connections, and anything that is no socket, is "address in use".
    pub fn bind_unix(path: &Path) -> io::Result<Listener> {
        let (socket, address) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?);
        socket.set_nonblocking(true)?;
        let mut bound = socket.bind(&address);
        let in_use = bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        if in_use && is_left_over(path, &address)? {
            std::fs::remove_file(path)?;
            bound = socket.bind(&address);
        }
        bound?;
        socket.listen(BACKLOG)?;
        Ok(Listener(socket))
    }

    /// Where it listens; with port 0 in the request, the port that was given.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
    }

    /// For an executor that polls it; accepting from it never blocks.
    pub fn into_std(self) -> io::Result<StdListener> {
        Ok(match self.0.domain()? {
            Domain::UNIX => StdListener::Unix(self.0.into()),
            _ => StdListener::Tcp(self.0.into()),
        })
    }

    /// Hands it to the glommio executor this is called on. A unix socket too: glommio's own unix listener cannot be made
    /// from a descriptor, and to accept, receive and send the ring asks for no address.
    pub fn into_glommio(self) -> TcpListener {
        let descriptor = self.0.into_raw_fd();
        // SAFETY: the descriptor is a listening stream socket that nobody else owns; glommio closes it.
        unsafe { TcpListener::from_raw_fd(descriptor) }
    }
}

/// A listener of the standard library's.
#[derive(Debug)]
pub enum StdListener {
    /// IP.
    Tcp(std::net::TcpListener),
    /// A name in the file system.
    Unix(UnixListener),
}

/// Whether `path` is a socket that nobody listens on.
fn is_left_over(path: &Path, address: &SockAddr) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = path.symlink_metadata()?.file_type().is_socket();
    let asked = Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(address);
    Ok(is_socket && asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
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

    #[test]
    fn a_name_is_taken_once_and_again_when_its_server_is_gone() {
        let path = std::env::temp_dir().join(format!("kontiki-listen-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let first = Listener::bind_unix(&path).unwrap();
        let in_use = |path: &Path| Listener::bind_unix(path).unwrap_err().kind() == io::ErrorKind::AddrInUse;
        assert!(in_use(&path));
        drop(first);
        assert!(matches!(Listener::bind_unix(&path).unwrap().into_std(), Ok(StdListener::Unix(_))));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "somebody's").unwrap();
        assert!(in_use(&path));
        std::fs::remove_file(&path).unwrap();
    }
}
