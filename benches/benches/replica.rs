//! Whole members without sockets: puts proposed, logged, committed, applied, answered, on disks in memory that complete at
//! once. One alone; and three, of which the first leads and is told apart from a follower: what replication adds to a put
//! on each machine, but for the wire.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::time::{Duration, Instant};

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
    /// What was done here took so long.
    spent: Duration,
}

impl Member {
    fn new(id: u64, founders: u64) -> Member {
        let mut config = Config::new(1, id, 3);
        config.founders =
            (1..=founders).map(|id| engine::types::Member { id, ..Default::default() }).collect();
        config.quota_bytes = None;
        config.checkpoint_log_bytes = 16 << 20;
        config.wal.segment_bytes = 16 << 20;
        config.history.resident_bytes = 8 << 20;
        config.map = Limits { page_count_max: 1 << 20, frame_count_max: 1 << 18, readers_max: 4 };
        let (mut disk, now) = (MemDisk::new(), Instant::now());
        let replica = open(config, &mut disk, None, 1 << 40, now).expect("an empty directory").replica;
        Member { replica, disk, now, spent: Duration::ZERO }
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

/// A cluster without a network.
struct Group {
    members: Vec<Member>,
    calls: u64,
}

impl Group {
    /// So many founders, the first of which leads.
    fn led(founders: u64) -> Group {
        let members = (1..=founders).map(|id| Member::new(id, founders)).collect();
        let mut group = Group { members, calls: 0 };
        while !group.members[0].replica.raft().is_leader() {
            // Only this one's time passes.
            let first = &mut group.members[0];
            first.now += Duration::from_millis(100);
            first.replica.handle_timeout(first.now);
            group.turn();
        }
        (0..KEYS / 1000).for_each(|_| group.put(1000));
        group
    }

    /// As many puts at once, all answered on return.
    fn put(&mut self, count: u64) {
        let mut key = *b"/registry/pods/00000000000000000";
        let begun = Instant::now();
        let Member { replica, now, .. } = &mut self.members[0];
        for _ in 0..count {
            self.calls += 1;
            let n = (self.calls % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            key[16..24].copy_from_slice(&n.to_be_bytes());
            let write = Write::Put(Put { key: &key, value: VALUE, ..Put::default() });
            replica.propose(*now, CallId(self.calls), &write, 300).expect("room for a batch");
        }
        self.members[0].spent += begun.elapsed();
        let mut answered = 0;
        while answered < count {
            self.turn();
            while let Some(event) = self.members[0].replica.poll_event() {
                assert!(matches!(event, Event::Answer { answer: Ok(_), .. }), "{event:?}");
                answered += 1;
            }
        }
    }

    /// A turn of each, and what it has to say to the others.
    fn turn(&mut self) {
        for from in 0..self.members.len() {
            let begun = Instant::now();
            self.members[from].turn();
            let messages: Vec<_> = std::iter::from_fn(|| self.members[from].replica.poll_message()).collect();
            self.members[from].spent += begun.elapsed();
            for message in messages {
                let begun = Instant::now();
                let to = &mut self.members[message.to() as usize - 1];
                to.replica.step(to.now, message).expect("members are sound");
                to.spent += begun.elapsed();
            }
        }
    }

    /// Time that one of them spends on `iterations` batches.
    fn time(&mut self, member: usize, iterations: u64, count: u64) -> Duration {
        let before = self.members[member].spent;
        (0..iterations).for_each(|_| self.put(count));
        self.members[member].spent - before
    }
}

/// Batches of 1, 10 and 100 puts over 100,000 keys, checkpoints included; throughput per put.
fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("replica");
    for (who, founders, member) in [("", 1, 0), (", leader of three", 3, 0), (", follower of three", 3, 1)] {
        let mut members = Group::led(founders);
        for count in [1, 10, 100] {
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("{count} puts{who}"), |b| {
                b.iter_custom(|iterations| members.time(member, iterations, count))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, puts);
criterion_main!(benches);
