//! Each key's newest version at a revision, as a set of records: what a compaction there would keep.
//!
//! Whoever passes the history in order needs to know of each old record whether a newer one of its key follows. Asking
//! the index for each would read its pages in any order; passing the index once reads each page once. The set takes two
//! bits a record where survivors are dense, and at most about 60 bytes a key where they are not.

use std::collections::BTreeMap;

use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::view::{At, View};
use crate::mvcc::walk::Budget;
use crate::request::KeyRange;
use crate::types::Seq;

/// The set, and how far it is built.
#[derive(Debug)]
pub struct Survivors {
    at: At,
    /// Records after this one are not asked for.
    bound: Seq,
    /// The last key passed.
    after: Option<Vec<u8>>,
    complete: bool,
    any_live: bool,
    blocks: BTreeMap<u64, Block>,
}

/// One bit a record.
type Block = [u64; 4];

const BLOCK_RECORDS: u64 = 4 * 64;
const _: () = assert!(size_of::<Block>() as u64 * 8 == BLOCK_RECORDS);

impl Survivors {
    /// The versions that exist at `at`, or are its tombstones, as far as their records are not after `bound`.
    pub fn new(at: At, bound: Seq) -> Survivors {
        let complete = bound == Seq(0);
        Survivors { at, bound, after: None, complete, any_live: false, blocks: BTreeMap::new() }
    }

    /// Goes on; true when the set is complete.
    pub fn advance<R: ReadPages>(&mut self, view: &View<'_, R>, budget: &mut Budget) -> Result<bool, Cold> {
        if self.complete {
            return Ok(true);
        }
        let all = KeyRange::new(b"\0", b"\0");
        let mut scan = match &self.after {
            None => view.index.scan(all),
            Some(last) => view.index.scan_after(all, last),
        };
        loop {
            let Some((key, entry)) = scan.next()? else {
                self.complete = true;
                return Ok(true);
            };
            if !budget.spend() {
                return Ok(false);
            }
            if let Some(seq) = view.history.seq_at(entry.seq, self.at.last)? {
                // Only the first live key makes a difference: later ones need not be read.
                if !self.any_live {
                    self.any_live = match seq == entry.seq {
                        true => entry.is_live(),
                        false => view.history.record(seq)?.is_some_and(|record| !record.is_tombstone()),
                    };
                }
                if seq <= self.bound {
                    self.blocks.entry(seq.0 / BLOCK_RECORDS).or_default()[word_of(seq)] |= bit_of(seq);
                }
            }
            let after = self.after.get_or_insert_default();
            after.clear();
            after.extend_from_slice(key);
        }
    }

    /// Whether a record, which is not after the bound, is its key's newest.
    pub fn contains(&self, seq: Seq) -> bool {
        debug_assert!(self.complete && seq <= self.bound, "record {seq} of {:?}", self.bound);
        self.blocks.get(&(seq.0 / BLOCK_RECORDS)).is_some_and(|block| block[word_of(seq)] & bit_of(seq) != 0)
    }

    /// The revision it is of.
    pub fn at(&self) -> At {
        self.at
    }

    /// Whether any key exists.
    pub fn any_live(&self) -> bool {
        self.any_live
    }
}

fn word_of(seq: Seq) -> usize {
    (seq.0 % BLOCK_RECORDS / 64) as usize
}

fn bit_of(seq: Seq) -> u64 {
    1 << (seq.0 % 64)
}

// What a set holds is tested with `rows` and `hash`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::request::{DeleteRange, Put, Write};

    #[test]
    fn a_set_is_of_its_revision_however_the_store_goes_on() {
        let mut world = World::calm();
        let put = |world: &mut World, n: u64| {
            let key = format!("key{:03}", n % 300).into_bytes();
            world.run(&Write::Put(Put { key: &key, ..Put::default() })).unwrap();
        };
        (0..1000).for_each(|n| put(&mut world, n));
        let now = world.store.view().now().unwrap();
        let mut survivors = Survivors::new(now, Seq(950));
        assert!(!survivors.advance(&world.store.view(), &mut Budget(100)).unwrap());
        (0..500).for_each(|n| put(&mut world, n));
        let keys = KeyRange::new(b"\0", b"\0");
        world.run(&Write::DeleteRange(DeleteRange { keys, prev_kv: false })).unwrap();
        assert!(survivors.advance(&world.store.view(), &mut Budget(1000)).unwrap());
        assert!(survivors.any_live());
        for seq in 1..=950 {
            assert_eq!(survivors.contains(Seq(seq)), seq > 700, "record {seq}");
        }
    }
}
