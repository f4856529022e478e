//! The accepted blocks, frame by frame, into the state they describe.

use bytes::Bytes;

use super::frame::{Frame, Start};
use super::recover::RecoverError;
use super::{Entry, EntryId};

/// State as of the frames seen so far.
pub(super) struct Replay {
    applied: EntryId,
    /// Term of the applied entry according to the log.
    applied_term: Option<u64>,
    last: Option<EntryId>,
    entries: Vec<Entry>,
    conf_state: Option<Bytes>,
    promised: Option<EntryId>,
    /// A mark that the index never reached: what follows it does not exist either.
    ignored_mark: Option<EntryId>,
    dropped_after_mark: u64,
}

/// What the log adds to the index.
pub(super) struct Replayed {
    pub entries: Vec<Entry>,
    pub last: EntryId,
    pub conf_state: Option<Bytes>,
    pub promised: Option<EntryId>,
    /// The log ends below the applied entry.
    pub behind: bool,
}

impl Replay {
    pub fn new(applied: EntryId) -> Replay {
        Replay {
            applied,
            applied_term: None,
            last: None,
            entries: Vec::new(),
            conf_state: None,
            promised: None,
            ignored_mark: None,
            dropped_after_mark: 0,
        }
    }

    /// The blocks from here on say that nothing promised is missing.
    pub fn caught_up(&mut self) {
        self.promised = None;
    }

    /// Takes in a block of which only the header was read: it wrote from entry `first` on, and after it the log
    /// ends at `last`, which is not above the applied entry. The term of that one does not matter any more.
    pub fn end_below(&mut self, first: u64, last: u64) {
        assert!(last <= self.applied.index, "{last} lies above the applied entry {:?}", self.applied);
        self.entries.clear();
        self.ignored_mark = None;
        self.last = Some(EntryId { index: last, term: 0 });
        if first <= self.applied.index {
            self.applied_term = None;
        }
    }

    /// What the frames of a block that [`Replay::end_below`] passed over say of the applied entry.
    pub fn witness(&mut self, frames: &[Frame]) {
        for frame in frames {
            match frame {
                Frame::Entry(entry) if entry.index == self.applied.index => {
                    self.applied_term = Some(entry.term);
                }
                _ => {}
            }
        }
    }

    /// Takes in one frame; a contradiction is returned in words.
    pub fn frame(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Entry(entry) => self.entry(entry)?,
            Frame::ConfState(conf_state) => self.conf_state = (!conf_state.is_empty()).then_some(conf_state),
            Frame::Truncate(keep) => self.end_at(keep),
            Frame::SnapshotMark(mark) if mark.index <= self.applied.index => {
                self.entries.clear();
                self.ignored_mark = None;
                self.see(mark);
            }
            Frame::SnapshotMark(mark) => self.ignored_mark = Some(mark),
            Frame::Start(Start { last, promised, .. }) => {
                self.promised = promised;
                self.end_at(last);
            }
            Frame::Seal => {}
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let id = entry.id();
        if let Some(last) = self.last {
            if self.ignored_mark.is_some() && id.index > last.index.saturating_add(1) {
                self.dropped_after_mark += 1;
                return Ok(());
            }
            if id.index != last.index.saturating_add(1) || id.term < last.term {
                return Err(format!("entry {id:?} follows {last:?}"));
            }
        }
        self.ignored_mark = None;
        self.see(id);
        if id.index > self.applied.index {
            let expected =
                self.entries.last().map_or(self.applied.index, |entry| entry.index).saturating_add(1);
            if id.index != expected {
                return Err(format!("entry {id:?} stands where {expected} should"));
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// The log ends at `keep`.
    fn end_at(&mut self, keep: EntryId) {
        let kept = self.entries.partition_point(|entry| entry.index <= keep.index);
        self.entries.truncate(kept);
        if self.ignored_mark.is_some_and(|mark| keep.index >= mark.index) {
            return;
        }
        self.ignored_mark = None;
        self.see(keep);
    }

    fn see(&mut self, id: EntryId) {
        self.last = Some(id);
        if id.index == self.applied.index {
            self.applied_term = Some(id.term);
        }
    }

    /// The result, with the boundary checked against the index.
    pub fn finish(self, warnings: &mut Vec<String>) -> Result<Replayed, RecoverError> {
        let applied = self.applied;
        if let Some(term) = self.applied_term.filter(|&term| term != applied.term) {
            return Err(RecoverError::Mismatch { applied, term });
        }
        if self.dropped_after_mark > 0 {
            warnings.push(format!(
                "{} entries after a snapshot that was never installed are dropped",
                self.dropped_after_mark
            ));
        }
        let last = self.last.unwrap_or_default();
        let behind = last.index < applied.index;
        if behind {
            warnings.push(format!(
                "the log ends at entry {}, the index has applied {}: the log's end was lost, the data was not",
                last.index, applied.index
            ));
        }
        Ok(Replayed {
            entries: self.entries,
            last: if last.index <= applied.index { applied } else { last },
            conf_state: self.conf_state,
            promised: self.promised,
            behind,
        })
    }
}
