//! The way out: one contiguous output buffer, and the bodies that wait for windows.
//!
//! What windows allow goes straight into the output; the rest waits in its stream's queue and follows frame by frame,
//! round robin. A caller with much to say does not queue it at all: it asks to be asked ([`Sender::poll_offer`]) and
//! writes about as much as the windows and the output have room for.

use super::flow::SendWindow;
use super::frame::{self, HEAD_LEN, PAYLOAD_LEN_MAX, flag, kind};
use super::settings::{PeerSettings, WINDOW_DEFAULT};
use super::stream::{StreamKey, Streams};
use crate::hpack::{Encoder, encode::Field};
use std::collections::VecDeque;

/// Bytes on their way to the socket.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Written by us, taken by the driver up to `sent`.
    pub(super) buf: Vec<u8>,
    sent: usize,
}

impl Output {
    pub(super) fn pending(&self) -> &[u8] {
        &self.buf[self.sent..]
    }

    pub(super) fn len(&self) -> usize {
        self.buf.len() - self.sent
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "{bytes} of {} bytes consumed", self.len());
        self.sent += bytes;
        if self.sent == self.buf.len() {
            self.buf.clear();
            self.buf.shrink_to(OUTPUT_KEPT_BYTES_MAX);
            self.sent = 0;
        } else if self.sent >= OUTPUT_HIGH_BYTES {
            self.buf.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// Writes frames of bodies and fields.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) out: Output,
    pub(super) encoder: Encoder,
    pub(super) peer: PeerSettings,
    /// The connection's window.
    pub(super) window: SendWindow,
    /// Streams with queued bytes and a window, in turn.
    ready: VecDeque<StreamKey>,
    /// Streams whose owner has more to write, in turn.
    offers: VecDeque<StreamKey>,
    /// Bytes in all queues.
    pub(super) queued_bytes: usize,
    /// HEADERS or DATA went out since this was last cleared.
    pub(super) answered: bool,
    /// Streams whose answer is complete since this was last cleared.
    pub(super) finished: u32,
    /// HEADERS and DATA frames sent since this was last cleared.
    pub(super) frames: u32,
}

impl Sender {
    pub(super) fn new() -> Sender {
        Sender {
            out: Output::default(),
            encoder: Encoder::new(),
            peer: PeerSettings::default(),
            window: SendWindow::new(WINDOW_DEFAULT),
            ready: VecDeque::new(),
            offers: VecDeque::new(),
            queued_bytes: 0,
            answered: false,
            finished: 0,
            frames: 0,
        }
    }

    /// Writes a header block.
    pub(super) fn headers(&mut self, id: u32, fields: &[Field<'_>], end_stream: bool) {
        let start = self.out.buf.len();
        self.out.buf.extend_from_slice(&[0; HEAD_LEN]);
        self.encoder.encode(fields, &mut self.out.buf);
        let len = self.out.buf.len() - start - HEAD_LEN;
        let end = if end_stream { flag::END_STREAM } else { 0 };
        self.answered = true;
        if len <= PAYLOAD_LEN_MAX {
            self.write_head(start, len, kind::HEADERS, end | flag::END_HEADERS, id);
            return;
        }
        let frames = spread(&mut self.out.buf, start);
        for n in 0..frames {
            let at = start + n * (HEAD_LEN + PAYLOAD_LEN_MAX);
            let part = (len - n * PAYLOAD_LEN_MAX).min(PAYLOAD_LEN_MAX);
            let kind = if n == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let flags = if n == 0 { end } else { 0 } | if n + 1 == frames { flag::END_HEADERS } else { 0 };
            self.write_head(at, part, kind, flags, id);
        }
    }

    /// Sends or queues the bytes `fill` appends.
    pub(super) fn data(&mut self, streams: &mut Streams, key: StreamKey, fill: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(streams.at(key).trailers.is_none(), "data behind the trailers of stream {}", key.id);
        let start = self.out.buf.len();
        let room = self.room(streams, key);
        self.out.buf.extend_from_slice(&[0; HEAD_LEN]);
        fill(&mut self.out.buf);
        let len = self.out.buf.len() - start - HEAD_LEN;
        let now = len.min(room);
        if now < len {
            let stream = streams.at(key);
            let tail = start + HEAD_LEN + now;
            stream.queue.extend_from_slice(&self.out.buf[tail..]);
            self.queued_bytes += len - now;
            self.out.buf.truncate(tail);
            self.schedule(streams, key);
        }
        if now == 0 {
            self.out.buf.truncate(start);
            return;
        }
        self.window.take(now);
        streams.at(key).send_window.take(now);
        self.answered = true;
        self.frame_data(start, now, key.id);
    }

    /// Bytes that would go straight into the output.
    pub(super) fn room(&self, streams: &mut Streams, key: StreamKey) -> usize {
        match streams.live(key) {
            Some(stream) if stream.queued() == 0 && self.out.len() < OUTPUT_HIGH_BYTES => {
                self.window.room().min(stream.send_window.room())
            }
            _ => 0,
        }
    }

    /// Ends our side with `trailers`, behind whatever is queued.
    pub(super) fn finish(&mut self, streams: &mut Streams, key: StreamKey, trailers: &[Field<'_>]) {
        let stream = streams.at(key);
        debug_assert!(stream.trailers.is_none(), "stream {} finished twice", key.id);
        stream.wants = false;
        if stream.queued() > 0 {
            stream.trailers = Some(trailers.iter().map(|(name, value)| (*name, value.to_vec())).collect());
            return;
        }
        self.headers(key.id, trailers, true);
        self.finished += 1;
        streams.end_local(key);
    }

    /// Gives up what a stream has queued, before it is closed early.
    pub(super) fn discard(&mut self, streams: &mut Streams, key: StreamKey) {
        self.queued_bytes -= streams.at(key).queued();
    }

    /// Sends queued bytes while windows and output have room.
    pub(super) fn pump(&mut self, streams: &mut Streams) {
        while self.out.len() < OUTPUT_HIGH_BYTES && self.window.room() > 0 {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(stream) = streams.live(key) else { continue };
            stream.scheduled = false;
            let room = self.window.room().min(stream.send_window.room());
            let len = stream.queued().min(room).min(PAYLOAD_LEN_MAX);
            if len > 0 {
                let part = stream.queue_sent..stream.queue_sent + len;
                self.out.buf.extend_from_slice(&frame::head(len, kind::DATA, 0, key.id));
                self.out.buf.extend_from_slice(&stream.queue[part]);
                stream.queue_sent += len;
                stream.send_window.take(len);
                self.window.take(len);
                self.queued_bytes -= len;
                self.answered = true;
                self.frames = self.frames.saturating_add(1);
            }
            if stream.queue_sent >= OUTPUT_HIGH_BYTES {
                stream.queue.drain(..stream.queue_sent);
                stream.queue_sent = 0;
            }
            if stream.queued() > 0 {
                self.schedule(streams, key);
            } else {
                self.drained(streams, key);
            }
        }
    }

    /// A stream's queue is empty again.
    fn drained(&mut self, streams: &mut Streams, key: StreamKey) {
        let stream = streams.at(key);
        stream.queue.clear();
        stream.queue_sent = 0;
        match stream.trailers.take() {
            Some(trailers) => {
                let fields: Vec<Field<'_>> =
                    trailers.iter().map(|(name, value)| (*name, &value[..])).collect();
                self.finish(streams, key, &fields);
            }
            None => self.offer(streams, key),
        }
    }

    /// Puts a stream in line if it has bytes to send and a window for them.
    pub(super) fn schedule(&mut self, streams: &mut Streams, key: StreamKey) {
        let stream = streams.at(key);
        if stream.queued() > 0 && stream.send_window.room() > 0 && !stream.scheduled {
            stream.scheduled = true;
            self.ready.push_back(key);
        }
    }

    /// The owner of `key` has more to write and wants to be asked.
    pub(super) fn want(&mut self, streams: &mut Streams, key: StreamKey) {
        streams.at(key).wants = true;
        self.offer(streams, key);
    }

    /// A window opened: puts the stream back into the lines it belongs to.
    pub(super) fn on_window(&mut self, streams: &mut Streams, key: StreamKey) {
        self.schedule(streams, key);
        self.offer(streams, key);
    }

    fn offer(&mut self, streams: &mut Streams, key: StreamKey) {
        let stream = streams.at(key);
        if stream.wants && !stream.offered && stream.queued() == 0 && stream.send_window.room() > 0 {
            stream.offered = true;
            self.offers.push_back(key);
        }
    }

    /// The next stream to write to and how much it should write; it is not asked again before it wants again.
    pub(super) fn poll_offer(&mut self, streams: &mut Streams) -> Option<(StreamKey, usize)> {
        loop {
            let room = self.window.room().min(OUTPUT_HIGH_BYTES.saturating_sub(self.out.len()));
            if room == 0 {
                return None;
            }
            let key = self.offers.pop_front()?;
            let Some(stream) = streams.live(key) else { continue };
            stream.offered = false;
            let room = room.min(stream.send_window.room());
            if stream.wants && stream.queued() == 0 && room > 0 {
                stream.wants = false;
                return Some((key, room));
            }
        }
    }

    /// Turns the `len` bytes behind the blank head at `start` into DATA frames.
    fn frame_data(&mut self, start: usize, len: usize, id: u32) {
        if len <= PAYLOAD_LEN_MAX {
            return self.write_head(start, len, kind::DATA, 0, id);
        }
        for n in 0..spread(&mut self.out.buf, start) {
            let part = (len - n * PAYLOAD_LEN_MAX).min(PAYLOAD_LEN_MAX);
            self.write_head(start + n * (HEAD_LEN + PAYLOAD_LEN_MAX), part, kind::DATA, 0, id);
        }
    }

    fn write_head(&mut self, at: usize, len: usize, kind: u8, flags: u8, id: u32) {
        self.out.buf[at..at + HEAD_LEN].copy_from_slice(&frame::head(len, kind, flags, id));
        self.frames = self.frames.saturating_add(1);
    }
}

/// Moves the payload behind the head at `start` apart, so that every frame has a head of their own in
/// front of them; the number of frames.
fn spread(buf: &mut Vec<u8>, start: usize) -> usize {
    let payload = start + HEAD_LEN;
    let len = buf.len() - payload;
    let frames = len.div_ceil(PAYLOAD_LEN_MAX);
    buf.resize(buf.len() + (frames - 1) * HEAD_LEN, 0);
    for n in (1..frames).rev() {
        let from = payload + n * PAYLOAD_LEN_MAX;
        let part = (len - n * PAYLOAD_LEN_MAX).min(PAYLOAD_LEN_MAX);
        buf.copy_within(from..from + part, from + n * HEAD_LEN);
    }
    frames
}

/// With this much waiting for the socket, bodies wait in their queues and nobody is asked for more.
pub(super) const OUTPUT_HIGH_BYTES: usize = 256 << 10;
/// Memory an empty output keeps.
const OUTPUT_KEPT_BYTES_MAX: usize = 2 * OUTPUT_HIGH_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Kinds and payload lengths of the frames in the output, which is consumed.
    fn frames(sender: &mut Sender) -> Vec<(u8, u32, usize)> {
        let mut input = sender.out.pending();
        let mut found = Vec::new();
        while !input.is_empty() {
            let frame = frame::Frame::take(&mut input).unwrap().expect("whole frames only");
            found.push((frame.kind, frame.stream, frame.payload.len()));
        }
        sender.out.consume(sender.out.len());
        found
    }

    fn set_up(window: u32, streams: u32) -> (Sender, Streams, Vec<StreamKey>) {
        let mut table = Streams::new(Instant::now());
        let keys = (0..streams).map(|n| table.open(2 * n + 1, window, true, None)).collect();
        (Sender::new(), table, keys)
    }

    #[test]
    fn what_fits_goes_out_in_frames() {
        let (mut sender, mut streams, keys) = set_up(1 << 20, 1);
        let body: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
        sender.data(&mut streams, keys[0], |buf| buf.extend_from_slice(&body));
        let mut sent = Vec::new();
        let mut input = sender.out.pending();
        while let Some(frame) = frame::Frame::take(&mut input).unwrap() {
            sent.extend_from_slice(frame.payload);
        }
        assert!(sent == body);
        assert_eq!(frames(&mut sender), [(0, 1, 16_384), (0, 1, 16_384), (0, 1, 7_232)]);
    }

    #[test]
    fn what_does_not_fit_waits_and_trailers_wait_behind_it() {
        let (mut sender, mut streams, keys) = set_up(10, 1);
        sender.data(&mut streams, keys[0], |buf| buf.extend_from_slice(&[1; 25]));
        sender.finish(&mut streams, keys[0], &[("grpc-status", b"0")]);
        assert_eq!(frames(&mut sender), [(0, 1, 10)]);
        assert_eq!(sender.queued_bytes, 15);
        for expected in [vec![(0, 1, 10)], vec![(0, 1, 5), (1, 1, 15)]] {
            assert!(streams.at(keys[0]).send_window.widen(10));
            sender.on_window(&mut streams, keys[0]);
            sender.pump(&mut streams);
            assert_eq!(frames(&mut sender), expected);
        }
        assert_eq!((streams.count(), sender.queued_bytes), (0, 0));
    }

    #[test]
    fn the_connection_window_is_shared_in_turn() {
        let (mut sender, mut streams, keys) = set_up(1 << 20, 3);
        sender.window = SendWindow::new(0);
        for key in &keys {
            sender.data(&mut streams, *key, |buf| buf.extend_from_slice(&[1; 30_000]));
        }
        assert!(sender.window.widen(40_000));
        sender.pump(&mut streams);
        assert_eq!(frames(&mut sender), [(0, 1, 16_384), (0, 3, 16_384), (0, 5, 7_232)]);
        assert!(sender.window.widen(1 << 20));
        sender.pump(&mut streams);
        assert_eq!(frames(&mut sender), [(0, 1, 13_616), (0, 3, 13_616), (0, 5, 16_384), (0, 5, 6_384)]);
    }

    #[test]
    fn offers_are_fair_and_follow_the_room() {
        let (mut sender, mut streams, keys) = set_up(50_000, 2);
        for key in &keys {
            sender.want(&mut streams, *key);
        }
        let (first, budget) = sender.poll_offer(&mut streams).unwrap();
        assert_eq!((first, budget), (keys[0], 50_000));
        sender.data(&mut streams, first, |buf| buf.extend_from_slice(&[0; 50_000]));
        sender.want(&mut streams, first);
        let (second, budget) = sender.poll_offer(&mut streams).unwrap();
        assert_eq!((second, budget), (keys[1], 15_535));
        sender.data(&mut streams, second, |buf| buf.extend_from_slice(&[0; 20_000]));
        assert_eq!(sender.poll_offer(&mut streams), None);
        assert!(sender.window.widen(100_000) && streams.at(first).send_window.widen(7));
        sender.on_window(&mut streams, first);
        assert_eq!(sender.poll_offer(&mut streams), Some((first, 7)));
    }

    #[test]
    fn a_long_header_block_continues() {
        let (mut sender, _, _) = set_up(0, 0);
        sender.headers(1, &[("grpc-message", &[b'x'; 40_000])], true);
        let kinds: Vec<(u8, usize)> =
            frames(&mut sender).iter().map(|(kind, _, len)| (*kind, *len)).collect();
        assert_eq!(kinds, [(1, 16_384), (9, 16_384), (9, 7_250)]);
    }
}
