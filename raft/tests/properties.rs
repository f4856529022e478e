//! Random schedules: whatever the order of time, messages, writes, crashes and requests, the invariants hold,
//! and once the faults end the cluster agrees and makes progress.

mod harness;

use bytes::Bytes;
use harness::Cluster;
use proptest::prelude::*;
use raft::{ConfChange, ConfChangeOp, LogIndex, MemberId};

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
    Write(u8),
    Persist(u8),
    Propose(u8),
    Read(u8),
    ReadAndPropose(u8),
    Transfer(u8, u8),
    ConfChange(u8, u8),
    Compact(u8),
    Restart(u8),
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
        5 => any::<u8>().prop_map(Event::Write),
        5 => any::<u8>().prop_map(Event::Persist),
        8 => any::<u8>().prop_map(Event::Propose),
        4 => any::<u8>().prop_map(Event::Read),
        2 => any::<u8>().prop_map(Event::ReadAndPropose),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(id, to)| Event::Transfer(id, to)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(id, change)| Event::ConfChange(id, change)),
        1 => any::<u8>().prop_map(Event::Compact),
        1 => any::<u8>().prop_map(Event::Restart),
        2 => any::<u8>().prop_map(Event::Isolate),
        8 => Just(Event::Heal),
        2 => any::<u8>().prop_map(Event::Depose),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(id, holds)| Event::Hold(id, holds)),
    ]
}

fn happen(cluster: &mut Cluster, event: &Event) {
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
        Event::Isolate(id) => cluster.isolate(pick(id)),
        Event::Heal => cluster.heal(),
        Event::Depose(n) => depose(cluster, n),
        Event::Hold(id, holds) => {
            cluster.node(pick(id)).applies = !holds;
            cluster.observe(pick(id));
        }
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

/// Faults are over: within a few election timeouts somebody leads, and what it accepts reaches everybody.
fn must_recover(cluster: &mut Cluster) {
    cluster.heal();
    cluster.nodes.values_mut().for_each(|node| node.applies = true);
    cluster.settle();
    for _ in 0..20 {
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

fn run(ids: &[u64], events: &[Event]) {
    let mut cluster = Cluster::tuned(ids, |config| {
        config.inflight_count_max = 3;
        config.append_bytes_max = 60;
        config.kept_entries_max = 3;
    });
    cluster.join(JOINER);
    for event in events {
        happen(&mut cluster, event);
    }
    must_recover(&mut cluster);
}

/// The member that comes and goes.
const JOINER: u64 = 9;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_voter_keeps_the_invariants(events in proptest::collection::vec(event(), 1..200)) {
        run(&[1], &events);
    }

    #[test]
    fn three_voters_keep_the_invariants(events in proptest::collection::vec(event(), 1..500)) {
        run(&[1, 2, 3], &events);
    }

    #[test]
    fn five_voters_keep_the_invariants(events in proptest::collection::vec(event(), 1..500)) {
        run(&[1, 2, 3, 4, 5], &events);
    }
}
