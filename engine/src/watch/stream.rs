//! One stream: its watchers by id, and what it has to tell, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::Refusal;
use crate::types::{Revision, Seq};

/// Something to tell. Watchers are named by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A watcher was created.
    Created { watcher: u32, id: i64, revision: Revision },
    /// None was.
    Refused { why: Refusal, revision: Revision },
    /// A watcher was cancelled.
    Canceled { id: i64, revision: Revision },
    /// A watcher cannot go on.
    Compacted { id: i64, compacted: Revision },
    /// All events up to a revision were told.
    Progress { id: i64, revision: Revision },
    /// Changes of one revision, from the first to the last that concern the watcher.
    Events { watcher: u32, revision: Revision, first: Seq, last: Seq },
}

/// A stream of watchers.
#[derive(Debug)]
pub struct Stream {
    /// Slots by id.
    pub watchers: BTreeMap<i64, u32>,
    /// Ids of watchers that a compaction cancelled: in use until their client cancels them too, as in etcd.
    ended: BTreeSet<i64>,
    /// Candidate for the next id that the server picks.
    next_id: i64,
    queue: VecDeque<Item>,
    /// Number of the item in front, counted from the stream's beginning.
    base: u64,
    /// Items that are events.
    pub events: usize,
    /// Watchers that read from the history, in turn.
    pub behind: VecDeque<u32>,
    /// First revision of the events that are being sent.
    pub sending: Option<Revision>,
    /// It is listed as ready.
    pub ready: bool,
    /// When progress is due.
    pub progress_at: Instant,
    /// The next word is for a watcher that is behind, if one has something.
    turn: bool,
}

impl Stream {
    pub fn new(progress_at: Instant) -> Stream {
        Stream {
            watchers: BTreeMap::new(),
            ended: BTreeSet::new(),
            next_id: 0,
            queue: VecDeque::new(),
            base: 0,
            events: 0,
            behind: VecDeque::new(),
            sending: None,
            ready: false,
            progress_at,
            turn: false,
        }
    }

    /// Whether it is the turn of those that are behind; then it is the queue's.
    pub fn take_turn(&mut self) -> bool {
        self.turn = !self.turn && !self.behind.is_empty();
        self.turn
    }

    /// Whether an id is in use.
    pub fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }

    /// A compaction cancelled the watcher with this id.
    pub fn end(&mut self, id: i64) {
        self.ended.insert(id);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
    }

    /// The client cancels a watcher that was cancelled before.
    pub fn forget_ended(&mut self, id: i64) -> bool {
        self.ended.remove(&id)
    }

    /// An id that is free and was not picked before.
    pub fn pick_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Appends an item and returns its number.
    pub fn push(&mut self, item: Item) -> u64 {
        self.events += usize::from(matches!(item, Item::Events { .. }));
        self.queue.push_back(item);
        self.base + self.queue.len() as u64 - 1
    }

    /// Adds a change to the events with this number, if they are still here and of the same revision.
    pub fn extend(&mut self, number: u64, main: Revision, seq: Seq) -> bool {
        let place = number.checked_sub(self.base).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.queue.get_mut(place)) {
            Some(Item::Events { revision, last, .. }) if *revision == main => {
                *last = seq;
                true
            }
            _ => false,
        }
    }

    /// Says how far the stream has come, in the last word if that is one about progress too.
    pub fn push_progress(&mut self, id: i64, current: Revision) {
        match self.queue.back_mut() {
            Some(Item::Progress { id: last, revision }) if *last == id => *revision = current,
            _ => drop(self.push(Item::Progress { id, revision: current })),
        }
    }

    pub fn front(&self) -> Option<&Item> {
        self.queue.front()
    }

    pub fn pop(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.base += 1;
        self.events -= usize::from(matches!(item, Item::Events { .. }));
        if self.queue.is_empty() && self.queue.capacity() > QUEUE_KEPT {
            self.queue = VecDeque::new();
        }
        Some(item)
    }

    /// Items that are not events.
    pub fn words(&self) -> usize {
        self.queue.len() - self.events
    }

    /// Revision of the first events in the queue.
    pub fn first_events(&self) -> Option<Revision> {
        self.queue.iter().find_map(|item| match item {
            Item::Events { revision, .. } => Some(*revision),
            _ => None,
        })
    }
}

/// Ids that are kept in use by watchers that are over.
const ENDED_MAX: usize = 1024;

/// Items an empty queue keeps room for.
const QUEUE_KEPT: usize = 64;
