//! HashKV: CRC-32C of the rows up to a revision, to the bit what etcd computes (`server/storage/mvcc/hash.go`), so that
//! members, and a restored copy, can be compared.
//!
//! A compaction leaves its own hash behind, of what it saw while it ran; whoever asks for the revision of one of the
//! last compactions gets that. etcd forgets these hashes when it ends, and so do we.

use std::collections::VecDeque;

use crate::error::ApiError;
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::range::Progress;
use crate::mvcc::rows::{Purpose, Rows};
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::types::Revision;

/// Hashes of compactions that are kept.
pub const COMPACTIONS_MAX: usize = 10;

/// Name of the bucket, hashed before its rows.
const BUCKET: &[u8] = b"key";

/// A hash and what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction it takes into account; -1 if there was none.
    pub compacted: Revision,
    /// The revision up to which it goes.
    pub revision: Revision,
}

/// A hash being computed.
#[derive(Debug)]
pub struct HashTask {
    rows: Rows,
    compacted: Revision,
    /// Newest revision when it began, for the answer's header.
    current: Revision,
    hash: u32,
}

impl HashTask {
    /// The hash at a revision as a client asks for it; 0 is the newest.
    pub fn new<R>(view: &View<'_, R>, asked: i64) -> Result<HashTask, ApiError> {
        let revision = match asked {
            0 => view.revision,
            1.. if asked < view.compacted.0 => return Err(ApiError::Compacted),
            1.. if asked > view.revision.0 => return Err(ApiError::FutureRevision),
            // Of a negative revision etcd hashes no row at all.
            _ => Revision(asked),
        };
        Ok(HashTask::begin(Purpose::Hash, view.compacted, revision, view.revision))
    }

    /// The hash that a compaction at `revision` leaves, after one at `before`.
    pub fn of_compaction(before: Revision, revision: Revision) -> HashTask {
        HashTask::begin(Purpose::Compaction, before, revision, revision)
    }

    fn begin(purpose: Purpose, compacted: Revision, revision: Revision, current: Revision) -> HashTask {
        let rows = Rows::new(purpose, compacted, revision);
        HashTask { rows, compacted, current, hash: crc32c::crc32c(BUCKET) }
    }

    /// Versions that are not dead at this revision are still needed.
    pub fn pin(&self) -> Revision {
        self.compacted
    }

    /// The newest revision when it began.
    pub fn current(&self) -> Revision {
        self.current
    }

    /// Goes on.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Progress<KvHash>, Cold> {
        let hash = &mut self.hash;
        let passed = self.rows.advance(view, budget, |row| {
            *hash = crc32c::crc32c_append(crc32c::crc32c_append(*hash, &row.key), row.value);
            true
        })?;
        let (compacted, revision) = (self.compacted, self.rows.revision());
        Ok(passed.map(|()| KvHash { hash: self.hash, compacted, revision }))
    }
}

/// Hashes of the last compactions, and those being computed.
#[derive(Debug, Default)]
pub struct CompactionHashes {
    /// In order; the first one is under way.
    pending: VecDeque<HashTask>,
    /// Ascending.
    done: VecDeque<KvHash>,
}

impl CompactionHashes {
    /// There was a compaction at `revision`, after one at `before`.
    pub fn push(&mut self, before: Revision, revision: Revision) {
        self.pending.push_back(HashTask::of_compaction(before, revision));
    }

    /// Goes on with what is under way. `Done` when nothing is.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Progress<()>, Cold> {
        while let Some(task) = self.pending.front_mut() {
            let Progress::Done(hash) = task.advance(view, budget)? else { return Ok(Progress::More) };
            self.pending.pop_front();
            if self.done.len() == COMPACTIONS_MAX {
                self.done.pop_front();
            }
            self.done.push_back(hash);
        }
        Ok(Progress::Done(()))
    }

    /// The hash that the compaction at this revision left.
    pub fn at(&self, revision: i64) -> Option<KvHash> {
        self.done.iter().find(|hash| hash.revision.0 == revision).copied()
    }

    /// Whether the hash of the compaction at this revision is still being computed.
    pub fn is_pending(&self, revision: i64) -> bool {
        self.pending.iter().any(|task| task.rows.revision().0 == revision)
    }

    /// Whether any hash is being computed.
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Versions that are not dead at this revision are still needed; `None` if nothing is.
    pub fn pin(&self) -> Option<Revision> {
        self.pending.front().map(HashTask::pin)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::apply::tests::world::World;
    use crate::mvcc::index::tests::pages::Random;
    use crate::mvcc::wire;
    use crate::request::{Compact, DeleteRange, KeyRange, Put, Write};

    /// etcd's store, as far as hashes go, by its own rules: rows that are there, and what a compaction deletes.
    #[derive(Default)]
    struct Etcd {
        rows: Vec<Stored>,
        /// Created and version of what exists.
        live: BTreeMap<Vec<u8>, (i64, i64)>,
        revision: i64,
        compacted: i64,
        hashes: BTreeMap<i64, (u32, i64)>,
    }

    struct Stored {
        at: (i64, u32),
        name: Vec<u8>,
        tombstone: bool,
        bytes: Vec<u8>,
    }

    impl Etcd {
        fn new() -> Etcd {
            Etcd { revision: 1, compacted: -1, ..Etcd::default() }
        }

        fn push(&mut self, sub: u32, name: &[u8], value: Option<&[u8]>) {
            let (main, mut kv) = (self.revision, Vec::new());
            wire::put_bytes_field(&mut kv, 1, name);
            if let Some(value) = value {
                let (created, version) = self.live.get(name).copied().unwrap_or((main, 0));
                self.live.insert(name.to_vec(), (created, version + 1));
                wire::put_int_field(&mut kv, 2, created);
                wire::put_int_field(&mut kv, 3, main);
                wire::put_int_field(&mut kv, 4, version + 1);
                wire::put_bytes_field(&mut kv, 5, value);
            } else {
                self.live.remove(name);
            }
            let mut bytes = [&main.to_be_bytes()[..], b"_", &u64::from(sub).to_be_bytes()].concat();
            bytes.extend_from_slice(if value.is_none() { b"t" } else { b"" });
            bytes.extend_from_slice(&kv);
            let (name, tombstone) = (name.to_vec(), value.is_none());
            self.rows.push(Stored { at: (main, sub), name, tombstone, bytes });
        }

        /// Newest rows of their keys, tombstones only if `tombstones_at` is their revision.
        fn keep(&self, at: i64, tombstones_at: i64) -> BTreeSet<(i64, u32)> {
            let newest: BTreeMap<&[u8], &Stored> =
                self.rows.iter().filter(|row| row.at.0 <= at).map(|row| (&row.name[..], row)).collect();
            let kept = newest.values().filter(|row| !row.tombstone || row.at.0 == tombstones_at);
            kept.map(|row| row.at).collect()
        }

        fn hash_with(&self, compacted: i64, revision: i64, keep: &BTreeSet<(i64, u32)>) -> u32 {
            let mut hash = crc32c::crc32c(b"key");
            for row in self.rows.iter().filter(|row| row.at.0 <= revision) {
                let skipped = row.at.0 <= compacted && !keep.is_empty() && !keep.contains(&row.at);
                let at_compaction = row.at.0 == compacted && row.tombstone;
                if !skipped && !at_compaction {
                    hash = crc32c::crc32c_append(hash, &row.bytes);
                }
            }
            hash
        }

        fn hash(&self, revision: i64) -> u32 {
            self.hash_with(self.compacted, revision, &self.keep(revision, -1))
        }

        fn compact(&mut self, at: i64) {
            let keep = self.keep(at, at);
            let hash = self.hash_with(self.compacted, at, &keep);
            self.hashes.insert(at, (hash, self.compacted));
            self.rows.retain(|row| row.at.0 > at || keep.contains(&row.at));
            self.compacted = at;
        }
    }

    fn hash(world: &mut World, mut task: HashTask) -> KvHash {
        loop {
            let mut budget = world.budget();
            match task.advance(&world.store.view(), &mut budget) {
                Ok(Progress::Done(hash)) => return hash,
                Ok(Progress::More) => {}
                Err(cold) => world.warm(cold),
            }
        }
    }

    fn compaction_hashes(world: &mut World) -> CompactionHashes {
        let mut hashes = CompactionHashes::default();
        for (before, revision) in world.store.take_compactions() {
            hashes.push(before, revision);
        }
        loop {
            let mut budget = world.budget();
            match hashes.advance(&world.store.view(), &mut budget) {
                Ok(Progress::Done(())) => return hashes,
                Ok(Progress::More) => {}
                Err(cold) => world.warm(cold),
            }
        }
    }

    fn step(world: &mut World, etcd: &mut Etcd, random: &mut Random) {
        let name = |n: usize| format!("key{n}").into_bytes();
        let (n, end) = (random.below(9), name(random.below(10)));
        let name = name(n);
        match random.below(10) {
            0..6 => {
                etcd.revision += 1;
                let value = vec![b'v'; random.below(3000)];
                etcd.push(0, &name, Some(&value));
                world.run(&Write::Put(Put { key: &name, value: &value, ..Put::default() })).unwrap();
            }
            6..9 => {
                let end = if random.below(4) == 0 { vec![0] } else { end };
                let gone = etcd.live.range(name.clone()..).map(|(key, _)| key.clone());
                let gone: Vec<_> = gone.filter(|key| end == [0] || *key < end).collect();
                etcd.revision += i64::from(!gone.is_empty());
                for (sub, key) in (0..).zip(gone) {
                    etcd.push(sub, &key, None);
                }
                // An empty end would be a single key.
                let keys = KeyRange::new(&name, &end);
                world.run(&Write::DeleteRange(DeleteRange { keys, prev_kv: false })).unwrap();
            }
            _ => {
                let revision = etcd.compacted.max(0) + 1 + random.below(6) as i64;
                if revision <= etcd.revision {
                    etcd.compact(revision);
                    world.run(&Write::Compact(Compact { revision, physical: false })).unwrap();
                }
            }
        }
    }

    #[test]
    fn hashes_are_etcds_whatever_is_cold_and_however_it_is_sliced() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let (slice_max, evict_one_in) = if seed % 2 == 0 { (1 << 20, 0) } else { (5, 3) };
            let mut world = World::new(seed, slice_max, evict_one_in, 0);
            let mut etcd = Etcd::new();
            for _ in 0..150 {
                step(&mut world, &mut etcd, &mut random);
                let hashes = compaction_hashes(&mut world);
                for (&revision, &(hash, compacted)) in etcd.hashes.iter().rev().take(1) {
                    let compacted = Revision(compacted);
                    let expected = KvHash { hash, compacted, revision: Revision(revision) };
                    let found = hashes.at(revision);
                    assert!(
                        found.is_none_or(|found| found == expected),
                        "seed {seed}: {found:?}, {expected:?}"
                    );
                }
                let asked = etcd.compacted.max(0) + random.below(5) as i64;
                let revision = if asked == 0 { etcd.revision } else { asked.min(etcd.revision) };
                let expected = KvHash {
                    hash: etcd.hash(revision),
                    compacted: Revision(etcd.compacted),
                    revision: Revision(revision),
                };
                let asked = asked.min(etcd.revision);
                let task = HashTask::new(&world.store.view(), asked).unwrap();
                assert_eq!(hash(&mut world, task), expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn revisions_that_are_not_there() {
        let mut world = World::calm();
        for n in 0..4u8 {
            world.run(&Write::Put(Put { key: &[n + 1], ..Put::default() })).unwrap();
        }
        world.run(&Write::Compact(Compact { revision: 3, physical: false })).unwrap();
        let asked = |world: &World, asked| HashTask::new(&world.store.view(), asked).map(|_| ());
        assert_eq!(asked(&world, 2), Err(ApiError::Compacted));
        assert_eq!(asked(&world, 6), Err(ApiError::FutureRevision));
        assert_eq!([0, 3, 5].map(|revision| asked(&world, revision)), [Ok(()); 3]);
        let task = HashTask::new(&world.store.view(), -7).unwrap();
        let nothing = KvHash { hash: 1_084_519_789, compacted: Revision(3), revision: Revision(-7) };
        assert_eq!(hash(&mut world, task), nothing);
    }

    #[test]
    fn ten_compactions_are_remembered() {
        let mut world = World::calm();
        for n in 0..20u8 {
            world.run(&Write::Put(Put { key: &[n + 1], ..Put::default() })).unwrap();
        }
        for revision in 2..14 {
            world.run(&Write::Compact(Compact { revision, physical: false })).unwrap();
        }
        let mut hashes = CompactionHashes::default();
        hashes.push(Revision(-1), Revision(2));
        assert!(hashes.is_pending(2) && hashes.pin() == Some(Revision(-1)) && hashes.at(2).is_none());
        let hashes = compaction_hashes(&mut world);
        let known: Vec<i64> = (0..20).filter(|revision| hashes.at(*revision).is_some()).collect();
        assert_eq!(known, (4..14).collect::<Vec<_>>());
        assert_eq!(hashes.at(13).map(|hash| hash.compacted), Some(Revision(12)));
    }
}
