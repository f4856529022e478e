//! One connection: its state, the calls of the layer above, preface, shutdown and timeouts.

// What each frame of the peer does.
mod receive;

use super::abuse::{self, Meter, PingRule};
use super::error::{ConnectionError, Fault, Reason};
use super::flow::{CONNECTION_WINDOW_MAX, RecvWindow};
use super::frame::{self, Frame, PREFACE, kind};
use super::send::Sender;
use super::settings;
use super::stream::{State, StreamKey, Streams};
use crate::hpack::{Decoder, FieldList, encode::Field};
use std::time::{Duration, Instant};

/// What the operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// `--max-concurrent-streams`; `None` announces and enforces no limit.
    pub max_concurrent_streams: Option<u32>,
    /// `--grpc-keepalive-min-time`: closest distance of a client's PINGs while a call waits in silence.
    pub ping_interval_min: Duration,
    /// `--grpc-keepalive-interval`: silence after which we send a PING.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: how long its answer may take.
    pub keepalive_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_concurrent_streams: None,
            ping_interval_min: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// What the peer did, as far as the layer above must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A stream opened; its fields are in [`Connection::fields`] until the next poll.
    Headers {
        /// The new stream.
        stream: StreamKey,
        /// No body follows.
        end_stream: bool,
    },
    /// Part of a body. Trailers arrive as an empty last part: gRPC requests say nothing in them.
    Data {
        /// An open stream.
        stream: StreamKey,
        /// Without padding, possibly empty.
        payload: &'a [u8],
        /// The body is complete.
        end_stream: bool,
    },
    /// The stream is gone: reset by the peer, or by us because of an error of the peer's.
    Reset {
        /// A key that is dead from now on.
        stream: StreamKey,
    },
}

/// The server side of one HTTP/2 connection. See the [module](super) for the order of calls.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    phase: Phase,
    decoder: Decoder,
    fields: FieldList,
    /// A header block that did not end in its first frame.
    assembly: Option<Assembly>,
    header_block: Vec<u8>,
    streams: Streams,
    sender: Sender,
    recv_window: RecvWindow,
    meter: Meter,
    ping_rule: PingRule,
    /// Acks and resets that went into the output since it was last empty.
    control_replies: usize,
    shutdown: Shutdown,
    opened_at: Instant,
    /// When bytes last came in.
    read_at: Instant,
    /// When the socket last took output, or there was none.
    written_at: Instant,
    /// Our unanswered keep-alive PING.
    ping_sent_at: Option<Instant>,
    /// Memory the layer above holds for open streams, for the ledger.
    held_bytes: usize,
    /// The limit that last turned something away, for the log.
    limit: Option<&'static str>,
}

/// How far the opening has come (§3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Preface,
    Settings,
    Open,
    /// An error was returned.
    Dead,
}

/// How far the closing has come (§6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    /// The first GOAWAY is out; the second follows the answer to the PING behind it, or the deadline.
    Announced(Instant),
    /// Streams above this one are ignored.
    Final(u32),
}

#[derive(Clone, Copy, Debug)]
struct Assembly {
    stream: u32,
    end_stream: bool,
    since: Instant,
    continuations: u32,
}

impl Connection {
    /// A connection just accepted. Our SETTINGS are in the output already.
    pub fn new(config: Config, now: Instant) -> Connection {
        let mut sender = Sender::new();
        settings::put_own(&mut sender.out.buf, config.max_concurrent_streams);
        Connection {
            config,
            phase: Phase::Preface,
            decoder: Decoder::new(),
            fields: FieldList::new(abuse::HEADER_LIST_BYTES_MAX),
            assembly: None,
            header_block: Vec::new(),
            streams: Streams::new(now),
            sender,
            recv_window: RecvWindow::new(CONNECTION_WINDOW_MAX),
            meter: Meter::new(now),
            ping_rule: PingRule::new(config.ping_interval_min),
            control_replies: 0,
            shutdown: Shutdown::No,
            opened_at: now,
            read_at: now,
            written_at: now,
            ping_sent_at: None,
            held_bytes: 0,
            limit: None,
        }
    }

    /// Takes frames off the front of `input` up to the next event.
    ///
    /// `None` means that the input holds no further complete frame, or that [`Self::wants_input`] is false: then the
    /// output must go out before the rest of the input is offered again.
    pub fn poll_event<'i>(
        &mut self,
        now: Instant,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'i>>, ConnectionError> {
        self.advance(now);
        let before = input.len();
        let polled = self.poll_frames(input);
        if input.len() < before {
            self.read_at = now;
        }
        polled.map_err(|error| self.fail(error))
    }

    /// Fields of the stream the last event opened.
    pub fn fields(&self) -> &FieldList {
        &self.fields
    }

    /// Whether more input is taken before the output has gone out.
    pub fn wants_input(&self) -> bool {
        self.sender.out.len() < abuse::OUTPUT_BYTES_MAX
            && (self.control_replies <= abuse::CONTROL_REPLY_COUNT_MAX || self.sender.out.len() == 0)
            && self.phase != Phase::Dead
    }

    /// Whether the stream is open and our side of it has not ended.
    pub fn is_writable(&mut self, key: StreamKey) -> bool {
        let stream = self.streams.live(key);
        stream.is_some_and(|stream| stream.state != State::HalfClosedLocal && stream.trailers.is_none())
    }

    /// Sends the fields that begin an answer. The stream must be writable, here and in the calls below.
    pub fn send_headers(&mut self, key: StreamKey, fields: &[Field<'_>]) {
        debug_assert!(self.is_writable(key), "headers for {key:?}");
        self.sender.headers(key.id, fields, false);
    }

    /// Sends the bytes `fill` appends, or queues what the windows do not allow yet.
    pub fn send_data(&mut self, key: StreamKey, fill: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.is_writable(key), "data for {key:?}");
        self.sender.data(&mut self.streams, key, fill);
    }

    /// Ends an answer; `fields` follow what is queued.
    pub fn finish(&mut self, key: StreamKey, fields: &[Field<'_>]) {
        debug_assert!(self.is_writable(key), "end of {key:?}");
        self.sender.finish(&mut self.streams, key, fields);
    }

    /// Abandons a stream with RST_STREAM, if it is still open.
    pub fn reset(&mut self, key: StreamKey, reason: Reason) {
        if self.streams.live(key).is_some() {
            self.sender.discard(&mut self.streams, key);
            self.streams.reset(key, reason, &mut self.sender.out.buf);
        }
    }

    /// For a stream answered before its request ended: resets it with NO_ERROR even if the end comes in time. So does
    /// grpc-go with requests it refuses by their fields.
    pub fn reset_after_request(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.live(key) {
            stream.reset_at_end = true;
        }
    }

    /// Bytes of the stream waiting for windows; 0 when it is closed.
    pub fn queued(&mut self, key: StreamKey) -> usize {
        self.streams.live(key).map_or(0, |stream| stream.queued())
    }

    /// Asks to be named by [`Self::poll_writable`] once the stream has nothing queued and windows and output have
    /// room.
    pub fn want_writable(&mut self, key: StreamKey) {
        if self.is_writable(key) {
            self.sender.want(&mut self.streams, key);
        }
    }

    /// The next stream that wanted to write, in turn, and how many bytes it should send now. Asked once per wish.
    pub fn poll_writable(&mut self) -> Option<(StreamKey, usize)> {
        self.sender.poll_offer(&mut self.streams)
    }

    /// Opens the stream's window for a body part of known length.
    pub fn expect_data(&mut self, key: StreamKey, bytes: usize) {
        let Some(stream) = self.streams.live(key) else { return };
        if stream.state != State::Open {
            return;
        }
        if let Some(increment) = stream.recv_window.ensure(bytes) {
            frame::put_window_update(&mut self.sender.out.buf, key.id, increment);
        }
    }

    /// Adjusts what the layer above holds for open streams by `grown - shrunk` bytes.
    pub fn note_held(&mut self, grown: usize, shrunk: usize) {
        self.held_bytes += grown;
        debug_assert!(self.held_bytes >= shrunk, "{shrunk} of {} held bytes released", self.held_bytes);
        self.held_bytes -= shrunk;
    }

    /// Whether the connection's memory is used up; nothing new should be kept for it.
    pub fn is_full(&self) -> bool {
        self.memory_bytes() >= abuse::MEMORY_BYTES_MAX
    }

    /// What the connection holds, by the ledger's accounting.
    pub fn memory_bytes(&self) -> usize {
        self.streams.count() * abuse::STREAM_COST_BYTES
            + self.sender.queued_bytes
            + self.sender.out.len()
            + self.header_block.len()
            + self.held_bytes
    }

    /// The same without what streams cost while they are idle: what grows with what the peer sends or does not read.
    pub fn waiting_bytes(&self) -> usize {
        self.memory_bytes() - self.streams.count() * abuse::STREAM_COST_BYTES
    }

    /// Bytes of a body that would go straight to the output.
    pub fn room(&mut self, key: StreamKey) -> usize {
        self.sender.room(&mut self.streams, key)
    }

    /// Notes that a limit turned something away.
    pub fn note_limit(&mut self, limit: &'static str) {
        self.limit = Some(limit);
    }

    /// The limit that turned something away since this was last asked, by its name in [`abuse`].
    pub fn take_limit(&mut self) -> Option<&'static str> {
        self.limit.take()
    }

    /// What the driver should send next.
    pub fn output(&self) -> &[u8] {
        self.sender.out.pending()
    }

    /// The socket took the first `bytes` of the output.
    pub fn consume_output(&mut self, now: Instant, bytes: usize) {
        self.sender.out.consume(bytes);
        self.written_at = now;
        if self.sender.out.len() == 0 {
            self.control_replies = 0;
        }
        self.sender.pump(&mut self.streams);
    }

    /// Number of streams not closed.
    pub fn stream_count(&self) -> usize {
        self.streams.count()
    }

    /// Announces that no new streams are welcome, and names the last one after a round trip, so that none is lost.
    pub fn shutdown(&mut self, now: Instant) {
        if self.shutdown != Shutdown::No || self.phase == Phase::Dead {
            return;
        }
        self.shutdown = Shutdown::Announced(now + SHUTDOWN_PING_TIME_MAX);
        let out = &mut self.sender.out.buf;
        frame::put_goaway(out, STREAM_ID_MAX, Reason::NoError, b"graceful_stop");
        frame::put(out, kind::PING, 0, 0, &SHUTDOWN_PING);
    }

    /// Ends the connection now; the driver sends the output and closes.
    pub fn close(&mut self, reason: Reason, debug_data: &[u8]) {
        if self.phase != Phase::Dead {
            self.phase = Phase::Dead;
            frame::put_goaway(&mut self.sender.out.buf, self.streams.last_id, reason, debug_data);
        }
    }

    /// Whether a shutdown is complete: nothing is open, nothing new will be, nothing is left to send.
    pub fn is_drained(&self) -> bool {
        matches!(self.shutdown, Shutdown::Final(_)) && self.streams.count() == 0 && self.sender.out.len() == 0
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn next_timeout(&self) -> Option<Instant> {
        let opening = self.phase < Phase::Open;
        [
            opening.then(|| self.opened_at + abuse::HANDSHAKE_TIME_MAX),
            self.assembly.map(|assembly| assembly.since + abuse::HEADER_TIME_MAX),
            (self.sender.out.len() > 0).then(|| self.written_at + abuse::WRITE_STALL_TIME_MAX),
            Some(self.keepalive_due()),
            self.streams.next_timeout(),
            match self.shutdown {
                Shutdown::Announced(deadline) => Some(deadline),
                _ => None,
            },
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what time asks for. Errors when the peer was silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.advance(now);
        self.check_deadlines(now).map_err(|error| self.fail(error))
    }

    fn check_deadlines(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let over = |since: Instant, max: Duration| now >= since + max;
        let late = |reason, text| Err(ConnectionError { reason, text });
        if self.phase < Phase::Open && over(self.opened_at, abuse::HANDSHAKE_TIME_MAX) {
            return late(Reason::SettingsTimeout, "handshake timeout");
        }
        if self.assembly.is_some_and(|assembly| over(assembly.since, abuse::HEADER_TIME_MAX)) {
            return late(Reason::EnhanceYourCalm, "header timeout");
        }
        if self.sender.out.len() > 0 && over(self.written_at, abuse::WRITE_STALL_TIME_MAX) {
            return late(Reason::EnhanceYourCalm, "write stalled");
        }
        self.streams.expire_lingering(&mut self.sender.out.buf);
        if matches!(self.shutdown, Shutdown::Announced(deadline) if now >= deadline) {
            self.finish_shutdown();
        }
        if now < self.keepalive_due() {
            return Ok(());
        }
        if self.ping_sent_at.is_some() {
            return late(Reason::NoError, "keepalive timeout");
        }
        self.ping_sent_at = Some(now);
        frame::put(&mut self.sender.out.buf, kind::PING, 0, 0, &[0; 8]);
        Ok(())
    }

    /// When the next keep-alive PING, or the end of waiting for its answer, is due. Any input counts as an answer.
    fn keepalive_due(&self) -> Instant {
        match self.ping_sent_at {
            Some(sent_at) => sent_at + self.config.keepalive_timeout,
            None => self.read_at + self.config.keepalive_interval,
        }
    }

    fn advance(&mut self, now: Instant) {
        self.streams.now = now;
        self.meter.advance(now);
        if self.sender.out.len() == 0 {
            self.written_at = now;
        }
    }

    fn fail(&mut self, error: ConnectionError) -> ConnectionError {
        self.close(error.reason, error.text.as_bytes());
        error
    }

    fn poll_frames<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, ConnectionError> {
        if self.phase == Phase::Preface && !self.take_preface(input)? {
            return Ok(None);
        }
        while self.wants_input() {
            let Some(frame) = Frame::take(input)? else { return Ok(None) };
            self.ping_sent_at = None;
            match self.on_frame(frame) {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(Fault::Connection(error)) => return Err(error),
                Err(Fault::Stream(id, reason)) => {
                    if let Some(event) = self.on_stream_error(id, reason)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes the client's preface; false while it is incomplete.
    fn take_preface(&mut self, input: &mut &[u8]) -> Result<bool, ConnectionError> {
        let common = input.len().min(PREFACE.len());
        if input[..common] != PREFACE[..common] {
            return Err(ConnectionError { reason: Reason::ProtocolError, text: "bad preface" });
        }
        if common == PREFACE.len() {
            *input = &input[common..];
            self.phase = Phase::Settings;
        }
        Ok(self.phase == Phase::Settings)
    }

    fn finish_shutdown(&mut self) {
        self.shutdown = Shutdown::Final(self.streams.last_id);
        frame::put_goaway(&mut self.sender.out.buf, self.streams.last_id, Reason::NoError, b"");
    }
}

const STREAM_ID_MAX: u32 = (1 << 31) - 1;
/// Sent behind the first GOAWAY; its ack proves that the peer has seen it.
const SHUTDOWN_PING: [u8; 8] = *b"kontiki\0";
/// How long the ack may take before the second GOAWAY goes out anyway.
const SHUTDOWN_PING_TIME_MAX: Duration = Duration::from_secs(5);
