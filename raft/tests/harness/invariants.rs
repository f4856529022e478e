//! What must hold at every moment, seen from outside all members (thesis figure 3.2, and what reads and disks
//! add).

use std::collections::BTreeMap;

use raft::{AppendOutcome, Entry, LogIndex, MemberId, Message, Payload, Raft, ReadRound, ReadState, Term};

use super::Disk;

/// Everything seen so far that later events must agree with.
#[derive(Default)]
pub struct Invariants {
    leaders: BTreeMap<Term, u64>,
    votes: BTreeMap<(MemberId, Term), MemberId>,
    applied: BTreeMap<LogIndex, Entry>,
    known: BTreeMap<(u64, Term), (LogIndex, LogIndex)>,
    reads: BTreeMap<((u64, u64), ReadRound), LogIndex>,
}

impl Invariants {
    /// Election safety; state machine safety; what only grows.
    pub fn on_state<'a>(&mut self, id: u64, rafts: impl Iterator<Item = &'a Raft>) {
        for raft in rafts.filter(|raft| raft.status().id == MemberId(id)) {
            if raft.is_leader() {
                let leader = *self.leaders.entry(raft.term()).or_insert(id);
                assert_eq!(leader, id, "two leaders in term {}", raft.term());
                self.leader_is_complete(raft);
            }
            assert!(raft.applied_index() <= raft.commit_index());
            assert!(raft.commit_index() <= raft.last_index());
        }
    }

    /// Leader completeness: what was ever applied anywhere is in the log of every leader of a later term. A
    /// deposed leader that does not know it yet is not asked.
    fn leader_is_complete(&self, raft: &Raft) {
        if self.leaders.keys().next_back() != Some(&raft.term()) {
            return;
        }
        for (index, entry) in self.applied.range(raft.first_index()..) {
            assert_eq!(
                raft.term_at(*index),
                Some(entry.term),
                "leader of {} lacks entry {index}",
                raft.term()
            );
        }
    }

    /// No two members apply different entries at one index.
    pub fn on_applied(&mut self, entry: &Entry) {
        let known = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
        assert_eq!(known, entry, "two entries applied at {}", entry.index);
    }

    /// Promises leave only after what they rest on is durable, and a vote is given once.
    pub fn on_sent(&mut self, message: &Message, disk: &Disk) {
        let durable = disk.hard_state;
        match message.payload {
            Payload::AppendReply { outcome: AppendOutcome::Matched { index }, .. } => {
                assert!(durable.term >= message.term, "{message:?} in a term not durable");
                assert!(
                    durable.term > message.term || index <= disk.last(),
                    "{message:?} of entries not durable"
                );
            }
            Payload::VoteReply { granted: true, .. } => {
                let vote = (durable.term, durable.vote);
                let given = vote == (message.term, Some(message.to)) || durable.term > message.term;
                assert!(given, "{message:?} with only {durable:?} durable");
                let voter = (message.from, message.term);
                let first = *self.votes.entry(voter).or_insert(message.to);
                assert_eq!(first, message.to, "second vote of {} in {}", message.from, message.term);
            }
            Payload::Vote { last_index, .. } => {
                assert!(durable.term >= message.term, "{message:?} in a term not durable");
                assert!(
                    durable.term > message.term || last_index <= disk.last(),
                    "{message:?} of a log not durable"
                );
            }
            Payload::AppendReply { .. } | Payload::VoteReply { .. } | Payload::HeartbeatReply { .. } => {
                assert!(durable.term >= message.term, "{message:?} in a term not durable");
            }
            _ => {}
        }
    }

    /// `commit` is the highest anybody knew when the read was asked for.
    pub fn on_read_begun(&mut self, reader: (u64, u64), round: ReadRound, commit: LogIndex) {
        let least = self.reads.entry((reader, round)).or_default();
        *least = commit.max(*least);
    }

    pub fn on_read_confirmed(&mut self, reader: (u64, u64), read: ReadState) {
        let range = (reader, ReadRound(0))..=(reader, read.round);
        for ((_, round), commit) in self.reads.range(range) {
            assert!(read.index >= *commit, "{read:?} answers round {round}, begun at commit {commit}");
        }
        self.reads.retain(|(who, round), _| *who != reader || *round > read.round);
    }
}
