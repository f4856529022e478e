//! A whole member without network: puts proposed, logged, committed, applied, answered, on a disk in memory that
//! completes at once.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::disk::mem::MemDisk;
use engine::disk::{Disk, FileName, Op, Outcome, Output};
use engine::map::Limits;
use engine::replica::open::open;
use engine::replica::{CallId, Config, Event, Replica, Work};
use engine::request::{Put, Write};

const KEYS: u64 = 100_000;
const VALUE: &[u8] = &[b'v'; 256];

struct Member {
    replica: Replica,
    disk: MemDisk,
    now: Instant,
    calls: u64,
}

impl Member {
    fn new() -> Member {
        let mut config = Config::new(1, 2, 3);
        config.quota_bytes = None;
        config.checkpoint_log_bytes = 16 << 20;
        config.wal.segment_bytes = 16 << 20;
        config.history.resident_bytes = 8 << 20;
        config.map = Limits { page_count_max: 1 << 20, frame_count_max: 1 << 18, readers_max: 4 };
        let (mut disk, now) = (MemDisk::new(), Instant::now());
        let replica = open(config, &mut disk, None, 1 << 40, now).expect("an empty directory").replica;
        let mut member = Member { replica, disk, now, calls: 0 };
        while !member.replica.raft().is_leader() {
            member.turn();
        }
        member
    }

    /// As many puts at once, all answered on return.
    fn put(&mut self, count: u64) {
        let mut key = *b"/registry/pods/00000000000000000";
        for _ in 0..count {
            self.calls += 1;
            let n = (self.calls % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            key[16..24].copy_from_slice(&n.to_be_bytes());
            let write = Write::Put(Put { key: &key, value: VALUE, ..Put::default() });
            self.replica.propose(self.now, CallId(self.calls), &write, 300).expect("room for a batch");
        }
        let mut answered = 0;
        while answered < count {
            self.turn();
            while let Some(event) = self.replica.poll_event() {
                assert!(matches!(event, Event::Answer { answer: Ok(_), .. }), "{event:?}");
                answered += 1;
            }
        }
    }

    fn turn(&mut self) {
        const SOUND: &str = "memory does not fail";
        self.replica.turn(self.now).expect(SOUND);
        while let Some(work) = self.replica.poll_work() {
            match work {
                Work::Disk(token, op) => {
                    let outcome = self.run(op);
                    self.replica.on_disk(token, outcome).expect(SOUND);
                }
                Work::Checkpoint(mut job) => {
                    let outcome = job.run(&mut self.disk, || {});
                    self.replica.on_checkpoint(job, outcome).expect(SOUND);
                }
                Work::Prefault(prefault) => self.replica.on_prefaulted(prefault.run().expect(SOUND)),
                Work::Populate(populate) => self.replica.on_populated(populate.run()).expect(SOUND),
            }
        }
    }

    /// The history is only ever written here, and would fill the memory.
    fn run(&mut self, op: Op) -> Outcome {
        match &op {
            Op::Create { file: FileName::History(_), .. } | Op::Write { file: FileName::History(_), .. } => {
                Ok(Output::Done)
            }
            Op::Sync { file: FileName::History(_) } => Ok(Output::Done),
            _ => self.disk.run(op),
        }
    }
}

/// Batches of 1, 10 and 100 puts over 100,000 keys, checkpoints included; throughput per put.
fn puts(c: &mut Criterion) {
    let mut member = Member::new();
    (0..KEYS / 1000).for_each(|_| member.put(1000));
    let mut group = c.benchmark_group("replica");
    for count in [1, 10, 100] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} puts"), |b| b.iter(|| member.put(count)));
    }
    group.finish();
}

criterion_group!(benches, puts);
criterion_main!(benches);
