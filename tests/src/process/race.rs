//! Many clients create the same keys if they are absent: each key has exactly one creator, and everyone else is
//! told who it was.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;

use crate::client::Client;
use crate::differential::build::{compare, get, op, put, txn};
use crate::proto::etcdserverpb as pb;
use crate::server::{Binary, Server};

use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::response_op::Response;

use super::{Failure, Verdict, ensure};

const CONTENDERS: u64 = 8;
/// Transactions that each has under way at once.
const WINDOW: u64 = 64;

/// What a contender saw of one key: who created it, and whether that was itself.
type Seen = (Bytes, bool);

/// Runs `count` transactions.
pub fn run(binary: &Binary, count: u64) -> Verdict {
    let keys = count.div_ceil(CONTENDERS);
    let server = Server::start(binary, &[])?;
    let address = server.client();
    let barrier = Arc::new(Barrier::new(CONTENDERS as usize));
    let contenders = (0..CONTENDERS).map(|contender| {
        let barrier = barrier.clone();
        thread::spawn(move || {
            contend(address, contender, keys, &barrier).map_err(|failure| failure.to_string())
        })
    });
    let contenders = contenders.collect::<Vec<_>>();
    let seen = contenders
        .into_iter()
        .map(|contender| contender.join().expect("a contender does not panic").map_err(Failure::Wrong))
        .collect::<Result<Vec<Vec<Seen>>, _>>()?;
    for key in 0..keys as usize {
        let views = seen.iter().map(|views| &views[key]).collect::<Vec<_>>();
        let winners = views.iter().filter(|(_, won)| *won).count();
        ensure(winners == 1, || format!("key {key} was created {winners} times: {views:?}"))?;
        let agreed = views.iter().all(|(creator, _)| *creator == views[0].0);
        ensure(agreed, || format!("key {key} was seen with several creators: {views:?}"))?;
    }
    let wins = seen.iter().map(|views| views.iter().filter(|(_, won)| *won).count()).collect::<Vec<_>>();
    Ok(format!("{} transactions on {keys} keys, one creator each; wins {wins:?}", keys * CONTENDERS))
}

fn contend(address: SocketAddr, contender: u64, keys: u64, barrier: &Barrier) -> Result<Vec<Seen>, Failure> {
    let mut client = Client::open(address)?;
    let mut seen = Vec::new();
    for first in (0..keys).step_by(WINDOW as usize) {
        // Everyone is at the same keys at the same time.
        barrier.wait();
        let last = (first + WINDOW).min(keys);
        let streams = (first..last)
            .map(|key| client.start("/etcdserverpb.KV/Txn", &create(key, contender)))
            .collect::<Result<Vec<_>, _>>()?;
        for stream in streams {
            let response = client.finish::<pb::TxnResponse>(stream)?;
            let response = response.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
            seen.push(view(contender, response)?);
        }
    }
    Ok(seen)
}

fn create(key: u64, contender: u64) -> pb::TxnRequest {
    let key = format!("race/{key}");
    let absent =
        compare(key.as_str(), CompareTarget::Create, CompareResult::Equal, TargetUnion::CreateRevision(0));
    txn([absent], [op(put(key.as_str(), contender.to_string()))], [op(get(key.as_str()))])
}

fn view(contender: u64, response: pb::TxnResponse) -> Result<Seen, Failure> {
    if response.succeeded {
        return Ok((contender.to_string().into(), true));
    }
    match response.responses.into_iter().next().and_then(|op| op.response) {
        Some(Response::ResponseRange(range)) if range.kvs.len() == 1 => {
            Ok((range.kvs[0].value.clone(), false))
        }
        other => Err(Failure::Wrong(format!("the key exists, yet a read of it gave {other:?}"))),
    }
}
