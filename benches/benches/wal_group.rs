//! Group commit: entries of 300 bytes into blocks, on a disk that completes at once.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::disk::Output;
use engine::disk::mem::MemDisk;
use engine::wal::recover::Voters;
use engine::wal::{Config, Entry, EntryId, Identity, Writer, open, recover};

const IDENTITY: Identity = Identity { cluster: 1, member: 2 };

/// An empty log in memory, open for writing.
fn writer() -> Writer {
    let mut disk = MemDisk::new();
    let config = Config { ahead_bytes_min: 4 << 20, ..Config::default() };
    let fresh = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).expect("an empty disk");
    open(&mut disk, &fresh, config, 1 << 40).expect("memory does not fail")
}

/// Blocks are built, with checksums, and their writes reported; the bytes go nowhere.
fn push(writer: &mut Writer, position: u64, entries: &[Entry]) {
    writer.push_entries(position, entries);
    while let Some((token, _)) = writer.poll(true) {
        writer.on_completed(token, Ok(Output::Done)).expect("a write that succeeded");
    }
    assert_eq!(writer.durable(), position);
}

/// One entry a block, and 100 at a time; time of the whole batch, throughput per entry.
fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal_group");
    for count in [1_u64, 100] {
        let data = Bytes::from(vec![b'e'; 300]);
        let entries: Vec<Entry> =
            (1..=count).map(|index| Entry { term: 1, index, kind: 0, data: data.clone() }).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} entries of 300 bytes"), |b| {
            b.iter_batched_ref(writer, |writer| push(writer, 1, &entries), BatchSize::PerIteration)
        });
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
