//! One HTTP/2 connection: bytes out, frames in, and what concerns the connection as a whole. Nothing blocks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fluke_hpack::Decoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HEADER_TABLE_SIZE 0, so that equal header blocks are equal bytes; INITIAL_WINDOW_SIZE as large as it gets.
const SETTINGS: &[u8] = &[0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
/// What may be sent before the server says another number.
pub(super) const WINDOW_DEFAULT: i64 = 65_535;
/// Our own windows are refilled when this much of them is used.
pub(super) const REFILL_AT: u32 = 1 << 30;
pub(super) const FRAME_HEADER_LEN: usize = 9;
const READ_LEN: usize = 256 << 10;

/// Frame types and flags (RFC 9113 §6).
pub(super) mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    /// Of DATA and HEADERS.
    pub const END_STREAM: u8 = 1;
    /// Of HEADERS.
    pub const END_HEADERS: u8 = 4;
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 1;
}

/// A frame as it came.
pub(super) struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// The first frame of `bytes` if it is whole, and what follows it.
    fn split(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_LEN>()?;
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(len)?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        Some((Frame { kind: header[3], flags: header[4], stream, payload }, rest))
    }

    /// What a WINDOW_UPDATE gives.
    pub fn credit(&self) -> i64 {
        self.payload.first_chunk().map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)))
    }

    /// INITIAL_WINDOW_SIZE, if these are settings that have it.
    pub fn initial_window(&self) -> Option<i64> {
        let entry = self.payload.chunks_exact(6).rfind(|entry| entry[..2] == [0, 4])?;
        Some(i64::from(u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]])))
    }
}

/// Bytes that came: taken out of the link while their frames are handled, for those change the rest of it.
pub(super) struct Input {
    /// Twice as long as the longest frame, filled up to `filled`.
    bytes: Vec<u8>,
    filled: usize,
    taken: usize,
}

impl Input {
    /// The next whole frame.
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let rest = &self.bytes[self.taken..self.filled];
        let (frame, after) = Frame::split(rest)?;
        self.taken = self.filled - after.len();
        Some(frame)
    }
}

/// A connection.
pub(super) struct Link {
    socket: TcpStream,
    /// Waits to be sent.
    pub output: Vec<u8>,
    /// What the server lets us send.
    pub window: i64,
    received: u32,
    input: Input,
}

impl Link {
    pub fn open(address: SocketAddr) -> io::Result<Link> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut link = Link {
            socket,
            output: [PREFACE, SETTINGS].concat(),
            window: WINDOW_DEFAULT,
            received: 0,
            input: Input { bytes: vec![0; READ_LEN], filled: 0, taken: 0 },
        };
        link.refill(0, 0x7fff_ffff - WINDOW_DEFAULT as u32);
        Ok(link)
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there. It must be given back with [`Link::keep`].
    pub fn read(&mut self) -> io::Result<Option<Input>> {
        match self.socket.read(&mut self.input.bytes[self.input.filled..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.input.filled += len;
                let empty = Input { bytes: Vec::new(), filled: 0, taken: 0 };
                Ok(Some(std::mem::replace(&mut self.input, empty)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps what is no whole frame yet.
    pub fn keep(&mut self, mut input: Input) {
        input.bytes.copy_within(input.taken..input.filled, 0);
        (input.filled, input.taken) = (input.filled - input.taken, 0);
        self.input = input;
    }

    /// Does what a frame asks of the connection as a whole.
    pub fn on_frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        match frame.kind {
            kind::DATA => {
                self.received += frame.payload.len() as u32;
                if self.received >= REFILL_AT {
                    let received = std::mem::take(&mut self.received);
                    self.refill(0, received);
                }
            }
            kind::SETTINGS if frame.flags & kind::ACK == 0 => self.output.extend_from_slice(SETTINGS_ACK),
            kind::PING if frame.flags & kind::ACK == 0 => {
                self.output.extend_from_slice(&[0, 0, 8, kind::PING, kind::ACK, 0, 0, 0, 0]);
                self.output.extend_from_slice(frame.payload);
            }
            kind::GOAWAY => {
                return Err(io::Error::other(format!("GOAWAY {}", frame.payload.escape_ascii())));
            }
            kind::WINDOW_UPDATE if frame.stream == 0 => self.window += frame.credit(),
            _ => {}
        }
        Ok(())
    }

    /// Lets the server send so much more on `stream`, or on the connection if that is 0.
    pub fn refill(&mut self, stream: u32, credit: u32) {
        self.output.extend_from_slice(&frame_header(4, kind::WINDOW_UPDATE, 0, stream));
        self.output.extend_from_slice(&credit.to_be_bytes());
    }
}

/// Sends what waits on all links, then waits for bytes, at most `limit`; tells which links have some.
pub(super) fn wait<'a>(links: impl Iterator<Item = &'a mut Link>, limit: Duration) -> io::Result<Vec<bool>> {
    let links = links.map(|link| link.flush().map(|()| &*link)).collect::<io::Result<Vec<_>>>()?;
    let poll_fd = |link: &&'a Link| {
        let write = if link.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        PollFd::new(&link.socket, PollFlags::IN | write)
    };
    let mut fds = links.iter().map(poll_fd).collect::<Vec<_>>();
    let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
    poll(&mut fds, Some(&timeout))?;
    let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
    Ok(fds.iter().map(|fd| fd.revents().intersects(readable)).collect())
}

/// Nine bytes (RFC 9113 §4.1).
pub(super) fn frame_header(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; FRAME_HEADER_LEN] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

/// Reads the ends of calls.
#[derive(Default)]
pub(super) struct Trailers {
    /// The last ones found good: the next ones are most likely the same bytes.
    good: Vec<u8>,
}

impl Trailers {
    /// Whether a call ended with OK. Errors: what it ended with.
    pub fn check(&mut self, block: &[u8]) -> Result<(), String> {
        if block == self.good {
            return Ok(());
        }
        let mut decoder = Decoder::new();
        decoder.set_max_table_size(0);
        match decoder.decode(block) {
            Ok(fields) if fields.iter().any(|(name, value)| name == b"grpc-status" && value == b"0") => {
                self.good = block.to_vec();
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let frame = [&frame_header(3, kind::DATA, kind::END_STREAM, 7)[..], b"abc"].concat();
        for len in 0..frame.len() {
            assert!(Frame::split(&frame[..len]).is_none(), "{len}");
        }
        let mut input = Input { bytes: [&frame[..], &frame[..5]].concat(), filled: 17, taken: 0 };
        let first = input.next().unwrap();
        assert_eq!((first.kind, first.flags, first.stream, first.payload), (0, 1, 7, &b"abc"[..]));
        assert!(input.next().is_none());
        assert_eq!(input.taken, frame.len());
    }

    #[test]
    fn windows_are_read() {
        let payload = [0, 3, 0, 0, 0, 9, 0, 4, 0, 1, 0, 0];
        let frame = |payload| Frame { kind: kind::SETTINGS, flags: 0, stream: 0, payload };
        assert_eq!(frame(&payload[..]).initial_window(), Some(65_536));
        assert_eq!(frame(&payload[..6]).initial_window(), None);
        assert_eq!(frame(&[0, 0, 1, 0][..]).credit(), 256);
    }
}
