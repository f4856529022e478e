//! A picture of a member for people and metrics; nothing decides by it.

use crate::progress::ProgressState;
use crate::raft::{Raft, Role};
use crate::types::{ConfState, HardState, LogIndex, MemberId};

/// What a member is and knows.
#[derive(Clone, Debug)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// Its role.
    pub role: Role,
    /// The leader it follows.
    pub leader: Option<MemberId>,
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// The last entry reported applied.
    pub applied: LogIndex,
    /// The first entry in memory.
    pub first_index: LogIndex,
    /// The last entry.
    pub last_index: LogIndex,
    /// The last entry durable here.
    pub stable_index: LogIndex,
    /// The members.
    pub conf_state: ConfState,
    /// Whom leadership is being handed to.
    pub transferring_to: Option<MemberId>,
    /// Whether it sits out until it has caught up with its own promises.
    pub recovering: bool,
    /// The followers, ascending; empty unless this member leads.
    pub followers: Vec<FollowerStatus>,
}

/// A follower as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Who.
    pub id: MemberId,
    /// The last entry it is known to store.
    pub match_index: LogIndex,
    /// The next entry to send.
    pub next_index: LogIndex,
    /// How entries are sent.
    pub state: ProgressState,
    /// Heard from since the last quorum check.
    pub active: bool,
    /// Unanswered messages.
    pub inflight_count: usize,
}

impl Raft {
    /// The picture now. Allocates; not for hot paths.
    pub fn status(&self) -> Status {
        let follower = |(&id, progress): (&MemberId, &crate::progress::Progress)| FollowerStatus {
            id,
            match_index: progress.match_index,
            next_index: progress.next,
            state: progress.state,
            active: progress.active,
            inflight_count: progress.inflight_count(),
        };
        Status {
            id: self.config.id,
            role: self.role,
            leader: self.leader,
            hard_state: self.hard_state(),
            applied: self.log.applied(),
            first_index: self.log.first_index(),
            last_index: self.log.last_index(),
            stable_index: self.log.stable(),
            conf_state: self.conf.clone(),
            transferring_to: self.transfer.as_ref().map(|transfer| transfer.to),
            recovering: self.recovering.is_some(),
            followers: if self.is_leader() { self.peers.iter().map(follower).collect() } else { Vec::new() },
        }
    }
}
