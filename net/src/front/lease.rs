//! The calls of the Lease service that take one message; the streaming one is in `keep_alive`.

use std::time::Instant;

use engine::lease::lessor::Later;
use engine::mvcc::Cold;
use engine::mvcc::walk::Budget;
use engine::replica::{CallId, Replica};
use engine::request::Write;
use engine::types::LeaseId;

use super::long::{Task, Work};
use super::serve::Served;
use super::{Front, Place};
use crate::api::Refusal;
use crate::api::lease::{self, AttachedKeys};
use crate::api::route::Method;

/// The keys of a lease being listed, in slices.
#[derive(Debug)]
pub struct Listing {
    id: LeaseId,
    /// The last key listed.
    after: Option<Vec<u8>>,
    keys: AttachedKeys,
}

impl Listing {
    /// Goes on until the budget is used up; true when all keys are listed.
    pub fn advance(&mut self, replica: &Replica, mut budget: Budget) -> Result<bool, Cold> {
        let Listing { id, after, keys } = self;
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
        let (id, lessor) = (self.id, replica.lessor());
        let times = lessor.seconds_left(now, id).zip(lessor.ttl(id));
        let header = Front::origin(replica).at(replica.store().published().1.revision);
        lease::time_to_live(header, id, times, &self.keys)
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
        if !replica.lessor().is_primary() {
            let key = self.hold(place, Method::LeaseTimeToLive, message);
            let waits = replica.lease_wait(now, id, Later::Primary, CallId(key.to_u64()));
            waits.expect("that this member leads can always be waited for");
            return Served::Later;
        }
        let listing = Listing { id, after: None, keys: AttachedKeys::default() };
        if wants_keys {
            self.tasks.push_back(Task::of_now(place, Work::Lease(Box::new(listing))));
            return Served::Later;
        }
        Served::Message(listing.answer(now, replica))
    }
}
