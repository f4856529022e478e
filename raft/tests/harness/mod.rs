//! A cluster in memory: members, their disks, the wire between them. Deterministic, and told what happens
//! when.
//!
//! Every step is traced as text, and [`Invariants`] watches all of it, whichever test drives. Disks complete
//! writes in order and lose what was not completed; the wire holds every message until it is delivered,
//! dropped or repeated.

#![allow(dead_code, reason = "each test binary uses its part")]

mod invariants;
pub mod script;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{
    Append, ConfChange, ConfState, Config, Entry, EntryKind, HardState, LogIndex, MemberId, Message, Payload,
    Promise, ProposeError, Proposed, Raft, ReadError, ReadRound, Restored, Role, SnapshotMeta, Term,
};

use invariants::Invariants;

/// Members by number, and everything between them.
pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub wire: VecDeque<Message>,
    /// Links (from, to) that lose everything sent into them.
    pub cut: BTreeSet<(u64, u64)>,
    pub trace: String,
    /// What members are started with, but for who they are.
    pub config: Config,
    invariants: Invariants,
}

/// A running member and its disk.
pub struct Node {
    pub raft: Raft,
    pub disk: Disk,
    /// Writes handed to the disk and not completed, each with whether the member was still recovering then.
    writes: VecDeque<(Append, bool)>,
    /// Whether committed entries are applied as soon as they come out.
    pub applies: bool,
    /// Whether its disk completes nothing by itself.
    pub slow: bool,
    shown: Option<(Role, Term, Option<MemberId>)>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    pub applied: LogIndex,
    pub boundary: (LogIndex, Term),
    pub entries: Vec<Entry>,
    pub recovering: Option<Promise>,
    pub starts: u64,
    /// The newest writes, which damage may take away again, and what there was before them.
    pub recent: VecDeque<Append>,
    pub before: Option<Box<Disk>>,
}

/// How many writes damage can reach back.
const RECENT_MAX: usize = 8;

impl Cluster {
    pub fn empty() -> Self {
        Self {
            nodes: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            trace: String::new(),
            config: Config::new(MemberId(1), 7),
            invariants: Invariants::default(),
        }
    }

    /// Founders `ids`, each with its founding entries durable and applied; nobody leads.
    pub fn tuned(ids: &[u64], tune: fn(&mut Config)) -> Self {
        let mut cluster = Self::empty();
        tune(&mut cluster.config);
        cluster.found_all(ids);
        cluster
    }

    /// Founders `ids`, with the configuration as it is.
    pub fn found_all(&mut self, ids: &[u64]) {
        let cluster = self;
        for &id in ids {
            cluster.found(id, ids);
        }
        cluster.settle();
        cluster.trace.clear();
    }

    /// As [`tuned`](Self::tuned), and the first of them leads in term 2.
    pub fn led(ids: &[u64], tune: fn(&mut Config)) -> Self {
        let mut cluster = Self::tuned(ids, tune);
        cluster.elect(ids[0]);
        cluster
    }

    pub fn elect(&mut self, id: u64) {
        self.raft(id).campaign();
        self.settle();
        assert!(self.nodes[&id].raft.is_leader(), "{id} was not elected:\n{}", self.trace);
        self.trace.clear();
    }

    /// A member that knows nothing yet and waits to be added.
    pub fn join(&mut self, id: u64) {
        self.start(id, Disk::default());
    }

    pub fn found(&mut self, id: u64, ids: &[u64]) {
        let founders = ids.iter().map(|&id| (MemberId(id), Bytes::new()));
        let raft = Raft::bootstrap(self.config(id), founders).unwrap();
        self.insert(id, raft, Disk { starts: 1, ..Disk::default() });
        self.observe(id);
    }

    /// Starts a member on what its disk holds.
    pub fn start(&mut self, id: u64, disk: Disk) {
        self.restore(id, disk);
        self.observe(id);
    }

    fn restore(&mut self, id: u64, disk: Disk) {
        let restored = Restored {
            hard_state: disk.hard_state,
            conf_state: disk.conf_state.clone(),
            applied: disk.applied,
            boundary_index: disk.boundary.0,
            boundary_term: disk.boundary.1,
            entries: disk.entries.clone(),
            starts: disk.starts,
            recovering: disk.recovering,
        };
        let raft = Raft::new(self.config(id), restored).unwrap();
        self.insert(id, raft, Disk { starts: disk.starts + 1, ..disk });
    }

    fn insert(&mut self, id: u64, raft: Raft, disk: Disk) {
        self.invariants.on_start(id, &raft, &disk);
        let node = Node { raft, disk, writes: VecDeque::new(), applies: true, slow: false, shown: None };
        self.nodes.insert(id, node);
    }

    fn config(&self, id: u64) -> Config {
        Config { id: MemberId(id), ..self.config.clone() }
    }

    pub fn raft(&mut self, id: u64) -> &mut Raft {
        &mut self.nodes.get_mut(&id).unwrap_or_else(|| panic!("no member {id}")).raft
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("no member {id}"))
    }

    pub fn leader(&self) -> Option<u64> {
        let leaders = self.nodes.iter().filter(|(_, node)| node.raft.is_leader());
        leaders.max_by_key(|(_, node)| node.raft.term()).map(|(id, _)| *id)
    }

    pub fn tick(&mut self, id: u64) {
        self.raft(id).tick();
        self.observe(id);
    }

    pub fn propose(&mut self, id: u64, data: &[&str]) -> Result<Proposed, ProposeError> {
        let data = data.iter().map(|data| Bytes::copy_from_slice(data.as_bytes()));
        let proposed = self.raft(id).propose(data);
        self.observe(id);
        proposed
    }

    pub fn read(&mut self, id: u64) -> Result<ReadRound, ReadError> {
        let round = self.raft(id).read_index();
        if let Ok(round) = round {
            let commit = self.nodes.values().map(|node| node.raft.commit_index()).max().unwrap_or_default();
            self.invariants.on_read_begun((id, self.nodes[&id].disk.starts), round, commit);
        }
        self.observe(id);
        round
    }

    /// A read and a proposal in the same turn.
    pub fn read_and_propose(&mut self, id: u64, data: &[&str]) -> ReadRound {
        let round = self.raft(id).read_index().expect("a leader is known");
        self.propose(id, data).expect("this member leads");
        round
    }

    pub fn propose_conf_change(&mut self, id: u64, change: &ConfChange) -> Result<Proposed, ProposeError> {
        let proposed = self.raft(id).propose_conf_change(change);
        self.observe(id);
        proposed
    }

    /// Hands the open write of `id` to its disk.
    pub fn write(&mut self, id: u64) -> bool {
        let Some(write) = self.raft(id).poll_append() else { return false };
        self.log(trace::append(id, &write));
        let node = &self.nodes[&id];
        self.invariants.on_write(id, &node.raft, &node.disk, &write);
        let recovering = node.raft.status().recovering;
        self.node(id).writes.push_back((write, recovering));
        true
    }

    /// Completes the oldest write of `id`.
    pub fn persist(&mut self, id: u64) -> bool {
        let node = self.node(id);
        let Some((write, recovering)) = node.writes.pop_front() else { return false };
        let position = write.position;
        let installed = write.snapshot.as_ref().map(|meta| meta.index);
        node.disk.write(write);
        if !recovering {
            node.disk.recovering = None;
        }
        node.raft.persisted(position);
        if let Some(index) = installed {
            node.raft.applied(index);
        }
        self.log(format!("{id} durable @{position}"));
        self.observe(id);
        true
    }

    /// Delivers the `n`th message on the wire.
    pub fn deliver(&mut self, n: usize) {
        let Some(message) = self.wire.remove(n) else { return };
        let (from, to) = (message.from.0, message.to.0);
        if self.cut.contains(&(from, to)) || !self.nodes.contains_key(&to) {
            self.lose(&message);
            return;
        }
        let snapshot = match &message.payload {
            Payload::Snapshot { meta } => Some(meta.index),
            _ => None,
        };
        self.invariants.on_delivered(&message);
        self.raft(to).step(message).unwrap();
        self.observe(to);
        if let (Some(index), Some(sender)) = (snapshot, self.nodes.get_mut(&from)) {
            sender.raft.snapshot_status(MemberId(to), Some(index));
            self.invariants.on_heard(from, MemberId(to));
            self.observe(from);
        }
    }

    /// Loses the `n`th message on the wire.
    pub fn drop(&mut self, n: usize) {
        if let Some(message) = self.wire.remove(n) {
            self.lose(&message);
        }
    }

    /// The sender of a snapshot sees its stream break; of other messages it sees nothing.
    fn lose(&mut self, message: &Message) {
        let (from, to) = (message.from.0, message.to);
        if matches!(message.payload, Payload::Snapshot { .. }) && self.nodes.contains_key(&from) {
            self.raft(from).snapshot_status(to, None);
            self.invariants.on_heard(from, to);
            self.observe(from);
        }
    }

    /// Delivers, writes and completes everything until nothing is left to do. No time passes.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for id in self.ids() {
                if !self.nodes[&id].slow {
                    busy |= self.write(id);
                    while self.persist(id) {}
                }
                self.observe(id);
            }
            for _ in 0..self.wire.len() {
                self.deliver(0);
                busy = true;
            }
            if !busy && self.wire.is_empty() {
                return;
            }
        }
        panic!("the cluster does not come to rest:\n{}", self.trace);
    }

    /// Ticks everybody `count` times, settling in between.
    pub fn pass(&mut self, count: usize) {
        for _ in 0..count {
            for id in self.ids() {
                self.tick(id);
            }
            self.settle();
        }
    }

    /// The process dies: memory and uncompleted writes are lost, messages already sent are not. It starts at
    /// once.
    pub fn restart(&mut self, id: u64) {
        let Node { disk, applies, slow, .. } = self.nodes.remove(&id).expect("running member");
        self.restore(id, disk);
        let node = self.node(id);
        (node.applies, node.slow) = (applies, slow);
        self.observe(id);
    }

    /// The process dies and stays away; its disk is given back.
    pub fn kill(&mut self, id: u64) -> Disk {
        self.nodes.remove(&id).expect("running member").disk
    }

    /// The process dies, and its disk has lost the newest `count` writes it had completed: the member starts as
    /// recovering, as the headers of what is lost still show what was promised.
    pub fn corrupt(&mut self, id: u64, count: usize) {
        let disk = self.kill(id).damaged(count);
        self.invariants.on_damage(id);
        self.restore(id, disk);
        self.observe(id);
    }

    /// The state of `id` reaches its disk if its log has (17), and the log before it goes.
    pub fn checkpoint(&mut self, id: u64) {
        let node = self.node(id);
        let applied = node.raft.applied_index();
        // With writes under way the members as of this entry could be overtaken by older ones.
        let is_stable = node.raft.status().stable_index >= applied;
        let sound = applied > node.disk.applied && node.writes.is_empty() && is_stable;
        if let Some(term) = node.disk.term(applied).filter(|_| sound) {
            node.disk.conf_state = node.raft.conf_state().clone();
            node.disk.entries.retain(|entry| entry.index > applied);
            (node.disk.boundary, node.disk.applied) = ((applied, term), applied);
            node.disk.recent.clear();
            node.disk.before = None;
        }
    }

    /// The driver of `id` sees that messages to `peer` are lost.
    pub fn unreachable(&mut self, id: u64, peer: u64) {
        self.raft(id).report_unreachable(MemberId(peer));
        self.invariants.on_heard(id, MemberId(peer));
        self.observe(id);
    }

    /// Whether every member applied the same, and all there is.
    pub fn agrees(&self) -> bool {
        let mut points = self.nodes.values().map(|node| (node.raft.applied_index(), node.raft.last_index()));
        let first = points.next().expect("there are members");
        first.0 == first.1 && points.all(|point| point == first)
    }

    /// Both directions between `id` and everybody else lose what is sent.
    pub fn isolate(&mut self, id: u64) {
        for other in self.ids() {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    /// Repairs all links.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Repairs the links of `id`.
    pub fn rejoin(&mut self, id: u64) {
        self.cut.retain(|link| link.0 != id && link.1 != id);
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Takes what `id` has to give except writes, and checks every invariant that can be checked now.
    pub fn observe(&mut self, id: u64) {
        self.show_role(id);
        self.check(id);
        while let Some(message) = self.raft(id).poll_message() {
            let node = &self.nodes[&id];
            self.invariants.on_sent(&message, &node.raft, &node.disk);
            self.log(trace::message(&message));
            self.wire.push_back(message);
        }
        while let Some(to) = self.raft(id).poll_snapshot_request() {
            let raft = self.raft(id);
            let index = raft.applied_index();
            let term = raft.term_at(index).expect("the last applied entry is remembered");
            let conf_state = raft.conf_state().clone();
            raft.begin_snapshot(to, SnapshotMeta { index, term, conf_state });
            self.observe(id);
        }
        if self.nodes[&id].applies {
            self.apply(id);
        }
        while let Some(read) = self.raft(id).poll_read() {
            self.log(format!("{id} may read round {} at {}", read.round, read.index));
            self.invariants.on_read_confirmed((id, self.nodes[&id].disk.starts), read);
        }
        self.check(id);
    }

    fn check(&mut self, id: u64) {
        let node = &self.nodes[&id];
        self.invariants.on_state(id, &node.raft, &node.disk, &self.config);
    }

    /// Applies whatever is committed on `id`.
    pub fn apply(&mut self, id: u64) {
        while let Some(batch) = self.raft(id).poll_committed(1 << 20) {
            for entry in batch {
                self.log(format!("{id} applies {}", trace::entry(&entry)));
                self.invariants.on_applied(id, &self.nodes[&id].raft, &entry);
                if entry.kind == EntryKind::ConfChange {
                    self.apply_conf_change(id, &ConfChange::decode(&entry.data).unwrap());
                }
                self.raft(id).applied(entry.index);
                self.check(id);
            }
            self.observe(id);
        }
    }

    fn apply_conf_change(&mut self, id: u64, change: &ConfChange) {
        let raft = self.raft(id);
        let before = raft.conf_state().clone();
        let after = raft.apply_conf_change(change).clone();
        self.invariants.on_conf_change(&before, &after);
        // A member that goes and comes back is another one to its leader.
        self.invariants.on_heard(id, change.member);
    }

    fn show_role(&mut self, id: u64) {
        let node = self.node(id);
        let shown = (node.raft.role(), node.raft.term(), node.raft.leader());
        if node.shown.replace(shown) != Some(shown) {
            let line = trace::role(id, shown);
            self.log(line);
        }
    }

    fn log(&mut self, line: String) {
        self.trace.push_str(&line);
        self.trace.push('\n');
    }
}

impl Disk {
    /// Carries out `write`, and remembers it as one that damage may take away again.
    fn write(&mut self, write: Append) {
        if self.before.is_none() {
            self.before = Some(Box::new(self.clone()));
        }
        self.recent.push_back(write.clone());
        if self.recent.len() > RECENT_MAX
            && let (Some(oldest), Some(before)) = (self.recent.pop_front(), &mut self.before)
        {
            before.carry_out(oldest);
        }
        self.carry_out(write);
    }

    /// This disk without the newest `count` writes: it may have promised all that was in them.
    fn damaged(mut self, count: usize) -> Self {
        let earlier = self.recovering.unwrap_or(Promise { term: Term(0), index: LogIndex(0) });
        let promise =
            Promise { term: self.hard_state.term.max(earlier.term), index: self.last().max(earlier.index) };
        let Some(before) = self.before.take() else { return Self { recovering: Some(promise), ..self } };
        self.recent.truncate(self.recent.len().saturating_sub(count));
        let mut disk = Self { starts: self.starts, ..*before };
        for write in self.recent {
            disk.carry_out(write);
        }
        Self { recovering: Some(promise), recent: VecDeque::new(), before: None, ..disk }
    }

    fn carry_out(&mut self, write: Append) {
        if let Some(meta) = write.snapshot {
            self.boundary = (meta.index, meta.term);
            self.applied = meta.index;
            self.entries.clear();
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        for entry in write.entries {
            assert_eq!(entry.index, self.last().next(), "writes are consecutive");
            self.entries.push(entry);
        }
        self.hard_state = HardState { commit: write.hard_state.commit.min(self.last()), ..write.hard_state };
        if let Some(conf_state) = write.conf_state {
            self.conf_state = conf_state;
        }
    }

    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.boundary.0 {
            return Some(self.boundary.1);
        }
        let at = index.0.checked_sub(self.boundary.0.0 + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    pub fn last(&self) -> LogIndex {
        self.entries.last().map_or(self.boundary.0, |entry| entry.index)
    }
}
