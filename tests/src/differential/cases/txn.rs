//! kv.md section 6: transactions.

use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp};

use super::super::build::{compact, compare, del, del_range, get, op, put, range, txn};
use super::super::pair::Pair;
use super::{COMPACTED, Case, FUTURE, INVALID, NOT_FOUND, OUT_OF_RANGE};

const TARGETS: [CompareTarget; 5] = [
    CompareTarget::Version,
    CompareTarget::Create,
    CompareTarget::Mod,
    CompareTarget::Value,
    CompareTarget::Lease,
];
const RESULTS: [CompareResult; 4] =
    [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];
const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";

pub const CASES: &[Case] = &[
    Case {
        rows: &["kv/6/targets", "kv/6/results", "kv/6/missing-key-numeric", "kv/6/missing-key-value"],
        run: |p| {
            p.succeeds(put("t/key", "m"));
            let revision = p.succeeds(put("t/key", "m")).revision().unwrap_or_default();
            for key in ["t/key", "t/missing"] {
                for target in TARGETS {
                    for union in unions(target, revision) {
                        decide_each(
                            p,
                            &Compare { target_union: Some(union), ..compare(key, target, RESULTS[0], None) },
                        );
                    }
                }
            }
        },
    },
    Case {
        rows: &["kv/6/missing-union", "kv/6/union-mismatch"],
        run: |p| {
            p.succeeds(put("u/key", "m"));
            for key in ["u/key", "u/missing"] {
                for target in TARGETS {
                    decide_each(p, &compare(key, target, RESULTS[0], None));
                    decide_each(p, &compare(key, target, RESULTS[0], TargetUnion::Lease(1)));
                    decide_each(p, &compare(key, target, RESULTS[0], TargetUnion::Value("m".into())));
                    decide_each(p, &compare(key, target, RESULTS[0], TargetUnion::Version(1)));
                }
            }
        },
    },
    Case {
        rows: &["kv/6/compare-range", "kv/6/compare-range-empty"],
        run: |p| {
            for (key, value) in [("r/1", "a"), ("r/2", "b"), ("r/2", "b"), ("r/3", "b")] {
                p.succeeds(put(key, value));
            }
            for (key, end) in
                [("r/", "r0"), ("r/2", "r/4"), ("r/8", "r/9"), ("r/3", "r/1"), ("r/1", "\0"), ("\0", "\0")]
            {
                for target in TARGETS {
                    for union in unions(target, 1) {
                        let with_end =
                            Compare { range_end: end.into(), ..compare(key, target, RESULTS[0], union) };
                        decide_each(p, &with_end);
                    }
                }
            }
        },
    },
    Case {
        rows: &["kv/6/unknown-result", "kv/6/unknown-target"],
        run: |p| {
            p.succeeds(put("un/key", "m"));
            for key in ["un/key", "un/missing"] {
                for number in [4, -1, 99] {
                    for target in TARGETS {
                        let mut unknown = compare(key, target, RESULTS[0], unions(target, 9).pop());
                        unknown.result = number;
                        decide(p, unknown);
                    }
                    for result in RESULTS {
                        let mut unknown = compare(key, TARGETS[0], result, TargetUnion::Version(7));
                        unknown.target = number;
                        decide(p, unknown);
                    }
                }
            }
        },
    },
    Case {
        rows: &["kv/6/compares-and", "kv/6/empty-compares", "kv/6/branch", "kv/6/responses-shape"],
        run: |p| {
            p.succeeds(put("a/1", "1"));
            let yes =
                compare("a/1", CompareTarget::Value, CompareResult::Equal, TargetUnion::Value("1".into()));
            let no = compare("a/1", CompareTarget::Version, CompareResult::Equal, TargetUnion::Version(0));
            p.succeeds(txn([], [op(get("a/1"))], [op(put("a/2", "x"))]));
            p.succeeds(txn([yes.clone(), yes.clone()], [op(put("a/3", "x"))], [op(put("a/4", "x"))]));
            p.succeeds(txn([yes.clone(), no.clone()], [op(put("a/5", "x"))], [op(put("a/6", "x"))]));
            p.succeeds(txn([no, yes], [], []));
            p.succeeds(range("a/", "a0"));
        },
    },
    Case {
        rows: &["kv/6/compares-pre-state"],
        run: |p| {
            let absent = || {
                compare("pre", CompareTarget::Create, CompareResult::Equal, TargetUnion::CreateRevision(0))
            };
            let inner = txn([absent()], [op(get("pre"))], [op(get("pre")), op(get("pre"))]);
            p.succeeds(txn([absent()], [op(put("pre", "1")), op(inner.clone()), op(get("pre"))], []));
            p.succeeds(txn([absent()], [], [op(inner)]));
        },
    },
    Case {
        rows: &["kv/6/read-your-writes", "kv/6/one-revision", "kv/6/op-headers", "kv/6/outer-header"],
        run: |p| {
            let ops = [
                op(get("w/1")),
                op(PutRequest { prev_kv: true, ..put("w/1", "a") }),
                op(get("w/1")),
                op(range("w/", "w0")),
                op(del("w/old")),
                op(range("w/", "w0")),
                op(put("w/2", "b")),
                op(RangeRequest { count_only: true, ..range("w/", "w0") }),
            ];
            p.succeeds(put("w/old", "1"));
            p.succeeds(txn([], ops, []));
            p.succeeds(range("w/", "w0"));
            p.succeeds(txn([], [op(del("w/none")), op(get("w/2"))], []));
        },
    },
    Case {
        rows: &["kv/6/nested-header", "kv/6/one-revision"],
        run: |p| {
            let inner = txn([], [op(put("ne/1", "a")), op(get("ne/1"))], []);
            let deeper = txn([], [op(txn([], [op(put("ne/2", "b"))], [])), op(get("ne/2"))], []);
            p.succeeds(txn([], [op(inner), op(deeper), op(put("ne/3", "c")), op(range("ne/", "ne0"))], []));
            p.succeeds(range("ne/", "ne0"));
        },
    },
    Case {
        rows: &["kv/6/range-rev-in-txn", "kv/6/precheck-before-write"],
        run: |p| {
            for value in ["1", "2", "3"] {
                p.succeeds(put("rr", value));
            }
            let now = p.revision();
            p.succeeds(compact(now - 1));
            let read = |revision| op(RangeRequest { revision, ..get("rr") });
            for revision in [now - 1, now, 0] {
                let now = p.revision();
                p.succeeds(txn([], [op(put("rr", "w")), read(revision), read(now)], []));
            }
            let now = p.revision();
            let write = || op(put("rr", "must not be seen"));
            p.fails(txn([], [write(), read(now + 1)], []), OUT_OF_RANGE, FUTURE);
            p.fails(txn([], [write(), read(1)], []), OUT_OF_RANGE, COMPACTED);
            p.fails(txn([], [write(), read(-1)], []), OUT_OF_RANGE, COMPACTED);
            p.fails(txn([], [read(now + 1)], []), OUT_OF_RANGE, FUTURE);
            p.fails(txn([], [read(1)], []), OUT_OF_RANGE, COMPACTED);
            p.succeeds(get("rr"));
        },
    },
    Case {
        rows: &["kv/6/precheck-pre-state", "kv/6/precheck-other-branch", "kv/4/ignore-value"],
        run: |p| {
            let ignore = |key: &str| op(PutRequest { ignore_value: true, ..put(key, "") });
            let leased = || op(PutRequest { lease: 77, ..put("pc/leased", "v") });
            let nested = || op(txn([], [op(put("pc/new", "1"))], []));
            p.fails(
                txn([], [op(put("pc/1", "x")), leased()], []),
                NOT_FOUND,
                "etcdserver: requested lease not found",
            );
            p.fails(txn([], [ignore("pc/none")], []), INVALID, "etcdserver: key not found");
            p.fails(
                txn([], [nested(), op(txn([], [ignore("pc/none")], []))], []),
                INVALID,
                "etcdserver: key not found",
            );
            p.succeeds(txn([], [op(put("pc/2", "x"))], [leased(), ignore("pc/none")]));
            p.succeeds(range("pc/", "pc0"));
        },
    },
    Case {
        rows: &["kv/6/read-only", "kv/6/read-only-no-ops", "kv/6/nested-read-only"],
        run: |p| {
            p.succeeds(put("ro", "1"));
            let serializable = op(RangeRequest { serializable: true, ..get("ro") });
            p.succeeds(txn([], [op(get("ro")), serializable.clone()], []));
            p.succeeds(txn([], [serializable], []));
            p.succeeds(txn([], [], []));
            p.succeeds(txn([compare("ro", TARGETS[0], RESULTS[0], TargetUnion::Version(1))], [], []));
            p.succeeds(txn([], [op(txn([], [op(get("ro"))], []))], []));
            p.succeeds(txn([], [op(txn([], [], []))], []));
            let now = p.revision();
            let read = |revision| op(RangeRequest { revision, ..get("ro") });
            p.succeeds(txn([], [read(now - 1), read(now), read(0)], []));
            p.fails(txn([], [read(now), read(-1)], []), OUT_OF_RANGE, COMPACTED);
        },
    },
    Case {
        rows: &["kv/6/overlap-put-put", "kv/6/overlap-put-delete", "errors/1/duplicate-key"],
        run: |p| {
            let puts = || [op(put("ov/a", "1")), op(put("ov/a", "2"))];
            p.fails(txn([], puts(), []), INVALID, DUPLICATE);
            p.fails(txn([], [], puts()), INVALID, DUPLICATE);
            for delete in [op(del("ov/a")), op(del_range("ov/", "ov0")), op(del_range("ov/a", "ov/b"))] {
                p.fails(txn([], [op(put("ov/a", "1")), delete.clone()], []), INVALID, DUPLICATE);
                p.fails(txn([], [delete, op(put("ov/a", "1"))], []), INVALID, DUPLICATE);
            }
        },
    },
    Case {
        rows: &["kv/6/overlap-delete-delete", "kv/6/overlap-put-range", "kv/6/overlap-then-else"],
        run: |p| {
            for key in ["ok/a", "ok/b"] {
                p.succeeds(put(key, "1"));
            }
            p.succeeds(txn([], [op(del("ok/a")), op(del_range("ok/", "ok0")), op(del("ok/a"))], []));
            p.succeeds(txn([], [op(put("ok/a", "1")), op(get("ok/a")), op(range("ok/", "ok0"))], []));
            p.succeeds(txn([], [op(del_range("ok/b", "ok/c")), op(put("ok/a", "2"))], []));
            p.succeeds(txn([], [op(txn([], [op(put("ok/a", "3"))], [op(put("ok/a", "4"))]))], []));
            p.succeeds(txn([], [op(put("ok/a", "5"))], [op(put("ok/a", "6"))]));
        },
    },
    Case {
        rows: &["kv/6/overlap-siblings", "kv/6/overlap-nested-delete", "errors/1/duplicate-key"],
        run: |p| {
            let nest = |request: RequestOp| op(txn([], [request], []));
            let nest_else = |request: RequestOp| op(txn([], [], [request]));
            let (write, remove) = (|| op(put("sib", "1")), || op(del("sib")));
            p.fails(txn([], [nest(remove()), nest(write())], []), INVALID, DUPLICATE);
            p.succeeds(txn([], [nest(write()), nest(remove())], []));
            p.succeeds(txn([], [nest(write()), nest_else(remove())], []));
            p.fails(txn([], [nest(write()), nest(write())], []), INVALID, DUPLICATE);
            p.fails(txn([], [nest(write()), nest_else(write())], []), INVALID, DUPLICATE);
            p.fails(txn([], [nest_else(remove()), write()], []), INVALID, DUPLICATE);
            p.fails(txn([], [write(), nest(remove())], []), INVALID, DUPLICATE);
            p.fails(txn([], [remove(), nest(write())], []), INVALID, DUPLICATE);
            p.fails(txn([], [nest(nest(write())), write()], []), INVALID, DUPLICATE);
        },
    },
    Case {
        rows: &["kv/6/overlap-from-key"],
        run: |p| {
            p.succeeds(put("zz/a", "1"));
            p.succeeds(txn([], [op(put("zz/b", "1")), op(del_range("zz/", "\0"))], []));
            p.succeeds(range("zz/", "zz0"));
            p.succeeds(txn([], [op(del_range("zz/", "\0")), op(put("zz/b", "1"))], []));
            p.succeeds(range("zz/", "zz0"));
        },
    },
    Case {
        rows: &["kv/6/limits", "kv/8/txn-ops", "errors/1/too-many-ops"],
        run: |p| {
            let many = "etcdserver: too many operations in txn request";
            let reads = |count: usize| vec![op(get("lim")); count];
            let compares = |count: usize| vec![compare("lim", TARGETS[0], RESULTS[0], None); count];
            let sized = |c: usize, s: usize, f: usize| {
                let mut request = txn([], [], []);
                (request.compare, request.success, request.failure) = (compares(c), reads(s), reads(f));
                request
            };
            p.succeeds(sized(128, 128, 128));
            p.fails(sized(129, 0, 0), INVALID, many);
            p.fails(sized(0, 129, 0), INVALID, many);
            p.fails(sized(0, 0, 129), INVALID, many);
            for (outer, inner) in [(1, 127), (1, 128), (64, 64), (64, 65), (127, 1), (127, 2), (128, 0)] {
                let mut request = sized(0, outer - 1, 0);
                request.success.push(op(sized(0, inner, 0)));
                if outer + inner <= 128 {
                    p.succeeds(request);
                } else {
                    p.fails(request, INVALID, many);
                }
            }
        },
    },
    Case {
        rows: &["errors/1/key-not-provided", "errors/1/key-not-found", "kv/6/shape-of-both-branches"],
        run: |p| {
            let missing = "etcdserver: key is not provided";
            for bad in [op(get("")), op(put("", "v")), op(del("")), op(range("", "z"))] {
                p.fails(txn([], [bad.clone()], []), INVALID, missing);
                p.fails(txn([], [], [bad.clone()]), INVALID, missing);
                p.fails(txn([], [op(txn([], [], [bad]))], []), INVALID, missing);
            }
            p.fails(txn([compare("", TARGETS[0], RESULTS[0], None)], [], []), INVALID, missing);
            p.fails(txn([], [RequestOp { request: None }], []), INVALID, "etcdserver: key not found");
            let sort = RangeRequest { sort_order: 5, ..get("x") };
            p.fails(txn([], [op(sort)], []), INVALID, "etcdserver: invalid sort option");
            let given = PutRequest { ignore_value: true, ..put("x", "v") };
            p.fails(txn([], [], [op(given)]), INVALID, "etcdserver: value is provided");
        },
    },
];

fn unions(target: CompareTarget, revision: i64) -> Vec<TargetUnion> {
    let numbers = [0, 1, 2, revision];
    match target {
        CompareTarget::Version => numbers.map(TargetUnion::Version).into(),
        CompareTarget::Create => numbers.map(TargetUnion::CreateRevision).into(),
        CompareTarget::Mod => numbers.map(TargetUnion::ModRevision).into(),
        CompareTarget::Lease => numbers.map(TargetUnion::Lease).into(),
        CompareTarget::Value => ["", "a", "m", "z"].map(|text| TargetUnion::Value(text.into())).into(),
    }
}

fn decide_each(p: &mut Pair, with: &Compare) {
    for result in RESULTS {
        decide(p, Compare { result: result as i32, ..with.clone() });
    }
}

/// Whether the compare holds; an empty transaction tells it and changes nothing.
fn decide(p: &mut Pair, compare: Compare) {
    p.succeeds(txn([compare], [], []));
}
