//! Calls whose client sends a stream of messages: to which service each message goes, and what becomes of it.

use std::time::Instant;

use engine::replica::{Fatal, Replica};

use super::{ConnId, Front, Place};
use crate::api::route::Method;
use crate::grpc::{self, Code, Metadata, Status};

/// What a streaming call does next.
#[derive(Debug)]
pub enum Streamed {
    /// It waits.
    Nothing,
    /// It sends an encoded message, and stays open.
    Message(Vec<u8>),
    /// It has something to send as soon as windows allow.
    Writable,
    /// It is over.
    End(Status),
}

/// Answers of one call that may wait for its windows: a client that asks and does not listen is cut off.
const QUEUED_BYTES_MAX: usize = 4 << 20;
const SLOW_TEXT: &str = "the client does not read its answers";

/// Does with the call what was decided.
pub fn settle(place: Place, streamed: Streamed, server: &mut grpc::Server) {
    match streamed {
        Streamed::Nothing => {}
        Streamed::Message(_) if server.queued(place.call) > QUEUED_BYTES_MAX => {
            server.abort(place.call, &Status::new(Code::ResourceExhausted, SLOW_TEXT));
        }
        Streamed::Message(message) => {
            server.send_message(place.call, |out| out.extend_from_slice(&message));
        }
        Streamed::Writable => server.want_writable(place.call),
        Streamed::End(status) => {
            server.finish(place.call, &status);
        }
    }
}

impl Front {
    /// A streaming call was admitted.
    pub(super) fn open_call(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        metadata: &Metadata,
    ) -> Streamed {
        match method {
            Method::Watch => self.open_watch(now, place, metadata),
            Method::LeaseKeepAlive => self.open_keep_alive(place),
            method => unreachable!("{method:?} takes one message"),
        }
    }

    /// A streaming call has sent its next message.
    pub(super) fn take_message(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        message: &[u8],
        replica: &mut Replica,
    ) -> Result<Streamed, Fatal> {
        Ok(match method {
            Method::Watch => self.take_watch_request(place, message, replica),
            Method::LeaseKeepAlive => self.take_keep_alive(now, place, message, replica),
            method => unreachable!("{method:?} takes one message"),
        })
    }

    /// A streaming call has sent its last message. A Watch goes on: it ends when the client resets it, as in etcd.
    pub(super) fn half_close(&mut self, place: Place) -> Streamed {
        self.half_close_keep_alive(place).unwrap_or(Streamed::Nothing)
    }

    /// A call is over before its answer was complete.
    pub(super) fn cancel_call(&mut self, place: Place) {
        self.forget_keep_alive(place);
        self.forget_health_watch(place);
        self.close_watch(place);
    }

    /// A connection is gone, and its calls with it.
    pub(super) fn cancel_calls_of(&mut self, conn: ConnId) {
        self.forget_keep_alives_of(conn);
        self.forget_health_watches_of(conn);
        self.close_watches_of(conn);
    }
}
