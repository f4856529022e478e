//! Which files are in use, and when one that is not may go.
//!
//! A file is *vacated* when the last chunk in it was moved or dropped and nothing is appended to it. Checkpoints still
//! name it: the two that are durable, and one that may be on its way. A crash opens the newest, and rot in its meta page
//! the one before, so a file is removed when both of the durable ones were pinned after it was vacated:
//!
//! ```text
//!  vacated ─► checkpoint n pinned ─► n durable ─► n+1 durable ─► removed
//!             (lists it: n-1 has it)
//! ```
//! Checkpoint n lists what it lets go, so that an opening on n keeps the files that n-1 would need.

use std::collections::BTreeMap;

use crate::mvcc::history::directory::ChunkInfo;
use crate::seeded::{self, Bug};

/// What stands in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Chunks.
    pub chunks: u32,
    /// Bytes of them.
    pub bytes: u64,
    /// End of the last one there ever was.
    pub end: u64,
}

/// The files of finished chunks.
#[derive(Debug, Default)]
pub struct Shelf {
    uses: BTreeMap<u64, Use>,
    /// Named by the newest pinned checkpoint, and by none after it.
    vacated: Vec<u64>,
    /// Let go by a checkpoint that is pinned and not durable.
    pinned: Vec<u64>,
    /// Let go by the durable checkpoint; the one before it has them.
    held: Vec<u64>,
}

impl Shelf {
    /// The files that an opened checkpoint let go, which the one before it may have.
    pub fn opened(held: Vec<u64>) -> Shelf {
        Shelf { held, ..Shelf::default() }
    }

    /// A chunk stands in a file.
    pub fn add(&mut self, info: &ChunkInfo) {
        let using = self.uses.entry(info.segment).or_default();
        using.chunks += 1;
        using.bytes += u64::from(info.region);
        using.end = using.end.max(info.offset + u64::from(info.region));
    }

    /// A chunk is not needed any more.
    pub fn remove(&mut self, info: &ChunkInfo) {
        let using = self.uses.get_mut(&info.segment).expect("a chunk's file is known");
        using.chunks -= 1;
        using.bytes -= u64::from(info.region);
    }

    /// Vacates the file if there is nothing left in it. Not for files that are appended to.
    pub fn vacate(&mut self, segment: u64) {
        if self.uses.get(&segment).is_some_and(|using| using.chunks == 0) {
            self.uses.remove(&segment);
            self.vacated.push(segment);
        }
    }

    /// Files in use, ascending.
    pub fn uses(&self) -> impl Iterator<Item = (u64, Use)> + '_ {
        self.uses.iter().map(|(segment, using)| (*segment, *using))
    }

    /// What the next checkpoint lets go.
    pub fn vacated(&self) -> &[u64] {
        &self.vacated
    }

    /// Whether files wait for a checkpoint to be pinned or to become durable.
    pub fn is_waiting(&self) -> bool {
        !(self.vacated.is_empty() && self.pinned.is_empty() && self.held.is_empty())
    }

    /// A checkpoint was pinned, and lists what was vacated.
    pub fn on_pinned(&mut self) {
        assert!(self.pinned.is_empty(), "two checkpoints at a time");
        self.pinned = std::mem::take(&mut self.vacated);
    }

    /// That checkpoint is durable. Returns the files that may be removed.
    pub fn on_durable(&mut self) -> Vec<u64> {
        let let_go = std::mem::take(&mut self.pinned);
        if seeded::is(Bug::RemoveFileEarly) {
            return let_go;
        }
        std::mem::replace(&mut self.held, let_go)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Revision, Seq};

    fn info(segment: u64, offset: u64) -> ChunkInfo {
        ChunkInfo {
            first_seq: Seq(1),
            last_seq: Seq(1),
            first_main: Revision(2),
            last_main: Revision(2),
            segment,
            offset,
            region: 4096,
            records: 1,
            dead: 0,
        }
    }

    #[test]
    fn a_file_goes_when_both_durable_checkpoints_were_pinned_after_it_was_vacated() {
        let mut shelf = Shelf::default();
        [info(1, 0), info(1, 4096), info(2, 0)].iter().for_each(|info| shelf.add(info));
        assert_eq!(shelf.uses().next(), Some((1, Use { chunks: 2, bytes: 8192, end: 8192 })));
        shelf.remove(&info(1, 4096));
        shelf.vacate(1);
        assert!(!shelf.is_waiting(), "a chunk is left in it");
        assert_eq!(shelf.uses().next(), Some((1, Use { chunks: 1, bytes: 4096, end: 8192 })));
        shelf.remove(&info(1, 0));
        shelf.vacate(1);
        assert_eq!(shelf.vacated(), [1]);
        shelf.on_pinned();
        assert_eq!(shelf.vacated(), []);
        // Vacated while the checkpoint runs: the next one lets it go.
        shelf.remove(&info(2, 0));
        shelf.vacate(2);
        assert_eq!(shelf.on_durable(), [], "the one before it has the file");
        shelf.on_pinned();
        assert_eq!(shelf.on_durable(), [1]);
        shelf.on_pinned();
        assert_eq!(shelf.on_durable(), [2]);
        assert!(!shelf.is_waiting());
    }

    #[test]
    fn an_opening_keeps_what_the_older_checkpoint_would_need() {
        let mut shelf = Shelf::opened(vec![7]);
        assert!(shelf.is_waiting());
        shelf.on_pinned();
        assert_eq!(shelf.on_durable(), [7]);
    }
}
