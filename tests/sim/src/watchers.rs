//! What simulated watchers were told, and whether it could be right: the nine guarantees of etcd's watch API, decided
//! without the product's code.
//!
//! | guarantee | where |
//! |---|---|
//! | ordered, unique, atomic | [`Watcher::hear`]: revisions rise from response to response, none is in two |
//! | reliable, filtered, previous values, resumable | [`Watcher::settle`]: exactly the changes of the model, over all lives of the server |
//! | bookmarkable | the same, up to the revision of each news of progress |
//! | compaction is told | [`Watcher::cancelled`], and [`Watcher::settle`] for watchers that should have been |
//!
//! A watcher outlives the server: after a crash it asks for what follows the last revision it has seen.

use bytes::Bytes;
use engine::disk::pcg::Pcg;

use crate::call::{Keys, Kv};
use crate::model::{Change, Model};

/// An event as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its revision.
    pub revision: i64,
    /// What it did.
    pub change: Change,
    /// The value before.
    pub prev: Option<Kv>,
}

/// A watcher as its client knows it.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// What it watches.
    pub keys: Keys,
    /// Without puts, without deletes.
    pub filters: [bool; 2],
    /// With previous values.
    pub prev_kv: bool,
    /// With news of progress.
    pub progress_notify: bool,
    /// The revision it asks for next; 0 while the server has not said what the next one is.
    pub next: i64,
    /// The first revision it owes.
    first: i64,
    told: Vec<Told>,
    /// All events up to this revision were told.
    complete: i64,
    /// The compaction when it was asked for last. What was written and overwritten in that revision is dead, and a watcher
    /// from there need not hear of it, as in etcd.
    pub compacted: i64,
    /// It was asked for below a compaction that was known then, and must be cancelled.
    pub doomed: bool,
    /// It is over.
    pub over: bool,
}

impl Watcher {
    /// One that is about to be asked for, when the newest revision is about `current`.
    pub fn new(pcg: &mut Pcg, keys: Keys, current: i64) -> Watcher {
        let next = match pcg.below(5) {
            0 | 1 => 0,
            2 => current + pcg.below(4) as i64,
            _ => (current - pcg.below(40) as i64).max(1),
        };
        Watcher {
            keys,
            filters: [pcg.one_in(6), pcg.one_in(6)],
            prev_kv: pcg.one_in(2),
            progress_notify: pcg.one_in(2),
            next,
            first: next,
            told: Vec::new(),
            complete: 0,
            compacted: -1,
            doomed: false,
            over: false,
        }
    }

    /// It was created, when the revision was `current`.
    pub fn created(&mut self, current: i64) {
        if self.next == 0 {
            self.next = current + 1;
        }
        if self.first == 0 {
            self.first = self.next;
        }
    }

    /// A response with events, and the revision of its header.
    pub fn hear(&mut self, header: i64, events: Vec<Told>) -> Result<(), String> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Err("a response without events".into());
        };
        if first.revision < self.next {
            return Err(format!(
                "a watcher was told {first:?} again, or out of order: {} was next",
                self.next
            ));
        }
        if !events.is_sorted_by_key(|event| event.revision) || header < last.revision {
            return Err(format!("a watcher was told {events:?} under the header of revision {header}"));
        }
        self.next = last.revision + 1;
        self.told.extend(events);
        Ok(())
    }

    /// News of progress; those for a whole stream are not for a watcher that is over.
    pub fn progress(&mut self, revision: i64) {
        if self.over {
            return;
        }
        self.complete = self.complete.max(revision);
        self.next = self.next.max(revision + 1);
    }

    /// The server cancelled it, because of the compaction at `compacted`.
    pub fn cancelled(&mut self, compacted: i64) -> Result<(), String> {
        self.over = true;
        if self.next < compacted {
            return Ok(());
        }
        Err(format!("a watcher at {} was cancelled by the compaction at {compacted}", self.next))
    }

    /// Compares with what is stored. With `all`, nothing may be missing.
    pub fn settle(&mut self, model: &Model, compacted: i64, all: bool) -> Result<(), String> {
        if self.doomed && !self.over && all {
            return Err(format!("a watcher from {} was not told that it is compacted", self.first));
        }
        if self.first == 0 {
            return Ok(());
        }
        let told_up_to = self.told.last().map_or(0, |told| told.revision);
        let up_to = match all && !self.over {
            true => model.revision(),
            false => told_up_to.max(self.complete).min(model.revision()),
        };
        if told_up_to > model.revision() {
            return Err(format!(
                "a watcher was told of revision {told_up_to}; the store ends at {}",
                model.revision()
            ));
        }
        let mut told = self.told.iter().peekable();
        for revision in self.first..=up_to {
            let changes = model.changes(revision);
            for (nth, change) in changes.iter().enumerate().filter(|(_, change)| self.wants(change)) {
                let same = |told: &&Told| told.revision == revision && told.change == *change;
                let Some(found) = told.next_if(same) else {
                    let overwritten = changes[nth + 1..].iter().any(|later| later.key == change.key);
                    if overwritten && revision <= self.compacted {
                        continue;
                    }
                    return Err(format!(
                        "a watcher from {} of {:?} missed {change:?} at revision {revision}; it was told {:?}, and \
                         complete up to {}, and came last when the compaction was {}",
                        self.first, self.keys, self.told, self.complete, self.compacted
                    ));
                };
                self.check_prev(found, model, compacted)?;
            }
        }
        if let Some(more) = told.next() {
            return Err(format!(
                "a watcher of {:?} was told {more:?}, which is not its or not so",
                self.keys
            ));
        }
        // What was compared need not be compared again.
        self.first = self.first.max(up_to + 1);
        self.told.clear();
        Ok(())
    }

    fn wants(&self, change: &Change) -> bool {
        let filtered = self.filters[usize::from(change.kv.is_none())];
        !filtered && self.keys.contains(&change.key)
    }

    fn check_prev(&self, told: &Told, model: &Model, compacted: i64) -> Result<(), String> {
        let before = told.revision - 1;
        let created = told.change.kv.as_ref().is_some_and(|kv| kv.created == told.revision);
        let right = model.get(&told.change.key, before).filter(|_| self.prev_kv && !created);
        let may_lack = before < compacted && told.prev.is_none();
        if told.prev.as_ref() == right || may_lack {
            return Ok(());
        }
        Err(format!("the previous value of {told:?} should be {right:?}"))
    }
}

/// A key or a range of the workload's keys.
pub fn any_keys(pcg: &mut Pcg) -> Keys {
    let key = |pcg: &mut Pcg| Bytes::from(format!("k{:03}", pcg.below(9)));
    match pcg.below(5) {
        0 => Keys::all(),
        1 => Keys { key: key(pcg), end: Bytes::from_static(b"\0") },
        2 => Keys { key: Bytes::from_static(b"k"), end: Bytes::from_static(b"l") },
        _ => Keys::one(key(pcg)),
    }
}
