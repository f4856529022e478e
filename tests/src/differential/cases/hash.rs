//! kv.md section 12: HashKV. The cases stand in order: each hash is of everything that was written before.

use crate::proto::etcdserverpb::CompactionRequest;

use super::super::build::{del, del_range, hash_kv, op, put, txn};
use super::super::pair::Pair;
use super::{COMPACTED, Case, FUTURE, OUT_OF_RANGE};

/// Answers when the compaction is done, and has left its hash.
fn physical(revision: i64) -> CompactionRequest {
    CompactionRequest { revision, physical: true }
}

/// Every revision from the last compaction on, and some more.
fn all(p: &mut Pair, from: i64) {
    for revision in from - 1..=p.revision() + 1 {
        p.call(hash_kv(revision));
    }
    p.succeeds(hash_kv(0));
}

fn write(p: &mut Pair) {
    for round in 0..4 {
        for key in ["h/1", "h/2", "h/3"] {
            p.succeeds(put(key, format!("value {round}")));
        }
        p.succeeds(txn([], [op(put("h/4", "")), op(put("h/0", vec![b'v'; 5000])), op(del("h/1"))], []));
        p.succeeds(put("h/1", "again"));
    }
}

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/12/empty", "kv/12/negative"],
        run: |p| {
            p.succeeds(hash_kv(0));
            p.succeeds(hash_kv(1));
            p.succeeds(hash_kv(-1));
            p.succeeds(hash_kv(i64::MIN));
            p.fails(hash_kv(2), OUT_OF_RANGE, FUTURE);
        },
    },
    Case {
        rows: &["kv/12/hash-kv"],
        run: |p| {
            write(p);
            all(p, 2);
        },
    },
    Case {
        rows: &["kv/12/bounds", "kv/12/cache"],
        run: |p| {
            let now = p.revision();
            p.succeeds(physical(now - 7));
            p.fails(hash_kv(now - 8), OUT_OF_RANGE, COMPACTED);
            p.fails(hash_kv(now + 1), OUT_OF_RANGE, FUTURE);
            all(p, now - 7);
            p.succeeds(physical(now - 3));
            p.succeeds(physical(now));
            // The hashes of compactions are known even where nothing can be read any more.
            for revision in [now - 7, now - 5, now - 3, now] {
                p.call(hash_kv(revision));
            }
            write(p);
            all(p, now);
        },
    },
    Case {
        rows: &["kv/12/tombstone"],
        run: |p| {
            write(p);
            p.succeeds(del("h/2"));
            let at = p.revision();
            p.succeeds(put("h/2", "back"));
            p.succeeds(physical(at));
            all(p, at);
            p.succeeds(del("h/2"));
            p.succeeds(physical(at + 1));
            all(p, at + 1);
        },
    },
    Case {
        rows: &["kv/12/nothing-kept"],
        run: |p| {
            let at = p.revision();
            p.succeeds(physical(at));
            p.succeeds(del_range("\0", "\0"));
            all(p, at);
            p.succeeds(put("h/5", "1"));
            all(p, at);
            p.succeeds(physical(at + 1));
            all(p, at + 1);
        },
    },
    Case {
        rows: &["kv/12/cache-ten"],
        run: |p| {
            write(p);
            let now = p.revision();
            for revision in now - 13..now {
                p.succeeds(physical(revision));
            }
            for revision in now - 14..=now {
                p.call(hash_kv(revision));
            }
        },
    },
    Case {
        rows: &["kv/12/restart"],
        run: |p| {
            write(p);
            let at = p.revision() - 3;
            p.succeeds(physical(at));
            p.restart();
            p.succeeds(hash_kv(at));
            all(p, at);
        },
    },
];
