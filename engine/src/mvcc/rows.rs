//! The rows that etcd would hold, in the order of its bucket `key`, which is the order of the history.
//!
//! A store that was compacted at C and is looked at up to revision R holds every version after C, and of the versions up
//! to C those that were the newest of their keys. What hashes and images count of these differs in small ways, which
//! [`Purpose`] names; etcd's rules are in `server/storage/mvcc/hash.go` and `kvstore_compaction.go`.
//!
//! The walk goes on across writes, compactions and evictions, in slices. It needs nothing to stay but what is not dead
//! at [`Rows::pin`].

use crate::map::page::ReadPages;
use crate::mvcc::history::record::Record;
use crate::mvcc::range::Progress;
use crate::mvcc::survivors::Survivors;
use crate::mvcc::view::{At, View};
use crate::mvcc::walk::Budget;
use crate::mvcc::{Cold, wire};
use crate::types::{Revision, Seq};

/// What the rows are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What `HashKV` hashes: of the versions up to C, those that a compaction at R would keep; if it would keep none at
    /// all, then all that the one at C kept.
    Hash,
    /// What a compaction at R hashes while it runs, C being the compaction before: of the versions up to C, those it keeps.
    Compaction,
    /// What the store holds: of the versions up to C, those that the compaction at C kept, and tombstones at C itself.
    Image,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The key of the row.
    pub key: RowKey,
    /// A KeyValue; of a deleted key only its name.
    pub value: &'a [u8],
}

/// Main revision, `_`, sub revision, and `t` for a tombstone; numbers are big endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowKey {
    bytes: [u8; RowKey::LEN_MAX],
    tombstone: bool,
}

impl RowKey {
    /// Bytes of the longest one.
    pub const LEN_MAX: usize = 18;

    /// The key of a version.
    pub fn new(main: Revision, sub: u32, tombstone: bool) -> RowKey {
        let mut bytes = [b't'; RowKey::LEN_MAX];
        bytes[..8].copy_from_slice(&main.0.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..17].copy_from_slice(&u64::from(sub).to_be_bytes());
        RowKey { bytes, tombstone }
    }
}

impl std::ops::Deref for RowKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.tombstone { &self.bytes } else { &self.bytes[..RowKey::LEN_MAX - 1] }
    }
}

impl<'a> Row<'a> {
    fn of(record: &Record<'a>) -> Row<'a> {
        let tombstone = record.is_tombstone();
        let value = match tombstone {
            false => record.wire(),
            // Behind the key stands the revision, which etcd's tombstones do not have.
            true => &record.wire()[..wire::bytes_field_len(record.fields().key.len())],
        };
        Row { key: RowKey::new(record.main(), record.sub(), tombstone), value }
    }
}

/// The walk.
#[derive(Debug)]
pub struct Rows {
    purpose: Purpose,
    /// C.
    compacted: Revision,
    /// R.
    revision: Revision,
    bounds: Option<Bounds>,
    /// The first record not passed.
    next: Seq,
}

/// Where old versions end, where all do, and which of the old ones count.
#[derive(Debug)]
struct Bounds {
    /// The last version at C.
    low: At,
    /// The last version at R.
    last: Seq,
    survivors: Survivors,
}

impl Rows {
    /// The rows of a store that was compacted at `compacted`, up to `revision`.
    pub fn new(purpose: Purpose, compacted: Revision, revision: Revision) -> Rows {
        Rows { purpose, compacted, revision, bounds: None, next: Seq(1) }
    }

    /// Versions that are not dead at this revision are still needed.
    pub fn pin(&self) -> Revision {
        self.compacted
    }

    /// Up to which revision the rows go.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Begins with the first row again; which old versions count is known by now.
    pub fn rewind(&mut self) {
        self.next = Seq(1);
    }

    /// Goes on: `each` gets every row, and answers whether to go on.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
        mut each: impl FnMut(Row<'_>) -> bool,
    ) -> Result<Progress<()>, Cold> {
        if self.bounds.is_none() {
            self.bounds = Some(self.find_bounds(view)?);
        }
        let bounds = self.bounds.as_mut().expect("just found");
        if !bounds.find_survivors(self.purpose, view, budget)? {
            return Ok(Progress::More);
        }
        while self.next <= bounds.last {
            let Some(run) = view.history.run(self.next)? else { break };
            let behind = run.behind;
            for record in run.take_while(|record| record.seq() <= bounds.last) {
                if !budget.spend() {
                    return Ok(Progress::More);
                }
                self.next = Seq(record.seq().0 + 1);
                if bounds.passes_over(self.purpose, &record) {
                    continue;
                }
                let row = Row::of(&record);
                budget.charge(row.value.len());
                if !each(row) {
                    return Ok(Progress::More);
                }
            }
            self.next = behind;
        }
        Ok(Progress::Done(()))
    }

    fn find_bounds<R: ReadPages>(&self, view: &View<'_, R>) -> Result<Bounds, Cold> {
        let at = |revision| view.history.last_seq_at(revision).map(|last| At { revision, last });
        let (low, high) = (at(self.compacted)?, at(self.revision)?);
        let survivors_at = if self.purpose == Purpose::Image { low } else { high };
        Ok(Bounds { low, last: high.last, survivors: Survivors::new(survivors_at, low.last) })
    }
}

impl Bounds {
    fn find_survivors<R: ReadPages>(
        &mut self,
        purpose: Purpose,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<bool, Cold> {
        if !self.survivors.advance(view, budget)? {
            return Ok(false);
        }
        let none = purpose == Purpose::Hash && !self.survivors.any_live();
        if none && self.low.last > Seq(0) && self.survivors.at() != self.low {
            self.survivors = Survivors::new(self.low, self.low.last);
            return self.survivors.advance(view, budget);
        }
        Ok(true)
    }

    fn passes_over(&self, purpose: Purpose, record: &Record<'_>) -> bool {
        if record.seq() > self.low.last {
            return false;
        }
        let kept_tombstone = purpose == Purpose::Image && record.main() == self.low.revision;
        record.is_tombstone() && !kept_tombstone || !self.survivors.contains(record.seq())
    }
}

// Which rows there are is tested with `hash`, against etcd's rules, and with `snapshot::image`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::request::{Compact, DeleteRange, KeyRange, Put, Write};

    fn passed(world: &World, rows: &mut Rows, budget: u32) -> Vec<(i64, usize)> {
        let mut passed = Vec::new();
        let mut slice = |rows: &mut Rows| {
            let each = |row: Row<'_>| {
                let main = row.key[..8].first_chunk().map(|main| i64::from_be_bytes(*main));
                passed.push((main.expect("eight bytes"), row.key.len()));
                true
            };
            rows.advance(&world.store.view(), &mut Budget(budget), each).expect("nothing is cold")
        };
        while matches!(slice(rows), Progress::More) {}
        passed
    }

    #[test]
    fn old_versions_count_by_purpose() {
        let mut world = World::calm();
        let put = |world: &mut World, key: &[u8]| {
            world.run(&Write::Put(Put { key, ..Put::default() })).unwrap();
        };
        // Revisions 2 to 5; 6 deletes b, 7 comes behind the compaction.
        [b"a", b"b", b"c", b"a"].iter().for_each(|key| put(&mut world, *key));
        let keys = KeyRange::new(b"b", b"");
        world.run(&Write::DeleteRange(DeleteRange { keys, prev_kv: false })).unwrap();
        put(&mut world, b"c");
        world.run(&Write::Compact(Compact { revision: 6, physical: false })).unwrap();
        let check = |purpose, compacted, revision, expected: &[(i64, usize)]| {
            for budget in [1, 2, 1000] {
                let mut rows = Rows::new(purpose, Revision(compacted), Revision(revision));
                assert_eq!(passed(&world, &mut rows, budget), expected, "{purpose:?}");
                rows.rewind();
                assert_eq!(passed(&world, &mut rows, budget), expected, "{purpose:?} again");
            }
        };
        check(Purpose::Image, -1, 4, &[(2, 17), (3, 17), (4, 17)]);
        check(Purpose::Image, 6, 7, &[(4, 17), (5, 17), (6, 18), (7, 17)]);
        check(Purpose::Hash, 6, 6, &[(4, 17), (5, 17)]);
        check(Purpose::Hash, 6, 7, &[(5, 17), (7, 17)]);
        check(Purpose::Compaction, 4, 6, &[(4, 17), (5, 17), (6, 18)]);
    }

    #[test]
    fn keys_of_rows() {
        let key = RowKey::new(Revision(0x0102), 3, false);
        assert_eq!(*key, *b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
        assert_eq!(*RowKey::new(Revision(1), 0, true), *b"\0\0\0\0\0\0\0\x01_\0\0\0\0\0\0\0\0t");
    }
}
