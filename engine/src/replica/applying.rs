//! Committed entries into answers: in order, one at a time, in slices.

use std::collections::VecDeque;
use std::time::Instant;

use raft::{ConfChange, Entry, EntryKind, LogIndex};

use super::{Coming, Fatal, Replica};
use crate::apply::{Answer, Applying};
use crate::command::RequestId;
use crate::map::Tag;
use crate::members::change::Proposed;
use crate::mvcc::index::Root;
use crate::mvcc::range::Progress;
use crate::mvcc::store::State;
use crate::mvcc::walk::Budget;
use crate::seeded::{self, Bug};
use crate::wal::EntryId;

/// Committed and not applied.
#[derive(Debug, Default)]
pub struct ApplyQueue {
    entries: VecDeque<Entry>,
    /// The command under way, of the entry in front.
    current: Option<Applying>,
    /// It waits for something cold.
    cold: bool,
    /// Answers of commands that are applied and not published.
    answers: Vec<(RequestId, Answer)>,
    /// The last entry applied, published or not.
    applied: EntryId,
    /// The last entry whose effect is published.
    published: EntryId,
    /// When something was applied last.
    pub last_at: Option<Instant>,
}

impl ApplyQueue {
    /// Nothing to do; the store holds the effects of all entries up to `applied`.
    pub fn new(applied: EntryId) -> ApplyQueue {
        ApplyQueue { applied, published: applied, ..ApplyQueue::default() }
    }

    /// Adds committed entries.
    pub fn extend(&mut self, entries: Vec<Entry>) {
        self.entries.extend(entries);
    }

    /// Something was brought in: try again.
    pub fn warmed(&mut self) {
        self.cold = false;
    }

    /// The last entry whose effect readers see.
    pub fn published(&self) -> EntryId {
        self.published
    }

    /// No command is half applied and all that is applied is published.
    pub fn is_settled(&self) -> bool {
        self.current.is_none() && self.applied == self.published
    }

    /// Whether there is anything left to apply now.
    pub fn has_work(&self) -> bool {
        !self.entries.is_empty() && !self.cold
    }
}

impl Replica {
    /// Applies what is committed until the turn's budget is used up, and publishes it.
    pub(super) fn apply(&mut self, now: Instant) -> Result<(), Fatal> {
        let mut budget = self.config.apply_slice;
        while self.applies.has_work() && budget.0 > 0 {
            if !self.apply_front(now, &mut budget)? {
                break;
            }
        }
        if self.applies.current.is_none() && self.applies.applied != self.applies.published {
            self.publish(now)?;
        }
        Ok(())
    }

    /// Whether a turn left something behind: because its budget was used up, or leases to revoke.
    pub fn has_more(&self) -> bool {
        let waits = !self.events.is_empty()
            || self.has_expired_leases()
            || self.renewals.has_work()
            || self.transfers.has_work();
        waits || self.applies.has_work() || self.hashing.has_work() || self.reclaims_on()
    }

    /// Goes on with the entry in front; false if it must wait.
    fn apply_front(&mut self, now: Instant, budget: &mut Budget) -> Result<bool, Fatal> {
        let entry = self.applies.entries.front().expect("there is work");
        let id = EntryId { index: entry.index.0, term: entry.term.0 };
        assert_eq!(id.index, self.applies.applied.index + 1, "entries are applied in order");
        match entry.kind {
            EntryKind::ConfChange => {
                let change = ConfChange::decode(&entry.data);
                let change = change.map_err(|_| undecodable(id.index))?;
                let proposed = Proposed::decode(&change).ok_or_else(|| undecodable(id.index))?;
                match self.configure(id.index, &change, &proposed) {
                    Ok(answer) => {
                        let waits = proposed.request.map(|request| (request, answer));
                        self.applies.answers.extend(waits);
                    }
                    Err(cold) => {
                        self.applies.cold = self.want(&cold)? != Coming::Now;
                        return Ok(true);
                    }
                }
            }
            EntryKind::Normal if entry.data.is_empty() => {}
            EntryKind::Normal => {
                if self.applies.current.is_none() {
                    let begun = Applying::new(entry.data.clone());
                    self.applies.current = Some(begun.map_err(|_| undecodable(id.index))?);
                }
                let current = self.applies.current.as_mut().expect("just begun");
                match current.advance(&mut self.store, budget) {
                    Ok(Progress::Done(answer)) if seeded::is(Bug::AnswerBeforePublish) => {
                        let id = current.id();
                        self.applies.current = None;
                        self.deliver(now, id, answer);
                    }
                    Ok(Progress::Done(answer)) => {
                        self.applies.answers.push((current.id(), answer));
                        self.applies.current = None;
                    }
                    Ok(Progress::More) => return Ok(false),
                    Err(cold) => {
                        self.applies.cold = self.want(&cold)? != Coming::Now;
                        return Ok(true);
                    }
                }
            }
        }
        self.applies.entries.pop_front();
        self.applies.applied = id;
        Ok(true)
    }

    /// Makes the version being built visible; false if something is cold.
    pub(super) fn show(&mut self) -> Result<bool, Fatal> {
        let (root, state) = match self.store.publish() {
            Ok(published) => published,
            Err(cold) => {
                self.applies.cold = self.want(&cold)? != Coming::Now;
                return Ok(false);
            }
        };
        if root.height > 0 {
            self.publish_pages(root, state);
        }
        Ok(true)
    }

    /// The same version in the page memory.
    pub(super) fn publish_pages(&mut self, root: Root, state: State) {
        let tag: Tag = [
            u64::from(root.height),
            root.live,
            root.entries,
            state.revision.0 as u64,
            state.compacted.0 as u64,
            self.store.history().next_seq().0,
        ];
        self.store.pages_mut().publish(root.page, tag);
    }

    /// Makes what is applied visible and lets its answers go.
    fn publish(&mut self, now: Instant) -> Result<(), Fatal> {
        if !self.show()? {
            return Ok(());
        }
        for (before, revision) in self.store.take_compactions() {
            self.hashing.push(before, revision);
        }
        self.applies.published = self.applies.applied;
        self.applies.last_at = Some(now);
        self.raft.applied(LogIndex(self.applies.applied.index));
        if self.raft.conf_state().members().count() == 1 {
            // Nobody will ask for these entries again; after a crash they are read from the log.
            self.raft.compact(LogIndex(self.applies.applied.index));
        }
        for (id, answer) in std::mem::take(&mut self.applies.answers) {
            self.deliver(now, id, answer);
        }
        self.note_removal();
        Ok(())
    }

    /// What a command did is to be seen now.
    fn deliver(&mut self, now: Instant, id: RequestId, answer: Answer) {
        if let Ok(done) = &answer {
            self.note_leases(now, done);
        }
        if self.answer(id, answer) {
            self.proposals.passages.forget_before(id);
        }
    }
}

fn undecodable(index: u64) -> Fatal {
    Fatal::Damaged(format!(
        "log entry {index} is committed and not decodable: it is damaged, or a newer version of kontiki wrote it"
    ))
}
