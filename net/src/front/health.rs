//! The streaming call `grpc.health.v1.Health/Watch`.
//!
//! It says how things are, stays open, and says so again when that changes. As long as this process takes calls it
//! serves, so each call hears once, and ends when the process does.

use super::{ConnId, Front, Place};
use crate::api::Refusal;
use crate::grpc;
use engine::error::ApiError;

impl Front {
    /// Sends the first message of a call, which stays open.
    pub(super) fn open_health_watch(&mut self, place: Place, message: &[u8], server: &mut grpc::Server) {
        server.send_message(place.call, |out| out.extend_from_slice(message));
        self.health_watches.insert(place.key());
    }

    /// The call is over.
    pub(super) fn forget_health_watch(&mut self, place: Place) {
        self.health_watches.remove(&place.key());
    }

    /// All calls of a connection are over.
    pub(super) fn forget_health_watches_of(&mut self, conn: ConnId) {
        self.health_watches.retain(|(number, _)| *number != conn.0.to_u64());
    }

    /// Ends all calls, because the server does.
    pub(super) fn stop_health_watches(&mut self) {
        for key in std::mem::take(&mut self.health_watches) {
            let place = Place::of_key(key);
            if let Some(connection) = self.conns.entry(place.conn.0) {
                connection.server.finish(place.call, &Refusal::from(ApiError::Stopped).into());
            }
        }
    }
}
