//! The services: the only place that knows both wire and engine types.
//!
//! Nothing here does IO or decides anything about state. A request goes `route` -> `decode` of its service -> engine,
//! an answer comes back through the same service's `encode`.

use std::borrow::Cow;

use engine::error::{ApiError, Code};

use crate::grpc::Status;
use crate::pb::wire::Malformed;

// Which method a path names.
pub mod route;

// The header every answer carries.
pub mod header;

// Range, Put, DeleteRange, Txn, Compact.
pub mod kv;

// Stored records as answers see them.
pub mod records;

// Everything of an answer but its records.
mod plan;

// Answers of any size, piece by piece.
pub mod encoder;

// LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.
pub mod lease;
// Watch.
pub mod watch;

// Status, Alarm, Hash, HashKV, Defragment, MoveLeader.
pub mod maintenance;

// Snapshot.
pub mod snapshot;

// MemberList.
pub mod cluster;

// The health service of gRPC.
pub mod health;

/// What a call ends with when it does not succeed: code and text of its trailers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The text, not yet percent-encoded.
    pub message: Cow<'static, str>,
}

impl Refusal {
    fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// What a stream ends with when one of its messages is malformed; a unary call has another text.
    pub fn of_streamed(error: &Malformed) -> Refusal {
        Refusal::new(Code::Internal, format!("grpc: failed to unmarshal the received message: {error}"))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        Status { code: refusal.code, message: refusal.message }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::new(error.code(), error.text())
    }
}

impl Refusal {
    /// Of a message of a stream, for which grpc-go has another text than for that of a unary call.
    pub fn of_stream(error: Malformed) -> Refusal {
        Refusal::new(Code::Internal, format!("grpc: failed to unmarshal the received message: {error}"))
    }
}

impl From<Malformed> for Refusal {
    fn from(error: Malformed) -> Refusal {
        Refusal::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    }
}

#[cfg(test)]
mod testing;
