//! Who leads, and what a change of that means for those who wait here.

use std::time::Instant;

use raft::MemberId;

use super::{Config, Replica};
use crate::error::ApiError;
use crate::seeded::{self, Bug};

/// The leader as this member last heard.
#[derive(Debug, Default)]
pub struct Leadership {
    leader: Option<MemberId>,
    /// When it became known.
    since: Option<Instant>,
}

impl Leadership {
    /// Why a request that was proposed, and begun at `begun`, may have come to nothing. etcd's
    /// `parseProposeCtxErr`: two election timeouts before the leader was elected, the one before it was failing.
    pub fn explain_timeout(&self, config: &Config, begun: Instant) -> ApiError {
        let failing = 2 * config.raft.election_ticks * config.heartbeat;
        match self.since {
            Some(elected) if begun < elected && begun + failing > elected => ApiError::TimeoutLeaderFailed,
            _ => ApiError::Timeout,
        }
    }
}

impl Replica {
    /// Notices a new leader, and whether this member may decide over leases.
    ///
    /// Only a leader that has applied an entry of its own term, and so all that was committed before, knows all leases
    /// and may let them run out.
    pub(super) fn follow_leadership(&mut self, now: Instant) {
        let leader = self.raft.leader();
        if leader != self.leadership.leader {
            self.leadership.leader = leader;
            if leader.is_some() {
                self.leadership.since = Some(now);
                self.reads.leader_changed(&mut self.events);
                self.renewals.leader_changed();
            }
        }
        let leads = self.raft.is_leader() && self.applies.published().term == self.raft.term().0;
        match (leads, self.lessor.is_primary()) {
            (true, false) => self.become_primary(now),
            (false, true) if !seeded::is(Bug::ExpireUnled) => {
                self.lessor.demote();
                self.withdraw_revocations();
            }
            _ => {}
        }
        self.pump_renewals(now);
    }
}
