//! The `ResponseHeader` of every answer, filled in one place.
//!
//! | answers of | cluster, member, term | revision |
//! |---|---|---|
//! | KV, Lease, Alarm, Status, Hash, HashKV, Auth | yes | the store's at the time of the answer |
//! | Cluster | yes | left out |
//! | Defragment, MoveLeader, Snapshot | no header at all | |
//! | an operation inside a transaction | left out | yes |
//! | a nested transaction | an empty header | |

use engine::types::Revision;

use crate::pb::etcdserverpb::ResponseHeader;
use crate::pb::wire::{VARINT_LEN_MAX, len_tag, varint_tag, write_varint};

/// Who answers: everything of a header but the revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster_id: u64,
    /// The answering member.
    pub member_id: u64,
    /// Its current term.
    pub raft_term: u64,
}

impl Origin {
    /// The header of an answer at `revision`.
    pub fn at(self, revision: Revision) -> Header {
        Header { origin: self, revision: revision.0 }
    }

    /// The header of an answer that shows no revision (Cluster service).
    pub fn without_revision(self) -> Header {
        Header { origin: self, revision: 0 }
    }
}

/// A `ResponseHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    origin: Origin,
    revision: i64,
}

impl Header {
    /// The header of an operation inside a transaction.
    pub fn nested(revision: Revision) -> Header {
        Header { origin: Origin::default(), revision: revision.0 }
    }

    /// The message as it stands in front of every answer: as field 1, with tag and length.
    pub fn field(self) -> HeaderField {
        let Origin { cluster_id, member_id, raft_term } = self.origin;
        let mut bytes = [0; FIELD_LEN_MAX];
        let mut len = 2;
        for (number, value) in [(1, cluster_id), (2, member_id), (3, self.revision as u64), (4, raft_term)] {
            if value != 0 {
                bytes[len] = varint_tag(number) as u8;
                len += 1 + write_varint(&mut bytes[len + 1..], value);
            }
        }
        bytes[0] = len_tag(1) as u8;
        bytes[1] = (len - 2) as u8;
        HeaderField { bytes, len }
    }

    /// The generated type, as answers outside the hot path carry it.
    pub fn message(self) -> Option<ResponseHeader> {
        let Origin { cluster_id, member_id, raft_term } = self.origin;
        Some(ResponseHeader { cluster_id, member_id, revision: self.revision, raft_term })
    }
}

/// Four fields of a tag and a varint, behind a tag and a length.
const FIELD_LEN_MAX: usize = 2 + 4 * (1 + VARINT_LEN_MAX);
const _: () = assert!(FIELD_LEN_MAX - 2 < 0x80, "the length of a header is one byte");

/// An encoded [`Header`].
#[derive(Clone, Copy, Debug)]
pub struct HeaderField {
    bytes: [u8; FIELD_LEN_MAX],
    len: usize,
}

impl HeaderField {
    /// Tag, length and message.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::PutResponse;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn both_forms_are_the_same_bytes(
            cluster_id: u64, member_id in 0..300u64, raft_term in 0..3u64, revision in -1..i64::MAX,
        ) {
            let header = Origin { cluster_id, member_id, raft_term }.at(Revision(revision));
            let answer = PutResponse { header: header.message(), prev_kv: None };
            let field = header.field();
            prop_assert_eq!(field.as_slice(), answer.encode_to_vec());
        }
    }

    #[test]
    fn the_longest_and_the_shortest_header_fit() {
        let longest =
            Origin { cluster_id: u64::MAX, member_id: u64::MAX, raft_term: u64::MAX }.at(Revision(-1));
        assert_eq!(longest.field().as_slice().len(), FIELD_LEN_MAX);
        assert_eq!(Header::default().field().as_slice(), b"\x0a\0");
        assert_eq!(Header::nested(Revision(7)).field().as_slice(), b"\x0a\x02\x18\x07");
    }
}
