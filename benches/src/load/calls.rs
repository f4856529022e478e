//! Calls of messages both ways over one connection, and unary ones whose next request depends on the answer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Frame, Link, REFILL_AT, Trailers, WINDOW_DEFAULT, frame_header, kind, wait};
use super::workload::{INDEXED_BLOCK, first_block};

/// The five bytes before a message: a flag and the length.
const PREFIX_LEN: usize = 5;

/// One connection with calls of one method.
pub(super) struct Calls {
    link: Link,
    path: &'static str,
    next_stream: u32,
    open: HashMap<u32, Call>,
    /// What a new call may send.
    window_initial: i64,
    trailers: Trailers,
    /// Why a call ended that should not have.
    pub failure: Option<String>,
}

/// A call under way.
struct Call {
    /// What the server lets us send.
    window: i64,
    received: u32,
    /// The beginning of a message whose end has not come yet.
    partial: Vec<u8>,
}

impl Calls {
    /// Connects, for calls of the method at `path`.
    pub fn open(address: SocketAddr, path: &'static str) -> io::Result<Calls> {
        Ok(Calls {
            link: Link::open(address)?,
            path,
            next_stream: 1,
            open: HashMap::new(),
            window_initial: WINDOW_DEFAULT,
            trailers: Trailers::default(),
            failure: None,
        })
    }

    /// How many calls are under way.
    pub fn under_way(&self) -> usize {
        self.open.len()
    }

    /// Begins a call; its number.
    pub fn begin(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = if stream == 1 { first_block(self.path) } else { INDEXED_BLOCK.to_vec() };
        let output = &mut self.link.output;
        output.extend_from_slice(&frame_header(block.len(), kind::HEADERS, kind::END_HEADERS, stream));
        output.extend_from_slice(&block);
        let call = Call { window: self.window_initial, received: 0, partial: Vec::new() };
        self.open.insert(stream, call);
        stream
    }

    /// Says `message` on a call. Errors: the server does not let us send that much now, or has ended the call.
    pub fn say(&mut self, stream: u32, message: &[u8]) -> io::Result<()> {
        self.send(stream, message, 0)
    }

    /// Begins a call with one request that is also the last.
    pub fn ask(&mut self, message: &[u8]) -> io::Result<u32> {
        let stream = self.begin();
        self.send(stream, message, kind::END_STREAM)?;
        Ok(stream)
    }

    fn send(&mut self, stream: u32, message: &[u8], flags: u8) -> io::Result<()> {
        let len = PREFIX_LEN + message.len();
        let call = self.open.get_mut(&stream).ok_or_else(|| {
            let why = self.failure.as_deref().unwrap_or("no reason given");
            io::Error::other(format!("{} has ended: {why}", self.path))
        })?;
        if self.link.window.min(call.window) < len as i64 {
            return Err(io::Error::other(format!("{}: the server's window is full", self.path)));
        }
        self.link.window -= len as i64;
        call.window -= len as i64;
        let output = &mut self.link.output;
        output.extend_from_slice(&frame_header(len, kind::DATA, flags, stream));
        output.push(0);
        output.extend_from_slice(&(message.len() as u32).to_be_bytes());
        output.extend_from_slice(message);
        Ok(())
    }

    /// Reads what is there and gives `heard` each message, with the call that it is of.
    pub fn receive(
        &mut self,
        heard: &mut impl FnMut(&mut Calls, u32, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(mut input) = self.link.read()? else { return Ok(()) };
        while let Some(frame) = input.next() {
            self.link.on_frame(&frame)?;
            self.on_frame(&frame, heard)?;
        }
        self.link.keep(input);
        Ok(())
    }

    fn on_frame(
        &mut self,
        frame: &Frame<'_>,
        heard: &mut impl FnMut(&mut Calls, u32, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match frame.kind {
            kind::DATA => self.on_data(frame, heard)?,
            kind::HEADERS if frame.flags & kind::END_STREAM != 0 => {
                let verdict = self.trailers.check(frame.payload);
                self.end(frame.stream, verdict);
            }
            kind::RST_STREAM => {
                self.end(frame.stream, Err(format!("RST_STREAM {:?}", frame.payload)));
            }
            kind::SETTINGS if frame.flags & kind::ACK == 0 => {
                if let Some(window) = frame.initial_window() {
                    let change = window - self.window_initial;
                    self.window_initial = window;
                    self.open.values_mut().for_each(|call| call.window += change);
                }
            }
            kind::WINDOW_UPDATE => {
                if let Some(call) = self.open.get_mut(&frame.stream) {
                    call.window += frame.credit();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        frame: &Frame<'_>,
        heard: &mut impl FnMut(&mut Calls, u32, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(call) = self.open.get_mut(&frame.stream) else { return Ok(()) };
        call.received += frame.payload.len() as u32;
        if call.received >= REFILL_AT {
            self.link.refill(frame.stream, std::mem::take(&mut call.received));
        }
        // Most messages come in one frame and are not copied.
        let mut partial = std::mem::take(&mut call.partial);
        let mut rest = frame.payload;
        if !partial.is_empty() {
            partial.extend_from_slice(rest);
            rest = &partial;
        }
        while let Some((message, after)) = split_message(rest) {
            heard(self, frame.stream, message)?;
            rest = after;
        }
        let rest = rest.to_vec();
        if let Some(call) = self.open.get_mut(&frame.stream) {
            call.partial = rest;
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, verdict: Result<(), String>) {
        self.open.remove(&stream);
        if let Err(failure) = verdict {
            self.failure.get_or_insert(failure);
        }
    }
}

fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_LEN>()?;
    rest.split_at_checked(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

/// Sends what waits on all connections, waits for messages at most `limit`, and gives `heard` each with the number of
/// its connection.
pub(super) fn turn(
    connections: &mut [Calls],
    limit: Duration,
    mut heard: impl FnMut(usize, &mut Calls, u32, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let readable = wait(connections.iter_mut().map(|calls| &mut calls.link), limit)?;
    for (index, _) in readable.into_iter().enumerate().filter(|(_, readable)| *readable) {
        connections[index].receive(&mut |calls, stream, message| heard(index, calls, stream, message))?;
    }
    match connections.iter().find_map(|calls| calls.failure.as_ref()) {
        Some(failure) => Err(io::Error::other(failure.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole() {
        let bytes = [0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 1];
        let (message, rest) = split_message(&bytes).unwrap();
        assert_eq!((message, rest), (&[7, 8][..], &bytes[7..]));
        assert!(split_message(rest).is_none());
    }
}
