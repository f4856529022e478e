//! kv.md section 7: compaction.

use crate::proto::etcdserverpb::{CompactionRequest, RangeRequest};

use super::super::build::{compact, del, get, op, put, range, txn};
use super::{COMPACTED, Case, FUTURE, OUT_OF_RANGE};

/// Cases that need a store that was never compacted; each but the first leaves it so.
pub const FRESH: &[Case] = &[
    Case {
        rows: &["kv/7/negative", "kv/6/range-rev-negative"],
        run: |p| {
            p.fails(compact(-1), OUT_OF_RANGE, COMPACTED);
            p.fails(compact(i64::MIN), OUT_OF_RANGE, COMPACTED);
            let read = |revision| op(RangeRequest { revision, ..get("x") });
            p.succeeds(txn([], [read(-1), op(put("x", "1"))], []));
            p.fails(txn([], [read(-2), op(put("x", "1"))], []), OUT_OF_RANGE, COMPACTED);
        },
    },
    Case {
        rows: &["kv/7/zero-once"],
        run: |p| {
            p.succeeds(compact(0));
            p.fails(compact(0), OUT_OF_RANGE, COMPACTED);
            p.succeeds(RangeRequest { revision: 1, ..get("x") });
            let read = |revision| op(RangeRequest { revision, ..get("x") });
            p.fails(txn([], [read(-1), op(put("x", "1"))], []), OUT_OF_RANGE, COMPACTED);
            p.fails(txn([], [read(-1)], []), OUT_OF_RANGE, COMPACTED);
        },
    },
    Case {
        rows: &["kv/7/persistence"],
        run: |p| {
            for value in ["1", "2", "3", "4"] {
                p.succeeds(put("kept", value));
            }
            let now = p.revision();
            p.succeeds(CompactionRequest { revision: now - 1, physical: true });
            p.restart();
            p.fails(RangeRequest { revision: now - 2, ..get("kept") }, OUT_OF_RANGE, COMPACTED);
            p.succeeds(RangeRequest { revision: now - 1, ..get("kept") });
            p.succeeds(get("kept"));
            p.fails(compact(now - 1), OUT_OF_RANGE, COMPACTED);
        },
    },
];

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/7/revision-bounds", "kv/7/header", "errors/1/compacted", "errors/1/future"],
        run: |p| {
            for value in ["1", "2", "3", "4"] {
                p.succeeds(put("b", value));
            }
            let now = p.revision();
            p.fails(compact(now + 1), OUT_OF_RANGE, FUTURE);
            p.fails(compact(i64::MAX), OUT_OF_RANGE, FUTURE);
            p.succeeds(compact(now - 2));
            p.fails(compact(now - 2), OUT_OF_RANGE, COMPACTED);
            p.fails(compact(now - 3), OUT_OF_RANGE, COMPACTED);
            p.fails(compact(-1), OUT_OF_RANGE, COMPACTED);
            p.succeeds(compact(now));
            p.succeeds(get("b"));
        },
    },
    Case {
        rows: &["kv/7/effect-reads", "kv/7/kept"],
        run: |p| {
            p.succeeds(put("k/gone", "1"));
            p.succeeds(put("k/kept", "1"));
            p.succeeds(del("k/gone"));
            p.succeeds(put("k/kept", "2"));
            p.succeeds(put("k/back", "1"));
            p.succeeds(del("k/back"));
            let at = p.revision();
            p.succeeds(put("k/back", "2"));
            p.succeeds(put("k/kept", "3"));
            p.succeeds(compact(at));
            for revision in [at - 1, at, at + 1, at + 2, 0] {
                p.call(RangeRequest { revision, ..range("k/", "k0") });
                p.call(RangeRequest { revision, count_only: true, ..range("k/", "k0") });
                p.call(RangeRequest { revision, limit: 1, ..range("k/", "k0") });
            }
        },
    },
    Case {
        rows: &["kv/7/physical"],
        run: |p| {
            for value in 0..50 {
                p.succeeds(put("phys", value.to_string()));
            }
            let now = p.revision();
            p.succeeds(CompactionRequest { revision: now - 10, physical: true });
            p.fails(CompactionRequest { revision: now - 20, physical: true }, OUT_OF_RANGE, COMPACTED);
            p.fails(CompactionRequest { revision: now + 1, physical: true }, OUT_OF_RANGE, FUTURE);
            for revision in now - 12..=now {
                p.call(RangeRequest { revision, ..get("phys") });
            }
        },
    },
];
