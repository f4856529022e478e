//! Getting chunks into the files: what is written, in which order, and when it is stable.
//!
//! Writes are cached and unordered; a *barrier* (a checkpoint wants everything so far on stable storage) waits for
//! the writes before it and then syncs every file they touched. A new file is created, and its directory synced,
//! before the first write to it is issued.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::disk::{DiskError, Durability, FileName, Op, Outcome, Owner, Token};
use crate::types::Seq;

/// Writes on their way.
#[derive(Debug, Default)]
pub struct Flush {
    queue: VecDeque<(u64, Step)>,
    in_flight: BTreeMap<u64, Step>,
    next_id: u64,
    /// Segments with completed writes that no sync covered.
    dirty: BTreeSet<u64>,
    barrier: Option<Barrier>,
    /// The disk had no room; nothing is begun until [`Flush::retry`].
    full: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Create { segment: u64 },
    Write { segment: u64, offset: u64, data: Bytes, chunk: Option<Seq> },
    Sync { segment: u64 },
    Remove { segment: u64 },
}

#[derive(Debug)]
enum Barrier {
    /// Waits for the steps before this id.
    Writing(u64),
    /// Waits for this many syncs.
    Syncing(usize),
}

/// What a completion means to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do.
    None,
    /// The chunk that begins here is wholly in its file.
    Written(Seq),
    /// Everything before the barrier is on stable storage.
    Stable,
}

impl Flush {
    /// The file will be needed; writes queued later wait for it.
    pub fn create(&mut self, segment: u64) {
        self.push(Step::Create { segment });
    }

    /// Queues bytes of a chunk; `chunk` names it if these are its last.
    pub fn write(&mut self, segment: u64, offset: u64, data: Bytes, chunk: Option<Seq>) {
        self.push(Step::Write { segment, offset, data, chunk });
    }

    /// Queues the end of a file that no checkpoint names and nobody reads.
    pub fn remove(&mut self, segment: u64) {
        self.push(Step::Remove { segment });
    }

    /// Asks for everything queued so far to become stable. One barrier at a time.
    pub fn barrier(&mut self) {
        assert!(self.barrier.is_none(), "a second barrier before the first is through");
        self.barrier = Some(Barrier::Writing(self.next_id));
        self.advance_barrier();
    }

    fn push(&mut self, step: Step) {
        self.queue.push_back((self.next_id, step));
        self.next_id += 1;
    }

    /// The next operation to carry out, if one may start now.
    pub fn poll(&mut self) -> Option<(Token, Op)> {
        if self.full || self.must_wait() {
            return None;
        }
        let (id, step) = self.queue.pop_front()?;
        let op = match step.clone() {
            Step::Create { segment } => Op::Create { file: FileName::History(segment), len: 0 },
            Step::Write { segment, offset, data, .. } => {
                Op::Write { file: FileName::History(segment), offset, data, durability: Durability::Cached }
            }
            Step::Sync { segment } => Op::Sync { file: FileName::History(segment) },
            Step::Remove { segment } => Op::Remove { file: FileName::History(segment) },
        };
        self.in_flight.insert(id, step);
        Some((Token { owner: Owner::History, id }, op))
    }

    /// A file is created before it is written. And the write that ends a chunk waits for the part that a checkpoint wrote
    /// ahead: writes complete in any order, and the chunk leaves memory when its last one has.
    fn must_wait(&self) -> bool {
        let ends_chunk = match self.queue.front() {
            Some((_, Step::Write { segment, chunk: Some(_), .. })) => Some(*segment),
            _ => None,
        };
        self.in_flight.values().any(|step| match step {
            Step::Create { .. } => true,
            Step::Write { segment, chunk: None, .. } => ends_chunk == Some(*segment),
            _ => false,
        })
    }

    /// Whether the token is one of ours.
    pub fn owns(&self, id: u64) -> bool {
        self.in_flight.contains_key(&id)
    }

    /// A fresh id from the same numbering, for operations that are not queued here.
    pub fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Whether nothing is under way or could be.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && (self.queue.is_empty() || self.full)
    }

    /// Whether the disk had no room for a write or a new file, which waits now.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// There may be room now.
    pub fn retry(&mut self) {
        self.full = false;
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        let bytes = |(_, step): &(u64, Step)| match step {
            Step::Write { data, .. } => data.len(),
            _ => 0,
        };
        self.queue.iter().map(bytes).sum()
    }

    /// Reports an operation's outcome. An error is final and the process ends, but for a disk without room: nobody was told
    /// that a write had happened, and the log has what it is about, so it waits and is done again.
    pub fn on_completed(&mut self, id: u64, outcome: Outcome) -> Result<Progress, DiskError> {
        let step = self.in_flight.remove(&id).expect("a completion of a history operation in flight");
        match outcome {
            Err(error) if error.is_full() && matches!(step, Step::Create { .. } | Step::Write { .. }) => {
                self.queue.push_front((id, step));
                self.full = true;
                return Ok(Progress::None);
            }
            outcome => outcome?,
        };
        let mut progress = Progress::None;
        match step {
            Step::Create { .. } | Step::Remove { .. } => {}
            Step::Write { segment, chunk, .. } => {
                self.dirty.insert(segment);
                progress = chunk.map_or(Progress::None, Progress::Written);
            }
            Step::Sync { .. } => {
                let Some(Barrier::Syncing(left)) = &mut self.barrier else {
                    unreachable!("a sync without a barrier")
                };
                *left -= 1;
            }
        }
        // A chunk's last write and the barrier never coincide: the barrier still has its syncs to do.
        if self.advance_barrier() { Ok(Progress::Stable) } else { Ok(progress) }
    }

    /// Whether a barrier is being waited for.
    pub fn has_barrier(&self) -> bool {
        self.barrier.is_some()
    }

    /// Moves the barrier on; true if it is through.
    fn advance_barrier(&mut self) -> bool {
        if let Some(Barrier::Writing(before)) = self.barrier {
            let waiting =
                self.queue.iter().map(|(id, _)| id).chain(self.in_flight.keys()).any(|id| *id < before);
            if waiting {
                return false;
            }
            let dirty = std::mem::take(&mut self.dirty);
            self.barrier = Some(Barrier::Syncing(dirty.len()));
            for segment in dirty {
                // In front of later writes: a checkpoint does not wait for what came after it.
                self.queue.push_front((self.next_id, Step::Sync { segment }));
                self.next_id += 1;
            }
        }
        let through = matches!(self.barrier, Some(Barrier::Syncing(0)));
        if through {
            self.barrier = None;
        }
        through
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Output;

    fn done(flush: &mut Flush, token: Token) -> Progress {
        flush.on_completed(token.id, Ok(Output::Done)).unwrap()
    }

    #[test]
    fn a_file_is_created_before_it_is_written() {
        let mut flush = Flush::default();
        flush.create(1);
        flush.write(1, 0, Bytes::from_static(b"x"), None);
        let (create, op) = flush.poll().unwrap();
        assert!(matches!(op, Op::Create { .. }));
        assert!(flush.poll().is_none(), "the write waits");
        done(&mut flush, create);
        assert!(matches!(flush.poll(), Some((_, Op::Write { .. }))));
    }

    #[test]
    fn a_chunk_is_written_when_all_its_parts_are() {
        let mut flush = Flush::default();
        flush.write(1, 0, Bytes::from_static(b"what a checkpoint wrote"), None);
        flush.write(1, 4096, Bytes::from_static(b"the rest"), Some(Seq(5)));
        let (part, _) = flush.poll().unwrap();
        assert!(flush.poll().is_none(), "the rest could complete first, and the chunk leave memory");
        assert_eq!(done(&mut flush, part), Progress::None);
        let (rest, _) = flush.poll().unwrap();
        assert_eq!(done(&mut flush, rest), Progress::Written(Seq(5)));
    }

    #[test]
    fn a_barrier_syncs_what_was_before_it_and_waits_for_nothing_after() {
        let mut flush = Flush::default();
        flush.write(1, 0, Bytes::from_static(b"a"), Some(Seq(5)));
        flush.write(2, 0, Bytes::from_static(b"b"), None);
        flush.barrier();
        flush.write(2, 4096, Bytes::from_static(b"later"), None);
        let (a, _) = flush.poll().unwrap();
        let (b, _) = flush.poll().unwrap();
        assert_eq!(done(&mut flush, b), Progress::None);
        assert_eq!(done(&mut flush, a), Progress::Written(Seq(5)));
        let syncs: Vec<_> = (0..2).map(|_| flush.poll().unwrap()).collect();
        assert!(syncs.iter().all(|(_, op)| matches!(op, Op::Sync { .. })), "{syncs:?}");
        assert_eq!(done(&mut flush, syncs[0].0), Progress::None);
        assert_eq!(done(&mut flush, syncs[1].0), Progress::Stable);
        assert!(matches!(flush.poll(), Some((_, Op::Write { .. }))));
    }

    #[test]
    fn a_write_without_room_is_done_again_and_a_sync_never() {
        let full = || Err(DiskError::new("write history", &std::io::ErrorKind::StorageFull.into()));
        let mut flush = Flush::default();
        flush.create(1);
        flush.write(1, 0, Bytes::from_static(b"a"), None);
        flush.barrier();
        let (create, first) = flush.poll().unwrap();
        assert_eq!(flush.on_completed(create.id, full()).unwrap(), Progress::None);
        assert!(flush.is_full() && flush.poll().is_none());
        flush.retry();
        let (create, again) = flush.poll().unwrap();
        assert_eq!(again, first);
        done(&mut flush, create);
        let (write, first) = flush.poll().unwrap();
        assert_eq!(flush.on_completed(write.id, full()).unwrap(), Progress::None);
        assert_eq!(flush.queued_bytes(), 1);
        flush.retry();
        let (write, again) = flush.poll().unwrap();
        assert_eq!(again, first);
        done(&mut flush, write);
        let (sync, _) = flush.poll().unwrap();
        assert!(flush.on_completed(sync.id, full()).is_err());
    }

    #[test]
    fn a_failure_is_final() {
        let mut flush = Flush::default();
        flush.write(1, 0, Bytes::from_static(b"a"), None);
        let (token, _) = flush.poll().unwrap();
        let error = DiskError::new("write history", &std::io::Error::other("EIO"));
        assert!(flush.on_completed(token.id, Err(error)).is_err());
    }
}
