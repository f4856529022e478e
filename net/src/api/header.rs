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
use crate::pb::wire::{put_varint_field, varint_len};

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

    /// The four fields with their numbers.
    fn fields(self) -> [(u32, u64); 4] {
        let Origin { cluster_id, member_id, raft_term } = self.origin;
        [(1, cluster_id), (2, member_id), (3, self.revision as u64), (4, raft_term)]
    }

    /// Bytes of the message.
    pub fn encoded_len(self) -> u64 {
        self.fields()
            .iter()
            .filter(|(_, value)| *value != 0)
            .map(|(_, value)| 1 + varint_len(*value) as u64)
            .sum()
    }

    /// Appends the message.
    pub fn put(self, out: &mut Vec<u8>) {
        for (number, value) in self.fields() {
            put_varint_field(out, number, value);
        }
    }

    /// Puts the message in front of what [`Back`](crate::pb::back::Back) holds.
    pub fn put_back(self, back: &mut crate::pb::back::Back) {
        for (number, value) in self.fields().into_iter().rev() {
            back.varint_field(number, value);
        }
    }

    /// The generated type, as answers outside the hot path carry it.
    pub fn message(self) -> Option<ResponseHeader> {
        let Origin { cluster_id, member_id, raft_term } = self.origin;
        Some(ResponseHeader { cluster_id, member_id, revision: self.revision, raft_term })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::back::Back;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn all_three_forms_are_the_same_bytes(
            cluster_id: u64, member_id in 0..300u64, raft_term in 0..3u64, revision in -1..i64::MAX,
        ) {
            let header = Origin { cluster_id, member_id, raft_term }.at(Revision(revision));
            let expected = header.message().unwrap().encode_to_vec();
            let mut forward = Vec::new();
            header.put(&mut forward);
            prop_assert_eq!(&forward, &expected);
            let mut back = Back::default();
            header.put_back(&mut back);
            prop_assert_eq!(back.finish(), expected);
            prop_assert_eq!(header.encoded_len(), forward.len() as u64);
        }
    }
}
