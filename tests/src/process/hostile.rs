//! Requests that crash or hang etcd 3.6.16, so that no comparison can hold them: each must be answered, with an
//! error, change nothing, and leave a server that serves and starts again. So must clients that do not wait for their
//! answers.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;

use crate::client::Client;
use crate::differential::build::{del_range, get, op, put, txn};
use crate::proto::etcdserverpb as pb;
use crate::server::{Binary, Server};
use crate::wire::{Conn, End, Request};

use super::{Failure, Verdict, ensure};

type Check = fn(&mut Client, SocketAddr) -> Result<(), Failure>;

/// More than a socket takes at once.
const LARGE: usize = 1 << 20;

/// Runs all.
pub fn run(binary: &Binary) -> Verdict {
    let mut server = Server::start(binary, &[])?;
    let checks: [(&str, Check); 4] = [
        ("put that keeps a value deleted before it", keep_deleted),
        ("unknown alarm action", unknown_action),
        ("END_STREAM on HEADERS", no_body),
        ("clients that are gone when they are answered", gone),
    ];
    let mut client = Client::open(server.client())?;
    client.put(b"large", &vec![0; LARGE])?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    for (name, check) in checks {
        let mut client = Client::open(server.client())?;
        let before = put_marker(&mut client)?;
        check(&mut client, server.client())
            .map_err(|failure| Failure::Wrong(format!("{name}: {failure}")))?;
        ensure(server.is_running(), || format!("{name}: the server died of it"))?;
        server.kill_and_restart(binary)?;
        let mut client = Client::open(server.client())?;
        let after = client.range(&get("marker"))?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
        let revision = after.header.unwrap_or_default().revision;
        let kept = revision == before && after.kvs.len() == 1;
        ensure(kept, || {
            format!("{name}: revision {before} before, {revision} after; marker {:?}", after.kvs)
        })?;
    }
    Ok(format!("{} requests", checks.len()))
}

fn put_marker(client: &mut Client) -> Result<i64, Failure> {
    let response = client.put(b"marker", b"kept")?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    Ok(response.header.unwrap_or_default().revision)
}

/// The overlap of a delete up to the end of all keys with a put is not detected (kv.md §6), and the key's presence
/// is checked before the delete. etcd panics, and does so again at every start, for the entry is in its log.
fn keep_deleted(client: &mut Client, _: SocketAddr) -> Result<(), Failure> {
    let keep = pb::PutRequest { ignore_value: true, ..put("marker", "") };
    let answer = client.txn(&txn([], [op(del_range("m", "\0")), op(keep)], []))?;
    ensure(answer.is_err(), || format!("{answer:?}"))
}

fn unknown_action(client: &mut Client, _: SocketAddr) -> Result<(), Failure> {
    let answer = client.alarm(&pb::AlarmRequest { action: 9, member_id: 1, alarm: 1 })?;
    ensure(answer.is_err(), || format!("{answer:?}"))
}

/// grpc-go does not notice the end of a stream on its HEADERS and waits for a message until the deadline.
fn no_body(client: &mut Client, _: SocketAddr) -> Result<(), Failure> {
    let conn = client.conn();
    let stream = conn.start_bare(&Request::grpc("/etcdserverpb.KV/Put", b""))?;
    let answer = conn.finish(stream)?;
    let failed = answer.end == End::Stream && answer.status().is_some_and(|status| status.code != 0);
    ensure(failed, || format!("{answer:?}"))
}

/// A connection is closed with part of its answers unread, so that the server's next write to it fails, some at once and
/// some after they had to wait.
fn gone(_: &mut Client, address: SocketAddr) -> Result<(), Failure> {
    let message = get("large").encode_to_vec();
    for round in 0..20 {
        let mut conn = Conn::open(address)?;
        for _ in 0..8 {
            conn.start(&Request::grpc("/etcdserverpb.KV/Range", &message))?;
        }
        std::thread::sleep(Duration::from_millis(round % 4 * 5));
    }
    Ok(())
}
