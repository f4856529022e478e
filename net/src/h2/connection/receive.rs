//! What each frame of the peer does (RFC 9113 §6). Small checks first: a frame that breaks a rule changes nothing.

use super::super::abuse;
use super::super::error::{ConnectionError, Fault, Reason, refuse};
use super::super::frame::{self, Frame, flag, kind};
use super::super::request;
use super::super::stream::{State, Stream, StreamKey, Streams};
use super::{Assembly, Connection, Event, Phase, SHUTDOWN_PING, Shutdown};

impl Connection {
    pub(super) fn on_frame<'i>(&mut self, frame: Frame<'i>) -> Result<Option<Event<'i>>, Fault> {
        if self.phase == Phase::Settings && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return refuse(Reason::ProtocolError, "first frame is not SETTINGS");
        }
        if let Some(assembly) = self.assembly
            && (frame.kind != kind::CONTINUATION || frame.stream != assembly.stream)
        {
            return refuse(Reason::ProtocolError, "header block interrupted");
        }
        match frame.kind {
            kind::DATA => return self.on_data(frame),
            kind::HEADERS => return self.on_headers(frame),
            kind::CONTINUATION => return self.on_continuation(frame),
            kind::RST_STREAM => return self.on_reset(frame),
            kind::WINDOW_UPDATE => self.on_window_update(frame)?,
            kind::SETTINGS => self.on_settings(frame)?,
            kind::PING => self.on_ping(frame)?,
            kind::GOAWAY => self.on_goaway(frame)?,
            kind::PRIORITY => self.on_priority(frame)?,
            kind::PUSH_PROMISE => return refuse(Reason::ProtocolError, "push from a client"),
            _ => self.meter.on_idle_frame()?,
        }
        Ok(None)
    }

    /// Resets stream `id` for an error of the peer's; the event that tells, if anyone above knows the stream.
    pub(super) fn on_stream_error(
        &mut self,
        id: u32,
        reason: Reason,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        self.control_replies += 1;
        // A client cannot know our stream limit before it has read our SETTINGS.
        if reason == Reason::RefusedStream {
            self.meter.on_refused()?;
        } else {
            self.settle_meter();
            self.meter.on_reset()?;
        }
        let Some(stream) = self.streams.find(id) else {
            frame::put_reset(&mut self.sender.out.buf, id, reason);
            self.streams.remember_reset(id);
            return Ok(None);
        };
        let known = self.streams.at(stream).state != State::HalfClosedLocal;
        self.reset(stream, reason);
        Ok(known.then_some(Event::Reset { stream }))
    }

    // ---- bodies ----

    fn on_data<'i>(&mut self, frame: Frame<'i>) -> Result<Option<Event<'i>>, Fault> {
        if self.is_idle(frame.stream) {
            return refuse(Reason::ProtocolError, "DATA on an idle stream");
        }
        let Some(payload) = frame.unpadded() else { return refuse(Reason::ProtocolError, "DATA padding") };
        if !self.recv_window.take(frame.payload.len()) {
            return refuse(Reason::FlowControlError, "connection window overrun");
        }
        if let Some(increment) = self.recv_window.refill() {
            frame::put_window_update(&mut self.sender.out.buf, 0, increment);
        }
        let end_stream = frame.has(flag::END_STREAM);
        let Some(key) = self.streams.find(frame.stream) else {
            self.meter.on_idle_frame()?;
            return self.on_closed_stream(frame.stream).map(|()| None);
        };
        if payload.is_empty() && !end_stream {
            self.meter.on_idle_frame()?;
        } else {
            self.meter.on_work(1);
        }
        self.on_body(key, frame.payload.len(), payload, end_stream)
    }

    /// Part of the body of an open stream; `flow_len` is what it costs in windows.
    fn on_body<'i>(
        &mut self,
        key: StreamKey,
        flow_len: usize,
        payload: &'i [u8],
        end_stream: bool,
    ) -> Result<Option<Event<'i>>, Fault> {
        let stream = self.streams.at(key);
        if stream.state == State::HalfClosedRemote {
            return Err(Fault::Stream(key.id, Reason::StreamClosed));
        }
        if !stream.recv_window.take(flow_len) {
            return Err(Fault::Stream(key.id, Reason::FlowControlError));
        }
        if let Some(left) = &mut stream.body_left {
            match left.checked_sub(payload.len() as u64) {
                Some(0) => *left = 0,
                Some(rest) if !end_stream => *left = rest,
                _ => return Err(Fault::Stream(key.id, Reason::ProtocolError)),
            }
        }
        let unheard = stream.state == State::HalfClosedLocal;
        if end_stream {
            self.streams.end_remote(key, &mut self.sender.out.buf);
        } else if let Some(increment) = stream.recv_window.refill() {
            frame::put_window_update(&mut self.sender.out.buf, key.id, increment);
        }
        Ok((!unheard).then_some(Event::Data { stream: key, payload, end_stream }))
    }

    /// A frame for a stream that is not open any more: an error, unless we reset it and the peer cannot know yet.
    fn on_closed_stream(&mut self, id: u32) -> Result<(), Fault> {
        if self.streams.was_reset(id) || self.is_beyond_shutdown(id) {
            return Ok(());
        }
        Err(Fault::Stream(id, Reason::StreamClosed))
    }

    // ---- fields ----

    fn on_headers<'i>(&mut self, frame: Frame<'i>) -> Result<Option<Event<'i>>, Fault> {
        if frame.stream.is_multiple_of(2) {
            return refuse(Reason::ProtocolError, "HEADERS on an even stream");
        }
        let Some(mut block) = frame.unpadded() else {
            return refuse(Reason::ProtocolError, "HEADERS padding");
        };
        let mut depends_on_itself = false;
        if frame.has(flag::PRIORITY) {
            let Some((priority, rest)) = block.split_at_checked(PRIORITY_LEN) else {
                return refuse(Reason::ProtocolError, "HEADERS priority");
            };
            depends_on_itself = frame::number(priority) == Some(frame.stream);
            block = rest;
        }
        self.meter.on_work(1);
        let end_stream = frame.has(flag::END_STREAM);
        if !frame.has(flag::END_HEADERS) {
            self.header_block.extend_from_slice(block);
            let since = self.streams.now;
            self.assembly = Some(Assembly { stream: frame.stream, end_stream, since, continuations: 0 });
            return Ok(None);
        }
        self.decode(block)?;
        if depends_on_itself {
            self.streams.last_id = self.streams.last_id.max(frame.stream);
            return Err(Fault::Stream(frame.stream, Reason::ProtocolError));
        }
        self.on_fields(frame.stream, end_stream)
    }

    fn on_continuation<'i>(&mut self, frame: Frame<'i>) -> Result<Option<Event<'i>>, Fault> {
        let Some(assembly) = &mut self.assembly else {
            return refuse(Reason::ProtocolError, "CONTINUATION without HEADERS");
        };
        assembly.continuations += 1;
        if assembly.continuations > abuse::CONTINUATION_COUNT_MAX {
            return refuse(Reason::EnhanceYourCalm, "too_many_continuations");
        }
        if self.header_block.len() + frame.payload.len() > abuse::HEADER_BLOCK_BYTES_MAX {
            return refuse(Reason::EnhanceYourCalm, "header block too large");
        }
        let Assembly { stream, end_stream, .. } = *assembly;
        self.header_block.extend_from_slice(frame.payload);
        if !frame.has(flag::END_HEADERS) {
            return Ok(None);
        }
        self.assembly = None;
        let block = std::mem::take(&mut self.header_block);
        self.decode(&block)?;
        self.on_fields(stream, end_stream)
    }

    /// Decodes a complete block; even one nobody wants, or the table would differ from the peer's.
    fn decode(&mut self, block: &[u8]) -> Result<(), Fault> {
        match self.decoder.decode(block, &mut self.fields) {
            Ok(()) => Ok(()),
            Err(_) => refuse(Reason::CompressionError, "broken header block"),
        }
    }

    fn on_fields<'i>(&mut self, id: u32, end_stream: bool) -> Result<Option<Event<'i>>, Fault> {
        if id > self.streams.last_id {
            return self.on_request(id, end_stream);
        }
        let Some(key) = self.streams.find(id) else {
            return match self.streams.was_reset(id) {
                true => Ok(None),
                // Ids only rise: a lower one that is not open was skipped, or is long gone (§5.1.1).
                false if id < self.streams.last_id => refuse(Reason::ProtocolError, "stream id not rising"),
                false => refuse(Reason::StreamClosed, "HEADERS on a closed stream"),
            };
        };
        if self.streams.at(key).state == State::HalfClosedRemote {
            return Err(Fault::Stream(id, Reason::StreamClosed));
        }
        if !end_stream || self.fields.overflowed() || request::check_trailers(&self.fields).is_none() {
            return Err(Fault::Stream(id, Reason::ProtocolError));
        }
        self.on_body(key, 0, &[], true)
    }

    fn on_request<'i>(&mut self, id: u32, end_stream: bool) -> Result<Option<Event<'i>>, Fault> {
        if self.is_beyond_shutdown(id) {
            return Ok(None);
        }
        let refused = |streams: &mut Streams, reason| {
            streams.last_id = id;
            Err(Fault::Stream(id, reason))
        };
        if self.fields.overflowed() {
            self.limit = Some(abuse::HEADERS_TOO_LARGE);
            return refused(&mut self.streams, Reason::FrameSizeError);
        }
        let Some(body) = request::check_head(&self.fields) else {
            return refused(&mut self.streams, Reason::ProtocolError);
        };
        if end_stream && body.is_some_and(|length| length > 0) {
            return refused(&mut self.streams, Reason::ProtocolError);
        }
        let cap = self.config.max_concurrent_streams.map_or(usize::MAX, |max| max as usize);
        let is_full = self.is_full();
        if is_full || self.streams.count() >= cap {
            self.limit = Some(if is_full { abuse::MEMORY_FULL } else { abuse::TOO_MANY_STREAMS });
            return refused(&mut self.streams, Reason::RefusedStream);
        }
        let stream = self.streams.open(id, self.sender.peer.initial_window_size, end_stream, body);
        Ok(Some(Event::Headers { stream, end_stream }))
    }

    // ---- control ----

    fn on_reset<'i>(&mut self, frame: Frame<'i>) -> Result<Option<Event<'i>>, Fault> {
        if frame.payload.len() != 4 {
            return refuse(Reason::FrameSizeError, "RST_STREAM payload");
        }
        if self.is_idle(frame.stream) {
            return refuse(Reason::ProtocolError, "RST_STREAM on an idle stream");
        }
        let Some(stream) = self.streams.find(frame.stream) else {
            self.meter.on_idle_frame()?;
            return Ok(None);
        };
        let now = self.streams.now;
        let Stream { state, opened_at, .. } = *self.streams.at(stream);
        if now < opened_at + abuse::RESET_AGE_MAX {
            self.settle_meter();
            self.meter.on_reset()?;
        }
        let known = state != State::HalfClosedLocal;
        self.sender.discard(&mut self.streams, stream);
        self.streams.close(stream);
        Ok(known.then_some(Event::Reset { stream }))
    }

    fn on_window_update(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        if frame.payload.len() != 4 {
            return refuse(Reason::FrameSizeError, "WINDOW_UPDATE payload");
        }
        self.settle_meter();
        self.meter.on_window_update()?;
        let increment = frame::number(frame.payload).map_or(0, i64::from);
        if frame.stream == 0 {
            if increment == 0 {
                return refuse(Reason::ProtocolError, "WINDOW_UPDATE of nothing");
            }
            if !self.sender.window.widen(increment) {
                return refuse(Reason::FlowControlError, "connection window overflow");
            }
            self.sender.pump(&mut self.streams);
            return Ok(());
        }
        if self.is_idle(frame.stream) {
            return refuse(Reason::ProtocolError, "WINDOW_UPDATE on an idle stream");
        }
        let Some(key) = self.streams.find(frame.stream) else { return Ok(()) };
        if increment == 0 {
            return Err(Fault::Stream(key.id, Reason::ProtocolError));
        }
        if !self.streams.at(key).send_window.widen(increment) {
            return Err(Fault::Stream(key.id, Reason::FlowControlError));
        }
        self.sender.on_window(&mut self.streams, key);
        self.sender.pump(&mut self.streams);
        Ok(())
    }

    fn on_settings(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        if frame.stream != 0 {
            return refuse(Reason::ProtocolError, "SETTINGS on a stream");
        }
        self.meter.on_settings()?;
        if frame.has(flag::ACK) {
            let empty = frame.payload.is_empty();
            return if empty { Ok(()) } else { refuse(Reason::FrameSizeError, "SETTINGS ack payload") };
        }
        let old = self.sender.peer;
        self.sender.peer.apply(frame.payload)?;
        self.phase = Phase::Open;
        let new = self.sender.peer;
        if new.header_table_size != old.header_table_size {
            self.sender.encoder.set_table_size(new.header_table_size);
        }
        // The ack first: what follows it obeys the new values.
        frame::put(&mut self.sender.out.buf, kind::SETTINGS, flag::ACK, 0, &[]);
        self.control_replies += 1;
        let delta = i64::from(new.initial_window_size) - i64::from(old.initial_window_size);
        if delta != 0 {
            self.widen_all(delta)?;
        }
        Ok(())
    }

    /// The initial window changed: so does every open one (§6.9.2).
    fn widen_all(&mut self, delta: i64) -> Result<(), Fault> {
        let mut opened = Vec::new();
        for (key, stream) in self.streams.iter_mut() {
            if !stream.send_window.widen(delta) {
                return refuse(Reason::FlowControlError, "stream window overflow");
            }
            opened.push(key);
        }
        for key in opened {
            self.sender.on_window(&mut self.streams, key);
        }
        self.sender.pump(&mut self.streams);
        Ok(())
    }

    fn on_ping(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        if frame.stream != 0 {
            return refuse(Reason::ProtocolError, "PING on a stream");
        }
        if frame.payload.len() != 8 {
            return refuse(Reason::FrameSizeError, "PING payload");
        }
        if frame.has(flag::ACK) {
            self.meter.on_idle_frame()?;
            if frame.payload == SHUTDOWN_PING && matches!(self.shutdown, Shutdown::Announced(_)) {
                self.finish_shutdown();
            }
            return Ok(());
        }
        frame::put(&mut self.sender.out.buf, kind::PING, flag::ACK, 0, frame.payload);
        self.control_replies += 1;
        let answered = std::mem::take(&mut self.sender.answered);
        self.ping_rule.on_ping(self.streams.now, answered, self.streams.count())?;
        Ok(())
    }

    /// The client opens no more streams; what is open goes on.
    fn on_goaway(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        if frame.stream != 0 {
            return refuse(Reason::ProtocolError, "GOAWAY on a stream");
        }
        if frame.payload.len() < 8 {
            return refuse(Reason::FrameSizeError, "GOAWAY payload");
        }
        self.meter.on_idle_frame()?;
        Ok(())
    }

    fn on_priority(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        if frame.stream == 0 {
            return refuse(Reason::ProtocolError, "PRIORITY on stream 0");
        }
        if frame.payload.len() != PRIORITY_LEN {
            return match self.streams.find(frame.stream) {
                Some(key) => Err(Fault::Stream(key.id, Reason::FrameSizeError)),
                None => refuse(Reason::FrameSizeError, "PRIORITY payload"),
            };
        }
        if frame::number(frame.payload) == Some(frame.stream) {
            return refuse(Reason::ProtocolError, "stream depends on itself");
        }
        self.meter.on_idle_frame()?;
        Ok(())
    }

    /// Whether stream `id` was never opened; 0 and even ones are the peer's to leave alone.
    fn is_idle(&self, id: u32) -> bool {
        id.is_multiple_of(2) || (id > self.streams.last_id && !self.is_beyond_shutdown(id))
    }

    fn is_beyond_shutdown(&self, id: u32) -> bool {
        matches!(self.shutdown, Shutdown::Final(last) if id > last)
    }

    /// Tells the meter of answers completed, and frames sent, since it was last told.
    fn settle_meter(&mut self) {
        self.meter.on_finished(std::mem::take(&mut self.sender.finished));
        self.meter.on_work(std::mem::take(&mut self.sender.frames));
    }
}

/// Bytes of a priority, in a frame of its own or in HEADERS.
const PRIORITY_LEN: usize = 5;
