//! What must hold at every moment, seen from outside all members, checked after every event of every test that uses
//! the cluster: thesis figure 3.2, and what reads, windows and disks add.
//!
//! The numbers are those of the table in `docs/raft.md`. Nothing here asks a member what it believes where its
//! messages and its disk can be asked instead.

use std::collections::{BTreeMap, BTreeSet};

use raft::{
    Append, AppendOutcome, ConfChange, ConfState, Config, Entry, EntryKind, LogIndex, MemberId, Message,
    Payload, ProgressState, Raft, ReadRound, ReadState, Role, SnapshotMeta, Status, Term,
};

use super::Disk;

/// Everything seen so far that later events must agree with.
#[derive(Default)]
pub struct Invariants {
    leaders: BTreeMap<Term, u64>,
    votes: BTreeMap<(MemberId, Term), MemberId>,
    entries: BTreeMap<(LogIndex, Term), Known>,
    committed: BTreeMap<LogIndex, Term>,
    applied: BTreeMap<LogIndex, Entry>,
    /// The members after each applied change, of a cluster founded under these eyes.
    confs: BTreeMap<LogIndex, ConfState>,
    /// What the leader of a term was told by each member: how far it stores, and, last, whether it counts.
    told: BTreeMap<(Term, MemberId), (LogIndex, bool)>,
    /// The most complete log each member ever promised to hold.
    promised: BTreeMap<u64, Promised>,
    /// Members whose disk was damaged once: what a leader knows of them may shrink.
    damaged: BTreeSet<u64>,
    seen: BTreeMap<u64, Seen>,
    /// Appends sent to a follower being probed since it was last heard.
    probes: BTreeMap<(MemberId, MemberId), usize>,
    reads: BTreeMap<((u64, u64), ReadRound), LogIndex>,
}

/// The end of a log that was acknowledged, and in which term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Promised {
    last: (Term, LogIndex),
    to_leader_of: Term,
}

/// An entry, and the term of the one before it where that was seen.
struct Known {
    entry: Entry,
    prev_term: Option<Term>,
}

/// A member as it was after the last event of its present life.
struct Seen {
    role: Role,
    term: Term,
    commit: LogIndex,
    applied: LogIndex,
    last: (LogIndex, Term),
    matched: BTreeMap<MemberId, LogIndex>,
}

impl Invariants {
    /// A member starts, again or for the first time. 7: what was durable is not taken back.
    pub fn on_start(&mut self, id: u64, raft: &Raft, disk: &Disk) {
        assert!(raft.term() >= disk.hard_state.term, "{id} starts in term {}", raft.term());
        assert!(raft.commit_index() >= disk.hard_state.commit && raft.commit_index() >= disk.applied);
        let last_term = raft.term_at(raft.last_index()).expect("the end of the log is known");
        self.keeps_promises(id, (last_term, raft.last_index()), disk.recovering.is_some());
        self.seen.remove(&id);
        self.probes.retain(|(from, _), _| from.0 != id);
    }

    /// The disk of `id` has lost what it had stored.
    pub fn on_damage(&mut self, id: u64) {
        self.damaged.insert(id);
    }

    pub fn on_state(&mut self, id: u64, raft: &Raft, disk: &Disk, config: &Config) {
        let status = raft.status();
        self.state_only_grows(id, raft, &status);
        self.note_committed(id, raft);
        if raft.is_leader() {
            // 1.
            let leader = *self.leaders.entry(raft.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", raft.term());
            assert!(status.conf_state.is_voter(MemberId(id)) && !status.recovering, "{id} may not lead");
            self.leader_is_complete(raft);
            self.leader_commits_by_majority(id, raft, &status, disk);
            self.changes_come_one_by_one(raft, &status);
            self.leader_is_bounded(raft, &status, config);
        }
        if raft.is_leader() && self.seen.get(&id).is_none_or(|seen| seen.role != Role::Leader) {
            self.probes.retain(|(from, _), _| from.0 != id);
        }
        let matched = status.followers.iter().map(|peer| (peer.id, peer.match_index)).collect();
        let last = (status.last_index, raft.term_at(status.last_index).expect("the end of the log is known"));
        let (role, term) = (status.role, status.hard_state.term);
        let seen =
            Seen { role, term, commit: status.hard_state.commit, applied: status.applied, last, matched };
        self.seen.insert(id, seen);
    }

    /// 7: term, commit and applied only grow, and what a leader knows of followers whose disks are sound. 2: neither
    /// does a leader's log shrink, nor its last entry change; by 3 nothing before it does.
    fn state_only_grows(&self, id: u64, raft: &Raft, status: &Status) {
        let (term, commit) = (status.hard_state.term, status.hard_state.commit);
        assert!(status.applied <= commit && commit <= status.last_index, "{status:?}");
        assert!(status.stable_index <= status.last_index, "{status:?}");
        let Some(seen) = self.seen.get(&id) else { return };
        assert!(term >= seen.term && commit >= seen.commit && status.applied >= seen.applied, "{status:?}");
        if (seen.role, seen.term) != (Role::Leader, term) || !raft.is_leader() {
            return;
        }
        let (last, last_term) = seen.last;
        assert!(status.last_index >= last, "leader {id} dropped entries behind {}", status.last_index);
        let unchanged = status.first_index > last || raft.term_at(last) == Some(last_term);
        assert!(unchanged, "leader {id} replaced its entry {last}");
        for peer in status.followers.iter().filter(|peer| !self.damaged.contains(&peer.id.0)) {
            let known = seen.matched.get(&peer.id).copied().unwrap_or_default();
            assert!(peer.match_index >= known, "leader {id} takes back what {} acknowledged", peer.id);
        }
    }

    /// What anybody holds to be committed; nobody may hold anything else to be.
    fn note_committed(&mut self, id: u64, raft: &Raft) {
        let from = self.seen.get(&id).map_or(LogIndex(1), |seen| seen.commit.next());
        for index in (from.max(raft.first_index()).0..=raft.commit_index().0).map(LogIndex) {
            let term = raft.term_at(index).expect("between first and last");
            let known = *self.committed.entry(index).or_insert(term);
            assert_eq!(known, term, "{id} holds another entry to be committed at {index}");
        }
    }

    /// 4: what is committed is in the log of the leader of the newest term. A deposed leader that does not know it yet
    /// is not asked.
    fn leader_is_complete(&self, raft: &Raft) {
        if self.leaders.keys().next_back() != Some(&raft.term()) {
            return;
        }
        for (index, term) in self.committed.range(raft.first_index()..) {
            assert_eq!(raft.term_at(*index), Some(*term), "leader of {} lacks entry {index}", raft.term());
        }
    }

    /// 9: a leader commits by counting only what is of its own term. 10: a majority of the voters stores it, learners
    /// and recovering members not asked.
    fn leader_commits_by_majority(&self, id: u64, raft: &Raft, status: &Status, disk: &Disk) {
        let commit = status.hard_state.commit;
        let Some(seen) = self.seen.get(&id) else { return };
        if seen.role != Role::Leader || seen.term != raft.term() || seen.commit == commit {
            return;
        }
        assert_eq!(
            raft.term_at(commit),
            Some(raft.term()),
            "leader {id} counted {commit} of an earlier term"
        );
        let stores = |voter: &&MemberId| {
            if voter.0 == id {
                disk.term(commit) == Some(raft.term())
            } else {
                let told = self.told.get(&(raft.term(), **voter));
                told.is_some_and(|&(stored, counts)| counts && stored >= commit)
            }
        };
        let voters = &status.conf_state.voters;
        let count = voters.iter().filter(stores).count();
        assert!(count > voters.len() / 2, "leader {id} commits {commit} with {count} of {voters:?}");
    }

    /// 13, first half: a leader proposes no change while another is unapplied in its log.
    fn changes_come_one_by_one(&self, raft: &Raft, status: &Status) {
        let mut unapplied = 0;
        for index in (status.applied.next().max(status.first_index).0..=status.last_index.0).map(LogIndex) {
            let term = raft.term_at(index).expect("between first and last");
            let known = self.entries.get(&(index, term));
            if known.is_some_and(|known| known.entry.kind == EntryKind::ConfChange) {
                unapplied += 1;
                assert!(unapplied == 1 || term != raft.term(), "a change at {index} behind another");
            }
        }
    }

    /// 14: windows; 15: bytes not committed.
    fn leader_is_bounded(&self, raft: &Raft, status: &Status, config: &Config) {
        for peer in &status.followers {
            assert!(peer.match_index < peer.next_index, "{peer:?}");
            assert!(peer.next_index <= status.last_index.next(), "{peer:?} of {}", status.last_index);
            assert!(peer.inflight_count <= config.inflight_count_max, "{peer:?}");
            assert!(peer.state == ProgressState::Replicate || peer.inflight_count == 0, "{peer:?}");
        }
        let own = |index: LogIndex| raft.term_at(index) == Some(raft.term());
        let last = status.last_index;
        if own(last) && own(last.prev()) {
            let bytes = |index| {
                let term = raft.term_at(LogIndex(index)).expect("behind commit");
                self.entries.get(&(LogIndex(index), term)).map_or(0, |known| known.entry.data.len() as u64)
            };
            let waiting: u64 = (status.hard_state.commit.next().0..last.0).map(bytes).sum();
            assert!(waiting < config.uncommitted_bytes_max, "{waiting} bytes wait before the last entry");
        }
    }

    /// 19: unless it says that it is recovering, a member's log is at least as complete as any it promised to hold, in
    /// this life or an earlier one, but for what a leader of a later term replaced, and for what is known to be
    /// committed otherwise.
    fn keeps_promises(&self, id: u64, log: (Term, LogIndex), recovering: bool) {
        let Some(&Promised { last, .. }) = self.promised.get(&id).filter(|_| !recovering) else { return };
        let superseded = self.committed.get(&last.1).is_some_and(|committed| *committed != last.0);
        assert!(log >= last || superseded, "{id} ends in {log:?} and has promised {last:?}");
    }

    /// Entries from `from` on are replaced on `id`: what it promised of them it promised to a leader of an earlier term.
    fn replaces_from(&mut self, id: u64, from: LogIndex, raft: &Raft, disk: &Disk) {
        let is_in_it = |promised: &&Promised| promised.last.1 >= from && disk.recovering.is_none();
        if let Some(promised) = self.promised.get(&id).filter(is_in_it) {
            assert!(raft.term() > promised.to_leader_of, "{id} breaks a promise of its own term at {from}");
            self.promised.remove(&id);
        }
    }

    /// A write is handed to the disk of `id`. 3: entries of one index and term are one, and so are those before them.
    /// 2: a leader takes nothing back. 16: a snapshot replaces only what is known not to be committed yet.
    pub fn on_write(&mut self, id: u64, raft: &Raft, disk: &Disk, write: &Append) {
        let prev = write.entries.first().and_then(|entry| raft.term_at(entry.index.prev()));
        self.note_entries(prev, &write.entries);
        assert!(
            !raft.is_leader() || (write.truncate_from.is_none() && write.snapshot.is_none()),
            "{id}: {write:?}"
        );
        if let Some(meta) = &write.snapshot {
            self.snapshot_is_sound(meta);
            assert!(raft.commit_index() >= meta.index && raft.first_index() > meta.index, "{id}: {meta:?}");
            self.replaces_from(id, meta.index.next(), raft, disk);
        }
        if let Some(from) = write.truncate_from {
            self.replaces_from(id, from, raft, disk);
            for index in (from.0..=disk.last().0).map(LogIndex) {
                let committed = self.committed.get(&index).copied();
                assert!(committed.is_none() || committed != disk.term(index), "{id} takes back {index}");
            }
        }
    }

    fn note_entries(&mut self, mut prev_term: Option<Term>, entries: &[Entry]) {
        for entry in entries {
            let place = (entry.index, entry.term);
            let known =
                self.entries.entry(place).or_insert_with(|| Known { entry: entry.clone(), prev_term });
            assert_eq!(&known.entry, entry, "two entries at {place:?}");
            let same = known.prev_term.is_none() || prev_term.is_none() || known.prev_term == prev_term;
            assert!(same, "two logs before {place:?}: {:?} and {prev_term:?}", known.prev_term);
            known.prev_term = known.prev_term.or(prev_term);
            prev_term = Some(entry.term);
        }
    }

    /// 16: it stands for the committed entry it names, and has the members of that moment.
    fn snapshot_is_sound(&self, meta: &SnapshotMeta) {
        assert_eq!(self.committed.get(&meta.index), Some(&meta.term), "{meta:?}");
        if let Some((_, conf)) = self.confs.range(..=meta.index).next_back() {
            assert_eq!(&meta.conf_state, conf, "{meta:?}");
        }
    }

    /// 5: no two members apply different entries at one index, and each applies in order.
    pub fn on_applied(&mut self, id: u64, raft: &Raft, entry: &Entry) {
        assert_eq!(entry.index, raft.applied_index().next(), "{id} applies out of order");
        if self.applied.insert(entry.index, entry.clone()).is_some_and(|known| known != *entry) {
            panic!("{id} applies another entry at {}", entry.index);
        }
        let founded = self.applied.get(&LogIndex(1)).is_some_and(|first| first.kind == EntryKind::ConfChange);
        if founded && entry.kind == EntryKind::ConfChange && !self.confs.contains_key(&entry.index) {
            let change = ConfChange::decode(&entry.data).expect("raft has read it");
            let before = self.confs.values().next_back().cloned().unwrap_or_default();
            self.confs.insert(entry.index, before.after(&change));
        }
    }

    /// 13, second half: consecutive configurations share a quorum member, because they differ by one voter.
    pub fn on_conf_change(&mut self, before: &ConfState, after: &ConfState) {
        let came = after.voters.iter().filter(|&&id| !before.is_voter(id)).count();
        let went = before.voters.iter().filter(|&&id| !after.is_voter(id)).count();
        assert!(before.voters.is_empty() || came + went <= 1, "{before:?} became {after:?}");
        assert!(after.is_well_formed() && !after.voters.is_empty(), "{after:?}");
    }

    /// A message leaves `raft`, whose disk is `disk`.
    pub fn on_sent(&mut self, message: &Message, raft: &Raft, disk: &Disk) {
        self.rests_on_durable(message, disk);
        self.recovering_is_silent(message, raft.status().recovering);
        let Message { from, to, term, ref payload } = *message;
        match *payload {
            Payload::AppendReply { outcome: AppendOutcome::Matched { index }, counting: true, .. } => {
                if let Some(entry_term) = disk.term(index) {
                    let promise = Promised { last: (entry_term, index), to_leader_of: term };
                    let promised = self.promised.entry(from.0).or_insert(promise);
                    *promised = promise.max(*promised);
                }
            }
            Payload::Vote { last_index, last_term, .. } => {
                self.keeps_promises(from.0, (last_term, last_index), false);
            }
            Payload::VoteReply { granted: true, .. } => {
                let log = (disk.term(disk.last()).expect("its end is known"), disk.last());
                self.keeps_promises(from.0, log, false);
                // 8.
                let first = *self.votes.entry((from, term)).or_insert(to);
                assert_eq!(first, to, "second vote of {from} in {term}");
            }
            Payload::Append { prev_term, ref entries, .. } => {
                self.note_entries(Some(prev_term), entries);
                self.probes_wait(from, to, raft);
            }
            Payload::Snapshot { ref meta } => self.snapshot_is_sound(meta),
            _ => {}
        }
    }

    /// 6: what promises something leaves only after what it rests on is durable.
    fn rests_on_durable(&self, message: &Message, disk: &Disk) {
        let durable = disk.hard_state;
        let log = match message.payload {
            Payload::AppendReply { outcome: AppendOutcome::Matched { index }, .. } => index,
            Payload::Vote { last_index, .. } => last_index,
            Payload::VoteReply { granted: true, .. } => {
                let given = (durable.term, durable.vote) == (message.term, Some(message.to));
                assert!(given || durable.term > message.term, "{message:?} with only {durable:?} durable");
                LogIndex(0)
            }
            Payload::AppendReply { .. } | Payload::VoteReply { .. } | Payload::HeartbeatReply { .. } => {
                LogIndex(0)
            }
            _ => return,
        };
        assert!(durable.term >= message.term, "{message:?} in a term not durable");
        assert!(durable.term > message.term || log <= disk.last(), "{message:?} of entries not durable");
    }

    /// 10: a recovering member gives no vote, asks for none, and says that its answers do not count.
    fn recovering_is_silent(&self, message: &Message, recovering: bool) {
        let promises = match message.payload {
            Payload::AppendReply { counting, round, .. } => counting || round > ReadRound(0),
            Payload::HeartbeatReply { round } => round > ReadRound(0),
            Payload::VoteReply { .. } | Payload::Vote { .. } | Payload::PreVote { .. } => true,
            Payload::PreVoteReply { granted, .. } => granted,
            _ => false,
        };
        assert!(!recovering || !promises, "{message:?} of a recovering member");
    }

    /// 14: one message at a time to a follower that is being probed.
    fn probes_wait(&mut self, from: MemberId, to: MemberId, raft: &Raft) {
        let status = raft.status();
        let probing = |peer: &raft::FollowerStatus| peer.id == to && peer.state == ProgressState::Probe;
        if status.followers.iter().any(probing) {
            let count = self.probes.entry((from, to)).or_default();
            *count += 1;
            assert!(*count <= 1, "{from} sends {to} {count} probes without an answer");
        } else {
            self.probes.remove(&(from, to));
        }
    }

    /// A message arrives.
    pub fn on_delivered(&mut self, message: &Message) {
        self.on_heard(message.to.0, message.from);
        let to_leader = self.leaders.get(&message.term) == Some(&message.to.0);
        if let Payload::AppendReply { outcome, counting, .. } = message.payload
            && to_leader
        {
            let (stored, counts) = self.told.entry((message.term, message.from)).or_default();
            *counts = counting;
            if let AppendOutcome::Matched { index } = outcome {
                *stored = index.max(*stored);
            }
        }
    }

    /// `to` hears something of `from`, or about it from its driver, or begins anew with it.
    pub fn on_heard(&mut self, to: u64, from: MemberId) {
        self.probes.remove(&(MemberId(to), from));
    }

    /// `commit` is the highest anybody knew when the read was asked for.
    pub fn on_read_begun(&mut self, reader: (u64, u64), round: ReadRound, commit: LogIndex) {
        let least = self.reads.entry((reader, round)).or_default();
        *least = commit.max(*least);
    }

    /// 11: a read sees everything that was committed anywhere before it began.
    pub fn on_read_confirmed(&mut self, reader: (u64, u64), read: ReadState) {
        let range = (reader, ReadRound(0))..=(reader, read.round);
        for ((_, round), commit) in self.reads.range(range) {
            assert!(read.index >= *commit, "{read:?} answers round {round}, begun at commit {commit}");
        }
        self.reads.retain(|(who, round), _| *who != reader || *round > read.round);
    }
}
