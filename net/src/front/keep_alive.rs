//! The streaming call `LeaseKeepAlive`: one answer a request, in their order.
//!
//! A renewal is answered at once, from memory. One that must wait (the lease has run out and is being revoked, or a
//! checkpoint of it must be forgotten first) holds up the requests behind it on the same call, as in etcd, and no others.

use std::collections::VecDeque;
use std::time::Instant;

use engine::error::ApiError;
use engine::lease::lessor::Renewal;
use engine::replica::peer::LeaseTimes;
use engine::replica::{CallId, Replica};
use engine::types::LeaseId;

use super::streams::Streamed;
use super::{ConnId, Front, Place, Waiting};
use crate::api::{Refusal, lease};
use crate::grpc::{self, Status};

/// Requests of one call that may wait behind one that waits.
const WAITING_MAX: usize = 1 << 16;

/// A call.
#[derive(Debug, Default)]
pub struct KeepAlive {
    /// Requests not answered; the first one waits for the replica.
    waiting: VecDeque<LeaseId>,
    /// The client has sent its last request.
    half_closed: bool,
}

impl Front {
    /// A call of `LeaseKeepAlive` was admitted.
    pub(super) fn open_keep_alive(&mut self, place: Place) -> Streamed {
        self.keep_alives.insert(place.key(), KeepAlive::default());
        Streamed::Nothing
    }

    /// Its next request.
    pub(super) fn take_keep_alive(
        &mut self,
        now: Instant,
        place: Place,
        message: &[u8],
        replica: &mut Replica,
    ) -> Streamed {
        let call = self.keep_alives.get_mut(&place.key()).expect("a call is open until it ends");
        let outcome = match lease::decode_keep_alive(message) {
            Err(malformed) => Err(Refusal::of_stream(malformed)),
            Ok(_) if call.waiting.len() == WAITING_MAX => Err(ApiError::Timeout.into()),
            Ok(id) if !call.waiting.is_empty() => {
                call.waiting.push_back(id);
                return Streamed::Nothing;
            }
            Ok(id) => self.renew(now, place, id, replica).map_err(Refusal::from),
        };
        match outcome {
            Ok(Some(answer)) => Streamed::Message(answer),
            Ok(None) => Streamed::Nothing,
            Err(refusal) => self.end_keep_alive(place, refusal.into()),
        }
    }

    /// Its client has sent the last request. `None` if it is not a call of `LeaseKeepAlive`.
    pub(super) fn half_close_keep_alive(&mut self, place: Place) -> Option<Streamed> {
        let call = self.keep_alives.get_mut(&place.key())?;
        call.half_closed = true;
        Some(match call.waiting.is_empty() {
            true => self.end_keep_alive(place, Status::OK),
            false => Streamed::Nothing,
        })
    }

    /// The leader, another member, renewed the lease of the first request of a call, or has no such lease.
    pub(super) fn kept_alive(
        &mut self,
        now: Instant,
        place: Place,
        times: Option<LeaseTimes>,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) {
        let Some(call) = self.keep_alives.get_mut(&place.key()) else { return };
        let id = call.waiting.pop_front().expect("the first request waited");
        let header = Front::origin(replica).at(replica.store().published().1.revision);
        let answer = lease::keep_alive(header, id, times.map_or(0, |times| times.granted));
        super::streams::settle(place, Streamed::Message(answer), server);
        self.resume_keep_alive(now, place, Ok(()), server, replica);
    }

    /// What the first request of a call waited for has happened, or has failed.
    pub(super) fn resume_keep_alive(
        &mut self,
        now: Instant,
        place: Place,
        outcome: Result<(), ApiError>,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) {
        if let Err(error) = outcome {
            let end = self.end_keep_alive(place, Refusal::from(error).into());
            return super::streams::settle(place, end, server);
        }
        while let Some(call) = self.keep_alives.get_mut(&place.key()) {
            let streamed = match call.waiting.pop_front() {
                None if call.half_closed => self.end_keep_alive(place, Status::OK),
                None => return,
                Some(id) => match self.renew(now, place, id, replica) {
                    Ok(Some(answer)) => Streamed::Message(answer),
                    Ok(None) => return,
                    Err(error) => self.end_keep_alive(place, Refusal::from(error).into()),
                },
            };
            super::streams::settle(place, streamed, server);
        }
    }

    /// The answer to a request; `None` if it must wait, and is now the first of its call that does.
    fn renew(
        &mut self,
        now: Instant,
        place: Place,
        id: LeaseId,
        replica: &mut Replica,
    ) -> Result<Option<Vec<u8>>, ApiError> {
        let header = Front::origin(replica).at(replica.store().published().1.revision);
        match replica.lease_renew(now, id) {
            Renewal::Renewed(ttl) => Ok(Some(lease::keep_alive(header, id, ttl))),
            Renewal::Gone => Ok(Some(lease::keep_alive(header, id, 0))),
            Renewal::Later(later) => {
                let key = self.waiting.insert(Waiting::KeepAlive(place));
                if let Err(error) = replica.lease_wait(now, id, later, CallId(key.to_u64())) {
                    self.waiting.remove(key);
                    return Err(error);
                }
                let call = self.keep_alives.get_mut(&place.key()).expect("a call is open until it ends");
                call.waiting.push_front(id);
                Ok(None)
            }
        }
    }

    fn end_keep_alive(&mut self, place: Place, status: Status) -> Streamed {
        self.keep_alives.remove(&place.key());
        Streamed::End(status)
    }

    /// The call is over.
    pub(super) fn forget_keep_alive(&mut self, place: Place) {
        self.keep_alives.remove(&place.key());
    }

    /// All calls of a connection are over.
    pub(super) fn forget_keep_alives_of(&mut self, conn: ConnId) {
        let number = conn.0.to_u64();
        let calls = self.keep_alives.range((number, 0)..=(number, u64::MAX)).map(|(&key, _)| key);
        for key in calls.collect::<Vec<_>>() {
            self.keep_alives.remove(&key);
        }
    }
}
