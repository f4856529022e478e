//! The streams of a connection: a slab of reused slots and the state machine of RFC 9113 §5.1, seen by a server.
//!
//! ```text
//!            HEADERS                      HEADERS + END_STREAM
//!   idle ─────────────► Open ──────────────┐ ┌───────────── idle
//!                        │                 ▼ ▼
//!       we end our side  │  END_STREAM   HalfClosedRemote
//!                        │ ────────────►   │
//!                        ▼                 │ we end our side
//!                 HalfClosedLocal ─────────┴────► closed (the slot is free)
//!                        END_STREAM, or the linger time passed (RST_STREAM)
//! ```
//! RST_STREAM from either side leads straight to closed. A stream whose answer ended before its request did lingers:
//! clients often send their END_STREAM in a frame of its own, and a reset they do not need costs both sides more than
//! a short wait. After that it is reset with NO_ERROR, as grpc-go does at once.

use super::error::Reason;
use super::flow::{RecvWindow, STREAM_WINDOW_MAX, SendWindow};
use super::frame;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// Names an open stream. Its slot is smaller than the number of streams ever open at once, so that the layer above
/// can keep its own state in a plain `Vec` beside ours; a key of a closed stream is never valid again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    pub(crate) slot: u32,
    pub(crate) id: u32,
}

impl StreamKey {
    /// Index of the stream's slot.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The HTTP/2 stream identifier.
    pub fn id(self) -> u32 {
        self.id
    }
}

/// Where a stream stands; closed streams have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    HalfClosedRemote,
    HalfClosedLocal,
}

/// Trailers waiting for the body before them.
pub(super) type OwnedFields = Vec<(&'static str, Vec<u8>)>;

#[derive(Debug)]
pub(super) struct Stream {
    /// 0 while the slot is free.
    pub(super) id: u32,
    pub(super) state: State,
    pub(super) opened_at: Instant,
    pub(super) recv_window: RecvWindow,
    pub(super) send_window: SendWindow,
    /// What `content-length` promised and has not come yet.
    pub(super) body_left: Option<u64>,
    /// Body bytes waiting for a window; sent up to `queue_sent`.
    pub(super) queue: Vec<u8>,
    pub(super) queue_sent: usize,
    /// Sent once the queue is empty; nothing may be queued behind them.
    pub(super) trailers: Option<OwnedFields>,
    /// The end of the request is answered by a reset all the same.
    pub(super) reset_at_end: bool,
    /// Stands in the sender's list of streams with something to send.
    pub(super) scheduled: bool,
    /// The layer above has more to write and wants to be asked.
    pub(super) wants: bool,
    /// Stands in the sender's list of streams to ask.
    pub(super) offered: bool,
}

impl Stream {
    fn vacant(now: Instant) -> Stream {
        Stream {
            id: 0,
            state: State::Open,
            opened_at: now,
            recv_window: RecvWindow::new(STREAM_WINDOW_MAX),
            send_window: SendWindow::new(0),
            body_left: None,
            queue: Vec::new(),
            queue_sent: 0,
            trailers: None,
            reset_at_end: false,
            scheduled: false,
            wants: false,
            offered: false,
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len() - self.queue_sent
    }

    fn key(&self, slot: u32) -> StreamKey {
        StreamKey { slot, id: self.id }
    }
}

/// All streams that are not closed, and what must be remembered of some that are.
#[derive(Debug)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
    /// Highest identifier the peer has opened.
    pub(super) last_id: u32,
    /// Streams answered before their request ended, oldest first, with the time they are reset.
    lingering: VecDeque<(StreamKey, Instant)>,
    /// The last streams we reset: frames for them were sent in good faith and are ignored (§5.4.2).
    reset: VecDeque<u32>,
    /// The latest time the connection was told.
    pub(super) now: Instant,
}

impl Streams {
    pub(super) fn new(now: Instant) -> Streams {
        Streams {
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::default(),
            last_id: 0,
            lingering: VecDeque::new(),
            reset: VecDeque::new(),
            now,
        }
    }

    /// Number of streams not closed.
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Opens stream `id`, which must be higher than any before.
    pub(super) fn open(
        &mut self,
        id: u32,
        send_window: u32,
        end_stream: bool,
        body: Option<u64>,
    ) -> StreamKey {
        debug_assert!(id > self.last_id, "stream {id} after {}", self.last_id);
        self.last_id = id;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::vacant(self.now));
            self.slots.len() as u32 - 1
        });
        let stream = &mut self.slots[slot as usize];
        stream.id = id;
        stream.state = if end_stream { State::HalfClosedRemote } else { State::Open };
        stream.opened_at = self.now;
        stream.recv_window = RecvWindow::new(STREAM_WINDOW_MAX);
        stream.send_window = SendWindow::new(send_window);
        stream.body_left = body;
        self.by_id.insert(id, slot);
        StreamKey { slot, id }
    }

    pub(super) fn find(&self, id: u32) -> Option<StreamKey> {
        self.by_id.get(&id).map(|&slot| StreamKey { slot, id })
    }

    /// The stream of `key`, unless it is closed.
    pub(super) fn live(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot()).filter(|stream| stream.id == key.id)
    }

    /// The stream of a key known to be open.
    pub(super) fn at(&mut self, key: StreamKey) -> &mut Stream {
        let stream = &mut self.slots[key.slot()];
        assert!(stream.id == key.id, "slot holds stream {} instead of {}", stream.id, key.id);
        stream
    }

    /// Every open stream, by slot.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        let open = self.slots.iter_mut().enumerate().filter(|(_, stream)| stream.id != 0);
        open.map(|(slot, stream)| (stream.key(slot as u32), stream))
    }

    /// Our side has ended. Returns whether the stream is closed by it.
    pub(super) fn end_local(&mut self, key: StreamKey) -> bool {
        let due = self.now + LINGER_TIME;
        let stream = self.at(key);
        stream.wants = false;
        if stream.state == State::HalfClosedRemote {
            self.close(key);
            return true;
        }
        stream.state = State::HalfClosedLocal;
        self.lingering.push_back((key, due));
        false
    }

    /// The peer's side has ended.
    pub(super) fn end_remote(&mut self, key: StreamKey, out: &mut Vec<u8>) {
        let stream = self.at(key);
        match stream.state {
            State::Open => stream.state = State::HalfClosedRemote,
            State::HalfClosedLocal if stream.reset_at_end => self.reset(key, Reason::NoError, out),
            State::HalfClosedLocal => self.close(key),
            State::HalfClosedRemote => unreachable!("stream {} ended twice", key.id),
        }
    }

    /// Frees the slot.
    pub(super) fn close(&mut self, key: StreamKey) {
        let stream = self.at(key);
        stream.id = 0;
        stream.queue.clear();
        stream.queue.shrink_to(QUEUE_KEPT_BYTES_MAX);
        stream.queue_sent = 0;
        stream.trailers = None;
        stream.reset_at_end = false;
        (stream.scheduled, stream.wants, stream.offered) = (false, false, false);
        self.by_id.remove(&key.id);
        self.free.push(key.slot);
    }

    /// Closes the stream with RST_STREAM.
    pub(super) fn reset(&mut self, key: StreamKey, reason: Reason, out: &mut Vec<u8>) {
        frame::put_reset(out, key.id, reason);
        self.close(key);
        self.remember_reset(key.id);
    }

    pub(super) fn remember_reset(&mut self, id: u32) {
        if self.reset.len() == RESET_KEPT_COUNT_MAX {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    /// Whether we reset stream `id` not long ago.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
    }

    /// Resets the streams whose linger time is over.
    pub(super) fn expire_lingering(&mut self, out: &mut Vec<u8>) {
        while let Some((key, due)) = self.next_lingering() {
            if due > self.now {
                return;
            }
            self.lingering.pop_front();
            self.reset(key, Reason::NoError, out);
        }
    }

    /// The oldest lingering stream; those that closed meanwhile are dropped on the way.
    fn next_lingering(&mut self) -> Option<(StreamKey, Instant)> {
        while let Some(&(key, due)) = self.lingering.front() {
            if self.live(key).is_some() {
                return Some((key, due));
            }
            self.lingering.pop_front();
        }
        None
    }

    /// When [`Self::expire_lingering`] has work next (or earlier).
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.lingering.front().map(|(_, due)| *due)
    }
}

/// Spreads stream identifiers, which are small and odd, over the map. Deterministic, and the map is never iterated.
/// A peer that picks identifiers to collide needs them all open at once; the ledger keeps those so few that a lookup
/// stays in the microseconds.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How long a finished answer waits for the end of its request.
const LINGER_TIME: Duration = Duration::from_millis(50);
/// Streams we reset and still recognise.
const RESET_KEPT_COUNT_MAX: usize = 128;
/// Queue memory a free slot keeps.
const QUEUE_KEPT_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_and_old_keys_are_dead() {
        let mut streams = Streams::new(Instant::now());
        let first = streams.open(1, 100, true, None);
        assert_eq!(streams.find(1), Some(first));
        assert!(streams.end_local(first));
        let second = streams.open(3, 100, false, None);
        assert_eq!((second.slot(), second.id()), (first.slot(), 3));
        assert!(streams.live(first).is_none());
        assert_eq!(streams.find(1), None);
        assert_eq!(streams.count(), 1);
    }

    #[test]
    fn an_early_answer_lingers_then_resets() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        let (patient, hasty) = (streams.open(1, 0, false, None), streams.open(3, 0, false, None));
        assert!(!streams.end_local(hasty));
        assert!(!streams.end_local(patient));
        streams.end_remote(hasty, &mut Vec::new());
        let mut out = Vec::new();
        streams.expire_lingering(&mut out);
        assert!(out.is_empty());
        streams.now = start + LINGER_TIME;
        streams.expire_lingering(&mut out);
        assert_eq!(out, [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert!(streams.was_reset(1) && !streams.was_reset(3));
        assert_eq!(streams.count(), 0);
    }
}
