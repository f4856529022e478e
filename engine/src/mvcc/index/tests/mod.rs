//! The tree against a `BTreeMap`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::bulk::Builder;
use super::check::{Report, check};
use super::cursor::{Cursor, From};
use super::read::{count, get};
use super::write::{Before, put, remove};
use super::{Error, Root};

/// Pages in a vector.
pub(crate) mod pages;

/// Pages that are any bytes.
mod hostile;

/// The typed face of the tree.
mod facade;

use pages::{Random, TestPages};

type Model = BTreeMap<Vec<u8>, (Vec<u8>, bool)>;

/// A tree, what it should hold, and an older version of both.
struct World {
    pages: TestPages,
    root: Root,
    model: Model,
    snapshot: Option<(Root, Model)>,
    random: Random,
}

impl World {
    fn new(seed: u64) -> World {
        let (pages, random) = (TestPages::new(), Random(seed));
        World { pages, root: Root::EMPTY, model: Model::new(), snapshot: None, random }
    }

    fn put(&mut self, key: &[u8], value: &[u8], live: bool) {
        let before = loop {
            match put(&mut self.pages, &mut self.root, key, value, live) {
                Err(Error::Miss(no)) => self.pages.bring_in(no),
                done => break done.unwrap(),
            }
        };
        let old = self.model.insert(key.to_vec(), (value.to_vec(), live));
        assert_eq!(before, before_of(old));
    }

    fn remove(&mut self, key: &[u8]) {
        let before = loop {
            match remove(&mut self.pages, &mut self.root, key) {
                Err(Error::Miss(no)) => self.pages.bring_in(no),
                done => break done.unwrap(),
            }
        };
        assert_eq!(before, before_of(self.model.remove(key)));
    }

    /// Ends the batch; the version so far becomes the snapshot if there was none.
    fn publish(&mut self) {
        self.pages.publish();
        if self.snapshot.is_none() {
            self.snapshot = Some((self.root, self.model.clone()));
        }
    }

    fn drop_snapshot(&mut self) {
        self.verify_snapshot();
        self.snapshot = None;
        self.pages.reclaim();
    }

    fn verify_snapshot(&mut self) {
        if let Some((root, model)) = &self.snapshot {
            assert_eq!(scan(&mut self.pages, root, From::At(b""), None), *model);
        }
    }

    fn verify(&mut self) -> Report {
        let (root, model) = (self.root, &self.model);
        assert_eq!(scan(&mut self.pages, &root, From::At(b""), None), *model);
        assert_eq!(root.entries, model.len() as u64);
        assert_eq!(root.live, model.values().filter(|(_, live)| *live).count() as u64);
        self.pages.bring_in_all();
        let report = check(&self.pages, &root, |_, _| {}).unwrap();
        assert_eq!(report.pages(), self.pages.in_use(), "pages were lost");
        report
    }

    /// A get, a count and a scan between two keys.
    fn probe(&mut self, a: &[u8], b: &[u8]) {
        let root = self.root;
        let found = loop {
            match get(&self.pages, &root, a) {
                Err(Error::Miss(no)) => self.pages.bring_in(no),
                done => break done.unwrap().map(|found| (found.value.into_owned(), found.live)),
            }
        };
        assert_eq!(found.as_ref(), self.model.get(a));
        let counted = loop {
            match count(&self.pages, &root, a, Some(b)) {
                Err(Error::Miss(no)) => self.pages.bring_in(no),
                done => break done.unwrap(),
            }
        };
        let between: Model = if a <= b {
            self.model.range(a.to_vec()..b.to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect()
        } else {
            Model::new()
        };
        assert_eq!(counted, between.values().filter(|(_, live)| *live).count() as u64);
        assert_eq!(scan(&mut self.pages, &root, From::At(a), Some(b)), between);
        let mut behind = between;
        behind.remove(a);
        assert_eq!(scan(&mut self.pages, &root, From::After(a), Some(b)), behind);
    }
}

fn before_of(old: Option<(Vec<u8>, bool)>) -> Before {
    match old {
        None => Before::Absent,
        Some((_, true)) => Before::Live,
        Some((_, false)) => Before::Dead,
    }
}

/// Everything a cursor yields, in spite of misses; checks the order on the way.
fn scan(pages: &mut TestPages, root: &Root, from: From<'_>, end: Option<&[u8]>) -> Model {
    let mut all = Model::new();
    let (mut key, mut behind) = match from {
        From::At(key) => (key.to_vec(), false),
        From::After(key) => (key.to_vec(), true),
    };
    loop {
        let from = if behind { From::After(&key) } else { From::At(&key) };
        let mut cursor = Cursor::new(pages, root, from, end);
        let missed = loop {
            match cursor.next() {
                Ok(Some(item)) => {
                    assert!(all.last_key_value().is_none_or(|(last, _)| last.as_slice() < item.key));
                    all.insert(item.key.to_vec(), (item.value.into_owned(), item.live));
                }
                Ok(None) => return all,
                Err(Error::Miss(no)) => break no,
                Err(damaged) => panic!("{damaged}"),
            }
        };
        (behind, key) = match cursor.resume() {
            From::At(key) => (false, key.to_vec()),
            From::After(key) => (true, key.to_vec()),
        };
        pages.bring_in(missed);
    }
}

/// Keys of many shapes: short ones with zeroes, families with long common prefixes, and some longer than a page.
fn key_of(number: usize) -> Vec<u8> {
    let (shape, n) = (number % 8, number / 8);
    match shape {
        0 => vec![0; n % 12],
        1 => (n as u32).to_be_bytes().iter().copied().skip_while(|&byte| byte == 0).collect(),
        2 | 3 => format!("/registry/pods/namespace-{:02}/pod-{n:08}", n % 7).into_bytes(),
        4 => [&[b'p'; 240][..], n.to_string().as_bytes()].concat(),
        5 => [&[b'q'; 1000][..], n.to_string().as_bytes(), &[0; 20][..n % 20]].concat(),
        6 => [&[b'r'; 5000][..], n.to_string().as_bytes()].concat(),
        _ => [n.to_string().as_bytes(), &vec![b's'; 900 + n % 5000]].concat(),
    }
}

fn value_of(number: usize) -> Vec<u8> {
    let len = if number.is_multiple_of(20) { number % 9000 } else { number % 40 };
    vec![number as u8; len]
}

/// Random operations on about `keys` keys with batches of about `batch`.
fn run(seed: u64, ops: usize, keys: usize, batch: usize, puts_of_10: usize) {
    let mut world = World::new(seed);
    for _ in 0..ops {
        let (number, other) = (world.random.below(keys), world.random.below(keys));
        let key = key_of(number);
        if world.random.below(10) < puts_of_10 {
            let (value, live) = (value_of(world.random.below(10_000)), world.random.below(4) > 0);
            world.put(&key, &value, live);
        } else {
            world.remove(&key);
        }
        if world.random.below(batch) == 0 {
            world.publish();
            world.pages.evict(&mut world.random, 3);
            world.probe(&key, &key_of(other));
            match world.random.below(8) {
                0 => world.drop_snapshot(),
                1 if keys < 200 || world.random.below(10) == 0 => drop(world.verify()),
                _ => {}
            }
        }
    }
    world.verify();
    world.verify_snapshot();
    let rest: Vec<_> = world.model.keys().cloned().collect();
    for key in rest {
        world.remove(&key);
    }
    world.verify();
    assert!(ops < 1000 || world.pages.misses.get() > 0);
}

const SIZE: usize = if cfg!(miri) { 60 } else { 6000 };

#[test]
fn random_operations_agree_with_a_map() {
    for (seed, keys, batch, puts) in
        [(1, 12, 3, 5), (2, 100, 8, 5), (3, 600, 20, 6), (4, 3000, 50, 7), (5, 3000, 50, 4)]
    {
        run(seed, SIZE, keys, batch, puts);
    }
}

#[test]
fn loads_in_any_order_fill_their_pages() {
    let count = if cfg!(miri) { 100 } else { 20_000u32 };
    let check = |name, order: &mut dyn Iterator<Item = u32>, fill: std::ops::Range<f64>| {
        let mut world = World::new(7);
        for (i, n) in order.enumerate() {
            world.put(format!("k/registry/leases/node-{n:08}").as_bytes(), b"twelve bytes", true);
            if i % 128 == 0 {
                world.publish();
                world.snapshot = None;
                world.pages.reclaim();
            }
        }
        let report = world.verify();
        assert!(cfg!(miri) || fill.contains(&report.fill()), "{name}: {report:?} {}", report.fill());
    };
    check("ascending", &mut (0..count), 0.85..0.95);
    check("descending", &mut (0..count).rev(), 0.45..0.55);
    let mut random = Random(1);
    let mut shuffled: Vec<_> = (0..count).collect();
    shuffled.sort_by_cached_key(|_| random.next());
    check("shuffled", &mut shuffled.into_iter(), 0.6..0.75);
}

#[test]
fn a_bulk_load_is_the_same_tree() {
    for keys in [0, 1, 2, 30, if cfg!(miri) { 60 } else { 8000 }] {
        let mut world = World::new(0);
        let entry = |n: usize| (key_of(n), (value_of(n), n % 3 < 2));
        world.model = (0..keys).map(entry).collect();
        let mut builder = Builder::default();
        for (i, (key, (value, live))) in world.model.iter().enumerate() {
            builder.push(&mut world.pages, key, value, *live);
            if i % 100 == 0 {
                world.pages.publish();
            }
        }
        world.root = builder.finish(&mut world.pages);
        world.publish();
        let report = world.verify();
        assert!(keys < 8000 || report.fill() > 0.6, "{report:?}");
        for n in 0..keys.min(50) {
            world.put(&key_of(n * 3 + 1), b"changed", true);
            world.remove(&key_of(n * 5));
        }
        world.verify();
        world.verify_snapshot();
    }
}

/// The first separator of an inner page may be all of its prefix, and so look like the empty one in slot 0.
#[test]
fn a_separator_equal_to_the_prefix_is_above_the_first_child() {
    for below in 1..if cfg!(miri) { 3 } else { 40 } {
        let mut world = World::new(0);
        let first = (0..below).map(|n| format!("aa{n:02}")).chain(["ab".into()]);
        for key in first.chain((0..100).map(|n| format!("ab{n:02}"))) {
            world.put(key.as_bytes(), &[1; 250], true);
        }
        world.probe(b"ab", b"ac");
        world.put(b"ab", b"again", false);
        world.verify();
    }
}

#[test]
fn an_empty_tree_has_nothing() {
    let mut world = World::new(0);
    world.probe(b"", b"z");
    world.remove(b"a");
    assert_eq!(world.root, Root::EMPTY);
    world.put(b"a", b"", false);
    world.probe(b"a", b"b");
    world.remove(b"a");
    assert_eq!(world.root, Root::EMPTY);
    assert_eq!(world.pages.in_use(), 0);
}

#[test]
fn keys_of_two_mebibytes_that_differ_at_the_end() {
    let len = if cfg!(miri) { 6000 } else { 2 << 20 };
    let mut world = World::new(0);
    let keys: Vec<_> = (0..12u8).map(|n| [&vec![b'k'; len - 1][..], &[n]].concat()).collect();
    for key in keys.iter().rev() {
        world.put(key, &key[..len / 100], true);
    }
    world.publish();
    world.pages.evict(&mut world.random, 2);
    world.probe(&keys[3], &keys[7]);
    for key in keys.iter().step_by(2) {
        world.remove(key);
    }
    world.verify();
    world.verify_snapshot();
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, usize, bool),
    Remove(usize),
    Publish,
    Probe(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || prop_oneof![0..80usize, 0..4000usize];
    prop_oneof![
        6 => (key(), 0..10_000usize, any::<bool>()).prop_map(|(k, v, live)| Op::Put(k, v, live)),
        3 => key().prop_map(Op::Remove),
        1 => Just(Op::Publish),
        1 => (key(), key()).prop_map(|(a, b)| Op::Probe(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 60 }))]
    #[test]
    fn any_operations_agree_with_a_map(
        seed in any::<u64>(),
        ops in proptest::collection::vec(op(), 0..if cfg!(miri) { 40 } else { 500 }),
    ) {
        let mut world = World::new(seed);
        for op in ops {
            match op {
                Op::Put(k, v, live) => world.put(&key_of(k), &value_of(v), live),
                Op::Remove(k) => world.remove(&key_of(k)),
                Op::Probe(a, b) => world.probe(&key_of(a), &key_of(b)),
                Op::Publish => {
                    world.publish();
                    world.pages.evict(&mut world.random, 2);
                }
            }
        }
        world.verify();
        world.verify_snapshot();
    }
}
