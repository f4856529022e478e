//! Transports for `hyper`: any stream of the `futures` traits (glommio's are), and one whose beginning was read before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes read from a stream at a time; requests here are small.
const READ_LEN: usize = 4096;

/// A stream of the `futures` traits.
#[derive(Debug)]
pub struct Stream<S>(pub S);

impl<S: AsyncRead + Unpin> Read for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // The cursor lends memory that may be uninitialised; a copy costs less than an unsafe block explains.
        let mut chunk = [0; READ_LEN];
        let room = buffer.remaining().min(READ_LEN);
        let len = ready!(Pin::new(&mut self.0).poll_read(context, &mut chunk[..room]))?;
        buffer.put_slice(&chunk[..len]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Write for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}

/// A transport of which some bytes were read already, to see what it speaks; they are read again first.
#[derive(Debug)]
pub struct Rewind<I> {
    head: Bytes,
    io: I,
}

impl<I> Rewind<I> {
    /// `head` was read from `io`.
    pub fn new(head: Bytes, io: I) -> Rewind<I> {
        Rewind { head, io }
    }
}

impl<I: Read + Unpin> Read for Rewind<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let len = self.head.len().min(buffer.remaining());
        buffer.put_slice(&self.head[..len]);
        self.head.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<I: Write + Unpin> Write for Rewind<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
