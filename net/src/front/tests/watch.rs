//! Watch streams as a client sees them.

use std::time::Duration;

use super::node::Node;
use super::{COMPACT, DELETE, PUT, TXN, WINDOW, put, put_op};
use crate::pb::etcdserverpb::{self as pb, watch_request::RequestUnion};
use crate::pb::mvccpb::Event;

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A client with one stream.
struct Watching {
    node: Node,
    client: usize,
    stream: u32,
}

impl Watching {
    fn new() -> Watching {
        Watching::with(WINDOW)
    }

    fn with(window: u32) -> Watching {
        let mut node = Node::new();
        let client = node.connect(window);
        let stream = node.open_stream(client, WATCH, &[]);
        Watching { node, client, stream }
    }

    fn say(&mut self, union: RequestUnion) -> Vec<pb::WatchResponse> {
        let request = pb::WatchRequest { request_union: Some(union) };
        self.node.say(self.client, self.stream, &request);
        self.told()
    }

    fn create(&mut self, create: pb::WatchCreateRequest) -> Vec<pb::WatchResponse> {
        self.say(RequestUnion::CreateRequest(create))
    }

    fn cancel(&mut self, watch_id: i64) -> Vec<pb::WatchResponse> {
        self.say(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))
    }

    fn progress(&mut self) -> Vec<pb::WatchResponse> {
        self.say(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
    }

    fn put(&mut self, key: &str, value: &str) -> Vec<pb::WatchResponse> {
        self.node.call::<pb::PutResponse>(self.client, PUT, &put(key, value)).unwrap();
        self.told()
    }

    fn delete(&mut self, key: &str) -> Vec<pb::WatchResponse> {
        let delete = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.node.call::<pb::DeleteRangeResponse>(self.client, DELETE, &delete).unwrap();
        self.told()
    }

    fn compact(&mut self, revision: i64) -> Vec<pb::WatchResponse> {
        let compact = pb::CompactionRequest { revision, physical: false };
        self.node.call::<pb::CompactionResponse>(self.client, COMPACT, &compact).unwrap();
        self.told()
    }

    fn told(&mut self) -> Vec<pb::WatchResponse> {
        self.node.settle();
        self.node.messages(self.client, self.stream)
    }
}

fn key(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}

fn range(first: &str, end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { range_end: end.to_owned().into(), ..key(first) }
}

fn revision_of(response: &pb::WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

/// Kind, key, revision, value and previous value of each event.
fn shown(events: &[Event]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let show = |event: &Event| {
        let kv = event.kv.as_ref().unwrap();
        let kind = if event.r#type == 0 { "put" } else { "del" };
        let prev = event.prev_kv.as_ref().map_or(String::new(), |prev| format!(" was {}", text(&prev.value)));
        format!("{kind} {}@{} {}{prev}", text(&kv.key), kv.mod_revision, text(&kv.value))
    };
    events.iter().map(show).collect()
}

#[test]
fn a_watcher_from_creation_to_cancellation() {
    let mut watching = Watching::new();
    let told = watching.create(pb::WatchCreateRequest { prev_kv: true, ..range("a", "c") });
    let created = pb::WatchResponse { header: told[0].header, created: true, ..Default::default() };
    assert_eq!((&told[..], revision_of(&told[0])), (&[created][..], 1));
    let told = watching.put("a", "1");
    assert_eq!((told.len(), revision_of(&told[0])), (1, 2));
    assert_eq!(shown(&told[0].events), ["put a@2 1"]);
    assert_eq!(shown(&watching.put("a", "2")[0].events), ["put a@3 2 was 1"]);
    assert!(watching.put("c", "").is_empty());
    let deleted = watching.delete("a");
    assert_eq!(shown(&deleted[0].events), ["del a@5  was 2"]);
    assert_eq!(shown(&watching.put("a", "3")[0].events), ["put a@6 3"]);
    let txn = pb::TxnRequest { success: vec![put_op("b", "x"), put_op("a", "y")], ..Default::default() };
    watching.node.call::<pb::TxnResponse>(watching.client, TXN, &txn).unwrap();
    let told = watching.told();
    assert_eq!(told.len(), 1);
    assert_eq!(shown(&told[0].events), ["put b@7 x", "put a@7 y was 3"]);
    let told = watching.cancel(0);
    assert_eq!((told[0].canceled, told[0].watch_id, revision_of(&told[0])), (true, 0, 7));
    assert!(watching.cancel(0).is_empty() && watching.put("a", "").is_empty());
    let told = watching.create(key("a"));
    assert_eq!((told[0].created, told[0].watch_id), (true, 1), "ids are not picked twice");
}

#[test]
fn refusals_keep_the_stream_open() {
    let mut watching = Watching::new();
    let mut refused = |create, reason: &str| {
        let told = watching.create(create);
        let response = &told[0];
        let seen = (response.watch_id, response.created, response.canceled, response.compact_revision);
        assert_eq!((seen, &*response.cancel_reason, told.len()), ((-1, true, true, 0), reason, 1));
    };
    refused(range("b", "a"), "mvcc: watcher range is empty");
    refused(range("b", "b"), "mvcc: watcher range is empty");
    let negative = pb::WatchCreateRequest { start_revision: -1, ..key("a") };
    refused(negative, "etcdserver: mvcc: required revision has been compacted");
    let chosen = pb::WatchCreateRequest { watch_id: -7, ..key("a") };
    assert_eq!(watching.create(chosen.clone())[0].watch_id, -7);
    let told = watching.create(chosen);
    assert_eq!(told[0].cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    // An empty key is the smallest one; with an open end that is every key.
    assert_eq!(watching.create(range("", "\0"))[0].watch_id, 0);
    assert_eq!(watching.put("x", "").len(), 1);
    assert_eq!(watching.put("a", "").len(), 2);
}

#[test]
fn the_past_the_future_and_what_is_compacted() {
    let mut watching = Watching::new();
    for n in 2..8 {
        watching.put("a", &n.to_string());
    }
    watching.compact(4);
    let from = |start_revision| pb::WatchCreateRequest { start_revision, prev_kv: true, ..key("a") };
    let told = watching.create(from(4));
    assert_eq!((told.len(), told[0].created, revision_of(&told[1])), (2, true, 7));
    let expected = ["put a@4 4", "put a@5 5 was 4", "put a@6 6 was 5", "put a@7 7 was 6"];
    assert_eq!(shown(&told[1].events), expected);
    let told = watching.create(from(3));
    assert!(told[0].created && !told[0].canceled);
    let over = &told[1];
    assert_eq!((over.canceled, over.created, over.compact_revision, over.watch_id), (true, false, 4, 1));
    assert_eq!((revision_of(over), &*over.cancel_reason), (0, ""));
    let chosen = pb::WatchCreateRequest { watch_id: 1, ..key("a") };
    assert!(watching.create(chosen)[0].cancel_reason.contains("duplicate"), "the id is still in use");
    assert_eq!(watching.progress().len(), 1, "what is over does not hold up the others");
    assert!(watching.cancel(1)[0].canceled && watching.cancel(1).is_empty());
    assert_eq!(watching.create(from(9))[0].watch_id, 2);
    let ids = |told: &[pb::WatchResponse]| told.iter().map(|told| told.watch_id).collect::<Vec<_>>();
    assert_eq!(ids(&watching.put("a", "8")), [0]);
    assert_eq!(ids(&watching.put("a", "9")), [0, 2]);
}

#[test]
fn history_comes_in_batches_of_a_thousand_revisions() {
    let mut watching = Watching::with(1 << 20);
    for n in 0..2501 {
        watching.put("a", &n.to_string());
    }
    let told = watching.create(pb::WatchCreateRequest { start_revision: 1, ..key("a") });
    let seen: Vec<(usize, i64)> =
        told.iter().map(|response| (response.events.len(), revision_of(response))).collect();
    assert_eq!(seen, [(0, 2502), (1000, 2502), (1000, 2502), (501, 2502)]);
    let revisions = told.iter().flat_map(|told| &told.events).map(|e| e.kv.as_ref().unwrap().mod_revision);
    assert!(revisions.eq(2..2503));
}

#[test]
fn filters_and_fragments() {
    let mut watching = Watching::with(8 << 20);
    let filtered = |filters| pb::WatchCreateRequest { filters, ..key("a") };
    watching.create(filtered(vec![0]));
    watching.create(filtered(vec![1, 77]));
    watching.create(filtered(vec![0, 1]));
    let told = watching.put("a", "");
    assert_eq!((told.len(), told[0].watch_id), (1, 1));
    let told = watching.delete("a");
    assert_eq!((told.len(), told[0].watch_id), (1, 0));
    for _ in 0..300 {
        watching.put("f", &"x".repeat(15 << 10));
    }
    let create = pb::WatchCreateRequest { start_revision: 1, ..key("f") };
    let told = watching.create(create.clone());
    assert_eq!((told.len(), told[1].events.len(), told[1].fragment), (2, 300, false));
    let told = watching.create(pb::WatchCreateRequest { fragment: true, ..create });
    let parts: Vec<(usize, bool, i64)> =
        told.iter().map(|part| (part.events.len(), part.fragment, part.watch_id)).collect();
    // 2 MiB hold 136 events of 15 KiB and a little.
    assert_eq!(parts, [(0, false, 4), (136, true, 4), (136, true, 4), (28, false, 4)]);
}

#[test]
fn progress_follows_the_events() {
    let mut watching = Watching::new();
    assert!(watching.progress().is_empty(), "nobody watches");
    watching.create(pb::WatchCreateRequest { progress_notify: true, ..key("a") });
    let told = watching.progress();
    assert_eq!((told.len(), told[0].watch_id, revision_of(&told[0])), (1, -1, 1));
    watching.put("b", "");
    watching.node.wait(Duration::from_secs(700));
    let told = watching.told();
    assert_eq!((told.len(), told[0].watch_id, revision_of(&told[0])), (1, 0, 2));
    assert!(told[0].events.is_empty() && !told[0].created);
    watching.put("a", "");
    watching.node.wait(Duration::from_secs(700));
    assert!(watching.told().is_empty(), "the event was news");
    watching.create(pb::WatchCreateRequest { start_revision: 99, ..key("a") });
    assert!(watching.progress().is_empty(), "one waits for the future");
}

#[test]
fn a_half_closed_stream_goes_on() {
    let mut watching = Watching::new();
    watching.create(key("a"));
    watching.node.half_close(watching.client, watching.stream);
    assert_eq!(watching.put("a", "1").len(), 1);
    watching.node.cancel(watching.client, watching.stream);
    assert_eq!(watching.node.front.watch_counts().0.streams, 0);
}

#[test]
fn a_client_that_does_not_read_costs_little_and_misses_nothing() {
    let mut watching = Watching::new();
    for _ in 0..3 {
        watching.create(range("a", "z"));
    }
    let writer = watching.node.connect(WINDOW);
    watching.node.grant(watching.client, false);
    watching.node.output_len_max = 0;
    for n in 0..20_000 {
        watching.node.call::<pb::PutResponse>(writer, PUT, &put("k", &n.to_string())).unwrap();
    }
    let counts = watching.node.front.watch_counts().0;
    assert!(counts.behind == 3 && counts.queued <= 4096, "{counts:?}");
    assert!(watching.node.front.oldest_watched().unwrap().0 < 5000);
    watching.node.grant(watching.client, true);
    watching.node.open_windows(watching.client, watching.stream, 1 << 26);
    let told = watching.told();
    for id in 0..3 {
        let events = told.iter().filter(|told| told.watch_id == id).flat_map(|told| &told.events);
        assert!(events.map(|event| event.kv.as_ref().unwrap().mod_revision).eq(2..20_002), "watcher {id}");
    }
    let counts = watching.node.front.watch_counts().0;
    assert_eq!((counts.behind, counts.queued), (0, 0));
    watching.node.close(watching.client);
    assert_eq!(watching.node.front.watch_counts().0.watchers, 0);
}

#[test]
fn the_end_of_the_server_ends_the_stream() {
    let mut watching = Watching::new();
    watching.create(key("a"));
    let now = watching.node.now;
    watching.node.front.shutdown(now);
    assert_eq!(watching.node.front.watch_counts().0.streams, 0);
}
