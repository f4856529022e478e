//! Live records of neighbouring chunks into one new chunk.

use std::collections::BTreeSet;

use super::{Spend, mark};
use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::history::chunk::Packed;
use crate::mvcc::history::directory::ChunkInfo;
use crate::mvcc::history::record::Record;
use crate::mvcc::history::{History, Source};
use crate::mvcc::index::Index;
use crate::seeded::{self, Bug};
use crate::types::{Revision, Seq};

/// A move under way.
#[derive(Debug)]
pub struct Rewrite {
    /// Marks are complete up to here, and nobody reads below.
    floor: Revision,
    /// Its last record.
    floor_last: Seq,
    packed: Packed,
    /// Chunks that are passed or being passed, in order.
    sources: Vec<ChunkInfo>,
    source: Option<Source>,
}

impl Rewrite {
    /// Begins with the chunk that begins with `first`.
    pub fn begin(history: &History, first: Seq, floor: Revision) -> Result<Rewrite, Cold> {
        let info = *history.chunk(first).expect("a chosen chunk is listed");
        let floor_last = history.last_seq_at(floor)?;
        let packed = Packed::new(info.first_seq, info.first_main);
        Ok(Rewrite { floor, floor_last, packed, sources: vec![info], source: None })
    }

    /// Bytes of the chunks that it replaces.
    pub fn source_bytes(&self) -> u64 {
        self.sources.iter().map(|info| u64::from(info.region)).sum()
    }

    /// Copies some records; true when the new chunk is complete. Takes from `chosen` what it takes along.
    pub fn advance<W: WritePages>(
        &mut self,
        index: &Index<W>,
        history: &History,
        chosen: &mut BTreeSet<Seq>,
        spend: &mut Spend,
    ) -> Result<bool, Cold> {
        while spend.steps > 0 {
            let Some(source) = &mut self.source else {
                let info = self.sources.last().expect("it begins with one");
                self.source = Some(history.source(info.first_seq)?);
                spend.bytes = spend.bytes.saturating_sub(u64::from(info.region));
                continue;
            };
            let Some(record) = source.record()? else {
                self.source = None;
                match self.neighbour(history, chosen) {
                    Some(info) => self.sources.push(info),
                    None => return Ok(true),
                }
                if spend.bytes == 0 {
                    return Ok(false);
                }
                continue;
            };
            spend.steps -= 1;
            if is_alive(index, history, &record, self.floor, self.floor_last)? {
                self.packed.push(&record);
            }
            source.pass();
        }
        Ok(false)
    }

    /// The next chunk, if it is to be moved as well and its live records fit in.
    fn neighbour(&self, history: &History, chosen: &mut BTreeSet<Seq>) -> Option<ChunkInfo> {
        let first = self.sources.first().expect("it begins with one");
        let last = self.sources.last().expect("it begins with one");
        let next = *history.chunk_after(last.first_seq)?;
        let live = u64::from(next.region) - next.dead_bytes();
        let fits = self.packed.region() as u64 + live <= history.chunk_bytes() as u64;
        let spans = next.last_seq.0 - first.first_seq.0 <= u64::from(u32::MAX)
            && next.last_main.0 - first.first_main.0 <= i64::from(u32::MAX);
        (fits && spans && chosen.remove(&next.first_seq)).then_some(next)
    }

    /// Puts the new chunk in the place of the old ones. Returns the rows that have changed.
    pub fn finish(self, history: &mut History) -> Vec<Seq> {
        let firsts: Vec<Seq> = self.sources.iter().map(|info| info.first_seq).collect();
        history.replace(firsts[0], *firsts.last().expect("it begins with one"), self.packed);
        firsts
    }
}

/// Whether somebody may still read a record when the floor is `floor`: it is newer, or the version that the floor shows
/// of its key, or a tombstone exactly there.
pub fn is_alive<W: WritePages>(
    index: &Index<W>,
    history: &History,
    record: &Record<'_>,
    floor: Revision,
    floor_last: Seq,
) -> Result<bool, Cold> {
    if seeded::is(Bug::LoseMovedRecord) && record.seq().0.is_multiple_of(5) {
        return Ok(false);
    }
    if record.main() > floor {
        return Ok(true);
    }
    if record.is_tombstone() {
        return Ok(!mark::is_dead_tombstone(record.main(), floor));
    }
    let Some(newest) = index.get(record.fields().key)? else { return Ok(false) };
    if newest.seq == record.seq() {
        return Ok(true);
    }
    if newest.modified <= floor || seeded::is(Bug::FreeVisibleVersion) {
        return Ok(false);
    }
    let shown = history.version_at(newest.seq, floor_last)?;
    Ok(shown.is_some_and(|shown| shown.seq() == record.seq()))
}
