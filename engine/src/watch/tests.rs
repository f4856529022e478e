//! The watchers against a model that keeps every change: random writes, compactions, creations, cancellations, requests for
//! progress, clients that stop reading, slices, and records that are not in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::apply::tests::world::World;
use crate::mvcc::reclaim::Spend;
use crate::request::{Compact, DeleteRange, Op, Put, Txn, Write};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    main: i64,
    key: Vec<u8>,
    /// `None` for a deletion.
    value: Option<Vec<u8>>,
    /// The value before its revision.
    before: Option<Vec<u8>>,
}

/// A watcher as its client sees it.
#[derive(Debug)]
struct Seen {
    keys: (Vec<u8>, Vec<u8>),
    start: i64,
    options: Options,
    /// Changes told so far, as a position in the log.
    at: usize,
    /// It was created below the compaction and will be cancelled.
    doomed: bool,
}

/// A client of one stream.
struct Client {
    id: StreamId,
    reads: bool,
    /// Watchers in the order of their creation.
    asked: VecDeque<Seen>,
    watchers: BTreeMap<i64, Seen>,
    cancelled: Vec<i64>,
}

struct Model {
    world: World,
    watchers: Watchers,
    log: Vec<Change>,
    alive: BTreeMap<Vec<u8>, Vec<u8>>,
    revision: i64,
    compacted: i64,
    clients: Vec<Client>,
    now: Instant,
    told: usize,
}

impl Model {
    fn new(seed: u64, config: Config) -> Model {
        let mut watchers = Watchers::new(config);
        #[allow(clippy::disallowed_methods, reason = "an origin; only differences count")]
        let now = Instant::now();
        let clients = (0..3)
            .map(|n| Client {
                id: watchers.open(now, n),
                reads: true,
                asked: VecDeque::new(),
                watchers: BTreeMap::new(),
                cancelled: Vec::new(),
            })
            .collect();
        let world = World::new(seed, 20, 5, 300_000);
        let (log, alive) = (Vec::new(), BTreeMap::new());
        Model { world, watchers, log, alive, revision: 1, compacted: -1, clients, now, told: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.world.random.below(n)
    }

    fn key(&mut self) -> Vec<u8> {
        vec![b'a' + self.below(6) as u8]
    }

    fn write(&mut self) {
        let mut ops: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for _ in 0..1 + self.below(3) {
            let key = self.key();
            if ops.iter().any(|(other, _)| *other == key) {
                continue;
            }
            let len = [3, 3, 3, 900][self.below(4)];
            let value = vec![b'0' + self.revision as u8 % 64; len];
            let value = (self.below(3) > 0).then_some(value);
            ops.push((key, value));
        }
        let success = ops
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Op::Put(Put { key, value, ..Put::default() }),
                None => Op::DeleteRange(DeleteRange { keys: KeyRange::new(key, b""), prev_kv: false }),
            })
            .collect();
        self.world.run(&Write::Txn(Txn { success, ..Txn::default() })).unwrap();
        let main = self.revision + 1;
        for (key, value) in ops {
            let before = self.alive.get(&key).cloned();
            match &value {
                Some(value) => drop(self.alive.insert(key.clone(), value.clone())),
                None if before.is_none() => continue,
                None => drop(self.alive.remove(&key)),
            }
            self.log.push(Change { main, key, value, before });
            self.revision = main;
        }
    }

    fn compact(&mut self) {
        let revision = self.revision - self.below(20) as i64;
        if revision > self.compacted && revision > 0 {
            self.world.run(&Write::Compact(Compact { revision, physical: false })).unwrap();
            self.compacted = revision;
        }
    }

    /// Repeats what finds something cold.
    fn warmly<T>(
        &mut self,
        mut work: impl FnMut(
            &mut Watchers,
            &View<'_, crate::mvcc::index::tests::pages::TestPages>,
        ) -> Result<T, Cold>,
    ) -> T {
        loop {
            match work(&mut self.watchers, &self.world.store.view()) {
                Ok(done) => return done,
                Err(cold) => self.world.warm(cold),
            }
        }
    }

    fn publish(&mut self) {
        let (now, mut budget) = (self.now, self.world.budget());
        self.warmly(|watchers, view| watchers.on_published(now, view, &mut budget));
    }

    fn create(&mut self, client: usize) {
        let key = self.key();
        let end = match self.below(4) {
            0 | 1 => Vec::new(),
            2 => vec![key[0] + 1 + self.below(3) as u8],
            _ => vec![0],
        };
        let start = match self.below(4) {
            0 => 0,
            1 => self.revision + self.below(5) as i64,
            _ => (self.revision - self.below(60) as i64).max(1),
        };
        let filter = Filter { no_put: self.below(6) == 0, no_delete: self.below(6) == 0 };
        let options = Options {
            filter,
            prev_kv: self.below(2) == 0,
            fragment: false,
            progress_notify: self.below(2) == 0,
        };
        let create = Create { keys: KeyRange::new(&key, &end), start, id: 0, options };
        let id = self.clients[client].id;
        self.watchers.create(id, &create, &self.world.store.view());
        let start = if start == 0 { self.revision + 1 } else { start };
        let doomed = start < self.compacted;
        let seen = Seen { keys: (key, end), start, options, at: 0, doomed };
        self.clients[client].asked.push_back(seen);
    }

    fn cancel(&mut self, client: usize) {
        let ids: Vec<i64> = self.clients[client].watchers.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.below(ids.len())];
        self.watchers.cancel(self.clients[client].id, id, Revision(self.revision));
        self.clients[client].cancelled.push(id);
    }

    /// Reads a few messages; true if there were any.
    fn read(&mut self, client: usize, max: usize) -> bool {
        let id = self.clients[client].id;
        for n in 0..max {
            let mut budget = self.world.budget();
            match self.warmly(|watchers, view| watchers.poll(id, view, &mut budget)) {
                Poll::Idle => return n > 0,
                Poll::More => {}
                Poll::Message(message) => self.check(client, message),
            }
        }
        true
    }

    fn check(&mut self, client: usize, message: Message) {
        match message {
            Message::Created { id, revision } => {
                let seen = self.clients[client].asked.pop_front().expect("asked for");
                assert!(revision.0 >= 1);
                self.clients[client].watchers.insert(id, seen);
            }
            Message::Canceled { id, .. } => {
                // It may have been cancelled by a compaction that its client had not heard of.
                self.clients[client].watchers.remove(&id);
                assert!(self.clients[client].cancelled.contains(&id));
            }
            Message::Compacted { id, compacted } => {
                let seen = self.clients[client].watchers.remove(&id).expect("there");
                let told = self.log[..seen.at].last().map_or(0, |change| change.main);
                let next = seen.start.max(told + 1);
                assert!(seen.doomed || next < compacted.0, "{seen:?} at {compacted}");
            }
            Message::Progress { id, revision } => {
                let ids: Vec<i64> = match id {
                    PROGRESS_OF_ALL => self.clients[client].watchers.keys().copied().collect(),
                    id => vec![id],
                };
                for id in ids.iter().filter(|id| !self.clients[client].cancelled.contains(id)) {
                    let seen = &self.clients[client].watchers[id];
                    let missing = self.log[seen.at..].iter().find(|change| wants(seen, change));
                    assert!(
                        missing.is_none_or(|change| change.main > revision.0),
                        "{missing:?} at {revision}"
                    );
                }
            }
            Message::Refused { why, .. } => panic!("{why:?}"),
            Message::Events(batch) => self.check_events(client, batch),
        }
    }

    fn check_events(&mut self, client: usize, mut batch: Batch) {
        let mut seen = self.clients[client].watchers.remove(&batch.id).expect("created before events");
        let compacted = batch.events.compacted.0;
        let mut last = 0;
        loop {
            let (mut budget, mut events) = (self.world.budget(), batch.events.clone());
            let told = self.warmly(|_, view| {
                let mut copy = batch.events.clone();
                let next = copy.next(view, &mut budget)?;
                events = copy;
                Ok(match next {
                    Next::Event(event) => Some(Some((
                        event.record.main().0,
                        event.record.key().to_vec(),
                        (!event.record.is_tombstone()).then(|| event.record.fields().value.to_vec()),
                        event.prev.map(|prev| prev.fields().value.to_vec()),
                    ))),
                    Next::More => Some(None),
                    Next::End => None,
                    Next::Lost => panic!("lost"),
                })
            });
            batch.events = events;
            let Some(told) = told else { break };
            let Some((main, key, value, prev)) = told else { continue };
            while !wants(&seen, &self.log[seen.at]) {
                seen.at += 1;
            }
            let change = &self.log[seen.at];
            seen.at += 1;
            assert_eq!((main, &key, &value), (change.main, &change.key, &change.value), "{seen:?}");
            let prev_known = seen.options.prev_kv && main > compacted;
            assert_eq!(prev, change.before.clone().filter(|_| prev_known), "{change:?}");
            last = main;
            self.told += 1;
        }
        assert!(batch.revision.0 >= last && last > 0);
        let rest = self.log[seen.at..].iter().take_while(|change| change.main == last);
        assert_eq!(rest.filter(|change| wants(&seen, change)).count(), 0, "revision {last} was split");
        self.clients[client].watchers.insert(batch.id, seen);
    }

    fn step(&mut self) {
        let client = self.below(self.clients.len());
        match self.below(20) {
            0..8 => self.write(),
            8..12 => self.publish(),
            12..16 if self.clients[client].reads => drop(self.read(client, 3)),
            16 => self.create(client),
            17 => self.clients[client].reads = self.below(3) > 0,
            18 => match self.below(4) {
                0 => self.cancel(client),
                1 => self.compact(),
                _ => {
                    let seconds = self.below(5) as u64;
                    self.now += Duration::from_secs(seconds);
                }
            },
            19 => {
                let revision = Revision(self.revision);
                self.watchers.request_progress(self.clients[client].id, revision);
                self.watchers.handle_timeout(self.now);
            }
            _ => {}
        }
        self.check_pin();
    }

    /// Nothing that a watcher still needs may be reclaimed.
    fn check_pin(&mut self) {
        let needed = self.clients.iter().flat_map(|client| {
            let lives =
                client.watchers.iter().filter(|(id, seen)| !seen.doomed && !client.cancelled.contains(id));
            lives.filter_map(|(_, seen)| {
                let next = self.log[seen.at..].iter().find(|change| wants(seen, change))?;
                Some(next.main)
            })
        });
        let bound = self.watchers.lag.bound().revision.0;
        if let Some(needed) = needed.filter(|&main| main > bound).min() {
            let pin = self.watchers.oldest(self.now).expect("somebody waits");
            assert!(pin.0 < needed, "{needed} is needed, and all before {pin} may go");
        }
    }

    fn finish(&mut self) {
        while self.watchers.matched != self.world.store.view().now().unwrap().last {
            self.publish();
        }
        for client in 0..self.clients.len() {
            while self.read(client, 1) {}
            let Client { watchers, asked, .. } = &self.clients[client];
            assert!(asked.is_empty());
            for seen in watchers.values() {
                let missing = self.log[seen.at..].iter().find(|change| wants(seen, change));
                assert_eq!(missing, None, "{seen:?}");
            }
        }
        let total: usize = self.clients.iter().map(|client| client.watchers.len()).sum();
        let counts = self.watchers.counts();
        assert_eq!((counts.watchers, counts.behind, counts.queued), (total, 0, 0));
        assert_eq!(self.watchers.table.len(), total);
        for client in &self.clients {
            self.watchers.close(client.id);
        }
        assert_eq!((self.watchers.counts(), self.watchers.table.len()), (Counts::default(), 0));
    }
}

fn wants(seen: &Seen, change: &Change) -> bool {
    let kept = match change.value {
        Some(_) => !seen.options.filter.no_put,
        None => !seen.options.filter.no_delete,
    };
    kept && change.main >= seen.start && KeyRange::new(&seen.keys.0, &seen.keys.1).contains(&change.key)
}

fn run(seed: u64, steps: usize, config: Config) -> usize {
    let mut model = Model::new(seed, config);
    for _ in 0..steps {
        model.step();
    }
    model.finish();
    model.told
}

fn config(queue_max: usize, batch_revisions_max: u32) -> Config {
    let lag = Limits { time_max: Duration::from_secs(20), bytes_max: 100_000 };
    Config { progress_interval: Duration::from_secs(3), queue_max, batch_revisions_max, lag }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_watcher_is_told_exactly_its_events(seed: u64, queue_max in 1..20usize, batch in 1..5u32) {
        run(seed, 1500, config(queue_max, batch));
    }
}

#[test]
fn a_watcher_that_begins_behind_what_is_matched_is_not_told_of_what_is_before_it() {
    run(17212255334279664872, 1500, config(4, 1));
}

#[test]
fn no_progress_is_told_of_a_watcher_behind_the_compaction_that_ended_it() {
    run(12770906400098778630, 1500, config(4, 1));
}

#[test]
fn enough_is_told_that_the_model_means_something() {
    assert!(run(1, 4000, config(5, 3)) > 1000);
}

/// Compacts, and gives back all that is dead then.
fn compact(world: &mut World, floor: Revision) {
    world.run(&Write::Compact(Compact { revision: floor.0, physical: false })).unwrap();
    world.publish();
    let mut reclaim = || match world.store.reclaim(floor, &mut Spend { steps: 100, bytes: 1 << 20 }) {
        Ok(more) => more,
        Err(cold) => {
            world.warm(cold);
            true
        }
    };
    while reclaim() {}
    world.publish();
}

/// A stream with one watcher.
fn watching(world: &World, keys: KeyRange<'_>, start: i64) -> (Watchers, StreamId) {
    let mut watchers = Watchers::new(config(1000, 1000));
    #[allow(clippy::disallowed_methods, reason = "an origin; only differences count")]
    let now = Instant::now();
    let id = watchers.open(now, 0);
    watchers.on_published(now, &world.store.view(), &mut Budget(u32::MAX)).unwrap();
    let options =
        Options { filter: Filter::default(), prev_kv: false, fragment: false, progress_notify: false };
    watchers.create(id, &Create { keys, start, id: 0, options }, &world.store.view());
    (watchers, id)
}

/// The revisions that a watcher of one key is told of, from `start` on.
fn told_of_key(world: &World, key: &[u8], start: i64) -> Vec<i64> {
    let (mut watchers, id) = watching(world, KeyRange::new(key, b""), start);
    let mut told = Vec::new();
    loop {
        match watchers.poll(id, &world.store.view(), &mut Budget(u32::MAX)).unwrap() {
            Poll::Message(Message::Events(batch)) => {
                let mut events = batch.events;
                while let Next::Event(event) =
                    events.next(&world.store.view(), &mut Budget(u32::MAX)).unwrap()
                {
                    told.push(event.record.main().0);
                }
            }
            Poll::Idle => break told,
            _ => {}
        }
    }
}

#[test]
fn a_jump_to_what_was_reclaimed_passes_nothing_over() {
    // The compaction's own revision put the key and deleted it; what it put is dead, and may be where a jump leads. The
    // simulator found it: cluster 206.
    let put = |value: &'static [u8]| Put { key: b"k", value, ..Put::default() };
    let mut reclaimed = 0;
    for before in 0..12 {
        let mut world = World::with_chunks(1, 20, usize::MAX, 1 << 20, 4096);
        for _ in 0..before {
            world.run(&Write::Put(put(b"before"))).unwrap();
        }
        let delete = DeleteRange { keys: KeyRange::new(b"k", b""), prev_kv: false };
        let success = vec![Op::Put(put(&[b'd'; 3500])), Op::DeleteRange(delete)];
        world.run(&Write::Txn(Txn { compare: Vec::new(), success, failure: Vec::new() })).unwrap();
        for _ in 0..20 {
            world.run(&Write::Put(put(&[b'v'; 300]))).unwrap();
        }
        world.publish();
        let floor = 2 + before;
        compact(&mut world, Revision(floor));
        let right: Vec<i64> = (floor..=floor + 20).collect();
        let mut told = told_of_key(&world, b"k", floor);
        reclaimed += usize::from(told.len() == right.len());
        told.dedup();
        assert_eq!(told, right, "{before} puts before");
    }
    assert!(reclaimed > 0, "what the compaction's revision put is never reclaimed");
}

#[test]
fn a_batch_whose_records_were_reclaimed_is_lost_and_none_of_its_events_passed_over() {
    // A client that took a batch and stalls for longer than the history waits. The simulator found it: cluster 12.
    for keys in [KeyRange::new(b"a", b"z"), KeyRange::new(b"k", b"")] {
        let mut world = World::with_chunks(1, 20, usize::MAX, 1 << 20, 4096);
        let value = [b'v'; 200];
        for _ in 0..100 {
            world.run(&Write::Put(Put { key: b"k", value: &value, ..Put::default() })).unwrap();
        }
        let (mut watchers, id) = watching(&world, keys, 2);
        let batch = loop {
            match watchers.poll(id, &world.store.view(), &mut Budget(u32::MAX)).unwrap() {
                Poll::Message(Message::Events(batch)) => break batch,
                Poll::Idle => panic!("events are there"),
                _ => {}
            }
        };
        let told = |world: &World| {
            let (mut events, mut told) = (batch.events.clone(), 0);
            loop {
                match events.next(&world.store.view(), &mut Budget(u32::MAX)).unwrap() {
                    Next::Event(event) => {
                        told += 1;
                        assert_eq!(event.record.main(), Revision(1 + told), "one after the other");
                    }
                    Next::More => {}
                    Next::End => break Ok(told),
                    Next::Lost => break Err(told),
                }
            }
        };
        assert_eq!(told(&world), Ok(100));
        compact(&mut world, Revision(101));
        assert!(told(&world).is_err(), "records of the batch are gone");
    }
}
