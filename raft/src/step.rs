//! A message arrives: is it sound, whose term is newer, and which rule it meets.
//!
//! Terms come first (thesis §3.3): a newer one is adopted, whatever the message says, with the exceptions
//! that keep disruptive members out (§4.2.3, §9.6); an older one is old news. Only a message of the own term
//! is dispatched.

use std::fmt;

use crate::confchange::ConfChange;
use crate::message::{AppendOutcome, Message, Payload};
use crate::raft::Raft;
use crate::seeded::{self, Bug};
use crate::types::{Entry, EntryKind, LogIndex, MemberId, NUMBER_MAX, SnapshotMeta, Term};

/// Why a message was not accepted: the sender's fault, or the network's. The state is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Addressed to another member, or sent by this one or nobody.
    Misdelivered,
    /// Entries out of order or unreadable, or numbers no log can hold.
    Malformed,
    /// Claims to lead a term that has another leader: election safety is broken.
    SecondLeader,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Misdelivered => "message for another member",
            Self::Malformed => "malformed message",
            Self::SecondLeader => "message from a second leader of the term",
        })
    }
}

impl std::error::Error for StepError {}

impl Raft {
    /// A message has arrived.
    ///
    /// Errors leave the state as it was; none of them is this member's fault.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        if message.to != self.config.id || message.from == self.config.id || message.from == MemberId(0) {
            return Err(StepError::Misdelivered);
        }
        if !is_well_formed(&message) {
            return Err(StepError::Malformed);
        }
        let leads = matches!(
            message.payload,
            Payload::Append { .. } | Payload::Heartbeat { .. } | Payload::Snapshot { .. }
        );
        if leads && message.term == self.term && self.leader.is_some_and(|leader| leader != message.from) {
            return Err(StepError::SecondLeader);
        }
        if self.settle_term(&message, leads) {
            self.dispatch(message, leads);
        }
        Ok(())
    }

    /// Compares the message's term with ours; false if the message ends here.
    fn settle_term(&mut self, message: &Message, leads: bool) -> bool {
        if message.term > self.term {
            return self.settle_newer_term(message, leads);
        }
        if message.term < self.term {
            self.answer_older_term(message, leads);
            return false;
        }
        true
    }

    fn settle_newer_term(&mut self, message: &Message, leads: bool) -> bool {
        match message.payload {
            Payload::Vote { transfer: false, .. } | Payload::PreVote { .. } if self.is_loyal() => {
                return false;
            }
            Payload::PreVote { .. } if seeded::is(Bug::PreVoteRaisesTerm) => {}
            // Neither asking nor being told "you may" moves anybody to the term asked about.
            Payload::PreVote { .. } | Payload::PreVoteReply { granted: true, .. } => return true,
            _ => {}
        }
        self.become_follower(message.term, leads.then_some(message.from));
        true
    }

    /// A leader cut off behind must learn of the newer term, or a member that moved ahead of it alone could
    /// never come back; a candidate asking gets an answer; the rest is old news.
    fn answer_older_term(&mut self, message: &Message, leads: bool) {
        match message.payload {
            _ if leads && (self.config.check_quorum || self.config.pre_vote) => {
                let outcome = AppendOutcome::Matched { index: LogIndex(0) };
                self.reply_append(message.from, outcome, Default::default());
            }
            Payload::PreVote { .. } => {
                self.send_durable(message.from, self.pre_vote_reply(false));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, message: Message, leads: bool) {
        let Message { from, term, payload, .. } = message;
        if leads {
            self.follow(from);
        }
        match payload {
            Payload::PreVote { last_index, last_term } => {
                self.handle_pre_vote(from, term, last_index, last_term)
            }
            Payload::PreVoteReply { granted, commit, commit_term } => {
                self.learn_commit(commit, commit_term);
                self.handle_pre_vote_reply(from, term, granted);
            }
            Payload::Vote { last_index, last_term, .. } => self.handle_vote(from, last_index, last_term),
            Payload::VoteReply { granted, commit, commit_term } => {
                self.learn_commit(commit, commit_term);
                self.handle_vote_reply(from, granted);
            }
            Payload::Append { prev_index, prev_term, entries, commit, round } => {
                self.handle_append(from, (prev_index, prev_term), entries, commit, round);
            }
            Payload::AppendReply { outcome, round, counting } => {
                self.handle_append_reply(from, outcome, round, counting);
            }
            Payload::Heartbeat { commit, round } => self.handle_heartbeat(from, commit, round),
            Payload::HeartbeatReply { round } => self.handle_heartbeat_reply(from, round),
            Payload::Snapshot { meta } => self.handle_snapshot(from, meta),
            Payload::TimeoutNow => self.handle_timeout_now(from),
            Payload::Propose { number, kind, data } => self.handle_propose(from, number, kind, data),
            Payload::ReadIndex { round } if self.is_leader() => self.handle_read_index(from, round),
            Payload::ReadIndexReply { round, index } => self.handle_read_index_reply(round, index),
            Payload::ReadIndex { .. } => {}
        }
    }
}

/// Whether the numbers in a message can be worked with and its entries are a piece of a log.
fn is_well_formed(message: &Message) -> bool {
    let fits = |number: u64| number <= NUMBER_MAX;
    let payload_fits = match &message.payload {
        Payload::Append { prev_index, prev_term, entries, .. } => {
            fits(prev_index.0) && is_log_piece(*prev_index, *prev_term, entries, message.term)
        }
        Payload::AppendReply { outcome: AppendOutcome::Matched { index }, .. } => fits(index.0),
        Payload::AppendReply { outcome: AppendOutcome::Rejected { hint_index, .. }, .. } => {
            fits(hint_index.0)
        }
        Payload::Snapshot { meta } => is_snapshot(meta, message.term) && fits(meta.index.0),
        _ => true,
    };
    fits(message.term.0) && payload_fits
}

fn is_log_piece(prev_index: LogIndex, prev_term: Term, entries: &[Entry], term: Term) -> bool {
    let (mut index, mut entry_term) = (prev_index, prev_term);
    for entry in entries {
        let readable = entry.kind == EntryKind::Normal || ConfChange::decode(&entry.data).is_ok();
        if entry.index != index.next() || entry.term < entry_term || !readable {
            return false;
        }
        (index, entry_term) = (entry.index, entry.term);
    }
    entry_term <= term
}

fn is_snapshot(meta: &SnapshotMeta, term: Term) -> bool {
    meta.term <= term && meta.conf_state.is_well_formed() && !meta.conf_state.voters.is_empty()
}
