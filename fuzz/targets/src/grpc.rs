//! A connection's bytes through HTTP/2, HPACK and gRPC, in pieces, with answers of every kind.

use std::time::{Duration, Instant};

use net::front::lookup;
use net::grpc::{CallId, Code, Config, Event, Server, Status};
use net::h2;
use net::h2::frame::{self, Frame, PREFACE, flag, kind};
use net::hpack::Encoder;

/// Input arrives in pieces of these sizes.
const PIECES: [usize; 4] = [1 << 20, 1000, 17, 1];

/// Longest message; small, so that its limit is met.
const MESSAGE_LEN_MAX: usize = 8 << 10;

/// Length of a streamed answer.
const STREAMED: u64 = 100_000;

/// The first byte is the driver's: two bits for the size of pieces, one to leave calls unanswered, one to leave output
/// lying, one to send the preface first. The rest is what the client sends.
pub fn target(data: &[u8]) {
    let Some((&driver, bytes)) = data.split_first() else { return };
    let mut connection = Connection::new(driver);
    if driver & 0x10 != 0 && connection.feed(&hello()).is_err() {
        return;
    }
    for piece in bytes.chunks(PIECES[usize::from(driver % 4)]) {
        if connection.feed(piece).is_err() {
            return;
        }
    }
    connection.now += Duration::from_secs(7200);
    let _ = connection.server.handle_timeout(connection.now);
    connection.server.shutdown(connection.now);
    let _ = connection.feed(&[]);
}

struct Connection {
    server: Server,
    now: Instant,
    unread: Vec<u8>,
    answers: bool,
    flushes: bool,
    /// Calls to answer in full at the end of a turn.
    calls: Vec<(CallId, usize)>,
    /// Bytes missing of streamed answers.
    streamed: Vec<(CallId, u64)>,
}

impl Connection {
    fn new(driver: u8) -> Connection {
        let config = Config { http: h2::Config::default(), message_len_max: MESSAGE_LEN_MAX, route: lookup };
        let now = Instant::now();
        Connection {
            server: Server::new(config, now),
            now,
            unread: Vec::new(),
            answers: driver & 4 == 0,
            flushes: driver & 8 == 0,
            calls: Vec::new(),
            streamed: Vec::new(),
        }
    }

    /// One turn, as the module documentation of `net::grpc` has it.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        loop {
            let before = input.len();
            while let Some(event) = self.server.poll_event(self.now, &mut input).map_err(drop)? {
                match event {
                    Event::Request { call, message, .. } => self.calls.push((call, message.len())),
                    Event::Call { call, .. } | Event::HalfClosed { call } => self.calls.push((call, 0)),
                    Event::Message { .. } | Event::Cancelled { .. } => {}
                }
            }
            self.answer();
            self.flush();
            if input.len() == before || input.is_empty() {
                break;
            }
        }
        assert!(input.len() <= h2::INPUT_LEN_MIN || !self.server.wants_input(), "{} bytes left", input.len());
        self.unread = input.to_vec();
        self.now += Duration::from_millis(1);
        if self.server.next_timeout().is_some_and(|timeout| timeout <= self.now) {
            self.server.handle_timeout(self.now).map_err(drop)?;
        }
        Ok(())
    }

    fn answer(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        for (call, len) in calls.into_iter().filter(|_| self.answers) {
            match len % 4 {
                0 => {
                    self.server.reply_error(call, &Status::new(Code::NotFound, "näher\n\0%"));
                }
                1 => {
                    self.server.begin_message(call, STREAMED);
                    self.streamed.push((call, STREAMED));
                }
                _ => {
                    self.server.reply_unary(call, |out| out.resize(out.len() + len, b'a'));
                }
            }
        }
    }

    fn flush(&mut self) {
        loop {
            while let Some((call, budget)) = self.server.poll_writable() {
                let Some(at) = self.streamed.iter().position(|(id, _)| *id == call) else { continue };
                let len = self.streamed[at].1.min(budget as u64);
                self.server.push_chunk(call, |out| out.resize(out.len() + len as usize, b's'));
                self.streamed[at].1 -= len;
                if self.streamed[at].1 == 0 {
                    self.streamed.remove(at);
                    self.server.finish(call, &Status::OK);
                }
            }
            let mut output = self.server.output();
            let len = output.len();
            if len == 0 || !self.flushes {
                return;
            }
            while !output.is_empty() {
                let frame = Frame::take(&mut output).expect("our frames are sound");
                assert!(frame.is_some(), "half a frame in the output");
            }
            self.server.consume_output(self.now, len);
        }
    }
}

fn hello() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame::put(&mut out, kind::SETTINGS, 0, 0, &[]);
    out
}

/// Calls as clients make them, and frames of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let put = b"\x0a\x03foo\x12\x03bar";
    let with_driver = |driver: u8, frames: Vec<u8>| [&[driver][..], &frames].concat();
    let mut client = Client::default();
    let two_calls = [
        client.call(1, "/etcdserverpb.KV/Put", &[], put),
        client.call(3, "/etcdserverpb.KV/Range", &[("grpc-timeout", b"4998754u")], b"\x0a\x03foo"),
    ];
    let mut client = Client::default();
    let refused = [
        client.call(1, "/etcdserverpb.Nope/Put", &[], b""),
        client.call(3, "nopath", &[("grpc-encoding", b"gzip")], b""),
        client.call(5, "/etcdserverpb.KV/Put", &[("content-type", b"text/plain")], put),
        client.call(7, "/etcdserverpb.KV/Put", &[("grpc-timeout", b"1n")], put),
    ];
    let mut client = Client::default();
    let gzipped =
        b"\x01\0\0\0\x1a\x1f\x8b\x08\0\0\0\0\0\0\xff\xe3\x62\x4e\xcb\xcf\x07\0\x17\x85\x2b\x6f\x05\0\0\0";
    let compressed = [
        client.headers(1, "/etcdserverpb.KV/Range", &[("grpc-encoding", b"gzip")], 0),
        raw(kind::DATA, flag::END_STREAM, 1, gzipped),
    ];
    let mut client = Client::default();
    let control = [
        raw(kind::SETTINGS, 0, 0, b"\0\x04\0\0\0\x05\0\x01\0\0\x10\0\0\x05\0\x01\0\0"),
        raw(kind::SETTINGS, flag::ACK, 0, b""),
        raw(kind::PING, 0, 0, b"pingping"),
        raw(kind::WINDOW_UPDATE, 0, 0, &0xffff_u32.to_be_bytes()),
        client.headers(1, "/etcdserverpb.KV/Put", &[], 0),
        raw(kind::WINDOW_UPDATE, 0, 1, &7_u32.to_be_bytes()),
        raw(kind::DATA, 0, 1, b"\0\0\0\0\x0a\x0a\x03f"),
        raw(kind::PRIORITY, 0, 3, b"\0\0\0\x01\x10"),
        raw(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x02oo\x12\x03bar\0\0"),
        raw(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes()),
        raw(kind::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0bye"),
    ];
    let mut client = Client::default();
    let block = client.headers(1, "/etcdserverpb.KV/Range", &[("x-long", &[b'y'; 300])], 0);
    let block = &block[frame::HEAD_LEN..];
    let continued = [
        raw(kind::HEADERS, 0, 1, &block[..40]),
        raw(kind::CONTINUATION, 0, 1, &block[40..90]),
        raw(kind::CONTINUATION, flag::END_HEADERS, 1, &block[90..]),
        raw(kind::DATA, flag::END_STREAM, 1, b"\0\0\0\0\x05\x0a\x03foo"),
    ];
    vec![
        with_driver(0x00, [hello(), two_calls.concat()].concat()),
        with_driver(0x11, refused.concat()),
        with_driver(0x10, compressed.concat()),
        with_driver(0x12, control.concat()),
        with_driver(0x17, continued.concat()),
        with_driver(0x18, two_calls.concat()),
    ]
}

/// Writes requests.
struct Client(Encoder);

impl Default for Client {
    fn default() -> Client {
        Client(Encoder::new())
    }
}

impl Client {
    fn headers(&mut self, stream: u32, path: &str, more: &[(&'static str, &[u8])], flags: u8) -> Vec<u8> {
        let mut fields: Vec<(&'static str, &[u8])> = vec![
            (":method", b"POST"),
            (":scheme", b"http"),
            (":path", path.as_bytes()),
            ("te", b"trailers"),
            ("content-type", b"application/grpc"),
        ];
        for &(name, value) in more {
            fields.retain(|field| field.0 != name);
            fields.push((name, value));
        }
        let mut block = Vec::new();
        self.0.encode(&fields, &mut block);
        raw(kind::HEADERS, flags | flag::END_HEADERS, stream, &block)
    }

    fn call(&mut self, stream: u32, path: &str, more: &[(&'static str, &[u8])], message: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        net::grpc::frame::put(&mut body, false, |out| out.extend_from_slice(message));
        [self.headers(stream, path, more, 0), raw(kind::DATA, flag::END_STREAM, stream, &body)].concat()
    }
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, kind, flags, stream, payload);
    out
}
