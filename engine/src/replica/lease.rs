//! Leases as clients ask for them, and their end: the lessor beside the log.
//!
//! Granting and revoking are writes like any other. Renewing and asking for the time left touch neither the log nor the
//! index. See `lease` for what is stored and what is not.

use std::time::{Duration, Instant};

use super::{CallId, Config, Event, Replica};
use crate::error::ApiError;
use crate::lease::lessor::{Later, Lessor, Renewal};
use crate::lease::record::Lease;
use crate::request::{LeaseCheckpoint, LeaseGrant, Write};
use crate::response::Response;
use crate::types::LeaseId;

/// A member whose tick is late by so many heartbeats stood still.
const STILL_TICKS: u32 = 2;

/// How long a renewal waits for the member to have applied what its predecessors committed.
const APPLIED_WAIT: Duration = Duration::from_secs(1);

/// Least time to live, in seconds: one and a half election timeouts, so that no lease runs out while a new leader is
/// elected.
fn ttl_min(config: &Config) -> i64 {
    let ticks = 3 * config.raft.election_ticks / 2;
    (ticks * config.heartbeat).as_secs_f64().ceil() as i64
}

/// The lessor of a member that was opened with these leases.
pub(super) fn lessor(config: &Config, leases: Vec<(LeaseId, Lease)>, now: Instant) -> Lessor {
    let least = ttl_min(config);
    let raised = leases.into_iter().map(|(id, lease)| (id, Lease { ttl: lease.ttl.max(least), ..lease }));
    Lessor::new(raised, now, config.request_timeout)
}

impl Replica {
    /// The grant a client asks for, to be proposed: id 0 leaves the choice to the server, and a time to live below the
    /// least one is raised.
    pub fn lease_grant(&mut self, id: LeaseId, ttl: i64) -> LeaseGrant {
        let mut grant = LeaseGrant { id, ttl: ttl.max(ttl_min(&self.config)) };
        while grant.id == LeaseId::NONE {
            grant.id = Some(self.lease_ids.next_id()).filter(|id| !self.lessor.has(*id)).unwrap_or_default();
        }
        grant
    }

    /// Gives a lease all its time again.
    pub fn lease_renew(&mut self, now: Instant, id: LeaseId) -> Renewal {
        if !self.raft.is_leader() {
            return Renewal::Later(Later::Leader);
        }
        // Whoever stood still may have a successor by now, who ended the lease (etcd's `ensureLeadership`).
        let stood_still = now > self.next_tick + STILL_TICKS * self.config.heartbeat;
        if stood_still && self.raft.conf_state().voters.len() > 1 {
            return Renewal::Later(Later::Confirmed);
        }
        match self.lessor.renew(now, id) {
            // Nobody else can have granted it.
            Renewal::Gone if self.raft.conf_state().voters.len() > 1 => Renewal::Later(Later::Confirmed),
            renewal => renewal,
        }
    }

    /// Whether the times of leases are known here; if not, what to wait for before asking again. The answer of another
    /// member comes as [`Event::Lease`].
    pub fn lease_times_later(&self) -> Option<Later> {
        let other = if self.raft.is_leader() { Later::Primary } else { Later::Leader };
        (!self.lessor.is_primary()).then_some(other)
    }

    /// Asks the leader, another member, how long a lease has left: [`Replica::lease_wait`] without renewing.
    pub fn lease_ask(&mut self, now: Instant, id: LeaseId, call: CallId) {
        self.ask_leader(now, call, id, false);
    }

    /// What a renewal does that was told [`Renewal::Later`]: it waits. The call hears by [`Event::Go`] or
    /// [`Event::Answer`] when it should try again, by [`Event::Lease`] what another member did, or by
    /// [`Event::Refused`].
    ///
    /// Errors: it will not come to anything.
    pub fn lease_wait(
        &mut self,
        now: Instant,
        id: LeaseId,
        later: Later,
        call: CallId,
    ) -> Result<(), ApiError> {
        match later {
            Later::Primary => self.lessor.wait_for_primary(call, now + APPLIED_WAIT),
            Later::Revoked => self.lessor.wait_for_revoke(id, call),
            Later::Leader => self.ask_leader(now, call, id, true),
            Later::Confirmed => self.doubt(now, call, id),
            Later::Cleared => {
                let cleared = LeaseCheckpoint { id, remaining: 0 };
                return self.propose(now, call, &Write::LeaseCheckpoint(vec![cleared]), 0);
            }
        }
        Ok(())
    }

    /// Leases and their times.
    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// Leases and their times, to take what was counted.
    pub fn lessor_mut(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    /// What was applied and published may concern leases.
    pub(super) fn note_leases(&mut self, now: Instant, done: &Response) {
        match done {
            Response::LeaseGrant { id, ttl, .. } => self.lessor.on_granted(now, *id, *ttl),
            Response::LeaseRevoke { id, .. } => {
                let waited = self.lessor.on_revoked(*id);
                self.events.extend(waited.into_iter().map(|call| Event::Go { call }));
            }
            Response::LeaseCheckpoint { checkpoints, .. } => {
                checkpoints.iter().for_each(|checkpoint| self.lessor.on_checkpoint(*checkpoint));
            }
            _ => {}
        }
    }

    /// This member decides from now on when leases run out.
    pub(super) fn become_primary(&mut self, now: Instant) {
        let election = self.config.raft.election_ticks * self.config.heartbeat;
        let waited = self.lessor.promote(now, election);
        self.events.extend(waited.into_iter().map(|call| Event::Go { call }));
    }

    /// Time has passed. Returns when to call again.
    pub(super) fn expire_leases(&mut self, now: Instant) -> Instant {
        while let Some(call) = self.lessor.poll_overdue(now) {
            self.events.push_back(Event::Refused { call, error: ApiError::TimeoutWaitingForApplied });
        }
        self.lessor.handle_timeout(now)
    }

    /// Proposes to revoke leases that ran out, as many as may be under way.
    pub(super) fn revoke_expired(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        while let Some(id) = self.lessor.poll_expired() {
            let proposed = self.propose(now, CallId::LESSOR, &Write::LeaseRevoke(id), 0);
            proposed.expect("a revocation is small");
        }
    }

    /// Whether the next turn has leases to revoke.
    pub(super) fn has_expired_leases(&self) -> bool {
        !self.stopping && self.lessor.has_expired()
    }
}
