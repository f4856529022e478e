//! Answers recorded from etcd 3.6.16, one a row, and the rules they follow from.

use bytes::Bytes;

use super::show::Shown;
use super::world::World;
use crate::apply::{Applying, read_txn};
use crate::error::ApiError;
use crate::mvcc::Cold;
use crate::mvcc::walk::Budget;
use crate::request::{
    Alarm, AlarmAction, AlarmKind, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Filter,
    KeyRange, Op, Put, Range, SortOrder, SortTarget, Txn, Write,
};
use crate::types::LeaseId;

fn put<'a>(key: &'a str, value: &'a str) -> Put<'a> {
    Put { key: key.as_bytes(), value: value.as_bytes(), ..Put::default() }
}

fn delete<'a>(key: &'a str, end: &'a str) -> DeleteRange<'a> {
    DeleteRange { keys: KeyRange::new(key.as_bytes(), end.as_bytes()), prev_kv: false }
}

fn range<'a>(key: &'a str, end: &'a str) -> Range<'a> {
    Range::of(KeyRange::new(key.as_bytes(), end.as_bytes()))
}

fn at(key: &str, revision: i64) -> Range<'_> {
    Range { revision, ..range(key, "") }
}

fn then<'a>(success: impl Into<Vec<Op<'a>>>) -> Txn<'a> {
    Txn { success: success.into(), ..Txn::default() }
}

fn compare<'a>(key: &'a str, end: &'a str, result: CompareResult, target: CompareTarget<'a>) -> Compare<'a> {
    Compare { keys: KeyRange::new(key.as_bytes(), end.as_bytes()), result, target }
}

fn compact(revision: i64) -> Write<'static> {
    Write::Compact(Compact { revision, physical: false })
}

fn alarm(action: AlarmAction, member: u64, kind: AlarmKind) -> Write<'static> {
    Write::Alarm(Alarm { action, member, kind })
}

const MISSING_LEASE: LeaseId = LeaseId(77);

fn text(answer: Result<Shown, ApiError>) -> String {
    answer.map_or_else(|error| format!("{error:?}"), |shown| shown.to_string())
}

impl World {
    fn check(&mut self, write: Write<'_>, expected: &str) {
        assert_eq!(text(self.run(&write)), expected, "{write:?}");
    }

    fn check_put(&mut self, put: Put<'_>, expected: &str) {
        self.check(Write::Put(put), expected);
    }

    fn check_delete(&mut self, delete: DeleteRange<'_>, expected: &str) {
        self.check(Write::DeleteRange(delete), expected);
    }

    fn check_txn(&mut self, txn: Txn<'_>, expected: &str) {
        if read_txn::is_read_only(&txn) {
            assert_eq!(text(self.read_txn(&txn)), expected, "{txn:?}");
        } else {
            self.check(Write::Txn(txn), expected);
        }
    }

    fn check_range(&mut self, range: Range<'_>, expected: &str) {
        assert_eq!(text(self.range(&range)), expected, "{range:?}");
    }

    /// Keys of a range alone, with `more` and the count.
    fn check_keys(&mut self, range: Range<'_>, expected: &str) {
        let Ok(Shown::Range { kvs, more, count, .. }) = self.range(&range) else { panic!("{range:?}") };
        let keys: String = kvs.iter().map(|kv| format!("{} ", kv.key.escape_ascii())).collect();
        assert_eq!(format!("{keys}{}{count}", if more { "more " } else { "" }), expected, "{range:?}");
    }
}

#[test]
fn revisions_versions_and_generations() {
    let mut world = World::calm();
    world.check_range(range("a", ""), "range@1 0");
    world.check_put(put("a", "1"), "put@2");
    world.check_put(put("a", "1"), "put@3");
    world.check_put(Put { prev_kv: true, ..put("a", "2") }, "put@4 a=1 2.3.2");
    world.check_put(Put { prev_kv: true, ..put("b", "") }, "put@5");
    world.check_range(range("a", ""), "range@5 a=2 2.4.3 1");
    world.check_delete(delete("x", ""), "delete@5 0");
    world.check_delete(DeleteRange { prev_kv: true, ..delete("a", "") }, "delete@6 1 a=2 2.4.3");
    world.check_delete(delete("a", ""), "delete@6 0");
    world.check_put(Put { prev_kv: true, ..put("a", "3") }, "put@7");
    world.check_range(range("a", ""), "range@7 a=3 7.7.1 1");
    world.check_range(at("a", 2), "range@7 a=1 2.2.1 1");
    world.check_range(at("a", 6), "range@7 0");
    world.check_put(Put { ignore_value: true, prev_kv: true, ..put("a", "") }, "put@8 a=3 7.7.1");
    world.check_put(Put { ignore_lease: true, ..put("a", "4") }, "put@9");
    world.check_range(range("a", ""), "range@9 a=4 7.9.3 1");
    world.check_put(Put { ignore_value: true, ..put("x", "") }, "KeyNotFound");
    world.check_put(Put { ignore_lease: true, ..put("x", "") }, "KeyNotFound");
    world.check_put(Put { lease: MISSING_LEASE, ..put("a", "") }, "LeaseNotFound");
    world.check_txn(then([]), "txn@9 then");
}

#[test]
fn key_ranges() {
    let mut world = World::calm();
    for key in ["a", "a\0", "aa", "b", "c"] {
        world.run(&Write::Put(put(key, ""))).unwrap();
    }
    let rows = [
        ("a", "", "a 1"),
        ("a", "b", r"a a\x00 aa 3"),
        ("a", "a\0", "a 1"),
        ("aa", "\0", "aa b c 3"),
        ("\0", "\0", r"a a\x00 aa b c 5"),
        ("b", "a", "0"),
        ("b", "b", "0"),
        ("d", "\0", "0"),
    ];
    for (key, end, expected) in rows {
        world.check_keys(range(key, end), expected);
    }
    world.check_delete(delete("c", "a"), "delete@6 0");
    world.check_delete(DeleteRange { prev_kv: true, ..delete("b", "\0") }, "delete@7 2 b= 5.5.1 c= 6.6.1");
    world.check_delete(delete("\0", "\0"), "delete@8 3");
}

#[test]
fn lists_are_filtered_sorted_and_cut() {
    let mut world = World::calm();
    for (key, value) in [("ce", "v"), ("cd", "w"), ("cc", "x"), ("cb", "y"), ("ca", "z")] {
        world.run(&Write::Put(put(key, value))).unwrap();
    }
    let (none, ascend, descend) = (SortOrder::None, SortOrder::Ascend, SortOrder::Descend);
    let rows = [
        (SortTarget::Key, none, 2, "ca cb more 5"),
        (SortTarget::Key, ascend, 5, "ca cb cc cd ce 5"),
        (SortTarget::Key, ascend, 6, "ca cb cc cd ce 5"),
        (SortTarget::Key, descend, 2, "ce cd more 5"),
        // Without an order one more than the limit is taken in key order, and only then sorted.
        (SortTarget::Mod, none, 2, "cc cb more 5"),
        (SortTarget::Mod, none, 5, "ce cd cc cb ca 5"),
        (SortTarget::Mod, ascend, 2, "ce cd more 5"),
        (SortTarget::Mod, descend, 2, "ca cb more 5"),
        (SortTarget::Create, none, 2, "cc cb more 5"),
        (SortTarget::Create, descend, 0, "ca cb cc cd ce 5"),
        // Equal ones stay in key order, whatever the direction.
        (SortTarget::Version, none, 2, "ca cb more 5"),
        (SortTarget::Version, descend, 6, "ca cb cc cd ce 5"),
        (SortTarget::Value, none, 2, "cc cb more 5"),
        (SortTarget::Value, ascend, -1, "ce cd cc cb ca 5"),
        (SortTarget::Value, descend, 2, "ca cb more 5"),
    ];
    let all = range("c", "d");
    for (target, order, limit, expected) in rows {
        world.check_keys(Range { target, order, limit, ..all }, expected);
        world.check_keys(Range { target, order, limit, keys_only: true, ..all }, expected);
    }
    let filtered = |min_mod, max_mod, min_create, max_create| {
        let filter = Filter { min_mod, max_mod, min_create, max_create };
        Range { filter, limit: 2, ..all }
    };
    let by_mod = |range| Range { target: SortTarget::Mod, ..range };
    world.check_keys(filtered(1, 0, 0, 0), "ca cb more 5");
    world.check_keys(filtered(0, 3, 0, 0), "cd ce 5");
    world.check_keys(filtered(0, -1, 0, 0), "5");
    world.check_keys(filtered(4, 0, 0, 4), "cc 5");
    world.check_keys(filtered(0, 0, 3, 3), "cd 5");
    // With a filter all are fetched before they are sorted.
    world.check_keys(by_mod(filtered(1, 0, 0, 0)), "ce cd more 5");
    world.check_keys(Range { count_only: true, ..filtered(0, -1, 0, 0) }, "5");
    world.check_keys(Range { count_only: true, ..range("cc", "") }, "1");
    let single = Filter { max_create: -1, ..Filter::default() };
    world.check_range(Range { filter: single, ..range("ca", "") }, "range@6 1");
    world.check_range(Range { keys_only: true, ..range("ca", "") }, "range@6 ca= 6.6.1 1");
    world.check_range(Range { limit: 1, revision: 2, ..all }, "range@6 ce=v 2.2.1 1");
    world.check_range(Range { limit: 1, revision: 4, ..all }, "range@6 cc=x 4.4.1 more 3");
}

#[test]
fn revisions_of_reads() {
    let mut world = World::calm();
    for value in ["1", "2", "3", "4"] {
        world.run(&Write::Put(put("a", value))).unwrap();
    }
    world.check_txn(then([Op::Range(at("a", -1))]), "txn@5 then [range@5 a=4 2.5.4 1]");
    world.check_txn(then([Op::Range(at("a", -2))]), "Compacted");
    world.check(compact(3), "compact@5");
    let rows = [
        (0, "range@5 a=4 2.5.4 1"),
        (-7, "range@5 a=4 2.5.4 1"),
        (2, "Compacted"),
        (3, "range@5 a=2 2.3.2 1"),
        (5, "range@5 a=4 2.5.4 1"),
        (6, "FutureRevision"),
    ];
    for (revision, expected) in rows {
        world.check_range(at("a", revision), expected);
        world.check_keys(Range { revision: revision.clamp(3, 5), count_only: true, ..range("a", "b") }, "1");
    }
    for (revision, expected) in [(1, "Compacted"), (100, "FutureRevision")] {
        world.check_range(Range { revision, count_only: true, ..range("a", "b") }, expected);
    }
    // A negative revision is "now" outside a transaction and checked inside one.
    world.check_txn(then([Op::Range(at("a", -1))]), "Compacted");
    world.check_txn(then([Op::Txn(then([Op::Range(at("a", -1))]))]), "Compacted");
    world.check_txn(then([Op::Range(at("a", 3))]), "txn@5 then [range@5 a=2 2.3.2 1]");
}

#[test]
fn compactions() {
    let mut world = World::calm();
    for value in ["1", "2", "3"] {
        world.run(&Write::Put(put("a", value))).unwrap();
    }
    let rows = [
        (-1, "Compacted"),
        (5, "FutureRevision"),
        (0, "compact@4"),
        (0, "Compacted"),
        (-1, "Compacted"),
        (3, "compact@4"),
        (2, "Compacted"),
        (3, "Compacted"),
        (4, "compact@4"),
        (5, "FutureRevision"),
    ];
    for (revision, expected) in rows {
        world.check(compact(revision), expected);
    }
    world.check_delete(delete("a", ""), "delete@5 1");
    world.check(compact(5), "compact@5");
    world.check_range(at("a", 5), "range@5 0");
    world.check_range(at("a", 4), "Compacted");
}

#[test]
fn what_fails_a_transaction_and_in_which_order() {
    let mut world = World::calm();
    world.run(&Write::Put(put("a", ""))).unwrap();
    world.check(compact(2), "compact@2");
    let leased = Put { lease: MISSING_LEASE, ..put("k", "") };
    let kept = Put { ignore_value: true, ..put("missing", "") };
    let both = Put { lease: MISSING_LEASE, ..kept };
    // A single put asks for the lease first, one in a transaction for the key.
    world.check_put(both, "LeaseNotFound");
    world.check_txn(then([Op::Put(both)]), "KeyNotFound");
    let (early, late) = (Op::Range(at("a", 1)), Op::Range(at("a", 99)));
    let nest = |op: Op<'static>| Op::Txn(then([op]));
    let rows = [
        (Op::Put(leased), Op::Put(kept), "LeaseNotFound"),
        (Op::Put(kept), Op::Put(leased), "KeyNotFound"),
        (Op::Put(leased), late.clone(), "LeaseNotFound"),
        (late.clone(), Op::Put(leased), "FutureRevision"),
        (early.clone(), late.clone(), "Compacted"),
        (late.clone(), early, "FutureRevision"),
        (nest(Op::Put(leased)), Op::Put(kept), "LeaseNotFound"),
        (nest(late.clone()), Op::Put(leased), "FutureRevision"),
        (Op::Put(leased), nest(late.clone()), "LeaseNotFound"),
        (Op::Put(put("k", "")), Op::Unset, "KeyNotFound"),
        // A key created earlier in the same transaction does not count.
        (Op::Put(put("missing", "")), Op::Put(kept), "KeyNotFound"),
    ];
    for (first, second, expected) in rows {
        world.check_txn(then([first, second]), expected);
    }
    world.check_range(range("\0", "\0"), "range@2 a= 2.2.1 1");
    // The branch that is not taken is not looked at.
    let failure = vec![late, Op::Put(leased)];
    world.check_txn(Txn { failure, ..then([Op::Put(put("a", "1"))]) }, "txn@3 then [put@3]");
}

#[test]
fn compares() {
    use CompareResult::{Equal, Greater, Less, NotEqual, Unknown};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut world = World::calm();
    for (key, value) in [("a", "1"), ("b", "2"), ("b", "3")] {
        world.run(&Write::Put(put(key, value))).unwrap();
    }
    let rows = [
        ("a", "", Equal, Version(1), true),
        ("b", "", Greater, Version(1), true),
        ("b", "", Less, Version(2), false),
        ("b", "", Equal, Create(3), true),
        ("b", "", NotEqual, Mod(4), false),
        ("b", "", Equal, Lease(0), true),
        ("b", "", Equal, Value(b"3"), true),
        ("b", "", Greater, Value(b"29"), true),
        ("b", "", Less, Value(b"3"), false),
        ("b", "", Unknown(9), Value(b"?"), true),
        ("b", "", Equal, CompareTarget::Unknown(9), true),
        ("b", "", Less, CompareTarget::Unknown(9), false),
        // A missing key has zeroes and no value.
        ("x", "", Equal, Version(0), true),
        ("x", "", Equal, Create(0), true),
        ("x", "", Less, Mod(1), true),
        ("x", "", Equal, Lease(0), true),
        ("x", "", Equal, Value(b""), false),
        ("x", "", NotEqual, Value(b"1"), false),
        ("x", "", Unknown(9), Value(b"1"), false),
        // All keys of a range, or none at all.
        ("a", "c", Greater, Version(0), true),
        ("a", "c", Equal, Version(1), false),
        ("a", "\0", Less, Mod(5), true),
        ("a", "c", Greater, Value(b""), true),
        ("a", "c", Equal, Value(b"1"), false),
        ("x", "y", Equal, Version(0), true),
        ("x", "y", Greater, Version(0), false),
        ("x", "y", Greater, Value(b""), false),
        ("c", "a", Equal, Mod(0), true),
    ];
    for (key, end, result, target, holds) in rows {
        let txn = Txn { compare: vec![compare(key, end, result, target)], ..then([]) };
        world.check_txn(txn, if holds { "txn@4 then" } else { "txn@4 else" });
    }
    let both = |result| compare("a", "", result, Version(1));
    let txn = Txn { compare: vec![both(Equal), both(NotEqual)], ..then([]) };
    world.check_txn(txn, "txn@4 else");
    // A nested compare does not see what the parent wrote.
    let absent = vec![compare("n", "", Equal, Version(0))];
    let nested = Txn { compare: absent, ..then([Op::Put(put("m", "then"))]) };
    let txn = then([Op::Put(put("n", "")), Op::Txn(nested)]);
    world.check_txn(txn, "txn@5 then [put@5] [txn then [put@5]]");
}

#[test]
fn revisions_inside_a_transaction() {
    let mut world = World::calm();
    for key in ["b1", "b2"] {
        world.run(&Write::Put(put(key, ""))).unwrap();
    }
    let none = || Op::DeleteRange(delete("nothing", ""));
    let get = |key| Op::Range(range(key, ""));
    let innermost = then([get("e2"), Op::DeleteRange(delete("e1x", ""))]);
    let nested = then([get("e1"), Op::Put(put("e2", "2")), Op::Txn(innermost)]);
    let ops = [
        get("e1"),
        none(),
        Op::Put(put("e1", "1")),
        get("e1"),
        none(),
        Op::Txn(nested),
        Op::DeleteRange(delete("b", "c")),
        get("e1"),
    ];
    world.check_txn(
        then(ops),
        "txn@4 then [range@3 0] [delete@3 0] [put@4] [range@4 e1=1 4.4.1 1] [delete@4 0] \
         [txn then [range@4 e1=1 4.4.1 1] [put@4] [txn then [range@4 e2=2 4.4.1 1] [delete@4 0]]] \
         [delete@4 2] [range@4 e1=1 4.4.1 1]",
    );
    world.check_txn(then([none(), get("e1")]), "txn@4 then [delete@4 0] [range@4 e1=1 4.4.1 1]");
    let gone = DeleteRange { prev_kv: true, ..delete("e2", "") };
    let ops = [get("e1"), Op::DeleteRange(gone), get("e2"), Op::Put(Put { prev_kv: true, ..put("e1", "9") })];
    world.check_txn(
        then(ops),
        "txn@5 then [range@4 e1=1 4.4.1 1] [delete@5 1 e2=2 4.4.1] [range@5 0] [put@5 e1=1 4.4.1]",
    );
    // The revision before the transaction stays readable in it, the one it makes is not.
    let ops = [Op::DeleteRange(delete("e1", "")), Op::Range(at("e1", 5)), get("e1")];
    world.check_txn(then(ops), "txn@6 then [delete@6 1] [range@6 e1=9 4.5.2 1] [range@6 0]");
    world.check_txn(then([Op::Put(put("e1", "")), Op::Range(at("e1", 7))]), "FutureRevision");
    // A transaction of nested ones that only read is proposed, and changes nothing.
    world.check_txn(then([Op::Txn(then([get("e1")]))]), "txn@6 then [txn then [range@6 0]]");
    world.check_txn(then([Op::Txn(then([]))]), "txn@6 then [txn then]");
    // A put and a delete that etcd's overlap check does not see are executed in order.
    let ops = [Op::Put(put("p", "")), Op::DeleteRange(delete("a", "\0")), Op::Range(range("a", "\0"))];
    world.check_txn(then(ops), "txn@7 then [put@7] [delete@7 1] [range@7 0]");
}

#[test]
fn alarms() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmKind::{Corrupt, NoSpace, None};
    let mut world = World::calm();
    let rows = [
        (Activate, 0, None, "alarm@1"),
        (Get, 0, None, "alarm@1"),
        (Deactivate, 0, None, "alarm@1"),
        (Activate, 5, NoSpace, "alarm@1 5:NoSpace"),
        (Activate, 5, NoSpace, "alarm@1 5:NoSpace"),
        (Activate, 3, Corrupt, "alarm@1 3:Corrupt"),
        (Get, 0, None, "alarm@1 3:Corrupt 5:NoSpace"),
        (Get, 5, None, "alarm@1 3:Corrupt 5:NoSpace"),
        (Get, 0, NoSpace, "alarm@1 5:NoSpace"),
        (Get, 9, Corrupt, "alarm@1 3:Corrupt"),
    ];
    for (action, member, kind, expected) in rows {
        world.check(alarm(action, member, kind), expected);
    }
    let get = || Op::Range(range("x", ""));
    let nested = |txn| then([Op::Txn(txn)]);
    let either = || Txn { failure: vec![Op::Put(put("x", ""))], ..then([get()]) };
    // Corrupt: everything that was proposed, before NoSpace.
    world.check_put(put("x", ""), "Corrupt");
    world.check_delete(delete("x", ""), "Corrupt");
    world.check_txn(then([Op::DeleteRange(delete("x", ""))]), "Corrupt");
    world.check_txn(nested(then([get()])), "Corrupt");
    world.check_txn(either(), "Corrupt");
    world.check(compact(0), "Corrupt");
    world.check_txn(then([get()]), "txn@1 then [range@1 0]");
    world.check(alarm(Deactivate, 4, Corrupt), "alarm@1");
    world.check(alarm(Deactivate, 3, Corrupt), "alarm@1 3:Corrupt");
    world.check(alarm(Deactivate, 3, Corrupt), "alarm@1");
    // NoSpace: what could grow, in either branch, before the request's own errors.
    world.check_put(put("x", ""), "NoSpace");
    world.check_put(Put { ignore_value: true, ..put("x", "") }, "NoSpace");
    world.check_txn(either(), "NoSpace");
    world.check_txn(nested(either()), "NoSpace");
    world.check_delete(delete("x", ""), "delete@1 0");
    world.check_txn(then([Op::DeleteRange(delete("x", ""))]), "txn@1 then [delete@1 0]");
    world.check_txn(nested(then([get()])), "txn@1 then [txn then [range@1 0]]");
    world.check(compact(0), "compact@1");
    world.check(alarm(Deactivate, 0, NoSpace), "alarm@1");
    world.check(alarm(Deactivate, 5, NoSpace), "alarm@1 5:NoSpace");
    world.check_put(put("x", ""), "put@2");
}

#[test]
fn read_only_and_serializable_transactions() {
    let get = |serializable| Op::Range(Range { serializable, ..range("a", "") });
    let failing = |failure| Txn { failure, ..then([get(true)]) };
    let rows = [
        (then([]), true, true),
        (then([get(true), get(true)]), true, true),
        (then([get(true), get(false)]), true, false),
        (failing(vec![get(false)]), true, false),
        (failing(vec![Op::Put(put("a", ""))]), false, false),
        (then([Op::DeleteRange(delete("a", ""))]), false, false),
        (then([Op::Txn(then([get(true)]))]), false, false),
    ];
    for (txn, read_only, serializable) in rows {
        assert_eq!(read_txn::is_read_only(&txn), read_only, "{txn:?}");
        assert_eq!(read_txn::is_serializable(&txn), serializable, "{txn:?}");
    }
}

#[test]
fn many_keys_in_one_command() {
    let mut world = World::new(1, 7, 3, 0);
    let keys: Vec<String> = (0..1500).map(|n| format!("k{n:04}")).collect();
    for key in &keys {
        world.run(&Write::Put(put(key, "value"))).unwrap();
    }
    world.check(compact(1000), "compact@1501");
    let last = Range { limit: 1, order: SortOrder::Descend, ..range("k", "l") };
    world.check_range(last, "range@1501 k1499=value 1501.1501.1 more 1500");
    let before = world.stops;
    world.check_txn(
        then([
            Op::Put(put("k", "")),
            Op::Range(Range { count_only: true, ..range("k", "l") }),
            Op::DeleteRange(delete("k0", "k1")),
            Op::Range(Range { count_only: true, ..range("k", "l") }),
            Op::DeleteRange(delete("k", "\0")),
        ]),
        "txn@1502 then [put@1502] [range@1502 1501] [delete@1502 1000] [range@1502 501] [delete@1502 501]",
    );
    assert!(world.stops - before > 400, "{} stops", world.stops - before);
    world.check_range(Range { revision: 1501, count_only: true, ..range("k", "l") }, "range@1502 1500");
    // Tombstones are passed in slices too.
    world.check_delete(delete("k", "\0"), "delete@1502 0");
}

#[test]
fn a_long_list_of_a_transaction_sees_nothing_the_transaction_wrote_after_it() {
    let mut world = World::calm();
    let keys: Vec<String> = (0..50).map(|n| format!("k{n:02}")).collect();
    for key in &keys {
        world.run(&Write::Put(put(key, "old"))).unwrap();
    }
    let all = || Op::Range(range("k", "l"));
    let ops = [
        Op::Put(put("k00", "new")),
        all(),
        Op::Put(put("k01", "newer")),
        Op::DeleteRange(delete("k1", "k2")),
    ];
    let shown = world.run(&Write::Txn(then(ops))).unwrap();
    let Shown::Txn { ops, .. } = &shown else { panic!("{shown}") };
    let Shown::Range { kvs, count: 50, .. } = &ops[1] else { panic!("{shown}") };
    let values: Vec<_> = kvs.iter().map(|kv| kv.value.as_slice()).collect();
    assert_eq!(values.len(), 50);
    assert_eq!(values[0], b"new");
    assert!(values[1..].iter().all(|value| *value == b"old"));
}

#[test]
fn an_entry_that_is_no_command_is_damage() {
    let mut world = World::calm();
    assert!(Applying::new(Bytes::from_static(b"short")).is_err());
    let mut begun = Applying::new(Bytes::from_static(b"\x63\x01\0\0 request id")).unwrap();
    let damaged = begun.advance(&mut world.store, &mut Budget(1)).unwrap_err();
    assert!(matches!(&damaged, Cold::Damaged(what) if what.contains("not decodable")), "{damaged:?}");
}
