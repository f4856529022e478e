//! What consensus must never do, looked at after every event, from outside: `study/raft.md`'s invariants as far as
//! terms, indexes and messages show them. That equal entries had equal effects is for the dumps to show.

use std::collections::{BTreeMap, BTreeSet};

use engine::replica::peer::Message;
use raft::{AppendOutcome, LogIndex, MemberId, Payload, Raft, Role, Term};

/// What is known of one node, over all its lives.
#[derive(Clone, Debug, Default)]
struct Known {
    term: Term,
    commit: LogIndex,
    applied: LogIndex,
    leads: bool,
    /// Whom it promised its vote, by term.
    votes: BTreeMap<Term, MemberId>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Consensus {
    nodes: BTreeMap<usize, Known>,
    leaders: BTreeMap<Term, usize>,
    /// Terms in which somebody stood for election.
    begun: BTreeSet<Term>,
    /// Terms of committed entries, from index 1 on; 0 for one that nobody could show any more.
    committed: Vec<Term>,
    /// Entries that were acknowledged to a leader, by node: the highest index, and the leader's term.
    acked: BTreeMap<usize, (Term, LogIndex)>,
}

impl Consensus {
    /// How many leaders there were.
    pub fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A node was opened. Errors: it forgot what it must not.
    pub fn opened(&mut self, node: usize, raft: &Raft) -> Result<(), String> {
        let known = self.nodes.entry(node).or_default();
        if raft.term() < known.term && !raft.is_recovering() {
            // Only what it told others binds it.
            let told = known.votes.last_key_value().map_or(Term(0), |(term, _)| *term);
            if raft.term() < told {
                return Err(format!("node {node} forgot its vote in term {told}: it is in {}", raft.term()));
            }
        }
        if let Some((term, index)) = self.acked.get(&node)
            && !raft.is_recovering()
            && raft.term() == *term
            && raft.last_index() < *index
        {
            return Err(format!(
                "node {node} acknowledged {index} in term {term} and came back with {}",
                raft.last_index()
            ));
        }
        // What is known of the commit index is a hint on disk, and may lag.
        (known.term, known.commit, known.applied) = (raft.term(), raft.commit_index(), raft.applied_index());
        known.leads = false;
        Ok(())
    }

    /// A node sent a message. Errors: it broke an earlier promise.
    pub fn sent(&mut self, node: usize, message: &Message) -> Result<(), String> {
        let Message::Raft(message) = message else { return Ok(()) };
        match message.payload {
            Payload::VoteReply { granted: true, .. } => self.promised(node, message.term, message.to),
            Payload::Vote { .. } => self.promised(node, message.term, message.from),
            Payload::AppendReply { outcome: AppendOutcome::Matched { index }, .. } => {
                let acked = self.acked.entry(node).or_default();
                *acked = if acked.0 < message.term {
                    (message.term, index)
                } else {
                    (acked.0, acked.1.max(index))
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn promised(&mut self, node: usize, term: Term, to: MemberId) -> Result<(), String> {
        let votes = &mut self.nodes.entry(node).or_default().votes;
        match *votes.entry(term).or_insert(to) {
            before if before == to => Ok(()),
            before => Err(format!("node {node} voted for {before} and for {to} in term {term}")),
        }
    }

    /// After each event at a node. True if it leads and has committed something: see [`holds`].
    pub fn check(&mut self, node: usize, raft: &Raft) -> Result<bool, String> {
        let known = self.nodes.entry(node).or_default();
        let now = (raft.term(), raft.commit_index(), raft.applied_index());
        if now.0 < known.term || now.1 < known.commit || now.2 < known.applied {
            return Err(format!("node {node} went back from {known:?} to {now:?}"));
        }
        if now.2 > now.1 || now.1 > raft.last_index() {
            return Err(format!(
                "node {node} applied {}, committed {}, has {}",
                now.2,
                now.1,
                raft.last_index()
            ));
        }
        let begins = raft.is_leader() && !known.leads;
        let commits = raft.is_leader() && known.leads && now.0 == known.term && now.1 > known.commit;
        if commits && raft.term_at(now.1) != Some(now.0) {
            return Err(format!(
                "node {node} leads term {} and commits {}, not of its own term",
                now.0, now.1
            ));
        }
        if matches!(raft.role(), Role::Candidate | Role::Leader) {
            self.begun.insert(now.0);
        } else if now.0 > known.term && !self.begun.contains(&now.0) {
            return Err(format!("node {node} moves to term {}, and nobody stands for election in it", now.0));
        }
        if let Some((term, index)) = self.acked.get(&node)
            && *term == now.0
            && raft.last_index() < *index
            && !raft.is_recovering()
        {
            return Err(format!(
                "node {node} acknowledged {index} in term {term} and has entries up to {}",
                raft.last_index()
            ));
        }
        let unchanged = (known.term, known.commit) == (now.0, now.1) && !begins;
        (known.term, known.commit, known.applied) = now;
        known.leads = raft.is_leader();
        if unchanged {
            return Ok(false);
        }
        if begins {
            self.begins(node, raft)?;
        }
        self.committed(node, raft)?;
        Ok(commits)
    }

    /// One leader a term, and it has all that was committed in earlier ones.
    fn begins(&mut self, node: usize, raft: &Raft) -> Result<(), String> {
        let term = raft.term();
        match *self.leaders.entry(term).or_insert(node) {
            before if before != node => {
                return Err(format!("nodes {before} and {node} both led term {term}"));
            }
            _ => {}
        }
        // One that stood still may come to lead an earlier term than that of the newest entries.
        let before = self.committed.partition_point(|committed| *committed < term);
        if (raft.last_index().0 as usize) < before {
            return Err(format!(
                "node {node} leads term {term} with entries up to {}; {before} are committed",
                raft.last_index()
            ));
        }
        for index in raft.first_index().0..=before as u64 {
            self.compare(node, raft, LogIndex(index))?;
        }
        Ok(())
    }

    /// Whatever two nodes hold committed is the same.
    fn committed(&mut self, node: usize, raft: &Raft) -> Result<(), String> {
        let commit = raft.commit_index().0;
        for index in self.committed.len() as u64 + 1..=commit {
            self.committed.push(raft.term_at(LogIndex(index)).unwrap_or_default());
        }
        self.compare(node, raft, LogIndex(commit))
    }

    fn compare(&self, node: usize, raft: &Raft, index: LogIndex) -> Result<(), String> {
        let Some(&committed) = (index.0 as usize).checked_sub(1).and_then(|nth| self.committed.get(nth))
        else {
            return Ok(());
        };
        match raft.term_at(index) {
            Some(term) if committed != Term(0) && term != committed => Err(format!(
                "node {node} has entry {index} of term {term}; the one of term {committed} is committed"
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a member has the last entry that a leader has committed, durably. A majority must: what they have acknowledged
/// they keep. One that is about to put a state in the place of its own is believed.
pub fn holds(member: &Raft, leader: &Raft) -> bool {
    let index = leader.commit_index();
    if member.first_index() > index || member.first_index().prev() > member.applied_index() {
        return true;
    }
    member.term_at(index) == leader.term_at(index) && member.status().stable_index >= index
}
