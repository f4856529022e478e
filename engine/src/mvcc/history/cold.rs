//! Records that are on disk only: which reads are under way, and a bounded cache of what came back.
//!
//! Reading a cold record takes two steps: the chunk's table (kept once read), then the record's own bytes. The
//! caller asks again after each completion until the record is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use crate::mvcc::history::chunk::Table;
use crate::mvcc::history::directory::ChunkInfo;
use crate::types::Seq;

/// Bytes of cold records kept.
pub const CACHE_BYTES_MAX: usize = 32 << 20;

/// Reads under way at once.
pub const READS_MAX: usize = 32;

/// Whole chunks kept, for those who read the history in order: several readers with what each reads ahead.
pub const CHUNKS_MAX: usize = 32;

/// What a read under way will bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// The table of the chunk with this first sequence number.
    Table(Seq),
    /// One record.
    Record(Seq),
    /// All of the chunk with this first sequence number, for whoever passes the history in order.
    Run(Seq),
}

/// Cold reads and their results.
#[derive(Debug, Default)]
pub struct ColdRecords {
    wanted: BTreeSet<Wanted>,
    queue: VecDeque<Wanted>,
    in_flight: BTreeMap<u64, Wanted>,
    records: HashMap<Seq, Bytes>,
    /// Cached records, oldest first.
    order: VecDeque<Seq>,
    cached_bytes: usize,
    /// Whole chunks, oldest first.
    chunks: VecDeque<(ChunkInfo, Table, Bytes)>,
}

impl ColdRecords {
    /// The record, if it was read before.
    pub fn record(&self, seq: Seq) -> Option<&Bytes> {
        self.records.get(&seq)
    }

    /// The chunk at this place, if it was read before.
    pub fn chunk(&self, info: &ChunkInfo) -> Option<(&Table, &Bytes)> {
        let place = |info: &ChunkInfo| (info.first_seq, info.segment, info.offset);
        let found = self.chunks.iter().find(|(read, ..)| place(read) == place(info));
        found.map(|(_, table, bytes)| (table, bytes))
    }

    /// Keeps a chunk, and forgets the oldest ones beyond the bound.
    pub fn keep_chunk(&mut self, info: ChunkInfo, table: Table, bytes: Bytes) {
        if self.chunks.len() == CHUNKS_MAX {
            self.chunks.pop_front();
        }
        self.chunks.push_back((info, table, bytes));
    }

    /// Asks for something, once.
    pub fn want(&mut self, wanted: Wanted) {
        if self.wanted.insert(wanted) {
            self.queue.push_back(wanted);
        }
    }

    /// The next thing to read, if one more may be under way.
    pub fn take(&mut self) -> Option<Wanted> {
        if self.in_flight.len() >= READS_MAX { None } else { self.queue.pop_front() }
    }

    /// The read is under way.
    pub fn started(&mut self, id: u64, wanted: Wanted) {
        self.in_flight.insert(id, wanted);
    }

    /// What the read with this id was for, if it is one of ours; it is no longer under way.
    pub fn finished(&mut self, id: u64) -> Option<Wanted> {
        let wanted = self.in_flight.remove(&id)?;
        self.wanted.remove(&wanted);
        Some(wanted)
    }

    /// Keeps a record's bytes, and forgets the oldest ones beyond the bound.
    pub fn keep(&mut self, seq: Seq, bytes: Bytes) {
        self.cached_bytes += bytes.len();
        if let Some(old) = self.records.insert(seq, bytes) {
            self.cached_bytes -= old.len();
        } else {
            self.order.push_back(seq);
        }
        // The newest one always stays: somebody waits for it.
        while self.cached_bytes > CACHE_BYTES_MAX && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("more than one record");
            if let Some(old) = self.records.remove(&oldest) {
                self.cached_bytes -= old.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_a_record_however_many_ask() {
        let mut cold = ColdRecords::default();
        cold.want(Wanted::Record(Seq(1)));
        cold.want(Wanted::Record(Seq(1)));
        assert_eq!(cold.take(), Some(Wanted::Record(Seq(1))));
        assert_eq!(cold.take(), None);
        cold.started(7, Wanted::Record(Seq(1)));
        cold.want(Wanted::Record(Seq(1)));
        assert_eq!(cold.take(), None, "it is under way");
        assert_eq!(cold.finished(7), Some(Wanted::Record(Seq(1))));
        cold.want(Wanted::Record(Seq(1)));
        assert_eq!(cold.take(), Some(Wanted::Record(Seq(1))), "it may be asked for again later");
    }

    #[test]
    fn the_cache_and_the_reads_are_bounded() {
        let mut cold = ColdRecords::default();
        for n in 0..100 {
            cold.keep(Seq(n), Bytes::from(vec![0; 1 << 20]));
            assert!(cold.cached_bytes <= CACHE_BYTES_MAX);
        }
        assert!(cold.record(Seq(0)).is_none() && cold.record(Seq(99)).is_some());
        cold.keep(Seq(100), Bytes::from(vec![0; CACHE_BYTES_MAX + 1]));
        assert!(cold.record(Seq(100)).is_some(), "what was asked for is kept even if it is too large");
        for n in 0..READS_MAX as u64 + 5 {
            cold.want(Wanted::Record(Seq(1000 + n)));
            if let Some(wanted) = cold.take() {
                cold.started(n, wanted);
            }
        }
        assert_eq!(cold.in_flight.len(), READS_MAX);
    }
}
