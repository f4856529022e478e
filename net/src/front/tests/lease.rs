//! Leases as clients see them, on a clock that the test moves.

use super::*;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";

impl Node {
    fn grant_lease(&mut self, client: usize, id: i64, ttl: i64) -> Result<(i64, i64), Failure> {
        let answer: Result<pb::LeaseGrantResponse, _> =
            self.call(client, GRANT, &pb::LeaseGrantRequest { id, ttl });
        answer.map(|answer| (answer.id, answer.ttl))
    }

    fn revoke(&mut self, client: usize, id: i64) -> Result<i64, Failure> {
        let answer: Result<pb::LeaseRevokeResponse, _> =
            self.call(client, REVOKE, &pb::LeaseRevokeRequest { id });
        answer.map(|answer| revision(&answer.header))
    }

    /// Seconds left, seconds granted, keys.
    fn time_to_live(&mut self, client: usize, id: i64) -> (i64, i64, Vec<String>) {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let answer: pb::LeaseTimeToLiveResponse = self.call(client, TIME_TO_LIVE, &request).unwrap();
        assert_eq!(answer.id, id);
        let keys = answer.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
        (answer.ttl, answer.granted_ttl, keys.collect())
    }

    fn leases(&mut self, client: usize) -> Vec<i64> {
        let answer: pb::LeaseLeasesResponse = self.call(client, LEASES, &pb::LeaseLeasesRequest {}).unwrap();
        answer.leases.iter().map(|lease| lease.id).collect()
    }

    fn put_leased(&mut self, client: usize, key: &str, lease: i64) {
        let request = pb::PutRequest { lease, ..put(key, "v") };
        self.call::<pb::PutResponse>(client, PUT, &request).unwrap();
    }

    fn keys(&mut self, client: usize) -> (i64, Vec<(String, i64)>) {
        let answer: pb::RangeResponse = self.call(client, RANGE, &range("a", "z")).unwrap();
        let key =
            |kv: &crate::pb::mvccpb::KeyValue| (String::from_utf8_lossy(&kv.key).into_owned(), kv.lease);
        (revision(&answer.header), answer.kvs.iter().map(key).collect())
    }

    /// Lets seconds pass, a check of leases at a time.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.wait(Duration::from_millis(100));
            self.settle();
        }
    }

    fn renew(&mut self, client: usize, stream: u32, id: i64) -> Vec<(i64, i64)> {
        self.push(client, stream, &pb::LeaseKeepAliveRequest { id }, false);
        self.settle();
        self.renewed(client, stream)
    }

    /// Answers of a stream so far: id and seconds.
    fn renewed(&mut self, client: usize, stream: u32) -> Vec<(i64, i64)> {
        let answers: Vec<pb::LeaseKeepAliveResponse> = self.messages(client, stream);
        answers.iter().map(|answer| (answer.id, answer.ttl)).collect()
    }
}

const NOT_FOUND: &str = "etcdserver: requested lease not found";

#[test]
fn a_lease_from_its_grant_to_its_end() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    assert_eq!(node.grant_lease(client, 7, 5), Ok((7, 5)));
    let (chosen, ttl) = node.grant_lease(client, 0, 60).unwrap();
    assert!(chosen > 0 && ttl == 60);
    node.put_leased(client, "b", 7);
    node.put_leased(client, "a", 7);
    node.put_leased(client, "c", chosen);
    assert_eq!(node.time_to_live(client, 7), (5, 5, vec!["a".into(), "b".into()]));
    assert_eq!(node.leases(client), [7, chosen]);
    node.pass(4);
    assert_eq!(node.time_to_live(client, 7).0, 1);
    node.pass(2);
    assert_eq!(node.keys(client), (5, vec![("c".into(), chosen)]), "both keys went in one revision");
    assert_eq!(node.time_to_live(client, 7), (-1, 0, vec![]));
    assert_eq!(node.leases(client), [chosen]);
    assert_eq!(node.revoke(client, chosen), Ok(6));
    assert_eq!(node.revoke(client, chosen), Err(failure(5, NOT_FOUND)));
    let stats = node.replica.lessor().stats();
    assert_eq!((stats.granted, stats.revoked, stats.expired), (2, 2, 1));
}

#[test]
fn refusals() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    assert_eq!(node.grant_lease(client, -7, -1), Ok((-7, 2)), "the least time is one and a half elections");
    assert_eq!(node.grant_lease(client, -7, 5), Err(failure(9, "etcdserver: lease already exists")));
    let too_large = failure(11, "etcdserver: too large lease TTL");
    assert_eq!(node.grant_lease(client, 8, 9_000_000_001), Err(too_large));
    assert_eq!(node.grant_lease(client, 8, 9_000_000_000), Ok((8, 9_000_000_000)));
    assert_eq!(node.revoke(client, 9), Err(failure(5, NOT_FOUND)));
    let revoked = node.revoke(client, 8);
    assert_eq!(revoked, Ok(1), "without keys there is no revision");
    let unset = pb::LeaseTimeToLiveRequest { id: 0, keys: false };
    let answer: pb::LeaseTimeToLiveResponse = node.call(client, TIME_TO_LIVE, &unset).unwrap();
    assert_eq!((answer.ttl, answer.granted_ttl), (-1, 0));
}

#[test]
fn keys_move_between_leases() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    for id in [1, 2] {
        node.grant_lease(client, id, 100).unwrap();
    }
    for (key, lease) in [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("b", 2), ("c", 0)] {
        node.put_leased(client, key, lease);
    }
    let delete = pb::DeleteRangeRequest { key: "d".into(), ..Default::default() };
    node.call::<pb::DeleteRangeResponse>(client, DELETE, &delete).unwrap();
    node.put_leased(client, "d", 0);
    let keep = pb::PutRequest { ignore_lease: true, ..put("a", "2") };
    node.call::<pb::PutResponse>(client, PUT, &keep).unwrap();
    assert_eq!(node.time_to_live(client, 1).2, ["a"]);
    assert_eq!(node.time_to_live(client, 2).2, ["b"]);
    node.revoke(client, 1).unwrap();
    let left = [("b", 2), ("c", 0), ("d", 0)].map(|(key, lease)| (key.to_owned(), lease));
    assert_eq!(node.keys(client).1, left);
}

#[test]
fn a_stream_keeps_leases_alive() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    node.grant_lease(client, 7, 3).unwrap();
    node.put_leased(client, "a", 7);
    let stream = node.open_stream(client, KEEP_ALIVE, &[]);
    for _ in 0..5 {
        node.pass(2);
        assert_eq!(node.renew(client, stream, 7), [(7, 3)]);
    }
    assert_eq!(node.renew(client, stream, 8), [(8, 0)]);
    assert_eq!(node.keys(client).1.len(), 1);
    node.half_close(client, stream);
    node.settle();
    assert_eq!(node.stream(client, stream).status, Some(0));
    node.pass(4);
    assert_eq!(node.keys(client).1, []);

    let broken = node.open_stream(client, KEEP_ALIVE, &[]);
    node.push(client, broken, &pb::PutRequest { key: "no number".into(), ..Default::default() }, false);
    node.settle();
    assert_eq!(node.stream(client, broken).status, Some(13));
}

#[test]
fn a_lease_that_ran_out_is_answered_when_it_is_revoked() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    node.grant_lease(client, 7, 3).unwrap();
    node.grant_lease(client, 8, 60).unwrap();
    let stream = node.open_stream(client, KEEP_ALIVE, &[]);
    node.hold_log(true);
    node.pass(4);
    assert_eq!(node.renew(client, stream, 7), []);
    assert_eq!(node.renew(client, stream, 8), [], "answers keep their order");
    let other = node.open_stream(client, KEEP_ALIVE, &[]);
    assert_eq!(node.renew(client, other, 8), [(8, 60)]);
    let gone = node.open_stream(client, KEEP_ALIVE, &[]);
    assert_eq!(node.renew(client, gone, 7), []);
    node.cancel(client, gone);
    node.half_close(client, stream);
    node.settle();
    assert_eq!(node.stream(client, stream).status, None);
    node.hold_log(false);
    node.settle();
    assert_eq!(node.renewed(client, stream), [(7, 0), (8, 60)]);
    assert_eq!(node.stream(client, stream).status, Some(0));
}

#[test]
fn leases_and_attachments_survive_a_restart_with_their_full_time() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    node.grant_lease(client, 7, 10).unwrap();
    node.put_leased(client, "a", 7);
    node.pass(9);
    let mut node = node.restart(|_| ());
    let client = node.connect(WINDOW);
    // The full time and an election timeout.
    assert_eq!(node.time_to_live(client, 7), (11, 10, vec!["a".into()]));
    let stream = node.open_stream(client, KEEP_ALIVE, &[]);
    assert_eq!(node.renew(client, stream, 7), [(7, 10)]);
    assert_eq!(node.time_to_live(client, 7).0, 10);
    node.pass(11);
    assert_eq!(node.keys(client).1, []);
}

#[test]
fn a_lease_with_many_keys_goes_in_one_revision() {
    let mut node = Node::with(|config| config.apply_slice = engine::mvcc::walk::Budget(64));
    let client = node.connect(WINDOW);
    node.grant_lease(client, 7, 600).unwrap();
    for n in 0..1000 {
        node.put_leased(client, &format!("k{n:04}"), 7);
    }
    let before = node.keys(client);
    assert_eq!((before.0, node.time_to_live(client, 7).2.len()), (1001, 1000));
    assert_eq!(node.revoke(client, 7), Ok(1002));
    assert_eq!(node.keys(client), (1002, vec![]));
}

#[test]
fn a_full_store_grants_nothing_and_revokes() {
    let mut node = Node::new();
    let client = node.connect(WINDOW);
    node.grant_lease(client, 7, 60).unwrap();
    let alarm = pb::AlarmRequest { action: 1, member_id: 8, alarm: 1 };
    node.call::<pb::AlarmResponse>(client, ALARM, &alarm).unwrap();
    let full = failure(8, "etcdserver: mvcc: database space exceeded");
    assert_eq!(node.grant_lease(client, 8, 60), Err(full));
    assert_eq!(node.revoke(client, 7), Ok(1));
}
