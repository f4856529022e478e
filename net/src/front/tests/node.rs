//! A member on a disk in memory, and clients that speak HTTP/2 bytes with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::disk::mem::MemDisk;
use engine::disk::{Disk, Op, Owner, Token};
use engine::replica::{self, Replica, Work, open};
use prost::Message;

use crate::front::{self, ConnId, Front, lookup};
use crate::grpc;
use crate::h2::frame::{self, Frame, flag, kind};
use crate::h2::{self};
use crate::hpack::{Decoder, Encoder, FieldList};

/// Output of a connection is never longer, however long the answer.
const OUTPUT_LEN_MAX: usize = 512 << 10;

/// The member.
pub struct Node {
    pub replica: Replica,
    pub front: Front,
    disk: MemDisk,
    pub now: Instant,
    clients: Vec<Client>,
    /// Writes of the log do not complete while this is some.
    held: Option<Vec<(Token, Op)>>,
    /// Longest output seen.
    pub output_len_max: usize,
}

/// A connection, seen from the client.
struct Client {
    conn: ConnId,
    encoder: Encoder,
    decoder: Decoder,
    next_stream: u32,
    /// Bytes received and not parsed.
    unread: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
    /// Grant as much window as is used up.
    grants: bool,
    closed: bool,
}

/// A call, as far as it was answered.
#[derive(Debug, Default)]
pub struct Stream {
    pub data: Vec<u8>,
    pub status: Option<u32>,
    pub message: String,
}

/// Status and its text.
pub type Failure = (u32, String);

impl Node {
    pub fn new() -> Node {
        Node::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut replica::Config)) -> Node {
        Node::open(MemDisk::new(), 1 << 40, Instant::now(), change)
    }

    /// Stops, and starts again with nothing in memory.
    pub fn restart(mut self, change: impl FnOnce(&mut replica::Config)) -> Node {
        self.replica.stop();
        while !self.replica.is_stopped() {
            self.wait(Duration::from_millis(100));
            self.settle();
        }
        Node::open(self.disk, 1 << 41, self.now, change)
    }

    fn open(mut disk: MemDisk, nonce: u64, now: Instant, change: impl FnOnce(&mut replica::Config)) -> Node {
        let mut config = replica::Config::new(7, 8, 9);
        change(&mut config);
        let replica = open::open(config, &mut disk, None, nonce, now).unwrap().replica;
        let grpc = grpc::Config { http: h2::Config::default(), message_len_max: 2 << 20, route: lookup };
        let member = engine::types::Member { id: 8, name: "m".into(), ..Default::default() };
        let config = front::Config {
            grpc,
            ops_max: 128,
            version: "3.6.16".into(),
            storage_version: "3.6.0".into(),
            quota: 2 << 30,
            members: vec![member],
            watch: engine::watch::Config::default(),
            leader_grace: Duration::from_secs(3),
        };
        let front = Front::new(config);
        let (clients, held) = (Vec::new(), None);
        let mut node = Node { replica, front, disk, now, clients, held, output_len_max: 0 };
        node.settle();
        node
    }

    /// A new connection past its handshake. `window` is that of each of its streams.
    pub fn connect(&mut self, window: u32) -> usize {
        let conn = self.front.accept(self.now);
        self.clients.push(Client {
            conn,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            next_stream: 1,
            unread: Vec::new(),
            streams: BTreeMap::new(),
            grants: true,
            closed: false,
        });
        let client = self.clients.len() - 1;
        let mut hello = frame::PREFACE.to_vec();
        let setting = [&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        frame::put(&mut hello, kind::SETTINGS, 0, 0, &setting);
        self.feed(client, &hello);
        self.settle();
        client
    }

    /// Bytes from a client.
    fn feed(&mut self, client: usize, bytes: &[u8]) {
        let mut input = bytes;
        let conn = self.clients[client].conn;
        self.front.handle_input(self.now, conn, &mut input, &mut self.replica).unwrap().unwrap();
        assert!(input.is_empty(), "{} bytes were not taken", input.len());
    }

    /// Sends a request and returns its stream.
    pub fn send(&mut self, client: usize, path: &str, request: &impl Message) -> u32 {
        self.send_with(client, path, &[], request)
    }

    pub fn send_with(
        &mut self,
        client: usize,
        path: &str,
        more: &[(&'static str, &str)],
        request: &impl Message,
    ) -> u32 {
        let stream = self.open_stream(client, path, more);
        self.push(client, stream, request, true);
        stream
    }

    /// Begins a call and returns its stream.
    pub fn open_stream(&mut self, client: usize, path: &str, more: &[(&'static str, &str)]) -> u32 {
        let Client { encoder, next_stream, streams, .. } = &mut self.clients[client];
        let stream = *next_stream;
        *next_stream += 2;
        let mut fields = vec![
            (":method", &b"POST"[..]),
            (":scheme", b"http"),
            (":path", path.as_bytes()),
            ("te", b"trailers"),
            ("content-type", b"application/grpc"),
        ];
        fields.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
        let (mut block, mut out) = (Vec::new(), Vec::new());
        encoder.encode(&fields, &mut block);
        frame::put(&mut out, kind::HEADERS, flag::END_HEADERS, stream, &block);
        streams.insert(stream, Stream::default());
        self.feed(client, &out);
        stream
    }

    /// Sends a message of a call, the last one if `ends`.
    pub fn push(&mut self, client: usize, stream: u32, request: &impl Message, ends: bool) {
        let (mut message, mut out) = (Vec::new(), Vec::new());
        grpc::frame::put(&mut message, false, |out| request.encode(out).expect("a vector grows"));
        frame::put(&mut out, kind::DATA, if ends { flag::END_STREAM } else { 0 }, stream, &message);
        self.feed(client, &out);
    }

    /// Sends the body of a call, which ends it, in as many frames as it needs.
    pub fn push_parts(&mut self, client: usize, stream: u32, body: &[u8]) {
        let mut parts = body.chunks(frame::PAYLOAD_LEN_MAX).peekable();
        while let Some(part) = parts.next() {
            let ends = if parts.peek().is_none() { flag::END_STREAM } else { 0 };
            let mut out = Vec::new();
            frame::put(&mut out, kind::DATA, ends, stream, part);
            self.feed(client, &out);
        }
    }

    /// The next message of a call, which is not the last.
    pub fn say(&mut self, client: usize, stream: u32, request: &impl Message) {
        self.push(client, stream, request, false);
    }

    /// The end of a call's messages.
    pub fn half_close(&mut self, client: usize, stream: u32) {
        let mut out = Vec::new();
        frame::put(&mut out, kind::DATA, flag::END_STREAM, stream, &[]);
        self.feed(client, &out);
    }

    /// The messages that came since the last look.
    pub fn messages<M: Message + Default>(&mut self, client: usize, stream: u32) -> Vec<M> {
        let data = &mut self.stream(client, stream).data;
        let (mut found, mut at) = (Vec::new(), 0);
        while let Ok(grpc::frame::Parsed::Message { message, .. }) =
            grpc::frame::parse(&data[at..], usize::MAX)
        {
            found.push(M::decode(message).unwrap());
            at += grpc::frame::PREFIX_LEN + message.len();
        }
        data.drain(..at);
        found
    }

    /// Begins `count` calls and sends `len` bytes of the message of each, which is longer.
    pub fn send_parts(&mut self, client: usize, path: &str, count: usize, len: usize) {
        let prefix = [&[0][..], &(len as u32 + 1).to_be_bytes()].concat();
        for _ in 0..count {
            let Client { encoder, next_stream, .. } = &mut self.clients[client];
            let stream = *next_stream;
            *next_stream += 2;
            let fields = [
                (":method", &b"POST"[..]),
                (":scheme", b"http"),
                (":path", path.as_bytes()),
                ("content-type", b"application/grpc"),
            ];
            let (mut block, mut out) = (Vec::new(), Vec::new());
            encoder.encode(&fields, &mut block);
            frame::put(&mut out, kind::HEADERS, flag::END_HEADERS, stream, &block);
            frame::put(&mut out, kind::DATA, 0, stream, &prefix);
            self.feed(client, &out);
            for part in vec![0; len].chunks(frame::PAYLOAD_LEN_MAX) {
                let mut out = Vec::new();
                frame::put(&mut out, kind::DATA, 0, stream, part);
                self.feed(client, &out);
                self.flush(client);
            }
        }
    }

    /// The front's name of a client.
    pub fn conn(&self, client: usize) -> ConnId {
        self.clients[client].conn
    }

    /// What a connection holds beside idle streams.
    pub fn waiting_bytes(&mut self, client: usize) -> usize {
        let conn = self.clients[client].conn;
        self.front.waiting_bytes(conn)
    }

    /// Opens the window of a stream.
    pub fn widen(&mut self, client: usize, stream: u32, bytes: u32) {
        let mut out = Vec::new();
        frame::put(&mut out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
        self.feed(client, &out);
    }

    /// Resets a call.
    pub fn cancel(&mut self, client: usize, stream: u32) {
        let mut out = Vec::new();
        frame::put(&mut out, kind::RST_STREAM, 0, stream, &8u32.to_be_bytes());
        self.feed(client, &out);
    }

    /// Closes a connection.
    pub fn close(&mut self, client: usize) {
        self.front.close(self.clients[client].conn);
        self.clients[client].closed = true;
    }

    /// Stops or resumes granting windows.
    pub fn grant(&mut self, client: usize, grants: bool) {
        self.clients[client].grants = grants;
    }

    /// Grants windows to the connection and one of its streams.
    pub fn open_windows(&mut self, client: usize, stream: u32, bytes: u32) {
        let mut out = Vec::new();
        frame::put(&mut out, kind::WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
        frame::put(&mut out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
        self.feed(client, &out);
    }

    /// Lets the log's writes wait, or go on.
    pub fn hold_log(&mut self, hold: bool) {
        for (token, op) in self.held.take().into_iter().flatten() {
            let outcome = self.disk.run(op);
            self.replica.on_disk(token, outcome).unwrap();
        }
        self.held = hold.then(Vec::new);
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.replica.handle_timeout(self.now);
        for client in self.clients.iter().filter(|client| !client.closed) {
            self.front.handle_timeout(self.now, client.conn).unwrap();
        }
    }

    /// Turns until nothing moves any more.
    pub fn settle(&mut self) {
        while self.turn() {}
    }

    /// One turn, as the server's loop takes it. False if nothing moved.
    pub fn turn(&mut self) -> bool {
        let Node { replica, front, .. } = self;
        let mut moved = front.has_slices();
        replica.pin(front.oldest_pin(self.now));
        replica.turn(self.now).unwrap();
        front.run_slices(self.now, replica).unwrap();
        front.run_watches(self.now, replica).unwrap();
        while let Some(event) = replica.poll_event() {
            front.on_event(self.now, event, replica).unwrap();
            moved = true;
        }
        while let Some(work) = self.replica.poll_work() {
            moved |= self.work(work);
        }
        let mut dirty = Vec::new();
        while let Some(conn) = self.front.poll_dirty() {
            dirty.push(conn);
        }
        for conn in dirty {
            let client = self.clients.iter().position(|client| client.conn == conn && !client.closed);
            if let Some(client) = client {
                moved |= self.flush(client);
            }
        }
        moved || self.replica.has_more()
    }

    fn work(&mut self, work: Work) -> bool {
        match work {
            Work::Disk(token, op) => {
                if let (Owner::Log, Some(held)) = (token.owner, &mut self.held) {
                    held.push((token, op));
                    return false;
                }
                let outcome = self.disk.run(op);
                self.replica.on_disk(token, outcome).unwrap();
            }
            Work::Checkpoint(mut job) => {
                let outcome = job.run(&mut self.disk, || ());
                self.replica.on_checkpoint(job, outcome).unwrap();
            }
            Work::Prefault(prefault) => {
                self.replica.on_prefaulted(prefault.run().unwrap());
                return false;
            }
            Work::Populate(_) => unreachable!("nothing is mapped"),
        }
        true
    }

    /// Takes all that a connection has to send, and what comes of it.
    pub fn rest(&mut self, client: usize) {
        while self.flush(client) || self.turn() {}
    }

    /// Takes what a connection has to send. False if it had nothing.
    fn flush(&mut self, client: usize) -> bool {
        let (mut moved, mut room) = (false, usize::MAX);
        loop {
            let conn = self.clients[client].conn;
            let output = self.front.output(conn, &mut self.replica, &mut room).unwrap();
            let len = output.len();
            assert!(len <= OUTPUT_LEN_MAX, "{len} bytes of output");
            self.output_len_max = self.output_len_max.max(len);
            if len == 0 {
                return moved;
            }
            moved = true;
            let reply = self.clients[client].receive(output);
            self.front.consume_output(self.now, conn, len);
            self.feed(client, &reply);
        }
    }

    /// What came back so far.
    pub fn stream(&mut self, client: usize, stream: u32) -> &mut Stream {
        self.clients[client].streams.get_mut(&stream).expect("the stream was opened")
    }

    /// The answer of a call that is complete.
    pub fn answer<M: Message + Default>(&mut self, client: usize, stream: u32) -> Result<M, Failure> {
        let answer = self.clients[client].streams.remove(&stream).expect("the stream was opened");
        match answer.status.expect("the call is answered") {
            0 => {
                let (prefix, message) = answer.data.split_at(5);
                let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                assert_eq!((prefix[0], len), (0, message.len()));
                Ok(M::decode(message).unwrap())
            }
            code => Err((code, answer.message)),
        }
    }

    /// A call and its answer.
    pub fn call<M: Message + Default>(
        &mut self,
        client: usize,
        path: &str,
        request: &impl Message,
    ) -> Result<M, Failure> {
        let stream = self.send(client, path, request);
        self.settle();
        self.answer(client, stream)
    }
}

impl Client {
    /// Reads frames; returns what the client says to them.
    fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let (mut rest, mut reply) = (&unread[..], Vec::new());
        while let Ok(Some(frame)) = Frame::take(&mut rest) {
            self.on_frame(frame, &mut reply);
        }
        self.unread = rest.to_vec();
        reply
    }

    fn on_frame(&mut self, frame: Frame<'_>, reply: &mut Vec<u8>) {
        let stream = self.streams.get_mut(&frame.stream);
        match frame.kind {
            kind::DATA => {
                let credit = (frame.payload.len() as u32).to_be_bytes();
                if let Some(stream) = stream {
                    stream.data.extend_from_slice(frame.payload);
                }
                if self.grants {
                    frame::put(reply, kind::WINDOW_UPDATE, 0, 0, &credit);
                    frame::put(reply, kind::WINDOW_UPDATE, 0, frame.stream, &credit);
                }
            }
            kind::HEADERS => {
                let mut fields = FieldList::new(1 << 20);
                self.decoder.decode(frame.payload, &mut fields).unwrap();
                let Some(stream) = stream else { return };
                for (name, value) in fields.iter_text() {
                    let text = String::from_utf8_lossy(value);
                    match name {
                        b"grpc-status" => stream.status = Some(text.parse().unwrap()),
                        b"grpc-message" => stream.message = text.into_owned(),
                        _ => {}
                    }
                }
            }
            kind::SETTINGS if !frame.has(flag::ACK) => frame::put(reply, kind::SETTINGS, flag::ACK, 0, &[]),
            kind::GOAWAY => panic!("{frame:?}"),
            _ => {}
        }
    }
}
