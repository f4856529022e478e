//! Random schedules: whatever the order of time, messages, writes, crashes, damage and requests, the invariants hold,
//! and once the faults end the cluster agrees and makes progress within a bounded number of ticks (18).
//!
//! Everything follows from one number. `KONTIKI_RAFT_SEEDS=0..200000 cargo test --release -p kontiki-raft --test
//! properties` is a night's worth, `=17..18` one schedule; without it 500 are run. A schedule that fails is made
//! shorter before it is shown; `KONTIKI_RAFT_TRACE=1` shows what happened in each try, the shortest last.

mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;
use harness::{Cluster, Node};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use raft::{ConfChange, ConfChangeOp, Config, EntryKind, LogIndex, MemberId, Message};

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    /// Ordinary life: each member whose bit is set completes a write, then what is on the wire arrives in
    /// order.
    Turn(u8),
    Tick(u8, u8),
    Deliver(u8),
    Drop(u8),
    Repeat(u8),
    /// A message overtakes all others.
    Overtake(u8),
    /// A copy of a message is kept back; all copies kept arrive after what is on the wire.
    Keep(u8),
    Replay,
    /// One direction of one link fails.
    Block(u8, u8),
    Write(u8),
    Persist(u8),
    Propose(u8),
    Read(u8),
    ReadAndPropose(u8),
    Transfer(u8, u8),
    ConfChange(u8, u8),
    Compact(u8),
    Restart(u8),
    Checkpoint(u8),
    /// A disk loses the newest of its completed writes.
    Corrupt(u8, u8),
    Forward(u8),
    Unreachable(u8, u8),
    Isolate(u8),
    Heal,
    /// The leader is cut off and goes on proposing, while time passes for the others.
    Depose(u8),
    /// Applying stops, or goes on.
    Hold(u8, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => any::<u8>().prop_map(Event::Turn),
        6 => (any::<u8>(), 1u8..16).prop_map(|(id, times)| Event::Tick(id, times)),
        10 => any::<u8>().prop_map(Event::Deliver),
        4 => any::<u8>().prop_map(Event::Drop),
        3 => any::<u8>().prop_map(Event::Repeat),
        4 => any::<u8>().prop_map(Event::Overtake),
        2 => any::<u8>().prop_map(Event::Keep),
        1 => Just(Event::Replay),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Event::Block(from, to)),
        5 => any::<u8>().prop_map(Event::Write),
        5 => any::<u8>().prop_map(Event::Persist),
        8 => any::<u8>().prop_map(Event::Propose),
        4 => any::<u8>().prop_map(Event::Read),
        2 => any::<u8>().prop_map(Event::ReadAndPropose),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(id, to)| Event::Transfer(id, to)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(id, change)| Event::ConfChange(id, change)),
        1 => any::<u8>().prop_map(Event::Compact),
        1 => any::<u8>().prop_map(Event::Restart),
        1 => any::<u8>().prop_map(Event::Checkpoint),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(id, count)| Event::Corrupt(id, count)),
        2 => any::<u8>().prop_map(Event::Forward),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(id, peer)| Event::Unreachable(id, peer)),
        2 => any::<u8>().prop_map(Event::Isolate),
        8 => Just(Event::Heal),
        2 => any::<u8>().prop_map(Event::Depose),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(id, holds)| Event::Hold(id, holds)),
    ]
}

fn happen(cluster: &mut Cluster, later: &mut Vec<Message>, event: &Event) {
    let ids = cluster.ids();
    let pick = |n: u8| ids[n as usize % ids.len()];
    // A leader, where only a leader makes the event interesting.
    let leader = |cluster: &Cluster, n: u8| cluster.leader().filter(|_| n > 32).unwrap_or(pick(n));
    let on_wire = |cluster: &Cluster, n: u8| n as usize % cluster.wire.len().max(1);
    match *event {
        Event::Turn(bits) => turn(cluster, bits),
        Event::Tick(id, times) => (0..times).for_each(|_| cluster.tick(pick(id))),
        Event::Deliver(n) => cluster.deliver(on_wire(cluster, n)),
        Event::Drop(n) => {
            let n = on_wire(cluster, n);
            cluster.drop(n);
        }
        Event::Repeat(n) => {
            let n = on_wire(cluster, n);
            let repeated = cluster.wire.get(n).cloned();
            cluster.wire.extend(repeated);
        }
        Event::Overtake(n) => {
            let n = on_wire(cluster, n);
            if let Some(message) = cluster.wire.remove(n) {
                cluster.wire.push_front(message);
            }
        }
        Event::Keep(n) => later.extend(cluster.wire.get(on_wire(cluster, n)).cloned()),
        Event::Replay => cluster.wire.extend(later.drain(..)),
        Event::Block(from, to) => {
            cluster.cut.insert((pick(from), pick(to)));
        }
        Event::Write(id) => {
            cluster.write(pick(id));
        }
        Event::Persist(id) => {
            cluster.persist(pick(id));
        }
        Event::Propose(n) => {
            let _ = cluster.propose(leader(cluster, n), &["x", "y"][..1 + n as usize % 2]);
        }
        Event::Read(n) => {
            let _ = cluster.read(pick(n));
        }
        Event::ReadAndPropose(n) => {
            let id = leader(cluster, n);
            if cluster.nodes[&id].raft.is_leader() {
                let _ = cluster.read(id);
                let _ = cluster.propose(id, &["z"]);
            }
        }
        Event::Transfer(n, to) => {
            let id = leader(cluster, n);
            let _ = cluster.raft(id).transfer(MemberId(pick(to)));
            cluster.observe(id);
        }
        Event::ConfChange(n, change) => {
            let op =
                [ConfChangeOp::AddLearner, ConfChangeOp::AddVoter, ConfChangeOp::Remove][change as usize % 3];
            let id = leader(cluster, n);
            // Founders stay, so that the members left at the end are known to be able to agree.
            let change = ConfChange { op, member: MemberId(JOINER), context: Bytes::new() };
            let _ = cluster.propose_conf_change(id, &change);
        }
        Event::Compact(id) => {
            let id = pick(id);
            let applied = cluster.nodes[&id].raft.applied_index();
            cluster.raft(id).compact(applied);
        }
        Event::Restart(id) => cluster.restart(pick(id)),
        Event::Checkpoint(id) => cluster.checkpoint(pick(id)),
        Event::Corrupt(id, count) => corrupt(cluster, pick(id), count as usize % 4),
        Event::Forward(n) => {
            let id = pick(n);
            let _ = cluster.raft(id).forward(EntryKind::Normal, vec![Bytes::from_static(b"f")]);
            cluster.observe(id);
        }
        Event::Unreachable(id, peer) => cluster.unreachable(pick(id), pick(peer)),
        Event::Isolate(id) => cluster.isolate(pick(id)),
        Event::Heal => cluster.heal(),
        Event::Depose(n) => depose(cluster, n),
        Event::Hold(id, holds) => {
            cluster.node(pick(id)).applies = !holds;
            cluster.observe(pick(id));
        }
    }
}

/// One member at a time: with two, nobody can tell any more what was promised, and the cluster must stop for ever.
fn corrupt(cluster: &mut Cluster, id: u64, count: usize) {
    let sound = |(other, node): (&u64, &Node)| *other == id || node.disk.recovering.is_none();
    let founders = cluster.nodes.keys().filter(|id| **id != JOINER).count();
    if founders > 2 && cluster.nodes.iter().all(sound) {
        cluster.corrupt(id, count);
    }
}

fn turn(cluster: &mut Cluster, bits: u8) {
    for (n, id) in cluster.ids().into_iter().enumerate() {
        cluster.write(id);
        if bits >> n & 1 == 1 {
            cluster.persist(id);
        }
        cluster.observe(id);
    }
    (0..cluster.wire.len()).for_each(|_| cluster.deliver(0));
}

fn depose(cluster: &mut Cluster, n: u8) {
    let Some(leader) = cluster.leader() else { return };
    cluster.isolate(leader);
    for _ in 0..n % 4 {
        let _ = cluster.propose(leader, &["lost"]);
        turn(cluster, n);
    }
    for id in cluster.ids().into_iter().filter(|&id| id != leader) {
        (0..10 + n % 12).for_each(|_| cluster.tick(id));
    }
    (0..4 + n % 4).for_each(|_| turn(cluster, u8::MAX));
    cluster.rejoin(leader);
}

/// Faults are over: within a hundred election timeouts somebody leads, and what it accepts reaches everybody. So many,
/// because without pre-vote the one member that can win may have to wait until it is the first to ask.
fn must_recover(cluster: &mut Cluster) {
    cluster.heal();
    cluster.nodes.values_mut().for_each(|node| node.applies = true);
    cluster.settle();
    for _ in 0..100 {
        cluster.pass(10);
        let Some(leader) = cluster.leader() else { continue };
        if cluster.propose(leader, &["last"]).is_err() {
            continue;
        }
        cluster.settle();
        cluster.pass(3);
        let commit = cluster.nodes[&leader].raft.commit_index();
        let members = cluster.nodes[&leader].raft.conf_state().clone();
        let agree = members.members().all(|id| cluster.nodes[&id.0].raft.applied_index() == commit);
        if agree && commit == cluster.nodes[&leader].raft.last_index() && commit > LogIndex(0) {
            return;
        }
    }
    panic!("no agreement after the faults ended:\n{}", tail(&cluster.trace));
}

fn tail(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().collect();
    lines[lines.len().saturating_sub(200)..].join("\n")
}

/// What a seed decides beside the events: how many members, and how they are configured.
fn world(seed: u64) -> Cluster {
    let ids: &[u64] = [&[1, 2, 3][..], &[1, 2, 3, 4, 5], &[1, 2, 3], &[1, 2, 3, 4], &[1]][seed as usize % 5];
    let mut cluster = Cluster::empty();
    cluster.config = Config {
        inflight_count_max: 1 + seed as usize / 5 % 4,
        append_bytes_max: 60,
        kept_entries_max: seed / 20 % 4,
        pre_vote: seed % 7 != 3,
        check_quorum: seed % 9 != 5,
        uncommitted_bytes_max: if seed % 4 == 1 { 120 } else { 1 << 20 },
        seed,
        ..Config::new(MemberId(1), seed)
    };
    cluster.found_all(ids);
    cluster.join(JOINER);
    cluster
}

fn run(seed: u64, events: &[Event]) {
    let mut cluster = world(seed);
    let mut later = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for event in events {
            happen(&mut cluster, &mut later, event);
        }
        must_recover(&mut cluster);
    }));
    if let Err(panic) = outcome {
        if std::env::var_os("KONTIKI_RAFT_TRACE").is_some() {
            eprintln!("{}", cluster.trace);
        }
        resume_unwind(panic);
    }
}

/// The member that comes and goes.
const JOINER: u64 = 9;

#[test]
fn every_seed_keeps_the_invariants() {
    let seeds = std::env::var("KONTIKI_RAFT_SEEDS").unwrap_or("0..500".into());
    let bound = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("seeds as 0..500, not {seeds}"));
    let (from, to) = seeds.split_once("..").unwrap_or_else(|| panic!("seeds as 0..500, not {seeds}"));
    for seed in bound(from)..bound(to) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = ProptestConfig { cases: 1, failure_persistence: None, ..ProptestConfig::default() };
        let events = proptest::collection::vec(event(), 1..600);
        let result = TestRunner::new_with_rng(config, rng).run(&events, |events| {
            run(seed, &events);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
