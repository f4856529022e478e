//! Raft of a single voter: a batch proposed, persisted, committed, applied.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft::{ConfChange, Config, EntryKind, MemberId, Raft};

/// A lone founder that leads and has applied everything.
fn leader() -> Raft {
    let founder = MemberId(1);
    let mut raft = Raft::bootstrap(Config::new(founder, 0), [(founder, Bytes::new())]).expect("one founder");
    raft.campaign();
    settle(&mut raft);
    raft
}

/// Persists and applies until nothing is left to do; entries applied.
fn settle(raft: &mut Raft) -> usize {
    let mut applied = 0;
    loop {
        let append = raft.poll_append();
        let committed = raft.poll_committed(u64::MAX);
        if append.is_none() && committed.is_none() {
            return applied;
        }
        if let Some(append) = append {
            raft.persisted(append.position);
        }
        let Some(entries) = committed else { continue };
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
            raft.apply_conf_change(&ConfChange::decode(&entry.data).expect("the founding entry"));
        }
        applied += entries.len();
        raft.applied(entries.last().expect("a batch is not empty").index);
    }
}

/// Batches of 1 and 100 entries of 300 bytes; throughput per entry.
fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("raft_step");
    let data = Bytes::from(vec![b'e'; 300]);
    for count in [1_usize, 100] {
        let mut raft = leader();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("batch of {count}"), |b| {
            b.iter(|| {
                raft.propose(std::iter::repeat_n(data.clone(), count)).expect("a leader takes proposals");
                assert_eq!(settle(&mut raft), count);
                // Peers there are none, so nobody needs what is applied.
                raft.compact(raft.applied_index());
            })
        });
    }
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);
