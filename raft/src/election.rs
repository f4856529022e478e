//! Who leads: timeouts, pre-vote, vote, loyalty to a live leader, quorum checks and transfer of leadership.
//!
//! Thesis §3.4 (election), §3.6.1 (only complete logs win), §3.10 (transfer), §4.2.3 and §9.6 (disruptive
//! members). A vote, the refusal of one, and the request for one leave only when what they rest on is
//! durable: a candidate that forgot entries it had claimed could otherwise win with votes given to the longer
//! log.

use std::fmt;

use crate::message::{Message, Payload};
use crate::progress::Progress;
use crate::quorum::{self, VoteResult};
use crate::raft::{Raft, Role, Transfer};
use crate::seeded::{self, Bug};
use crate::types::{EntryKind, LogIndex, MemberId, Term};

/// Why leadership cannot be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Only the leader can.
    NotLeader {
        /// The leader, if known.
        leader: Option<MemberId>,
    },
    /// Unknown, or a learner.
    NotAVoter,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLeader { .. } => "not the leader",
            Self::NotAVoter => "the target is not a voter",
        })
    }
}

impl std::error::Error for TransferError {}

impl Raft {
    /// Starts an election without waiting for the timeout; a single voter does so at start.
    ///
    /// Not possible for leaders, learners and recovering members: ignored. While committed configuration
    /// changes wait to be applied the election waits for them.
    pub fn campaign(&mut self) {
        self.campaign_wanted = false;
        if self.is_leader() || !self.is_promotable() {
            return;
        }
        if self.has_unapplied_conf_change() {
            self.campaign_wanted = true;
        } else if self.config.pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(false);
        }
    }

    /// Hands leadership to `to`: proposals are refused until it has taken over or an election timeout has
    /// passed.
    ///
    /// Naming the leader itself is a success at once.
    pub fn transfer(&mut self, to: MemberId) -> Result<(), TransferError> {
        if !self.is_leader() {
            return Err(TransferError::NotLeader { leader: self.leader });
        }
        if !self.conf.is_voter(to) {
            return Err(TransferError::NotAVoter);
        }
        if to == self.config.id || self.transfer.as_ref().is_some_and(|transfer| transfer.to == to) {
            return Ok(());
        }
        self.transfer = Some(Transfer { to, elapsed: 0 });
        if !self.finish_transfer(to) {
            self.send_append(to, true);
        }
        Ok(())
    }

    /// Lets `to` campaign if it is the transfer's target and has the whole log.
    pub(crate) fn finish_transfer(&mut self, to: MemberId) -> bool {
        let is_target = self.transfer.as_ref().is_some_and(|transfer| transfer.to == to);
        let complete = self.peers.get(&to).is_some_and(|peer| peer.counted() == self.log.last_index());
        if is_target && complete {
            self.send(to, Payload::TimeoutNow);
        }
        is_target && complete
    }

    pub(crate) fn tick_election(&mut self) {
        // Only a campaign that really starts resets this: a member that cannot campaign must not stay loyal
        // for ever.
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        if self.election_elapsed >= self.election_timeout {
            self.campaign();
        }
    }

    pub(crate) fn tick_leader(&mut self) {
        self.election_elapsed += 1;
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if self.config.check_quorum && !self.hears_quorum() {
                self.become_follower(self.term, None);
                return;
            }
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.elapsed += 1;
            if transfer.elapsed >= self.config.election_ticks {
                self.transfer = None;
            }
        }
        self.broadcast_heartbeat();
    }

    /// Whether a majority was heard since this was last asked.
    fn hears_quorum(&mut self) -> bool {
        let own = self.config.id;
        let heard = quorum::tally(&self.conf.voters, |id| {
            Some(id == own || self.peers.get(&id).is_some_and(|peer| peer.active))
        });
        for peer in self.peers.values_mut() {
            peer.active = false;
        }
        heard == VoteResult::Won || seeded::is(Bug::LeadWithoutQuorum)
    }

    /// A live leader is known, so whoever wants to replace it is ignored (thesis §4.2.3).
    pub(crate) fn is_loyal(&self) -> bool {
        self.config.check_quorum
            && self.leader.is_some()
            && self.election_elapsed < self.config.election_ticks
            && !seeded::is(Bug::IgnoreLoyalty)
    }

    fn is_promotable(&self) -> bool {
        self.conf.is_voter(self.config.id) && self.recovering.is_none() && !self.log.is_installing()
    }

    fn has_unapplied_conf_change(&self) -> bool {
        let mut unapplied = self.log.range(self.log.applied().next(), self.log.commit());
        unapplied.any(|entry| entry.kind == EntryKind::ConfChange)
    }

    /// `from` proves by its message that it leads our term.
    pub(crate) fn follow(&mut self, from: MemberId) {
        if self.role != Role::Follower {
            self.become_follower(self.term, Some(from));
        }
        assert!(
            self.leader.is_none_or(|leader| leader == from),
            "term {} led by {from} and by {:?}",
            self.term,
            self.leader
        );
        self.leader = Some(from);
        self.election_elapsed = 0;
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<MemberId>) {
        self.enter(term, Role::Follower, leader);
    }

    fn become_pre_candidate(&mut self) {
        self.enter(self.term, Role::PreCandidate, None);
        self.votes.insert(self.config.id, true);
        let payload = Payload::PreVote { last_index: self.log.last_index(), last_term: self.log.last_term() };
        for to in self.other_voters() {
            let message = Message { term: self.term.next(), ..self.message(to, payload.clone()) };
            self.outbox.send(message);
        }
        self.count_votes();
    }

    fn become_candidate(&mut self, transfer: bool) {
        self.enter(self.term.next(), Role::Candidate, None);
        self.set_hard_state(self.term, Some(self.config.id));
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        // The own vote counts like any other: when it is durable.
        self.send_durable(self.config.id, self.vote_reply(true));
        for to in self.other_voters() {
            self.send_durable(to, Payload::Vote { last_index, last_term, transfer });
        }
    }

    fn become_leader(&mut self) {
        assert_eq!(self.role, Role::Candidate, "leader without an election in term {}", self.term);
        self.enter(self.term, Role::Leader, Some(self.config.id));
        self.forwards.begin_term();
        let next = self.log.last_index().next();
        for peer in self.peers.values_mut() {
            *peer = Progress::new(&self.config, next);
        }
        // Any entry inherited may be a configuration change; assume so rather than read them all.
        self.pending_conf_index = self.log.last_index();
        let inherited = self.log.range(self.log.commit().next(), self.log.last_index());
        self.uncommitted_bytes = inherited.map(crate::log::entry_bytes).sum();
        // Earlier terms' entries commit only below one of the own term (thesis §3.6.2), so there must be one.
        self.append_entry(EntryKind::Normal, bytes::Bytes::new());
        self.after_append();
    }

    /// The common part of every change of role.
    fn enter(&mut self, term: Term, role: Role, leader: Option<MemberId>) {
        if term > self.term {
            self.set_hard_state(term, None);
        }
        if self.is_leader() {
            self.reads.drop_all();
        }
        self.role = role;
        self.leader = leader;
        self.votes.clear();
        self.transfer = None;
        self.campaign_wanted = false;
        self.election_elapsed = 0;
        self.election_timeout = self.config.election_ticks + self.random.below(self.config.election_ticks);
    }

    pub(crate) fn handle_pre_vote(
        &mut self,
        from: MemberId,
        term: Term,
        last_index: LogIndex,
        last_term: Term,
    ) {
        if self.recovering.is_some() {
            return;
        }
        let free = term > self.term || self.may_vote_for(from);
        let covered = self.log.is_covered_by(last_index, last_term) || seeded::is(Bug::IgnoreCompleteness);
        let granted = free && covered;
        let term = if granted { term } else { self.term };
        let reply = Message { term, ..self.message(from, self.pre_vote_reply(granted)) };
        self.send_after(self.outbox.tail(), reply);
    }

    pub(crate) fn handle_vote(&mut self, from: MemberId, last_index: LogIndex, last_term: Term) {
        if self.recovering.is_some() {
            return;
        }
        let covered = self.log.is_covered_by(last_index, last_term) || seeded::is(Bug::IgnoreCompleteness);
        let granted = self.may_vote_for(from) && covered;
        if granted {
            self.set_hard_state(self.term, Some(from));
            self.election_elapsed = 0;
        }
        self.send_durable(from, self.vote_reply(granted));
    }

    pub(crate) fn pre_vote_reply(&self, granted: bool) -> Payload {
        let (commit, commit_term) = self.log.commit_point();
        Payload::PreVoteReply { granted, commit, commit_term }
    }

    fn vote_reply(&self, granted: bool) -> Payload {
        let (commit, commit_term) = self.log.commit_point();
        Payload::VoteReply { granted, commit, commit_term }
    }

    /// A voter knows `commit` to be committed, and so does this member, if its log agrees there.
    ///
    /// Without this a group of two may stay without leader after a restart: the one that was removed knows
    /// that and cannot campaign, the one that stays has forgotten and waits for its vote.
    pub(crate) fn learn_commit(&mut self, commit: LogIndex, commit_term: Term) {
        if self.is_leader() || !self.log.matches(commit, commit_term) || !self.commit_to(commit) {
            return;
        }
        if self.role != Role::Follower && self.has_unapplied_conf_change() {
            self.become_follower(self.term, None);
            self.campaign_wanted = true;
        }
    }

    fn may_vote_for(&self, candidate: MemberId) -> bool {
        self.vote == Some(candidate) || (self.vote.is_none() && self.leader.is_none())
    }

    pub(crate) fn handle_pre_vote_reply(&mut self, from: MemberId, term: Term, granted: bool) {
        let asked = if granted { self.term.next() } else { self.term };
        if self.role == Role::PreCandidate && term == asked {
            self.record_vote(from, granted);
        }
    }

    pub(crate) fn handle_vote_reply(&mut self, from: MemberId, granted: bool) {
        if self.role == Role::Candidate {
            self.record_vote(from, granted);
        }
    }

    /// The own vote of `message.term` is durable; the candidacy may be over by now.
    pub(crate) fn handle_own_vote(&mut self, message: &Message) {
        if message.term == self.term {
            self.handle_vote_reply(self.config.id, true);
        }
    }

    /// The first answer of a voter stands; others have no say.
    fn record_vote(&mut self, from: MemberId, granted: bool) {
        if self.conf.is_voter(from) {
            self.votes.entry(from).or_insert(granted);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let result = quorum::tally(&self.conf.voters, |id| self.votes.get(&id).copied());
        match (result, self.role) {
            (VoteResult::Won, Role::PreCandidate) => self.become_candidate(false),
            (VoteResult::Won, _) => self.become_leader(),
            (VoteResult::Lost, _) => self.become_follower(self.term, None),
            (VoteResult::Pending, _) => {}
        }
    }

    /// The leader wants this member to take over: no pre-vote, and the others may forget their loyalty.
    pub(crate) fn handle_timeout_now(&mut self, from: MemberId) {
        if self.leader == Some(from) && self.is_promotable() && !self.has_unapplied_conf_change() {
            self.become_candidate(true);
        }
    }

    fn other_voters(&self) -> Vec<MemberId> {
        self.conf.voters.iter().copied().filter(|&id| id != self.config.id).collect()
    }
}
