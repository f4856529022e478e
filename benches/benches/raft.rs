//! Raft of three voters without network and disks: what the core itself costs from a proposal to its application on
//! all three.
//!
//! `KONTIKI_RAFT_COMMITS=n` commits n batches of `KONTIKI_RAFT_BATCH` entries and ends, for tools that count:
//! `valgrind` says how many allocations that took (`docs/raft.md`).
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group};
use raft::{ConfChange, Config, EntryKind, MemberId, Raft};

/// Three founders, the first of which leads.
struct Group {
    members: Vec<Raft>,
    /// Inputs given so far: proposals, messages, completions.
    steps: u64,
}

impl Group {
    fn led() -> Self {
        let founders = || (1..=3).map(|id| (MemberId(id), Bytes::new()));
        let member = |id| {
            let config = Config { kept_entries_max: 64, ..Config::new(MemberId(id), id) };
            Raft::bootstrap(config, founders()).expect("it is one of the founders")
        };
        let mut group = Self { members: (1..=3).map(member).collect(), steps: 0 };
        group.settle();
        group.members[0].campaign();
        group.settle();
        assert!(group.members[0].is_leader(), "nobody else asked");
        group
    }

    /// Proposes `count` entries in one batch, and goes on until all three have applied them.
    fn commit(&mut self, data: &Bytes, count: usize) {
        let batch = std::iter::repeat_n(data.clone(), count);
        let last = self.members[0].propose(batch).expect("a leader takes proposals").last;
        self.steps += 1;
        self.settle();
        for raft in &mut self.members {
            assert_eq!(raft.applied_index(), last);
            raft.compact(last);
        }
    }

    fn settle(&mut self) {
        while (0..self.members.len()).filter(|&n| self.turn(n)).count() > 0 {}
    }

    /// One turn of a driver whose disk completes at once; whether there was anything to do.
    fn turn(&mut self, n: usize) -> bool {
        let before = self.steps;
        while let Some(message) = self.members[n].poll_message() {
            let to = message.to.0 as usize - 1;
            self.members[to].step(message).expect("members are sound");
            self.steps += 1;
        }
        if let Some(append) = self.members[n].poll_append() {
            self.members[n].persisted(append.position);
            self.steps += 1;
        }
        while let Some(entries) = self.members[n].poll_committed(u64::MAX) {
            for entry in entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
                let change = ConfChange::decode(&entry.data).expect("raft has read it");
                self.members[n].apply_conf_change(&change);
            }
            self.members[n].applied(entries.last().expect("a batch is not empty").index);
            self.steps += 1;
        }
        self.steps > before
    }
}

/// Batches of 1 and 100 entries of 300 bytes: per batch and entry, and per step of any of the three.
fn three_members(c: &mut Criterion) {
    let data = Bytes::from(vec![b'e'; 300]);
    let mut group = c.benchmark_group("raft");
    group.measurement_time(Duration::from_secs(3));
    for count in [1_usize, 100] {
        let mut members = Group::led();
        let before = members.steps;
        members.commit(&data, count);
        let steps = members.steps - before;
        for (unit, elements) in [("entries", count as u64), ("steps", steps)] {
            group.throughput(Throughput::Elements(elements));
            group.bench_function(format!("three members, batch of {count}, {unit}"), |b| {
                b.iter(|| members.commit(&data, count))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, three_members);

fn main() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let Some(commits) = number("KONTIKI_RAFT_COMMITS") else {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    };
    let data = Bytes::from(vec![b'e'; 300]);
    let mut members = Group::led();
    for _ in 0..commits {
        members.commit(&data, number("KONTIKI_RAFT_BATCH").unwrap_or(1));
    }
    println!("{} steps", members.steps);
}
