//! The store: index and history alone, and commands applied to both. 100,000 keys of Kubernetes' shape in real page
//! memory; nothing reaches a disk.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::collections::BTreeSet;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::apply::Applying;
use engine::command::{self, RequestId};
use engine::disk::Output;
use engine::disk::mem::MemDisk;
use engine::map::{self, Limits, Writer};
use engine::mvcc::history::record::{Change, NewRecord};
use engine::mvcc::history::{Config, History};
use engine::mvcc::index::{Index, Root};
use engine::mvcc::range::Progress;
use engine::mvcc::reclaim::Reclaim;
use engine::mvcc::store::{State, Store};
use engine::mvcc::walk::Budget;
use engine::request::{KeyRange, Put, RangeEnd, Write};
use engine::types::{LeaseId, Seq};

const KEYS: u64 = 100_000;
const BATCH: u64 = 100;
const VALUE: &[u8] = &[b'v'; 256];

/// The history's memory is bounded, as in a server.
const RESIDENT_BYTES: usize = 8 << 20;

fn key(n: u64) -> Vec<u8> {
    let n = (n % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("/registry/pods/ns-{:03}/pod-{n:016x}", n % 500).into_bytes()
}

fn empty_history() -> History {
    History::new(Config { resident_bytes: RESIDENT_BYTES, ..Config::default() })
}

fn empty() -> Store<Writer> {
    let limits = Limits { page_count_max: 1 << 20, frame_count_max: 1 << 18, readers_max: 4 };
    let pages = map::open(&mut MemDisk::new(), None, limits).expect("an empty index in memory").writer;
    let history = empty_history();
    let index = Index::new(pages, Root::EMPTY);
    Store::new(index, history, State::INITIAL, BTreeSet::new(), Reclaim::default())
}

/// Entries of the log that put the keys from `first` on.
fn puts(first: u64) -> Vec<Bytes> {
    let encoded = |n| {
        let (key, mut entry) = (key(n), Vec::new());
        let put = Put { key: &key, value: VALUE, ..Put::default() };
        command::encode(&mut entry, RequestId(n), &Write::Put(put));
        Bytes::from(entry)
    };
    (first..first + BATCH).map(encoded).collect()
}

/// Applies them as one published batch.
fn apply(store: &mut Store<Writer>, entries: &[Bytes]) {
    for entry in entries {
        let mut applying = Applying::new(entry.clone()).expect("a command just encoded");
        let mut budget = Budget::SLICE;
        let progress = applying.advance(store, &mut budget).expect("all is in memory");
        assert!(matches!(progress, Progress::Done(Ok(_))), "{progress:?}");
    }
    let (root, _) = store.publish().expect("all is in memory");
    store.pages_mut().publish(root.page, [0; 6]);
    drain(store.history_mut());
}

/// Takes the history's writes, which go nowhere.
fn drain(history: &mut History) {
    while let Some((token, _)) = history.poll_disk() {
        history.on_completed(token, Ok(Output::Done)).expect("a write that succeeded");
    }
}

fn filled() -> Store<Writer> {
    let mut store = empty();
    for first in (0..KEYS).step_by(BATCH as usize) {
        apply(&mut store, &puts(first));
    }
    store
}

/// Commands: 100 puts of 256 bytes to keys that exist, decoded, applied and published; throughput per put.
fn apply_puts(c: &mut Criterion) {
    let mut store = filled();
    let batches: Vec<Vec<Bytes>> = (0..KEYS / BATCH).map(|n| puts(n * BATCH)).collect();
    let mut next = batches.iter().cycle();
    let mut group = c.benchmark_group("mvcc/apply");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("100 puts", |b| {
        b.iter(|| apply(&mut store, next.next().expect("a cycle does not end")))
    });
    group.finish();
}

/// The tree: one key's entry read; the same entry written, in batches of 100; a scan of 1,000 keys.
fn index(c: &mut Criterion) {
    let store = filled();
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let mut at = (0..KEYS as usize).cycle();
    let mut pick = || &keys[at.next().expect("a cycle does not end")];
    let view = store.view().index;
    c.bench_function("mvcc/index get", |b| b.iter(|| black_box(view.get(pick()))));
    let mut group = c.benchmark_group("mvcc/index scan");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 keys", |b| {
        b.iter(|| {
            let mut scan = view.scan(KeyRange { key: pick(), end: RangeEnd::Unbounded });
            for _ in 0..1000 {
                black_box(scan.next()).expect("all is in memory");
            }
        })
    });
    group.finish();

    let entry = view.get(&keys[0]).expect("all is in memory").expect("the key was put");
    let mut store = store;
    let limits = Limits { page_count_max: 1 << 20, frame_count_max: 1 << 18, readers_max: 4 };
    let pages = map::open(&mut MemDisk::new(), None, limits).expect("an empty index in memory").writer;
    let mut index = Index::new(pages, Root::EMPTY);
    drain(store.history_mut());
    let mut put = |count: usize| {
        for _ in 0..count {
            index.put(pick(), &entry).expect("all is in memory");
        }
        let root = index.root();
        index.pages_mut().publish(root.page, [0; 6]);
    };
    (0..KEYS / BATCH).for_each(|_| put(BATCH as usize));
    let mut group = c.benchmark_group("mvcc/index put");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("100 entries", |b| b.iter(|| put(BATCH as usize)));
    group.finish();
}

/// Records: one appended as a transaction of its own, and one that is resident found.
fn history(c: &mut Criterion) {
    let mut history = empty_history();
    let key = key(7);
    let mut append = || {
        let main = history.last_main().next();
        let change = Change::Put { value: VALUE, created: main, version: 1, lease: LeaseId::NONE };
        let seq = history.append(&NewRecord { main, sub: 0, prev: None, key: &key, change });
        history.end_transaction();
        drain(&mut history);
        seq
    };
    c.bench_function("mvcc/history append", |b| b.iter(&mut append));
    let newest = (0..10_000).map(|_| append()).last().expect("ten thousand");
    let mut back = (0..1000).cycle();
    c.bench_function("mvcc/history get", |b| {
        b.iter(|| {
            let seq = Seq(newest.0 - back.next().expect("a cycle does not end"));
            black_box(history.record(seq).expect("the newest megabytes are resident"));
        })
    });
}

criterion_group!(benches, index, history, apply_puts);
criterion_main!(benches);
