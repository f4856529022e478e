//! The Cluster service, as far as it only reads: the list of members.
//!
//! Headers of this service show no revision.

use engine::types::Member;
use prost::Message;

use super::header::Origin;
use crate::pb;
use crate::pb::etcdserverpb;
use crate::pb::wire::Malformed;

/// Decodes the request of `MemberList`: whether the list must be linearizable.
pub fn decode_member_list(message: &[u8]) -> Result<bool, Malformed> {
    pb::decode(message).map(|request: etcdserverpb::MemberListRequest| request.linearizable)
}

/// Encodes the answer of `MemberList`, in ascending order of id.
pub fn member_list(origin: Origin, members: &[Member]) -> Vec<u8> {
    let mut members: Vec<_> = members.iter().map(message).collect();
    members.sort_by_key(|member| member.id);
    etcdserverpb::MemberListResponse { header: origin.without_revision().message(), members }.encode_to_vec()
}

fn message(member: &Member) -> etcdserverpb::Member {
    etcdserverpb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_order_below_a_header_without_revision() {
        let member = |id, name: &str| Member { id, name: name.into(), ..Member::default() };
        let origin = Origin { cluster_id: 1, member_id: 2, raft_term: 3 };
        let message = member_list(origin, &[member(u64::MAX, "z"), member(7, "")]);
        let message: etcdserverpb::MemberListResponse = pb::decode(&message).unwrap();
        assert_eq!(message.header.unwrap().revision, 0);
        assert_eq!(message.members.iter().map(|m| m.id).collect::<Vec<_>>(), [7, u64::MAX]);
    }

    /// Recorded from etcd 3.6.16.
    #[test]
    fn a_list_is_etcds_to_the_byte() {
        let id = 13_049_071_153_751_544_597;
        let member = Member {
            id,
            name: "default".into(),
            peer_urls: vec!["http://127.0.0.1:24380".into()],
            client_urls: vec!["http://127.0.0.1:24379".into()],
            is_learner: false,
        };
        let origin = Origin { cluster_id: 6_001_611_773_266_757_492, member_id: id, raft_term: 2 };
        let hex: String = member_list(origin, &[member]).iter().map(|byte| format!("{byte:02x}")).collect();
        let recorded = [
            "0a1708f48ef88ac2c380a5531095a6a181bda2e78bb5012002",
            "12440895a6a181bda2e78bb501120764656661756c74",
            "1a16687474703a2f2f3132372e302e302e313a3234333830",
            "2216687474703a2f2f3132372e302e302e313a3234333739",
        ];
        assert_eq!(hex, recorded.concat());
    }

    #[test]
    fn requests() {
        assert_eq!(decode_member_list(b""), Ok(false));
        assert_eq!(decode_member_list(b"\x08\x01"), Ok(true));
        assert!(decode_member_list(b"\x08").is_err());
    }
}
