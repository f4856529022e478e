//! Records in order, a chunk at a time: what hashes and snapshots read, who pass the whole history once.
//!
//! A chunk that left memory is read whole, and the next few with it, so that the disk works at depth; what comes
//! back is kept apart from the records that single reads brought in, and for a short while only.

use bytes::Bytes;

use super::chunk::{Row, Table};
use super::cold::Wanted;
use super::directory::Slot;
use super::record::Record;
use super::{History, OpenError, table_of};
use crate::mvcc::Cold;
use crate::types::Seq;

/// Chunks read ahead.
const AHEAD: usize = 3;

/// Records of one chunk, in order.
#[derive(Debug)]
pub struct Run<'a> {
    bytes: &'a [u8],
    rows: std::slice::Iter<'a, Row>,
    /// Where to go on: behind the last record that the chunk stands for.
    pub behind: Seq,
}

impl<'a> Iterator for Run<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.rows.next().map(|row| Record::trusted(&self.bytes[row.offset as usize..]))
    }
}

impl History {
    /// Records from `from` to the end of their chunk, perhaps none; `None` behind the last record.
    pub fn run(&self, from: Seq) -> Result<Option<Run<'_>>, Cold> {
        let Some(slot) = self.finished.from_seq(from).first() else {
            let active = self.active.as_ref().filter(|active| active.table().last_seq() >= from);
            return Ok(
                active.map(|active| run(active.table(), active.bytes(), from, active.table().last_seq()))
            );
        };
        let Slot { info, table, bytes, .. } = slot;
        let resident = table.as_deref().zip(bytes.as_ref()).or_else(|| self.cold.chunk(info));
        match resident {
            Some((table, bytes)) => Ok(Some(run(table, bytes, from, info.last_seq))),
            None => Err(Cold::Run(info.first_seq)),
        }
    }

    /// Asks for the chunks behind one that was found cold, if they are too.
    pub(super) fn fetch_run_behind(&mut self, first: Seq) {
        let slots = self.finished.from_seq(first).iter().skip(1).take(AHEAD);
        for slot in slots.filter(|slot| slot.bytes.is_none()) {
            if self.cold.chunk(&slot.info).is_none() {
                self.cold.want(Wanted::Run(slot.info.first_seq));
            }
        }
    }

    pub(super) fn install_run(&mut self, first: Seq, data: Bytes) -> Result<(), OpenError> {
        let info = self.finished.of_seq(first).expect("a chunk that is read is listed").info;
        let damaged =
            |what: String| OpenError::Damaged(format!("{} at offset {}: {what}", info.file(), info.offset));
        let tail = data.len() - Table::tail_len(info.records).min(data.len());
        let table = table_of(&info, &data[tail..])?;
        for row in table.rows_from(first) {
            let bytes = data.get(row.offset as usize..tail).unwrap_or_default();
            match Record::parse(bytes) {
                Ok(record) if table.find(record.seq()) == Some(row) => {}
                other => return Err(damaged(format!("the record at {} there is {other:?}", row.offset))),
            }
        }
        self.cold.keep_chunk(info, table, data);
        Ok(())
    }
}

fn run<'a>(table: &'a Table, bytes: &'a [u8], from: Seq, last: Seq) -> Run<'a> {
    Run { bytes, rows: table.rows_from(from).iter(), behind: Seq(last.0 + 1) }
}

#[cfg(test)]
mod tests {
    use crate::apply::tests::world::World;
    use crate::request::{Put, Write};

    use super::*;

    /// Passes the history in chunks, bringing in what is cold.
    fn pass(world: &mut World, mut from: Seq) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            let cold = match world.store.history().run(from) {
                Ok(None) => return seqs,
                Ok(Some(mut run)) => {
                    seqs.extend(run.by_ref().map(|record| record.seq().0));
                    from = run.behind;
                    continue;
                }
                Err(cold) => cold,
            };
            world.warm(cold);
        }
    }

    #[test]
    fn all_records_are_passed_in_order_resident_or_not() {
        for resident_bytes in [0, 1 << 30] {
            let mut world = World::new(1, 1 << 20, 0, resident_bytes);
            let value = vec![b'v'; 5000];
            for n in 0..400 {
                let key = format!("key{n}").into_bytes();
                world.run(&Write::Put(Put { key: &key, value: &value, ..Put::default() })).unwrap();
            }
            for from in [0, 1, 2, 200, 400] {
                let expected: Vec<u64> = (from.max(1)..=400).collect();
                assert_eq!(pass(&mut world, Seq(from)), expected, "from {from}");
            }
            assert_eq!(pass(&mut world, Seq(401)), []);
            assert_eq!(world.cold_records > 0, resident_bytes == 0);
        }
    }
}
