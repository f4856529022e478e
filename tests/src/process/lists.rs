//! Many clients that list everything at once: answers as long as the store, which the server must never assemble.
//!
//! A store is filled; then a hundred connections ask for all of it in one answer each, while one client overwrites what is
//! listed. Each list must have every key once, in order, and be the store of one revision: a sum over the revisions of all
//! keys, which the writer can tell for every revision it made. Meanwhile the server has little more memory than before,
//! and puts go on.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;

use crate::client::Client;
use crate::differential::build::{op, put};
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::KeyValue;
use crate::random::Random;
use crate::server::{Binary, Server};
use crate::wire::{Request, StreamId};

use super::memory::{MemoryGroup, forget_peak, peak_bytes, resident_bytes};
use super::reclaim::fill;
use super::{Failure, Verdict, ensure};

const VALUE_LEN: usize = 300;
const PREFIX: &str = "lists/";
/// What all lists together may add to the server's memory.
const ADDED_BYTES_MAX: u64 = 64 << 20;
/// The server's memory beside that, for each object.
const OBJECT_BYTES: u64 = 1024;
/// And beside both.
const BASE_BYTES: u64 = 256 << 20;
/// How long puts are measured in the quiet.
const MEASURE: Duration = Duration::from_secs(5);
/// The measured puts are this far apart.
const PUT_EVERY: Duration = Duration::from_millis(2);
/// What the machine's time that a hundred clients take may do to a put.
const FACTOR: u32 = 10;
/// How long a client waits for the next piece of its list.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many lists of how many objects.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    lists: usize,
    objects: u64,
    /// So much more is noise.
    noise: Duration,
}

impl Size {
    /// In CI.
    pub const SHORT: Size = Size { lists: 100, objects: 20_000, noise: Duration::from_secs(1) };
    /// As API servers that all start at once would.
    pub const LONG: Size = Size { lists: 100, objects: 300_000, noise: Duration::from_millis(150) };
}

/// Fills, lists and compares.
pub fn run(binary: &Binary, size: Size) -> Verdict {
    let limit = BASE_BYTES + ADDED_BYTES_MAX + size.objects * OBJECT_BYTES;
    let (group, bounds) = match MemoryGroup::new(limit) {
        Ok(group) => (Some(group), format!("in a group of {} MiB", limit >> 20)),
        Err(why) => (None, format!("without a limit ({why})")),
    };
    let inside = group.as_ref().map(|group| group.around(binary)).transpose()?;
    let mut server = Server::start(inside.as_ref().unwrap_or(binary), &["--quota-backend-bytes=8589934592"])?;
    let (address, process) = (server.client(), server.id());
    fill(address, 0..size.objects, |number| op(put(key(number), value(number, 0))))?;
    let mut writer = Writer::open(address, size.objects)?;
    let over = AtomicBool::new(false);
    let quiet = writer.put_for(MEASURE, &over)?;
    let base = resident_bytes(process)?;
    forget_peak(process)?;
    let begun = Instant::now();
    let barrier = Barrier::new(size.lists + 1);
    let (lists, beside) = thread::scope(|scope| {
        let readers: Vec<_> = (0..size.lists)
            .map(|_| scope.spawn(|| list(address, &barrier).map_err(|failure| failure.to_string())))
            .collect();
        let writing = scope.spawn(|| {
            barrier.wait();
            writer.put_for(Duration::ZERO, &over)
        });
        let lists: Vec<_> =
            readers.into_iter().map(|reader| reader.join().expect("a list does not panic")).collect();
        over.store(true, Ordering::Relaxed);
        (lists, writing.join().expect("the writer does not panic"))
    });
    ensure(server.is_running(), || "the server died of it".to_owned())?;
    let slow = |what: String| {
        let log = server.log();
        let line = log.iter().rev().find(|line| line.contains("took too long"));
        Failure::Wrong(format!("{what}; the server says {}", line.map_or("nothing", String::as_str)))
    };
    let (took, beside) = (begun.elapsed(), beside.map_err(|failure| slow(failure.to_string()))?);
    let added = peak_bytes(process)?.saturating_sub(base);
    for found in lists {
        writer.check(&found.map_err(Failure::Wrong)?)?;
    }
    let mib = |bytes: u64| bytes >> 20;
    let numbers = format!(
        "{} lists of {} objects {bounds}: complete, each of one revision, in {took:.1?}; {} MiB resident before, at most \
         {} MiB more; puts quiet {quiet}, beside {beside}",
        size.lists,
        size.objects,
        mib(base),
        mib(added)
    );
    ensure(added <= ADDED_BYTES_MAX, || format!("{} MiB more: {numbers}", mib(added)))?;
    if beside.p99 > quiet.p99 * FACTOR + size.noise {
        return Err(slow(format!("puts are held up: {numbers}")));
    }
    Ok(numbers)
}

fn key(number: u64) -> Vec<u8> {
    format!("{PREFIX}{number:010}").into_bytes()
}

fn value(number: u64, round: u64) -> Vec<u8> {
    let mut value = format!("{number}.{round}.").into_bytes();
    value.resize(VALUE_LEN, b'v');
    value
}

/// What a key's revision adds to the sum of a store.
fn weight(number: u64, revision: i64) -> u64 {
    Random::new(number << 32 ^ revision as u64).bits()
}

/// Times of puts.
struct Times {
    p99: Duration,
    max: Duration,
    count: usize,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p99 {:.1?}, max {:.1?} of {}", self.p99, self.max, self.count)
    }
}

/// The one client that changes what is listed, and what it made of it.
struct Writer {
    client: Client,
    random: Random,
    /// The revision of each key.
    revisions: Vec<i64>,
    /// The sum of the store at each revision from `first` on.
    sums: Vec<u64>,
    first: i64,
}

impl Writer {
    /// Takes stock of what was filled.
    fn open(address: SocketAddr, objects: u64) -> Result<Writer, Failure> {
        let alone = Barrier::new(1);
        let list = list(address, &alone)?;
        ensure(list.revisions.len() as u64 == objects, || {
            format!("{} objects at first", list.revisions.len())
        })?;
        Ok(Writer {
            client: Client::open(address)?,
            random: Random::new(1),
            sums: vec![sum(&list.revisions)],
            first: list.revision,
            revisions: list.revisions,
        })
    }

    /// Puts for `least`, or until it is over.
    fn put_for(&mut self, least: Duration, over: &AtomicBool) -> Result<Times, Failure> {
        let (mut times, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < least || (least.is_zero() && !over.load(Ordering::Relaxed)) {
            let number = self.random.below(self.revisions.len() as u64);
            let at = Instant::now();
            let answer = self.client.put(&key(number), &value(number, self.sums.len() as u64))?;
            times.push(at.elapsed());
            let answer = answer.map_err(|status| Failure::Wrong(format!("put: {status:?}")))?;
            let revision = answer.header.map_or(0, |header| header.revision);
            let expected = self.first + self.sums.len() as i64;
            ensure(revision == expected, || format!("put at {revision}, should be {expected}"))?;
            let old = std::mem::replace(&mut self.revisions[number as usize], revision);
            let last = *self.sums.last().expect("never empty");
            self.sums.push(last.wrapping_sub(weight(number, old)).wrapping_add(weight(number, revision)));
            thread::sleep(PUT_EVERY);
        }
        times.sort_unstable();
        let count = times.len();
        ensure(count > 0, || "no put was made".to_owned())?;
        Ok(Times { p99: times[(count - 1) * 99 / 100], max: times[count - 1], count })
    }

    /// Whether a list is the store of its revision.
    fn check(&self, list: &List) -> Result<(), Failure> {
        let List { revision, revisions } = list;
        let wanted = usize::try_from(revision - self.first).ok().and_then(|at| self.sums.get(at));
        ensure(revisions.len() == self.revisions.len(), || format!("a list of {} objects", revisions.len()))?;
        ensure(wanted == Some(&sum(revisions)), || format!("a list at {revision} is not of that revision"))
    }
}

fn sum(revisions: &[i64]) -> u64 {
    let weights = (0..).zip(revisions).map(|(number, revision)| weight(number, *revision));
    weights.fold(0, u64::wrapping_add)
}

/// A list that was found complete: the revision of each key, and of the whole.
#[derive(Debug, Default)]
struct List {
    revision: i64,
    revisions: Vec<i64>,
}

/// Lists everything in one answer, of which never more than a piece is in memory here.
fn list(address: SocketAddr, begin: &Barrier) -> Result<List, Failure> {
    let client = Client::open(address);
    begin.wait();
    let mut client = client?;
    client.conn().set_patience(PATIENCE)?;
    let end = format!("{}0", PREFIX.trim_end_matches('/'));
    let request =
        pb::RangeRequest { key: PREFIX.into(), range_end: end.into(), ..pb::RangeRequest::default() };
    let stream = client.conn().start(&Request::grpc("/etcdserverpb.KV/Range", &request.encode_to_vec()))?;
    let mut list = List::default();
    let count = read(&mut client, stream, &mut list)?;
    let answer = client.conn().finish(stream)?;
    let status = answer.status();
    ensure(status.as_ref().is_some_and(|status| status.code == 0), || {
        format!("{status:?}, {:?}", answer.end)
    })?;
    ensure(count == list.revisions.len() as i64, || format!("{} of {count} objects", list.revisions.len()))?;
    Ok(list)
}

/// Reads the fields of the answer as they come; returns its count.
fn read(client: &mut Client, stream: StreamId, list: &mut List) -> Result<i64, Failure> {
    let (mut unread, mut count, mut begun) = (Vec::new(), 0, false);
    while let Some(bytes) = client.conn().take_body(stream)? {
        unread.extend_from_slice(&bytes);
        let mut rest = &unread[..];
        if !begun && rest.len() >= 5 {
            (begun, rest) = (true, &rest[5..]);
        }
        while begun && let Some((field, len)) = Field::take(rest)? {
            match field {
                Field::Header(bytes) => list.revision = pb::ResponseHeader::decode(bytes)?.revision,
                Field::Pair(bytes) => list.add(KeyValue::decode(bytes)?)?,
                Field::Count(number) => count = number,
            }
            rest = &rest[len..];
        }
        unread.drain(..unread.len() - rest.len());
    }
    ensure(unread.is_empty(), || format!("{} bytes behind the last field", unread.len()))?;
    Ok(count)
}

impl List {
    /// The next pair, which must be that of the next number.
    fn add(&mut self, pair: KeyValue) -> Result<(), Failure> {
        let number = self.revisions.len() as u64;
        let starts = format!("{number}.");
        let fits = pair.key == key(number)
            && pair.value.len() == VALUE_LEN
            && pair.value.starts_with(starts.as_bytes());
        ensure(fits, || format!("object {number} is {:?} = {:?}", pair.key, pair.value))?;
        self.revisions.push(pair.mod_revision);
        Ok(())
    }
}

/// A field of a `RangeResponse`.
enum Field<'a> {
    Header(&'a [u8]),
    Pair(&'a [u8]),
    Count(i64),
}

impl Field<'_> {
    /// The field in front with its length, if all of it is there.
    fn take(bytes: &[u8]) -> Result<Option<(Field<'_>, usize)>, Failure> {
        let Some((tag, at)) = varint(bytes) else { return Ok(None) };
        let Some((number, len)) = varint(&bytes[at..]) else { return Ok(None) };
        let at = at + len;
        let content = bytes.get(at..).and_then(|rest| rest.get(..number as usize));
        Ok(match (tag, content) {
            (0x0a | 0x12, None) => None,
            (0x0a, Some(content)) => Some((Field::Header(content), at + content.len())),
            (0x12, Some(content)) => Some((Field::Pair(content), at + content.len())),
            (0x20, _) => Some((Field::Count(number as i64), at)),
            (tag, _) => return Err(Failure::Wrong(format!("tag {tag} in a list"))),
        })
    }
}

/// The number in front with its length, if all of it is there.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_when_all_of_them_is_there() {
        let answer = pb::RangeResponse {
            header: Some(pb::ResponseHeader { revision: 7, ..Default::default() }),
            kvs: vec![KeyValue { key: "k".into(), mod_revision: 5, ..Default::default() }],
            more: false,
            count: 1,
        };
        let bytes = answer.encode_to_vec();
        let mut at = 0;
        let mut seen = Vec::new();
        for end in 0..=bytes.len() {
            while let Ok(Some((field, len))) = Field::take(&bytes[at..end]) {
                seen.push(match field {
                    Field::Header(header) => pb::ResponseHeader::decode(header).unwrap().revision,
                    Field::Pair(pair) => KeyValue::decode(pair).unwrap().mod_revision,
                    Field::Count(count) => count,
                });
                at += len;
            }
        }
        assert_eq!((seen, at), (vec![7, 5, 1], bytes.len()));
    }
}
