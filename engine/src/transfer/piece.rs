//! Pieces of a transfer as bytes, in messages and in the spool.
//!
//! ```text
//!  offset  size
//!       0     4  length of the rest
//!       4     4  CRC-32 of it
//!       8     1  kind: 1 head, 2 records, 3 commit
//!       9     -  head: index 8, term 8, revision 8, compaction 8, floor 8, last sequence number 8, length of members 4,
//!                members, then rows {table 1, length of key 4, key, length of value 4, value}
//!                records: at 8, behind 8, records as the history stores them, each padded to 8
//!                commit: nothing
//! ```
//! Little endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::mvcc::history::record::Record;
use crate::mvcc::index::table::Table;
use crate::mvcc::store::State;
use crate::replica::payload::Members;
use crate::types::{Revision, Seq};
use crate::wal::EntryId;

/// Bytes before the kind.
pub const PREFIX: usize = 8;

/// What a transfer begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last entry whose effect the state holds.
    pub applied: EntryId,
    /// Revisions.
    pub state: State,
    /// Records that are dead at this revision are missing, and no others.
    pub floor: Revision,
    /// The last record.
    pub last_seq: Seq,
    /// Who belongs to the cluster.
    pub members: Members,
    /// Rows of the small tables.
    pub rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

/// Tables that go row by row; the others follow from the records.
pub const TABLES: [Table; 4] = [Table::Alarm, Table::Auth, Table::Lease, Table::Member];

/// Part of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The beginning.
    Head(Box<Head>),
    /// Records.
    Records {
        /// No record before this one is missing.
        at: Seq,
        /// Where the next piece begins.
        behind: Seq,
        /// The records.
        bytes: Bytes,
    },
    /// All is here, and the log says so.
    Commit,
}

impl Piece {
    /// Where it begins: 0 for the head.
    pub fn at(&self) -> Seq {
        match self {
            Piece::Head(_) => Seq(0),
            Piece::Records { at, .. } => *at,
            Piece::Commit => Seq(u64::MAX),
        }
    }

    /// Where the next one begins.
    pub fn behind(&self) -> Seq {
        match self {
            Piece::Head(_) => Seq(1),
            Piece::Records { behind, .. } => *behind,
            Piece::Commit => Seq(u64::MAX),
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64_le(0);
        match self {
            Piece::Head(head) => {
                out.put_u8(1);
                out.put_u64_le(head.applied.index);
                out.put_u64_le(head.applied.term);
                out.put_i64_le(head.state.revision.0);
                out.put_i64_le(head.state.compacted.0);
                out.put_i64_le(head.floor.0);
                out.put_u64_le(head.last_seq.0);
                put_bytes(&mut out, &head.members.encode());
                for (table, key, value) in &head.rows {
                    out.put_u8(table.byte());
                    put_bytes(&mut out, key);
                    put_bytes(&mut out, value);
                }
            }
            Piece::Records { at, behind, bytes } => {
                out.put_u8(2);
                out.put_u64_le(at.0);
                out.put_u64_le(behind.0);
                out.put_slice(bytes);
            }
            Piece::Commit => out.put_u8(3),
        }
        let len = (out.len() - PREFIX) as u32;
        let crc = crc32fast::hash(&out[PREFIX..]);
        out[..4].copy_from_slice(&len.to_le_bytes());
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    /// How many bytes of a piece follow its [`PREFIX`].
    pub fn len_of(prefix: &[u8; PREFIX]) -> usize {
        u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize
    }

    /// Reads [`Piece::encode`]'s bytes, which come from a disk or a peer; `None` if they are none.
    pub fn decode(bytes: &Bytes) -> Option<Piece> {
        let prefix = bytes.first_chunk::<PREFIX>()?;
        let body = bytes.slice(PREFIX..);
        let crc = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        if body.len() != Piece::len_of(prefix) || crc32fast::hash(&body) != crc {
            return None;
        }
        let mut rest = Rest(&body[1..]);
        match *body.first()? {
            1 => {
                let applied = EntryId { index: rest.long()?, term: rest.long()? };
                let revision = Revision(i64::try_from(rest.long()?).ok()?);
                let state = State { revision, compacted: Revision(rest.long()? as i64) };
                let floor = Revision(rest.long()? as i64);
                let last_seq = Seq(rest.long()?);
                let members = Members::decode(rest.bytes()?)?;
                let mut rows = Vec::new();
                while !rest.0.is_empty() {
                    let byte = rest.take(1)?[0];
                    let table = TABLES.into_iter().find(|table| table.byte() == byte)?;
                    rows.push((table, rest.bytes()?.to_vec(), rest.bytes()?.to_vec()));
                }
                Some(Piece::Head(Box::new(Head { applied, state, floor, last_seq, members, rows })))
            }
            2 => {
                let (at, behind) = (Seq(rest.long()?), Seq(rest.long()?));
                let bytes = body.slice(17..);
                (at < behind).then_some(Piece::Records { at, behind, bytes })
            }
            3 => Some(Piece::Commit),
            _ => None,
        }
    }
}

/// The records of a piece; `None` in the place of one that is damaged.
pub fn records(mut bytes: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = Record::parse(bytes).ok();
        bytes = record.as_ref().and_then(|record| bytes.get(record.padded_len()..)).unwrap_or_default();
        Some(record)
    })
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn long(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.take(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))?;
        self.take(len as usize)
    }
}

#[cfg(test)]
mod tests {
    use raft::{ConfState, MemberId};

    use super::*;

    #[test]
    fn pieces_round_trip_and_damage_is_none() {
        let members = Members { conf_state: ConfState::new([MemberId(1), MemberId(2)], []), index: 2 };
        let head = Head {
            applied: EntryId { index: 9, term: 3 },
            state: State { revision: Revision(7), compacted: Revision(-1) },
            floor: Revision(3),
            last_seq: Seq(8),
            members,
            rows: vec![
                (Table::Lease, b"id".to_vec(), b"ttl".to_vec()),
                (Table::Alarm, b"a".to_vec(), vec![]),
            ],
        };
        let records = Piece::Records { at: Seq(4), behind: Seq(9), bytes: Bytes::from_static(b"records.") };
        for piece in [Piece::Head(Box::new(head)), records, Piece::Commit] {
            let bytes = piece.encode();
            assert_eq!(Piece::decode(&bytes), Some(piece.clone()));
            for at in 0..bytes.len() {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 4;
                assert_eq!(Piece::decode(&Bytes::from(damaged)), None, "{piece:?} at {at}");
                assert_eq!(Piece::decode(&bytes.slice(..at)), None, "{piece:?} up to {at}");
            }
        }
    }
}
