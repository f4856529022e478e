//! Requests as bytes into a member, answers as bytes out of it.

// The member and its clients.
mod node;

// Calls that pass the whole store.
mod whole;

// The Lease service.
mod lease;
// Watch streams.
mod watch;

use std::time::Duration;

use node::{Failure, Node};

use crate::pb::etcdserverpb::{self as pb, request_op, response_op};
use crate::pb::health;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";

/// HTTP/2's own first window.
const WINDOW: u32 = 65_535;

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { range_end: end.to_owned().into(), ..get(key) }
}

fn failure(code: u32, text: &str) -> Failure {
    (code, text.to_owned())
}

fn put_op(key: &str, value: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestPut(put(key, value))) }
}

fn get_op(key: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestRange(get(key))) }
}

fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    let header = header.as_ref().expect("answers have a header");
    assert_eq!((header.cluster_id, header.member_id, header.raft_term > 0), (7, 8, true));
    header.revision
}

#[test]
fn one_of_each_kind() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    let answer: pb::PutResponse = node.call(client, PUT, &put("a", "1")).unwrap();
    assert_eq!((revision(&answer.header), answer.prev_kv), (2, None));
    let with_prev = pb::PutRequest { prev_kv: true, ..put("a", "2") };
    let answer: pb::PutResponse = node.call(client, PUT, &with_prev).unwrap();
    assert_eq!(answer.prev_kv.unwrap().value, "1");

    let answer: pb::RangeResponse = node.call(client, RANGE, &get("a")).unwrap();
    assert_eq!((revision(&answer.header), answer.count, answer.kvs[0].version), (3, 1, 2));
    let answer: pb::RangeResponse = node.call(client, RANGE, &range("a", "z")).unwrap();
    assert_eq!((answer.kvs.len(), answer.more), (1, false));
    let serializable = pb::RangeRequest { serializable: true, ..get("nothing") };
    let answer: pb::RangeResponse = node.call(client, RANGE, &serializable).unwrap();
    assert_eq!((answer.kvs.len(), answer.count), (0, 0));

    let txn = pb::TxnRequest { success: vec![put_op("b", "3"), get_op("b")], ..Default::default() };
    let answer: pb::TxnResponse = node.call(client, TXN, &txn).unwrap();
    assert_eq!((revision(&answer.header), answer.succeeded, answer.responses.len()), (4, true, 2));
    let Some(response_op::Response::ResponseRange(read)) = &answer.responses[1].response else { panic!() };
    assert_eq!((read.kvs[0].value.as_ref(), read.header.as_ref().unwrap().revision), (&b"3"[..], 4));
    let txn = pb::TxnRequest { success: vec![get_op("a"), get_op("b")], ..Default::default() };
    let answer: pb::TxnResponse = node.call(client, TXN, &txn).unwrap();
    assert_eq!((revision(&answer.header), answer.responses.len()), (4, 2));

    let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "z".into(), prev_kv: true };
    let answer: pb::DeleteRangeResponse = node.call(client, DELETE, &delete).unwrap();
    assert_eq!((revision(&answer.header), answer.deleted, answer.prev_kvs.len()), (5, 2, 2));

    let compact = pb::CompactionRequest { revision: 5, physical: false };
    let answer: pb::CompactionResponse = node.call(client, COMPACT, &compact).unwrap();
    assert_eq!(revision(&answer.header), 5);
}

#[test]
fn errors_have_etcds_codes_and_texts() {
    let mut node = Node::with(|config| config.request_bytes_max = 1000);
    let client = node.connect(WINDOW);
    let () = node.call(client, PUT, &put("a", "1")).map(|_: pb::PutResponse| ()).unwrap();
    let mut check = |path: &str, request: &dyn Fn(&mut Node, &str) -> Result<(), Failure>, code, text| {
        assert_eq!(request(&mut node, path), Err(failure(code, text)), "{path}");
    };
    macro_rules! refused {
        ($path:expr, $request:expr, $answer:ty, $code:expr, $text:expr) => {
            check($path, &|node, path| node.call::<$answer>(client, path, &$request).map(drop), $code, $text)
        };
    }
    refused!(PUT, put("", ""), pb::PutResponse, 3, "etcdserver: key is not provided");
    let leased = pb::PutRequest { lease: 5, ..put("a", "") };
    refused!(PUT, leased, pb::PutResponse, 5, "etcdserver: requested lease not found");
    let future = pb::RangeRequest { revision: 99, ..get("a") };
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused!(RANGE, future, pb::RangeResponse, 11, text);
    let future = pb::RangeRequest { revision: 99, ..range("a", "b") };
    refused!(RANGE, future, pb::RangeResponse, 11, text);
    let twice = pb::TxnRequest { success: vec![put_op("k", ""), put_op("k", "")], ..Default::default() };
    refused!(TXN, twice, pb::TxnResponse, 3, "etcdserver: duplicate key given in txn request");
    let compact = pb::CompactionRequest { revision: 9, physical: false };
    refused!(COMPACT, compact, pb::CompactionResponse, 11, text);
    let large = put("a", &"x".repeat(1000));
    refused!(PUT, large, pb::PutResponse, 3, "etcdserver: request is too large");
    let unknown = "unknown method Nope for service etcdserverpb.KV";
    refused!("/etcdserverpb.KV/Nope", get("a"), pb::RangeResponse, 12, unknown);
    refused!("/foo.Bar/Nope", get("a"), pb::RangeResponse, 12, "unknown service foo.Bar");
}

#[test]
fn alarms_status_members_and_health() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    let alarm = |action: i32| pb::AlarmRequest { action, member_id: 8, alarm: 1 };
    let answer: pb::AlarmResponse = node.call(client, ALARM, &alarm(1)).unwrap();
    assert_eq!((answer.alarms.len(), answer.alarms[0].member_id), (1, 8));
    let refused: Result<pb::PutResponse, _> = node.call(client, PUT, &put("a", ""));
    assert_eq!(refused, Err(failure(8, "etcdserver: mvcc: database space exceeded")));
    let status: pb::StatusResponse =
        node.call(client, "/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).unwrap();
    assert_eq!((status.version.as_str(), status.leader, status.errors.len()), ("3.6.16", 8, 1));
    let answer: pb::AlarmResponse = node.call(client, ALARM, &alarm(2)).unwrap();
    assert_eq!(answer.alarms.len(), 1);
    node.call::<pb::PutResponse>(client, PUT, &put("a", "")).unwrap();
    for linearizable in [false, true] {
        let request = pb::MemberListRequest { linearizable };
        let members: pb::MemberListResponse =
            node.call(client, "/etcdserverpb.Cluster/MemberList", &request).unwrap();
        assert_eq!((members.members[0].id, members.header.unwrap().revision), (8, 0));
    }
    let request = health::HealthCheckRequest { service: String::new() };
    let answer: health::HealthCheckResponse =
        node.call(client, "/grpc.health.v1.Health/Check", &request).unwrap();
    assert_eq!(answer.status, 1);
}

#[test]
fn a_watch_of_the_health_hears_once_and_ends_with_the_server() {
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    for (service, status) in [("", 1), ("etcdserverpb.KV", 3)] {
        let request = health::HealthCheckRequest { service: service.into() };
        let stream = node.send(client, WATCH, &request);
        node.settle();
        let told: Vec<health::HealthCheckResponse> = node.messages(client, stream);
        assert_eq!(told.iter().map(|told| told.status).collect::<Vec<_>>(), [status]);
        assert_eq!(node.stream(client, stream).status, None, "it stays open");
        node.cancel(client, stream);
    }
    assert!(node.front.health_watches.is_empty(), "cancelled");
    node.send(client, WATCH, &health::HealthCheckRequest::default());
    node.settle();
    assert_eq!(node.front.health_watches.len(), 1);
    let now = node.now;
    node.front.shutdown(now);
    assert!(node.front.health_watches.is_empty(), "the server ends");
}

/// Puts `count` keys with values of `len` bytes, many at a time.
fn fill(node: &mut Node, client: usize, count: usize, len: usize) {
    let value = "v".repeat(len);
    let keys: Vec<usize> = (0..count).collect();
    for keys in keys.chunks(500) {
        let streams: Vec<u32> =
            keys.iter().map(|n| node.send(client, PUT, &put(&format!("k{n:06}"), &value))).collect();
        node.settle();
        for stream in streams {
            node.answer::<pb::PutResponse>(client, stream).unwrap();
        }
    }
}

#[test]
fn an_answer_of_any_size_is_streamed_in_bounded_memory() {
    const KEYS: usize = 100_000;
    let mut node = Node::new();
    let writer = node.connect(WINDOW);
    fill(&mut node, writer, KEYS, 250);
    let reader = node.connect(16 << 10);
    let stream = node.send(reader, RANGE, &range("k", "l"));
    let mut turns = 0;
    node.output_len_max = 0;
    while node.stream(reader, stream).status.is_none() {
        assert!(node.turn(), "stuck after {turns} turns");
        // The list is pinned: what is written meanwhile is not in it.
        if turns % 50 == 0 {
            node.send(writer, PUT, &put(&format!("k{turns:06}x"), "later"));
            node.send(writer, PUT, &put(&format!("k{turns:06}"), "later"));
        }
        turns += 1;
        let key = node.front.conns.keys().nth(reader).unwrap();
        let held = node.front.conns.entry(key).unwrap().server.memory_bytes();
        assert!(held <= 512 << 10, "{held} bytes held");
        assert!(node.front.scratch.capacity() <= 512 << 10);
        assert!(node.front.answers.len() <= 1 && node.front.tasks.len() <= 1);
    }
    let answer: pb::RangeResponse = node.answer(reader, stream).unwrap();
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (KEYS as i64, KEYS, false));
    assert_eq!(revision(&answer.header), KEYS as i64 + 1);
    for (n, kv) in answer.kvs.iter().enumerate() {
        assert_eq!((kv.key.as_ref(), kv.value.len()), (format!("k{n:06}").as_bytes(), 250));
    }
    assert!(node.front.answers.is_empty() && node.front.tasks.is_empty());
    assert!(node.output_len_max <= 512 << 10);
}

#[test]
fn a_filter_that_keeps_little_gives_the_turn_back() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    fill(&mut node, client, 60_000, 10);
    // More than a list is kept of, and then 40,000 keys of which none is.
    let filtered = pb::RangeRequest { max_mod_revision: 20_001, ..range("k", "l") };
    let answer: pb::RangeResponse = node.call(client, RANGE, &filtered).unwrap();
    assert_eq!((answer.kvs.len(), answer.count), (20_000, 60_000));
    let filtered = pb::RangeRequest { min_mod_revision: 40_002, ..range("k", "l") };
    let answer: pb::RangeResponse = node.call(client, RANGE, &filtered).unwrap();
    assert_eq!((answer.kvs.len(), answer.count), (20_000, 60_000));
    assert_eq!(answer.kvs[0].key, "k040000");
}

#[test]
fn a_long_read_that_is_cancelled_leaves_nothing_behind() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    fill(&mut node, client, 20_000, 100);
    let cancel = [
        |node: &mut Node, client: usize, stream: u32| node.cancel(client, stream),
        |node: &mut Node, client: usize, _: u32| node.close(client),
        |node: &mut Node, _: usize, _: u32| node.wait(Duration::from_secs(2)),
    ];
    // While it is counted, and while it is sent.
    for (n, turns) in [(0, 1), (0, 40), (1, 1), (1, 40), (2, 1), (2, 40)] {
        let reader = node.connect(1000);
        node.grant(reader, false);
        let stream = node.send_with(reader, RANGE, &[("grpc-timeout", "1S")], &range("k", "l"));
        for _ in 0..turns {
            node.turn();
        }
        assert_eq!(node.front.answers.len() + node.front.tasks.len(), 1, "{n} after {turns} turns");
        cancel[n](&mut node, reader, stream);
        node.settle();
        assert_eq!(node.front.answers.len() + node.front.tasks.len(), 0, "{n} after {turns} turns");
        assert!(node.front.waiting.is_empty());
        if n != 1 {
            node.close(reader);
        }
    }
    node.call::<pb::RangeResponse>(client, RANGE, &get("k000001")).unwrap();
}

#[test]
fn a_connection_that_closes_while_its_calls_wait() {
    let mut node = Node::new();
    let (stays, goes) = (node.connect(WINDOW), node.connect(WINDOW));
    node.hold_log(true);
    for n in 0..10 {
        node.send(goes, PUT, &put(&format!("k{n}"), "1"));
        node.send(goes, RANGE, &get("k1"));
    }
    let stream = node.send(stays, PUT, &put("k", "2"));
    node.settle();
    assert!(node.stream(stays, stream).status.is_none());
    node.close(goes);
    let newcomer = node.connect(WINDOW);
    node.hold_log(false);
    node.settle();
    // The writes happened, and nobody hears of another's.
    let answer: pb::PutResponse = node.answer(stays, stream).unwrap();
    assert_eq!(revision(&answer.header), 12);
    assert!(node.front.waiting.is_empty());
    let answer: pb::RangeResponse = node.call(newcomer, RANGE, &range("k", "l")).unwrap();
    assert_eq!(answer.count, 11);
}

#[test]
fn a_linearizable_read_waits_for_what_is_committed_before_it() {
    let mut node = Node::new();
    let (writer, reader) = (node.connect(WINDOW), node.connect(WINDOW));
    node.call::<pb::PutResponse>(writer, PUT, &put("a", "old")).unwrap();
    node.hold_log(true);
    let write = node.send(writer, PUT, &put("a", "new"));
    node.settle();
    // Not durable, so not committed: both reads may see the old value, and nobody sees the new one.
    let early = node.send(reader, RANGE, &get("a"));
    let stale = node.send(reader, RANGE, &pb::RangeRequest { serializable: true, ..get("a") });
    node.settle();
    for stream in [early, stale] {
        let answer: pb::RangeResponse = node.answer(reader, stream).unwrap();
        assert_eq!(answer.kvs[0].value, "old");
    }
    assert!(node.stream(writer, write).status.is_none());
    // Durable, and so committed, but not yet applied and published when the read comes.
    node.hold_log(false);
    let read = node.send(reader, RANGE, &get("a"));
    let listed = node.send(reader, RANGE, &range("a", "b"));
    let read_txn = pb::TxnRequest { success: vec![get_op("a")], ..Default::default() };
    let in_txn = node.send(reader, TXN, &read_txn);
    assert_eq!(node.front.waiting.len(), 4, "the write and all three reads wait");
    node.settle();
    let answer: pb::PutResponse = node.answer(writer, write).unwrap();
    let written = revision(&answer.header);
    for stream in [read, listed] {
        let answer: pb::RangeResponse = node.answer(reader, stream).unwrap();
        assert_eq!((answer.kvs[0].value.as_ref(), revision(&answer.header)), (&b"new"[..], written));
    }
    let answer: pb::TxnResponse = node.answer(reader, in_txn).unwrap();
    assert_eq!(revision(&answer.header), written);
}

const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";

/// A member with small chunks, all of whose 2000 keys were written twice; `between` happens after the first time.
fn written_twice(between: impl FnOnce(&mut Node)) -> (Node, usize) {
    let mut node = Node::with(|config| config.history.chunk_bytes = 16 << 10);
    let writer = node.connect(WINDOW);
    fill(&mut node, writer, 2000, 500);
    between(&mut node);
    let value = "w".repeat(500);
    for n in 0..2000 {
        node.send(writer, PUT, &put(&format!("k{n:06}"), &value));
    }
    node.send(writer, COMPACT, &pb::CompactionRequest { revision: 4001, physical: false });
    (node, writer)
}

#[test]
fn a_long_answer_keeps_what_it_names_through_a_compaction() {
    let mut reader = None;
    let (mut node, _) = written_twice(|node| {
        let conn = node.connect(1000);
        node.grant(conn, false);
        node.send(conn, RANGE, &range("k", "l"));
        node.settle();
        reader = Some(conn);
    });
    let settle = |node: &mut Node| {
        for _ in 0..200 {
            node.wait(Duration::from_millis(5));
            node.settle();
        }
    };
    settle(&mut node);
    let revision = engine::types::Revision(4001);
    assert_eq!(node.replica.store().published().1.compacted, revision);
    assert!(node.replica.floor().0 <= 2001 && !node.replica.is_reclaimed(revision));
    let history = node.replica.store().history();
    assert!((1..=2000).all(|seq| !matches!(history.record(engine::types::Seq(seq)), Ok(None))));
    node.close(reader.unwrap());
    settle(&mut node);
    assert!(node.replica.is_reclaimed(revision));
    assert!(node.replica.store().reclaimed().tally().moved > 0);
}

#[test]
fn an_answer_that_nobody_takes_ends_and_defragment_waits_until_then() {
    let (mut node, client) = written_twice(|node| {
        let reader = node.connect(1000);
        node.grant(reader, false);
        node.send(reader, RANGE, &range("k", "l"));
        node.settle();
    });
    node.settle();
    assert_eq!(node.front.answers.len(), 1);
    let first = node.send(client, DEFRAGMENT, &pb::DefragmentRequest {});
    let second = node.send(client, DEFRAGMENT, &pb::DefragmentRequest {});
    for _ in 0..50 {
        node.wait(Duration::from_secs(1));
        node.settle();
    }
    assert!(node.stream(client, second).status.is_none(), "the floor is held");
    assert_eq!(node.front.finishing.len(), 2);
    node.cancel(client, first);
    assert_eq!(node.front.finishing.len(), 1);
    for _ in 0..20 {
        node.wait(Duration::from_secs(1));
        node.settle();
    }
    assert!(node.front.answers.is_empty() && node.front.finishing.is_empty());
    node.answer::<pb::DefragmentResponse>(client, second).unwrap();
    // Nothing is left to do: both are answered at once.
    node.call::<pb::DefragmentResponse>(client, DEFRAGMENT, &pb::DefragmentRequest {}).unwrap();
    let compact = pb::CompactionRequest { revision: 4000, physical: true };
    assert_eq!(node.call::<pb::CompactionResponse>(client, COMPACT, &compact).unwrap_err().0, 11);
}

#[test]
fn answers_that_wait_for_windows_are_not_held_in_memory() {
    const CALLS: usize = 1000;
    const VALUE_LEN: usize = 15_000;
    let mut node = Node::new();
    let writer = node.connect(WINDOW);
    node.call::<pb::PutResponse>(writer, PUT, &put("a", &"v".repeat(VALUE_LEN))).unwrap();
    let reader = node.connect(0);
    let one = node.send(reader, RANGE, &get("a"));
    node.settle();
    let many: Vec<u32> = (1..CALLS).map(|_| node.send(reader, RANGE, &get("a"))).collect();
    node.settle();
    let held = node.waiting_bytes(reader);
    assert!((100 * CALLS..1000 * CALLS).contains(&held), "{held} bytes for {CALLS} answers");
    // Old calls may be ended by the thousand.
    node.wait(crate::h2::abuse::RESET_AGE_MAX);
    for stream in many {
        node.cancel(reader, stream);
    }
    node.widen(reader, one, 1 << 20);
    node.settle();
    let answer: pb::RangeResponse = node.answer(reader, one).unwrap();
    assert_eq!(answer.kvs[0].value.len(), VALUE_LEN);
    assert_eq!(node.waiting_bytes(reader), 0);
    assert!(node.front.answers.is_empty());
}

#[test]
fn the_connection_that_holds_the_most_is_ended_when_all_hold_too_much() {
    let mut node = Node::new();
    let clients = [WINDOW; 3].map(|window| node.connect(window));
    // Parts of messages, nearly as many as one connection may hold.
    for (client, messages) in clients.into_iter().zip([10, 50, 20]) {
        node.send_parts(client, PUT, messages, 1 << 20);
    }
    assert_eq!(node.front.poll_ended(), None);
    let more: Vec<usize> = (0..4).map(|_| node.connect(WINDOW)).collect();
    for client in more {
        node.send_parts(client, PUT, 48, 1 << 20);
    }
    assert_eq!(node.front.poll_ended(), Some(node.conn(clients[1])));
    assert_eq!(node.front.poll_ended(), None);
    node.close(clients[1]);
    let answer: pb::RangeResponse = node.call(clients[0], RANGE, &get("a")).unwrap();
    assert_eq!(answer.count, 0);
}

#[test]
fn a_long_answer_takes_no_more_of_a_turn_than_its_share() {
    const SHARE: usize = 20_000;
    let mut node = Node::new();
    let client = node.connect(1 << 20);
    fill(&mut node, client, 1000, 300);
    let stream = node.send(client, RANGE, &range("k", "l"));
    let conn = node.conn(client);
    while node.front.answers.is_empty() {
        node.replica.turn(node.now).unwrap();
        node.front.run_slices(node.now, &mut node.replica).unwrap();
    }
    while node.front.poll_dirty().is_some() {}
    let mut room = SHARE;
    let len = node.front.output(conn, &mut node.replica, &mut room).unwrap().len();
    assert!((SHARE..SHARE + 1000).contains(&len), "{len} bytes");
    // Nothing more, and the next turn hears of it.
    assert_eq!(node.front.output(conn, &mut node.replica, &mut room).unwrap().len(), len);
    assert_eq!((node.front.poll_dirty(), node.front.poll_dirty()), (Some(conn), None));
    node.front.run_slices(node.now, &mut node.replica).unwrap();
    node.rest(client);
    let answer: pb::RangeResponse = node.answer(client, stream).unwrap();
    assert_eq!(answer.kvs.len(), 1000);
}

#[test]
fn what_is_cold_after_a_restart_is_brought_in() {
    let cold = |config: &mut engine::replica::Config| config.history.resident_bytes = 0;
    let mut node = Node::with(cold);
    let client = node.connect(WINDOW);
    fill(&mut node, client, 18_000, 300);
    let deletes =
        pb::DeleteRangeRequest { key: "k000100".into(), range_end: "k000200".into(), prev_kv: false };
    node.call::<pb::DeleteRangeResponse>(client, DELETE, &deletes).unwrap();
    let mut node = node.restart(cold);
    let client = node.connect(WINDOW);

    let answer: pb::RangeResponse = node.call(client, RANGE, &get("k000007")).unwrap();
    assert_eq!(answer.kvs[0].value.len(), 300);
    let old = pb::RangeRequest { revision: 18_001, limit: 300, ..range("k000", "k001") };
    let answer: pb::RangeResponse = node.call(client, RANGE, &old).unwrap();
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (300, 1000, true));
    let by_value = pb::RangeRequest { sort_target: 4, sort_order: 2, limit: 3, ..range("k001", "k002") };
    let answer: pb::RangeResponse = node.call(client, RANGE, &by_value).unwrap();
    assert_eq!((answer.kvs.len(), answer.count), (3, 1000));
    let kept = pb::PutRequest { ignore_value: true, prev_kv: true, ..put("k000300", "") };
    let answer: pb::PutResponse = node.call(client, PUT, &kept).unwrap();
    assert_eq!(answer.prev_kv.unwrap().version, 1);
    let compare = pb::Compare {
        key: "k003".into(),
        range_end: "k004".into(),
        target: pb::compare::CompareTarget::Value as i32,
        target_union: Some(pb::compare::TargetUnion::Value("v".repeat(300).into())),
        ..Default::default()
    };
    for op in [get_op("k000300"), put_op("z", "")] {
        let txn = pb::TxnRequest { compare: vec![compare.clone()], success: vec![op], ..Default::default() };
        assert!(node.call::<pb::TxnResponse>(client, TXN, &txn).unwrap().succeeded);
    }
    let deletes = pb::DeleteRangeRequest { key: "k004".into(), range_end: "k005".into(), prev_kv: true };
    let answer: pb::DeleteRangeResponse = node.call(client, DELETE, &deletes).unwrap();
    assert_eq!((answer.deleted, answer.prev_kvs.len()), (1000, 1000));
    let answer: pb::RangeResponse = node.call(client, RANGE, &range("k", "l")).unwrap();
    assert_eq!((answer.kvs.len(), answer.count), (16_900, 16_900));
    assert!(node.front.waiting.is_empty() && node.front.answers.is_empty());
}
