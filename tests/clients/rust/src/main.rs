//! Drives one server with tonic and stubs made of `net/proto`. Prints "ok" at the end, or panics with what is wrong.
//! Usage: `kontiki-client-check HOST:PORT`; the store must be new, and someone must restart the server when told
//! (`tests/clients/run.sh`).

mod pb;
mod watch;

use std::env;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::kv_client::KvClient;
use crate::pb::etcdserverpb::lease_client::LeaseClient;
use crate::pb::etcdserverpb::request_op;
use crate::pb::etcdserverpb::watch_client::WatchClient;
use crate::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::watch::{Watcher, end_of};

const CALL_MAX: Duration = Duration::from_secs(10);
const WRITES: usize = 100;
/// The shortest that etcd grants with its default timeouts, in seconds.
const TTL: i64 = 2;

struct Client {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    watch: WatchClient<Channel>,
}

impl Client {
    fn new(endpoint: &str) -> Result<Client, Box<dyn Error>> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))?.connect_lazy();
        let (kv, lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
        Ok(Client { kv, lease, watch: WatchClient::new(channel) })
    }

    /// The revision of the put.
    async fn put(&mut self, key: &str, value: &str, lease: i64) -> Result<i64, Status> {
        let request = PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() };
        let response = self.kv.put(within_call_max(request)).await?.into_inner();
        Ok(response.header.expect("a header").revision)
    }

    /// The pairs found, each as text.
    async fn range(&mut self, key: &str, range_end: Vec<u8>, revision: i64) -> Result<Vec<String>, Status> {
        let request = RangeRequest { key: key.into(), range_end, revision, ..Default::default() };
        let response = self.kv.range(within_call_max(request)).await?.into_inner();
        Ok(response.kvs.iter().map(watch::text).collect())
    }

    async fn get(&mut self, key: &str) -> Result<Vec<String>, Status> {
        self.range(key, Vec::new(), 0).await
    }

    async fn grant(&mut self, ttl: i64) -> Result<i64, Status> {
        let request = LeaseGrantRequest { ttl, ..Default::default() };
        Ok(self.lease.lease_grant(within_call_max(request)).await?.into_inner().id)
    }

    async fn time_to_live(&mut self, id: i64) -> Result<LeaseTimeToLiveResponse, Status> {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let mut response = self.lease.lease_time_to_live(within_call_max(request)).await?.into_inner();
        // Their order is open.
        response.keys.sort();
        Ok(response)
    }

    /// Has the server killed and started again, and waits until it serves.
    async fn restart_server(&mut self) -> Result<(), Box<dyn Error>> {
        println!("restart");
        io::stdin().read_line(&mut String::new())?;
        let began = Instant::now();
        while let Err(status) = self.get("any").await {
            assert!(began.elapsed() < CALL_MAX, "after the restart: {status}");
            time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn within_call_max<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_MAX);
    request
}

async fn put_and_get(client: &mut Client) -> Result<(), Box<dyn Error>> {
    let first = client.put("pg/a", "1", 0).await?;
    assert_eq!(client.put("pg/a", "2", 0).await?, first + 1, "revision step");
    client.put("pg/b", "\0ü", 0).await?;
    let pairs = client.range("pg/", end_of("pg/"), 0).await?;
    assert_eq!(pairs, [format!("pg/a=2 at {}", first + 1), format!("pg/b=\0ü at {}", first + 2)]);
    let before = client.range("pg/a", Vec::new(), first).await?;
    assert_eq!(before, [format!("pg/a=1 at {first}")], "the revision before");
    assert!(client.get("pg/none").await?.is_empty(), "missing");
    let status = client.range("pg/a", Vec::new(), first + 100).await.expect_err("a revision to come");
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.message(), "etcdserver: mvcc: required revision is a future revision");
    for succeeds in [true, false] {
        let response = client.kv.txn(within_call_max(creation("pg/c"))).await?.into_inner();
        assert_eq!(response.succeeded, succeeds, "created");
    }
    Ok(())
}

fn creation(key: &str) -> TxnRequest {
    let absent = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Default::default()
    };
    let put = PutRequest { key: key.into(), ..Default::default() };
    TxnRequest {
        compare: vec![absent],
        success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: Vec::new(),
    }
}

async fn watch_over_restart(client: &mut Client) -> Result<(), Box<dyn Error>> {
    let first = client.put("other", "v", 0).await? + 1;
    let mut watcher = Watcher::open(client.watch.clone(), "w/", first).await;
    let mut want = Vec::new();
    for value in ["before", "after"] {
        if value == "after" {
            // What the watcher has not read yet is cut off.
            client.restart_server().await?;
        }
        for n in 0..WRITES {
            let revision = client.put(&format!("w/{n}"), value, 0).await?;
            want.push(format!("Put w/{n}={value} at {revision}"));
        }
    }
    let delete = DeleteRangeRequest { key: "w/0".into(), ..Default::default() };
    client.kv.delete_range(within_call_max(delete)).await?;
    want.push(format!("Delete w/0= at {}", first + want.len() as i64));
    assert_eq!(watcher.take(want.len()).await, want);
    assert!(watcher.is_drained(), "events twice");
    assert!(watcher.breaks() > 0, "the watch did not break");
    Ok(())
}

async fn lease(client: &mut Client) -> Result<(), Box<dyn Error>> {
    let first = client.put("other", "v", 0).await? + 1;
    let mut watcher = Watcher::open(client.watch.clone(), "l/", first).await;
    let id = client.grant(TTL).await?;
    client.put("l/a", "v", id).await?;
    client.put("l/b", "v", id).await?;
    let (requests, stream) = mpsc::unbounded_channel();
    requests.send(LeaseKeepAliveRequest { id })?;
    let mut renewals =
        client.lease.lease_keep_alive(UnboundedReceiverStream::new(stream)).await?.into_inner();
    let kept_until = Instant::now() + Duration::from_secs(2 * TTL as u64);
    while Instant::now() < kept_until {
        assert_eq!(renewals.message().await?.expect("a renewal").ttl, TTL);
        time::sleep(Duration::from_millis(500)).await;
        requests.send(LeaseKeepAliveRequest { id })?;
    }
    assert_eq!(renewals.message().await?.expect("a renewal").ttl, TTL);
    let renewed = Instant::now();
    assert_eq!(client.time_to_live(id).await?.keys, [b"l/a", b"l/b"], "keys of a lease that is kept alive");
    let puts = [format!("Put l/a=v at {first}"), format!("Put l/b=v at {}", first + 1)];
    assert_eq!(watcher.take(2).await, puts);
    let revision = first + 2;
    let expiry = [format!("Delete l/a= at {revision}"), format!("Delete l/b= at {revision}")];
    assert_eq!(watcher.take(2).await, expiry);
    assert!(renewed.elapsed() > Duration::from_secs(TTL as u64) / 2, "expired early");
    assert_eq!(client.time_to_live(id).await?.ttl, -1, "TTL of an expired lease");
    requests.send(LeaseKeepAliveRequest { id })?;
    assert_eq!(renewals.message().await?.expect("an answer").ttl, 0, "TTL of a renewal after expiry");
    drop(requests);
    assert_eq!(renewals.message().await?, None, "the end of the stream");
    Ok(())
}

async fn lease_over_restart(client: &mut Client) -> Result<(), Box<dyn Error>> {
    let id = client.grant(1000).await?;
    client.put("lr", "v", id).await?;
    client.restart_server().await?;
    let after = client.time_to_live(id).await?;
    assert_eq!(after.granted_ttl, 1000);
    assert!(after.ttl > 900 && after.ttl <= 1000, "{} seconds left", after.ttl);
    assert_eq!(after.keys, [b"lr"]);
    client.lease.lease_revoke(within_call_max(LeaseRevokeRequest { id })).await?;
    assert!(client.get("lr").await?.is_empty(), "after the revocation");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).ok_or("usage: kontiki-client-check HOST:PORT")?;
    let mut client = Client::new(&endpoint)?;
    put_and_get(&mut client).await?;
    watch_over_restart(&mut client).await?;
    lease(&mut client).await?;
    lease_over_restart(&mut client).await?;
    println!("ok");
    Ok(())
}
