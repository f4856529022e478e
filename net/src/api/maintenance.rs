//! The Maintenance service: status, alarms and hashes of one member.
//!
//! Rare calls, so messages go through the generated types. An `Alarm` is proposed like a write, and its answer is
//! encoded with the other applied answers (`encoder`).

use engine::error::ApiError;
use engine::mvcc::hash::KvHash;
use engine::request::{Alarm, AlarmAction, AlarmKind};
use prost::Message;

use super::Refusal;
use super::header::Header;
use crate::pb;
use crate::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, DefragmentResponse, DowngradeInfo, HashKvRequest, HashKvResponse,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusResponse, alarm_request,
};
use crate::pb::wire::Malformed;

/// What `Status` tells of this member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusInfo {
    /// The etcd version this server answers as: `3.6.16`.
    pub version: String,
    /// Version of the stored data: `3.6.0`.
    pub storage_version: String,
    /// Bytes in use and not yet reclaimed.
    pub db_size: i64,
    /// The same without dead records.
    pub db_size_in_use: i64,
    /// The quota in force.
    pub db_size_quota: i64,
    /// Member id of the leader, 0 if there is none.
    pub leader: u64,
    /// Commit index.
    pub raft_index: u64,
    /// Current term.
    pub raft_term: u64,
    /// Applied index.
    pub raft_applied_index: u64,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// Active alarms, in ascending order.
    pub alarms: Vec<(u64, AlarmKind)>,
    /// Target of a downgrade in progress: `3.5.0`.
    pub downgrade_target: Option<String>,
}

/// Encodes the answer of `Status`.
pub fn status(header: Header, info: &StatusInfo) -> Vec<u8> {
    let downgrade_info = DowngradeInfo {
        enabled: info.downgrade_target.is_some(),
        target_version: info.downgrade_target.clone().unwrap_or_default(),
    };
    StatusResponse {
        header: header.message(),
        version: info.version.clone(),
        db_size: info.db_size,
        leader: info.leader,
        raft_index: info.raft_index,
        raft_term: info.raft_term,
        raft_applied_index: info.raft_applied_index,
        errors: status_errors(info),
        db_size_in_use: info.db_size_in_use,
        is_learner: info.is_learner,
        storage_version: info.storage_version.clone(),
        db_size_quota: info.db_size_quota,
        downgrade_info: Some(downgrade_info),
    }
    .encode_to_vec()
}

/// Alarms read like protobuf's text form in Go, down to the space at the end.
fn status_errors(info: &StatusInfo) -> Vec<String> {
    let no_leader = (info.leader == 0).then(|| ApiError::NoLeader.text().to_string());
    let alarms = info.alarms.iter().map(|&(member, kind)| {
        let alarm = AlarmMember { member_id: member, alarm: kind as i32 };
        let member = if member == 0 { String::new() } else { format!("memberID:{member} ") };
        format!("{member}alarm:{} ", alarm.alarm().as_str_name())
    });
    no_leader.into_iter().chain(alarms).collect()
}

/// Decodes the request of `Alarm`. Numbers outside the enums, of which one ends every member of an etcd cluster, are
/// refused with code 3.
pub fn decode_alarm(message: &[u8]) -> Result<Alarm, Refusal> {
    let request: AlarmRequest = pb::decode(message)?;
    let action = match alarm_request::AlarmAction::try_from(request.action) {
        Ok(alarm_request::AlarmAction::Get) => AlarmAction::Get,
        Ok(alarm_request::AlarmAction::Activate) => AlarmAction::Activate,
        Ok(alarm_request::AlarmAction::Deactivate) => AlarmAction::Deactivate,
        Err(_) => return Err(ApiError::UnknownMethod.into()),
    };
    let kind = match AlarmType::try_from(request.alarm) {
        Ok(AlarmType::None) => AlarmKind::None,
        Ok(AlarmType::Nospace) => AlarmKind::NoSpace,
        Ok(AlarmType::Corrupt) => AlarmKind::Corrupt,
        Err(_) => return Err(ApiError::UnknownMethod.into()),
    };
    Ok(Alarm { action, member: request.member_id, kind })
}

/// Encodes the answer of `Hash`.
pub fn hash(header: Header, hash: u32) -> Vec<u8> {
    HashResponse { header: header.message(), hash }.encode_to_vec()
}

/// Decodes the request of `HashKV`: the revision, 0 for the current one.
pub fn decode_hash_kv(message: &[u8]) -> Result<i64, Malformed> {
    pb::decode(message).map(|request: HashKvRequest| request.revision)
}

/// Encodes the answer of `HashKV`.
pub fn hash_kv(header: Header, answer: KvHash) -> Vec<u8> {
    let KvHash { hash, compacted, revision } = answer;
    let (compact_revision, hash_revision) = (compacted.0, revision.0);
    HashKvResponse { header: header.message(), hash, compact_revision, hash_revision }.encode_to_vec()
}

/// Encodes the answer of `Defragment`, which has no header.
pub fn defragment() -> Vec<u8> {
    DefragmentResponse { header: None }.encode_to_vec()
}

/// Decodes the request of `MoveLeader`: the member that shall lead.
pub fn decode_move_leader(message: &[u8]) -> Result<u64, Malformed> {
    pb::decode(message).map(|request: MoveLeaderRequest| request.target_id)
}

/// Encodes the answer of `MoveLeader`, which has no header.
pub fn move_leader() -> Vec<u8> {
    MoveLeaderResponse { header: None }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::header::Origin;
    use engine::error::Code;
    use engine::types::Revision;

    const ORIGIN: Origin = Origin { cluster_id: 10, member_id: 20, raft_term: 2 };

    #[test]
    fn alarm_requests() {
        let check = |message: &[u8], expected: Result<Alarm, Code>| {
            assert_eq!(decode_alarm(message).map_err(|refusal| refusal.code), expected, "{message:?}");
        };
        let alarm = |action, member, kind| Ok(Alarm { action, member, kind });
        check(b"", alarm(AlarmAction::Get, 0, AlarmKind::None));
        check(b"\x08\x01\x10\x07\x18\x01", alarm(AlarmAction::Activate, 7, AlarmKind::NoSpace));
        check(b"\x08\x02\x10\x07\x18\x02", alarm(AlarmAction::Deactivate, 7, AlarmKind::Corrupt));
        check(b"\x08\x03", Err(Code::InvalidArgument));
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Err(Code::InvalidArgument));
        check(b"\x18\x03", Err(Code::InvalidArgument));
        check(b"\x08", Err(Code::Internal));
    }

    #[test]
    fn status_names_its_troubles_as_etcd_does() {
        let check = |leader, alarms: &[(u64, AlarmKind)], expected: &[&str]| {
            let info = StatusInfo { leader, alarms: alarms.to_vec(), ..StatusInfo::default() };
            let message: StatusResponse = pb::decode(&status(ORIGIN.at(Revision(1)), &info)).unwrap();
            assert_eq!(message.errors, expected);
            assert_eq!(message.downgrade_info, Some(DowngradeInfo::default()));
        };
        check(7, &[], &[]);
        check(0, &[], &["etcdserver: no leader"]);
        check(7, &[(12, AlarmKind::NoSpace)], &["memberID:12 alarm:NOSPACE "]);
        check(
            0,
            &[(0, AlarmKind::NoSpace), (12, AlarmKind::Corrupt)],
            &["etcdserver: no leader", "alarm:NOSPACE ", "memberID:12 alarm:CORRUPT "],
        );
    }

    /// Recorded from etcd 3.6.16.
    #[test]
    fn status_is_etcds_to_the_byte() {
        let member_id = 13_049_071_153_751_544_597;
        let origin = Origin { cluster_id: 6_001_611_773_266_757_492, member_id, raft_term: 2 };
        let info = StatusInfo {
            version: "3.6.16".into(),
            storage_version: "3.6.0".into(),
            db_size: 20480,
            db_size_in_use: 16384,
            db_size_quota: 2 << 30,
            leader: member_id,
            raft_index: 4,
            raft_term: 2,
            raft_applied_index: 4,
            ..StatusInfo::default()
        };
        let hex: String = status(origin.at(Revision(1)), &info).iter().map(|b| format!("{b:02x}")).collect();
        let expected = [
            "0a1908f48ef88ac2c380a5531095a6a181bda2e78bb50118012002",
            "1206332e362e313618",
            "80a0012095a6a181bda2e78bb501280430023804488080015a05332e362e306080808080086a00",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn defragment_and_move_leader_have_no_header() {
        assert_eq!((defragment(), move_leader()), (vec![], vec![]));
        assert_eq!(decode_move_leader(b"\x08\x07"), Ok(7));
    }

    #[test]
    fn hashes() {
        assert_eq!(decode_hash_kv(b"\x08\x22"), Ok(34));
        // The second part is recorded from an empty etcd 3.6.16.
        let answer = KvHash { hash: 1_084_519_789, compacted: Revision(-1), revision: Revision(1) };
        let expected = b"\x0a\0\x10\xed\xea\x91\x85\x04\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x01";
        assert_eq!(hash_kv(Header::default(), answer), expected);
        assert_eq!(hash(Origin::default().at(Revision(5)), 9), b"\x0a\x02\x18\x05\x10\x09");
    }
}
