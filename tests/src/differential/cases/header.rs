//! kv.md section 11: which response carries which header, and the shape of the maintenance answers.

use crate::proto::etcdserverpb::{DefragmentRequest, MemberListRequest, StatusRequest};

use super::super::build::{compact, del, get, put, txn};
use super::Case;

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/11/kv", "kv/11/ids"],
        run: |p| {
            p.succeeds(put("a", "1"));
            p.succeeds(get("a"));
            p.succeeds(txn([], [], []));
            p.succeeds(del("a"));
            p.succeeds(compact(2));
        },
    },
    Case {
        rows: &["kv/11/status", "kv/9/default-quota", "ctl/endpoint-status"],
        run: |p| {
            p.succeeds(StatusRequest {});
            p.succeeds(put("a", "1"));
            p.succeeds(StatusRequest {});
        },
    },
    Case {
        rows: &["kv/11/members"],
        run: |p| {
            p.succeeds(MemberListRequest { linearizable: true });
            p.succeeds(MemberListRequest { linearizable: false });
        },
    },
    Case {
        rows: &["kv/11/defragment"],
        run: |p| {
            p.succeeds(DefragmentRequest {});
            p.succeeds(get("a"));
            p.succeeds(StatusRequest {});
        },
    },
];
