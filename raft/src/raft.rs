//! The member itself: its state, what goes in, and which rule each input meets. The rules live in the files beside it.
//!
//! ```text
//!                times out                 majority would vote           majority votes
//!   Follower ---------------> PreCandidate --------------------> Candidate -----------> Leader
//!      ^                           |                                 |                     |
//!      +---------------------------+---------------------------------+---------------------+
//!         a leader or a higher term appears; the election is lost; a quorum is no longer heard
//! ```
//! Thesis §3.3 and §9.6; counterpart of etcd raft's `raft.go`. Fields other files of this crate share are `pub(crate)`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::confchange::{ConfChange, ConfChangeRefusal};
use crate::config::Config;
use crate::log::{RaftLog, entry_bytes};
use crate::message::{AppendOutcome, Message, Payload};
use crate::outbox::{Append, Outbox};
use crate::progress::Progress;
use crate::random::Pcg;
use crate::read_index::{ReadRounds, ReadState};
use crate::restore::{BOOTSTRAP_TERM, Promise, RestoreError, Restored, founding_changes};
use crate::types::{
    ConfState, Entry, EntryKind, HardState, LogIndex, LogPosition, MemberId, NUMBER_MAX, SnapshotMeta, Term,
};

/// One member's consensus state.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) random: Pcg,
    pub(crate) term: Term,
    pub(crate) vote: Option<MemberId>,
    pub(crate) role: Role,
    pub(crate) leader: Option<MemberId>,
    pub(crate) log: RaftLog,
    pub(crate) conf: ConfState,
    /// The other members. Meaningful while leading.
    pub(crate) peers: BTreeMap<MemberId, Progress>,
    /// Answers to the current candidacy.
    pub(crate) votes: BTreeMap<MemberId, bool>,
    /// Ticks since a leader was heard; for a leader, since it last checked its quorum.
    pub(crate) election_elapsed: u32,
    /// Ticks after which this member campaigns; drawn anew with every term.
    pub(crate) election_timeout: u32,
    /// A wish to campaign that waits for committed configuration changes to be applied.
    pub(crate) campaign_wanted: bool,
    pub(crate) transfer: Option<Transfer>,
    /// Leader: no configuration change lies behind this index.
    pub(crate) pending_conf_index: LogIndex,
    /// Leader: bytes of entries appended and not committed.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) reads: ReadRounds,
    pub(crate) recovering: Option<Promise>,
    /// Founding entries end here: equal on all members, so committed as soon as they are durable.
    founding_index: LogIndex,
    /// The write that carries the current term and vote.
    hard_position: LogPosition,
    pub(crate) outbox: Outbox,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers a leader, or waits for one.
    Follower,
    /// Asks whether an election could succeed, without disturbing anybody.
    PreCandidate,
    /// Stands for election in its term.
    Candidate,
    /// The only member that proposes in its term.
    Leader,
}

/// A handing over of leadership.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) to: MemberId,
    pub(crate) elapsed: u32,
}

/// Where proposals went in the log. They may still be lost: only their application proves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The term they were proposed in.
    pub term: Term,
    /// The index of the first.
    pub first: LogIndex,
    /// The index of the last.
    pub last: LogIndex,
}

/// Why nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead; the one that does, if known, can be reached by [`Raft::forward`].
    NotLeader {
        /// The leader.
        leader: Option<MemberId>,
    },
    /// Leadership is being handed over.
    Transferring,
    /// Too much is uncommitted or unapplied (etcd: "too many requests").
    TooManyRequests,
    /// Another configuration change is not applied yet.
    ConfChangePending,
    /// The leader has not committed in its own term yet, so it must not change the configuration.
    LeaderNotReady,
    /// The configuration change would break the cluster.
    Refused(ConfChangeRefusal),
}

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

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader; member {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("not the leader; none is known"),
            Self::Transferring => f.write_str("leadership is being transferred"),
            Self::TooManyRequests => f.write_str("too many uncommitted or unapplied proposals"),
            Self::ConfChangePending => f.write_str("another membership change is not applied yet"),
            Self::LeaderNotReady => f.write_str("the leader has not committed in its term yet"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for ProposeError {}

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
    /// A member as it was when it stopped.
    ///
    /// Errors: `restored` contradicts itself, or `config` is not valid.
    pub fn new(config: Config, restored: Restored) -> Result<Self, RestoreError> {
        config.check().map_err(RestoreError::Config)?;
        restored.check()?;
        let Restored {
            hard_state,
            conf_state,
            applied,
            boundary_index,
            boundary_term,
            entries,
            starts,
            recovering,
        } = restored;
        // The commit found is a hint that may be older than the state built from it.
        let commit = hard_state.commit.max(applied);
        let mut raft = Self {
            random: Pcg::new(config.seed, config.id.0),
            term: hard_state.term,
            vote: hard_state.vote,
            role: Role::Follower,
            leader: None,
            log: RaftLog::new((boundary_index, boundary_term), entries, commit, applied),
            conf: conf_state,
            peers: BTreeMap::new(),
            votes: BTreeMap::new(),
            election_elapsed: 0,
            election_timeout: 0,
            campaign_wanted: false,
            transfer: None,
            pending_conf_index: LogIndex(0),
            uncommitted_bytes: 0,
            reads: ReadRounds::new(starts),
            recovering,
            founding_index: LogIndex(0),
            hard_position: LogPosition(0),
            outbox: Outbox::default(),
            config,
        };
        raft.sync_peers();
        raft.become_follower(raft.term, None);
        Ok(raft)
    }

    /// A founding member of a new cluster. Its log begins with one entry per founder, `context` and all, in term 1;
    /// each founder must be given the same list.
    ///
    /// Errors: `config` is not valid, or names a member that is not among the founders.
    pub fn bootstrap(
        config: Config,
        founders: impl IntoIterator<Item = (MemberId, Bytes)>,
    ) -> Result<Self, RestoreError> {
        let changes = founding_changes(founders.into_iter().collect());
        if !changes.iter().any(|change| change.member == config.id) {
            return Err(RestoreError::NotAFounder);
        }
        let hard_state = HardState { term: BOOTSTRAP_TERM, ..HardState::default() };
        let mut raft = Self::new(config, Restored { hard_state, ..Restored::default() })?;
        raft.hard_position = raft.outbox.open();
        for change in &changes {
            raft.founding_index = raft.append_entry(EntryKind::ConfChange, change.encode());
        }
        // In force at once: without it nobody could vote, and applying the entries will not change it.
        let conf = ConfState::new(changes.iter().map(|change| change.member), []);
        raft.outbox.conf_state(conf.clone());
        raft.switch_conf(conf);
        Ok(raft)
    }

    /// A heartbeat interval has passed.
    pub fn tick(&mut self) {
        match self.role {
            Role::Leader => self.tick_leader(),
            _ => self.tick_election(),
        }
    }

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

    /// Proposes `entries`, one command each, as one batch, taking from the iterator only what it admits.
    ///
    /// Stops when the uncommitted bytes reach their limit; pass `&mut iter` to keep the rest. At least one is admitted,
    /// whatever its size, or the answer is an error. An empty iterator proposes nothing, `last < first`.
    pub fn propose(&mut self, entries: impl IntoIterator<Item = Bytes>) -> Result<Proposed, ProposeError> {
        self.propose_within(self.config.apply_gap_max, entries)
    }

    /// As [`propose`](Self::propose), for requests that relieve the server (lease revocation, compaction, alarms):
    /// they are refused at twice the distance between commit and apply.
    pub fn propose_critical(
        &mut self,
        entries: impl IntoIterator<Item = Bytes>,
    ) -> Result<Proposed, ProposeError> {
        self.propose_within(self.config.apply_gap_max.saturating_mul(2), entries)
    }

    /// Sends proposals to the leader. It may refuse or never see them; the caller notices by time only.
    pub fn forward(&mut self, kind: EntryKind, data: Vec<Bytes>) -> Result<(), ProposeError> {
        match self.leader {
            Some(leader) if !self.is_leader() => self.send(leader, Payload::Propose { kind, data }),
            leader => return Err(ProposeError::NotLeader { leader }),
        }
        Ok(())
    }

    /// Every [`Append`] up to `position` is durable. Reports may skip positions; older ones are ignored.
    pub fn persisted(&mut self, position: LogPosition) {
        if !self.outbox.persisted(position) {
            return;
        }
        self.log.persisted(position);
        if self.log.commit() < self.founding_index && self.log.stable() >= self.founding_index {
            self.log.commit_to(self.founding_index);
        }
        while let Some(message) = self.outbox.pop_released() {
            if message.to == self.config.id {
                self.handle_own_vote(&message)
            } else {
                self.outbox.send(message)
            }
        }
        if self.is_leader() {
            self.maybe_commit();
        }
    }

    /// Everything up to `index`, handed out by [`poll_committed`](Self::poll_committed) or standing for a snapshot, has
    /// taken effect.
    pub fn applied(&mut self, index: LogIndex) {
        self.log.applied_to(index);
        if self.campaign_wanted {
            self.campaign();
        }
    }

    /// Entries up to `upto` are in a state that can be sent as a snapshot. Forgets those no slow follower may want:
    /// the last few are kept within the limits of the configuration, none when there is no other member.
    pub fn compact(&mut self, upto: LogIndex) {
        let keep = if self.peers.is_empty() { 0 } else { self.config.kept_entries_max };
        self.log.compact(upto, keep, self.config.kept_bytes_max);
    }

    /// The next write, if any. Writes are taken in order and may be in flight together.
    pub fn poll_append(&mut self) -> Option<Append> {
        self.outbox.poll_append(self.hard_state())
    }

    /// The next message that may leave now. Urgent ones come first; a transport may not let them queue behind others.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.flush_reads();
        self.outbox.poll_message()
    }

    /// The next committed entries, consecutive, each handed out once; at most `bytes_max` of data, but at least one.
    pub fn poll_committed(&mut self, bytes_max: u64) -> Option<Vec<Entry>> {
        self.log.next_committed(bytes_max)
    }

    /// The next confirmation of reads.
    pub fn poll_read(&mut self) -> Option<ReadState> {
        self.outbox.poll_read()
    }

    /// The next follower that needs a snapshot: answer with [`begin_snapshot`](Self::begin_snapshot), or with
    /// [`snapshot_status`](Self::snapshot_status) if there is none to give.
    pub fn poll_snapshot_request(&mut self) -> Option<MemberId> {
        self.outbox.poll_snapshot_request()
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The current role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// The leader, as far as known.
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// Term, vote and commit as the next write will carry them.
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.commit() }
    }

    /// The members as of the last applied change.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf
    }

    /// The last entry known committed.
    pub fn commit_index(&self) -> LogIndex {
        self.log.commit()
    }

    /// The last entry reported applied.
    pub fn applied_index(&self) -> LogIndex {
        self.log.applied()
    }

    /// The last entry, committed or not.
    pub fn last_index(&self) -> LogIndex {
        self.log.last_index()
    }

    /// The first entry still in memory.
    pub fn first_index(&self) -> LogIndex {
        self.log.first_index()
    }

    /// The term of entry `index`, if it is in memory or just before what is.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term(index)
    }

    /// Whether an entry of the own term is committed: the leader then knows of every committed entry.
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.is_leader() && self.log.matches(self.log.commit(), self.term)
    }

    fn propose_within(
        &mut self,
        gap_max: u64,
        entries: impl IntoIterator<Item = Bytes>,
    ) -> Result<Proposed, ProposeError> {
        self.check_proposal(gap_max)?;
        let first = self.log.last_index().next();
        let mut entries = entries.into_iter();
        while self.uncommitted_bytes < self.config.uncommitted_bytes_max
            && let Some(data) = entries.next()
        {
            self.append_entry(EntryKind::Normal, data);
        }
        let last = self.log.last_index();
        if last >= first {
            self.after_append();
        }
        Ok(Proposed { term: self.term, first, last })
    }

    pub(crate) fn check_proposal(&self, gap_max: u64) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader { leader: self.leader });
        }
        if self.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let uncommitted_full = self.uncommitted_bytes >= self.config.uncommitted_bytes_max;
        if uncommitted_full || self.log.commit().since(self.log.applied()) > gap_max {
            return Err(ProposeError::TooManyRequests);
        }
        Ok(())
    }

    /// Adds an entry of the own term to the log and to the open write.
    pub(crate) fn append_entry(&mut self, kind: EntryKind, data: Bytes) -> LogIndex {
        let position = self.outbox.open();
        let entry = self.log.push(self.term, kind, data);
        let index = entry.index;
        self.uncommitted_bytes += entry_bytes(entry);
        self.outbox.entries().push(entry.clone());
        self.log.written_at(position);
        index
    }

    /// Raises the commit index and gives back what its entries held of the proposal quota.
    pub(crate) fn commit_to(&mut self, index: LogIndex) -> bool {
        let before = self.log.commit();
        if !self.log.commit_to(index) {
            return false;
        }
        if self.is_leader() {
            let bytes: u64 = self.log.range(before.next(), index).map(entry_bytes).sum();
            assert!(bytes <= self.uncommitted_bytes, "{bytes} bytes committed of {}", self.uncommitted_bytes);
            self.uncommitted_bytes -= bytes;
        }
        true
    }

    /// Moves to `term` with `vote`; both go out with the write now open.
    pub(crate) fn set_hard_state(&mut self, term: Term, vote: Option<MemberId>) {
        assert!(term >= self.term, "term {term} after {}", self.term);
        assert!(
            term > self.term || self.vote.is_none() || self.vote == vote,
            "second vote in term {term}: {:?} after {:?}",
            vote,
            self.vote
        );
        if (term, vote) == (self.term, self.vote) {
            return;
        }
        (self.term, self.vote) = (term, vote);
        self.hard_position = self.outbox.open();
    }

    /// Sends at once. For messages that promise nothing.
    pub(crate) fn send(&mut self, to: MemberId, payload: Payload) {
        let message = self.message(to, payload);
        self.outbox.send(message);
    }

    /// Sends once everything written so far is durable. For messages that rest on the log.
    pub(crate) fn send_durable(&mut self, to: MemberId, payload: Payload) {
        let message = self.message(to, payload);
        self.send_after(self.outbox.tail(), message);
    }

    /// Sends once the term is durable. For messages that rest on nothing else, so that they never wait for entries.
    pub(crate) fn send_in_term(&mut self, to: MemberId, payload: Payload) {
        let message = self.message(to, payload);
        self.send_after(self.hard_position, message);
    }

    pub(crate) fn send_after(&mut self, position: LogPosition, message: Message) {
        if position <= self.outbox.durable() {
            self.outbox.send(message);
        } else {
            self.outbox.hold(position, message);
        }
    }

    pub(crate) fn message(&self, to: MemberId, payload: Payload) -> Message {
        Message { from: self.config.id, to, term: self.term, payload }
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
            // Neither asking nor being told "you may" moves anybody to the term asked about.
            Payload::PreVote { .. } | Payload::PreVoteReply { granted: true, .. } => return true,
            _ => {}
        }
        self.become_follower(message.term, leads.then_some(message.from));
        true
    }

    /// A leader cut off behind must learn of the newer term, or a member that moved ahead of it alone could never come
    /// back; a candidate asking gets an answer; the rest is old news.
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
            Payload::Propose { kind, data } => self.handle_propose(kind, data),
            Payload::ReadIndex { round } if self.is_leader() => self.handle_read_index(from, round),
            Payload::ReadIndexReply { round, index } => self.handle_read_index_reply(round, index),
            Payload::ReadIndex { .. } => {}
        }
    }

    /// A follower passes on what its clients wrote. Refusals are silent: its clients time out.
    fn handle_propose(&mut self, kind: EntryKind, data: Vec<Bytes>) {
        match kind {
            EntryKind::Normal => {
                let _ = self.propose(data);
            }
            EntryKind::ConfChange => {
                for change in data.iter().flat_map(ConfChange::decode) {
                    let _ = self.propose_conf_change(&change);
                }
            }
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
