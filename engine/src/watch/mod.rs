//! All watchers of one core: who is told of which change, in which order.
//!
//! **The history is the queue.** A watcher is a cursor into it. Each published batch is matched once against the live
//! watchers (`keys`), and whoever is concerned gets a note of which records (`stream`), never a copy of them. A
//! stream whose client does not read keeps at most so many notes; then its watchers become cursors that are behind, and
//! when the client reads again they find their events in the history (`search`), as does a watcher that was created
//! with a revision of the past. So a slow client costs no memory and no other watcher anything, and loses nothing,
//! unless it is so far back that a compaction has passed it (`lag`).
//!
//! No clock, no wire, no socket: `now` comes in, and [`Watchers::poll`] says what to tell next. What a watcher may
//! expect is in `docs/watch.md`; what etcd does, in its `server/storage/mvcc/watchable_store.go` and
//! `server/etcdserver/api/v3rpc/watch.go`.

// Intervals of keys.
mod intervals;

// Which watchers a key concerns.
mod keys;

// One watcher.
mod watcher;

// One stream and its queue of notes.
mod stream;

// From a cursor to events.
mod search;

// When a cursor is too far back to be waited for.
mod lag;

// What a stream tells next.
mod poll;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::request::{KeyRange, RangeEnd};
use crate::seeded::{self, Bug};
use crate::types::{Revision, Seq};
use keys::{KeyIndex, Keys};
use lag::{Bound, Lag};
use stream::{Item, Stream};
use watcher::{Behind, State, Table, Watcher};

pub use lag::Limits;
pub use poll::{Batch, Message, Poll};
pub use search::{Event, Events, Next};
pub use watcher::{Create, Filter, Options};

/// Sizes and times.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Time between two news of progress.
    pub progress_interval: Duration,
    /// Notes of events a stream may have queued; beyond them its watchers read from the history.
    pub queue_max: usize,
    /// Revisions in one response to a watcher that reads from the history.
    pub batch_revisions_max: u32,
    /// How far back a watcher holds back reclaim.
    pub lag: Limits,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            progress_interval: Duration::from_secs(600),
            queue_max: 4096,
            batch_revisions_max: 1000,
            lag: Limits::default(),
        }
    }
}

/// Words that are not events (created, cancelled, refused) that may wait in one stream. A client that asks for more
/// without reading any answer loses the stream.
pub const WORDS_MAX: usize = 1 << 16;

/// Why a watcher is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The range holds no key.
    EmptyRange,
    /// The id is in use in the stream.
    DuplicateId,
    /// The revision is negative.
    Compacted,
}

/// A stream of watchers; good until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u32);

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams.
    pub streams: usize,
    /// Watchers.
    pub watchers: usize,
    /// Watchers that read from the history.
    pub behind: usize,
    /// Notes of events in all queues.
    pub queued: usize,
}

/// All watchers of one core.
#[derive(Debug)]
pub struct Watchers {
    config: Config,
    streams: Vec<Option<Stream>>,
    free_streams: Vec<u32>,
    table: Table,
    index: KeyIndex,
    live: usize,
    behind: usize,
    /// The last record that was matched.
    matched: Seq,
    /// The last record of the last revision that was matched as a whole.
    complete: Bound,
    /// Streams with something to tell.
    ready: Vec<u32>,
    /// Streams with a watcher that waits for a revision to be matched as a whole.
    parked: Vec<u32>,
    timers: BTreeSet<(Instant, u32)>,
    lag: Lag,
    /// When the oldest revision in need was found, and which it is.
    oldest: Option<(Instant, Option<Revision>)>,
    groups: Vec<u32>,
}

/// An answer of [`Watchers::oldest`] is good for so long.
const OLDEST_FOR: Duration = Duration::from_millis(10);

impl Watchers {
    /// No watchers yet.
    pub fn new(config: Config) -> Watchers {
        Watchers {
            config,
            streams: Vec::new(),
            free_streams: Vec::new(),
            table: Table::default(),
            index: KeyIndex::default(),
            live: 0,
            behind: 0,
            matched: Seq(0),
            complete: Bound { seq: Seq(0), revision: Revision(0) },
            ready: Vec::new(),
            parked: Vec::new(),
            timers: BTreeSet::new(),
            lag: Lag::new(config.lag),
            oldest: None,
            groups: Vec::new(),
        }
    }

    /// Opens a stream. `spread` shifts its news of progress by up to a tenth of the interval, so that those of many streams
    /// do not come at once.
    pub fn open(&mut self, now: Instant, spread: u64) -> StreamId {
        let interval = self.config.progress_interval;
        let shift = interval.mul_f64((spread % 1024) as f64 / 10_240.0);
        let slot = self.free_streams.pop().unwrap_or_else(|| {
            self.streams.push(None);
            self.streams.len() as u32 - 1
        });
        let progress_at = now + interval + shift;
        self.streams[slot as usize] = Some(Stream::new(progress_at));
        self.timers.insert((progress_at, slot));
        StreamId(slot)
    }

    /// The stream is over, and with it its watchers.
    pub fn close(&mut self, id: StreamId) {
        let slots: Vec<u32> = self.stream(id.0).watchers.values().copied().collect();
        // They all go: nobody need be looked for in the list.
        self.stream(id.0).behind.clear();
        for slot in slots {
            self.remove(slot);
        }
        let mut stream = self.streams[id.0 as usize].take().expect("a stream is closed once");
        while let Some(item) = stream.pop() {
            self.forget(item);
        }
        self.timers.remove(&(stream.progress_at, id.0));
        self.ready.retain(|&slot| slot != id.0);
        self.parked.retain(|&slot| slot != id.0);
        self.free_streams.push(id.0);
    }

    /// Creates a watcher, or says why not; either way the stream is told.
    pub fn create<R: ReadPages>(&mut self, id: StreamId, create: &Create<'_>, view: &View<'_, R>) {
        let current = view.revision;
        if self.live == 0 {
            self.skip_unwatched(view);
        }
        if let Err(why) = self.try_create(id, create, view) {
            self.push(id.0, Item::Refused { why, revision: current });
        }
    }

    fn try_create<R: ReadPages>(
        &mut self,
        id: StreamId,
        create: &Create<'_>,
        view: &View<'_, R>,
    ) -> Result<(), Refusal> {
        if create.start < 0 {
            return Err(Refusal::Compacted);
        }
        let keys = watched(create.keys)?;
        if create.id != 0 && self.stream(id.0).is_taken(create.id) {
            return Err(Refusal::DuplicateId);
        }
        let (current, start) = (view.revision, Revision(create.start));
        let stream = self.stream(id.0);
        let watch_id = if create.id == 0 { stream.pick_id() } else { create.id };
        let slot = self.table.next_slot();
        let number = self.push(id.0, Item::Created { watcher: slot, id: watch_id, revision: current });
        let is_past = create.start != 0 && start <= current;
        let behind = Behind { from: start, at: None, found: None };
        let member = self.index.insert(&keys, slot);
        self.table.insert(Watcher {
            stream: id.0,
            id: watch_id,
            options: create.options,
            member,
            start,
            min: if is_past { start } else { start.max(current.next()) },
            state: if is_past { State::Behind(behind) } else { State::Live },
            queued: 1,
            tail: number,
            told: false,
        });
        self.stream(id.0).watchers.insert(watch_id, slot);
        self.note_need(if is_past { start } else { current.next() });
        if is_past {
            self.behind += 1;
            self.stream(id.0).behind.push_back(slot);
        } else {
            self.live += 1;
        }
        if is_past && start < view.compacted && !seeded::is(Bug::IgnoreWatchCompaction) {
            self.remove(slot);
            self.stream(id.0).end(watch_id);
            self.push(id.0, Item::Compacted { id: watch_id, compacted: view.compacted });
        }
        Ok(())
    }

    /// Cancels a watcher; of an id that is not there nothing is said.
    pub fn cancel(&mut self, id: StreamId, watch_id: i64, current: Revision) {
        let stream = self.stream(id.0);
        match stream.watchers.get(&watch_id).copied() {
            Some(slot) => self.remove(slot),
            None if stream.forget_ended(watch_id) => {}
            None => return,
        }
        self.push(id.0, Item::Canceled { id: watch_id, revision: current });
    }

    /// Says how far the stream has come, if all its watchers have come as far as `current`; else nothing, as etcd.
    pub fn request_progress(&mut self, id: StreamId, current: Revision) {
        let slots: Vec<u32> = self.stream(id.0).watchers.values().copied().collect();
        let is_due = !slots.is_empty()
            && self.complete.revision >= current
            && slots.iter().all(|&slot| self.table.peek(slot).is_synced(current));
        if is_due || (seeded::is(Bug::ProgressBeforeEvents) && !slots.is_empty()) {
            self.stream(id.0).push_progress(PROGRESS_OF_ALL, current);
            self.mark_ready(id.0);
        }
    }

    /// Matches what was published against the live watchers. True when the budget was used up before the end; on
    /// `Cold` too it goes on from there the next time.
    pub fn on_published<R: ReadPages>(
        &mut self,
        now: Instant,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<bool, Cold> {
        if view.revision > self.complete.revision {
            if self.live == 0 {
                self.skip_unwatched(view);
            }
            let last = view.now()?.last;
            while self.matched < last {
                if !budget.spend() {
                    return Ok(true);
                }
                self.match_next(view)?;
            }
        }
        self.lag.note(now, Bound { seq: Seq(self.complete.seq.0 + 1), revision: self.complete.revision });
        Ok(false)
    }

    /// Without live watchers there is nobody to match anything against.
    fn skip_unwatched<R: ReadPages>(&mut self, view: &View<'_, R>) {
        if let Ok(now) = view.now() {
            self.matched = now.last;
            self.completed(Bound { seq: now.last, revision: view.revision });
        }
    }

    fn match_next<R: ReadPages>(&mut self, view: &View<'_, R>) -> Result<(), Cold> {
        let seq = Seq(self.matched.0 + 1);
        let record = view.history.record(seq)?.expect("what is not matched is not reclaimed");
        let (main, mut groups) = (record.main(), std::mem::take(&mut self.groups));
        self.index.stab(record.key(), &mut groups);
        for &group in &groups {
            for place in 0..self.index.watchers(group).len() {
                let slot = self.index.watchers(group)[place];
                let watcher = self.table.peek(slot);
                let concerned = watcher.is_live() && main >= watcher.min;
                if concerned && watcher.options.filter.keeps(&record) {
                    self.note(slot, main, seq);
                }
            }
        }
        self.groups = groups;
        self.matched = seq;
        self.lag.add_bytes(record.padded_len() as u64);
        if record.is_last() || seeded::is(Bug::SplitRevision) {
            self.completed(Bound { seq, revision: main });
        }
        Ok(())
    }

    /// A change concerns a live watcher.
    fn note(&mut self, slot: u32, main: Revision, seq: Seq) {
        let watcher = self.table.at(slot);
        let stream = self.streams[watcher.stream as usize].as_mut().expect("a watcher's stream is open");
        let split = seeded::is(Bug::SplitRevision);
        if watcher.queued > 0 && !split && stream.extend(watcher.tail, main, seq) {
            return;
        }
        if stream.events >= self.config.queue_max {
            let lost = u64::from(seeded::is(Bug::SkipAtBoundary));
            let at = Some(Seq(seq.0 + lost));
            watcher.state = State::Behind(Behind { from: main, at, found: None });
            stream.behind.push_back(slot);
            (self.live, self.behind) = (self.live - 1, self.behind + 1);
            return;
        }
        watcher.tail = stream.push(Item::Events { watcher: slot, revision: main, first: seq, last: seq });
        watcher.queued += 1;
        let stream = watcher.stream;
        self.mark_ready(stream);
    }

    fn completed(&mut self, bound: Bound) {
        self.complete = bound;
        for slot in std::mem::take(&mut self.parked) {
            self.mark_ready(slot);
        }
    }

    /// The next stream with something to tell. It is named again when there is more, unless [`Watchers::poll`] says
    /// otherwise.
    pub fn poll_ready(&mut self) -> Option<StreamId> {
        let slot = self.ready.pop()?;
        self.stream(slot).ready = false;
        Some(StreamId(slot))
    }

    /// When [`Watchers::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Tells watchers that want it, and have had no events for an interval, how far they have come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, slot)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let progress_at = (at + self.config.progress_interval).max(now);
            self.timers.insert((progress_at, slot));
            self.stream(slot).progress_at = progress_at;
            let watchers: Vec<(i64, u32)> =
                self.stream(slot).watchers.iter().map(|(id, slot)| (*id, *slot)).collect();
            for (id, watcher) in watchers {
                self.notify(slot, id, watcher);
            }
        }
    }

    fn notify(&mut self, stream: u32, id: i64, slot: u32) {
        let current = self.complete.revision;
        let watcher = self.table.at(slot);
        let told = std::mem::replace(&mut watcher.told, false);
        let synced = watcher.is_synced(current);
        // Notes that wait are news soon enough, and a client that does not read needs no more of them.
        if watcher.options.progress_notify && !told && synced && watcher.queued == 0 {
            self.stream(stream).push_progress(id, current);
            self.mark_ready(stream);
        }
    }

    /// Whether the stream's client asks and never reads; then the stream is to be ended.
    pub fn is_flooded(&self, id: StreamId) -> bool {
        self.streams[id.0 as usize].as_ref().is_some_and(|stream| stream.words() > WORDS_MAX)
    }

    /// What a reclaim must leave readable: this revision and all that came later. `None` if nobody needs anything.
    ///
    /// Asked for every turn, and found anew only every few milliseconds: cursors only move on, and a new watcher is
    /// counted at once, so an old answer is too careful and never wrong.
    pub fn oldest(&mut self, now: Instant) -> Option<Revision> {
        match self.oldest {
            Some((at, oldest)) if now.saturating_duration_since(at) < OLDEST_FOR => oldest,
            _ => {
                let oldest = self.find_oldest();
                self.oldest = Some((now, oldest));
                oldest
            }
        }
    }

    /// A watcher was created, which needs what a live one needs and, if it reads from the history, that.
    fn note_need(&mut self, from: Revision) {
        let need = Revision(from.min(self.complete.revision.next()).0 - 1).max(self.lag.bound().revision);
        if let Some((_, oldest)) = &mut self.oldest {
            *oldest = Some(oldest.map_or(need, |oldest| oldest.min(need)));
        }
    }

    fn find_oldest(&self) -> Option<Revision> {
        let streams = self.streams.iter().flatten();
        let needed = streams.filter_map(|stream| {
            let behind = stream.behind.iter().filter_map(|&slot| match &self.table.peek(slot).state {
                State::Behind(behind) => Some(behind.from),
                State::Live | State::Gone => None,
            });
            behind.chain(stream.sending).chain(stream.first_events()).min()
        });
        let unmatched = (self.live > 0).then(|| self.complete.revision.next());
        let oldest = needed.chain(unmatched).min()?;
        // The version before a change is told with it.
        Some(Revision(oldest.0 - 1).max(self.lag.bound().revision))
    }

    /// Numbers for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.streams.len() - self.free_streams.len(),
            watchers: self.live + self.behind,
            behind: self.behind,
            queued: self.streams.iter().flatten().map(|stream| stream.events).sum(),
        }
    }

    fn stream(&mut self, slot: u32) -> &mut Stream {
        self.streams[slot as usize].as_mut().expect("a stream that is named is open")
    }

    fn push(&mut self, slot: u32, item: Item) -> u64 {
        let number = self.stream(slot).push(item);
        self.mark_ready(slot);
        number
    }

    fn mark_ready(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.stream(slot).ready, true) {
            self.ready.push(slot);
        }
    }

    /// Takes a watcher out of everything but the queue.
    fn remove(&mut self, slot: u32) {
        let watcher = self.table.at(slot);
        let (stream, id, member) = (watcher.stream, watcher.id, watcher.member);
        let (was, queued) = (std::mem::replace(&mut watcher.state, State::Gone), watcher.queued);
        if let Some((moved, member)) = self.index.remove(member) {
            self.table.at(moved).member = member;
        }
        self.stream(stream).watchers.remove(&id);
        match was {
            State::Live => self.live -= 1,
            State::Behind(_) => {
                self.behind -= 1;
                self.stream(stream).behind.retain(|&other| other != slot);
            }
            State::Gone => unreachable!("watcher {id} was removed twice"),
        }
        if queued == 0 {
            self.table.free(slot);
        }
    }

    /// An item has left the queue. False if it tells of events and its watcher is gone.
    fn forget(&mut self, item: Item) -> bool {
        let (Item::Created { watcher: slot, .. } | Item::Events { watcher: slot, .. }) = item else {
            return true;
        };
        let watcher = self.table.at(slot);
        watcher.queued -= 1;
        let gone = matches!(watcher.state, State::Gone);
        if gone && watcher.queued == 0 {
            self.table.free(slot);
        }
        !gone || matches!(item, Item::Created { .. })
    }
}

/// The id in an answer to a client that asked for the progress of all its watchers.
pub const PROGRESS_OF_ALL: i64 = -1;

/// The keys as etcd understands them.
fn watched(keys: KeyRange<'_>) -> Result<Keys, Refusal> {
    let key = if keys.key.is_empty() { &[0][..] } else { keys.key };
    if let RangeEnd::Before(end) = keys.end
        && key >= end
    {
        return Err(Refusal::EmptyRange);
    }
    Ok(Keys::new(KeyRange { key, end: keys.end }))
}

#[cfg(test)]
mod tests;
