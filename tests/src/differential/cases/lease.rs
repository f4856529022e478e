//! lease.md, errors.md section 2, and what kv.md says of leases.

use std::thread::sleep;
use std::time::Duration;

use prost::Message;

use crate::proto::etcdserverpb::{AlarmRequest, AlarmType, Compare, alarm_request::AlarmAction};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, compare::CompareResult, compare::CompareTarget, compare::TargetUnion,
};
use crate::wire::{Request, frame_message};

use super::super::build::{del, get, op, put, range, txn};
use super::super::call::{OWN_ID, Outcome, Reply};
use super::super::pair::Pair;
use super::{Case, DATA_LOSS, EXHAUSTED, NOT_FOUND, OUT_OF_RANGE, PRECONDITION};

const MISSING: &str = "etcdserver: requested lease not found";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

pub const CASES: &[Case] = &[
    Case {
        rows: &["lease/1/chosen-id", "lease/1/response", "kv/11/lease"],
        run: |p| {
            p.succeeds(grant(0, 100));
            p.succeeds(grant(0, 100));
            p.succeeds(put("lease/revision", "1"));
            p.succeeds(grant(11, 100));
            p.succeeds(revoke(11));
        },
    },
    Case {
        rows: &["lease/1/given-id", "errors/2/exists"],
        run: |p| {
            for id in [21, -21, i64::MIN] {
                p.succeeds(grant(id, 100));
                p.fails(grant(id, 100), PRECONDITION, "etcdserver: lease already exists");
                p.succeeds(revoke(id));
                p.succeeds(grant(id, 100));
                p.succeeds(revoke(id));
            }
        },
    },
    Case {
        rows: &["lease/1/ttl-bounds", "lease/1/least-ttl", "errors/2/too-large"],
        run: |p| {
            for ttl in [0, -1, i64::MIN, 1, 2, 3, 9_000_000_000] {
                p.succeeds(grant(31, ttl));
                p.succeeds(revoke(31));
            }
            for ttl in [9_000_000_001, i64::MAX] {
                p.fails(grant(31, ttl), OUT_OF_RANGE, "etcdserver: too large lease TTL");
            }
            p.succeeds(grant(31, 100));
            p.fails(grant(31, i64::MAX), OUT_OF_RANGE, "etcdserver: too large lease TTL");
            p.succeeds(revoke(31));
        },
    },
    Case {
        rows: &["lease/2/attach", "lease/2/detach", "kv/4/lease-binding", "kv/5/lease-detach"],
        run: |p| {
            p.succeeds(grant(41, 100));
            p.succeeds(grant(42, 100));
            for (key, lease) in [("a", 41), ("b", 41), ("c", 41), ("d", 41), ("b", 42), ("c", 0)] {
                p.succeeds(attach(&format!("attach/{key}"), lease));
            }
            p.succeeds(del("attach/d"));
            p.succeeds(attach("attach/d", 0));
            p.succeeds(PutRequest { ignore_lease: true, ..put("attach/a", "2") });
            p.succeeds(txn([], [op(attach("attach/t", 41)), op(attach("attach/u", 42))], []));
            p.succeeds(left(41, true));
            p.succeeds(left(42, true));
            p.succeeds(range("attach/", "attach0"));
            p.succeeds(RangeRequest { keys_only: true, ..range("attach/", "attach0") });
            let of_lease = Compare {
                key: b"attach/a".as_slice().into(),
                result: CompareResult::Equal as i32,
                target: CompareTarget::Lease as i32,
                target_union: Some(TargetUnion::Lease(41)),
                ..Default::default()
            };
            p.succeeds(txn([of_lease], [op(get("attach/a"))], []));
            p.succeeds(revoke(41));
            p.succeeds(range("attach/", "attach0"));
            p.succeeds(revoke(42));
            p.succeeds(range("attach/", "attach0"));
        },
    },
    Case {
        rows: &["lease/2/unknown", "errors/2/lease-not-found"],
        run: |p| {
            p.fails(attach("unknown", 51), NOT_FOUND, MISSING);
            p.fails(txn([], [op(put("unknown/2", "1")), op(attach("unknown", 51))], []), NOT_FOUND, MISSING);
            p.succeeds(get("unknown/2"));
            p.fails(revoke(51), NOT_FOUND, MISSING);
            p.fails(revoke(0), NOT_FOUND, MISSING);
        },
    },
    Case {
        rows: &["lease/3/one-revision", "lease/3/no-keys", "lease/3/unknown"],
        run: |p| {
            p.succeeds(grant(61, 100));
            for key in ["c", "a", "b"] {
                p.succeeds(attach(&format!("revoke/{key}"), 61));
            }
            p.succeeds(revoke(61));
            p.succeeds(range("revoke/", "revoke0"));
            p.succeeds(put("revoke/after", "1"));
            p.succeeds(grant(61, 100));
            p.succeeds(revoke(61));
            p.fails(revoke(61), NOT_FOUND, MISSING);
            p.succeeds(put("revoke/after", "2"));
        },
    },
    Case {
        rows: &["lease/4/answers", "lease/4/unknown", "lease/4/end-of-stream"],
        run: |p| {
            p.succeeds(grant(71, 100));
            p.succeeds(keep_alive(71));
            p.succeeds(keep_alive(72));
            p.succeeds(keep_alive(0));
            p.succeeds(put("keep-alive", "1"));
            let outcome = p.raw(&stream(&[71, 72, 71, -5, 71]));
            p.expect(outcome.is_ok(), "five answers and a status");
            let _ = p.raw(&stream(&[]));
            let _ = p.raw(&stream(&[71]).with_body(frame_message(b"\x08", false)));
            p.succeeds(revoke(71));
            p.succeeds(keep_alive(71));
        },
    },
    Case {
        rows: &["lease/4/renews", "lease/7/expiry", "lease/7/one-revision"],
        run: |p| {
            p.succeeds(grant(81, 3));
            p.succeeds(attach("expiry/b", 81));
            p.succeeds(attach("expiry/a", 81));
            sleep(Duration::from_millis(2000));
            p.succeeds(keep_alive(81));
            sleep(Duration::from_millis(2000));
            p.succeeds(left(81, true));
            p.succeeds(range("expiry/", "expiry0"));
            sleep(Duration::from_millis(2600));
            p.succeeds(left(81, true));
            p.succeeds(keep_alive(81));
            p.succeeds(range("expiry/", "expiry0"));
            p.succeeds(put("expiry/after", "1"));
            p.fails(revoke(81), NOT_FOUND, MISSING);
        },
    },
    Case {
        rows: &["lease/5/exists", "lease/5/unknown"],
        run: |p| {
            p.succeeds(grant(91, 50));
            p.succeeds(attach("left/a", 91));
            p.succeeds(left(91, false));
            let outcome = p.succeeds(left(91, true));
            let truncated = matches!(&outcome, Outcome::Reply { reply, .. }
                if matches!(&**reply, Reply::LeaseTimeToLive(r) if r.ttl == 49 && r.granted_ttl == 50));
            p.expect(truncated, "seconds left are truncated");
            p.succeeds(left(92, true));
            p.succeeds(left(0, false));
            p.succeeds(revoke(91));
            p.succeeds(left(91, true));
        },
    },
    Case {
        rows: &["lease/2/restored", "lease/7/restart"],
        run: |p| {
            p.succeeds(grant(101, 60));
            p.succeeds(attach("restart/a", 101));
            p.succeeds(attach("restart/b", 101));
            p.succeeds(del("restart/b"));
            sleep(Duration::from_millis(1200));
            p.restart();
            p.succeeds(get("restart/a"));
            // The full time and an election timeout, less what has passed since the restart.
            for loosely in [left(101, true), left(101, false)] {
                p.succeeds_loosely(loosely);
            }
            p.fails(grant(101, 60), PRECONDITION, "etcdserver: lease already exists");
            p.succeeds(keep_alive(101));
            p.succeeds(left(101, true));
            p.succeeds(revoke(101));
            p.succeeds(range("restart/", "restart0"));
        },
    },
    Case {
        rows: &["lease/6/leases"],
        run: |p| {
            revoke_all(p);
            p.succeeds(LeaseLeasesRequest {});
            for (id, ttl) in [(111, 300), (112, 100), (113, 200), (-114, 50)] {
                p.succeeds(grant(id, ttl));
            }
            p.succeeds(LeaseLeasesRequest {});
            p.succeeds(keep_alive(112));
            p.succeeds(revoke(-114));
            p.succeeds(LeaseLeasesRequest {});
            [111, 112, 113].into_iter().for_each(|id| drop(p.succeeds(revoke(id))));
        },
    },
    Case {
        rows: &["lease/1/alarms", "lease/3/alarms"],
        run: |p| {
            p.succeeds(get("alarms"));
            p.succeeds(grant(121, 100));
            p.succeeds(alarm(AlarmAction::Activate, AlarmType::Nospace));
            p.fails(grant(122, 100), EXHAUSTED, "etcdserver: mvcc: database space exceeded");
            p.succeeds(keep_alive(121));
            p.succeeds(revoke(121));
            p.succeeds(alarm(AlarmAction::Deactivate, AlarmType::Nospace));
            p.succeeds(grant(121, 100));
            p.succeeds(alarm(AlarmAction::Activate, AlarmType::Corrupt));
            p.fails(grant(122, 100), DATA_LOSS, "etcdserver: corrupt cluster");
            p.fails(revoke(121), DATA_LOSS, "etcdserver: corrupt cluster");
            p.succeeds(left(121, false));
            p.succeeds(alarm(AlarmAction::Deactivate, AlarmType::Corrupt));
            p.succeeds(revoke(121));
        },
    },
];

/// A store that is full by its size.
pub const QUOTA: &[Case] = &[Case {
    rows: &["lease/1/quota"],
    run: |p| {
        p.succeeds(grant(1, 100));
        p.repeat_until(
            put("quota/fill", vec![b'v'; 20_000]),
            400,
            |outcome| matches!(outcome, Outcome::Error(status) if status.code == EXHAUSTED),
        );
        p.fails(grant(2, 100), EXHAUSTED, "etcdserver: mvcc: database space exceeded");
        p.succeeds_loosely(revoke(1));
    },
}];

/// The least time to live follows the election timeout.
pub const SLOW: &[Case] = &[Case {
    rows: &["lease/1/least-ttl-by-election"],
    run: |p| {
        for ttl in [1, 7, 8, 9] {
            p.succeeds(grant(1, ttl));
            p.succeeds(revoke(1));
        }
    },
}];

fn grant(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { id, ttl }
}

fn revoke(id: i64) -> LeaseRevokeRequest {
    LeaseRevokeRequest { id }
}

fn keep_alive(id: i64) -> LeaseKeepAliveRequest {
    LeaseKeepAliveRequest { id }
}

fn left(id: i64, keys: bool) -> LeaseTimeToLiveRequest {
    LeaseTimeToLiveRequest { id, keys }
}

fn attach(key: &str, lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, "v") }
}

fn alarm(action: AlarmAction, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest { action: action as i32, member_id: OWN_ID, alarm: alarm as i32 }
}

/// One stream with requests for these leases, which are all there before the first is answered.
fn stream(ids: &[i64]) -> Request {
    let messages = ids.iter().map(|&id| frame_message(&keep_alive(id).encode_to_vec(), false));
    Request::grpc(KEEP_ALIVE, &[]).with_body(messages.collect::<Vec<_>>().concat())
}

/// Leaves of other cases with ids that the servers chose are each server's own.
fn revoke_all(p: &mut Pair) {
    p.each(LeaseLeasesRequest {}.into(), |outcome| {
        let Outcome::Reply { reply, .. } = outcome else { return Vec::new() };
        let Reply::LeaseLeases(leases) = *reply else { return Vec::new() };
        leases.leases.into_iter().map(|lease| revoke(lease.id).into()).collect()
    });
}
