//! Segments: where the next block goes, zeroed files ahead of it, and reuse of those behind.
//!
//! Files are written with zeroes before use, because a synced write into allocated but unwritten extents also
//! commits file system metadata (measured: half the rate). A file that is no longer needed is renamed to be a
//! spare, so a busy log allocates nothing.
//!
//! One operation is under way at a time: a power cut then never leaves a hole in the row of segments.

use std::collections::VecDeque;

use super::config::Config;
use super::layout::HEAD_BYTES;
use super::recover::Recovered;
use crate::disk::{DiskError, FileName, Op};
use crate::seeded::{self, Bug};

/// A file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number in the file name; grows with every segment taken into use.
    pub number: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Highest entry index it holds.
    pub max_index: u64,
}

/// A zero-written file that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// Number in the file name; says nothing about order.
    pub number: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Files that no block needs.
pub(super) struct Files {
    pub spares: Vec<Spare>,
    pub unused: Vec<Segment>,
}

/// The files of a log that is open for writing.
pub(super) struct Space {
    segment_bytes: u64,
    shortest_segment: u64,
    ahead_bytes_min: u64,
    active: Segment,
    offset: u64,
    next: Option<Segment>,
    spares: VecDeque<Spare>,
    /// Segments that hold nothing since the last start. They go before any other: the oldest segment of a log
    /// must be one of its chain.
    unused: VecDeque<Segment>,
    /// Segments before the active one, oldest first.
    retained: VecDeque<Segment>,
    next_log: u64,
    next_spare: u64,
    /// Applied index of the newest durable checkpoint.
    checkpoint: u64,
    /// Applied index of the one before: segments up to here are free.
    releasable: u64,
    underway: Option<Work>,
    /// The last attempt to create a spare found the disk full.
    full: bool,
}

/// The operation under way.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A new spare.
    Create(Spare),
    /// The spare becomes the next segment.
    Promote(Segment),
    /// The segment that is free becomes a spare.
    Recycle(Spare),
    /// The segment that is free goes away.
    Remove,
}

impl Space {
    /// `active` holds nothing but its head, which is durable.
    pub fn new(config: &Config, active: Segment, recovered: &Recovered, files: Files) -> Space {
        let retained = &recovered.segments;
        let in_order = retained.windows(2).all(|pair| pair[0].number < pair[1].number);
        assert!(in_order, "segments out of order: {retained:?}");
        Space {
            segment_bytes: config.segment_bytes,
            shortest_segment: config.shortest_segment(),
            ahead_bytes_min: config.ahead_bytes_min,
            active,
            offset: HEAD_BYTES as u64,
            next: None,
            next_spare: files.spares.iter().map(|spare| spare.number + 1).max().unwrap_or(1),
            spares: files.spares.into(),
            unused: files.unused.into(),
            retained: retained.clone().into(),
            next_log: active.number + 1,
            checkpoint: recovered.boundary.index,
            releasable: 0,
            underway: None,
            full: false,
        }
    }

    /// Takes `len` bytes of the active segment: file and offset, or `None` when it cannot hold them.
    pub fn place(&mut self, len: usize, max_index: u64) -> Option<(FileName, u64)> {
        let len = len as u64;
        if self.offset + len > self.active.len - HEAD_BYTES as u64 {
            return None;
        }
        if seeded::is(Bug::RewriteTailBlock) && self.offset > HEAD_BYTES as u64 {
            self.offset -= HEAD_BYTES as u64;
        }
        let at = self.offset;
        self.offset += len;
        self.active.max_index = self.active.max_index.max(max_index);
        Some((FileName::Log(self.active.number), at))
    }

    /// Goes on to the next segment, if one is ready; the caller writes its head at 0 and the copy of the head
    /// at the returned offset.
    pub fn advance(&mut self) -> Option<(FileName, u64)> {
        let next = self.next.take()?;
        self.retained.push_back(std::mem::replace(&mut self.active, next));
        self.active.max_index = self.retained.back().map_or(0, |before| before.max_index);
        self.offset = HEAD_BYTES as u64;
        Some((FileName::Log(next.number), next.len - HEAD_BYTES as u64))
    }

    /// The next operation on files, if one is due. `nothing_behind`: the active segment's head is on disk, so
    /// that older segments hold no longer the only copy of term, vote and configuration, and no write to them
    /// is in flight.
    pub fn poll(&mut self, nothing_behind: bool) -> Option<Op> {
        if self.underway.is_some() {
            return None;
        }
        let (work, op) = self.due(nothing_behind)?;
        self.underway = Some(work);
        Some(op)
    }

    fn due(&mut self, nothing_behind: bool) -> Option<(Work, Op)> {
        if self.next.is_none()
            && let Some(spare) = self.spares.pop_front()
        {
            let segment = Segment { number: self.next_log, len: spare.len, max_index: 0 };
            self.next_log += 1;
            let (from, to) = (FileName::LogSpare(spare.number), FileName::Log(segment.number));
            return Some((Work::Promote(segment), Op::Rename { from, to }));
        }
        let wanted = self.wanted();
        if let Some(free) = self.free_segment(nothing_behind) {
            let file = FileName::Log(free.number);
            if self.ahead() >= wanted || free.len < self.shortest_segment {
                return Some((Work::Remove, Op::Remove { file }));
            }
            let spare = self.new_spare(free.len);
            let to = FileName::LogSpare(spare.number);
            return Some((Work::Recycle(spare), Op::Rename { from: file, to }));
        }
        if self.ahead() < wanted && !self.full {
            let spare = self.new_spare(self.len_to_create());
            let file = FileName::LogSpare(spare.number);
            return Some((Work::Create(spare), Op::Create { file, len: spare.len }));
        }
        None
    }

    /// A segment that nothing needs any more.
    fn free_segment(&self, nothing_behind: bool) -> Option<Segment> {
        let released = |segment: &&Segment| nothing_behind && segment.max_index <= self.releasable;
        self.unused.front().or_else(|| self.retained.front().filter(released)).copied()
    }

    fn forget_free_segment(&mut self) {
        if self.unused.pop_front().is_none() {
            self.retained.pop_front();
        }
    }

    /// Reports the outcome of the operation [`Space::poll`] returned. A full disk is not a failure: what is
    /// zeroed already is still there, and [`Space::needs_space`] says so in time.
    pub fn on_completed(&mut self, outcome: Result<(), DiskError>) -> Result<(), DiskError> {
        let work = self.underway.take().expect("no operation on segments is under way");
        match (work, outcome) {
            (Work::Create(_), Err(error)) if is_full(&error) => self.full = true,
            (_, Err(error)) => return Err(error),
            (Work::Create(spare), Ok(())) => self.spares.push_back(spare),
            (Work::Promote(segment), Ok(())) => self.next = Some(segment),
            (Work::Recycle(spare), Ok(())) => {
                self.forget_free_segment();
                self.spares.push_back(spare);
            }
            (Work::Remove, Ok(())) => self.forget_free_segment(),
        }
        Ok(())
    }

    /// A checkpoint up to `upto` is durable. What only the one before needed is free now: both checkpoints on
    /// disk can still be opened.
    pub fn release(&mut self, upto: u64) {
        assert!(upto >= self.checkpoint, "checkpoints went back from {} to {upto}", self.checkpoint);
        self.releasable = if seeded::is(Bug::ReleaseLogEarly) { upto } else { self.checkpoint };
        self.checkpoint = upto;
        self.full = false;
    }

    /// Tries again to create what a full disk refused.
    pub fn retry_space(&mut self) {
        self.full = false;
    }

    /// The disk has no room for the zeroed space that should be ahead.
    pub fn needs_space(&self) -> bool {
        self.full
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        let behind: u64 = self.unused.iter().chain(&self.retained).map(|segment| segment.len).sum();
        behind + self.active.len + self.zeroed()
    }

    /// Bytes of the segments behind the active one that are still needed. They count as a whole: a start that was killed
    /// early leaves one that is nearly empty and takes as much of the disk.
    pub fn behind(&self) -> u64 {
        let needed = self.retained.iter().filter(|segment| segment.max_index > self.releasable);
        needed.map(|segment| segment.len).sum()
    }

    /// Zeroed bytes that can still be written.
    pub fn ahead(&self) -> u64 {
        self.active.len - self.offset + self.zeroed()
    }

    fn zeroed(&self) -> u64 {
        let spares: u64 = self.spares.iter().map(|spare| spare.len).sum();
        spares + self.next.map_or(0, |segment| segment.len)
    }

    /// As much ahead as is retained: a small log stays small, a busy one has two whole segments in reserve.
    fn wanted(&self) -> u64 {
        let retained: u64 = self.retained.iter().map(|segment| segment.len).sum();
        (retained + self.offset).clamp(self.ahead_bytes_min, self.ahead_bytes_min.max(2 * self.segment_bytes))
    }

    /// Twice the largest there is, up to the configured size.
    fn len_to_create(&self) -> u64 {
        let largest = self.retained.iter().map(|segment| segment.len).max().unwrap_or(0).max(self.active.len);
        (2 * largest).min(self.segment_bytes)
    }

    fn new_spare(&mut self, len: u64) -> Spare {
        let number = self.next_spare;
        self.next_spare += 1;
        Spare { number, len }
    }
}

fn is_full(error: &DiskError) -> bool {
    matches!(error.kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::super::recover::{Recovered, Voters, recover};
    use super::super::{EntryId, Identity};
    use super::*;
    use crate::disk::mem::MemDisk;

    const KIB: u64 = 1 << 10;

    fn config() -> Config {
        Config {
            block_bytes_max: 8 << 10,
            entry_bytes_max: 16 << 10,
            segment_bytes_first: 64 * KIB,
            segment_bytes: 256 * KIB,
            ahead_bytes_min: 128 * KIB,
            ..Config::default()
        }
    }

    fn nothing() -> Recovered {
        let identity = Identity { cluster: 1, member: 1 };
        recover(&mut MemDisk::new(), identity, EntryId::default(), Voters::Single).unwrap()
    }

    fn new_space() -> Space {
        let active = Segment { number: 1, len: 64 * KIB, max_index: 0 };
        Space::new(&config(), active, &nothing(), Files { spares: Vec::new(), unused: Vec::new() })
    }

    /// Carries out what is due; returns it in words.
    fn settle(space: &mut Space) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(op) = space.poll(true) {
            done.push(op.to_string());
            assert!(space.poll(true).is_none(), "one operation at a time");
            space.on_completed(Ok(())).unwrap();
        }
        done
    }

    /// Fills the active segment with blocks of one entry each, and goes on to the next.
    fn fill(space: &mut Space, index: &mut u64) {
        while space.place(4096, *index).is_some() {
            *index += 1;
        }
        space.advance().expect("the next segment is ready");
    }

    #[test]
    fn nearly_empty_segments_count_until_two_checkpoints_cover_them() {
        let segments = [(1, 10), (2, 20), (3, 25)];
        let segments = segments.map(|(number, max_index)| Segment { number, len: 64 * KIB, max_index });
        let boundary = EntryId { index: 10, term: 1 };
        let recovered = Recovered { segments: segments.into(), boundary, ..nothing() };
        let active = Segment { number: 4, len: 64 * KIB, max_index: 25 };
        let mut space =
            Space::new(&config(), active, &recovered, Files { spares: Vec::new(), unused: Vec::new() });
        assert_eq!(space.behind(), 192 * KIB);
        space.release(25);
        assert_eq!(space.behind(), 128 * KIB);
        space.release(26);
        assert_eq!(space.behind(), 0);
    }

    #[test]
    fn segments_double_and_a_small_log_stays_small() {
        let mut space = new_space();
        let ready = settle(&mut space);
        assert_eq!(
            ready,
            [
                "create log/0000000000000001.spare with 131072 bytes",
                "rename log/0000000000000001.spare to log/0000000000000002.log",
            ]
        );
        let mut index = 1;
        fill(&mut space, &mut index);
        assert_eq!(
            settle(&mut space),
            [
                "create log/0000000000000002.spare with 262144 bytes",
                "rename log/0000000000000002.spare to log/0000000000000003.log",
            ]
        );
        assert_eq!(space.total_bytes(), (64 + 128 + 256) * KIB);
    }

    #[test]
    fn a_segment_is_free_after_the_checkpoint_after_the_one_that_covers_it() {
        let mut space = new_space();
        let mut index = 1;
        for _ in 0..2 {
            settle(&mut space);
            fill(&mut space, &mut index);
        }
        settle(&mut space);
        let oldest = space.retained[0];
        space.release(oldest.max_index);
        assert_eq!(settle(&mut space), Vec::<String>::new(), "the older checkpoint may still be needed");
        space.release(oldest.max_index);
        assert!(space.poll(false).is_none(), "the new head is not durable yet");
        let freed = settle(&mut space);
        assert_eq!(freed, ["remove log/0000000000000001.log"]);
        assert_eq!(space.retained[0].number, 2);
    }

    #[test]
    fn a_full_disk_is_no_failure_and_other_errors_are() {
        let error = |kind| Err(DiskError::new("create", &Error::from(kind)));
        let mut space = new_space();
        assert!(space.poll(true).is_some());
        space.on_completed(error(ErrorKind::StorageFull)).unwrap();
        assert!(space.needs_space() && space.poll(true).is_none());
        space.retry_space();
        assert!(!space.needs_space() && space.poll(true).is_some());
        space.on_completed(error(ErrorKind::PermissionDenied)).unwrap_err();
    }

    #[test]
    fn unused_segments_go_before_any_other() {
        let mut recovered = nothing();
        recovered.segments = vec![Segment { number: 1, len: 64 * KIB, max_index: 5 }];
        let unused = vec![Segment { number: 2, len: 64 * KIB, max_index: 0 }];
        let active = Segment { number: 3, len: 64 * KIB, max_index: 0 };
        let mut space = Space::new(&config(), active, &recovered, Files { spares: Vec::new(), unused });
        assert_eq!(settle(&mut space)[0], "rename log/0000000000000002.log to log/0000000000000001.spare");
        assert_eq!(space.retained.len(), 1);
    }
}
