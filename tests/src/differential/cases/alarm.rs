//! kv.md sections 9 and 10: the quota and the alarms.

use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, StatusRequest};

use super::super::build::{compact, del, del_range, get, op, put, txn};
use super::super::call::{OWN_ID, Outcome};
use super::http::sort_lines;
use super::{Case, DATA_LOSS, EXHAUSTED, INVALID};

const FULL: &str = "etcdserver: mvcc: database space exceeded";
const CORRUPT: &str = "etcdserver: corrupt cluster";
/// Far more than a quota of 1 MB needs with etcd's slow sampling.
const FILL_MAX: usize = 400;

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/10/get", "kv/10/activate", "kv/10/deactivate"],
        run: |p| {
            p.succeeds(alarm(AlarmAction::Get, OWN_ID, AlarmType::None));
            p.succeeds(alarm(AlarmAction::Activate, OWN_ID, AlarmType::Nospace));
            p.succeeds(alarm(AlarmAction::Activate, OWN_ID, AlarmType::Nospace));
            p.succeeds(alarm(AlarmAction::Activate, 0, AlarmType::Nospace));
            for kind in [AlarmType::None, AlarmType::Nospace, AlarmType::Corrupt] {
                p.succeeds(alarm(AlarmAction::Get, 0, kind));
                p.succeeds(alarm(AlarmAction::Get, 12345, kind));
            }
            p.succeeds(StatusRequest {});
            p.succeeds(alarm(AlarmAction::Deactivate, 12345, AlarmType::Nospace));
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::None));
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Corrupt));
            p.succeeds(alarm(AlarmAction::Deactivate, 0, AlarmType::Nospace));
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Nospace));
            p.succeeds(alarm(AlarmAction::Get, 0, AlarmType::None));
            p.succeeds(StatusRequest {});
        },
    },
    Case {
        rows: &["kv/9/alarm-gate", "errors/1/space-exceeded"],
        run: |p| {
            p.succeeds(put("gate", "1"));
            p.succeeds(alarm(AlarmAction::Activate, OWN_ID, AlarmType::Nospace));
            p.fails(put("gate", "2"), EXHAUSTED, FULL);
            p.fails(txn([], [op(put("gate", "2"))], []), EXHAUSTED, FULL);
            p.fails(txn([], [op(get("gate"))], [op(put("gate", "2"))]), EXHAUSTED, FULL);
            p.succeeds(get("gate"));
            p.succeeds(txn([], [op(get("gate"))], []));
            p.succeeds(txn([], [op(del("gate/none"))], []));
            p.succeeds(del("gate"));
            p.fails(put("", ""), INVALID, "etcdserver: key is not provided");
            let now = p.revision();
            p.succeeds(compact(now));
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Nospace));
            p.succeeds(put("gate", "3"));
        },
    },
    Case {
        rows: &["kv/10/corrupt", "errors/1/corrupt"],
        run: |p| {
            p.succeeds(put("corrupt", "1"));
            p.succeeds(alarm(AlarmAction::Activate, OWN_ID, AlarmType::Corrupt));
            p.succeeds(alarm(AlarmAction::Activate, OWN_ID, AlarmType::Nospace));
            p.fails(put("corrupt", "2"), DATA_LOSS, CORRUPT);
            p.fails(del("corrupt"), DATA_LOSS, CORRUPT);
            p.fails(txn([], [op(put("corrupt", "2"))], []), DATA_LOSS, CORRUPT);
            p.fails(txn([], [op(del("corrupt"))], []), DATA_LOSS, CORRUPT);
            p.fails(compact(3), DATA_LOSS, CORRUPT);
            p.fails(put("", ""), INVALID, "etcdserver: key is not provided");
            p.succeeds(get("corrupt"));
            p.succeeds(txn([], [op(get("corrupt"))], []));
            // With two alarms etcd names either one.
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Nospace));
            let _ = p.http("GET", "/health");
            let _ = p.http_with("GET", "/readyz", &[], sort_lines);
            let _ = p.http("GET", "/livez");
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Corrupt));
        },
    },
    Case {
        rows: &["kv/9/persisted", "http/2/health-exclude"],
        run: |p| {
            p.succeeds(get("x"));
            p.succeeds(alarm(AlarmAction::Activate, OWN_ID, AlarmType::Nospace));
            p.restart();
            p.succeeds(alarm(AlarmAction::Get, 0, AlarmType::None));
            p.fails(put("after", "restart"), EXHAUSTED, FULL);
            for path in
                ["/health", "/health?exclude=NOSPACE", "/health?serializable=true", "/readyz", "/livez"]
            {
                let _ = p.http("GET", path);
            }
            p.succeeds(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Nospace));
            let _ = p.http("GET", "/health");
        },
    },
];

/// Cases on a small quota. Sizes differ between servers, so how many writes fit is each one's own business.
pub const QUOTA: &[Case] = &[Case {
    rows: &["kv/9/over-quota", "kv/9/life-cycle", "kv/9/delete-when-full", "errors/9/quota-before-shape"],
    run: |p| {
        p.succeeds(get("x"));
        p.repeat_until(put("quota/fill", vec![b'v'; 20_000]), FILL_MAX, |outcome| {
            matches!(outcome, Outcome::Error(status) if status.code == EXHAUSTED && status.message == FULL)
        });
        p.fails(put("quota/more", "1"), EXHAUSTED, FULL);
        p.fails(put("", ""), EXHAUSTED, FULL);
        p.fails(txn([], [op(put("quota/more", "1"))], []), EXHAUSTED, FULL);
        p.succeeds_loosely(alarm(AlarmAction::Get, 0, AlarmType::None));
        p.succeeds_loosely(get("quota/fill"));
        p.succeeds_loosely(del_range("\0", "\0"));
        p.fails(PutRequest { prev_kv: true, ..put("quota/more", "1") }, EXHAUSTED, FULL);
        p.succeeds_loosely(compact(2));
        p.fails(put("quota/more", "1"), EXHAUSTED, FULL);
        p.succeeds_loosely(alarm(AlarmAction::Deactivate, OWN_ID, AlarmType::Nospace));
        p.succeeds_loosely(alarm(AlarmAction::Get, 0, AlarmType::None));
    },
}];

fn alarm(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest { action: action as i32, member_id, alarm: alarm as i32 }
}
