//! The calls of the Lease service that take one message; the streaming one is in `keep_alive`.

use std::time::Instant;

use engine::lease::lessor::Later;
use engine::mvcc::Cold;
use engine::mvcc::walk::Budget;
use engine::replica::peer::LeaseTimes;
use engine::replica::{CallId, Fatal, Replica};
use engine::request::Write;
use engine::types::LeaseId;

use super::long::{Task, Work};
use super::serve::Served;
use super::{Front, Place, Waiting};
use crate::api::Refusal;
use crate::api::lease::{self, AttachedKeys};
use crate::api::route::Method;
use crate::slab::Key;

/// The keys of a lease being listed, in slices.
#[derive(Debug)]
pub struct Listing {
    id: LeaseId,
    /// What the leader said, if that is another member.
    told: Option<Option<LeaseTimes>>,
    /// The last key listed.
    after: Option<Vec<u8>>,
    keys: AttachedKeys,
}

impl Listing {
    /// Goes on until the budget is used up; true when all keys are listed.
    pub fn advance(&mut self, replica: &Replica, mut budget: Budget) -> Result<bool, Cold> {
        let Listing { id, after, keys, .. } = self;
        let start = after.clone();
        replica.view().lease_keys(*id, start.as_deref(), |key| {
            keys.push(key);
            let after = after.get_or_insert_default();
            after.clear();
            after.extend_from_slice(key);
            budget.spend()
        })
    }

    /// The answer.
    pub fn answer(&self, now: Instant, replica: &Replica) -> Vec<u8> {
        let times = self.told.unwrap_or_else(|| replica.lessor().times(now, self.id));
        let header = Front::origin(replica).at(replica.store().published().1.revision);
        lease::time_to_live(header, self.id, times.map(|times| (times.left, times.granted)), &self.keys)
    }
}

impl Front {
    /// Proposes to grant or to revoke a lease.
    pub(super) fn serve_lease(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        message: &[u8],
        replica: &mut Replica,
    ) -> Served {
        let write = match method {
            Method::LeaseGrant => {
                lease::decode_grant(message).map(|(id, ttl)| Write::LeaseGrant(replica.lease_grant(id, ttl)))
            }
            _ => lease::decode_revoke(message).map(Write::LeaseRevoke),
        };
        let write = match write {
            Ok(write) => write,
            Err(malformed) => return Refusal::from(malformed).into(),
        };
        match replica.check_quota(now, &write) {
            Ok(()) => self.propose(now, place, &write, message.len(), replica),
            Err(error) => error.into(),
        }
    }

    /// Tells how long a lease has left, and which keys are attached to it.
    pub(super) fn time_to_live(
        &mut self,
        now: Instant,
        place: Place,
        message: &[u8],
        replica: &mut Replica,
    ) -> Served {
        let (id, wants_keys) = match lease::decode_time_to_live(message) {
            Ok(request) => request,
            Err(malformed) => return Refusal::from(malformed).into(),
        };
        if let Some(later) = replica.lease_times_later() {
            let key = self.hold(place, Method::LeaseTimeToLive, message);
            let call = CallId(key.to_u64());
            match later {
                Later::Leader => replica.lease_ask(now, id, call),
                later => {
                    let waits = replica.lease_wait(now, id, later, call);
                    waits.expect("that this member leads can always be waited for");
                }
            }
            return Served::Later;
        }
        self.list_lease(now, place, (id, wants_keys), None, replica)
    }

    /// Answers with the times `told` by the leader, or those this member knows.
    fn list_lease(
        &mut self,
        now: Instant,
        place: Place,
        (id, wants_keys): (LeaseId, bool),
        told: Option<Option<LeaseTimes>>,
        replica: &Replica,
    ) -> Served {
        let listing = Listing { id, told, after: None, keys: AttachedKeys::default() };
        if wants_keys {
            self.tasks.push_back(Task::of_now(place, Work::Lease(Box::new(listing))));
            return Served::Later;
        }
        Served::Message(listing.answer(now, replica))
    }

    /// The leader, another member, told the times of a lease.
    pub(super) fn on_lease_times(
        &mut self,
        now: Instant,
        call: CallId,
        times: Option<LeaseTimes>,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        match self.waiting.remove(Key::from_u64(call.0)) {
            None => Ok(()),
            Some(Waiting::KeepAlive(place)) => self.with(place, |front, server| {
                front.kept_alive(now, place, times, server, replica);
                Ok(())
            }),
            Some(Waiting::Again { place, .. }) => {
                let Some(message) = self.held.remove(&place.key()) else { return Ok(()) };
                self.with(place, |front, server| {
                    let request = lease::decode_time_to_live(&message).expect("it was decoded before");
                    let served = front.list_lease(now, place, request, Some(times), replica);
                    front.settle(place, served, server, replica)
                })
            }
            Some(waiting) => unreachable!("times of a lease for {waiting:?}"),
        }
    }
}
