//! Watchers and puts that they are told of: as many puts are always under way, each until every watcher that it concerns
//! has its event. So events a second are events that were delivered, and no server is ahead of its own watchers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kontiki_tests::proto::etcdserverpb as pb;
use prost::Message;

use super::calls::{Calls, turn};
use super::connection::Connection;
use super::fields::{Value, fields};
use super::latencies::Latencies;
use super::link::wait;
use super::run::{DRAIN_MAX, Summary};
use super::workload::{KEY_LEN, Method, Workload};

const PATH: &str = "/etcdserverpb.Watch/Watch";
const KEY_PREFIX: &str = "watch/";
/// What stands behind all keys with that prefix.
const KEY_END: &str = "watch0";
/// Keys that are written when every watcher sees all.
const SHARED_KEYS: u64 = 1000;
/// How long all watchers may take to be there.
const CREATED_WITHIN: Duration = Duration::from_secs(30);

/// What each watcher watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All keys below one prefix: a put has as many events as there are watchers.
    All,
    /// A key of its own: a put has one event.
    One,
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct WatchPlan {
    /// How many watchers, on as many streams as there are connections.
    pub watchers: usize,
    /// Connections of watchers; the puts have one of their own.
    pub connections: usize,
    /// What each watches.
    pub audience: Audience,
    /// Puts under way.
    pub puts: usize,
    /// Bytes of a value.
    pub value_len: usize,
    /// For how long.
    pub duration: Duration,
}

/// Watchers that are there, and nothing put yet.
pub struct Watchers {
    plan: WatchPlan,
    streams: Vec<Calls>,
    puts: Connection,
    told: Told,
    sent: u64,
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchers").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Watchers {
    /// Creates them all and waits until the server says that they are there.
    pub fn open(address: SocketAddr, plan: &WatchPlan) -> io::Result<Watchers> {
        let mut streams =
            (0..plan.connections).map(|_| Calls::open(address, PATH)).collect::<io::Result<Vec<_>>>()?;
        for calls in &mut streams {
            calls.begin();
        }
        let mut created = 0;
        let mut asked = 0;
        let deadline = Instant::now() + CREATED_WITHIN;
        while created < plan.watchers {
            // One batch at a time: what a stream may send before it is told more is bounded.
            while asked < plan.watchers.min(created + BATCH) {
                streams[asked % plan.connections].say(1, &create(plan.audience, asked as u64))?;
                asked += 1;
            }
            turn(&mut streams, Duration::from_millis(100), |_, _, _, message| {
                created += usize::from(Response::read(message)?.created);
                Ok(())
            })?;
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{created} watchers after {CREATED_WITHIN:?}")));
            }
        }
        let workload = Workload { method: Method::Put, keys: 0, value_len: plan.value_len };
        let puts = Connection::open(address, &workload)?;
        Ok(Watchers { plan: *plan, streams, puts, told: Told::new(plan), sent: 0 })
    }

    /// Puts until the time is over, and waits for the last events.
    pub fn run(mut self) -> io::Result<Summary> {
        let start = Instant::now();
        let end = start + self.plan.duration;
        while Instant::now() < end {
            while self.told.waiting.len() < self.plan.puts && self.puts.has_room() {
                self.put();
            }
            self.turn(end)?;
        }
        let (elapsed, answered) = (start.elapsed(), self.told.events);
        let drained = Instant::now() + DRAIN_MAX;
        while !self.told.waiting.is_empty() && Instant::now() < drained {
            self.turn(drained)?;
        }
        Ok(Summary {
            answered,
            failures: self.puts.failures + self.told.waiting.len() as u64,
            failure: self.puts.failure.take(),
            elapsed,
            operations: self.told.events,
            latencies: self.told.latencies,
        })
    }

    fn put(&mut self) {
        let keys = match self.plan.audience {
            Audience::All => SHARED_KEYS,
            Audience::One => self.plan.watchers as u64,
        };
        let now = Instant::now();
        self.puts.request(&key(self.sent % keys), now);
        self.told.waiting.push_back(Put { sent: now, events: 0 });
        self.sent += 1;
    }

    /// Sends, and takes what came.
    fn turn(&mut self, end: Instant) -> io::Result<()> {
        let left = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
        // Answers of puts bring nothing to do: whoever waits, waits for events.
        wait(std::iter::once(&mut self.puts.link), Duration::ZERO)?;
        self.puts.receive(|_| {})?;
        let (told, connections) = (&mut self.told, self.plan.connections);
        turn(&mut self.streams, left, |connection, _, _, message| {
            let response = Response::read(message)?;
            // Watchers were created in turn, and a server counts those of a stream from 0.
            let watcher = response.watcher as usize * connections + connection;
            (0..response.events).try_for_each(|_| told.on_event(watcher))
        })
    }
}

/// Watchers asked for at once, over all streams.
const BATCH: usize = 1000;

/// Which puts are told.
struct Told {
    /// Events that each watcher has.
    of: Vec<u64>,
    audience: Audience,
    /// Puts without all their events, oldest first.
    waiting: VecDeque<Put>,
    /// The put of `waiting[0]`.
    first: u64,
    events: u64,
    latencies: Latencies,
}

struct Put {
    sent: Instant,
    events: usize,
}

impl Told {
    fn new(plan: &WatchPlan) -> Told {
        Told {
            of: vec![0; plan.watchers],
            audience: plan.audience,
            waiting: VecDeque::new(),
            first: 0,
            events: 0,
            latencies: Latencies::default(),
        }
    }

    /// A watcher has one event more. Which put that was follows from how many it has: the puts go round the keys in order.
    /// Errors: an event that no put can have caused.
    fn on_event(&mut self, watcher: usize) -> io::Result<()> {
        let unknown = || io::Error::other(format!("watcher {watcher} was told of a put that was not sent"));
        let (watchers, of) = (self.of.len() as u64, self.of.get_mut(watcher).ok_or_else(unknown)?);
        let (put, needed) = match self.audience {
            Audience::All => (*of, watchers as usize),
            Audience::One => (*of * watchers + watcher as u64, 1),
        };
        *of += 1;
        let slot = put.checked_sub(self.first).ok_or_else(unknown)?;
        let waiting = self.waiting.get_mut(slot as usize).ok_or_else(unknown)?;
        waiting.events += 1;
        self.events += 1;
        if waiting.events == needed {
            self.latencies.add(waiting.sent.elapsed());
        }
        while self.waiting.front().is_some_and(|put| put.events == needed) {
            self.waiting.pop_front();
            self.first += 1;
        }
        Ok(())
    }
}

/// What counts of a response.
struct Response {
    watcher: u64,
    created: bool,
    events: usize,
}

impl Response {
    /// Errors: a watcher that the server cancelled.
    fn read(message: &[u8]) -> io::Result<Response> {
        let mut response = Response { watcher: 0, created: false, events: 0 };
        for (field, value) in fields(message) {
            match (field, value) {
                (2, Value::Number(watcher)) => response.watcher = watcher,
                (3, Value::Number(created)) => response.created = created != 0,
                (4, Value::Number(1)) => {
                    let text = pb::WatchResponse::decode(message).map(|response| response.cancel_reason);
                    return Err(io::Error::other(format!("a watcher was cancelled: {text:?}")));
                }
                (11, Value::Bytes(_)) => response.events += 1,
                _ => {}
            }
        }
        Ok(response)
    }
}

fn key(number: u64) -> [u8; KEY_LEN] {
    let text = format!("{KEY_PREFIX}{number:0width$}", width = KEY_LEN - KEY_PREFIX.len());
    text.into_bytes().try_into().expect("a number below 10^10")
}

fn create(audience: Audience, watcher: u64) -> Vec<u8> {
    let create = match audience {
        Audience::All => {
            pb::WatchCreateRequest { key: KEY_PREFIX.into(), range_end: KEY_END.into(), ..Default::default() }
        }
        Audience::One => pb::WatchCreateRequest { key: key(watcher).to_vec().into(), ..Default::default() },
    };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    pb::WatchRequest { request_union: Some(union) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(audience: Audience, puts: usize) -> Told {
        let plan =
            WatchPlan { watchers: 3, connections: 1, audience, puts, value_len: 0, duration: Duration::ZERO };
        let mut told = Told::new(&plan);
        told.waiting.extend((0..puts).map(|_| Put { sent: Instant::now(), events: 0 }));
        told
    }

    #[test]
    fn a_put_is_told_when_all_watchers_have_it() {
        let mut told = told(Audience::All, 2);
        for (watcher, waiting) in [(0, 2), (0, 2), (1, 2), (2, 1), (2, 1), (1, 0)] {
            told.on_event(watcher).unwrap();
            assert_eq!(told.waiting.len(), waiting, "after watcher {watcher}");
        }
        assert_eq!((told.events, told.latencies.len()), (6, 2));
        assert!(told.on_event(0).is_err());
    }

    #[test]
    fn a_put_to_a_key_of_one_watcher_is_told_by_that_one() {
        let mut told = told(Audience::One, 4);
        // The fourth put is the second to the first watcher's key.
        for (watcher, waiting) in [(2, 4), (0, 3), (0, 3), (1, 0)] {
            told.on_event(watcher).unwrap();
            assert_eq!(told.waiting.len(), waiting, "after watcher {watcher}");
        }
        assert_eq!(told.latencies.len(), 4);
    }

    #[test]
    fn responses_are_read() {
        let event =
            pb::WatchResponse { watch_id: 5, events: vec![Default::default(); 2], ..Default::default() };
        let response = Response::read(&event.encode_to_vec()).unwrap();
        assert_eq!((response.watcher, response.created, response.events), (5, false, 2));
        let cancelled = pb::WatchResponse { canceled: true, ..Default::default() };
        assert!(Response::read(&cancelled.encode_to_vec()).is_err());
        assert_eq!(&key(42), b"watch/0000000042");
    }
}
