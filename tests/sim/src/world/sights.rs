//! Looks for what is worth having seen: see [`Goal`](crate::goals::Goal). Everything is seen from outside, in messages and
//! in what members say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::error::ApiError;
use engine::replica::peer::{Message, TransferBody};
use engine::transfer::Piece;
use engine::types::Seq;
use raft::{LogIndex, MemberId, Payload, Raft, ReadRound, Role, Term};

use super::World;
use crate::call::Reply;
use crate::goals::Goals;
use crate::sometimes;

/// After this time a member asks again for a round of reads.
const READ_RETRY: Duration = Duration::from_millis(500);

/// One node, as it was after its last event.
#[derive(Clone, Debug, Default)]
struct Seen {
    role: Option<Role>,
    term: Term,
    commit: LogIndex,
    last: (LogIndex, Term),
    /// The newest round it asked the leader for without an answer, and when.
    asked: Option<(ReadRound, Duration)>,
    /// The power failed while it led.
    lost_leading: bool,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    /// How often.
    pub goals: Goals,
    nodes: BTreeMap<usize, Seen>,
    /// Who stood for election.
    candidates: BTreeMap<Term, usize>,
    /// Pieces of transfers that were sent: the transfer's number, and where the piece begins.
    pieces: BTreeSet<(u64, Seq)>,
    /// Writes passed on that reached a leader: its term, by whom, and their number.
    forwards: BTreeSet<(Term, MemberId, u64)>,
}

impl Sights {
    fn sent(&mut self, node: usize, now: Duration, message: &Message, is_lost: bool) {
        match message {
            Message::Raft(raft::Message { payload: Payload::Propose { .. }, .. }) => {
                sometimes!(self.goals, ForwardLost, is_lost);
            }
            Message::Raft(raft::Message { payload: Payload::ReadIndex { round }, .. }) => {
                let asked = &mut self.nodes.entry(node).or_default().asked;
                sometimes!(self.goals, ReadAskedAgain, asked.is_some_and(|(_, at)| now >= at + READ_RETRY));
                *asked = Some((*round, now));
            }
            Message::Transfer { number, body: TransferBody::Piece { bytes, .. }, .. } => {
                let at = Piece::decode(bytes).map_or(Seq(0), |piece| piece.at());
                sometimes!(self.goals, TransferResumed, !self.pieces.insert((*number, at)));
            }
            _ => {}
        }
    }

    fn heard(&mut self, node: usize, message: &Message, raft: &Raft) {
        let Message::Raft(message) = message else { return };
        match message.payload {
            Payload::Propose { number, .. } if raft.is_leader() && message.term == raft.term() => {
                let is_news = self.forwards.insert((message.term, message.from, number));
                sometimes!(self.goals, ForwardRepeated, !is_news);
            }
            Payload::ReadIndexReply { round, .. } => {
                let asked = &mut self.nodes.entry(node).or_default().asked;
                *asked = asked.filter(|(newest, _)| round < *newest);
            }
            _ => {}
        }
    }

    fn opened(&mut self, node: usize, raft: &Raft) {
        let seen = self.nodes.entry(node).or_default();
        sometimes!(self.goals, TailLost, raft.last_index() < seen.last.0);
        sometimes!(self.goals, TermLost, raft.term() < seen.term);
        sometimes!(self.goals, LeaderLostPower, seen.lost_leading);
        *seen = Seen { term: raft.term(), ..Seen::default() };
    }

    /// After each event. Whether another node takes itself for the leader is looked up only if it matters.
    fn look(&mut self, node: usize, raft: &Raft, other_leads: impl Fn() -> bool) -> bool {
        let seen = self.nodes.entry(node).or_default();
        let (role, term, commit) = (raft.role(), raft.term(), raft.commit_index());
        let is_new = (seen.role, seen.term) != (Some(role), term);
        let elected = is_new && role == Role::Leader;
        sometimes!(self.goals, LeaderBesideLeader, elected && other_leads());
        sometimes!(
            self.goals,
            SteppedDown,
            seen.role == Some(Role::Leader) && role == Role::Follower && seen.term == term
        );
        if is_new && role == Role::Candidate {
            let first = *self.candidates.entry(term).or_insert(node);
            sometimes!(self.goals, SplitVote, first != node);
        }
        sometimes!(
            self.goals,
            CommitBeforeOwnDisk,
            commit > seen.commit && role == Role::Leader && raft.status().stable_index < commit
        );
        let (index, before) = seen.last;
        sometimes!(
            self.goals,
            TailReplaced,
            index >= raft.first_index() && raft.term_at(index) != Some(before)
        );
        let last = raft.last_index();
        let last = (last, raft.term_at(last).unwrap_or_default());
        (seen.role, seen.term, seen.commit, seen.last) = (Some(role), term, commit, last);
        elected
    }
}

impl World {
    /// What was come across.
    pub fn goals(&self) -> Goals {
        let mut goals = self.sights.goals;
        let tally = &self.judge.tally;
        sometimes!(goals, TransferInstalled, tally.installed > 0);
        sometimes!(goals, UnknownTookEffect, tally.resolved > 0);
        sometimes!(goals, ExpiredUnderNewLeader, tally.inherited > 0);
        goals
    }

    pub(super) fn look(&mut self) {
        let World { sights, nodes, at, judge, .. } = self;
        let raft = |node: &super::Node| node.member.as_ref().is_some_and(|m| m.replica.raft().is_leader());
        let other_leads = || nodes.iter().enumerate().any(|(nth, node)| nth != *at && raft(node));
        let own = nodes[*at].member.as_ref().expect("the process runs").replica.raft();
        if sights.look(*at, own, other_leads) {
            judge.elected();
        }
    }

    pub(super) fn look_at_opened(&mut self) {
        let World { sights, nodes, at, .. } = self;
        sights.opened(*at, nodes[*at].member.as_ref().expect("just opened").replica.raft());
    }

    pub(super) fn look_at_sent(&mut self, message: &Message, is_lost: bool) {
        self.sights.sent(self.at, self.now, message, is_lost);
    }

    pub(super) fn look_at_heard(&mut self, message: &Message) {
        let World { sights, nodes, at, .. } = self;
        sights.heard(*at, message, nodes[*at].member.as_ref().expect("it hears").replica.raft());
    }

    pub(super) fn look_at_reply(&mut self, reply: &Reply) {
        let goals = &mut self.sights.goals;
        sometimes!(goals, LeaderChanged, *reply == Reply::Refused(ApiError::LeaderChanged));
        sometimes!(goals, TimeoutLeaderFailed, *reply == Reply::Refused(ApiError::TimeoutLeaderFailed));
    }

    /// Just before a process dies; `of_power` if by a power cut.
    pub(super) fn look_at_death(&mut self, of_power: bool) {
        let Some(member) = &self.nodes[self.at].member else { return };
        let seen = self.sights.nodes.entry(self.at).or_default();
        seen.lost_leading = of_power && member.replica.raft().is_leader();
    }
}
