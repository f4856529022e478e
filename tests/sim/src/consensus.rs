//! What consensus must never do, looked at after every event, from outside: `study/raft.md`'s invariants as far as
//! terms, indexes and messages show them. That equal entries had equal effects is for the dumps to show.

use std::collections::{BTreeMap, BTreeSet};

use engine::replica::peer::Message;
use raft::{AppendOutcome, ConfState, LogIndex, MemberId, Payload, Raft, Role, Term};

use crate::call::MEMBER;

/// What is known of one node, over all its lives.
#[derive(Clone, Debug, Default)]
struct Known {
    term: Term,
    commit: LogIndex,
    applied: LogIndex,
    leads: bool,
    /// Who voted, as of the last event.
    conf: ConfState,
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
    /// Entries up to this one are the founders'.
    pub founders: u64,
    /// Entries that were acknowledged to a leader, by node: the highest index, and the leader's term.
    acked: BTreeMap<usize, (Term, LogIndex)>,
    /// The same for every term, as far as it counts.
    counted: BTreeMap<(usize, Term), LogIndex>,
    /// Each configuration by the entry that made it.
    configurations: BTreeMap<u64, ConfState>,
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
        known.conf = raft.conf_state().clone();
        Ok(())
    }

    /// A node sent a message. Errors: it broke an earlier promise.
    pub fn sent(&mut self, node: usize, message: &Message) -> Result<(), String> {
        let Message::Raft(message) = message else { return Ok(()) };
        match message.payload {
            Payload::VoteReply { granted: true, .. } => self.promised(node, message.term, message.to),
            Payload::Vote { .. } => self.promised(node, message.term, message.from),
            Payload::AppendReply { outcome: AppendOutcome::Matched { index }, counting, .. } => {
                if counting {
                    let counted = self.counted.entry((node, message.term)).or_default();
                    *counted = index.max(*counted);
                }
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

    /// After each event at a node. Its configuration before the event if it leads and has committed something: see
    /// [`holds`].
    pub fn check(&mut self, node: usize, raft: &Raft) -> Result<Option<ConfState>, String> {
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
        let before = known.conf.clone();
        known.conf.clone_from(raft.conf_state());
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
            return Ok(None);
        }
        if begins {
            self.begins(node, raft)?;
            let voted = |voter: usize| {
                let votes = self.nodes.get(&voter).map(|known| &known.votes);
                votes.and_then(|votes| votes.get(&raft.term())) == Some(&id_of(node))
            };
            quorum("elected", node, &[&before, raft.conf_state()], |voter| voter == node || voted(voter))?;
        }
        if commits {
            let stable = raft.status().stable_index;
            quorum("committed", node, &[&before, raft.conf_state()], |voter| {
                let counted = self.counted.get(&(voter, raft.term()));
                if voter == node { stable >= now.1 } else { counted.is_some_and(|index| *index >= now.1) }
            })?;
        }
        self.committed(node, raft)?;
        Ok(commits.then_some(before))
    }

    /// The newest configuration that is in force at a node, and the entry that made it. Errors: others have another one
    /// there, or it is more than one voter away from those beside it, and two majorities might not meet.
    pub fn configured(&mut self, node: usize, index: u64, raft: &Raft) -> Result<(), String> {
        let conf = raft.conf_state();
        // One that joins goes through the founding entries one by one.
        if index <= self.founders {
            return Ok(());
        }
        match self.configurations.get(&index) {
            Some(known) if known == conf => return Ok(()),
            Some(known) => {
                return Err(format!("node {node} has {conf:?} by entry {index}; others {known:?}"));
            }
            None => {}
        }
        let before = self.configurations.range(..index).next_back();
        let after = self.configurations.range(index..).next();
        for (other, beside) in before.into_iter().chain(after) {
            let apart = |one: &ConfState, two: &ConfState| {
                one.voters.iter().filter(|voter| !two.is_voter(**voter)).count()
            };
            if apart(conf, beside) + apart(beside, conf) > 1 {
                return Err(format!("entry {index} made {conf:?}, and entry {other} {beside:?}"));
            }
        }
        self.configurations.insert(index, conf.clone());
        Ok(())
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

fn id_of(node: usize) -> MemberId {
    MemberId(MEMBER + node as u64)
}

/// Whether a majority by one of the configurations, that before an event or that after it, is for something.
fn quorum(
    what: &str,
    node: usize,
    configurations: &[&ConfState],
    is_for: impl Fn(usize) -> bool,
) -> Result<(), String> {
    let has_majority = |conf: &&&ConfState| {
        let count = conf.voters.iter().filter(|voter| is_for((voter.0 - MEMBER) as usize)).count();
        count > conf.voters.len() / 2
    };
    match configurations.iter().find(has_majority) {
        Some(_) => Ok(()),
        None => Err(format!("node {node} {what} without a majority of {configurations:?}")),
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
