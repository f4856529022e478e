//! The standard health service of gRPC (`grpc.health.v1`), which knows one service: the empty name, the whole server.

use engine::error::Code;
use prost::Message;

use super::Refusal;
use crate::pb::health::health_check_response::ServingStatus;
use crate::pb::health::{HealthCheckResponse, HealthListResponse};
use crate::pb::wire::{Fields, Malformed};

/// Answers `Check`. `serving` is whether the server as a whole serves.
pub fn check(message: &[u8], serving: bool) -> Result<Vec<u8>, Refusal> {
    if !names_server(message)? {
        return Err(Refusal::new(Code::NotFound, "unknown service"));
    }
    Ok(response(status(serving)))
}

/// A `Watch` that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthWatch {
    names_server: bool,
}

impl HealthWatch {
    /// Reads the request of `Watch`.
    pub fn new(message: &[u8]) -> Result<HealthWatch, Refusal> {
        Ok(HealthWatch { names_server: names_server(message)? })
    }

    /// The message to send first, and again whenever `serving` changes. A service that is not known stays so.
    pub fn message(self, serving: bool) -> Vec<u8> {
        response(if self.names_server { status(serving) } else { ServingStatus::ServiceUnknown })
    }
}

/// Answers `List`.
pub fn list(serving: bool) -> Vec<u8> {
    let whole = HealthCheckResponse { status: status(serving).into() };
    HealthListResponse { statuses: [(String::new(), whole)].into() }.encode_to_vec()
}

fn status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> Vec<u8> {
    HealthCheckResponse { status: status.into() }.encode_to_vec()
}

/// Whether a `HealthCheckRequest` asks for the empty name.
fn names_server(message: &[u8]) -> Result<bool, Malformed> {
    let mut fields = Fields::new(message, "HealthCheckRequest");
    let mut service: &[u8] = &[];
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => service = fields.bytes(tag, "Service")?,
            _ => fields.skip(tag)?,
        }
    }
    if std::str::from_utf8(service).is_err() {
        return Err(Malformed::Generated("string field contains invalid UTF-8".into()));
    }
    Ok(service.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_as_a_whole_is_known() {
        assert_eq!(check(b"", true), Ok(b"\x08\x01".to_vec()));
        assert_eq!(check(b"\x0a\0", false), Ok(b"\x08\x02".to_vec()));
        let refusal = check(b"\x0a\x01a", true).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_ref()), (Code::NotFound, "unknown service"));
        let refusal = check(b"\x0a\x01\xff", true).unwrap_err();
        let text = "grpc: error unmarshalling request: string field contains invalid UTF-8";
        assert_eq!((refusal.code, refusal.message.as_ref()), (Code::Internal, text));
    }

    #[test]
    fn watching_an_unknown_service_is_not_an_error() {
        assert_eq!(HealthWatch::new(b"").unwrap().message(true), b"\x08\x01");
        assert_eq!(HealthWatch::new(b"").unwrap().message(false), b"\x08\x02");
        assert_eq!(HealthWatch::new(b"\x0a\x01a").unwrap().message(true), b"\x08\x03");
    }

    #[test]
    fn the_list_has_one_entry() {
        let message: HealthListResponse = crate::pb::decode(&list(true)).unwrap();
        assert_eq!(message.statuses[""].status(), ServingStatus::Serving);
    }
}
