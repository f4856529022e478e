//! Calls over an HTTP/2 connection. See the [module](super) for the contract; here is the caller's half of it: answers,
//! time and output.

// From frames to events.
mod receive;

use super::call::{Call, CallId, KEPT_BYTES_MAX, Stage, live};
use super::deadline::Deadlines;
use super::frame::{self, PREFIX_LEN};
use super::gzip;
use super::metadata::{Metadata, MethodId, Route};
use super::status::{Code, Status, percent_encoded};
use super::tally::{Stages, Tally};
use crate::h2::{self, Connection, ConnectionError, Reason};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

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
    tally: Rc<Tally>,
    deadlines: Deadlines,
    /// Calls that wait for the rest of a message.
    unfinished: Deadlines,
    /// Calls of the current input whose message was not complete when they were last seen.
    begun: Vec<CallId>,
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

impl Server {
    /// The server of a connection just accepted, which counts its calls for itself.
    pub fn new(config: Config, now: Instant) -> Server {
        Server::counting(config, now, Rc::default())
    }

    /// The same, counting for all connections of a core.
    pub fn counting(config: Config, now: Instant, tally: Rc<Tally>) -> Server {
        Server {
            config,
            http: Connection::new(config.http, now),
            calls: Vec::new(),
            tally,
            deadlines: Deadlines::default(),
            unfinished: Deadlines::default(),
            begun: Vec::new(),
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
        let (method, gzip) = (call.method, call.metadata.gzip);
        if !gzip {
            let mut len = 0;
            self.http.send_data(id.0, |out| {
                let start = out.len() + PREFIX_LEN;
                frame::put(out, false, encode);
                len = out.len() - start;
            });
            self.tally.on_sent(method, len as u64);
            return true;
        }
        self.plain.clear();
        encode(&mut self.plain);
        self.tally.on_sent(method, self.plain.len() as u64);
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
        let method = call.method;
        self.tally.on_sent(method, len);
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
        call.end(status.code, &self.tally);
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
        self.http.next_timeout().into_iter().chain(self.deadlines.next()).chain(self.unfinished.next()).min()
    }

    /// Does what time asks for; calls past their deadline are answered here and reported as cancelled.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.http.handle_timeout(now)?;
        while let Some(id) = self.deadlines.poll_due(now) {
            if self.is_live(id) {
                self.abort(id, &Status::new(Code::DeadlineExceeded, DEADLINE_TEXT));
            }
        }
        self.end_unfinished(now);
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

    /// The connection is gone, and the calls in flight with it.
    pub fn on_closed(&mut self) {
        for call in self.calls.iter_mut().filter(|call| call.stage != Stage::Done) {
            call.end(Code::Canceled, &self.tally);
        }
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

    /// The same without what idle streams cost.
    pub fn waiting_bytes(&self) -> usize {
        self.http.waiting_bytes()
    }

    /// Whether an answer of `len` bytes would leave at once, or is so short that waiting costs nothing. Any other is
    /// better sent piece by piece: what is queued is memory.
    pub fn has_room(&mut self, id: CallId, len: usize) -> bool {
        len <= QUEUED_ANSWER_BYTES_MAX || self.http.room(id.0) >= PREFIX_LEN + len
    }

    /// Tells the ledger what the caller holds for a call beside what it queued; until the next word, or the call's end.
    pub fn charge(&mut self, id: CallId, bytes: usize) {
        if let Some(call) = live(&mut self.calls, id).filter(|call| call.charged_bytes != bytes) {
            call.charged_bytes = bytes;
            call.note(&mut self.http);
        }
    }

    /// What a call passed since it came.
    pub fn stages(&mut self, id: CallId) -> Option<&mut Stages> {
        live(&mut self.calls, id).map(|call| &mut call.stages)
    }

    /// The limit that turned something away since this was last asked, by its name in [`h2::abuse`].
    pub fn take_limit(&mut self) -> Option<&'static str> {
        self.http.take_limit()
    }

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

    /// Ends a call from our side before the caller did, and reports it if the caller knows of it.
    pub fn abort(&mut self, id: CallId, status: &Status) {
        let announced = self.calls[id.0.slot()].stage == Stage::Announced;
        if self.finish(id, status) && announced {
            self.cancelled.push_back(id);
        }
    }
}

/// Answers with a single HEADERS frame.
fn finish_early(http: &mut Connection, id: CallId, http_status: &[u8], content_type: &[u8], status: &Status) {
    let message = percent_encoded(&status.message);
    let [code, message] = trailers(status, &message);
    http.finish(id.0, &[(":status", http_status), ("content-type", content_type), code, message]);
}

/// Answers a person, with a text to read. Whoever speaks gRPC finds the status in the trailers.
fn finish_explained(http: &mut Connection, id: CallId, http_status: &[u8], status: &Status) {
    http.send_headers(id.0, &[(":status", http_status), ("content-type", b"text/plain; charset=utf-8")]);
    http.send_data(id.0, |out| out.extend_from_slice(EXPLANATION));
    http.finish(id.0, &trailers(status, &percent_encoded(&status.message)));
}

fn trailers<'a>(status: &Status, message: &'a [u8]) -> [(&'static str, &'a [u8]); 2] {
    [("grpc-status", super::status::digits(status.code)), ("grpc-message", message)]
}

/// What a person is told.
const EXPLANATION: &[u8] =
    b"Over HTTP/2 this port speaks gRPC. Ask for /health, /version and /metrics over HTTP/1.1 (curl --http1.1).\n";

/// An answer this short is queued whatever the windows say.
const QUEUED_ANSWER_BYTES_MAX: usize = 512;

const DEADLINE_TEXT: &str = "context deadline exceeded";
