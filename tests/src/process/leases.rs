//! Leases by the ten thousand that run out, beside others that are kept alive: each is revoked, with its key, not before its
//! time and not long after it; those that are kept alive stay until nobody keeps them; and who writes meanwhile is not held
//! up.
//!
//! All by the client's clock: a lease may not go before its time to live has passed since its grant, or its last renewal,
//! was *sent*. How late it may go follows from the pace of etcd, which is the server's too: 1,000 leases a second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use prost::Message;

use crate::client::Client;
use crate::differential::build::range;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::event::EventType;
use crate::random::Random;
use crate::server::{Binary, Server};
use crate::watch::{Watch, watch_range};
use crate::wire::StreamId;

use super::times::Times;
use super::{Failure, Verdict, ensure};

/// Seconds to live of those that nobody keeps alive, and of the others. Above etcd's least, 2 s, for a grant and the put of
/// its key are two calls, and machines pause.
const EXPIRING_TTL: [i64; 2] = [3, 7];
const KEPT_TTL: [i64; 2] = [6, 12];
/// A client renews this many times in a time to live, as etcd's do.
const RENEWALS: u32 = 3;
/// Clients that grant leases and keep every other of them alive.
const WORKERS: u64 = 4;
/// Requests under way at once.
const WINDOW: usize = 50;
/// Leases that the server revokes in a second, at most.
const PACE: u64 = 1000;
/// How much later than that the last one may go, on a busy machine.
const SLACK: Duration = Duration::from_secs(20);
/// Between two puts of the client that is not to be held up.
const PUT_EVERY: Duration = Duration::from_millis(5);
/// How long its puts are timed alone.
const ALONE: Duration = Duration::from_secs(2);
/// Its 99th percentile beside the leases; what else runs on the machine is in it.
const PUT_P99_MAX: Duration = Duration::from_millis(500);
const PREFIX: &str = "lease/";
const PREFIX_END: &str = "lease0";

/// Runs it with `count` leases.
pub fn run(binary: &Binary, count: u64) -> Verdict {
    let server = Server::start(binary, &[])?;
    let address = server.client();
    let writer = Writer::start(address);
    thread::sleep(ALONE);
    let alone = writer.stop()?;

    let gone = watch_deletes(address)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Writer::start(address);
    let workers = (0..WORKERS)
        .map(|number| {
            let stop = Arc::clone(&stop);
            let mine = (number..count).step_by(WORKERS as usize);
            thread::spawn(move || Worker::open(address, number)?.run(mine, &stop))
        })
        .collect::<Vec<_>>();

    // Every other lease runs out; the rest outlives its own time to live in any case.
    let kept = (0..count).filter(|&number| is_kept(number)).count() as u64;
    let mut told = Told::default();
    let expired = told.until(&gone, count - kept, bound(count - kept, EXPIRING_TTL) + GRANTED_WITHIN);
    if expired.is_ok() {
        told.for_a_time(&gone, Duration::from_secs(KEPT_TTL[1] as u64 + 1));
    }
    let survivors = Store::read(address)?;
    stop.store(true, Ordering::Relaxed);
    // What went wrong for a worker says more than that its leases were not told.
    let leases = workers.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
    let leases = leases.into_iter().flatten().collect::<BTreeMap<_, _>>();
    expired?;
    survivors.check(leases.iter().filter(|(_, lease)| lease.kept))?;
    told.until(&gone, count, bound(kept, KEPT_TTL))?;
    let beside = writer.stop()?;
    Store::read(address)?.check(std::iter::empty())?;

    let late = told.check(&leases)?;
    let numbers = format!(
        "{count} leases ran out, {kept} of them after they had been kept alive; revoked {:.1?} late in the middle, {:.1?} \
         at most; puts alone {alone}, beside {beside}",
        late[late.len() / 2],
        late[late.len() - 1],
    );
    ensure(beside.p99 <= PUT_P99_MAX, || format!("puts are held up: {numbers}"))?;
    Ok(numbers)
}

/// How long all grants may take.
const GRANTED_WITHIN: Duration = Duration::from_secs(30);

/// How long `count` leases may take to go from now on.
fn bound(count: u64, ttl: [i64; 2]) -> Duration {
    Duration::from_secs(ttl[1] as u64 + count / PACE) + SLACK
}

fn join<T>(worker: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    worker.join().expect("a client does not panic")
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:08}")
}

/// Every other one of each worker.
fn is_kept(number: u64) -> bool {
    (number / WORKERS).is_multiple_of(2)
}

/// A lease as its client knows it.
#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    ttl: Duration,
    kept: bool,
    /// When its grant or last renewal was sent and answered.
    sent: Instant,
    answered: Instant,
}

/// A client that grants leases, each with a key, and keeps every other one alive.
struct Worker {
    client: Client,
    keeper: Client,
    renewals: StreamId,
    leases: BTreeMap<u64, Lease>,
    /// When those that are kept are to be renewed.
    due: BTreeSet<(Instant, u64)>,
    random: Random,
}

impl Worker {
    fn open(address: SocketAddr, seed: u64) -> Result<Worker, Failure> {
        let mut keeper = Client::open(address)?;
        let renewals = keeper.conn().open_stream("/etcdserverpb.Lease/LeaseKeepAlive")?;
        Ok(Worker {
            client: Client::open(address)?,
            keeper,
            renewals,
            leases: BTreeMap::new(),
            due: BTreeSet::new(),
            random: Random::new(seed),
        })
    }

    fn run(
        mut self,
        mut numbers: impl Iterator<Item = u64>,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<u64, Lease>, Failure> {
        loop {
            let window = numbers.by_ref().take(WINDOW).collect::<Vec<_>>();
            if window.is_empty() {
                break;
            }
            self.grant(&window)?;
            self.renew_due()?;
        }
        while !stop.load(Ordering::Relaxed) {
            self.renew_due()?;
            let next = self.due.first().map_or(Duration::MAX, |(due, _)| due.duration_since(Instant::now()));
            thread::sleep(next.min(Duration::from_millis(20)));
        }
        Ok(self.leases)
    }

    /// Grants leases, and puts the key of each.
    fn grant(&mut self, numbers: &[u64]) -> Result<(), Failure> {
        let mut granted = Vec::new();
        for &number in numbers {
            let kept = is_kept(number);
            let [low, high] = if kept { KEPT_TTL } else { EXPIRING_TTL };
            let request = pb::LeaseGrantRequest { ttl: self.random.between(low, high), id: 0 };
            let sent = Instant::now();
            let stream = self.client.start("/etcdserverpb.Lease/LeaseGrant", &request)?;
            granted.push((number, kept, request.ttl, sent, stream));
        }
        let mut puts = Vec::new();
        for (number, kept, ttl, sent, stream) in granted {
            let response = answered(self.client.finish::<pb::LeaseGrantResponse>(stream), "grant")?;
            ensure(response.ttl == ttl, || format!("{ttl} s were asked for: {response:?}"))?;
            let (id, ttl) = (response.id, Duration::from_secs(ttl as u64));
            let lease = Lease { id, ttl, kept, sent, answered: Instant::now() };
            self.note(number, lease);
            let put = pb::PutRequest { key: key(number).into(), lease: id, ..Default::default() };
            puts.push(self.client.start("/etcdserverpb.KV/Put", &put)?);
        }
        for stream in puts {
            answered(self.client.finish::<pb::PutResponse>(stream), "put with a lease")?;
        }
        Ok(())
    }

    fn note(&mut self, number: u64, lease: Lease) {
        self.leases.insert(number, lease);
        if lease.kept {
            self.due.insert((lease.sent + lease.ttl / RENEWALS, number));
        }
    }

    /// Renews what is due, a window at a time.
    fn renew_due(&mut self) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            let due = self.due.iter().take(WINDOW).take_while(|(due, _)| *due <= now);
            let window = due.copied().collect::<Vec<_>>();
            if window.is_empty() {
                return Ok(());
            }
            let mut sent = Vec::new();
            for entry in &window {
                self.due.remove(entry);
                let id = self.leases[&entry.1].id;
                sent.push(Instant::now());
                let request = pb::LeaseKeepAliveRequest { id }.encode_to_vec();
                self.keeper.conn().say(self.renewals, &request)?;
            }
            for ((_, number), sent) in window.into_iter().zip(sent) {
                self.take_renewal(number, sent)?;
            }
        }
    }

    fn take_renewal(&mut self, number: u64, sent: Instant) -> Result<(), Failure> {
        let lease = self.leases[&number];
        let message = self.keeper.conn().hear(self.renewals, RENEWED_WITHIN)?;
        let message =
            message.ok_or_else(|| Failure::Wrong(format!("no renewal within {RENEWED_WITHIN:?}")))?;
        let response = pb::LeaseKeepAliveResponse::decode(&message[..])?;
        let renewed = response.id == lease.id && response.ttl == lease.ttl.as_secs() as i64;
        ensure(renewed, || {
            let [asked, told] = [sent, Instant::now()].map(|at| at - lease.sent);
            format!(
                "{lease:?} was renewed {asked:.1?} after that, and told {told:.1?} after that: {response:?}"
            )
        })?;
        self.note(number, Lease { sent, answered: Instant::now(), ..lease });
        Ok(())
    }
}

/// A renewal that takes longer comes too late in any case.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);

fn answered<R>(reply: crate::client::Reply<R>, what: &str) -> Result<R, Failure> {
    reply?.map_err(|status| Failure::Wrong(format!("{what}: {status:?}")))
}

/// A key that went.
type Gone = (u64, Instant);

/// Tells of each key below the prefix when it is deleted, until the server goes.
fn watch_deletes(address: SocketAddr) -> Result<Receiver<Gone>, Failure> {
    let mut watch = Watch::open(address)?;
    let filters = vec![pb::watch_create_request::FilterType::Noput as i32];
    watch.create(pb::WatchCreateRequest { filters, ..watch_range(PREFIX, PREFIX_END) })?;
    let created = watch.hear(Duration::from_secs(10))?;
    ensure(created.as_ref().is_some_and(|response| response.created), || format!("no watcher: {created:?}"))?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        // The end of the connection is the end of the check.
        while let Ok(response) = watch.hear(Duration::from_millis(100)) {
            if response.is_none() && watch.has_ended() {
                return;
            }
            for event in response.into_iter().flat_map(|response| response.events) {
                let number = event.kv.as_ref().and_then(|kv| number_of(&kv.key));
                let deleted = event.r#type() == EventType::Delete;
                let Some(number) = number.filter(|_| deleted) else { return };
                if sender.send((number, Instant::now())).is_err() {
                    return;
                }
            }
        }
    });
    Ok(receiver)
}

fn number_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Which keys went, and when that was heard.
#[derive(Debug, Default)]
struct Told {
    gone: BTreeMap<u64, Instant>,
    twice: Option<u64>,
}

impl Told {
    /// Listens until `count` keys have gone. Errors: that takes longer than `limit`.
    fn until(&mut self, gone: &Receiver<Gone>, count: u64, limit: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        while (self.gone.len() as u64) < count {
            match gone.recv_timeout(limit.saturating_sub(begun.elapsed())) {
                Ok(gone) => self.on_gone(gone),
                Err(RecvTimeoutError::Timeout) => {
                    let text = format!("{} of {count} leases went within {limit:?}", self.gone.len());
                    return Err(Failure::Wrong(text));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Wrong("the watcher ended, or was told of something else".into()));
                }
            }
        }
        Ok(())
    }

    /// Listens so long.
    fn for_a_time(&mut self, gone: &Receiver<Gone>, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(gone) = gone.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.on_gone(gone);
        }
    }

    fn on_gone(&mut self, (number, at): Gone) {
        if self.gone.insert(number, at).is_some() {
            self.twice = Some(number);
        }
    }

    /// How late each lease went, sorted. Errors: one that went early, or twice.
    fn check(&self, leases: &BTreeMap<u64, Lease>) -> Result<Vec<Duration>, Failure> {
        ensure(self.twice.is_none(), || format!("{:?} went twice", self.twice))?;
        let mut late = Vec::new();
        for (number, lease) in leases {
            let at = self.gone.get(number).ok_or_else(|| Failure::Wrong(format!("{number} never went")))?;
            ensure(*at >= lease.sent + lease.ttl, || {
                format!("{number} went after {:?}: {lease:?}", at.duration_since(lease.sent))
            })?;
            late.push(at.saturating_duration_since(lease.answered + lease.ttl));
        }
        late.sort_unstable();
        Ok(late)
    }
}

/// What the server says is there.
struct Store {
    leases: BTreeSet<i64>,
    keys: BTreeSet<u64>,
}

impl Store {
    fn read(address: SocketAddr) -> Result<Store, Failure> {
        let mut client = Client::open(address)?;
        // Keys first: a key without its lease would be wrong, and what goes meanwhile takes both.
        let request = pb::RangeRequest { keys_only: true, ..range(PREFIX, PREFIX_END) };
        let range = answered(client.range(&request), "range")?;
        let leases = client.call("/etcdserverpb.Lease/LeaseLeases", &pb::LeaseLeasesRequest {});
        let leases = answered::<pb::LeaseLeasesResponse>(leases, "list of leases")?;
        Ok(Store {
            leases: leases.leases.iter().map(|lease| lease.id).collect(),
            keys: range.kvs.iter().filter_map(|kv| number_of(&kv.key)).collect(),
        })
    }

    /// Errors: what is there are not exactly `leases` and their keys.
    fn check<'a>(&self, leases: impl Iterator<Item = (&'a u64, &'a Lease)>) -> Result<(), Failure> {
        let (keys, ids): (BTreeSet<_>, BTreeSet<_>) =
            leases.map(|(number, lease)| (*number, lease.id)).unzip();
        ensure(self.keys == keys && self.leases == ids, || {
            let found = format!("{} keys and {} leases are there", self.keys.len(), self.leases.len());
            format!("{found}, of {} that should be", keys.len())
        })
    }
}

/// A client whose puts are timed.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>, Failure>>,
}

impl Writer {
    fn start(address: SocketAddr) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut client = Client::open(address)?;
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                answered(client.put(b"beside", b"value"), "put")?;
                times.push(begun.elapsed());
                thread::sleep(PUT_EVERY);
            }
            Ok(times)
        });
        Writer { stop, thread }
    }

    fn stop(self) -> Result<Times, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let times = join(self.thread)?;
        ensure(!times.is_empty(), || "not one put".to_owned())?;
        Ok(Times::of(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_may_go_late_and_not_early_nor_twice() {
        let sent = Instant::now();
        let (ttl, answered) = (Duration::from_secs(2), sent + Duration::from_millis(1));
        let leases = BTreeMap::from([(7, Lease { id: 1, ttl, kept: false, sent, answered })]);
        let told = |times: &[u64]| {
            let mut told = Told::default();
            times.iter().for_each(|ms| told.on_gone((7, sent + Duration::from_millis(*ms))));
            told.check(&leases)
        };
        assert_eq!(told(&[2501]).unwrap(), [Duration::from_millis(500)]);
        assert_eq!(told(&[2000]).unwrap(), [Duration::ZERO]);
        assert!(told(&[1999]).is_err(), "early");
        assert!(told(&[2100, 2200]).is_err(), "twice");
        assert!(told(&[]).is_err(), "never");
    }

    #[test]
    fn what_is_there_are_the_leases_with_their_keys() {
        let now = Instant::now();
        let lease = Lease { id: 3, ttl: Duration::ZERO, kept: true, sent: now, answered: now };
        let store = |leases: &[i64], keys: &[u64]| Store {
            leases: leases.iter().copied().collect(),
            keys: keys.iter().copied().collect(),
        };
        let check = |store: Store| store.check([(&8, &lease)].into_iter());
        assert!(check(store(&[3], &[8])).is_ok());
        for (leases, keys) in [(&[3][..], &[][..]), (&[], &[8]), (&[3, 4], &[8]), (&[3], &[8, 9])] {
            assert!(check(store(leases, keys)).is_err(), "{leases:?} {keys:?}");
        }
        assert_eq!(number_of(key(42).as_bytes()), Some(42));
        assert_eq!((0..80).filter(|&number| is_kept(number)).count(), 40);
    }
}
