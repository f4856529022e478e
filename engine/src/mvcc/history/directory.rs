//! Finished chunks, in order: where each is in the files, and what of it is in memory.

use bytes::Bytes;

use crate::disk::FileName;
use crate::mvcc::history::chunk::Table;
use crate::types::{Revision, Seq};

/// What the index keeps about a finished chunk, in a small table keyed by `first_seq`.
///
/// Row: segment 8, offset in the segment 8, region 4, records 4, first main 8, last seq 8, last main 8; little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    /// First sequence number, also the row's key.
    pub first_seq: Seq,
    /// Last sequence number.
    pub last_seq: Seq,
    /// Main revision of the first record.
    pub first_main: Revision,
    /// Main revision of the last record.
    pub last_main: Revision,
    /// Number of the file.
    pub segment: u64,
    /// First byte in it.
    pub offset: u64,
    /// Bytes it takes there.
    pub region: u32,
    /// Records it holds.
    pub records: u32,
}

impl ChunkInfo {
    /// Bytes of a row's value.
    pub const ROW: usize = 8 + 8 + 4 + 4 + 8 + 8 + 8;

    /// The row's key: ascending order is history order.
    pub fn key(&self) -> [u8; 8] {
        self.first_seq.0.to_be_bytes()
    }

    /// The row's value.
    pub fn encode(&self) -> [u8; ChunkInfo::ROW] {
        let mut row = [0; ChunkInfo::ROW];
        row[..8].copy_from_slice(&self.segment.to_le_bytes());
        row[8..16].copy_from_slice(&self.offset.to_le_bytes());
        row[16..20].copy_from_slice(&self.region.to_le_bytes());
        row[20..24].copy_from_slice(&self.records.to_le_bytes());
        row[24..32].copy_from_slice(&self.first_main.0.to_le_bytes());
        row[32..40].copy_from_slice(&self.last_seq.0.to_le_bytes());
        row[40..48].copy_from_slice(&self.last_main.0.to_le_bytes());
        row
    }

    /// Reads a row.
    pub fn decode(key: &[u8], row: &[u8]) -> Option<ChunkInfo> {
        let row: &[u8; ChunkInfo::ROW] = row.try_into().ok()?;
        let long = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes"));
        let word = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("four bytes"));
        let info = ChunkInfo {
            first_seq: Seq(u64::from_be_bytes(key.try_into().ok()?)),
            last_seq: Seq(long(32)),
            first_main: Revision(long(24) as i64),
            last_main: Revision(long(40) as i64),
            segment: long(0),
            offset: long(8),
            region: word(16),
            records: word(20),
        };
        let ordered = info.first_seq <= info.last_seq && info.first_main <= info.last_main;
        let fits = Table::tail_len(info.records) <= info.region as usize;
        (ordered && fits && info.records > 0).then_some(info)
    }

    /// The file it is in.
    pub fn file(&self) -> FileName {
        FileName::History(self.segment)
    }
}

/// A finished chunk.
#[derive(Debug)]
pub struct Slot {
    /// Where it is.
    pub info: ChunkInfo,
    /// Where its records are, if known.
    pub table: Option<Table>,
    /// Its bytes, while resident.
    pub bytes: Option<Bytes>,
    /// The file has it too, so that the bytes may go.
    pub written: bool,
}

/// All finished chunks, ascending.
#[derive(Debug, Default)]
pub struct Directory {
    slots: Vec<Slot>,
}

impl Directory {
    /// Adds the next chunk.
    pub fn push(&mut self, slot: Slot) {
        if let Some(last) = self.slots.last() {
            assert!(last.info.last_seq < slot.info.first_seq, "{:?} before {:?}", last.info, slot.info);
        }
        self.slots.push(slot);
    }

    /// The last chunk.
    pub fn last(&self) -> Option<&Slot> {
        self.slots.last()
    }

    /// All chunks, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// The chunk that may hold `seq`.
    pub fn of_seq(&self, seq: Seq) -> Option<&Slot> {
        let after = self.slots.partition_point(|slot| slot.info.first_seq <= seq);
        self.slots[..after].last().filter(|slot| seq <= slot.info.last_seq)
    }

    /// The chunks from the one with the first record at or after `seq` on, ascending.
    pub fn from_seq(&self, seq: Seq) -> &[Slot] {
        &self.slots[self.slots.partition_point(|slot| slot.info.last_seq < seq)..]
    }

    /// Like [`Directory::of_seq`], to change it.
    pub fn of_seq_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        let after = self.slots.partition_point(|slot| slot.info.first_seq <= seq);
        self.slots[..after].last_mut().filter(|slot| seq <= slot.info.last_seq)
    }

    /// The chunk with the last record at or below `revision`.
    pub fn of_revision(&self, revision: Revision) -> Option<&Slot> {
        let after = self.slots.partition_point(|slot| slot.info.first_main <= revision);
        self.slots[..after].last()
    }

    /// Drops bytes of the oldest written chunks until at most `budget` bytes are resident, and hands them over.
    pub fn evict(&mut self, budget: usize, mut dropped: impl FnMut(Bytes)) {
        let mut resident: usize =
            self.slots.iter().filter_map(|slot| slot.bytes.as_ref()).map(Bytes::len).sum();
        for slot in self.slots.iter_mut().filter(|slot| slot.written) {
            if resident <= budget {
                return;
            }
            if let Some(bytes) = slot.bytes.take() {
                resident -= bytes.len();
                dropped(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(first: u64, last: u64) -> ChunkInfo {
        ChunkInfo {
            first_seq: Seq(first),
            last_seq: Seq(last),
            first_main: Revision(first as i64 + 1),
            last_main: Revision(last as i64 + 1),
            segment: 3,
            offset: 8192,
            region: 1 << 18,
            records: (last - first + 1) as u32,
        }
    }

    #[test]
    fn rows_round_trip_and_nonsense_is_refused() {
        let row = info(5, 9);
        assert_eq!(ChunkInfo::decode(&row.key(), &row.encode()), Some(row));
        let nonsense = ChunkInfo { last_seq: Seq(4), ..row };
        assert_eq!(ChunkInfo::decode(&nonsense.key(), &nonsense.encode()), None);
        assert_eq!(ChunkInfo::decode(&row.key(), &row.encode()[1..]), None);
    }

    #[test]
    fn chunks_are_found_by_number_and_by_revision() {
        let mut directory = Directory::default();
        for (first, last) in [(1, 10), (11, 20), (31, 40)] {
            let bytes = Some(Bytes::from(vec![0; 100]));
            directory.push(Slot { info: info(first, last), table: None, bytes, written: first != 31 });
        }
        let seq = |n| directory.of_seq(Seq(n)).map(|slot| slot.info.first_seq.0);
        assert_eq!(
            [seq(0), seq(1), seq(20), seq(25), seq(40), seq(41)],
            [None, Some(1), Some(11), None, Some(31), None]
        );
        let main = |n| directory.of_revision(Revision(n)).map(|slot| slot.info.first_seq.0);
        assert_eq!([main(1), main(2), main(25), main(99)], [None, Some(1), Some(11), Some(31)]);
        let mut dropped = 0;
        directory.evict(150, |bytes| dropped += bytes.len());
        assert_eq!(dropped, 200, "the oldest go first");
        directory.evict(0, |bytes| dropped += bytes.len());
        assert_eq!(dropped, 200, "an unwritten chunk stays");
    }
}
