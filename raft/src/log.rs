//! The in-memory log: entries not yet compacted, and how far each of writing, committing and applying has
//! come.
//!
//! ```text
//!   boundary   first                                                      last
//!      |         |                                                          |
//!   ---o---------[====================================================------]
//!                   applied <= applying <= commit <= last     stable <= last
//! ```
//! - `boundary` is the (index, term) just before the first entry kept: enough for the consistency check
//!   (thesis §5.1).
//! - `stable` is durable on this member *as this log now reads*. It is independent of `commit`: other members
//!   may have committed an entry that is still being written here (thesis §10.2.1).
//! - Entries handed to the writer and not known durable are remembered per write position, so a truncation
//!   simply shortens what those writes can still prove.
//!
//! No IO: whatever this drops is still in the written log until the driver recycles it. Counterpart of etcd
//! raft's `log.go` and `log_unstable.go`.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::seeded::{self, Bug};
use crate::types::{Entry, EntryKind, LogIndex, LogPosition, Term};

/// The log of one member.
#[derive(Debug)]
pub(crate) struct RaftLog {
    boundary: (LogIndex, Term),
    entries: VecDeque<Entry>,
    writes: VecDeque<Write>,
    stable: LogIndex,
    commit: LogIndex,
    applying: LogIndex,
    applied: LogIndex,
}

/// A write in flight: once `position` is durable, so is every entry up to `last`.
#[derive(Debug)]
struct Write {
    position: LogPosition,
    last: LogIndex,
}

impl RaftLog {
    /// A log read back from disk, all of it durable. The caller has validated the relations asserted here.
    pub(crate) fn new(
        boundary: (LogIndex, Term),
        entries: Vec<Entry>,
        commit: LogIndex,
        applied: LogIndex,
    ) -> Self {
        let mut log = Self {
            boundary,
            entries: entries.into(),
            writes: VecDeque::new(),
            stable: LogIndex(0),
            commit,
            applying: applied,
            applied,
        };
        log.stable = log.last_index();
        log.check_order();
        log
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.boundary.0.next()
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        LogIndex(self.boundary.0.0 + self.entries.len() as u64)
    }

    pub(crate) fn last_term(&self) -> Term {
        self.entries.back().map_or(self.boundary.1, |entry| entry.term)
    }

    pub(crate) fn stable(&self) -> LogIndex {
        self.stable
    }

    pub(crate) fn commit(&self) -> LogIndex {
        self.commit
    }

    /// The last committed entry and its term.
    pub(crate) fn commit_point(&self) -> (LogIndex, Term) {
        (self.commit, self.term(self.commit).expect("compaction stays behind commit"))
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The term at `index`; `None` if it was compacted away or does not exist yet.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.boundary.0 {
            Some(self.boundary.1)
        } else {
            self.entry(index).map(|entry| entry.term)
        }
    }

    pub(crate) fn matches(&self, index: LogIndex, term: Term) -> bool {
        self.term(index) == Some(term)
    }

    /// Whether a log ending in `(last_index, last_term)` is at least as complete as this one (thesis §3.6.1).
    pub(crate) fn is_covered_by(&self, last_index: LogIndex, last_term: Term) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index())
    }

    /// Entries `[from, to]` that are in memory.
    pub(crate) fn range(&self, from: LogIndex, to: LogIndex) -> impl Iterator<Item = &Entry> {
        let skip = from.0.saturating_sub(self.first_index().0) as usize;
        let end = to.since(self.boundary.0) as usize;
        self.entries.range(skip.min(end).min(self.entries.len())..end.min(self.entries.len()))
    }

    /// Entries from `from` up to `to`, at most `bytes_max` of data but always at least one.
    pub(crate) fn batch(&self, from: LogIndex, to: LogIndex, bytes_max: u64) -> Vec<Entry> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry_bytes(entry);
            first || bytes <= bytes_max
        };
        self.range(from, to).take_while(fits).cloned().collect()
    }

    /// Adds one entry behind the last and returns it.
    pub(crate) fn push(&mut self, term: Term, kind: EntryKind, data: Bytes) -> &Entry {
        debug_assert!(term >= self.last_term(), "entry of term {term} after term {}", self.last_term());
        let index = self.last_index().next();
        self.entries.push_back(Entry { term, index, kind, data });
        self.entries.back().expect("just pushed")
    }

    /// The first of `entries` that this log lacks or holds with another term; `None` if it has them all.
    pub(crate) fn find_conflict(&self, entries: &[Entry]) -> Option<usize> {
        entries.iter().position(|entry| !self.matches(entry.index, entry.term))
    }

    /// The greatest index `<= index` whose term is `<= term`: entries above cannot match a log that has
    /// `term` at `index`. The term is `None` where the log no longer knows it.
    pub(crate) fn find_conflict_by_term(&self, index: LogIndex, term: Term) -> (LogIndex, Option<Term>) {
        let mut index = index;
        while index > self.boundary.0 {
            match self.term(index) {
                Some(own) if own > term => index = index.prev(),
                own => return (index, own),
            }
        }
        (index, self.term(index))
    }

    /// Drops `from` and everything after it. What writes in flight prove shrinks with the log.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        assert!(from > self.commit, "truncation at {from} of entries committed up to {}", self.commit);
        self.entries.truncate(from.prev().since(self.boundary.0) as usize);
        self.stable = self.stable.min(from.prev());
        for write in &mut self.writes {
            write.last = write.last.min(from.prev());
        }
    }

    /// The entries up to the last one are part of the write at `position`.
    pub(crate) fn written_at(&mut self, position: LogPosition) {
        let last = self.last_index();
        match self.writes.back_mut() {
            Some(write) if write.position == position => write.last = last,
            newest => {
                if let Some(newest) = newest {
                    assert!(newest.position < position, "write {position} after write {}", newest.position);
                }
                self.writes.push_back(Write { position, last });
            }
        }
    }

    /// All writes up to `position` are durable.
    pub(crate) fn persisted(&mut self, position: LogPosition) {
        while let Some(write) = self.writes.front() {
            if write.position > position {
                break;
            }
            self.stable = self.stable.max(write.last);
            self.writes.pop_front();
        }
        self.check_order();
    }

    /// Raises the commit index to `index`, if that is higher; true if it was.
    pub(crate) fn commit_to(&mut self, index: LogIndex) -> bool {
        if index <= self.commit {
            return false;
        }
        assert!(index <= self.last_index(), "commit {index} beyond last entry {}", self.last_index());
        self.commit = index;
        true
    }

    /// A snapshot is being installed: the state does not reach to where the log begins.
    pub(crate) fn is_installing(&self) -> bool {
        self.applied < self.boundary.0
    }

    /// The next committed entries to apply, in order, each handed out once.
    pub(crate) fn next_committed(&mut self, bytes_max: u64) -> Option<Vec<Entry>> {
        let upto = if seeded::is(Bug::ApplyUncommitted) { self.stable } else { self.commit };
        if self.applying >= upto || self.is_installing() {
            return None;
        }
        let batch = self.batch(self.applying.next(), upto, bytes_max);
        let last = batch.last().expect("committed entries are kept until applied").index;
        assert_eq!(batch[0].index, self.applying.next(), "entries to apply must be consecutive");
        self.applying = last;
        Some(batch)
    }

    pub(crate) fn applied_to(&mut self, index: LogIndex) {
        assert!(
            self.applied <= index && index <= self.applying,
            "applied {index} outside [{}, {}]",
            self.applied,
            self.applying
        );
        self.applied = index;
    }

    /// Forgets applied entries up to `upto`, except the last `keep_entries` of them, or fewer if those exceed
    /// `keep_bytes`.
    pub(crate) fn compact(&mut self, upto: LogIndex, keep_entries: u64, keep_bytes: u64) {
        let upto = upto.min(self.applied);
        let mut keep = 0;
        let mut bytes = 0;
        let candidates = upto.since(self.boundary.0) as usize;
        for entry in self.entries.range(..candidates).rev() {
            bytes += entry_bytes(entry);
            if keep == keep_entries || bytes > keep_bytes {
                break;
            }
            keep += 1;
        }
        let dropped = candidates - keep as usize;
        if dropped == 0 {
            return;
        }
        let last = &self.entries[dropped - 1];
        self.boundary = (last.index, last.term);
        self.entries.drain(..dropped);
        self.check_order();
    }

    /// The log now begins after `boundary`, the end of a snapshot being installed by the write at `position`.
    /// `applying` and `commit` move; `applied` follows when the driver reports the installation.
    pub(crate) fn restore(&mut self, boundary: (LogIndex, Term), position: LogPosition) {
        assert!(boundary.0 > self.commit, "snapshot {} behind commit {}", boundary.0, self.commit);
        self.entries.clear();
        self.boundary = boundary;
        self.commit = boundary.0;
        self.applying = boundary.0;
        // Nothing earlier can prove anything about the new log; the write that carries the mark proves the
        // mark.
        self.stable = LogIndex(0);
        self.writes.clear();
        self.writes.push_back(Write { position, last: boundary.0 });
    }

    fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.first_index().0)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    fn check_order(&self) {
        let Self { stable, commit, applying, applied, .. } = *self;
        assert!(applied <= applying, "applied {applied} beyond applying {applying}");
        assert!(applying <= commit, "applying {applying} beyond commit {commit}");
        assert!(commit <= self.last_index(), "commit {commit} beyond last entry {}", self.last_index());
        assert!(stable <= self.last_index(), "stable {stable} beyond last entry {}", self.last_index());
    }
}

/// What an entry counts against byte limits: its data and a small charge, so that empty entries are not free.
pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES
}

/// About what term, index and kind take in a message or a log frame.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// A durable log with the given terms from index `after + 1`, boundary term 1.
    fn log(after: u64, terms: &[u64]) -> RaftLog {
        let boundary = (LogIndex(after), Term(if after == 0 { 0 } else { 1 }));
        RaftLog::new(boundary, entries(after + 1, terms), LogIndex(after), LogIndex(after))
    }

    fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
        let entry = |(i, &term): (usize, &u64)| Entry {
            term: Term(term),
            index: LogIndex(first + i as u64),
            kind: EntryKind::Normal,
            data: Bytes::from_static(b"0123456789"),
        };
        terms.iter().enumerate().map(entry).collect()
    }

    fn append(log: &mut RaftLog, position: u64, terms: &[u64]) {
        for &term in terms {
            log.push(Term(term), EntryKind::Normal, Bytes::new());
        }
        log.written_at(LogPosition(position));
    }

    #[test]
    fn knows_the_term_of_boundary_and_entries_only() {
        let log = log(5, &[1, 2, 2]);
        let check = |index: u64, expected: Option<u64>| {
            assert_eq!(log.term(LogIndex(index)), expected.map(Term), "{index}");
        };
        check(0, None);
        check(4, None);
        check(5, Some(1));
        check(6, Some(1));
        check(8, Some(2));
        check(9, None);
        check(u64::MAX, None);
    }

    #[test]
    fn completeness_compares_terms_first() {
        let log = log(0, &[1, 1, 2]);
        let check = |index: u64, term: u64, expected: bool| {
            assert_eq!(log.is_covered_by(LogIndex(index), Term(term)), expected, "({index}, {term})");
        };
        check(2, 2, false);
        check(3, 2, true);
        check(4, 2, true);
        check(9, 1, false);
        check(1, 3, true);
    }

    #[test]
    fn finds_the_first_conflict() {
        let log = log(0, &[1, 2, 3]);
        let check = |first: u64, terms: &[u64], expected: Option<usize>| {
            assert_eq!(log.find_conflict(&entries(first, terms)), expected, "{first} {terms:?}");
        };
        check(1, &[], None);
        check(1, &[1, 2, 3], None);
        check(2, &[2, 3], None);
        check(3, &[3, 4], Some(1));
        check(4, &[4], Some(0));
        check(1, &[1, 4, 4], Some(1));
        check(3, &[1, 2], Some(0));
    }

    #[test]
    fn hints_skip_terms_that_cannot_match() {
        let log = log(2, &[1, 1, 2, 2, 2, 5, 5]);
        let check = |index: u64, term: u64, expected: (u64, Option<u64>)| {
            let expected = (LogIndex(expected.0), expected.1.map(Term));
            assert_eq!(log.find_conflict_by_term(LogIndex(index), Term(term)), expected, "({index}, {term})");
        };
        check(9, 5, (9, Some(5)));
        check(9, 4, (7, Some(2)));
        check(7, 1, (4, Some(1)));
        check(3, 0, (2, Some(1)));
        check(1, 3, (1, None));
        check(20, 5, (20, None));
    }

    #[test]
    fn writes_become_stable_in_order() {
        let mut log = log(0, &[]);
        append(&mut log, 1, &[1, 1]);
        append(&mut log, 2, &[1]);
        assert_eq!(log.stable(), LogIndex(0));
        log.persisted(LogPosition(1));
        assert_eq!(log.stable(), LogIndex(2));
        log.persisted(LogPosition(2));
        assert_eq!(log.stable(), LogIndex(3));
    }

    #[test]
    fn a_rewritten_index_is_stable_by_its_own_write_only() {
        let mut log = log(0, &[]);
        append(&mut log, 1, &[1, 1, 1]);
        log.truncate(LogIndex(2));
        append(&mut log, 2, &[2]);
        log.truncate(LogIndex(2));
        append(&mut log, 3, &[1, 3]);
        log.persisted(LogPosition(1));
        assert_eq!(log.stable(), LogIndex(1), "the first write proves only what was not rewritten");
        log.persisted(LogPosition(2));
        assert_eq!(log.stable(), LogIndex(1));
        log.persisted(LogPosition(3));
        assert_eq!(log.stable(), LogIndex(3));
    }

    #[test]
    fn committed_entries_come_out_once_and_bounded() {
        let mut log = log(0, &[1, 1, 1, 1]);
        assert!(log.commit_to(LogIndex(3)));
        assert!(!log.commit_to(LogIndex(2)));
        let indexes = |batch: Option<Vec<Entry>>| -> Vec<u64> {
            batch.into_iter().flatten().map(|entry| entry.index.0).collect()
        };
        assert_eq!(indexes(log.next_committed(0)), [1], "an entry larger than the bound comes alone");
        assert_eq!(indexes(log.next_committed(2 * 34)), [2, 3]);
        assert_eq!(log.next_committed(u64::MAX), None);
        log.applied_to(LogIndex(2));
        assert_eq!((log.applied(), log.applying), (LogIndex(2), LogIndex(3)));
    }

    #[test]
    fn compaction_keeps_what_slow_followers_need() {
        let check = |upto: u64, keep: u64, keep_bytes: u64, first: u64| {
            let mut log = log(0, &[1, 1, 1, 2, 2, 2]);
            log.commit_to(LogIndex(5));
            log.next_committed(u64::MAX);
            log.applied_to(LogIndex(4));
            log.compact(LogIndex(upto), keep, keep_bytes);
            assert_eq!(log.first_index(), LogIndex(first), "{upto} {keep} {keep_bytes}");
            assert_eq!(log.last_index(), LogIndex(6));
        };
        check(4, 0, 1_000, 5);
        check(9, 0, 1_000, 5);
        check(4, 1, 1_000, 4);
        check(4, 3, 70, 3);
        check(4, 9, 1_000, 1);
        check(0, 0, 0, 1);
    }

    #[test]
    fn a_snapshot_replaces_the_log_and_is_stable_with_its_write() {
        let mut log = log(0, &[1, 1]);
        append(&mut log, 1, &[1]);
        log.restore((LogIndex(10), Term(4)), LogPosition(2));
        log.persisted(LogPosition(1));
        assert_eq!((log.stable(), log.commit(), log.applied()), (LogIndex(0), LogIndex(10), LogIndex(0)));
        log.persisted(LogPosition(2));
        assert_eq!(log.stable(), LogIndex(10));
        assert_eq!(log.next_committed(u64::MAX), None);
        log.applied_to(LogIndex(10));
    }

    #[test]
    #[should_panic(expected = "truncation at 1 of entries committed up to 1")]
    fn committed_entries_are_never_dropped() {
        let mut log = log(0, &[1, 1]);
        log.commit_to(LogIndex(1));
        log.truncate(LogIndex(1));
    }
}
