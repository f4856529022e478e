//! What etcd keeps besides keys: members, leases, alarms, and where the log had come to.
//!
//! Names and forms are etcd's (`server/storage/schema`). Small, so it is collected at once, when a snapshot begins.

use std::collections::BTreeMap;

use raft::ConfState;

use crate::lease::record::{self, Lease};
use crate::map::page::ReadPages;
use crate::mvcc::index::table::Table;
use crate::mvcc::rows::RowKey;
use crate::mvcc::view::View;
use crate::mvcc::{Cold, wire};
use crate::request::AlarmKind;
use crate::types::{LeaseId, Member, Revision};
use crate::wal::EntryId;

/// Every bucket of etcd 3.6 but `key`, in order of their names. `key` belongs behind `cluster`.
pub const BUCKETS: [&str; 9] =
    ["alarm", "auth", "authRoles", "authUsers", "cluster", "lease", "members", "members_removed", "meta"];

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The last entry whose effect is in.
    pub applied: EntryId,
    /// Who votes.
    pub conf_state: ConfState,
    /// The last compaction.
    pub compacted: Revision,
    /// Alarms raised.
    pub alarms: Vec<(u64, AlarmKind)>,
    /// All members.
    pub members: Vec<Member>,
    /// All leases.
    pub leases: Vec<(LeaseId, Lease)>,
    /// Version of the stored data: `3.6.0`.
    pub storage_version: String,
}

/// All leases of a version. Reads them in one go: a hundred thousand take some milliseconds.
pub fn leases<R: ReadPages>(view: &View<'_, R>) -> Result<Vec<(LeaseId, Lease)>, Cold> {
    let mut leases = Vec::new();
    let mut rows = view.index.rows(Table::Lease, &[]);
    while let Some((key, value)) = rows.next()? {
        let lease = record::parse_row(key, &value);
        leases.push(lease.ok_or_else(|| Cold::Damaged(format!("the lease table has a row {key:?}")))?);
    }
    Ok(leases)
}

/// Rows of a bucket.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows of every bucket but `key`.
pub fn rows(facts: &Facts) -> BTreeMap<&'static str, Rows> {
    let mut rows: BTreeMap<_, Rows> = BUCKETS.map(|bucket| (bucket, Rows::new())).into();
    rows.insert("alarm", facts.alarms.iter().map(|&alarm| (alarm_key(alarm), Vec::new())).collect());
    let version = facts.storage_version.clone().into_bytes();
    rows.insert("cluster", [(b"clusterVersion".to_vec(), version)].into());
    rows.insert("lease", facts.leases.iter().map(lease_row).collect());
    let member =
        |member: &Member| (format!("{:x}", member.id).into_bytes(), member_json(member).into_bytes());
    rows.insert("members", facts.members.iter().map(member).collect());
    rows.insert("meta", meta_rows(facts));
    rows
}

fn meta_rows(facts: &Facts) -> Rows {
    let mut rows: Rows = [
        (b"confState".to_vec(), conf_state_json(&facts.conf_state).into_bytes()),
        (b"consistent_index".to_vec(), facts.applied.index.to_be_bytes().to_vec()),
        (b"storageVersion".to_vec(), facts.storage_version.clone().into_bytes()),
        (b"term".to_vec(), facts.applied.term.to_be_bytes().to_vec()),
    ]
    .into();
    if facts.compacted > Revision::NEVER_COMPACTED {
        let compacted = RowKey::new(facts.compacted, 0, false).to_vec();
        rows.insert(b"finishedCompactRev".to_vec(), compacted.clone());
        rows.insert(b"scheduledCompactRev".to_vec(), compacted);
    }
    rows
}

fn alarm_key((member, kind): (u64, AlarmKind)) -> Vec<u8> {
    let mut key = Vec::new();
    wire::put_int_field(&mut key, 1, member as i64);
    wire::put_int_field(&mut key, 2, kind as i64);
    key
}

fn lease_row((id, lease): &(LeaseId, Lease)) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::new();
    for (field, number) in [(1, id.0), (2, lease.ttl), (3, lease.remaining)] {
        wire::put_int_field(&mut value, field, number);
    }
    (record::row(*id).to_vec(), value)
}

fn member_json(member: &Member) -> String {
    let mut json = format!(r#"{{"id":{},"peerURLs":{}"#, member.id, json_list(&member.peer_urls));
    if member.is_learner {
        json += r#","isLearner":true"#;
    }
    if !member.name.is_empty() {
        json += &format!(r#","name":{}"#, json_string(&member.name));
    }
    if !member.client_urls.is_empty() {
        json += &format!(r#","clientURLs":{}"#, json_list(&member.client_urls));
    }
    json + "}"
}

fn conf_state_json(conf_state: &ConfState) -> String {
    let list = |members: &[raft::MemberId]| {
        members.iter().map(|member| member.0.to_string()).collect::<Vec<_>>().join(",")
    };
    let mut json = format!(r#"{{"voters":[{}]"#, list(&conf_state.voters));
    if !conf_state.learners.is_empty() {
        json += &format!(r#","learners":[{}]"#, list(&conf_state.learners));
    }
    json + r#","auto_leave":false}"#
}

fn json_list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| json_string(item)).collect::<Vec<_>>().join(","))
}

fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => json += &format!("\\u{:04x}", c as u32),
            c => json.push(c),
        }
    }
    json + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::MemberId;

    #[test]
    fn rows_are_as_etcd_writes_them() {
        let member = Member {
            id: 3814096572377887232,
            name: "n1".into(),
            peer_urls: vec!["http://a:2380".into(), "http://b:2380".into()],
            client_urls: vec!["http://a:2379".into()],
            is_learner: false,
        };
        let learner =
            Member { id: 5, peer_urls: vec!["http://c:1".into()], is_learner: true, ..Member::default() };
        let facts = Facts {
            applied: EntryId { index: 258, term: 3 },
            conf_state: ConfState::new([MemberId(7)], [MemberId(5)]),
            compacted: Revision(-1),
            alarms: vec![(300, AlarmKind::NoSpace)],
            members: vec![member, learner],
            leases: vec![(LeaseId(0x100), Lease { ttl: 60, remaining: 0 })],
            storage_version: "3.6.0".into(),
        };
        let all = rows(&facts);
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), BUCKETS);
        let check = |bucket: &str, key: &[u8], value: &[u8]| {
            let found = all[bucket].get(key).unwrap_or_else(|| panic!("{bucket} has {:?}", all[bucket]));
            assert_eq!(found, value, "{bucket}: {}", String::from_utf8_lossy(found));
        };
        check("alarm", b"\x08\xac\x02\x10\x01", b"");
        check("cluster", b"clusterVersion", b"3.6.0");
        check("lease", b"\0\0\0\0\0\0\x01\0", b"\x08\x80\x02\x10\x3c");
        let urls =
            r#""peerURLs":["http://a:2380","http://b:2380"],"name":"n1","clientURLs":["http://a:2379"]"#;
        let json = format!(r#"{{"id":3814096572377887232,{urls}}}"#);
        check("members", b"34ee649fe79e7200", json.as_bytes());
        check("members", b"5", br#"{"id":5,"peerURLs":["http://c:1"],"isLearner":true}"#);
        check("meta", b"confState", br#"{"voters":[7],"learners":[5],"auto_leave":false}"#);
        check("meta", b"consistent_index", b"\0\0\0\0\0\0\x01\x02");
        check("meta", b"term", b"\0\0\0\0\0\0\0\x03");
        assert_eq!(all["meta"].len(), 4, "nothing of compactions");
        let compacted = rows(&Facts { compacted: Revision(9), ..facts });
        assert_eq!(compacted["meta"][&b"finishedCompactRev"[..]], b"\0\0\0\0\0\0\0\x09_\0\0\0\0\0\0\0\0");
        assert_eq!(json_string("a\"\\\n\u{e9}"), "\"a\\\"\\\\\\u000a\u{e9}\"");
    }
}
