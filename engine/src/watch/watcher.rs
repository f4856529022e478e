//! One watcher, and the table of all.

use super::keys::Membership;
use crate::mvcc::history::record::Record;
use crate::request::KeyRange;
use crate::types::{Revision, Seq};

/// Which kinds of change are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Puts.
    pub no_put: bool,
    /// Deletes.
    pub no_delete: bool,
}

impl Filter {
    /// Whether a change is told.
    pub fn keeps(self, record: &Record<'_>) -> bool {
        if record.is_tombstone() { !self.no_delete } else { !self.no_put }
    }
}

/// What a client wants to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create<'a> {
    /// Which keys; an empty first key stands for the smallest one.
    pub keys: KeyRange<'a>,
    /// First revision of interest; 0 is the next one.
    pub start: i64,
    /// The id it wants; 0 leaves the choice to us.
    pub id: i64,
    /// How it is told.
    pub options: Options,
}

/// How a watcher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is left out.
    pub filter: Filter,
    /// With the values before.
    pub prev_kv: bool,
    /// Long responses come in parts.
    pub fragment: bool,
    /// With news of progress when there is no other.
    pub progress_notify: bool,
}

/// A watcher.
#[derive(Debug)]
pub struct Watcher {
    /// Its stream's slot.
    pub stream: u32,
    /// Its id there.
    pub id: i64,
    /// How it is told.
    pub options: Options,
    /// Where it stands among those of the same keys.
    pub member: Membership,
    /// First revision of interest as its client said it; 0 for the next one.
    pub start: Revision,
    /// Changes of earlier revisions are not its.
    pub min: Revision,
    /// Where it is.
    pub state: State,
    /// Items of it in its stream's queue.
    pub queued: u32,
    /// Number of the newest of them.
    pub tail: u64,
    /// It was told of events since progress was due last.
    pub told: bool,
}

/// Where a watcher is.
#[derive(Debug)]
pub enum State {
    /// All that is matched was told or is queued.
    Live,
    /// It reads from the history.
    Behind(Behind),
    /// It was cancelled; its slot waits until the queue does not name it any more.
    Gone,
}

/// A watcher that reads from the history.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// Earlier revisions were told.
    pub from: Revision,
    /// The next record to look at, once known.
    pub at: Option<Seq>,
    /// Events found and not told yet.
    pub found: Option<Found>,
}

/// Events that will be told together.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The first.
    pub first: Seq,
    /// The last one yet.
    pub last: Seq,
    /// Revision of the last.
    pub newest: Revision,
    /// Revisions that have any.
    pub revisions: u32,
}

impl Watcher {
    /// Where it reads, if it reads from the history.
    pub fn behind(&mut self) -> Option<&mut Behind> {
        match &mut self.state {
            State::Behind(behind) => Some(behind),
            State::Live | State::Gone => None,
        }
    }

    /// Whether nothing up to what is matched is missing.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live)
    }

    /// Whether it can speak of progress: etcd's rule, by which one that waits for the future cannot.
    pub fn is_synced(&self, current: Revision) -> bool {
        self.is_live() && self.start <= current
    }
}

/// All watchers, by slot. A slot is used again when nothing names it.
#[derive(Debug, Default)]
pub struct Table {
    slots: Vec<Option<Watcher>>,
    free: Vec<u32>,
}

impl Table {
    /// The slot that the next watcher gets.
    pub fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    /// Adds a watcher in [`Table::next_slot`].
    pub fn insert(&mut self, watcher: Watcher) {
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize] = Some(watcher),
            None => self.slots.push(Some(watcher)),
        }
    }

    /// The watcher in a slot that something names.
    pub fn at(&mut self, slot: u32) -> &mut Watcher {
        self.slots[slot as usize].as_mut().expect("a slot that is named is taken")
    }

    /// The same, for reading.
    pub fn peek(&self, slot: u32) -> &Watcher {
        self.slots[slot as usize].as_ref().expect("a slot that is named is taken")
    }

    /// Nothing names the slot any more.
    pub fn free(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }

    /// Watchers, those that are gone and still named included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
