//! kv.md sections 4 and 5: Put and DeleteRange.

use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::super::build::{del, del_range, get, op, put, range, txn};
use super::{Case, INVALID, NOT_FOUND};

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/1/revision-step"],
        run: |p| {
            let start = p.revision();
            p.succeeds(put("step/a", "1"));
            p.succeeds(txn([], [op(put("step/b", "1")), op(put("step/c", "1"))], []));
            p.succeeds(del_range("step/", "step0"));
            p.succeeds(del_range("step/", "step0"));
            p.succeeds(txn([], [op(get("step/a")), op(del("step/a"))], []));
            let end = p.revision();
            p.expect(end == start + 3, "three of these transactions changed something");
        },
    },
    Case {
        rows: &["kv/4/prev-kv", "kv/4/same-value"],
        run: |p| {
            for _ in 0..3 {
                p.succeeds(PutRequest { prev_kv: true, ..put("prev", "same") });
            }
            p.succeeds(del("prev"));
            p.succeeds(PutRequest { prev_kv: true, ..put("prev", "after delete") });
            p.succeeds(get("prev"));
        },
    },
    Case {
        rows: &["kv/4/ignore-value", "errors/1/value-provided", "errors/1/key-not-found"],
        run: |p| {
            let ignore = |value: &str| PutRequest { ignore_value: true, ..put("iv", value) };
            p.fails(ignore(""), INVALID, "etcdserver: key not found");
            p.succeeds(put("iv", "kept"));
            p.succeeds(PutRequest { prev_kv: true, ..ignore("") });
            p.succeeds(get("iv"));
            p.fails(ignore("given"), INVALID, "etcdserver: value is provided");
            p.succeeds(del("iv"));
            p.fails(ignore(""), INVALID, "etcdserver: key not found");
        },
    },
    Case {
        rows: &["kv/4/ignore-lease", "errors/1/lease-provided", "errors/1/key-not-found"],
        run: |p| {
            let ignore = |lease| PutRequest { ignore_lease: true, lease, ..put("il", "v") };
            p.fails(ignore(0), INVALID, "etcdserver: key not found");
            p.succeeds(put("il", "1"));
            p.succeeds(ignore(0));
            p.succeeds(get("il"));
            p.fails(ignore(5), INVALID, "etcdserver: lease is provided");
            p.succeeds(PutRequest { ignore_value: true, value: Default::default(), ..ignore(0) });
        },
    },
    Case {
        rows: &["kv/4/lease-must-exist", "errors/2/lease-not-found"],
        run: |p| {
            for lease in [1, -1, i64::MAX] {
                let request = PutRequest { lease, ..put("leased", "v") };
                p.fails(request, NOT_FOUND, "etcdserver: requested lease not found");
            }
            p.succeeds(get("leased"));
        },
    },
    Case {
        rows: &["kv/5/deleted-and-prev-kvs", "kv/5/no-match"],
        run: |p| {
            for key in ["d/c", "d/a", "d/b", "d/d"] {
                p.succeeds(put(key, "x"));
            }
            p.succeeds(DeleteRangeRequest { prev_kv: true, ..del("d/a") });
            p.succeeds(DeleteRangeRequest { prev_kv: true, ..del("d/a") });
            p.succeeds(DeleteRangeRequest { prev_kv: true, ..del_range("d/", "d/d") });
            p.succeeds(range("d/", "d0"));
            p.succeeds(DeleteRangeRequest { prev_kv: true, ..del_range("d/z", "d/a") });
            p.succeeds(del_range("d/d", "d/d"));
            let before = p.revision();
            p.succeeds(del_range("d/d", "\0"));
            p.succeeds(RangeRequest { revision: before, ..range("d/", "d0") });
        },
    },
    Case {
        rows: &["kv/5/all-keys"],
        run: |p| {
            p.succeeds(DeleteRangeRequest { prev_kv: true, ..del_range("\0", "\0") });
            p.succeeds(RangeRequest { count_only: true, ..range("\0", "\0") });
        },
    },
    Case {
        rows: &["kv/5/header-in-txn", "kv/6/op-headers"],
        run: |p| {
            p.succeeds(put("h/a", "1"));
            p.succeeds(txn([], [op(del("h/none")), op(del("h/a")), op(del("h/none"))], []));
            p.succeeds(txn([], [op(del("h/none")), op(get("h/a"))], []));
            p.succeeds(txn([], [op(get("h/b")), op(put("h/b", "1")), op(del("h/none")), op(get("h/b"))], []));
        },
    },
];
