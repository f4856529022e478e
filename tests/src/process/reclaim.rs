//! What deletes and a compaction free comes back, and nobody waits for it.
//!
//! A server is filled, four keys of five are deleted, and the store is compacted. Within a minute its size must be that
//! of a server that never had the other keys, or little more; meanwhile one client puts, and its slow percentile is
//! compared with what it was before. `Defragment` is called at once, and must come back when all is done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::differential::build::{del, op, put, txn};
use crate::proto::etcdserverpb as pb;
use crate::server::{Binary, Server};
use crate::wire::StreamId;

use super::{Failure, Verdict, ensure};

/// One key in so many stays.
const KEEP: u64 = 5;
/// Keys written or deleted by one transaction.
const BATCH: u64 = 100;
/// Transactions under way at once.
const DEPTH: usize = 16;
const VALUE_LEN: usize = 256;
/// The size must be right after this.
const WITHIN: Duration = Duration::from_secs(60);
/// Size in percent of the same data in a new server.
const SIZE_MAX: i64 = 130;
/// How long quiet puts are measured.
const MEASURE: Duration = Duration::from_secs(10);
/// And puts beside reclaim at least: fewer would be no percentile.
const BESIDE_MIN: Duration = Duration::from_secs(2);
/// The slow percentile may double, and this much is noise.
const NOISE: Duration = Duration::from_millis(2);
/// With fewer keys reclaim takes a second, whose slow percentile is the ten slowest puts of a shared machine.
const NOISE_OF_FEW: Duration = Duration::from_millis(50);
const FEW: u64 = 1_000_000;
/// The measured puts are this far apart: a client that never pauses would measure itself.
const PUT_EVERY: Duration = Duration::from_millis(2);

/// Fills, deletes, compacts and measures; `keys` is how many there are at first.
pub fn run(binary: &Binary, keys: u64) -> Verdict {
    let fresh = fresh_size(binary, keys)?;
    let server = Server::start(binary, &["--quota-backend-bytes=8589934592"])?;
    let address = server.client();
    fill(address, 0..keys, |number| op(put(key(number), value(number))))?;
    let full = status(address)?.db_size;
    let quiet = measure(address, MEASURE, || false)?;
    let gone = (0..keys).filter(|number| number % KEEP != 0);
    fill(address, gone, |number| op(del(key(number))))?;
    let done = Arc::new(AtomicBool::new(false));
    let putting = {
        let done = Arc::clone(&done);
        thread::spawn(move || {
            measure(address, BESIDE_MIN, || !done.load(Ordering::Relaxed))
                .map_err(|failure| failure.to_string())
        })
    };
    let begun = Instant::now();
    let outcome = compact_and_wait(address, fresh, begun);
    done.store(true, Ordering::Relaxed);
    let beside = putting.join().expect("the putting client").map_err(Failure::Wrong)?;
    let Shrunk { small_after, defragmented_after, size } = outcome?;
    let numbers = format!(
        "{keys} keys: {full} bytes, after deletes and compaction {size} bytes, {} % of a new server's; within 130 % \
         after {small_after:.1?}, Defragment came back after {defragmented_after:.1?}; puts quiet {quiet}, beside {beside}",
        size * 100 / fresh
    );
    let noise = if keys < FEW { NOISE_OF_FEW } else { NOISE };
    ensure(beside.p99 <= quiet.p99 * 2 + noise, || format!("p99 of puts more than doubled: {numbers}"))?;
    Ok(numbers)
}

struct Shrunk {
    small_after: Duration,
    defragmented_after: Duration,
    size: i64,
}

/// Compacts at the newest revision, calls `Defragment` and waits for both what it answers and the size.
fn compact_and_wait(address: SocketAddr, fresh: i64, begun: Instant) -> Result<Shrunk, Failure> {
    let mut client = Client::open(address)?;
    let head = status(address)?.header.map_or(0, |header| header.revision);
    client.compact(head, false)?.map_err(|status| Failure::Wrong(format!("compact: {status:?}")))?;
    let defragment = thread::spawn(move || defragment(address, begun).map_err(|failure| failure.to_string()));
    let small_after = loop {
        let size = status(address)?.db_size;
        if size * 100 <= fresh * SIZE_MAX {
            break begun.elapsed();
        }
        ensure(begun.elapsed() < WITHIN, || {
            format!("{size} bytes after {WITHIN:?}; a new server has {fresh}")
        })?;
        thread::sleep(Duration::from_millis(100));
    };
    let defragmented_after = defragment.join().expect("the defragmenting client").map_err(Failure::Wrong)?;
    Ok(Shrunk { small_after, defragmented_after, size: status(address)?.db_size })
}

/// Calls `Defragment` until it answers; a connection waits ten seconds, reclaim may take longer.
fn defragment(address: SocketAddr, begun: Instant) -> Result<Duration, Failure> {
    loop {
        let mut client = Client::open(address)?;
        let request = pb::DefragmentRequest::default();
        if let Ok(answer) =
            client.call::<_, pb::DefragmentResponse>("/etcdserverpb.Maintenance/Defragment", &request)
        {
            answer.map_err(|status| Failure::Wrong(format!("defragment: {status:?}")))?;
            return Ok(begun.elapsed());
        }
        ensure(begun.elapsed() < 2 * WITHIN, || "Defragment does not come back".to_owned())?;
    }
}

/// Size of a server that has only the keys that stay.
fn fresh_size(binary: &Binary, keys: u64) -> Result<i64, Failure> {
    let server = Server::start(binary, &["--quota-backend-bytes=8589934592"])?;
    let kept = (0..keys).filter(|number| number % KEEP == 0);
    fill(server.client(), kept, |number| op(put(key(number), value(number))))?;
    Ok(status(server.client())?.db_size)
}

fn key(number: u64) -> Vec<u8> {
    format!("reclaim/{number:010}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number}.").into_bytes();
    value.resize(VALUE_LEN, b'v');
    value
}

/// One operation for each key, many in a transaction, many transactions at once.
pub(super) fn fill(
    address: SocketAddr,
    numbers: impl IntoIterator<Item = u64>,
    operation: impl Fn(u64) -> pb::RequestOp,
) -> Result<(), Failure> {
    let mut client = Client::open(address)?;
    let mut sent: Vec<StreamId> = Vec::new();
    let mut batch = Vec::new();
    let finish = |client: &mut Client, stream| -> Result<(), Failure> {
        let answer = client.finish::<pb::TxnResponse>(stream)?;
        answer.map(|_| ()).map_err(|status| Failure::Wrong(format!("filling: {status:?}")))
    };
    let mut numbers = numbers.into_iter().peekable();
    while let Some(number) = numbers.next() {
        batch.push(operation(number));
        if batch.len() as u64 == BATCH || numbers.peek().is_none() {
            let mut request = txn([], [], []);
            request.success = std::mem::take(&mut batch);
            sent.push(client.start("/etcdserverpb.KV/Txn", &request)?);
        }
        if sent.len() == DEPTH {
            for stream in sent.drain(..) {
                finish(&mut client, stream)?;
            }
        }
    }
    sent.into_iter().try_for_each(|stream| finish(&mut client, stream))
}

fn status(address: SocketAddr) -> Result<pb::StatusResponse, Failure> {
    Client::open(address)?.status()?.map_err(|status| Failure::Wrong(format!("status: {status:?}")))
}

/// Times of puts.
struct Times {
    p50: Duration,
    p99: Duration,
    max: Duration,
    count: usize,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Times { p50, p99, max, count } = self;
        write!(f, "p50 {p50:.0?} p99 {p99:.0?} max {max:.0?} of {count}")
    }
}

/// Puts of a few keys, one at a time, for `least` and for as long as `on` says.
fn measure(address: SocketAddr, least: Duration, on: impl Fn() -> bool) -> Result<Times, Failure> {
    let mut client = Client::open(address)?;
    let (mut times, begun) = (Vec::new(), Instant::now());
    for number in (0..100_u64).cycle() {
        let at = Instant::now();
        client
            .put(&key(number * KEEP), &value(number))?
            .map_err(|status| Failure::Wrong(format!("put: {status:?}")))?;
        times.push(at.elapsed());
        if begun.elapsed() >= least && !on() {
            break;
        }
        thread::sleep(PUT_EVERY);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    Ok(Times { p50: at(50), p99: at(99), max: at(100), count: times.len() })
}
