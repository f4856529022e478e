//! What the core wants done: writes, messages that may leave, messages that wait for a write, and confirmed
//! reads.
//!
//! At most one [`Append`] is open; everything that must be written joins it until the driver takes it. Its
//! position is fixed when it opens, so a reply can be bound to it before it has left. This is etcd raft's
//! asynchronous storage mode without `Ready` and `Advance`: nothing here waits for the driver to finish a
//! cycle.

use std::collections::VecDeque;

use crate::message::Message;
use crate::read_index::ReadState;
use crate::types::{ConfState, Entry, HardState, LogIndex, LogPosition, MemberId, SnapshotMeta};

/// One write for the log. Carried out in the order of the fields; durable as a whole before it is reported.
///
/// If it spans several blocks, every block carries (or follows a block that carries) `hard_state`, so that no
/// entry is ever durable without the term it was accepted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// To be reported to [`Raft::persisted`](crate::Raft::persisted) once everything up to here is durable.
    pub position: LogPosition,
    /// Term, vote and commit when this was taken.
    pub hard_state: HardState,
    /// The log up to here is replaced by a snapshot the driver has received.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries from this index on, written earlier, are void.
    pub truncate_from: Option<LogIndex>,
    /// Consecutive entries.
    pub entries: Vec<Entry>,
    /// The members after a change was applied.
    pub conf_state: Option<ConfState>,
}

/// Everything the driver has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    open: Option<Open>,
    /// The position of the newest write, open or taken.
    tail: LogPosition,
    /// The position of the newest write taken by the driver.
    taken: LogPosition,
    durable: LogPosition,
    urgent: VecDeque<Message>,
    bulk: VecDeque<Message>,
    /// Ascending by position; equal positions keep the order in which they were held.
    held: VecDeque<(LogPosition, Message)>,
    reads: VecDeque<ReadState>,
    snapshot_requests: VecDeque<MemberId>,
}

#[derive(Debug, Default)]
struct Open {
    snapshot: Option<SnapshotMeta>,
    truncate_from: Option<LogIndex>,
    entries: Vec<Entry>,
    conf_state: Option<ConfState>,
}

impl Outbox {
    /// Makes sure a write is open and returns its position. The hard state alone needs nothing more.
    pub(crate) fn open(&mut self) -> LogPosition {
        if self.open.is_none() {
            self.open = Some(Open::default());
            self.tail = self.tail.next();
        }
        self.tail
    }

    /// Where new entries of the open write go.
    pub(crate) fn entries(&mut self) -> &mut Vec<Entry> {
        &mut self.opened().entries
    }

    /// Entries from `from` on are void: those still here are dropped, the log is told about the rest.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        let open = self.opened();
        let kept = open.entries.partition_point(|entry| entry.index < from);
        open.entries.truncate(kept);
        open.truncate_from = Some(open.truncate_from.map_or(from, |earlier| earlier.min(from)));
    }

    pub(crate) fn snapshot(&mut self, meta: SnapshotMeta) {
        let open = self.opened();
        open.truncate_from = None;
        open.entries.clear();
        open.conf_state = Some(meta.conf_state.clone());
        open.snapshot = Some(meta);
    }

    pub(crate) fn conf_state(&mut self, conf_state: ConfState) {
        self.opened().conf_state = Some(conf_state);
    }

    /// The newest position; a promise made now rests on nothing beyond it.
    pub(crate) fn tail(&self) -> LogPosition {
        self.tail
    }

    pub(crate) fn durable(&self) -> LogPosition {
        self.durable
    }

    pub(crate) fn poll_append(&mut self, hard_state: HardState) -> Option<Append> {
        let Open { snapshot, truncate_from, entries, conf_state } = self.open.take()?;
        self.taken = self.tail;
        Some(Append { position: self.tail, hard_state, snapshot, truncate_from, entries, conf_state })
    }

    /// Raises the durable prefix; false if it was there already.
    pub(crate) fn persisted(&mut self, position: LogPosition) -> bool {
        assert!(
            position <= self.taken,
            "write {position} reported durable, only {} was handed out",
            self.taken
        );
        let news = position > self.durable;
        self.durable = self.durable.max(position);
        news
    }

    pub(crate) fn send(&mut self, message: Message) {
        if message.payload.is_urgent() {
            self.urgent.push_back(message);
        } else {
            self.bulk.push_back(message);
        }
    }

    /// `message` may leave once `position` is durable.
    pub(crate) fn hold(&mut self, position: LogPosition, message: Message) {
        let at = self.held.partition_point(|(held, _)| *held <= position);
        self.held.insert(at, (position, message));
    }

    /// The next held message whose write is durable.
    pub(crate) fn pop_released(&mut self) -> Option<Message> {
        let (position, _) = self.held.front()?;
        if *position > self.durable {
            return None;
        }
        self.held.pop_front().map(|(_, message)| message)
    }

    /// Urgent messages first, each kind in order.
    pub(crate) fn poll_message(&mut self) -> Option<Message> {
        self.urgent.pop_front().or_else(|| self.bulk.pop_front())
    }

    pub(crate) fn confirm_read(&mut self, read: ReadState) {
        self.reads.push_back(read);
    }

    pub(crate) fn poll_read(&mut self) -> Option<ReadState> {
        self.reads.pop_front()
    }

    pub(crate) fn request_snapshot(&mut self, to: MemberId) {
        self.snapshot_requests.push_back(to);
    }

    pub(crate) fn poll_snapshot_request(&mut self) -> Option<MemberId> {
        self.snapshot_requests.pop_front()
    }

    fn opened(&mut self) -> &mut Open {
        self.open();
        self.open.as_mut().expect("opened above")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Payload;
    use crate::types::{EntryKind, Term};

    fn entry(index: u64) -> Entry {
        Entry { term: Term(1), index: LogIndex(index), kind: EntryKind::Normal, data: Bytes::new() }
    }

    fn message(to: u64) -> Message {
        Message { from: MemberId(1), to: MemberId(to), term: Term(1), payload: Payload::TimeoutNow }
    }

    #[test]
    fn writes_join_until_taken() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.poll_append(HardState::default()), None);
        assert_eq!(outbox.open(), LogPosition(1));
        outbox.entries().push(entry(1));
        assert_eq!(outbox.open(), LogPosition(1));
        outbox.entries().push(entry(2));
        let taken = outbox.poll_append(HardState::default()).unwrap();
        assert_eq!((taken.position, taken.entries.len()), (LogPosition(1), 2));
        assert_eq!(outbox.open(), LogPosition(2));
    }

    #[test]
    fn truncation_drops_what_was_not_taken_yet() {
        let mut outbox = Outbox::default();
        outbox.entries().extend([entry(5), entry(6), entry(7)]);
        outbox.truncate(LogIndex(6));
        outbox.entries().push(entry(6));
        outbox.truncate(LogIndex(7));
        let taken = outbox.poll_append(HardState::default()).unwrap();
        assert_eq!(taken.truncate_from, Some(LogIndex(6)));
        assert_eq!(taken.entries, [entry(5), entry(6)]);
    }

    #[test]
    fn held_messages_leave_by_position_then_by_age() {
        let mut outbox = Outbox::default();
        for _ in 0..2 {
            outbox.open();
            outbox.poll_append(HardState::default());
        }
        outbox.hold(LogPosition(2), message(2));
        outbox.hold(LogPosition(1), message(3));
        outbox.hold(LogPosition(1), message(4));
        assert_eq!(outbox.pop_released(), None);
        outbox.persisted(LogPosition(1));
        assert_eq!(outbox.pop_released(), Some(message(3)));
        assert_eq!(outbox.pop_released(), Some(message(4)));
        assert_eq!(outbox.pop_released(), None);
        outbox.persisted(LogPosition(2));
        assert_eq!(outbox.pop_released(), Some(message(2)));
    }

    #[test]
    #[should_panic(expected = "write 1 reported durable, only 0 was handed out")]
    fn an_untaken_write_cannot_be_durable() {
        let mut outbox = Outbox::default();
        outbox.open();
        outbox.persisted(LogPosition(1));
    }
}
