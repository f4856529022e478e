//! The Lease service.
//!
//! Renewals are as frequent as puts, so their messages are read in place and written by hand; the others go through the
//! generated types. Grants and revocations are proposed like writes, and their answers are encoded with the other
//! applied answers (`plan`).

use engine::types::LeaseId;
use prost::Message;

use super::header::Header;
use crate::pb;
use crate::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus,
    LeaseTimeToLiveRequest,
};
use crate::pb::wire::{Fields, Malformed, put_len_prefix, put_varint_field};

/// Decodes the request of `LeaseGrant`: id, 0 for one of the server's choice, and seconds to live.
pub fn decode_grant(message: &[u8]) -> Result<(LeaseId, i64), Malformed> {
    pb::decode(message).map(|request: LeaseGrantRequest| (LeaseId(request.id), request.ttl))
}

/// Decodes the request of `LeaseRevoke`.
pub fn decode_revoke(message: &[u8]) -> Result<LeaseId, Malformed> {
    pb::decode(message).map(|request: LeaseRevokeRequest| LeaseId(request.id))
}

/// Decodes one request of `LeaseKeepAlive`.
pub fn decode_keep_alive(message: &[u8]) -> Result<LeaseId, Malformed> {
    let mut fields = Fields::new(message, "LeaseKeepAliveRequest");
    let mut id = LeaseId::NONE;
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => id = LeaseId(fields.int64(tag, "ID")?),
            _ => fields.skip(tag)?,
        }
    }
    Ok(id)
}

/// Encodes one answer of `LeaseKeepAlive`. `ttl` is 0 when there is no such lease.
pub fn keep_alive(header: Header, id: LeaseId, ttl: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(KEEP_ALIVE_LEN);
    out.extend_from_slice(header.field().as_slice());
    put_varint_field(&mut out, 2, id.0 as u64);
    put_varint_field(&mut out, 3, ttl as u64);
    out
}

/// Of most answers, header included.
const KEEP_ALIVE_LEN: usize = 64;

/// Decodes the request of `LeaseTimeToLive`: id, and whether the keys are wanted.
pub fn decode_time_to_live(message: &[u8]) -> Result<(LeaseId, bool), Malformed> {
    pb::decode(message).map(|request: LeaseTimeToLiveRequest| (LeaseId(request.id), request.keys))
}

/// Keys of an answer of `LeaseTimeToLive`, as they stand in it.
#[derive(Debug, Default)]
pub struct AttachedKeys(Vec<u8>);

impl AttachedKeys {
    /// Adds one.
    pub fn push(&mut self, key: &[u8]) {
        put_len_prefix(&mut self.0, 5, key.len() as u64);
        self.0.extend_from_slice(key);
    }
}

/// Encodes the answer of `LeaseTimeToLive`. `times` are the seconds left and the seconds granted; none if there is no
/// such lease.
pub fn time_to_live(header: Header, id: LeaseId, times: Option<(i64, i64)>, keys: &AttachedKeys) -> Vec<u8> {
    let mut out = header.field().as_slice().to_vec();
    let (left, granted) = times.unwrap_or((-1, 0));
    put_varint_field(&mut out, 2, id.0 as u64);
    put_varint_field(&mut out, 3, left as u64);
    put_varint_field(&mut out, 4, granted as u64);
    if times.is_some() {
        out.extend_from_slice(&keys.0);
    }
    out
}

/// Decodes the request of `LeaseLeases`, in which nothing is said.
pub fn decode_leases(message: &[u8]) -> Result<(), Malformed> {
    pb::decode(message).map(|_: LeaseLeasesRequest| ())
}

/// Encodes the answer of `LeaseLeases`.
pub fn leases(header: Header, ids: Vec<LeaseId>) -> Vec<u8> {
    let leases = ids.into_iter().map(|id| LeaseStatus { id: id.0 }).collect();
    LeaseLeasesResponse { header: header.message(), leases }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::header::Origin;
    use crate::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse};
    use engine::types::Revision;
    use proptest::prelude::*;

    fn header() -> Header {
        Origin { cluster_id: 10, member_id: u64::MAX, raft_term: 2 }.at(Revision(77))
    }

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_the_generated_types_write(
            id: i64, ttl in -3..i64::MAX, granted in 0..300i64,
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
        ) {
            let header = header();
            let request = LeaseKeepAliveRequest { id }.encode_to_vec();
            prop_assert_eq!(decode_keep_alive(&request), Ok(LeaseId(id)));
            let answer = LeaseKeepAliveResponse { header: header.message(), id, ttl };
            prop_assert_eq!(keep_alive(header, LeaseId(id), ttl), answer.encode_to_vec());

            let mut attached = AttachedKeys::default();
            keys.iter().for_each(|key| attached.push(key));
            let keys: Vec<_> = keys.into_iter().map(Into::into).collect();
            let answer =
                LeaseTimeToLiveResponse { header: header.message(), id, ttl, granted_ttl: granted, keys };
            let encoded = time_to_live(header, LeaseId(id), Some((ttl, granted)), &attached);
            prop_assert_eq!(encoded, answer.encode_to_vec());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let generated: Result<LeaseKeepAliveRequest, _> = pb::decode(&bytes);
            if let (Ok(id), Ok(request)) = (decode_keep_alive(&bytes), generated) {
                prop_assert_eq!(id.0, request.id);
            }
        }
    }

    #[test]
    fn a_lease_that_is_not_there_has_no_times_and_no_keys() {
        let mut keys = AttachedKeys::default();
        keys.push(b"gone");
        let encoded = time_to_live(Header::default(), LeaseId(7), None, &keys);
        assert_eq!(encoded, b"\x0a\0\x10\x07\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    }

    #[test]
    fn lists_and_requests() {
        assert_eq!(decode_grant(b"\x08\x05\x10\x07"), Ok((LeaseId(7), 5)));
        assert_eq!(decode_revoke(b"\x08\x07"), Ok(LeaseId(7)));
        assert_eq!(decode_time_to_live(b"\x08\x07\x10\x01"), Ok((LeaseId(7), true)));
        assert_eq!(decode_leases(b""), Ok(()));
        assert!(decode_keep_alive(b"\x08").is_err());
        let listed = leases(Header::default(), vec![LeaseId(7), LeaseId(-1)]);
        assert_eq!(listed, b"\x0a\0\x12\x02\x08\x07\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    }
}
