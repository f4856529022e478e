//! The calls of one connection: from streams to messages and back. See the [module](super) for the contract.
//!
//! ```text
//!              one message complete                 answered
//!   Receiving ──────────────────────► Announced ──────────────► Done
//!       │  (streaming: at once)          │  ▲ messages in, until HalfClosed
//!       │                                │
//!       └──► Done: refused here          └──► Done + Cancelled: reset, deadline, broken input
//! ```

use super::deadline::Deadlines;
use super::frame::{self, PREFIX_LEN, Parsed};
use super::gzip;
use super::metadata::{self, Metadata, MethodId, MethodKind, Refusal, Route};
use super::status::{Code, Status, percent_encoded};
use crate::h2::{self, Connection, ConnectionError, Reason, StreamKey};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a [`Server`] needs to know beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The HTTP/2 part.
    pub http: h2::Config,
    /// Longest request message; etcd's is `--max-request-bytes` + 512 KiB.
    pub message_len_max: usize,
    /// The route table.
    pub route: Route,
}

/// Names a call for as long as it is in flight, and never another one of the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(StreamKey);

impl CallId {
    /// The call as one number, to travel with a request through the engine.
    pub fn to_u64(self) -> u64 {
        u64::from(self.0.slot) << 32 | u64::from(self.0.id)
    }

    /// The inverse of [`Self::to_u64`]. Of any other number, a call that is not in flight, or is another one.
    pub fn from_u64(number: u64) -> CallId {
        CallId(StreamKey { slot: (number >> 32) as u32, id: number as u32 })
    }
}

/// What clients want, as far as the caller must know.
#[derive(Debug)]
pub enum Event<'a> {
    /// A call of a method that takes one message, complete. To be answered.
    Request {
        /// The call.
        call: CallId,
        /// As the route table numbers it.
        method: MethodId,
        /// Fields of the request.
        metadata: &'a Metadata,
        /// The message, inflated; from the input where it lies there in one piece.
        message: &'a [u8],
    },
    /// A call of a method that takes a stream of messages. To be answered.
    Call {
        /// The call.
        call: CallId,
        /// As the route table numbers it.
        method: MethodId,
        /// Fields of the request.
        metadata: &'a Metadata,
    },
    /// The next message of a streaming call.
    Message {
        /// The call.
        call: CallId,
        /// As the route table numbers it.
        method: MethodId,
        /// The message, inflated.
        message: &'a [u8],
    },
    /// The client of a streaming call has sent its last message.
    HalfClosed {
        /// The call, still to be answered.
        call: CallId,
    },
    /// The call is over; answers to it are ignored.
    Cancelled {
        /// The call.
        call: CallId,
    },
}

/// The gRPC server side of one connection.
#[derive(Debug)]
pub struct Server {
    config: Config,
    http: Connection,
    /// By slot of the call's stream.
    calls: Vec<Call>,
    deadlines: Deadlines,
    /// Ended from outside, yet to be reported.
    cancelled: VecDeque<CallId>,
    /// The call whose inbox may hold another message.
    draining: Option<CallId>,
    /// The call whose inbox was lent out with the last event and is free now.
    lent: Option<CallId>,
    inflated: Vec<u8>,
    /// An answer before its compression.
    plain: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Receiving,
    Announced,
    Done,
}

/// State of a call beside that of its stream. Its memory is reused by the next call in the slot.
#[derive(Debug)]
struct Call {
    id: CallId,
    stage: Stage,
    method: MethodId,
    kind: MethodKind,
    metadata: Metadata,
    /// Body bytes not delivered yet, beginning at `inbox_read`. Used only for what one DATA frame does not hold.
    inbox: Vec<u8>,
    inbox_read: usize,
    /// What the ledger knows of `inbox` and `metadata`.
    noted_bytes: usize,
    half_closed: bool,
    headers_sent: bool,
    /// What [`Server::begin_message`] announced and was not pushed yet.
    message_left: u64,
    /// The prefix of that message, until the first push.
    prefix: Option<[u8; PREFIX_LEN]>,
}

/// An event whose borrows from the server are not taken yet.
enum Ready<'i> {
    Request(CallId, Place<'i>),
    Call(CallId),
    Message(CallId, Place<'i>),
    HalfClosed(CallId),
    Cancelled(CallId),
}

/// Where a message lies.
enum Place<'i> {
    Input(&'i [u8]),
    Inbox(Range<usize>),
    Inflated,
}

impl Server {
    /// The server of a connection just accepted.
    pub fn new(config: Config, now: Instant) -> Server {
        Server {
            config,
            http: Connection::new(config.http, now),
            calls: Vec::new(),
            deadlines: Deadlines::default(),
            cancelled: VecDeque::new(),
            draining: None,
            lent: None,
            inflated: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` up to the next event. `None`: nothing more in it, see
    /// [`Self::wants_input`]. An error ends the connection and all its calls.
    pub fn poll_event<'s, 'i: 's>(
        &'s mut self,
        now: Instant,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'s>>, ConnectionError> {
        let Some(ready) = self.step(now, input)? else { return Ok(None) };
        Ok(Some(self.borrow(ready)))
    }

    /// Whether more input is taken before the output has gone out.
    pub fn wants_input(&self) -> bool {
        self.http.wants_input()
    }

    /// Answers a call with the one message `encode` appends, and success.
    pub fn reply_unary(&mut self, id: CallId, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.send_message(id, encode) && self.finish(id, &Status::OK)
    }

    /// Ends a call with an error.
    pub fn reply_error(&mut self, id: CallId, status: &Status) -> bool {
        self.finish(id, status)
    }

    /// Sends the message `encode` appends; what windows do not allow yet is queued, see [`Self::queued`].
    pub fn send_message(&mut self, id: CallId, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(call) = self.open_answer(id) else { return false };
        assert!(call.message_left == 0, "{} bytes of the last message are missing", call.message_left);
        if !call.metadata.gzip {
            self.http.send_data(id.0, |out| frame::put(out, false, encode));
            return true;
        }
        self.plain.clear();
        encode(&mut self.plain);
        let plain = &self.plain;
        // As in grpc-go, an empty message is left as it is.
        self.http.send_data(id.0, |out| match plain.is_empty() {
            true => frame::put(out, false, |_| {}),
            false => frame::put(out, true, |out| gzip::deflate(plain, out)),
        });
        self.plain.shrink_to(KEPT_BYTES_MAX);
        true
    }

    /// Begins a message of exactly `len` bytes, which [`Self::push_chunk`] brings; [`Self::poll_writable`] asks for
    /// them. It is never compressed: gRPC allows that for any message, and its length would be unknown otherwise.
    pub fn begin_message(&mut self, id: CallId, len: u64) -> bool {
        let Some(call) = self.open_answer(id) else { return false };
        assert!(call.message_left == 0, "{} bytes of the last message are missing", call.message_left);
        call.message_left = len;
        call.prefix = Some(frame::prefix(false, len));
        if len == 0 {
            return self.push_chunk(id, |_| {});
        }
        self.http.want_writable(id.0);
        true
    }

    /// Appends part of the message begun. What exceeds the budget is queued, so keep it to about one record.
    pub fn push_chunk(&mut self, id: CallId, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(call) = live(&mut self.calls, id) else { return false };
        let prefix = call.prefix.take();
        let left = &mut call.message_left;
        self.http.send_data(id.0, |out| {
            out.extend_from_slice(prefix.as_ref().map_or(&[], |prefix| &prefix[..]));
            let start = out.len();
            encode(out);
            let pushed = (out.len() - start) as u64;
            assert!(pushed <= *left, "{pushed} bytes pushed where {left} were left");
            *left -= pushed;
        });
        if *left > 0 {
            self.http.want_writable(id.0);
        }
        true
    }

    /// Ends a call. Before any message, an error is a single HEADERS frame, as grpc-go sends it.
    pub fn finish(&mut self, id: CallId, status: &Status) -> bool {
        let Some(call) = live(&mut self.calls, id) else { return false };
        call.stage = Stage::Done;
        if call.message_left > 0 {
            // Trailers would cut a message short, which clients take for success or a riddle.
            self.http.reset(id.0, Reason::InternalError);
        } else if call.headers_sent {
            self.http.finish(id.0, &trailers(status, &percent_encoded(&status.message)));
        } else {
            finish_early(&mut self.http, id, b"200", call.metadata.content_type(), status);
        }
        call.release(&mut self.http);
        true
    }

    /// Asks to be named by [`Self::poll_writable`] when the call has nothing queued and may send.
    pub fn want_writable(&mut self, id: CallId) {
        if live(&mut self.calls, id).is_some() {
            self.http.want_writable(id.0);
        }
    }

    /// The next call to write to, fairly in turn, and how many bytes it should add. It is asked once per wish.
    pub fn poll_writable(&mut self) -> Option<(CallId, usize)> {
        let (stream, budget) = self.http.poll_writable()?;
        Some((CallId(stream), budget))
    }

    /// Bytes of the call waiting for windows: a stream of messages should pause when it is not 0.
    pub fn queued(&mut self, id: CallId) -> usize {
        self.http.queued(id.0)
    }

    /// Whether the call is still in flight.
    pub fn is_live(&self, id: CallId) -> bool {
        self.calls.get(id.0.slot()).is_some_and(|call| call.id == id && call.stage != Stage::Done)
    }

    /// What the driver should send next.
    pub fn output(&self) -> &[u8] {
        self.http.output()
    }

    /// The socket took the first `bytes` of the output.
    pub fn consume_output(&mut self, now: Instant, bytes: usize) {
        self.http.consume_output(now, bytes);
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.http.next_timeout().into_iter().chain(self.deadlines.next()).min()
    }

    /// Does what time asks for; calls past their deadline are answered here and reported as cancelled.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.http.handle_timeout(now)?;
        while let Some(id) = self.deadlines.poll_due(now) {
            if self.is_live(id) {
                self.abort(id, &Status::new(Code::DeadlineExceeded, DEADLINE_TEXT));
            }
        }
        Ok(())
    }

    /// Begins a graceful end: no new calls, those in flight go on.
    pub fn shutdown(&mut self, now: Instant) {
        self.http.shutdown(now);
    }

    /// Ends the connection at once; the driver sends the output and closes.
    pub fn close(&mut self, reason: Reason, debug_data: &[u8]) {
        self.http.close(reason, debug_data);
    }

    /// Whether a graceful end is complete.
    pub fn is_drained(&self) -> bool {
        self.http.is_drained()
    }

    /// Number of streams not closed, a little more than the calls in flight.
    pub fn stream_count(&self) -> usize {
        self.http.stream_count()
    }

    /// What the connection holds, by the ledger's accounting.
    pub fn memory_bytes(&self) -> usize {
        self.http.memory_bytes()
    }

    // ---- input ----

    fn step<'i>(&mut self, now: Instant, input: &mut &'i [u8]) -> Result<Option<Ready<'i>>, ConnectionError> {
        self.take_back();
        loop {
            if let Some(id) = self.draining {
                if let Some(ready) = self.next_message(id) {
                    return Ok(Some(ready));
                }
                self.draining = None;
            }
            if let Some(id) = self.cancelled.pop_front() {
                return Ok(Some(Ready::Cancelled(id)));
            }
            let ready = match self.http.poll_event(now, input)? {
                None => return Ok(None),
                Some(h2::Event::Headers { stream, end_stream }) => {
                    self.on_headers(now, CallId(stream), end_stream)
                }
                Some(h2::Event::Data { stream, payload, end_stream }) => {
                    self.on_data(CallId(stream), payload, end_stream)
                }
                Some(h2::Event::Reset { stream }) => self.on_reset(CallId(stream)),
            };
            if ready.is_some() {
                return Ok(ready);
            }
        }
    }

    fn on_headers<'i>(&mut self, now: Instant, id: CallId, end_stream: bool) -> Option<Ready<'i>> {
        let slot = id.0.slot();
        if slot == self.calls.len() {
            self.calls.push(Call::vacant());
        }
        let call = &mut self.calls[slot];
        call.restart(id, end_stream);
        match metadata::read(self.http.fields(), self.config.route, &mut call.metadata) {
            Ok((method, kind)) => (call.method, call.kind) = (method, kind),
            Err(Refusal { http_status, status }) => {
                call.stage = Stage::Done;
                finish_early(&mut self.http, id, http_status, call.metadata.content_type(), &status);
                if http_status != b"200" {
                    self.http.reset_after_request(id.0);
                }
                return None;
            }
        }
        call.note(&mut self.http);
        if let Some(timeout) = call.metadata.timeout {
            self.set_deadline(now, id, timeout);
        }
        let call = live(&mut self.calls, id)?;
        if call.kind == MethodKind::Streaming {
            call.stage = Stage::Announced;
            self.draining = end_stream.then_some(id);
            return Some(Ready::Call(id));
        }
        if end_stream {
            self.draining = Some(id);
        }
        None
    }

    fn set_deadline(&mut self, now: Instant, id: CallId, timeout: Duration) {
        let Some(at) = now.checked_add(timeout) else { return };
        if timeout < TIMEOUT_MIN {
            return self.abort(id, &Status::new(Code::DeadlineExceeded, DEADLINE_TEXT));
        }
        let calls = &self.calls;
        let is_live = |id: CallId| calls.get(id.0.slot()).is_some_and(|call| call.is_live(id));
        self.deadlines.add(at, id, self.http.stream_count(), is_live);
    }

    fn on_data<'i>(&mut self, id: CallId, payload: &'i [u8], end_stream: bool) -> Option<Ready<'i>> {
        let call = live(&mut self.calls, id)?;
        call.half_closed |= end_stream;
        if call.kind == MethodKind::OneMessage && call.stage == Stage::Announced {
            // grpc-go answers by the first message and never looks at another.
            return None;
        }
        if call.inbox.is_empty()
            && let Ok(Parsed::Message { compressed: false, message, rest }) =
                frame::parse(payload, self.config.message_len_max)
        {
            call.stage = Stage::Announced;
            if call.kind == MethodKind::OneMessage {
                return Some(Ready::Request(id, Place::Input(message)));
            }
            call.inbox.extend_from_slice(rest);
            call.note(&mut self.http);
            self.draining = Some(id);
            return Some(Ready::Message(id, Place::Input(message)));
        }
        if self.http.is_full() {
            self.abort(id, &Status::new(Code::ResourceExhausted, FULL_TEXT));
            return None;
        }
        call.inbox.extend_from_slice(payload);
        call.note(&mut self.http);
        self.draining = Some(id);
        None
    }

    fn on_reset<'i>(&mut self, id: CallId) -> Option<Ready<'i>> {
        let call = live(&mut self.calls, id)?;
        let announced = call.stage == Stage::Announced;
        call.stage = Stage::Done;
        call.release(&mut self.http);
        announced.then_some(Ready::Cancelled(id))
    }

    /// The next thing to report of what a call has received.
    fn next_message<'i>(&mut self, id: CallId) -> Option<Ready<'i>> {
        let call = live(&mut self.calls, id)?;
        if call.kind == MethodKind::OneMessage && call.stage == Stage::Announced {
            return None;
        }
        let unread = &call.inbox[call.inbox_read..];
        let (compressed, len) = match frame::parse(unread, self.config.message_len_max) {
            Ok(Parsed::Message { compressed, message, .. }) => (compressed, message.len()),
            Ok(Parsed::Incomplete { missing }) => return self.on_incomplete(id, missing),
            Err(status) => {
                self.abort(id, &status);
                return None;
            }
        };
        let start = call.inbox_read + PREFIX_LEN;
        call.inbox_read = start + len;
        let place = if compressed {
            if let Err(status) = self.inflate(id, start..start + len) {
                self.abort(id, &status);
                return None;
            }
            Place::Inflated
        } else {
            Place::Inbox(start..start + len)
        };
        self.lent = Some(id);
        let call = live(&mut self.calls, id)?;
        call.stage = Stage::Announced;
        Some(match call.kind {
            MethodKind::OneMessage => Ready::Request(id, place),
            MethodKind::Streaming => Ready::Message(id, place),
        })
    }

    /// No complete message is there: wait for the rest, or end what ended.
    fn on_incomplete<'i>(&mut self, id: CallId, missing: usize) -> Option<Ready<'i>> {
        let call = live(&mut self.calls, id)?;
        // grpc-go reads prefix and message apart, and takes an end inside the prefix for the end of messages.
        let empty = call.inbox.len() - call.inbox_read < PREFIX_LEN;
        if !call.half_closed {
            self.http.expect_data(id.0, missing);
            return None;
        }
        match (call.kind, empty) {
            (MethodKind::Streaming, true) => {
                self.draining = None;
                return Some(Ready::HalfClosed(id));
            }
            (MethodKind::Streaming, false) => self.abort(id, &Status::new(Code::Internal, "unexpected EOF")),
            (MethodKind::OneMessage, true) => self.abort(id, &Status::new(Code::Unknown, "EOF")),
            (MethodKind::OneMessage, false) => self.abort(id, &Status::new(Code::Unknown, "unexpected EOF")),
        }
        None
    }

    fn inflate(&mut self, id: CallId, message: Range<usize>) -> Result<(), Status> {
        let call = &self.calls[id.0.slot()];
        if !call.metadata.gzip {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        gzip::inflate(&call.inbox[message], self.config.message_len_max, &mut self.inflated)
    }

    /// Ends a call from our side before the caller did, and reports it if the caller knows of it.
    fn abort(&mut self, id: CallId, status: &Status) {
        let announced = self.calls[id.0.slot()].stage == Stage::Announced;
        if self.finish(id, status) && announced {
            self.cancelled.push_back(id);
        }
    }

    /// Frees what the last event borrowed.
    fn take_back(&mut self) {
        let Some(id) = self.lent.take() else { return };
        self.inflated.clear();
        self.inflated.shrink_to(KEPT_BYTES_MAX);
        let Some(call) = live(&mut self.calls, id) else { return };
        if call.inbox_read == call.inbox.len() || call.kind == MethodKind::OneMessage {
            call.inbox.clear();
            call.inbox_read = 0;
            call.inbox.shrink_to(KEPT_BYTES_MAX);
            call.note(&mut self.http);
        }
    }

    fn borrow<'s, 'i: 's>(&'s self, ready: Ready<'i>) -> Event<'s> {
        let call_of = |id: CallId| &self.calls[id.0.slot()];
        let bytes = |id: CallId, place: Place<'i>| match place {
            Place::Input(message) => message,
            Place::Inbox(range) => &call_of(id).inbox[range],
            Place::Inflated => &self.inflated[..],
        };
        match ready {
            Ready::Request(call, place) => {
                let Call { method, ref metadata, .. } = *call_of(call);
                Event::Request { call, method, metadata, message: bytes(call, place) }
            }
            Ready::Call(call) => {
                let Call { method, ref metadata, .. } = *call_of(call);
                Event::Call { call, method, metadata }
            }
            Ready::Message(call, place) => {
                Event::Message { call, method: call_of(call).method, message: bytes(call, place) }
            }
            Ready::HalfClosed(call) => Event::HalfClosed { call },
            Ready::Cancelled(call) => Event::Cancelled { call },
        }
    }

    // ---- output ----

    /// The call, with its response headers sent; `None` when it is over.
    fn open_answer(&mut self, id: CallId) -> Option<&mut Call> {
        let call = live(&mut self.calls, id)?;
        if !call.headers_sent {
            call.headers_sent = true;
            let content_type = call.metadata.content_type();
            let fields =
                [(":status", &b"200"[..]), ("content-type", content_type), ("grpc-encoding", b"gzip")];
            let count = if call.metadata.gzip { 3 } else { 2 };
            self.http.send_headers(id.0, &fields[..count]);
        }
        Some(call)
    }
}

impl Call {
    fn vacant() -> Call {
        Call {
            id: CallId::from_u64(0),
            stage: Stage::Done,
            method: MethodId(0),
            kind: MethodKind::OneMessage,
            metadata: Metadata::default(),
            inbox: Vec::new(),
            inbox_read: 0,
            noted_bytes: 0,
            half_closed: false,
            headers_sent: false,
            message_left: 0,
            prefix: None,
        }
    }

    /// Begins the next call in the slot.
    fn restart(&mut self, id: CallId, half_closed: bool) {
        debug_assert!(self.noted_bytes == 0, "{} bytes kept after the end", self.noted_bytes);
        self.id = id;
        self.stage = Stage::Receiving;
        self.half_closed = half_closed;
        self.headers_sent = false;
        self.message_left = 0;
        self.prefix = None;
    }

    fn is_live(&self, id: CallId) -> bool {
        self.id == id && self.stage != Stage::Done
    }

    /// Tells the ledger what the call holds now.
    fn note(&mut self, http: &mut Connection) {
        let held = self.inbox.len() + self.metadata.text.len();
        http.note_held(held, std::mem::replace(&mut self.noted_bytes, held));
    }

    /// Gives back what a finished call holds.
    fn release(&mut self, http: &mut Connection) {
        self.inbox.clear();
        self.inbox.shrink_to(KEPT_BYTES_MAX);
        self.inbox_read = 0;
        http.note_held(0, std::mem::take(&mut self.noted_bytes));
    }
}

/// The call of `id`, unless it is over.
fn live(calls: &mut [Call], id: CallId) -> Option<&mut Call> {
    calls.get_mut(id.0.slot()).filter(|call| call.is_live(id))
}

/// Answers with a single HEADERS frame.
fn finish_early(http: &mut Connection, id: CallId, http_status: &[u8], content_type: &[u8], status: &Status) {
    let message = percent_encoded(&status.message);
    let [code, message] = trailers(status, &message);
    http.finish(id.0, &[(":status", http_status), ("content-type", content_type), code, message]);
}

fn trailers<'a>(status: &Status, message: &'a [u8]) -> [(&'static str, &'a [u8]); 2] {
    [("grpc-status", super::status::digits(status.code)), ("grpc-message", message)]
}

/// Timeouts below this have passed before any answer could be made; Go's context says so for a nanosecond.
const TIMEOUT_MIN: Duration = Duration::from_micros(10);
const DEADLINE_TEXT: &str = "context deadline exceeded";
const FULL_TEXT: &str = "grpc: connection holds too much memory";
/// Buffer memory kept between calls.
const KEPT_BYTES_MAX: usize = 4 << 10;
