//! Many watchers under load, with compactions racing and clients that stop reading for a time: nothing may be lost,
//! doubled, reordered or split, and a client that does not read may cost next to nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::proto::etcdserverpb as pb;
use crate::server::{Binary, Server};
use crate::watch::{Watch, watch_key, watch_range};

use super::{Failure, Verdict, ensure};

/// Keys that are written.
const KEYS: u64 = 1000;
const WRITERS: u64 = 4;
const WRITES_PER_SECOND: u64 = 1000;
const STREAMS: u64 = 20;
/// Clients that stop reading.
const STALLED: u64 = 8;
/// Watchers of all keys in each of those.
const STALLED_WATCHERS: u64 = 20;
/// Revisions that a compaction leaves.
const KEPT: i64 = 500;
/// What a client that does not read may cost.
const STALLED_BYTES_MAX: i64 = 1 << 20;
/// Nothing for this long, and a stream has told all it has.
const SILENCE: Duration = Duration::from_secs(2);

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Watchers of clients that read.
    pub watchers: u64,
    /// For how long some do not.
    pub stall: Duration,
}

impl Size {
    /// For every change.
    pub const SHORT: Size = Size { watchers: 2000, stall: Duration::from_secs(6) };
    /// For an evening.
    pub const LONG: Size = Size { watchers: 10_000, stall: Duration::from_secs(45) };
}

/// Runs it.
pub fn run(binary: &Binary, size: Size) -> Verdict {
    let server = Server::start(binary, &[])?;
    let address = server.client();
    let shared = Arc::new(Shared::default());
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| Stream::open(address, keys_of(n, size.watchers / STREAMS), &shared, false))
        .collect::<Result<_, _>>()?;
    let stalled: Vec<_> = (0..STALLED)
        .map(|_| Stream::open(address, vec![Keys::All; STALLED_WATCHERS as usize], &shared, true))
        .collect::<Result<_, _>>()?;
    let writers: Vec<_> = (0..WRITERS).map(|n| spawn_writer(address, n, &shared)).collect();
    let compactor = spawn_compactor(address, &shared);
    let warm = size.stall / 2;
    thread::sleep(warm);
    let before = resident(server.id());
    thread::sleep(warm);
    let alone = resident(server.id()) - before;
    shared.stalled.store(true, Ordering::Relaxed);
    let before = resident(server.id());
    thread::sleep(size.stall);
    let beside = resident(server.id()) - before;
    shared.stalled.store(false, Ordering::Relaxed);
    thread::sleep(warm);
    shared.stop.store(true, Ordering::Relaxed);
    let mut written = BTreeMap::new();
    for writer in writers {
        written.extend(join(writer)?);
    }
    join(compactor)?;
    let (mut told, mut count) = (0, 0);
    for stream in streams.into_iter().chain(stalled) {
        count += stream.watchers;
        told += stream.check(&written)?;
    }
    let each = (beside - 2 * alone).max(0) / STALLED as i64;
    let numbers = format!(
        "{count} watchers were told {told} events of {} writes; a client that did not read for {:?} cost {} KiB",
        written.len(),
        size.stall,
        each >> 10
    );
    ensure(each < STALLED_BYTES_MAX, || format!("too much memory: {numbers}"))?;
    Ok(numbers)
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Those that stop reading do not read.
    stalled: AtomicBool,
    /// Newest revision that was acknowledged.
    revision: AtomicI64,
}

/// What a watcher watches.
#[derive(Clone, Copy, Debug)]
enum Keys {
    One(u64),
    Ten(u64),
    All,
}

impl Keys {
    fn contain(self, key: u64) -> bool {
        match self {
            Keys::One(one) => key == one,
            Keys::Ten(ten) => key / 10 == ten,
            Keys::All => true,
        }
    }

    fn create(self) -> pb::WatchCreateRequest {
        match self {
            Keys::One(one) => watch_key(name(one)),
            Keys::Ten(ten) => watch_range(name(ten * 10), [name(ten * 10 + 9), vec![0]].concat()),
            Keys::All => watch_range("watched/", "watched0"),
        }
    }
}

/// One in a hundred watches ten keys, and one of each stream all of them.
fn keys_of(stream: u64, count: u64) -> Vec<Keys> {
    let keys = |n: u64| match n {
        0 => Keys::All,
        n if n % 100 == 1 => Keys::Ten((stream * 7 + n) % (KEYS / 10)),
        n => Keys::One((stream * 31 + n) % KEYS),
    };
    (0..count).map(keys).collect()
}

fn name(key: u64) -> Vec<u8> {
    format!("watched/{key:04}").into_bytes()
}

/// Key by revision.
type Written = BTreeMap<i64, u64>;

fn spawn_writer(
    address: SocketAddr,
    writer: u64,
    shared: &Arc<Shared>,
) -> JoinHandle<Result<Written, Failure>> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut client = Client::open(address)?;
        let (mut written, begun) = (Written::new(), Instant::now());
        for n in 0u64.. {
            if shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let due = Duration::from_secs(1) * n as u32 * WRITERS as u32 / WRITES_PER_SECOND as u32;
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let key = (n * WRITERS + writer) * 7 % KEYS;
            let answer = client.put(&name(key), format!("value {n} of {writer}").as_bytes())?;
            let answer = answer.map_err(|status| Failure::Wrong(format!("put: {status:?}")))?;
            let revision = answer.header.unwrap_or_default().revision;
            written.insert(revision, key);
            shared.revision.fetch_max(revision, Ordering::Relaxed);
        }
        Ok(written)
    })
}

fn spawn_compactor(address: SocketAddr, shared: &Arc<Shared>) -> JoinHandle<Result<(), Failure>> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut client = Client::open(address)?;
        while !shared.stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_secs(1));
            let revision = shared.revision.load(Ordering::Relaxed) - KEPT;
            if revision > 0 {
                // The same revision twice is refused.
                let _ = client.compact(revision, false)?;
            }
        }
        Ok(())
    })
}

fn join<T>(worker: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    worker.join().expect("a client does not panic")
}

/// A client with one stream.
struct Stream {
    watchers: u64,
    keys: Vec<Keys>,
    reader: JoinHandle<Result<Vec<Vec<i64>>, Failure>>,
}

impl Stream {
    fn open(
        address: SocketAddr,
        keys: Vec<Keys>,
        shared: &Arc<Shared>,
        stalls: bool,
    ) -> Result<Stream, Failure> {
        let mut watch = Watch::open(address)?;
        for keys in &keys {
            watch.create(keys.create())?;
        }
        for n in 0..keys.len() {
            let created = watch.hear(Duration::from_secs(10))?.filter(|response| response.created);
            ensure(created.is_some_and(|response| response.watch_id == n as i64), || {
                format!("watcher {n} was not created")
            })?;
        }
        let (shared, count) = (Arc::clone(shared), keys.len());
        let reader = thread::spawn(move || read(watch, count, &shared, stalls));
        Ok(Stream { watchers: keys.len() as u64, keys, reader })
    }

    /// Compares what was told with what was written; returns how many events that was.
    fn check(self, written: &Written) -> Result<usize, Failure> {
        let told = join(self.reader)?;
        for (keys, told) in self.keys.iter().zip(&told) {
            let expected: Vec<i64> = written
                .iter()
                .filter(|(_, key)| keys.contain(**key))
                .map(|(revision, _)| *revision)
                .collect();
            ensure(*told == expected, || {
                let at = told.iter().zip(&expected).take_while(|(told, expected)| told == expected).count();
                format!("{keys:?} was told {} events of {}: they differ at {at}", told.len(), expected.len())
            })?;
        }
        Ok(told.iter().map(Vec::len).sum())
    }
}

/// Reads until all is told; the revisions that each watcher was told.
fn read(mut watch: Watch, count: usize, shared: &Shared, stalls: bool) -> Result<Vec<Vec<i64>>, Failure> {
    let mut told = vec![Vec::new(); count];
    loop {
        if stalls && shared.stalled.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let over = shared.stop.load(Ordering::Relaxed);
        let limit = if over { SILENCE } else { Duration::from_millis(50) };
        let Some(response) = watch.hear(limit)? else {
            if over {
                return Ok(told);
            }
            continue;
        };
        ensure(!response.canceled, || format!("cancelled: {response:?}"))?;
        let revisions = &mut told[response.watch_id as usize];
        let last = revisions.last().copied().unwrap_or(0);
        for event in &response.events {
            revisions.push(event.kv.as_ref().map_or(0, |kv| kv.mod_revision));
        }
        let first =
            response.events.first().and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
        ensure(first > last, || format!("{first} came after {last}, in another response"))?;
    }
}

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> i64 {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages: i64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
