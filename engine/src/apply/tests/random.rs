//! Random commands and reads against the model, however they are sliced and whatever leaves memory.

use super::model::Model;
use super::show::Shown;
use super::world::{Reading, World};
use crate::apply::read_txn;
use crate::check;
use crate::error::ApiError;
use crate::mvcc::index::tests::pages::Random;
use crate::request::{
    Alarm, AlarmAction, AlarmKind, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Filter,
    KeyRange, LeaseCheckpoint, LeaseGrant, Op, Put, Range, RangeEnd, SortOrder, SortTarget, Txn, Write,
};
use crate::types::LeaseId;

/// Keys and values that requests borrow.
struct Pool {
    keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
}

impl Pool {
    fn new() -> Pool {
        let mut keys: Vec<Vec<u8>> =
            [&b"\0"[..], b"a", b"a\0", b"b", b"\xff", b"\xff\xff"].map(Vec::from).into();
        keys.extend((0..60).map(|n| format!("dir/{n:02}").into_bytes()));
        keys.push(vec![b'x'; 3000]);
        let values = [0, 1, 2, 5, 120, 130, 700, 9000, 40_000].map(|len| vec![b'0' + (len % 7) as u8; len]);
        Pool { keys, values: values.into() }
    }

    fn key(&self, random: &mut Random) -> &[u8] {
        &self.keys[random.below(self.keys.len())]
    }

    fn value(&self, random: &mut Random) -> &[u8] {
        &self.values[random.below(self.values.len())]
    }

    fn range(&self, random: &mut Random) -> KeyRange<'_> {
        let key = self.key(random);
        match random.below(8) {
            0..3 => KeyRange::new(key, b""),
            3 => KeyRange::new(b"dir/", b"dir0"),
            4 => KeyRange::new(key, b"\0"),
            5 => KeyRange::new(b"\0", b"\0"),
            _ => KeyRange::new(key, self.key(random)),
        }
    }
}

/// Makes requests that a server would let pass.
struct Maker<'p> {
    pool: &'p Pool,
    random: Random,
    revision: i64,
    compacted: i64,
}

impl<'p> Maker<'p> {
    fn one_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    /// A number near the revisions in use.
    fn near_revision(&mut self) -> i64 {
        self.compacted - 2 + self.random.below((self.revision - self.compacted + 5) as usize) as i64
    }

    fn put(&mut self) -> Put<'p> {
        let (key, value) = (self.pool.key(&mut self.random), self.pool.value(&mut self.random));
        let (ignore_value, ignore_lease) = (self.one_in(6), self.one_in(8));
        let value = if ignore_value { &[][..] } else { value };
        let lease = if !ignore_lease && self.one_in(5) { self.lease() } else { LeaseId::NONE };
        Put { key, value, lease, prev_kv: self.one_in(2), ignore_value, ignore_lease }
    }

    /// Few, so that they exist at about half of the times they are asked for.
    fn lease(&mut self) -> LeaseId {
        LeaseId([7, -7, i64::MAX, 8, i64::MIN][self.random.below(5)])
    }

    fn grant(&mut self) -> LeaseGrant {
        let ttl = [1, 60, -3, 9_000_000_000, 9_000_000_001][self.random.below(5)];
        LeaseGrant { id: if self.one_in(20) { LeaseId::NONE } else { self.lease() }, ttl }
    }

    fn checkpoints(&mut self) -> Vec<LeaseCheckpoint> {
        let count = self.random.below(4);
        (0..count).map(|n| LeaseCheckpoint { id: self.lease(), remaining: 10 * n as i64 }).collect()
    }

    fn delete(&mut self) -> DeleteRange<'p> {
        let mut keys = self.pool.range(&mut self.random);
        if keys.end != RangeEnd::Single && !self.one_in(4) {
            keys = KeyRange::new(self.pool.key(&mut self.random), b"");
        }
        DeleteRange { keys, prev_kv: self.one_in(2) }
    }

    fn range(&mut self) -> Range<'p> {
        let revision = if self.one_in(3) { self.near_revision() } else { 0 };
        let order = [SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let (key, value) = (SortTarget::Key, SortTarget::Value);
        let target = [key, key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, value];
        let filter = if self.one_in(4) { self.filter() } else { Filter::default() };
        let limit = match self.random.below(4) {
            0 => self.random.below(12) as i64 - 1,
            1 => 30,
            2 => i64::MAX,
            _ => 0,
        };
        Range {
            limit,
            revision,
            order: order[self.random.below(order.len())],
            target: target[self.random.below(target.len())],
            keys_only: self.one_in(4),
            count_only: self.one_in(6),
            serializable: self.one_in(2),
            filter,
            ..Range::of(self.pool.range(&mut self.random))
        }
    }

    fn filter(&mut self) -> Filter {
        let mut bound = || if self.one_in(2) { self.near_revision() } else { 0 };
        Filter { min_mod: bound(), max_mod: bound(), min_create: bound(), max_create: bound() }
    }

    fn compare(&mut self) -> Compare<'p> {
        let result = match self.random.below(9) {
            0..2 => CompareResult::Equal,
            2..4 => CompareResult::NotEqual,
            4..6 => CompareResult::Greater,
            6..8 => CompareResult::Less,
            _ => CompareResult::Unknown(9),
        };
        let number = if self.one_in(2) { self.random.below(3) as i64 } else { self.near_revision() };
        let target = match self.random.below(7) {
            0 => CompareTarget::Version(number),
            1 => CompareTarget::Create(number),
            2 => CompareTarget::Mod(number),
            3 => CompareTarget::Lease(number),
            4 => CompareTarget::Unknown(7),
            _ => CompareTarget::Value(self.pool.value(&mut self.random)),
        };
        Compare { keys: self.pool.range(&mut self.random), result, target }
    }

    fn op(&mut self, depth: usize) -> Op<'p> {
        match self.random.below(if depth == 0 { 9 } else { 12 }) {
            0..4 => Op::Put(self.put()),
            4..6 => Op::DeleteRange(self.delete()),
            6..9 => Op::Range(self.range()),
            _ => Op::Txn(self.txn(depth - 1)),
        }
    }

    fn txn(&mut self, depth: usize) -> Txn<'p> {
        let compare = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let [success, failure] =
            [(); 2].map(|()| (0..self.random.below(5)).map(|_| self.op(depth)).collect());
        Txn { compare, success, failure }
    }

    fn checked_txn(&mut self) -> Txn<'p> {
        loop {
            let txn = self.txn(2);
            if check::check_txn(&txn, 128).is_ok() {
                return txn;
            }
        }
    }

    fn read_txn(&mut self) -> Txn<'p> {
        let mut ranges = || (0..self.random.below(4)).map(|_| Op::Range(self.range())).collect();
        let (success, failure) = (ranges(), ranges());
        let compare = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let txn = Txn { compare, success, failure };
        assert!(read_txn::is_read_only(&txn));
        txn
    }

    fn write(&mut self) -> Write<'p> {
        match self.random.below(24) {
            0..8 => Write::Put(self.put()),
            8..11 => Write::DeleteRange(self.delete()),
            11 if self.one_in(2) => {
                Write::Compact(Compact { revision: self.near_revision(), physical: false })
            }
            12 if self.one_in(2) => Write::Alarm(self.alarm()),
            13 if self.one_in(2) => Write::LeaseRevoke(self.lease()),
            13 => Write::LeaseCheckpoint(self.checkpoints()),
            14..16 => Write::LeaseGrant(self.grant()),
            _ => Write::Txn(self.checked_txn()),
        }
    }

    /// Mostly lowered again, so that most writes go through.
    fn alarm(&mut self) -> Alarm {
        let kind = [AlarmKind::NoSpace, AlarmKind::Corrupt, AlarmKind::None][self.random.below(3)];
        let action = [AlarmAction::Activate, AlarmAction::Get, AlarmAction::Deactivate][self.random.below(3)];
        Alarm { action, member: self.random.below(2) as u64, kind }
    }
}

/// A read that began at some version, and what it must answer.
struct Expected {
    reading: Reading,
    shown: Shown,
    what: String,
}

fn run(seed: u64, commands: usize, slice_max: usize, evict_one_in: usize, resident_bytes: usize) -> World {
    let pool = Pool::new();
    let mut world = World::new(seed, slice_max, evict_one_in, resident_bytes);
    let mut model = Model::new();
    let mut readings: Vec<Expected> = Vec::new();
    let mut maker = Maker { pool: &pool, random: Random(!seed), revision: 1, compacted: -1 };
    let mut answers = Vec::new();
    for n in 0..commands {
        (maker.revision, maker.compacted) = (model.revision(), model.compacted());
        let write = if n % 40 == 39 { lower_alarms(n) } else { maker.write() };
        let mut pending = world.begin(&write);
        let published = world.store.view().revision.0;
        let answer = loop {
            if let Some(answer) = world.slice(&mut pending) {
                break answer;
            }
            // Whatever is half done, readers see the last publication.
            let key = pool.key(&mut maker.random);
            check_published(&mut world, &model, published, key);
            advance_readings(&mut world, &mut readings, &mut maker.random);
        };
        answers.push((answer, model.apply(&write), format!("seed {seed}: {write:?}")));
        if maker.one_in(3) {
            world.publish();
            for (answer, expected, what) in answers.drain(..) {
                let answer: Result<Shown, ApiError> = answer.map(|answer| world.show(answer));
                assert_eq!(answer, expected, "{what}");
            }
            check_published(&mut world, &model, model.revision(), pool.key(&mut maker.random));
            check_leases(&mut world, &model);
            begin_reading(&mut world, &model, &mut readings, &mut maker);
        }
    }
    world.publish();
    while !readings.is_empty() {
        advance_readings(&mut world, &mut readings, &mut maker.random);
    }
    world.store.pages_mut().bring_in_all();
    world.store.view().index.check().unwrap();
    world
}

/// Lets most of the run happen without alarms.
fn lower_alarms(n: usize) -> Write<'static> {
    let kind = if n % 80 < 40 { AlarmKind::NoSpace } else { AlarmKind::Corrupt };
    Write::Alarm(Alarm { action: AlarmAction::Deactivate, member: (n / 80 % 2) as u64, kind })
}

fn check_published(world: &mut World, model: &Model, revision: i64, key: &[u8]) {
    assert_eq!(world.store.view().revision.0, revision);
    let keys = model.keys_at(revision);
    let count = world.read(|view| Ok(view.index.count(KeyRange::new(b"\0", b"\0"))?));
    assert_eq!(count, keys.len() as u64, "keys at {revision}");
    let found =
        world.read(|view| view.get(key)).map(|found| (found.created.0, found.modified.0, found.version));
    let expected = keys.get(key).map(|kv| (kv.created, kv.modified, kv.version));
    assert_eq!(found, expected, "{} at {revision}", key.escape_ascii());
}

/// The stored leases and what is attached to them are the model's.
fn check_leases(world: &mut World, model: &Model) {
    let keys = model.keys_at(model.revision());
    for id in [7, -7, i64::MAX, 8, i64::MIN].map(LeaseId) {
        let expected = model.leases().get(&id).copied();
        assert_eq!(world.read(|view| view.lease(id)), expected, "lease {}", id.0);
        let attached: Vec<_> = keys.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        assert_eq!(world.lease_keys(id), attached, "keys of lease {}", id.0);
    }
}

fn begin_reading(world: &mut World, model: &Model, readings: &mut Vec<Expected>, maker: &mut Maker<'_>) {
    (maker.revision, maker.compacted) = (model.revision(), model.compacted());
    let (reading, expected, what) = if maker.one_in(4) {
        let txn = maker.read_txn();
        (world.begin_txn(&txn), model.read(&txn), format!("{txn:?}"))
    } else {
        let range = maker.range();
        if crate::mvcc::range::is_single(&range) {
            assert_eq!(world.range(&range), model.range(&range), "{range:?}");
        }
        (world.begin_range(&range), model.range(&range), format!("{range:?}"))
    };
    match (reading, expected) {
        (Ok(reading), Ok(shown)) => readings.push(Expected { reading, shown, what }),
        (Err(error), Err(expected)) => assert_eq!(error, expected, "{what}"),
        (reading, expected) => panic!("{:?} instead of {expected:?} for {what}", reading.map(drop)),
    }
}

/// One slice of about half of the reads.
fn advance_readings(world: &mut World, readings: &mut Vec<Expected>, random: &mut Random) {
    let mut at = 0;
    while at < readings.len() {
        let answer = if random.below(2) == 0 { world.read_slice(&mut readings[at].reading) } else { None };
        match answer {
            None => at += 1,
            Some(answer) => {
                let Expected { shown, what, .. } = readings.swap_remove(at);
                assert_eq!(world.show(answer), shown, "{what}");
            }
        }
    }
}

#[test]
fn commands_and_reads_in_memory() {
    for seed in 0..40 {
        run(seed, 120, 1 << 20, 0, 1 << 30);
    }
}

#[test]
fn commands_and_reads_in_tiny_slices() {
    let worlds = (100..140).map(|seed| run(seed, 160, 1 + seed as usize % 5, 0, 1 << 30));
    assert!(worlds.map(|world| world.stops).sum::<u64>() > 10_000);
}

#[test]
fn commands_and_reads_with_everything_cold() {
    let worlds: Vec<World> = (200..230).map(|seed| run(seed, 200, 1 + seed as usize % 50, 2, 0)).collect();
    assert!(worlds.iter().map(|world| world.cold_records).sum::<u64>() > 100);
    assert!(worlds.iter().map(|world| world.store.pages().misses.get()).sum::<u64>() > 1000);
}
