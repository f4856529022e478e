//! From frames to events: fields to calls, DATA to messages.
//!
//! The common request lies in one DATA frame and is handed on from the input. Everything else (split messages, several
//! in one frame, compressed ones) goes through the call's inbox.

use super::super::call::{Call, CallId, KEPT_BYTES_MAX, Stage, live, live_in};
use super::super::frame::{self, PREFIX_LEN, Parsed};
use super::super::gzip;
use super::super::metadata::{self, MethodKind, Refusal};
use super::super::status::{Code, Status};
use super::{DEADLINE_TEXT, Event, Server, finish_early, finish_explained};
use crate::h2::abuse::{MEMORY_FULL, MESSAGE_LATE, MESSAGE_TIME_MAX};
use crate::h2::{self, ConnectionError};
use std::ops::Range;
use std::time::{Duration, Instant};

/// An event whose borrows from the server are not taken yet.
pub(super) enum Ready<'i> {
    Request(CallId, Place<'i>),
    Call(CallId),
    Message(CallId, Place<'i>),
    HalfClosed(CallId),
    Cancelled(CallId),
}

/// Where a message lies.
pub(super) enum Place<'i> {
    Input(&'i [u8]),
    Inbox(Range<usize>),
    Inflated,
}

impl Server {
    /// Goes on until there is something to report. What is reported may still lie in the server, so the borrow is
    /// taken afterwards, by [`Self::borrow`].
    pub(super) fn step<'i>(
        &mut self,
        now: Instant,
        input: &mut &'i [u8],
    ) -> Result<Option<Ready<'i>>, ConnectionError> {
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
                None => {
                    self.time_unfinished(now);
                    return Ok(None);
                }
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
            Err(Refusal { http_status, status, explain }) => {
                call.stage = Stage::Done;
                match explain {
                    true => finish_explained(&mut self.http, id, http_status, &status),
                    false => {
                        finish_early(&mut self.http, id, http_status, call.metadata.content_type(), &status)
                    }
                }
                call.release(&mut self.http);
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
            call.announce(&self.tally);
            self.draining = end_stream.then_some(id);
            return Some(Ready::Call(id));
        }
        if end_stream {
            self.draining = Some(id);
        } else {
            self.begun.push(id);
        }
        None
    }

    /// Sets the time of messages that were not complete in the input that began them. The usual call never gets here
    /// with its message missing, and costs no entry. Of a stream one entry is in the heap, however many messages come in
    /// parts.
    fn time_unfinished(&mut self, now: Instant) {
        let mut begun = std::mem::take(&mut self.begun);
        let due = now + MESSAGE_TIME_MAX;
        for id in begun.drain(..) {
            let Some(call) = live(&mut self.calls, id) else { continue };
            if call.needs_time() {
                call.message_due = Some(due);
                if !std::mem::replace(&mut call.timed, true) {
                    self.time_message(due, id);
                }
            } else if call.stage == Stage::Receiving {
                self.time_message(due, id);
            }
        }
        begun.shrink_to(BEGUN_KEPT_MAX);
        self.begun = begun;
    }

    /// A message of the call is due.
    fn time_message(&mut self, due: Instant, id: CallId) {
        let calls = &self.calls;
        let waits =
            |id: CallId| live_in(calls, id).is_some_and(|call| call.timed || call.stage == Stage::Receiving);
        self.unfinished.add(due, id, self.http.stream_count(), waits);
    }

    /// Ends calls whose message came in part and then stayed out.
    pub(super) fn end_unfinished(&mut self, now: Instant) {
        while let Some(id) = self.unfinished.poll_due(now) {
            let Some(call) = live(&mut self.calls, id) else { continue };
            let due = match call.stage {
                Stage::Receiving => Some(now),
                _ => call.message_due,
            };
            call.timed = due.is_some_and(|due| due > now);
            match due {
                Some(due) if due <= now => {
                    self.http.note_limit(MESSAGE_LATE);
                    self.abort(id, &Status::new(Code::DeadlineExceeded, MESSAGE_LATE));
                }
                // The message it was set for came, and another one has begun since.
                Some(due) => self.time_message(due, id),
                None => {}
            }
        }
    }

    fn set_deadline(&mut self, now: Instant, id: CallId, timeout: Duration) {
        let Some(at) = now.checked_add(timeout) else { return };
        if timeout < TIMEOUT_MIN {
            return self.abort(id, &Status::new(Code::DeadlineExceeded, DEADLINE_TEXT));
        }
        let calls = &self.calls;
        let is_live = |id: CallId| live_in(calls, id).is_some();
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
            call.note_message(message.len(), &self.tally);
            if call.kind == MethodKind::OneMessage {
                return Some(Ready::Request(id, Place::Input(message)));
            }
            call.inbox.extend_from_slice(rest);
            call.note(&mut self.http);
            self.draining = Some(id);
            return Some(Ready::Message(id, Place::Input(message)));
        }
        if self.http.is_full() {
            self.http.note_limit(MEMORY_FULL);
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
        call.end(Code::Canceled, &self.tally);
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
        let len = if compressed { self.inflated.len() } else { len };
        let call = live(&mut self.calls, id)?;
        call.note_message(len, &self.tally);
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
            if call.needs_time() {
                self.begun.push(id);
            }
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

    /// Frees what the last event borrowed.
    fn take_back(&mut self) {
        let Some(id) = self.lent.take() else { return };
        self.inflated.clear();
        self.inflated.shrink_to(KEPT_BYTES_MAX);
        if let Some(call) = live(&mut self.calls, id) {
            call.forget_read();
            call.note(&mut self.http);
        }
    }

    /// The event itself.
    pub(super) fn borrow<'s, 'i: 's>(&'s self, ready: Ready<'i>) -> Event<'s> {
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
}

/// Timeouts below this have passed before any answer could be made; Go's context says so for a nanosecond.
const TIMEOUT_MIN: Duration = Duration::from_micros(10);
/// Room for calls begun in one input that is kept.
const BEGUN_KEPT_MAX: usize = 256;
const FULL_TEXT: &str = "grpc: connection holds too much memory";
