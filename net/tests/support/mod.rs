//! A scripted client: bytes into a [`Server`], and everything that comes out as lines of text.
//!
//! Frames the server sends are written `< ...`, events it reports `! ...`. The methods of the service `t.T` answer by
//! themselves: `Echo` with its request, `Hold` never (tests do), `Big` with as many bytes as the request says, `Chat`
//! with every message of its stream.
#![allow(dead_code, reason = "each test file uses its part")]

use net::grpc::{CallId, Config, Event, Lookup, MethodId, MethodKind, Server, Status};
use net::h2::frame::{self, Frame, flag, kind};
use net::h2::{self, ConnectionError};
use net::hpack::{Decoder, Encoder, FieldList};
use std::time::{Duration, Instant};

pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), ("te", "trailers"), ("content-type", "application/grpc")];

pub struct Client {
    pub server: Server,
    pub now: Instant,
    pub lines: Vec<String>,
    pub error: Option<ConnectionError>,
    /// Bytes of response bodies seen.
    pub body: Vec<u8>,
    pub calls: Vec<CallId>,
    /// What remains to be pushed to calls of `Big`.
    pub big: Vec<(CallId, u64)>,
    encoder: Encoder,
    decoder: Decoder,
    unread: Vec<u8>,
}

pub fn route(service: &str, method: &str) -> Lookup {
    let found = |id, kind| Lookup::Method(MethodId(id), kind);
    match (service, method) {
        ("t.T", "Echo") => found(0, MethodKind::OneMessage),
        ("t.T", "Hold") => found(1, MethodKind::OneMessage),
        ("t.T", "Big") => found(2, MethodKind::OneMessage),
        ("t.T", "Chat") => found(3, MethodKind::Streaming),
        ("t.T", _) => Lookup::UnknownMethod,
        _ => Lookup::UnknownService,
    }
}

pub fn config() -> Config {
    Config { http: h2::Config::default(), message_len_max: 2_097_152, route }
}

impl Client {
    pub fn with(config: Config) -> Client {
        let now = Instant::now();
        Client {
            server: Server::new(config, now),
            now,
            lines: Vec::new(),
            error: None,
            body: Vec::new(),
            calls: Vec::new(),
            big: Vec::new(),
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            unread: Vec::new(),
        }
    }

    /// A client past the handshake, which left no lines.
    pub fn new() -> Client {
        let mut client = Client::with(config());
        client.feed(&hello());
        client.lines.clear();
        client
    }

    /// Frames of a request's fields.
    pub fn headers(
        &mut self,
        stream: u32,
        path: &'static str,
        more: &[(&'static str, &str)],
        flags: u8,
    ) -> Vec<u8> {
        let mut fields = vec![(":path", path.as_bytes())];
        fields.extend(POST.iter().map(|(name, value)| (*name, value.as_bytes())));
        for (name, value) in more {
            match fields.iter_mut().find(|field| field.0 == *name) {
                Some(field) => field.1 = value.as_bytes(),
                None => fields.push((name, value.as_bytes())),
            }
        }
        fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        let mut block = Vec::new();
        self.encoder.encode(&fields, &mut block);
        let mut out = Vec::new();
        frame::put(&mut out, kind::HEADERS, flags | flag::END_HEADERS, stream, &block);
        out
    }

    /// Frames of a complete call with one message.
    pub fn call(
        &mut self,
        stream: u32,
        path: &'static str,
        more: &[(&'static str, &str)],
        message: &[u8],
    ) -> Vec<u8> {
        let mut out = self.headers(stream, path, more, 0);
        out.extend(data(stream, &grpc(message), flag::END_STREAM));
        out
    }

    /// Gives bytes to the server, as a driver does, and records what comes out.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        loop {
            let before = input.len();
            self.poll(&mut input);
            self.flush();
            if input.len() == before || input.is_empty() || self.error.is_some() {
                break;
            }
        }
        self.unread = input.to_vec();
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        if let Err(error) = self.server.handle_timeout(self.now) {
            self.fail(error);
        }
        self.feed(&[]);
    }

    /// Polls events without taking output.
    pub fn poll(&mut self, input: &mut &[u8]) {
        let mut answers: Vec<(CallId, Answer)> = Vec::new();
        loop {
            match self.server.poll_event(self.now, input) {
                Ok(None) => break,
                Err(error) => {
                    self.fail(error);
                    break;
                }
                Ok(Some(event)) => on_event(event, &mut self.lines, &mut self.calls, &mut answers),
            }
            for (call, answer) in answers.drain(..) {
                match answer {
                    Answer::Unary(body) => {
                        self.server.reply_unary(call, |out| out.extend_from_slice(&body));
                    }
                    Answer::Message(body) => {
                        self.server.send_message(call, |out| out.extend_from_slice(&body));
                    }
                    Answer::Big(len) => {
                        self.server.begin_message(call, len);
                        self.big.push((call, len));
                    }
                    Answer::End => {
                        self.server.finish(call, &Status::OK);
                    }
                }
            }
        }
    }

    /// Takes all output, with the pushes that it makes room for.
    pub fn flush(&mut self) {
        loop {
            self.push();
            let mut output = self.server.output();
            if output.is_empty() {
                return;
            }
            let len = output.len();
            while !output.is_empty() {
                let frame = Frame::take(&mut output).unwrap().expect("output holds whole frames");
                let line = describe(frame, &mut self.decoder, &mut self.body);
                self.lines.push(line);
            }
            self.server.consume_output(self.now, len);
        }
    }

    fn push(&mut self) {
        while let Some((call, budget)) = self.server.poll_writable() {
            assert!(budget <= 256 << 10, "budget of {budget}");
            let Some(at) = self.big.iter().position(|(id, _)| *id == call) else { continue };
            let len = self.big[at].1.min(budget as u64);
            self.server.push_chunk(call, |out| out.resize(out.len() + len as usize, b'b'));
            self.big[at].1 -= len;
            if self.big[at].1 == 0 {
                self.big.remove(at);
                self.server.finish(call, &Status::OK);
            }
        }
    }

    fn fail(&mut self, error: ConnectionError) {
        self.lines.push(format!("! error {error}"));
        self.error = Some(error);
    }

    /// The lines so far, which are forgotten.
    pub fn transcript(&mut self) -> String {
        std::mem::take(&mut self.lines).join("\n")
    }

    #[track_caller]
    pub fn expect(&mut self, expected: &[&str]) {
        assert_eq!(self.transcript(), expected.join("\n"));
    }
}

enum Answer {
    Unary(Vec<u8>),
    Message(Vec<u8>),
    Big(u64),
    End,
}

fn on_event(
    event: Event<'_>,
    lines: &mut Vec<String>,
    calls: &mut Vec<CallId>,
    answers: &mut Vec<(CallId, Answer)>,
) {
    let number = |call: CallId| call.to_u64() & 0xffff_ffff;
    match event {
        Event::Request { call, method, message, .. } => {
            lines.push(format!("! request {} {}", number(call), brief(message)));
            calls.push(call);
            match method {
                MethodId(0) => answers.push((call, Answer::Unary(message.to_vec()))),
                MethodId(2) => {
                    let len = message.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) % (1 << 24));
                    answers.push((call, Answer::Big(u64::from(len))));
                }
                _ => {}
            }
        }
        Event::Call { call, .. } => {
            lines.push(format!("! call {}", number(call)));
            calls.push(call);
        }
        Event::Message { call, message, .. } => {
            lines.push(format!("! message {} {}", number(call), brief(message)));
            answers.push((call, Answer::Message(message.to_vec())));
        }
        Event::HalfClosed { call } => {
            lines.push(format!("! half-closed {}", number(call)));
            answers.push((call, Answer::End));
        }
        Event::Cancelled { call } => lines.push(format!("! cancelled {}", number(call))),
    }
}

/// One line for a frame of the server.
fn describe(frame: Frame<'_>, decoder: &mut Decoder, body: &mut Vec<u8>) -> String {
    let end = if frame.kind <= kind::HEADERS && frame.has(flag::END_STREAM) { " end" } else { "" };
    let Frame { stream, payload, .. } = frame;
    let code = |at: usize| frame::number(&payload[at..]).unwrap();
    match frame.kind {
        kind::DATA => {
            body.extend_from_slice(payload);
            format!("< data {stream} {}{end}", brief(payload))
        }
        kind::HEADERS => {
            let mut fields = FieldList::new(1 << 20);
            decoder.decode(payload, &mut fields).unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let all: Vec<String> =
                fields.iter_text().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
            format!("< headers {stream} {}{end}", all.join(", "))
        }
        kind::RST_STREAM => format!("< reset {stream} code {}", code(0)),
        kind::SETTINGS if frame.has(flag::ACK) => "< settings ack".to_owned(),
        kind::SETTINGS => format!("< settings {payload:?}"),
        kind::PING if frame.has(flag::ACK) => format!("< ping ack {payload:?}"),
        kind::PING => format!("< ping {payload:?}"),
        kind::GOAWAY => {
            format!("< goaway last {} code {} {}", code(0), code(4), String::from_utf8_lossy(&payload[8..]))
        }
        kind::WINDOW_UPDATE => format!("< window {stream} +{}", code(0)),
        other => panic!("frame of kind {other} from the server"),
    }
}

fn brief(bytes: &[u8]) -> String {
    if bytes.len() <= 20 { format!("\"{}\"", bytes.escape_ascii()) } else { format!("{} bytes", bytes.len()) }
}

/// Preface and empty SETTINGS.
pub fn hello() -> Vec<u8> {
    let mut out = frame::PREFACE.to_vec();
    out.extend(settings(&[]));
    out
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    raw(kind::SETTINGS, 0, 0, &payload)
}

pub fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, kind, flags, stream, payload);
    out
}

pub fn data(stream: u32, payload: &[u8], flags: u8) -> Vec<u8> {
    raw(kind::DATA, flags, stream, payload)
}

pub fn window(stream: u32, increment: u32) -> Vec<u8> {
    raw(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn ping() -> Vec<u8> {
    raw(kind::PING, 0, 0, b"pingping")
}

pub fn reset(stream: u32) -> Vec<u8> {
    raw(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

/// A message with its prefix.
pub fn grpc(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    net::grpc::frame::put(&mut out, false, |out| out.extend_from_slice(message));
    out
}
