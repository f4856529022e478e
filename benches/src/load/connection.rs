//! One connection: requests out as flow control allows, answers in, nothing blocking.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use fluke_hpack::Decoder;

use super::workload::{Template, Workload};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HEADER_TABLE_SIZE 0, so that equal header blocks are equal bytes; INITIAL_WINDOW_SIZE as large as it gets.
const SETTINGS: &[u8] = &[0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
const WINDOW_DEFAULT: i64 = 65_535;
/// Our own window is refilled when this much of it is used.
const REFILL_AT: u32 = 1 << 30;
const FRAME_HEADER_LEN: usize = 9;
const READ_LEN: usize = 256 << 10;

/// A connection with requests under way.
pub(super) struct Connection {
    pub socket: TcpStream,
    first: Template,
    later: Template,
    next_stream: u32,
    /// When each stream under way was due, by stream number: streams end nearly in order.
    due: VecDeque<Option<Instant>>,
    /// The stream of `due[0]`.
    oldest: u32,
    pub under_way: usize,
    window: i64,
    received: u32,
    output: Vec<u8>,
    /// Twice as long as the longest frame, filled up to `filled`.
    input: Vec<u8>,
    filled: usize,
    /// The last trailers found good: the next ones are most likely the same bytes.
    good_trailers: Vec<u8>,
    pub failures: u64,
    /// The first failure.
    pub failure: Option<String>,
}

impl Connection {
    pub fn open(address: SocketAddr, workload: &Workload) -> io::Result<Connection> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut connection = Connection {
            socket,
            first: Template::new(workload, true),
            later: Template::new(workload, false),
            next_stream: 1,
            due: VecDeque::new(),
            oldest: 1,
            under_way: 0,
            window: WINDOW_DEFAULT,
            received: 0,
            output: [PREFACE, SETTINGS].concat(),
            input: vec![0; READ_LEN],
            filled: 0,
            good_trailers: Vec::new(),
            failures: 0,
            failure: None,
        };
        connection.refill(0x7fff_ffff - WINDOW_DEFAULT as u32);
        Ok(connection)
    }

    /// Whether one more request fits into the server's window.
    pub fn has_room(&self) -> bool {
        self.window >= self.first.data_len() as i64
    }

    /// Puts a request for `key` into the output.
    pub fn request(&mut self, key: u64, due: Instant) {
        let template = if self.next_stream == 1 { &self.first } else { &self.later };
        template.write(&mut self.output, self.next_stream, key);
        self.window -= template.data_len() as i64;
        self.next_stream += 2;
        self.under_way += 1;
        self.due.push_back(Some(due));
    }

    /// Whether bytes wait to be sent.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
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

    /// Reads what is there and tells `done` when each finished request was due.
    pub fn receive(&mut self, mut done: impl FnMut(Instant)) -> io::Result<()> {
        match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.filled += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        // Taken out while its frames are handled, for they change the rest of the connection.
        let mut input = std::mem::take(&mut self.input);
        let mut rest = &input[..self.filled];
        while let Some(header) = rest.first_chunk::<FRAME_HEADER_LEN>() {
            let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let Some(payload) = rest[FRAME_HEADER_LEN..].get(..len) else { break };
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            self.on_frame(header[3], header[4], stream, payload, &mut done)?;
            rest = &rest[FRAME_HEADER_LEN + len..];
        }
        let left = rest.len();
        input.copy_within(self.filled - left..self.filled, 0);
        (self.input, self.filled) = (input, left);
        Ok(())
    }

    fn on_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        done: &mut impl FnMut(Instant),
    ) -> io::Result<()> {
        match kind {
            0 => {
                self.received += payload.len() as u32;
                if self.received >= REFILL_AT {
                    let received = std::mem::take(&mut self.received);
                    self.refill(received);
                }
            }
            1 if flags & 1 != 0 => {
                self.check_trailers(payload);
                self.finish(stream, done);
            }
            3 => {
                self.fail(|| format!("RST_STREAM {payload:?}"));
                self.finish(stream, done);
            }
            4 if flags & 1 == 0 => self.output.extend_from_slice(SETTINGS_ACK),
            6 if flags & 1 == 0 => {
                self.output.extend_from_slice(&[0, 0, 8, 6, 1, 0, 0, 0, 0]);
                self.output.extend_from_slice(payload);
            }
            7 => return Err(io::Error::other(format!("GOAWAY {}", payload.escape_ascii()))),
            8 if stream == 0 => {
                let credit = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                self.window += i64::from(credit);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, stream: u32, done: &mut impl FnMut(Instant)) {
        let slot = (stream.wrapping_sub(self.oldest) / 2) as usize;
        if let Some(due) = self.due.get_mut(slot).and_then(Option::take) {
            self.under_way -= 1;
            done(due);
        }
        while let Some(None) = self.due.front() {
            self.due.pop_front();
            self.oldest += 2;
        }
    }

    fn check_trailers(&mut self, block: &[u8]) {
        if block == self.good_trailers {
            return;
        }
        let mut decoder = Decoder::new();
        decoder.set_max_table_size(0);
        match decoder.decode(block) {
            Ok(fields) if fields.iter().any(|(name, value)| name == b"grpc-status" && value == b"0") => {
                self.good_trailers = block.to_vec();
            }
            other => self.fail(|| format!("{other:?}")),
        }
    }

    fn fail(&mut self, text: impl FnOnce() -> String) {
        self.failures += 1;
        self.failure.get_or_insert_with(text);
    }

    fn refill(&mut self, credit: u32) {
        self.output.extend_from_slice(&[0, 0, 4, 8, 0, 0, 0, 0, 0]);
        self.output.extend_from_slice(&credit.to_be_bytes());
    }
}
