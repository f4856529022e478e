//! A server that may have much less memory than its data takes: loaded, started again, read at random and from end to end.
//!
//! The limit is that of a control group, which counts page cache too, as it is in a container. The server must not be
//! killed for it, and every answer must be right.

use std::net::SocketAddr;

use crate::client::Client;
use crate::differential::build::get;
use crate::proto::etcdserverpb as pb;
use crate::random::Random;
use crate::server::{Binary, Server};
use crate::wire::StreamId;

use super::memory::{MemoryGroup, resident_bytes};
use super::{Failure, Verdict, ensure};

const VALUE_LEN: usize = 32 << 10;
/// Puts under way at once.
const DEPTH: usize = 32;
const GETS: u64 = 3000;
/// Objects of a page.
const PAGE: i64 = 500;
const PREFIX: &str = "cgroup/";
const PREFIX_END: &str = "cgroup0";

/// How much data under which limit.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    limit_bytes: u64,
    data_bytes: u64,
}

impl Size {
    /// In CI.
    pub const SHORT: Size = Size { limit_bytes: 128 << 20, data_bytes: 512 << 20 };
    /// A usual limit of a container, and four times as much.
    pub const LONG: Size = Size { limit_bytes: 1 << 30, data_bytes: 4 << 30 };
}

/// Loads, restarts and reads; where no group can be made it says so and does nothing.
pub fn run(binary: &Binary, size: Size) -> Verdict {
    let group = match MemoryGroup::new(size.limit_bytes) {
        Ok(group) => group,
        Err(why) => return Ok(format!("skipped: {why}")),
    };
    let binary = group.around(binary)?;
    let objects = size.data_bytes / VALUE_LEN as u64;
    let mut server = Server::start(&binary, &["--quota-backend-bytes=8589934592"])?;
    let checked = load(server.client(), objects);
    let loaded = alive(&mut server, &group, "loading", checked)?;
    server.restart(&binary)?;
    let checked = random_gets(server.client(), objects);
    let read = alive(&mut server, &group, "random gets", checked)?;
    let checked = paged_list(server.client(), objects);
    let listed = alive(&mut server, &group, "a paged list", checked)?;
    let mib = |bytes: u64| bytes >> 20;
    Ok(format!(
        "{} MiB of values under a limit of {} MiB: loaded, started again, {GETS} gets and a list of {objects} objects in \
         pages, all right; resident {} MiB after loading, {} after the gets, {} after the list; the group had {} MiB at \
         most, page cache included",
        mib(size.data_bytes),
        mib(size.limit_bytes),
        mib(loaded),
        mib(read),
        mib(listed),
        group.peak_bytes().map_or_else(|| "?".to_owned(), |bytes| mib(bytes).to_string()),
    ))
}

/// The server is there and was not killed, whatever its client saw; how much memory it has.
fn alive(
    server: &mut Server,
    group: &MemoryGroup,
    what: &str,
    checked: Result<(), Failure>,
) -> Result<u64, Failure> {
    let kills = group.kills().unwrap_or(0);
    ensure(kills == 0, || format!("{what}: killed for want of memory"))?;
    ensure(server.is_running(), || format!("{what}: the server died"))?;
    checked.map_err(|failure| Failure::Wrong(format!("{what}: {failure}")))?;
    resident_bytes(server.id())
}

fn key(number: u64) -> Vec<u8> {
    format!("{PREFIX}{number:08}").into_bytes()
}

/// No two values are alike, nor parts of them.
fn value(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..VALUE_LEN / 8).flat_map(|_| random.bits().to_le_bytes()).collect()
}

fn load(address: SocketAddr, objects: u64) -> Result<(), Failure> {
    let mut client = Client::open(address)?;
    let finish = |client: &mut Client, stream: StreamId| -> Result<(), Failure> {
        let answer = client.finish::<pb::PutResponse>(stream)?;
        answer.map(drop).map_err(|status| Failure::Wrong(format!("put: {status:?}")))
    };
    let mut sent = Vec::new();
    for number in 0..objects {
        let request =
            pb::PutRequest { key: key(number).into(), value: value(number).into(), ..Default::default() };
        sent.push(client.start("/etcdserverpb.KV/Put", &request)?);
        if sent.len() == DEPTH || number + 1 == objects {
            sent.drain(..).try_for_each(|stream| finish(&mut client, stream))?;
        }
    }
    Ok(())
}

fn random_gets(address: SocketAddr, objects: u64) -> Result<(), Failure> {
    let mut client = Client::open(address)?;
    let mut random = Random::new(7);
    for _ in 0..GETS {
        let number = random.below(objects);
        let answer = client.range(&get(key(number)))?;
        let answer = answer.map_err(|status| Failure::Wrong(format!("get: {status:?}")))?;
        let right =
            matches!(&answer.kvs[..], [pair] if pair.key == key(number) && pair.value == value(number));
        ensure(right, || format!("object {number}: {} pairs, or other bytes", answer.kvs.len()))?;
    }
    Ok(())
}

/// Lists everything at the revision of the first page, as Kubernetes does.
fn paged_list(address: SocketAddr, objects: u64) -> Result<(), Failure> {
    let mut client = Client::open(address)?;
    let (mut next, mut revision, mut from) = (0, 0, PREFIX.as_bytes().to_vec());
    loop {
        let request = pb::RangeRequest {
            key: from.into(),
            range_end: PREFIX_END.into(),
            limit: PAGE,
            revision,
            ..Default::default()
        };
        let page = client.range(&request)?.map_err(|status| Failure::Wrong(format!("page: {status:?}")))?;
        revision = page.header.map_or(0, |header| header.revision);
        for pair in &page.kvs {
            let right = pair.key == key(next) && pair.value == value(next);
            ensure(right, || format!("object {next} is {:?}, or has other bytes", pair.key))?;
            next += 1;
        }
        match page.kvs.last() {
            Some(last) if page.more => from = [&last.key[..], &[0]].concat(),
            _ => break,
        }
    }
    ensure(next == objects, || format!("{next} of {objects} objects"))
}
