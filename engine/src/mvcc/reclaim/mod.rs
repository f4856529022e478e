//! Reclaim: which records nobody may read any more, and the space they take.
//!
//! Compaction at R is logical and immediate. What it made dead is found afterwards, by a *scan* of the records in (last
//! floor, floor] and of nothing else: each record's `prev` is dead, and so is each tombstone below the floor. A tombstone
//! exactly at the floor stays until the next scan, because a watch from there must deliver it (etcd keeps it as
//! well). A key whose newest version is a dead tombstone leaves the index. The *floor* is the compaction revision, or
//! what an older reader still needs.
//!
//! The scan only counts, per chunk. Which records of a chunk are dead is decided anew when the chunk is *moved*: the index
//! and the chains say which version of a key the floor shows. Chunks that are mostly dead are moved, the deadest as
//! long as dead records are more than an eighth of all, and the rest of a file that is mostly empty. The chunk that is
//! being written is finished for that if half of its records are dead: in a small store it is all there is, and a quota
//! that it exceeds must be kept when it was compacted. Moved records keep their numbers.
//!
//! Everything here is local to a member: no answer of a write depends on how far it got. Counts, rows of chunks and the
//! scan's place are in one tree and therefore of one checkpoint, so that after a crash nothing is counted twice.
//!
//! All of it happens in small steps on the state core, between commands; what is cold is fetched as for any reader.

// Dead records, by scanning.
mod mark;

// Chunks that are worth moving.
mod choose;

// Live records into new chunks.
mod rewrite;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::history::History;
use crate::mvcc::index::Index;
use crate::mvcc::index::table::Table;
use crate::types::{Revision, Seq};
use mark::Scan;
use rewrite::Rewrite;

pub use rewrite::is_alive;

/// Key of the row in the table of single values.
pub const ROW: &[u8] = b"reclaim";

/// Chunk rows that a checkpoint may find unwritten: a millisecond's work.
const DIRTY_MAX: usize = 512;

/// What a slice may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Records looked at; each costs about a microsecond.
    pub steps: u32,
    /// Bytes of chunks that are moved.
    pub bytes: u64,
}

/// The part of the state that a checkpoint keeps.
///
/// Row: format 1, scan's floor 8 (0 for none), its next record 8, floor up to which marks are complete 8, dead records of
/// the active chunk 4, files that this checkpoint lets go 8 each; little endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Marks are complete up to here.
    pub marked: Revision,
    /// Floor and next record of the scan under way.
    pub scan: Option<(Revision, Seq)>,
    /// Dead records of the active chunk.
    pub active_dead: u32,
    /// Files that this checkpoint does not name and the one before it may.
    pub let_go: Vec<u64>,
}

impl Saved {
    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        let (floor, next) = self.scan.unwrap_or((Revision(0), Seq(0)));
        let mut row = vec![1];
        row.extend_from_slice(&floor.0.to_le_bytes());
        row.extend_from_slice(&next.0.to_le_bytes());
        row.extend_from_slice(&self.marked.0.to_le_bytes());
        row.extend_from_slice(&self.active_dead.to_le_bytes());
        self.let_go.iter().for_each(|segment| row.extend_from_slice(&segment.to_le_bytes()));
        row
    }

    /// Reads [`Saved::encode`]'s bytes; `None` if they are none.
    pub fn decode(row: &[u8]) -> Option<Saved> {
        let (head, let_go) = row.split_first_chunk::<29>()?;
        let long = |at: usize| i64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (let_go, rest) = let_go.as_chunks::<8>();
        let scan = (long(1) > 0).then_some((Revision(long(1)), Seq(long(9) as u64)));
        let saved = Saved {
            marked: Revision(long(17)),
            scan,
            active_dead: u32::from_le_bytes(head[25..29].try_into().expect("four bytes")),
            let_go: let_go.iter().map(|segment| u64::from_le_bytes(*segment)).collect(),
        };
        (head[0] == 1 && rest.is_empty()).then_some(saved)
    }
}

/// The state of reclaim.
#[derive(Debug)]
pub struct Reclaim {
    marked: Revision,
    scan: Option<Scan>,
    rewrite: Option<Rewrite>,
    /// Chunks that are worth moving, by their first record.
    chosen: BTreeSet<Seq>,
    /// A chunk that was finished to be moved, and is not in its file yet.
    closed: Option<Seq>,
    /// There was nothing worth moving, and nothing was marked since.
    settled: bool,
    /// Chunks whose rows differ from what the index has.
    dirty: BTreeSet<Seq>,
    /// What the index has of this.
    saved: Saved,
    /// Records marked and keys forgotten since the start.
    tally: Tally,
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records found dead.
    pub dead: u64,
    /// Keys that left the index.
    pub forgotten: u64,
    /// Bytes of chunks that were replaced.
    pub moved: u64,
}

impl Default for Reclaim {
    fn default() -> Reclaim {
        Reclaim::new(Saved { marked: Revision::NEVER_COMPACTED, ..Saved::default() })
    }
}

impl Reclaim {
    /// Goes on where a checkpoint was.
    pub fn new(saved: Saved) -> Reclaim {
        Reclaim {
            marked: saved.marked,
            scan: saved.scan.map(|(floor, next)| Scan::resumed(floor, next)),
            rewrite: None,
            chosen: BTreeSet::new(),
            closed: None,
            settled: false,
            dirty: BTreeSet::new(),
            saved,
            tally: Tally::default(),
        }
    }

    /// What was done since the start.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// All that the floor allows was done, as far as space in memory and in the index goes.
    pub fn is_done(&self, floor: Revision) -> bool {
        let idle = self.scan.is_none() && self.rewrite.is_none() && self.dirty.is_empty();
        self.marked >= floor && idle && self.settled
    }

    /// The revision that is already treated as floor: no reader may begin below it.
    pub fn floor(&self) -> Revision {
        self.scan.as_ref().map_or(self.marked, Scan::floor)
    }

    /// Goes on for a slice. False if there is nothing left to do. Not inside a transaction.
    pub fn advance<W: WritePages>(
        &mut self,
        index: &mut Index<W>,
        history: &mut History,
        floor: Revision,
        spend: &mut Spend,
    ) -> Result<bool, Cold> {
        while spend.steps > 0 && spend.bytes > 0 {
            if self.dirty.len() >= DIRTY_MAX {
                self.write_row(index, history)?;
                spend.steps -= 1;
            } else if let Some(rewrite) = &mut self.rewrite {
                if rewrite.advance(index, history, &mut self.chosen, spend)? {
                    let rewrite = self.rewrite.take().expect("it was just finished");
                    self.tally.moved += rewrite.source_bytes();
                    self.dirty.extend(rewrite.finish(history));
                }
            } else if self.scan.is_some() {
                self.mark(index, history, spend)?;
            } else if floor > self.marked {
                self.scan = Some(Scan::begin(history, self.marked, floor)?);
            } else if let Some(first) = self.chosen.pop_first() {
                self.rewrite = Some(Rewrite::begin(history, first, self.marked)?);
            } else if !self.settled {
                if self.closed.is_some_and(|first| history.is_unwritten(first)) {
                    return Ok(false);
                }
                self.chosen = choose::chunks(history);
                self.closed = if self.chosen.is_empty() { history.close_dead() } else { None };
                self.settled = self.chosen.is_empty() && self.closed.is_none();
            } else if !self.dirty.is_empty() {
                self.write_row(index, history)?;
                spend.steps -= 1;
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings one row of the index up to date.
    fn write_row<W: WritePages>(&mut self, index: &mut Index<W>, history: &History) -> Result<(), Cold> {
        let Some(&first) = self.dirty.first() else { return Ok(()) };
        match history.chunk(first) {
            Some(info) => index.put_row(Table::HistorySegment, &info.key(), &info.encode())?,
            None => index.remove_row(Table::HistorySegment, &first.0.to_be_bytes())?,
        };
        self.dirty.pop_first();
        Ok(())
    }

    /// Brings everything in the index up to date, for a checkpoint that is about to be pinned.
    pub fn save<W: WritePages>(&mut self, index: &mut Index<W>, history: &History) -> Result<(), Cold> {
        while !self.dirty.is_empty() {
            self.write_row(index, history)?;
        }
        let saved = Saved {
            marked: self.marked,
            scan: self.scan.as_ref().map(|scan| (scan.floor(), scan.next())),
            active_dead: history.active_dead(),
            let_go: history.vacated().to_vec(),
        };
        if saved != self.saved {
            index.put_row(Table::Misc, ROW, &saved.encode())?;
            self.saved = saved;
        }
        Ok(())
    }
}
