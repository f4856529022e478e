//! Dead records, by scanning what was written since the last floor.

use super::{Reclaim, Spend};
use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::history::{History, Seen};
use crate::mvcc::index::Index;
use crate::seeded::{self, Bug};
use crate::types::{Revision, Seq};

/// Records looked at in one go.
const BATCH: usize = 64;

/// A scan under way.
#[derive(Clone, Debug)]
pub struct Scan {
    floor: Revision,
    next: Seq,
    /// Last record at or below the floor, once it is known.
    last: Option<Seq>,
}

impl Scan {
    /// A scan up to `floor`, where marks are complete up to `marked`. It begins with the records of `marked` itself: a
    /// tombstone there was left alone.
    pub fn begin(history: &History, marked: Revision, floor: Revision) -> Result<Scan, Cold> {
        let before = history.last_seq_at(Revision(marked.0 - 1))?;
        Ok(Scan { floor, next: Seq(before.0 + 1), last: None })
    }

    /// A scan that a checkpoint had left at `next`.
    pub fn resumed(floor: Revision, next: Seq) -> Scan {
        Scan { floor, next, last: None }
    }

    /// Up to where it goes.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// The record it goes on with.
    pub fn next(&self) -> Seq {
        self.next
    }
}

/// Whether a tombstone of revision `main` is dead when the floor is `floor`.
pub fn is_dead_tombstone(main: Revision, floor: Revision) -> bool {
    main < floor || (main == floor && seeded::is(Bug::FreeTombstoneAtFloor))
}

impl Reclaim {
    /// Looks at some records.
    pub(super) fn mark<W: WritePages>(
        &mut self,
        index: &mut Index<W>,
        history: &mut History,
        spend: &mut Spend,
    ) -> Result<(), Cold> {
        let scan = self.scan.as_mut().expect("a scan is under way");
        let last = match scan.last {
            Some(last) => last,
            None => *scan.last.insert(history.last_seq_at(scan.floor)?),
        };
        let (seen, on) = match scan.next <= last {
            true => history.scan(scan.next, last, BATCH.min(spend.steps as usize))?,
            false => (Vec::new(), scan.next),
        };
        spend.steps -= (seen.len() as u32).clamp(1, spend.steps);
        for record in seen {
            self.mark_by(index, history, &record)?;
            self.scan.as_mut().expect("still under way").next = Seq(record.seq.0 + 1);
        }
        let scan = self.scan.as_mut().expect("still under way");
        scan.next = scan.next.max(on);
        if scan.next > last {
            self.marked = scan.floor;
            self.scan = None;
            self.settled = false;
        }
        Ok(())
    }

    /// What one record says: that the version before it is dead, and, if it is a tombstone, perhaps it itself. What may
    /// find a page cold comes first, so that nothing is counted twice.
    fn mark_by<W: WritePages>(
        &mut self,
        index: &mut Index<W>,
        history: &mut History,
        record: &Seen,
    ) -> Result<(), Cold> {
        let floor = self.floor();
        if let Some(key) = record.tombstone.as_ref().filter(|_| is_dead_tombstone(record.main, floor)) {
            if index.get(key)?.is_some_and(|entry| entry.seq == record.seq) {
                index.remove(key)?;
                self.tally.forgotten += 1;
            }
            self.mark_dead(history, record.seq);
        }
        // A tombstone says so itself, and at the last floor all but that was said.
        if record.main > self.marked
            && !record.creates
            && let Some(prev) = record.prev
        {
            self.mark_dead(history, prev);
        }
        Ok(())
    }

    fn mark_dead(&mut self, history: &mut History, seq: Seq) {
        self.tally.dead += 1;
        self.dirty.extend(history.mark_dead(seq));
    }
}
