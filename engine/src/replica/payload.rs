//! What a checkpoint's meta page says about the store, next to what `map` says about the pages.
//!
//! ```text
//!  offset  size
//!       0     4  format, 2
//!       4    24  root of the tree (mvcc::index::Root)
//!      28     8  revision
//!      36     8  compaction revision
//!      44     8  applied index
//!      52     8  applied term
//!      60     8  history: last sequence number
//!      68     8  history: last main revision
//!      76     8  history: segment of the unfinished chunk
//!      84     8  history: its offset there
//!      92     4  history: bytes of it written
//!      96     4  history: records in them
//! ```
//! Little endian; the meta page has its own checksum.

use bytes::{BufMut, Bytes, BytesMut};
use raft::{ConfState, MemberId};

use crate::mvcc::history::Mark;
use crate::mvcc::index::Root;
use crate::mvcc::store::State;
use crate::types::Revision;
use crate::wal::EntryId;

/// Bytes of an encoded payload.
pub const LEN: usize = 100;

const FORMAT: u32 = 2;

/// Kind of a log entry that holds a command, or nothing.
pub const NORMAL: u8 = 0;

/// Kind of a log entry that holds a configuration change.
pub const CONF_CHANGE: u8 = 1;

/// State of the store at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The tree.
    pub root: Root,
    /// Revisions.
    pub state: State,
    /// The last entry whose effect it holds.
    pub applied: EntryId,
    /// Where the history ends.
    pub mark: Mark,
}

impl Payload {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.put_u32_le(FORMAT);
        out.put_slice(&self.root.encode());
        out.put_i64_le(self.state.revision.0);
        out.put_i64_le(self.state.compacted.0);
        out.put_u64_le(self.applied.index);
        out.put_u64_le(self.applied.term);
        out.put_u64_le(self.mark.last_seq);
        out.put_i64_le(self.mark.last_main);
        out.put_u64_le(self.mark.segment);
        out.put_u64_le(self.mark.offset);
        out.put_u32_le(self.mark.written);
        out.put_u32_le(self.mark.records);
        assert_eq!(out.len(), LEN);
        out
    }

    /// Reads [`Payload::encode`]'s bytes. Errors: a sentence for the operator.
    pub fn decode(bytes: &[u8]) -> Result<Payload, String> {
        let format = bytes.first_chunk().map(|head| u32::from_le_bytes(*head));
        if format != Some(FORMAT) || bytes.len() != LEN {
            let found = format.unwrap_or(0);
            return Err(format!(
                "index.db holds store format {found}; this version of kontiki reads and writes format {FORMAT}"
            ));
        }
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let root = Root::decode(bytes[4..28].try_into().expect("24 bytes"));
        let (revision, last_main) = (long(28) as i64, long(68) as i64);
        if revision != last_main {
            return Err(format!("index.db is at revision {revision} and its history at {last_main}"));
        }
        Ok(Payload {
            root: root.ok_or("index.db names a root that no tree has")?,
            state: State { revision: Revision(revision), compacted: Revision(long(36) as i64) },
            applied: EntryId { index: long(44), term: long(52) },
            mark: Mark {
                last_seq: long(60),
                last_main,
                segment: long(76),
                offset: long(84),
                written: word(92),
                records: word(96),
            },
        })
    }
}

/// The members of the cluster, and the entry that made them so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who.
    pub conf_state: ConfState,
    /// Index of the newest configuration change in it. Changes up to it are not made again.
    pub index: u64,
}

/// Set in the count of voters where the index follows; format 2 began without it.
const HAS_INDEX: u32 = 1 << 31;

impl Members {
    /// Bytes in the log and the index: count of voters 4, index 8, voters 8 each, learners 8 each; little endian.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32_le(self.conf_state.voters.len() as u32 | HAS_INDEX);
        out.put_u64_le(self.index);
        for member in self.conf_state.members() {
            out.put_u64_le(member.0);
        }
        out.freeze()
    }

    /// Reads [`Members::encode`]'s bytes; `None` if they are none.
    pub fn decode(bytes: &[u8]) -> Option<Members> {
        let (count, numbers) = bytes.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count);
        let (numbers, rest) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let index = if count & HAS_INDEX != 0 { numbers.next()? } else { 0 };
        let voters = (count & !HAS_INDEX) as usize;
        let ids: Vec<MemberId> = numbers.map(MemberId).collect();
        if !rest.is_empty() || voters > ids.len() {
            return None;
        }
        let conf_state = ConfState { voters: ids[..voters].to_vec(), learners: ids[voters..].to_vec() };
        conf_state.is_well_formed().then_some(Members { conf_state, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::page::PageNo;

    #[test]
    fn payloads_round_trip_and_other_formats_are_refused() {
        let payload = Payload {
            root: Root { page: PageNo(7), height: 2, live: 3, entries: 4 },
            state: State { revision: Revision(9), compacted: Revision(-1) },
            applied: EntryId { index: 11, term: 2 },
            mark: Mark { last_seq: 8, last_main: 9, segment: 1, offset: 4096, written: 8192, records: 5 },
        };
        let mut bytes = payload.encode();
        assert_eq!(Payload::decode(&bytes), Ok(payload));
        bytes[0] = 99;
        assert!(Payload::decode(&bytes).unwrap_err().contains("format 99"));
        assert!(Payload::decode(&[]).is_err());
        let behind = Payload { mark: Mark { last_main: 8, ..payload.mark }, ..payload };
        assert!(Payload::decode(&behind.encode()).unwrap_err().contains("revision 9"));
    }

    #[test]
    fn configurations_round_trip() {
        let conf_state = ConfState::new([MemberId(3), MemberId(1)], [MemberId(2)]);
        let members = Members { conf_state: conf_state.clone(), index: 17 };
        let bytes = members.encode();
        assert_eq!(Members::decode(&bytes), Some(members));
        assert_eq!(Members::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Members::decode(&bytes[..4]), None);
        assert_eq!(Members::decode(&[9, 0, 0, 0]), None);
        // As the first logs of this format have them.
        let without_index: Vec<u8> =
            [&[2, 0, 0, 0][..], &1u64.to_le_bytes(), &3u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
        assert_eq!(Members::decode(&without_index), Some(Members { conf_state, index: 0 }));
    }
}
