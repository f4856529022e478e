//! Reclaim against every version ever written: what may be gone, what must be there, and that nothing dead stays in the
//! end.

use std::collections::BTreeMap;

use super::*;
use crate::apply::tests::world::World;
use crate::request::{Compact, DeleteRange, KeyRange, Op, Put, Txn, Write};

/// A version, by its sequence number.
#[derive(Clone, Debug)]
struct Version {
    main: Revision,
    key: Vec<u8>,
    tombstone: bool,
    wire: Vec<u8>,
}

/// All versions, and what is dead at a floor, said the simple way.
#[derive(Debug, Default)]
struct Book(BTreeMap<Seq, Version>);

impl Book {
    /// Adds what was written since the last call.
    fn note(&mut self, world: &mut World) {
        let last = world.store.history().next_seq();
        for seq in (self.0.len() as u64 + 1..last.0).map(Seq) {
            let version = world.read(|view| {
                let record = view.history.record(seq)?.unwrap_or_else(|| panic!("{seq} was just written"));
                let key = record.fields().key.to_vec();
                let (main, tombstone) = (record.main(), record.is_tombstone());
                Ok(Version { main, key, tombstone, wire: record.wire().to_vec() })
            });
            self.0.insert(seq, version);
        }
    }

    fn is_dead(&self, seq: Seq, floor: Revision) -> bool {
        let version = &self.0[&seq];
        let later = |(other, newer): (&Seq, &Version)| {
            *other > seq && newer.key == version.key && newer.main <= floor
        };
        self.0.iter().any(later) || (version.tombstone && version.main < floor)
    }

    /// The version of a key at a revision, tombstones left out.
    fn at(&self, key: &[u8], revision: Revision) -> Option<Seq> {
        let (seq, version) = self.0.iter().rev().find(|(_, v)| v.key == key && v.main <= revision)?;
        (!version.tombstone).then_some(*seq)
    }

    fn keys(&self) -> BTreeSet<Vec<u8>> {
        self.0.values().map(|version| version.key.clone()).collect()
    }
}

/// One slice.
fn reclaim(world: &mut World, floor: Revision, steps: u32) -> bool {
    let mut spend = Spend { steps, bytes: 1 << 20 };
    match world.store.reclaim(floor, &mut spend) {
        Ok(more) => more,
        Err(cold) => {
            world.warm(cold);
            true
        }
    }
}

/// Compares the store with the book. Nothing is dead below `floor` but what the book says.
fn compare(world: &mut World, book: &Book, floor: Revision) {
    for (&seq, version) in &book.0 {
        let found = world.read(|view| Ok(view.history.record(seq)?.map(|record| record.wire().to_vec())));
        match found {
            Some(wire) => assert_eq!(wire, version.wire, "record {seq}"),
            None => assert!(book.is_dead(seq, floor), "record {seq} is gone at floor {floor}: {version:?}"),
        }
    }
    let now = world.store.revision();
    for key in book.keys() {
        for revision in floor.0.max(1)..=now.0 {
            let found = world.read(|view| {
                let at = view.at(Revision(revision))?;
                let Some(entry) = view.index.get(&key)? else { return Ok(None) };
                Ok(view.version_at(&key, &entry, at)?.map(|found| found.seq))
            });
            assert_eq!(found, book.at(&key, Revision(revision)), "{key:?} at {revision}, floor {floor}");
        }
    }
}

/// Once everything is done: what is dead is gone, as far as it was worth it, and counted where it is not.
fn compare_done(world: &mut World, book: &Book, floor: Revision) {
    let counted: u64 = world.store.history().chunks().map(|info| u64::from(info.dead)).sum();
    let counted = counted + u64::from(world.store.history().active_dead());
    let there = |world: &mut World, seq| world.read(|view| Ok(view.history.record(seq)?.is_some()));
    let dead: Vec<Seq> = book.0.keys().copied().filter(|seq| book.is_dead(*seq, floor)).collect();
    let left = dead.into_iter().filter(|seq| there(world, *seq)).count() as u64;
    assert_eq!(counted, left, "dead records that are still there, at floor {floor}");
    for key in book.keys() {
        let (_, newest) = book.0.iter().rev().find(|(_, version)| version.key == key).unwrap();
        let forgotten = newest.tombstone && newest.main < floor;
        let entry = world.read(|view| Ok(view.index.get(&key)?));
        assert_eq!(entry.is_none(), forgotten, "{key:?} at floor {floor}: {newest:?}");
    }
    let rows = world.read(|view| {
        let mut rows = view.index.rows(Table::HistorySegment, &[]);
        let mut found = Vec::new();
        while let Some((key, _)) = rows.next()? {
            found.push(Seq(u64::from_be_bytes(key.try_into().unwrap())));
        }
        Ok(found)
    });
    let chunks: Vec<Seq> = world.store.history().chunks().map(|info| info.first_seq).collect();
    assert_eq!(rows, chunks, "rows and chunks");
}

fn write(world: &mut World, value_max: usize) {
    let key = format!("k{}", world.random.below(12)).into_bytes();
    let value = vec![b'v'; world.random.below(value_max)];
    let put = Put { key: &key, value: &value, ..Put::default() };
    let write = match world.random.below(10) {
        0..=5 => Write::Put(put),
        6 | 7 => Write::DeleteRange(DeleteRange { keys: KeyRange::new(&key, b""), prev_kv: false }),
        8 => Write::DeleteRange(DeleteRange { keys: KeyRange::new(&key, b"l"), prev_kv: false }),
        _ => {
            let other = DeleteRange { keys: KeyRange::new(b"a", b"b"), prev_kv: false };
            Write::Txn(Txn { success: vec![Op::Put(put), Op::DeleteRange(other)], ..Txn::default() })
        }
    };
    world.run(&write).unwrap();
}

fn compact(world: &mut World, revision: Revision) {
    world.run(&Write::Compact(Compact { revision: revision.0, physical: false })).unwrap();
}

/// A run in which the floor follows the compaction at some distance, as if a reader held it.
fn run(seed: u64) -> Tally {
    let cold = seed.is_multiple_of(2);
    let (evict, resident) = if cold { (3, 0) } else { (0, 1 << 30) };
    let mut world = World::with_chunks(seed, 30, evict, resident, 4096);
    let mut book = Book::default();
    let mut floor = Revision::NEVER_COMPACTED;
    for _ in 0..30 {
        for _ in 0..world.random.below(25) {
            write(&mut world, 400);
            if floor.0 > 0 {
                let steps = 1 + world.random.below(9) as u32;
                reclaim(&mut world, floor, steps);
            }
        }
        book.note(&mut world);
        let reached = world.store.reclaimed().floor();
        compare(&mut world, &book, reached.max(floor));
        let (compacted, now) = (world.store.compacted(), world.store.revision());
        if now > compacted && world.random.below(2) == 0 {
            let at =
                compacted.0.max(0) + 1 + world.random.below((now.0 - compacted.0.max(0)) as usize) as i64;
            compact(&mut world, Revision(at.min(now.0)));
            let between = (world.store.compacted().0 - floor.0) as usize;
            floor = Revision(floor.0 + world.random.below(between + 1) as i64);
        }
        if world.random.below(3) == 0 && floor.0 >= 0 {
            let steps = 1 + world.random.below(20) as u32;
            while !world.store.reclaimed().is_done(floor) {
                reclaim(&mut world, floor, steps);
                world.drive_history();
            }
            world.publish_for_checkpoint();
            compare(&mut world, &book, floor);
            compare_done(&mut world, &book, floor);
        }
    }
    world.store.reclaimed().tally()
}

#[test]
fn what_is_dead_goes_and_nothing_else() {
    let mut sum = Tally::default();
    for seed in 0..40 {
        let tally = run(seed);
        sum.dead += tally.dead;
        sum.forgotten += tally.forgotten;
        sum.moved += tally.moved;
    }
    assert!(sum.dead > 1000 && sum.forgotten > 100 && sum.moved > 100 << 12, "{sum:?}");
}

#[test]
fn a_tombstone_at_the_floor_stays_until_the_next() {
    let mut world = World::calm();
    let put = |world: &mut World| world.run(&Write::Put(Put { key: b"a", ..Put::default() })).unwrap();
    put(&mut world);
    let delete = DeleteRange { keys: KeyRange::new(b"a", b""), prev_kv: false };
    world.run(&Write::DeleteRange(delete)).unwrap();
    world.run(&Write::Put(Put { key: b"b", ..Put::default() })).unwrap();
    compact(&mut world, Revision(3));
    while reclaim(&mut world, Revision(3), 5) {}
    world.publish();
    let entry = |world: &World| world.store.view().index.get(b"a").unwrap().map(|entry| entry.seq);
    assert_eq!((entry(&world), world.store.history().active_dead()), (Some(Seq(2)), 1));
    compact(&mut world, Revision(4));
    while reclaim(&mut world, Revision(4), 5) {}
    world.publish();
    assert_eq!((entry(&world), world.store.history().active_dead()), (None, 2));
    // The key begins anew, as if its tombstone were there, or had never been.
    put(&mut world);
    let record = world.store.history().record(Seq(4)).unwrap().unwrap();
    assert_eq!((record.fields().version, record.prev()), (1, None));
}

/// As etcd's tests of its NOSPACE alarm want it, with a quota of 13 pages.
#[test]
fn what_is_dead_in_the_chunk_that_is_being_written_goes_too() {
    let mut world = World::calm();
    let value = vec![b'v'; 4096];
    for _ in 0..11 {
        world.run(&Write::Put(Put { key: b"a", value: &value, ..Put::default() })).unwrap();
    }
    world.publish();
    assert!(world.store.history().size() > 11 * 4096);
    compact(&mut world, Revision(12));
    while !world.store.reclaimed().is_done(Revision(12)) {
        reclaim(&mut world, Revision(12), 5);
        world.drive_history();
    }
    world.publish();
    let history = world.store.history();
    assert!(history.size() <= 3 * 4096, "{} bytes", history.size());
    assert!(history.record(Seq(10)).unwrap().is_none() && history.record(Seq(11)).unwrap().is_some());
    // A chunk with little in it is not worth it.
    world.run(&Write::Put(Put { key: b"b", value: b"1", ..Put::default() })).unwrap();
    world.run(&Write::Put(Put { key: b"b", value: b"2", ..Put::default() })).unwrap();
    compact(&mut world, Revision(14));
    while reclaim(&mut world, Revision(14), 5) {}
    assert!(world.store.reclaimed().is_done(Revision(14)));
    assert_eq!(world.store.history().active_dead(), 1);
}

#[test]
fn what_is_stored_does_not_depend_on_whether_the_index_forgot() {
    let run = |reclaims: bool| {
        let mut world = World::calm();
        let delete = DeleteRange { keys: KeyRange::new(b"a", b""), prev_kv: false };
        world.run(&Write::Put(Put { key: b"a", ..Put::default() })).unwrap();
        world.run(&Write::DeleteRange(delete)).unwrap();
        world.run(&Write::Put(Put { key: b"b", ..Put::default() })).unwrap();
        compact(&mut world, Revision(4));
        while reclaims && reclaim(&mut world, Revision(4), 5) {}
        world.run(&Write::Put(Put { key: b"a", ..Put::default() })).unwrap();
        let record = world.store.history().record(Seq(4)).unwrap().unwrap();
        (record.wire().to_vec(), record.prev(), world.store.view().index.get(b"a").unwrap())
    };
    let ((wire, prev, entry), (also, chained, same)) = (run(true), run(false));
    assert_eq!((wire, entry), (also, same));
    // The chain differs, below what anybody reads.
    assert_eq!((prev, chained), (None, Some(Seq(2))));
}

#[test]
fn the_saved_state_round_trips() {
    let saved = Saved {
        marked: Revision(-1),
        scan: Some((Revision(9), Seq(4))),
        active_dead: 7,
        let_go: vec![3, 1 << 40],
    };
    assert_eq!(Saved::decode(&saved.encode()), Some(saved.clone()));
    let idle = Saved { scan: None, let_go: Vec::new(), ..saved.clone() };
    assert_eq!(Saved::decode(&idle.encode()), Some(idle));
    for cut in 0..saved.encode().len() {
        let decoded = Saved::decode(&saved.encode()[..cut]);
        assert!(decoded.is_none() || (cut - 29).is_multiple_of(8), "{cut} bytes are {decoded:?}");
    }
}
