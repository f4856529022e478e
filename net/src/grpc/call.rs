//! What a call in flight remembers beside its HTTP/2 stream.
//!
//! ```text
//!              one message complete                 answered
//!   Receiving ──────────────────────► Announced ──────────────► Done
//!       │  (streaming: at once)          │  ▲ messages in, until HalfClosed
//!       │                                │
//!       └──► Done: refused here          └──► Done + Cancelled: reset, deadline, broken input
//! ```

use super::frame::PREFIX_LEN;
use super::metadata::{Metadata, MethodId, MethodKind};
use super::status::Code;
use super::tally::{Ended, Stages, Tally};
use crate::h2::{Connection, StreamKey, abuse::STREAM_COST_BYTES};
use std::time::Instant;

/// Names a call for as long as it is in flight, and never another one of the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(pub(super) StreamKey);

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

/// How far a call has come, as drawn above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its one message is not complete; nobody above knows of it.
    Receiving,
    /// Reported, to be answered.
    Announced,
    /// Over; the slot waits for the next.
    Done,
}

/// State of a call beside that of its stream. Its memory is reused by the next call in the slot.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) stage: Stage,
    pub(super) method: MethodId,
    pub(super) kind: MethodKind,
    pub(super) metadata: Metadata,
    /// Body bytes not delivered yet, beginning at `inbox_read`. Used only for what one DATA frame does not hold.
    pub(super) inbox: Vec<u8>,
    pub(super) inbox_read: usize,
    /// What the ledger knows of `inbox`, `metadata` and `charged_bytes`.
    pub(super) noted_bytes: usize,
    /// What the caller holds for it.
    pub(super) charged_bytes: usize,
    /// When its message was complete, if the time is told.
    pub(super) begun: Option<Instant>,
    /// What it passed since.
    pub(super) stages: Stages,
    /// Length of its message.
    pub(super) request_bytes: usize,
    /// When the message of a stream that has begun must be complete; one message at a time.
    pub(super) message_due: Option<Instant>,
    /// An entry of that deadline, or of an earlier message's, is in the heap.
    pub(super) timed: bool,
    pub(super) half_closed: bool,
    pub(super) headers_sent: bool,
    /// What `begin_message` announced and was not pushed yet.
    pub(super) message_left: u64,
    /// The prefix of that message, until the first push.
    pub(super) prefix: Option<[u8; PREFIX_LEN]>,
}

impl Call {
    pub(super) fn vacant() -> Call {
        Call {
            id: CallId::from_u64(0),
            stage: Stage::Done,
            method: MethodId(0),
            kind: MethodKind::OneMessage,
            metadata: Metadata::default(),
            inbox: Vec::new(),
            inbox_read: 0,
            noted_bytes: 0,
            charged_bytes: 0,
            begun: None,
            stages: Stages::default(),
            request_bytes: 0,
            message_due: None,
            timed: false,
            half_closed: false,
            headers_sent: false,
            message_left: 0,
            prefix: None,
        }
    }

    /// Begins the next call in the slot.
    pub(super) fn restart(&mut self, id: CallId, half_closed: bool) {
        debug_assert!(self.noted_bytes == 0, "{} bytes kept after the end", self.noted_bytes);
        self.id = id;
        self.stage = Stage::Receiving;
        self.begun = None;
        self.stages = Stages::default();
        (self.message_due, self.timed) = (None, false);
        self.half_closed = half_closed;
        self.headers_sent = false;
        self.message_left = 0;
        self.prefix = None;
    }

    pub(super) fn is_live(&self, id: CallId) -> bool {
        self.id == id && self.stage != Stage::Done
    }

    /// The call becomes known to the layer above.
    pub(super) fn announce(&mut self, tally: &Tally) {
        if self.stage == Stage::Receiving {
            self.stage = Stage::Announced;
            self.begun = tally.now();
            tally.on_started(self.method);
        }
    }

    /// The call ends with `code`, whoever ended it.
    pub(super) fn end(&mut self, code: Code, tally: &Tally) {
        if std::mem::replace(&mut self.stage, Stage::Done) != Stage::Announced {
            return;
        }
        tally.on_handled(self.method, code);
        if let Some(begun) = self.begun {
            let Call { method, stages, request_bytes, .. } = *self;
            tally.on_ended(Ended { method, begun, stages, request_bytes, code });
        }
    }

    /// A message of the call is complete.
    pub(super) fn note_message(&mut self, len: usize, tally: &Tally) {
        self.announce(tally);
        self.message_due = None;
        self.request_bytes = len;
        tally.on_received(self.method, len);
    }

    /// Whether a message of a stream has begun and has no time set.
    pub(super) fn needs_time(&self) -> bool {
        let begun = self.inbox.len() > self.inbox_read;
        self.kind == MethodKind::Streaming && begun && self.message_due.is_none()
    }

    /// Tells the ledger what the call holds now.
    pub(super) fn note(&mut self, http: &mut Connection) {
        let held = self.inbox.len() + self.metadata.text.len() + self.charged_bytes;
        http.note_held(held, std::mem::replace(&mut self.noted_bytes, held));
    }

    /// Drops the messages read, without moving a long rest for each short one.
    pub(super) fn forget_read(&mut self) {
        if self.inbox_read == self.inbox.len() || self.kind == MethodKind::OneMessage {
            self.inbox.clear();
            self.inbox.shrink_to(KEPT_BYTES_MAX);
            self.inbox_read = 0;
        } else if self.inbox_read >= INBOX_READ_BYTES_MAX {
            self.inbox.drain(..self.inbox_read);
            self.inbox_read = 0;
        }
    }

    /// Gives back what a finished call holds.
    pub(super) fn release(&mut self, http: &mut Connection) {
        self.inbox.clear();
        self.inbox.shrink_to(KEPT_BYTES_MAX);
        self.inbox_read = 0;
        self.metadata.text.clear();
        self.metadata.text.shrink_to(KEPT_BYTES_MAX);
        self.charged_bytes = 0;
        http.note_held(0, std::mem::take(&mut self.noted_bytes));
    }
}

/// The call of `id`, unless it is over.
pub(super) fn live(calls: &mut [Call], id: CallId) -> Option<&mut Call> {
    calls.get_mut(id.0.slot()).filter(|call| call.is_live(id))
}

/// The same to look at.
pub(super) fn live_in(calls: &[Call], id: CallId) -> Option<&Call> {
    calls.get(id.0.slot()).filter(|call| call.is_live(id))
}

/// Memory each buffer of a free slot keeps; the ledger charges a stream enough for that.
pub(super) const KEPT_BYTES_MAX: usize = 512;
/// Messages read that may stand before unread ones in an inbox.
const INBOX_READ_BYTES_MAX: usize = 16 << 10;

const _: () = assert!(3 * KEPT_BYTES_MAX + size_of::<Call>() <= STREAM_COST_BYTES);
