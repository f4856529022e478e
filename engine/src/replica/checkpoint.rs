//! When the store's state goes to the index file, and what waits for what.
//!
//! 1. Between two commands: the history is asked to become stable as far as it goes, the version is pinned.
//! 2. The log must be durable beyond it: a leader may apply before its own disk has an entry, and an index ahead of its
//!    log could not be told from a log that lost its end.
//! 3. The history must be stable: the index names its records.
//! 4. Then the pages are written, on a background thread; one meta page switches everything.
//! 5. Only then are log segments let go, and those only once the checkpoint after this one is durable too.

use std::time::Instant;

use raft::{LogIndex, LogPosition};

use super::payload::Payload;
use super::{Fatal, Replica};
use crate::disk::Disk;
use crate::map::{self, MapError};
use crate::seeded::{self, Bug};
use crate::types::Revision;
use crate::wal::EntryId;

/// Files of the log may take so many checkpoints' worth. A block may hold one small entry, and each start takes a segment
/// of its own: starts that are killed before a checkpoint is due would otherwise fill the disk with nearly empty ones.
const BEHIND_MAX: u64 = 8;

/// A pinned version to be written; for a background thread.
#[derive(Debug)]
pub struct CheckpointJob {
    /// The pages. Drive it operation by operation, or with [`CheckpointJob::run`].
    pub checkpoint: map::Checkpoint,
    applied: EntryId,
}

impl CheckpointJob {
    /// A job of a state that holds the effects of all entries up to `applied`.
    pub(crate) fn new(checkpoint: map::Checkpoint, applied: EntryId) -> CheckpointJob {
        CheckpointJob { checkpoint, applied }
    }

    /// Does all of it, waiting for the disk; `pause` is called between operations and decides the pace. Comes back early
    /// from a disk without room.
    pub fn run(&mut self, disk: &mut dyn Disk, mut pause: impl FnMut()) -> Result<(), MapError> {
        while let Some((token, op)) = self.checkpoint.poll() {
            let outcome = disk.run(op);
            self.checkpoint.on_completed(token, outcome)?;
            pause();
        }
        if self.checkpoint.is_full() { Ok(()) } else { self.checkpoint.settle() }
    }
}

/// The state of checkpointing.
#[derive(Debug)]
pub struct Checkpoints {
    step: Step,
    /// The last entry a durable checkpoint holds.
    durable: EntryId,
    /// Log bytes at the last checkpoint.
    log_bytes: u64,
}

#[derive(Debug)]
enum Step {
    Idle,
    /// Pinned; waits for log and history.
    Waiting {
        job: Box<CheckpointJob>,
        log: LogPosition,
    },
    /// Ready for the background thread.
    Ready(Box<CheckpointJob>),
    Running,
    /// The disk has no room for it.
    Full(Box<CheckpointJob>),
    /// The last one of an orderly stop is durable.
    Final,
}

impl Checkpoints {
    /// `durable` is what the opened index holds.
    pub fn new(durable: EntryId) -> Checkpoints {
        Checkpoints { step: Step::Idle, durable, log_bytes: 0 }
    }

    /// Whether one waits for room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self.step, Step::Full(_))
    }

    /// There may be room now.
    pub fn retry_space(&mut self) {
        self.step = match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Full(mut job) => {
                job.checkpoint.retry();
                Step::Ready(job)
            }
            step => step,
        };
    }

    /// Whether the last checkpoint of an orderly stop is durable.
    pub fn is_final(&self) -> bool {
        matches!(self.step, Step::Final)
    }
}

impl Replica {
    pub(super) fn advance_checkpoint(&mut self, now: Instant) -> Result<(), Fatal> {
        let idle = matches!(self.checkpoints.step, Step::Idle) && self.store.history().is_stable();
        if idle && self.applies.is_settled() {
            if self.is_checkpoint_due(now) {
                self.pin_checkpoint()?;
            } else if self.is_drained() {
                self.wal.push_stop(self.pushed.0);
                self.checkpoints.step = Step::Final;
            }
        }
        let Step::Waiting { log, .. } = &self.checkpoints.step else { return Ok(()) };
        let stable = self.store.history().is_stable() || seeded::is(Bug::CheckpointBeforeHistory);
        if self.wal.durable() >= log.0 && stable {
            self.checkpoints.step = match std::mem::replace(&mut self.checkpoints.step, Step::Running) {
                Step::Waiting { job, .. } => Step::Ready(job),
                step => unreachable!("just looked at {step:?}"),
            };
        }
        Ok(())
    }

    /// Nothing more will be written.
    fn is_drained(&self) -> bool {
        self.stopping && self.proposals.waiting() == 0 && !self.applies.has_work()
    }

    fn is_checkpoint_due(&self, now: Instant) -> bool {
        let published = self.applies.published();
        if self.needs_checkpoint() {
            return true;
        }
        if published == self.checkpoints.durable {
            return false;
        }
        let entries = published.index - self.checkpoints.durable.index;
        let bytes = self.logged_bytes - self.checkpoints.log_bytes;
        let idle =
            self.applies.last_at.is_some_and(|at| now.duration_since(at) >= self.config.checkpoint_idle);
        let full = entries >= self.config.checkpoint_entries || bytes >= self.config.checkpoint_log_bytes;
        let full = full || self.wal.behind_bytes() >= BEHIND_MAX * self.config.checkpoint_log_bytes;
        full || idle || self.is_drained()
    }

    fn pin_checkpoint(&mut self) -> Result<(), Fatal> {
        let mark = self.store.history_mut().begin_checkpoint();
        // Publishes the rows of chunks that the mark finished.
        let (root, state) = match self.store.publish_for_checkpoint() {
            Ok(published) => published,
            Err(cold) => {
                // The history is being made stable for nothing; the next turn pins again.
                self.want(&cold)?;
                return Ok(());
            }
        };
        self.publish_pages(root, state);
        let applied = self.applies.published();
        let mut payload = Payload { root, state, applied, mark };
        if seeded::is(Bug::CheckpointClaimsMore) {
            payload.applied.index += 1;
        }
        if seeded::is(Bug::ForgetCompaction) {
            payload.state.compacted = Revision::NEVER_COMPACTED;
        }
        let checkpoint = self.store.pages_mut().begin_checkpoint(&payload.encode());
        self.store.history_mut().on_checkpoint_pinned();
        let job = Box::new(CheckpointJob::new(checkpoint, applied));
        self.checkpoints.step = Step::Waiting { job, log: self.pushed };
        self.checkpoints.log_bytes = self.logged_bytes;
        Ok(())
    }

    pub(super) fn poll_checkpoint(&mut self) -> Option<CheckpointJob> {
        if !matches!(self.checkpoints.step, Step::Ready(_)) {
            return None;
        }
        match std::mem::replace(&mut self.checkpoints.step, Step::Running) {
            Step::Ready(job) => Some(*job),
            step => unreachable!("just looked at {step:?}"),
        }
    }

    /// A checkpoint comes back from the background thread.
    pub fn on_checkpoint(&mut self, job: CheckpointJob, outcome: Result<(), MapError>) -> Result<(), Fatal> {
        outcome.map_err(Fatal::Index)?;
        if job.checkpoint.is_full() {
            self.checkpoints.step = Step::Full(Box::new(job));
            return Ok(());
        }
        assert!(job.checkpoint.is_durable(), "a checkpoint came back unfinished");
        self.store.pages_mut().finish_checkpoint(job.checkpoint);
        self.store.history_mut().on_checkpoint_durable();
        self.checkpoints.durable = job.applied;
        self.checkpoints.step = Step::Idle;
        if self.transfers.is_installing() {
            // Raft's log begins behind the other member's state.
            return Ok(());
        }
        self.wal.release(job.applied.index);
        self.raft.compact(LogIndex(job.applied.index));
        Ok(())
    }
}
