//! kv.md sections 1 to 3: the store's model, ranges, and every option of Range.

use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::super::build::{compact, del, get, put, range};
use super::super::pair::Pair;
use super::{COMPACTED, Case, FUTURE, INVALID, OUT_OF_RANGE};

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/1/initial-revision", "kv/3/single-key-miss"],
        run: |p| {
            let revision = p.succeeds(get("nothing")).revision();
            p.expect(revision == Some(1), "an empty store is at revision 1");
            let revision = p.succeeds(put("first", "write")).revision();
            p.expect(revision == Some(2), "the first write gets revision 2");
        },
    },
    Case {
        rows: &["kv/1/key-fields"],
        run: |p| {
            for value in ["1", "2", "3"] {
                p.succeeds(put("fields", value));
                p.succeeds(get("fields"));
            }
            p.succeeds(del("fields"));
            p.succeeds(get("fields"));
            p.succeeds(put("fields", "again"));
            p.succeeds(get("fields"));
        },
    },
    Case {
        rows: &["kv/1/key-limits"],
        run: |p| {
            let keys: [&[u8]; 6] = [b"\0", b"\0\0", b"\xff", b"\xff\xff", b"\xc3\x28", b"with\0zero"];
            for key in keys {
                p.succeeds(put(key, key));
                p.succeeds(get(key));
                p.succeeds(del(key));
            }
            for len in [255, 256, 4_095, 4_096, 70_000] {
                let key = vec![b'k'; len];
                p.succeeds(put(key.clone(), "long key"));
                p.succeeds(get(key.clone()));
                p.succeeds(range("kk", "kl"));
                p.succeeds(del(key));
            }
            for len in [0, 1, 127, 128, 16_383, 16_384, 1_000_000] {
                p.succeeds(put("length", vec![b'v'; len]));
                p.succeeds(get("length"));
            }
        },
    },
    Case {
        rows: &["kv/1/key-order"],
        run: |p| {
            let keys: [&[u8]; 7] = [b"o\x7f", b"o\x80", b"o\xff", b"o", b"o\0", b"oo", b"o\0\xff"];
            for key in keys {
                p.succeeds(put(key, "x"));
            }
            p.succeeds(range("o", "p"));
        },
    },
    Case {
        rows: &["kv/2/single-key", "kv/2/interval", "kv/2/prefix", "kv/2/inverted"],
        run: |p| {
            write(p, &["i/", "i/a", "i/b", "i/c", "i0"]);
            for (key, end) in [
                ("i/a", ""),
                ("i/a", "i/a"),
                ("i/a", "i/b"),
                ("i/a", "i/c"),
                ("i/", "i0"),
                ("i/b", "i/a"),
                ("i/c", "i/"),
                ("i/aa", "i/b"),
            ] {
                p.succeeds(range(key, end));
                p.succeeds(RangeRequest { count_only: true, ..range(key, end) });
            }
        },
    },
    Case {
        rows: &["kv/2/from-key", "kv/2/all-keys"],
        run: |p| {
            write(p, &["z/1", "z/2"]);
            for key in ["\0", "a", "z/1", "z/2", "z/3"] {
                p.succeeds(RangeRequest { keys_only: true, ..range(key, "\0") });
                p.succeeds(RangeRequest { count_only: true, ..range(key, "\0") });
                p.succeeds(RangeRequest { limit: 1, keys_only: true, ..range(key, "\0") });
            }
            p.succeeds(RangeRequest { count_only: true, ..range("a", b"\0\0") });
            p.succeeds(RangeRequest { count_only: true, ..range("\0", "\0\0") });
            p.succeeds(RangeRequest { count_only: true, ..range(b"\xff\xff", "\0") });
        },
    },
    Case {
        rows: &["kv/3/limit-le-0", "kv/3/more", "kv/3/count"],
        run: |p| {
            write(p, &["l/1", "l/2", "l/3"]);
            for limit in [i64::MIN, -1, 0, 1, 2, 3, 4, i64::MAX] {
                p.succeeds(RangeRequest { limit, ..range("l/", "l0") });
                p.succeeds(RangeRequest { limit, ..get("l/1") });
                p.succeeds(RangeRequest { limit, keys_only: true, ..range("l/", "l0") });
            }
        },
    },
    Case {
        rows: &["kv/3/more-count-only", "kv/3/count"],
        run: |p| {
            write(p, &["c/1", "c/2", "c/3"]);
            for limit in [0, 1, 3, 9] {
                p.succeeds(RangeRequest { limit, count_only: true, ..range("c/", "c0") });
                p.succeeds(RangeRequest { limit, count_only: true, keys_only: true, ..range("c/", "c0") });
            }
            p.succeeds(RangeRequest { count_only: true, max_mod_revision: 1, ..range("c/", "c0") });
            p.succeeds(RangeRequest {
                count_only: true,
                sort_target: SortTarget::Mod as i32,
                ..range("c/", "c0")
            });
        },
    },
    Case {
        rows: &["kv/3/rev-future", "kv/3/rev-negative", "kv/3/count-only-rev", "errors/1/future"],
        run: |p| {
            let now = p.succeeds(put("rev", "1")).revision().unwrap_or_default();
            p.succeeds(put("rev", "2"));
            for revision in [i64::MIN, -1, 0, now - 1, now, now + 1] {
                p.succeeds(RangeRequest { revision, ..get("rev") });
                p.succeeds(RangeRequest { revision, count_only: true, ..get("rev") });
            }
            for revision in [now + 2, i64::MAX] {
                p.fails(RangeRequest { revision, ..get("rev") }, OUT_OF_RANGE, FUTURE);
                p.fails(RangeRequest { revision, count_only: true, ..get("rev") }, OUT_OF_RANGE, FUTURE);
                p.fails(RangeRequest { revision, serializable: true, ..get("rev") }, OUT_OF_RANGE, FUTURE);
            }
        },
    },
    Case {
        rows: &["kv/3/rev-compacted", "kv/3/rev-at-compaction", "kv/3/header-revision", "errors/1/compacted"],
        run: |p| {
            write(p, &["rc", "rc", "rc"]);
            let now = p.revision();
            p.succeeds(compact(now - 1));
            p.fails(RangeRequest { revision: now - 2, ..get("rc") }, OUT_OF_RANGE, COMPACTED);
            p.fails(RangeRequest { revision: 1, count_only: true, ..get("rc") }, OUT_OF_RANGE, COMPACTED);
            p.succeeds(RangeRequest { revision: now - 1, ..get("rc") });
            p.succeeds(RangeRequest { revision: now, ..get("rc") });
            p.succeeds(RangeRequest { revision: -5, ..get("rc") });
        },
    },
    Case {
        rows: &["kv/3/order-of-checks"],
        run: |p| {
            let empty = RangeRequest { revision: i64::MAX, ..get("") };
            p.fails(empty, INVALID, "etcdserver: key is not provided");
            let sort = RangeRequest { revision: i64::MAX, sort_order: 7, ..get("x") };
            p.fails(sort, INVALID, "etcdserver: invalid sort option");
            let both = RangeRequest { sort_order: 7, ..get("") };
            p.fails(both, INVALID, "etcdserver: key is not provided");
        },
    },
    Case {
        rows: &["kv/3/filters", "kv/3/filter-negative"],
        run: |p| {
            write(p, &["f/1", "f/2", "f/3", "f/1", "f/2", "f/4"]);
            let now = p.revision();
            for bound in [-1, 1, now - 4, now - 2, now - 1, now, now + 1] {
                let all = range("f/", "f0");
                p.succeeds(RangeRequest { min_mod_revision: bound, ..all.clone() });
                p.succeeds(RangeRequest { max_mod_revision: bound, ..all.clone() });
                p.succeeds(RangeRequest { min_create_revision: bound, ..all.clone() });
                p.succeeds(RangeRequest { max_create_revision: bound, ..all.clone() });
                p.succeeds(RangeRequest { max_create_revision: bound, limit: 1, ..all.clone() });
                p.succeeds(RangeRequest {
                    min_mod_revision: bound,
                    max_mod_revision: now - 1,
                    limit: 2,
                    ..all
                });
            }
        },
    },
    Case {
        rows: &["kv/3/sort-then-truncate", "kv/3/sort-key-ascend", "kv/3/sort-by-value", "kv/3/ties"],
        run: |p| {
            for (key, value) in [("s/c", "1"), ("s/a", "3"), ("s/e", "2"), ("s/b", "3"), ("s/d", "1")] {
                p.succeeds(put(key, value));
            }
            p.succeeds(put("s/c", "\u{7f}"));
            every_sort(p, &range("s/", "s0"));
        },
    },
    Case {
        rows: &["kv/3/sort-target-without-order"],
        run: |p| {
            write(p, &["n/e", "n/d", "n/c", "n/b", "n/a"]);
            for limit in [0, 1, 2, 3, 4, 5, 6] {
                p.succeeds(RangeRequest { limit, sort_target: SortTarget::Mod as i32, ..range("n/", "n0") });
            }
        },
    },
    Case {
        rows: &["kv/3/keys-only", "kv/3/keys-only-after-sort"],
        run: |p| {
            for (key, value) in [("k/1", "c"), ("k/2", "a"), ("k/3", "b")] {
                p.succeeds(put(key, value));
            }
            every_sort(p, &RangeRequest { keys_only: true, ..range("k/", "k0") });
        },
    },
    Case {
        rows: &["kv/3/serializable", "kv/3/linearizable"],
        run: |p| {
            p.succeeds(put("ser", "x"));
            p.succeeds(get("ser"));
            p.succeeds(RangeRequest { serializable: true, ..get("ser") });
            p.succeeds(RangeRequest { serializable: true, limit: 1, ..range("s", "t") });
        },
    },
    Case {
        rows: &["errors/1/invalid-sort"],
        run: |p| {
            for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (0, -1), (9, 9)] {
                let request = RangeRequest { sort_order, sort_target, ..get("sort") };
                p.fails(request, INVALID, "etcdserver: invalid sort option");
            }
        },
    },
];

fn write(p: &mut Pair, keys: &[&str]) {
    for key in keys {
        p.succeeds(put(*key, format!("value of {key}")));
    }
}

fn every_sort(p: &mut Pair, request: &RangeRequest) {
    let targets =
        [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
    for target in targets {
        for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
            for limit in [0, 2] {
                p.succeeds(RangeRequest {
                    limit,
                    sort_order: order as i32,
                    sort_target: target as i32,
                    ..request.clone()
                });
            }
        }
    }
}
