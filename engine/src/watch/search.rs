//! The events of one watcher, read from the history.
//!
//! A single key's events lie on the chain of its versions, so that nothing else is looked at, however much was written
//! meanwhile; those of a range are found by looking at every record. Both go from one event to the next and keep
//! nothing.

use super::Filter;
use super::keys::Keys;
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::history::History;
use crate::mvcc::history::record::Record;
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::seeded::{self, Bug};
use crate::types::{Revision, Seq};

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search<'a> {
    /// The next record that concerns the watcher.
    Found(Record<'a>),
    /// There is none before this one; the budget is used up.
    Stopped(Seq),
    /// There is none.
    End,
    /// A record that must be there is not.
    Gap,
}

/// What it means that a record is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// It was reclaimed before anybody waited who may still be told of it.
    Passed,
    /// All of these were there when they were named: something is lost.
    Lost,
}

/// Looks for the first record of `keys` that `filter` keeps, from `at` on, up to `limit`.
pub fn next<'a, R: ReadPages>(
    view: &View<'a, R>,
    keys: &Keys,
    filter: Filter,
    (at, limit): (Seq, Seq),
    gaps: Gaps,
    budget: &mut Budget,
) -> Result<Search<'a>, Cold> {
    let mut at = at;
    while at <= limit {
        let found = match keys {
            Keys::One(key) => match next_of_key(view, key, at, gaps, budget)? {
                Search::Found(record) if record.seq() > limit => return Ok(Search::End),
                Search::Found(record) => record,
                other => return Ok(other),
            },
            Keys::Range(..) => match next_in_range(view.history, keys, (at, limit), gaps, budget)? {
                Search::Found(record) => record,
                other => return Ok(other),
            },
        };
        if filter.keeps(&found) {
            return Ok(Search::Found(found));
        }
        at = Seq(found.seq().0 + 1);
        if !budget.spend() {
            return Ok(Search::Stopped(at));
        }
    }
    Ok(Search::End)
}

/// The first version of a key from `at` on: down the chain from its newest, with jumps as far as they lead there.
///
/// What a jump leads to may be reclaimed although newer versions are not: a revision that put a key and deleted it, and is
/// the compaction's own, keeps the deletion alone. Then the way is step by step.
fn next_of_key<'a, R: ReadPages>(
    view: &View<'a, R>,
    key: &[u8],
    at: Seq,
    gaps: Gaps,
    budget: &mut Budget,
) -> Result<Search<'a>, Cold> {
    let missing = match gaps {
        Gaps::Passed => Search::End,
        Gaps::Lost => Search::Gap,
    };
    // Of a deleted key reclaim may have taken the tombstone, and then all of its versions.
    let Some(newest) = view.index.get(key)? else { return Ok(missing) };
    if newest.seq < at {
        return Ok(Search::End);
    }
    let Some(mut found) = view.history.record(newest.seq)? else { return Ok(missing) };
    loop {
        budget.spend();
        let mut older = [found.jump(), found.prev()].into_iter().flatten().filter(|older| *older >= at);
        found = loop {
            let Some(older) = older.next() else { return Ok(Search::Found(found)) };
            match view.history.record(older)? {
                Some(record) => break record,
                None if gaps == Gaps::Lost => return Ok(Search::Gap),
                None => {}
            }
        };
    }
}

fn next_in_range<'a>(
    history: &'a History,
    keys: &Keys,
    (at, limit): (Seq, Seq),
    gaps: Gaps,
    budget: &mut Budget,
) -> Result<Search<'a>, Cold> {
    for seq in (at.0..=limit.0).map(Seq) {
        if !budget.spend() {
            return Ok(Search::Stopped(seq));
        }
        match history.record(seq) {
            // What was passed need not be passed again.
            Err(_) if seq > at => return Ok(Search::Stopped(seq)),
            Err(cold) => return Err(cold),
            Ok(Some(record)) if keys.contain(record.key()) => return Ok(Search::Found(record)),
            Ok(None) if gaps == Gaps::Lost => return Ok(Search::Gap),
            Ok(_) => {}
        }
    }
    Ok(Search::End)
}

/// One change, with the version before its revision if that was asked for and is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The change.
    pub record: Record<'a>,
    /// The value before.
    pub prev: Option<Record<'a>>,
}

/// What comes next of [`Events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// An event.
    Event(Event<'a>),
    /// The budget is used up.
    More,
    /// All were told.
    End,
    /// The history no longer has them; whoever was this slow has lost its place.
    Lost,
}

/// Events to be sent together, by name: reading them again gives the same ones. Equal values name equal events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Of these keys; `None` if first and last are the only one.
    pub(super) keys: Option<Keys>,
    pub(super) filter: Filter,
    pub(super) prev_kv: bool,
    /// The next record to look at.
    pub(super) at: Seq,
    /// The last event.
    pub(super) last: Seq,
    /// Values before this revision are not told.
    pub(super) compacted: Revision,
}

impl Events {
    /// Reads the next event.
    pub fn next<'a, R: ReadPages>(
        &mut self,
        view: &View<'a, R>,
        budget: &mut Budget,
    ) -> Result<Next<'a>, Cold> {
        if self.at > self.last {
            return Ok(Next::End);
        }
        let record = match &self.keys {
            None => match view.history.record(self.at)? {
                None => return Ok(Next::Lost),
                Some(record) => record,
            },
            Some(keys) => match search(view, keys, self.filter, (self.at, self.last), Gaps::Lost, budget)? {
                Search::Found(record) => record,
                // The last event was there when it was named.
                Search::End | Search::Gap => return Ok(Next::Lost),
                Search::Stopped(at) => {
                    self.at = at;
                    return Ok(Next::More);
                }
            },
        };
        let prev = if self.prev_kv { previous(view.history, &record, self.compacted)? } else { None };
        self.at = Seq(record.seq().0 + 1);
        Ok(Next::Event(Event { record, prev }))
    }

    /// A number that is often another one for other events.
    pub fn number(&self) -> u64 {
        self.last.0
    }
}

use next as search;

/// The value a key had before the revision of `record`: none for a creation, or if it is compacted.
fn previous<'a>(
    history: &'a History,
    record: &Record<'a>,
    compacted: Revision,
) -> Result<Option<Record<'a>>, Cold> {
    let main = record.main();
    let created = !record.is_tombstone() && record.fields().create_revision == main.0;
    if (created && !seeded::is(Bug::PrevOfCreation)) || main.0 - 1 < compacted.0 {
        return Ok(None);
    }
    let mut at = record.prev();
    while let Some(seq) = at {
        let Some(prev) = history.record(seq)? else { return Ok(None) };
        if prev.main() < main {
            let existed = !prev.is_tombstone() || seeded::is(Bug::PrevOfCreation);
            return Ok(existed.then_some(prev));
        }
        at = prev.prev();
    }
    Ok(None)
}
