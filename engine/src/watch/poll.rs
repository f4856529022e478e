//! What a stream tells next: the notes in its queue, and in turn with them what its watchers find that are behind.

use super::keys::Keys;
use super::search::{self, Events, Gaps, Search};
use super::stream::Item;
use super::watcher::{Found, State, Watcher};
use super::{PROGRESS_OF_ALL, Refusal, StreamId, Watchers};
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::types::{Revision, Seq};

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A watcher was created.
    Created {
        /// Its id.
        id: i64,
        /// The current revision.
        revision: Revision,
    },
    /// None was.
    Refused {
        /// Why.
        why: Refusal,
        /// The current revision.
        revision: Revision,
    },
    /// A watcher was cancelled, as its client wished.
    Canceled {
        /// Its id, which is free again.
        id: i64,
        /// The current revision.
        revision: Revision,
    },
    /// A watcher is over, because what it would be told next is compacted.
    Compacted {
        /// Its id, which is free again.
        id: i64,
        /// The compaction revision.
        compacted: Revision,
    },
    /// All events of the watcher up to a revision were told before.
    Progress {
        /// Its id, or [`PROGRESS_OF_ALL`].
        id: i64,
        /// The revision.
        revision: Revision,
    },
    /// Events.
    Events(Batch),
}

/// Events of one watcher that are told in one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The watcher.
    pub id: i64,
    /// Revision of the response's header.
    pub revision: Revision,
    /// It may be told in parts if it is long.
    pub fragment: bool,
    /// Which.
    pub events: Events,
}

/// What comes next of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// This is to be told; then poll again.
    Message(Message),
    /// The budget is used up: poll again in the next turn.
    More,
    /// Nothing, until the stream is ready again.
    Idle,
}

/// How a look at a watcher that is behind ended.
enum Step {
    Message(Message),
    More,
    /// Nothing to tell, but the watcher has moved on.
    Moved,
    /// It waits, for its own notes to be told or for a revision to be complete.
    Waits,
}

impl Watchers {
    /// What the stream tells next. The batch given last is told by then.
    ///
    /// On `Cold` nothing has changed.
    pub fn poll<R: ReadPages>(
        &mut self,
        id: StreamId,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Poll, Cold> {
        self.stream(id.0).sending = None;
        loop {
            if self.stream(id.0).take_turn() {
                match self.poll_behind(id.0, view, budget)? {
                    Step::Message(message) => return Ok(Poll::Message(message)),
                    Step::More => return Ok(Poll::More),
                    Step::Moved => continue,
                    Step::Waits => {}
                }
            }
            if let Some(message) = self.poll_queue(id.0, view) {
                return Ok(Poll::Message(message));
            }
            return match self.poll_behind(id.0, view, budget)? {
                Step::Message(message) => Ok(Poll::Message(message)),
                Step::More => Ok(Poll::More),
                Step::Moved => continue,
                Step::Waits => {
                    self.park(id.0);
                    Ok(Poll::Idle)
                }
            };
        }
    }

    /// Remembers a stream whose watchers wait for a revision to be complete.
    fn park(&mut self, slot: u32) {
        let waits = !self.stream(slot).behind.is_empty() || self.stream(slot).front().is_some();
        if waits && !self.parked.contains(&slot) {
            self.parked.push(slot);
        }
    }

    fn poll_queue<R: ReadPages>(&mut self, slot: u32, view: &View<'_, R>) -> Option<Message> {
        loop {
            let complete = self.complete.revision;
            match self.stream(slot).front()? {
                Item::Events { revision, .. } if *revision > complete => return None,
                _ => {}
            }
            let item = self.stream(slot).pop()?;
            if let Item::Progress { id, .. } = item
                && id != PROGRESS_OF_ALL
                && !self.stream(slot).watchers.contains_key(&id)
            {
                // A compaction ended it meanwhile, which those that are behind hear out of turn.
                continue;
            }
            if self.forget(item)
                && let Some(message) = self.message(item, view)
            {
                return Some(message);
            }
        }
    }

    fn message<R: ReadPages>(&mut self, item: Item, view: &View<'_, R>) -> Option<Message> {
        Some(match item {
            Item::Created { id, revision, .. } => Message::Created { id, revision },
            Item::Refused { why, revision } => Message::Refused { why, revision },
            Item::Canceled { id, revision } => Message::Canceled { id, revision },
            Item::Compacted { id, compacted } => Message::Compacted { id, compacted },
            Item::Progress { id, revision } => Message::Progress { id, revision },
            Item::Events { watcher, revision, first, .. } if self.is_lost(first, revision, view) => {
                self.give_up(watcher, view)
            }
            Item::Events { watcher, revision, first, last } => {
                self.batch(watcher, revision, revision, (first, last), view)
            }
        })
    }

    /// Whether what a watcher needs next may be gone.
    fn is_lost<R: ReadPages>(&self, first: Seq, from: Revision, view: &View<'_, R>) -> bool {
        from < view.compacted && first < self.lag.bound().seq
    }

    fn give_up<R: ReadPages>(&mut self, slot: u32, view: &View<'_, R>) -> Message {
        let Watcher { id, stream, .. } = *self.table.peek(slot);
        self.remove(slot);
        self.stream(stream).end(id);
        Message::Compacted { id, compacted: view.compacted }
    }

    fn batch<R: ReadPages>(
        &mut self,
        slot: u32,
        header: Revision,
        from: Revision,
        (first, last): (Seq, Seq),
        view: &View<'_, R>,
    ) -> Message {
        let watcher = self.table.at(slot);
        watcher.told = true;
        let keys: Option<Keys> = (first != last).then(|| self.index.keys(watcher.member).clone());
        let options = watcher.options;
        let events = Events {
            keys,
            filter: options.filter,
            prev_kv: options.prev_kv,
            at: first,
            last,
            compacted: view.compacted,
        };
        let (stream, id) = (watcher.stream, watcher.id);
        self.stream(stream).sending = Some(from);
        Message::Events(Batch { id, revision: header, fragment: options.fragment, events })
    }

    /// Lets the next watcher that is behind go on.
    fn poll_behind<R: ReadPages>(
        &mut self,
        stream: u32,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Step, Cold> {
        let Some(&slot) = self.stream(stream).behind.front() else { return Ok(Step::Waits) };
        if self.table.peek(slot).queued > 0 {
            return Ok(Step::Waits);
        }
        let start = self.locate(slot, view)?;
        let behind = *self.table.at(slot).behind().expect("only such watchers are listed");
        if self.is_lost(behind.found.map_or(start, |found| found.first), behind.from, view) {
            return Ok(Step::Message(self.give_up(slot, view)));
        }
        self.advance(slot, start, view, budget)
    }

    /// Where a watcher goes on.
    fn locate<R: ReadPages>(&mut self, slot: u32, view: &View<'_, R>) -> Result<Seq, Cold> {
        let behind = self.table.at(slot).behind().expect("only such watchers are listed");
        if behind.at.is_none() {
            let before = view.history.last_seq_at(Revision(behind.from.0 - 1))?;
            behind.at = Some(Seq(before.0 + 1));
        }
        Ok(behind.at.expect("just set"))
    }

    /// Collects events until there are enough for a response, or no more.
    fn advance<R: ReadPages>(
        &mut self,
        slot: u32,
        mut at: Seq,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Step, Cold> {
        let (limit, revisions_max) = (self.complete.seq, self.config.batch_revisions_max);
        let watcher = self.table.at(slot);
        let (keys, filter) = (self.index.keys(watcher.member), watcher.options.filter);
        let State::Behind(behind) = &mut watcher.state else { unreachable!("only such watchers advance") };
        loop {
            match search::next(view, keys, filter, (at, limit), Gaps::Passed, budget)? {
                Search::Found(record) => {
                    let main = record.main();
                    let is_new = behind.found.is_none_or(|found| found.newest < main);
                    if is_new && behind.found.is_some_and(|found| found.revisions == revisions_max) {
                        return Ok(Step::Message(self.tell_found(slot, main, record.seq(), view)));
                    }
                    let found = behind.found.get_or_insert(Found {
                        first: record.seq(),
                        last: record.seq(),
                        newest: main,
                        revisions: 0,
                    });
                    (found.last, found.newest) = (record.seq(), main);
                    found.revisions += u32::from(is_new);
                    at = Seq(record.seq().0 + 1);
                }
                Search::Stopped(stopped) => {
                    behind.at = Some(stopped);
                    return Ok(Step::More);
                }
                Search::End => break,
                Search::Gap => unreachable!("gaps are passed"),
            }
            behind.at = Some(at);
            if budget.0 == 0 {
                return Ok(Step::More);
            }
        }
        self.reach_end(slot, view)
    }

    /// A watcher has seen all complete revisions.
    fn reach_end<R: ReadPages>(&mut self, slot: u32, view: &View<'_, R>) -> Result<Step, Cold> {
        let (complete, is_whole) = (self.complete, self.matched == self.complete.seq);
        let stream = self.table.peek(slot).stream;
        let behind = self.table.at(slot).behind().expect("only such watchers reach the end");
        let is_found = behind.found.is_some();
        let next = Seq(complete.seq.0 + 1);
        if is_found {
            let message = self.tell_found(slot, complete.revision.next(), next, view);
            if is_whole {
                self.join(slot, stream);
            }
            return Ok(Step::Message(message));
        }
        // It may begin behind what is matched so far, and must not be sent back.
        let at = behind.at.map_or(next, |at| at.max(next));
        (behind.from, behind.at) = (behind.from.max(complete.revision.next()), Some(at));
        if !is_whole {
            return Ok(Step::Waits);
        }
        self.join(slot, stream);
        Ok(Step::Moved)
    }

    /// A watcher that has caught up is live again.
    fn join(&mut self, slot: u32, stream: u32) {
        self.table.at(slot).state = State::Live;
        (self.live, self.behind) = (self.live + 1, self.behind - 1);
        // It was in front, or has just been put behind the others.
        let list = &mut self.stream(stream).behind;
        let last = if list.front() == Some(&slot) { list.pop_front() } else { list.pop_back() };
        assert_eq!(last, Some(slot), "a watcher that has caught up was at neither end of its list");
    }

    /// Tells what was found; the watcher goes on at `next`, the first record of revision `from`, after the others.
    fn tell_found<R: ReadPages>(
        &mut self,
        slot: u32,
        from: Revision,
        next: Seq,
        view: &View<'_, R>,
    ) -> Message {
        let watcher = self.table.at(slot);
        let stream = watcher.stream;
        let behind = watcher.behind().expect("only such watchers find events");
        let found = behind.found.take().expect("the caller has looked");
        let told_from = std::mem::replace(&mut behind.from, from);
        behind.at = Some(next);
        self.stream(stream).behind.rotate_left(1);
        // As etcd says it: the current revision, also before later batches.
        self.batch(slot, self.complete.revision, told_from, (found.first, found.last), view)
    }
}
