//! The member itself: its state, its completions and outputs. The rules it follows live in the files beside
//! it.
//!
//! ```text
//!                times out                 majority would vote           majority votes
//!   Follower ---------------> PreCandidate --------------------> Candidate -----------> Leader
//!      ^                           |                                 |                     |
//!      +---------------------------+---------------------------------+---------------------+
//!         a leader or a higher term appears; the election is lost; a quorum is no longer heard
//! ```
//! Thesis §3.3 and §9.6; counterpart of etcd raft's `raft.go`. Fields other files of this crate share are
//! `pub(crate)`.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::config::Config;
use crate::log::RaftLog;
use crate::message::{Message, Payload};
use crate::outbox::{Append, Outbox};
use crate::progress::Progress;
use crate::propose::Forwards;
use crate::random::Pcg;
use crate::read_index::{ReadRounds, ReadState};
use crate::restore::{BOOTSTRAP_TERM, Promise, RestoreError, Restored, founding_changes};
use crate::seeded::{self, Bug};
use crate::types::{ConfState, Entry, EntryKind, HardState, LogIndex, LogPosition, MemberId, Term};

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
    pub(crate) forwards: Forwards,
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
            vote: hard_state.vote.filter(|_| !seeded::is(Bug::ForgetVote)),
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
            forwards: Forwards::new(starts),
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

    /// A founding member of a new cluster. Its log begins with one entry per founder, `context` and all, in
    /// term 1; each founder must be given the same list.
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
                self.handle_own_vote(&message);
            } else {
                self.outbox.send(message);
            }
        }
        if self.is_leader() {
            self.maybe_commit();
        }
    }

    /// Everything up to `index`, handed out by [`poll_committed`](Self::poll_committed) or standing for a
    /// snapshot, has taken effect.
    pub fn applied(&mut self, index: LogIndex) {
        self.log.applied_to(index);
        if self.campaign_wanted {
            self.campaign();
        }
    }

    /// Entries up to `upto` are in a state that can be sent as a snapshot. Forgets those no slow follower may
    /// want: the last few are kept within the limits of the configuration, none when there is no other
    /// member.
    pub fn compact(&mut self, upto: LogIndex) {
        let keep = if self.peers.is_empty() { 0 } else { self.config.kept_entries_max };
        self.log.compact(upto, keep, self.config.kept_bytes_max);
    }

    /// The next write, if any. Writes are taken in order and may be in flight together.
    pub fn poll_append(&mut self) -> Option<Append> {
        self.outbox.poll_append(self.hard_state())
    }

    /// The next message that may leave now. Urgent ones come first; a transport may not let them queue behind
    /// others.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.flush_reads();
        self.outbox.poll_message()
    }

    /// The next committed entries, consecutive, each handed out once; at most `bytes_max` of data, but at
    /// least one.
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

    /// Whether this member lost what it had acknowledged and has not seen it all again.
    pub fn is_recovering(&self) -> bool {
        self.recovering.is_some()
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

    /// Sends once the term is durable. For messages that rest on nothing else, so that they never wait for
    /// entries.
    pub(crate) fn send_in_term(&mut self, to: MemberId, payload: Payload) {
        let message = self.message(to, payload);
        self.send_after(self.hard_position, message);
    }

    pub(crate) fn send_after(&mut self, position: LogPosition, message: Message) {
        if position <= self.outbox.durable() || self.is_hasty(&message) {
            self.outbox.send(message);
        } else {
            self.outbox.hold(position, message);
        }
    }

    /// Whether a seeded mistake lets it leave before what it rests on is durable.
    fn is_hasty(&self, message: &Message) -> bool {
        let bug = match message.payload {
            Payload::VoteReply { .. } => Bug::VoteBeforeDurable,
            Payload::Vote { .. } => Bug::AskBeforeDurable,
            Payload::AppendReply { .. } => Bug::AckUnwritten,
            _ => return false,
        };
        seeded::is(bug) && message.to != self.config.id
    }

    pub(crate) fn message(&self, to: MemberId, payload: Payload) -> Message {
        Message { from: self.config.id, to, term: self.term, payload }
    }
}
