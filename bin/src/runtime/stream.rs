//! Sockets that listen and sockets that are connected, of either driver.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use futures_io::{AsyncRead, AsyncWrite};
use socket2::SockRef;
use tokio::io::{AsyncWrite as _, ReadBuf};

/// Takes connections.
#[derive(Debug)]
pub enum Listener {
    /// Of io_uring, whatever its address is.
    Ring(glommio::net::TcpListener),
    /// Of epoll.
    Portable(tokio::net::TcpListener),
    /// Of epoll, with a name in the file system.
    PortableUnix(tokio::net::UnixListener),
}

impl Listener {
    /// The next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Ring(listener) => Ok(Stream::Ring(listener.accept().await?)),
            Listener::Portable(listener) => Ok(Stream::Portable(listener.accept().await?.0)),
            Listener::PortableUnix(listener) => Ok(Stream::PortableUnix(listener.accept().await?.0)),
        }
    }
}

/// A connection. Reads and writes go straight to the socket, and wait only when it would block.
#[derive(Debug)]
pub enum Stream {
    /// Of io_uring, whatever its address is.
    Ring(glommio::net::TcpStream),
    /// Of epoll.
    Portable(tokio::net::TcpStream),
    /// Of epoll, through a name in the file system.
    PortableUnix(tokio::net::UnixStream),
}

impl Stream {
    /// Lets small writes leave at once.
    pub fn set_nodelay(&self) {
        // A socket in the file system knows no delay, and that the peer is gone is found by the first read.
        let _ = match self {
            Stream::Ring(stream) => stream.set_nodelay(true).is_ok(),
            Stream::Portable(stream) => stream.set_nodelay(true).is_ok(),
            Stream::PortableUnix(_) => true,
        };
    }

    /// Who is at the other end; none where the transport has no addresses.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Stream::Ring(stream) => stream.peer_addr().ok(),
            Stream::Portable(stream) => stream.peer_addr().ok(),
            Stream::PortableUnix(_) => None,
        }
    }

    /// Closes both directions: whoever reads here finds the end of the stream.
    pub fn shut(&self) {
        // An error means that the peer was faster.
        let _ = match self {
            Stream::Ring(stream) => {
                // It never waits.
                pin!(stream.shutdown(Shutdown::Both)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
            }
            Stream::Portable(stream) => SockRef::from(stream).shutdown(Shutdown::Both).is_ok(),
            Stream::PortableUnix(stream) => SockRef::from(stream).shutdown(Shutdown::Both).is_ok(),
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Ring(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Portable(stream) => poll_read(stream, context, buffer),
            Stream::PortableUnix(stream) => poll_read(stream, context, buffer),
        }
    }
}

/// tokio's way to read, in that of `futures`.
fn poll_read<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Ring(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Portable(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::PortableUnix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Ring(stream) => Pin::new(stream).poll_flush(context),
            Stream::Portable(stream) => Pin::new(stream).poll_flush(context),
            Stream::PortableUnix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Ring(stream) => Pin::new(stream).poll_close(context),
            Stream::Portable(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::PortableUnix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
