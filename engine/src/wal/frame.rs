//! The records inside a block: one frame each, in the order in which they were pushed.
//!
//! A frame has no checksum of its own; its block has. Decoding checks every length all the same, because a
//! checksum does not tell our mistakes from our intentions.

use bytes::{BufMut, Bytes, BytesMut};

use super::layout::FRAME_BYTES;
use super::{Entry, EntryId};

/// Payload of a start frame: cut number, promised index, promised term.
pub(super) const START_PAYLOAD_BYTES: usize = 24;

mod kind {
    pub const ENTRY: u8 = 1;
    pub const CONF_STATE: u8 = 2;
    pub const TRUNCATE: u8 = 3;
    pub const SNAPSHOT_MARK: u8 = 4;
    pub const START: u8 = 5;
    pub const SEAL: u8 = 6;
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A raft entry; it follows the last one of the log.
    Entry(Entry),
    /// The configuration in force, opaque here.
    ConfState(Bytes),
    /// All entries after this one are void.
    Truncate(EntryId),
    /// The state now stands at this entry, by a snapshot; all entries before and after are void.
    SnapshotMark(EntryId),
    /// Opens a segment.
    Start(Start),
    /// Nothing: the block is there for its header.
    Seal,
}

/// What the first block of a segment says of the log before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Blocks of earlier starts from this number on do not count.
    pub cut: u64,
    /// Last entry kept.
    pub last: EntryId,
    /// What the member had promised beyond `last` and lost, if it is recovering.
    pub promised: Option<EntryId>,
}

/// A frame that contradicts itself, although its block's checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// Offset in the body.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Bytes an entry with `data_len` bytes takes in a block.
pub(super) const fn entry_bytes(data_len: usize) -> usize {
    FRAME_BYTES + data_len
}

pub(super) fn put_entry(body: &mut BytesMut, entry: &Entry) {
    let id = EntryId { index: entry.index, term: entry.term };
    put_head(body, kind::ENTRY, entry.kind, entry.data.len(), id);
    body.extend_from_slice(&entry.data);
}

pub(super) fn put_conf_state(body: &mut BytesMut, conf_state: &[u8]) {
    put_head(body, kind::CONF_STATE, 0, conf_state.len(), EntryId::default());
    body.extend_from_slice(conf_state);
}

pub(super) fn put_truncate(body: &mut BytesMut, keep: EntryId) {
    put_head(body, kind::TRUNCATE, 0, 0, keep);
}

pub(super) fn put_snapshot_mark(body: &mut BytesMut, mark: EntryId) {
    put_head(body, kind::SNAPSHOT_MARK, 0, 0, mark);
}

pub(super) fn put_start(body: &mut BytesMut, start: &Start) {
    put_head(body, kind::START, 0, START_PAYLOAD_BYTES, start.last);
    let promised = start.promised.unwrap_or_default();
    body.put_u64_le(start.cut);
    body.put_u64_le(promised.index);
    body.put_u64_le(promised.term);
}

pub(super) fn put_seal(body: &mut BytesMut) {
    put_head(body, kind::SEAL, 0, 0, EntryId::default());
}

fn put_head(body: &mut BytesMut, kind: u8, entry_kind: u8, len: usize, id: EntryId) {
    let mut head = [0; FRAME_BYTES];
    head[0] = kind;
    head[1] = entry_kind;
    head[4..8].copy_from_slice(&u32::try_from(len).expect("entries are bounded").to_le_bytes());
    head[8..16].copy_from_slice(&id.index.to_le_bytes());
    head[16..24].copy_from_slice(&id.term.to_le_bytes());
    body.extend_from_slice(&head);
}

/// Decodes a block's body; payloads are shared, not copied.
pub fn decode(body: &Bytes) -> Result<Vec<Frame>, BadFrame> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let bad = |reason| BadFrame { offset: at, reason };
        let head = body.get(at..at + FRAME_BYTES).ok_or(bad("is cut off in its head"))?;
        let len = u32::from_le_bytes(head[4..8].try_into().expect("four bytes")) as usize;
        let u64_at = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("eight bytes"));
        let id = EntryId { index: u64_at(8), term: u64_at(16) };
        let payload_at = at + FRAME_BYTES;
        if len > body.len() - payload_at {
            return Err(bad("is longer than its block"));
        }
        let payload = body.slice(payload_at..payload_at + len);
        frames
            .push(frame(head[0], head[1], id, payload).ok_or(bad("has an unknown kind or a wrong length"))?);
        at = payload_at + len;
    }
    Ok(frames)
}

fn frame(kind: u8, entry_kind: u8, id: EntryId, payload: Bytes) -> Option<Frame> {
    match (kind, payload.len()) {
        (kind::ENTRY, _) => {
            Some(Frame::Entry(Entry { term: id.term, index: id.index, kind: entry_kind, data: payload }))
        }
        (kind::CONF_STATE, _) => Some(Frame::ConfState(payload)),
        (kind::TRUNCATE, 0) => Some(Frame::Truncate(id)),
        (kind::SNAPSHOT_MARK, 0) => Some(Frame::SnapshotMark(id)),
        (kind::START, START_PAYLOAD_BYTES) => {
            let u64_at =
                |from: usize| u64::from_le_bytes(payload[from..from + 8].try_into().expect("eight bytes"));
            let promised = EntryId { index: u64_at(8), term: u64_at(16) };
            let promised = (promised != EntryId::default()).then_some(promised);
            Some(Frame::Start(Start { cut: u64_at(0), last: id, promised }))
        }
        (kind::SEAL, 0) => Some(Frame::Seal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(body: &mut BytesMut, frame: &Frame) {
        match frame {
            Frame::Entry(entry) => put_entry(body, entry),
            Frame::ConfState(conf_state) => put_conf_state(body, conf_state),
            Frame::Truncate(keep) => put_truncate(body, *keep),
            Frame::SnapshotMark(mark) => put_snapshot_mark(body, *mark),
            Frame::Start(start) => put_start(body, start),
            Frame::Seal => put_seal(body),
        }
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let id = (1u64.., any::<u64>()).prop_map(|(index, term)| EntryId { index, term });
        let data = || proptest::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from);
        prop_oneof![
            (id.clone(), any::<u8>(), data()).prop_map(|(id, kind, data)| Frame::Entry(Entry {
                term: id.term,
                index: id.index,
                kind,
                data
            })),
            data().prop_map(Frame::ConfState),
            id.clone().prop_map(Frame::Truncate),
            id.clone().prop_map(Frame::SnapshotMark),
            (any::<u64>(), id.clone(), proptest::option::of(id))
                .prop_map(|(cut, last, promised)| Frame::Start(Start { cut, last, promised })),
            Just(Frame::Seal),
        ]
    }

    proptest! {
        #[test]
        fn frames_round_trip(frames in proptest::collection::vec(any_frame(), 0..20)) {
            let mut body = BytesMut::new();
            frames.iter().for_each(|frame| put(&mut body, frame));
            prop_assert_eq!(decode(&body.freeze()), Ok(frames));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&Bytes::from(bytes));
        }
    }

    #[test]
    fn lengths_are_checked() {
        let mut body = BytesMut::new();
        put_conf_state(&mut body, b"voters");
        let whole = body.freeze();
        for (bytes, reason) in [
            (whole.slice(..20), "is cut off in its head"),
            (whole.slice(..whole.len() - 1), "is longer than its block"),
            (Bytes::from_static(&[9; 24]).slice(..0), ""),
            (Bytes::from([&[7, 0, 0, 0], &[0; 20][..]].concat()), "has an unknown kind or a wrong length"),
        ] {
            let expected = if reason.is_empty() { Ok(vec![]) } else { Err(BadFrame { offset: 0, reason }) };
            assert_eq!(decode(&bytes), expected);
        }
    }
}
