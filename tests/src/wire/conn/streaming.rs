//! Calls whose messages go and come one by one.

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use super::super::frame::{FRAME_SIZE_MAX, Frame, FrameKind, flag};
use super::super::grpc::{Request, frame_message};
use super::{ANSWER_MAX, Conn, StreamId};

const CANCEL: u32 = 8;

impl Conn {
    /// Opens a call and sends its headers alone.
    pub fn open_stream(&mut self, path: &str) -> io::Result<StreamId> {
        self.start(&Request { body: Vec::new(), end: false, ..Request::grpc(path, &[]) })
    }

    /// Sends the next message, which is expected to be shorter than any window.
    pub fn say(&mut self, stream: StreamId, message: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for part in frame_message(message, false).chunks(FRAME_SIZE_MAX) {
            Frame::new(FrameKind::Data, 0, stream.0, part).write(&mut bytes)?;
        }
        self.writer.write_all(&bytes)
    }

    /// Says that no message follows.
    pub fn half_close(&mut self, stream: StreamId) -> io::Result<()> {
        self.send(&Frame::new(FrameKind::Data, flag::END_STREAM, stream.0, []))
    }

    /// Gives the call up.
    pub fn cancel(&mut self, stream: StreamId) -> io::Result<()> {
        self.streams.remove(&stream.0);
        self.send(&Frame::new(FrameKind::RstStream, 0, stream.0, CANCEL.to_be_bytes()))
    }

    /// Whether the server ended the call; then [`Conn::finish`] says how.
    pub fn has_ended(&self, stream: StreamId) -> bool {
        self.streams.get(&stream.0).is_none_or(|stream| stream.end.is_some())
    }

    /// The next message of a call; `None` if none comes within `limit`, or the call has ended.
    pub fn hear(&mut self, stream: StreamId, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.take_message(stream) {
                return Ok(Some(message));
            }
            if self.has_ended(stream) || !self.has_input(deadline)? {
                return Ok(None);
            }
            self.pump()?;
        }
    }

    /// Takes the first message of those that have come, without looking for more.
    pub fn take_message(&mut self, stream: StreamId) -> Option<Vec<u8>> {
        let stream = self.streams.get_mut(&stream.0)?;
        let rest = stream.body.get(stream.read..)?;
        let (prefix, rest) = rest.split_first_chunk::<5>()?;
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let message = rest.get(..len)?.to_vec();
        stream.read += 5 + len;
        if stream.read > READ_KEPT {
            stream.body.drain(..std::mem::take(&mut stream.read));
        }
        Some(message)
    }

    /// Takes what has come of the body of an answer, whatever it is part of, and waits if that is nothing; `None` at the
    /// end. For bodies too long to gather.
    pub fn take_body(&mut self, stream: StreamId) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(stream) = self.streams.get_mut(&stream.0) else { return Ok(None) };
            if !stream.body.is_empty() {
                return Ok(Some(std::mem::take(&mut stream.body)));
            }
            if stream.end.is_some() {
                return Ok(None);
            }
            self.pump()?;
        }
    }

    /// Waits for a byte without taking it, so that no frame is read in half.
    fn has_input(&mut self, deadline: Instant) -> io::Result<bool> {
        let wait = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.writer.set_read_timeout(Some(wait))?;
        let filled = self.reader.fill_buf().map(|_| ());
        self.writer.set_read_timeout(Some(ANSWER_MAX))?;
        match filled {
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                Ok(false)
            }
            filled => filled.map(|()| true),
        }
    }
}

/// Bytes of messages that were taken are kept up to here.
const READ_KEPT: usize = 1 << 20;
