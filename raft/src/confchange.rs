//! Membership changes, one member at a time (thesis §4.1), with the guards etcd puts around them.
//!
//! A change is an ordinary log entry until it is *applied*; only then does the new configuration count.
//! Guards:
//! - at most one change is unapplied anywhere in the leader's log, so consecutive configurations share a
//!   quorum member;
//! - none is proposed before the leader has committed in its own term, which closes the hole found in the
//!   published single-server algorithm in 2015;
//! - nobody campaigns with a committed change still to be applied (`election.rs`).
//!
//! Whether members are started, connected or wanted is the caller's question; raft asks what would break
//! consensus.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::progress::{Progress, ProgressState};
use crate::propose::{ProposeError, Proposed};
use crate::raft::Raft;
use crate::types::{ConfState, EntryKind, LogIndex, MemberId};

/// What a change does to the member it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeOp {
    /// Gives it a vote: a new member, or a learner that is promoted.
    AddVoter,
    /// Lets it follow without a vote.
    AddLearner,
    /// Takes it out.
    Remove,
    /// Changes what is known about it, in `context` only; ordered with the others.
    Update,
}

/// A change of one member, the data of an [`EntryKind::ConfChange`] entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// What happens.
    pub op: ConfChangeOp,
    /// To whom.
    pub member: MemberId,
    /// The caller's own words about it (addresses, name); opaque here.
    pub context: Bytes,
}

/// Bytes that are no [`ConfChange`]: the disk's or a peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedConfChange;

/// Why a change would break the cluster: the asker's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeRefusal {
    /// The last voter cannot leave.
    LastVoter,
    /// A voter does not become a learner; it leaves and comes back under a new identity.
    AlreadyVoter,
    /// The learner lacks more than a tenth of the leader's log (etcd's readiness rule).
    LearnerNotReady,
    /// Member id zero means nobody.
    ZeroId,
}

impl fmt::Display for MalformedConfChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed membership change")
    }
}

impl std::error::Error for MalformedConfChange {}

impl fmt::Display for ConfChangeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastVoter => "the last voter cannot be removed",
            Self::AlreadyVoter => "a voter cannot become a learner",
            Self::LearnerNotReady => "the learner is not in sync with the leader",
            Self::ZeroId => "member id zero",
        })
    }
}

impl ConfChange {
    /// The entry data: op (1 byte), member (8 bytes, little-endian), context.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(9 + self.context.len());
        bytes.put_u8(match self.op {
            ConfChangeOp::AddVoter => 0,
            ConfChangeOp::AddLearner => 1,
            ConfChangeOp::Remove => 2,
            ConfChangeOp::Update => 3,
        });
        bytes.put_u64_le(self.member.0);
        bytes.put_slice(&self.context);
        bytes.freeze()
    }

    /// Reads what [`encode`](Self::encode) wrote; `context` shares the bytes of `data`.
    pub fn decode(data: &Bytes) -> Result<Self, MalformedConfChange> {
        let (&op, rest) = data.split_first().ok_or(MalformedConfChange)?;
        let member = rest.first_chunk().ok_or(MalformedConfChange)?;
        let op = match op {
            0 => ConfChangeOp::AddVoter,
            1 => ConfChangeOp::AddLearner,
            2 => ConfChangeOp::Remove,
            3 => ConfChangeOp::Update,
            _ => return Err(MalformedConfChange),
        };
        Ok(Self { op, member: MemberId(u64::from_le_bytes(*member)), context: data.slice(9..) })
    }
}

impl ConfState {
    /// The members after `change`. Applying a change twice changes nothing, and the last voter stays whatever
    /// is asked.
    pub fn after(&self, change: &ConfChange) -> Self {
        let others = |ids: &[MemberId]| -> Vec<MemberId> {
            ids.iter().copied().filter(|&id| id != change.member).collect()
        };
        let (mut voters, mut learners) = (others(&self.voters), others(&self.learners));
        match change.op {
            ConfChangeOp::AddVoter => voters.push(change.member),
            ConfChangeOp::AddLearner => learners.push(change.member),
            ConfChangeOp::Remove => {}
            ConfChangeOp::Update => return self.clone(),
        }
        if voters.is_empty() { self.clone() } else { Self::new(voters, learners) }
    }
}

impl Raft {
    /// Proposes `change` as one entry.
    ///
    /// Errors: as [`propose`](Self::propose), and [`ProposeError::ConfChangePending`],
    /// [`ProposeError::LeaderNotReady`] (retry later), [`ProposeError::Refused`] (never).
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, ProposeError> {
        self.check_proposal(self.config.apply_gap_max)?;
        if self.pending_conf_index > self.log.applied() {
            return Err(ProposeError::ConfChangePending);
        }
        if !self.has_committed_in_term() {
            return Err(ProposeError::LeaderNotReady);
        }
        self.refusal(change).map_or(Ok(()), |refusal| Err(ProposeError::Refused(refusal)))?;
        let index = self.append_entry(EntryKind::ConfChange, change.encode());
        self.pending_conf_index = index;
        self.after_append();
        Ok(Proposed { term: self.term, first: index, last: index })
    }

    /// Whether a change could be proposed now: this member leads, knows what was committed before, and no other change is
    /// under way.
    pub fn takes_conf_changes(&self) -> bool {
        let settled = self.pending_conf_index <= self.log.applied();
        self.has_committed_in_term() && self.transfer.is_none() && settled
    }

    /// Whether a member has nine tenths of what the leader itself has (etcd's `isLearnerReady`); `None` if there is no
    /// such member, or this one does not lead.
    pub fn is_in_sync(&self, member: MemberId) -> Option<bool> {
        let is_known = self.is_leader() && self.conf.members().any(|known| known == member);
        is_known.then(|| member == self.config.id || self.is_caught_up(member))
    }

    /// Makes `change`, which came out of [`poll_committed`](Self::poll_committed), the configuration.
    ///
    /// To be called before [`applied`](Self::applied) reports its entry; a change the caller finds void on
    /// every member alike is simply not passed here. Repeating it after a restart changes nothing.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> &ConfState {
        let conf = self.conf.after(change);
        if conf != self.conf {
            self.outbox.conf_state(conf.clone());
            self.switch_conf(conf);
        }
        &self.conf
    }

    /// The configuration is `conf` from now on.
    pub(crate) fn switch_conf(&mut self, conf: ConfState) {
        self.conf = conf;
        self.sync_peers();
        if self.transfer.as_ref().is_some_and(|transfer| !self.conf.is_voter(transfer.to)) {
            self.transfer = None;
        }
        if !self.is_leader() {
            return;
        }
        if !self.conf.is_voter(self.config.id) {
            self.become_follower(self.term, None);
            return;
        }
        // A smaller quorum may have been reached already; a new member wants its first message.
        self.maybe_commit();
        let is_new = |(id, peer): (&MemberId, &Progress)| (peer.state == ProgressState::Probe).then_some(*id);
        let new: Vec<MemberId> = self.peers.iter().filter_map(is_new).collect();
        for to in new {
            self.send_append(to, true);
        }
        self.advance_reads();
    }

    /// One [`Progress`] for each other member: kept for those that stay, fresh for those that come.
    pub(crate) fn sync_peers(&mut self) {
        let id = self.config.id;
        self.peers.retain(|peer, _| self.conf.is_voter(*peer) || self.conf.is_learner(*peer));
        let next = self.log.last_index().next();
        for peer in self.conf.members().filter(|&member| member != id) {
            self.peers.entry(peer).or_insert_with(|| Progress::newcomer(&self.config, next));
        }
    }

    fn refusal(&self, change: &ConfChange) -> Option<ConfChangeRefusal> {
        let member = change.member;
        let is_voter = self.conf.is_voter(member);
        match change.op {
            _ if member == MemberId(0) => Some(ConfChangeRefusal::ZeroId),
            ConfChangeOp::Remove if self.conf.voters == [member] => Some(ConfChangeRefusal::LastVoter),
            ConfChangeOp::AddLearner if is_voter => Some(ConfChangeRefusal::AlreadyVoter),
            ConfChangeOp::AddVoter if self.conf.is_learner(member) && !self.is_caught_up(member) => {
                Some(ConfChangeRefusal::LearnerNotReady)
            }
            _ => None,
        }
    }

    /// etcd's `isLearnerReady`: nine tenths of what the leader itself has.
    fn is_caught_up(&self, learner: MemberId) -> bool {
        let learnt = self.peers.get(&learner).map_or(LogIndex(0), Progress::counted);
        learnt.0.saturating_mul(10) >= self.log.stable().0.saturating_mul(9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(op: ConfChangeOp, member: u64) -> ConfChange {
        ConfChange { op, member: MemberId(member), context: Bytes::new() }
    }

    fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
        let ids = |raw: &[u64]| raw.iter().copied().map(MemberId).collect::<Vec<_>>();
        ConfState::new(ids(voters), ids(learners))
    }

    fn applied(before: ConfState, op: ConfChangeOp, member: u64, expected: ConfState) {
        let change = change(op, member);
        let after = before.after(&change);
        assert_eq!(after, expected);
        assert_eq!(after.after(&change), expected, "twice");
        assert!(after.is_well_formed());
    }

    use ConfChangeOp::*;

    cases! {
        applied {
            the_first_voter: (conf(&[], &[]), AddVoter, 1, conf(&[1], &[]));
            another_voter: (conf(&[1, 3], &[]), AddVoter, 2, conf(&[1, 2, 3], &[]));
            a_voter_again: (conf(&[1, 2], &[]), AddVoter, 2, conf(&[1, 2], &[]));
            a_promotion: (conf(&[1], &[2]), AddVoter, 2, conf(&[1, 2], &[]));
            a_learner: (conf(&[1], &[]), AddLearner, 2, conf(&[1], &[2]));
            a_demotion: (conf(&[1, 2], &[]), AddLearner, 2, conf(&[1], &[2]));
            a_demotion_of_the_last_voter: (conf(&[1], &[2]), AddLearner, 1, conf(&[1], &[2]));
            a_voter_removed: (conf(&[1, 2], &[3]), Remove, 2, conf(&[1], &[3]));
            a_learner_removed: (conf(&[1, 2], &[3]), Remove, 3, conf(&[1, 2], &[]));
            the_last_voter_removed: (conf(&[1], &[3]), Remove, 1, conf(&[1], &[3]));
            a_stranger_removed: (conf(&[1, 2], &[3]), Remove, 9, conf(&[1, 2], &[3]));
            an_update: (conf(&[1, 2], &[3]), Update, 2, conf(&[1, 2], &[3]));
        }
    }

    #[test]
    fn survives_its_encoding() {
        for op in [AddVoter, AddLearner, Remove, Update] {
            let change = ConfChange { op, member: MemberId(77), context: Bytes::from_static(b"http://a:1") };
            assert_eq!(ConfChange::decode(&change.encode()), Ok(change));
        }
        for malformed in [&b""[..], b"\x00", b"\x00\x01\x02\x03\x04\x05\x06\x07", b"\x04\x01\0\0\0\0\0\0\0"] {
            assert_eq!(ConfChange::decode(&Bytes::copy_from_slice(malformed)), Err(MalformedConfChange));
        }
    }
}
