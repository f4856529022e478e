//! When reclaim goes on, how fast, and what it must not touch.
//!
//! A step is taken at the beginning of a turn, before anything is applied: then every answer of the turns before is with
//! the driver, which has said by [`Replica::pin`] what is still being read. So the floor never passes a record that an
//! answer names.

use std::time::{Duration, Instant};

use super::{Coming, Fatal, Replica};
use crate::mvcc::reclaim::Spend;
use crate::seeded::{self, Bug};
use crate::types::Revision;

/// How fast chunks are moved, at most.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes of chunks a second.
    pub bytes_per_second: u64,
    /// Records looked at in one turn.
    pub steps: u32,
}

impl Default for Pace {
    /// A gigabyte in a quarter of a minute, and less than a tenth of a millisecond at a time.
    fn default() -> Pace {
        Pace { bytes_per_second: 64 << 20, steps: 64 }
    }
}

/// Bytes that may be saved up.
const BURST_BYTES: u64 = 512 << 10;

/// Index entries that may be removed before the version that lacks them is published: until then both are in memory.
const UNPUBLISHED_MAX: u64 = 512;

/// Vacated files that make a checkpoint due while reclaim goes on.
const VACATED_MAX: usize = 4;

/// Bytes that may wait for room on a full disk before no more chunks are moved.
const QUEUED_MAX: usize = 4 << 20;

/// When to look again while there is something to do and no turn for it.
const BREAK: Duration = Duration::from_millis(2);

/// The state of reclaim's driver.
#[derive(Debug, Default)]
pub struct Reclaiming {
    /// The oldest revision that somebody reads.
    pin: Option<Revision>,
    /// Something is being brought in.
    cold: bool,
    /// The last slice left something to do.
    busy: bool,
    /// Bytes that may be spent, as of `at`.
    allowance: u64,
    at: Option<Instant>,
    /// Keys forgotten at the last publication.
    shown: u64,
}

impl Reclaiming {
    /// Something was brought in: try again.
    pub fn warmed(&mut self) {
        self.cold = false;
    }

    /// When to call again although nothing comes in.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        (self.busy && !self.cold).then(|| now + BREAK)
    }

    fn refill(&mut self, now: Instant, pace: Pace) {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let micros = since.as_micros().min(1_000_000) as u64;
        let more = pace.bytes_per_second * micros / 1_000_000;
        // What is less than a byte is not lost.
        if more > 0 || self.at.is_none() {
            self.allowance = (self.allowance + more).min(BURST_BYTES);
            self.at = Some(now);
        }
    }
}

impl Replica {
    /// The oldest revision that an answer under way, or a watcher, still needs: records it may name are kept. The driver
    /// says so before each turn.
    pub fn pin(&mut self, oldest: Option<Revision>) {
        self.reclaiming.pin = oldest;
    }

    /// Whether the pin decides anything: there is something to give back. Else the driver need not look for it.
    pub fn wants_pin(&self) -> bool {
        !self.store.reclaimed().is_done(self.store.published().1.compacted)
    }

    /// Revisions from here on are whole. Nobody may begin to read below it.
    pub fn floor(&self) -> Revision {
        self.store.reclaimed().floor()
    }

    /// Up to where records may be freed now.
    fn floor_allowed(&self) -> Revision {
        let compacted = self.store.published().1.compacted;
        let pin = self.reclaiming.pin.filter(|_| !seeded::is(Bug::IgnorePins));
        // What a compaction leaves its hash of is kept until it has.
        let sent = self.transfers.oldest().unwrap_or(compacted);
        compacted.min(self.hashed_up_to()).min(pin.unwrap_or(compacted)).min(sent)
    }

    /// Whether everything that compaction up to `revision` made dead was given back: pages, records and files.
    pub fn is_reclaimed(&self, revision: Revision) -> bool {
        let reclaimed = self.store.reclaimed();
        reclaimed.is_done(revision) && !self.store.history().is_releasing()
    }

    /// Whether checkpoints are all that reclaim waits for, or many files wait for one.
    pub(super) fn needs_checkpoint(&self) -> bool {
        let history = self.store.history();
        let done = !self.stopping && self.store.reclaimed().is_done(self.floor_allowed());
        (history.waits_for_checkpoint() && done) || history.vacated().len() >= VACATED_MAX
    }

    /// Goes on for a slice, if nothing forbids it.
    pub(super) fn reclaim(&mut self, now: Instant) -> Result<(), Fatal> {
        self.reclaiming.refill(now, self.config.reclaim);
        if self.stopping {
            self.reclaiming.busy = false;
            return Ok(());
        }
        if self.reclaiming.cold || !self.events.is_empty() || !self.applies.is_settled() {
            return Ok(());
        }
        // On a full disk moved chunks cannot be written; a few may wait.
        if self.store.history().queued_bytes() > QUEUED_MAX && self.store.history().is_full() {
            self.reclaiming.busy = false;
            return Ok(());
        }
        let floor = self.floor_allowed();
        self.reclaiming.busy = !self.store.reclaimed().is_done(floor);
        if !self.reclaiming.busy || self.reclaiming.allowance == 0 {
            return Ok(());
        }
        let mut spend = Spend { steps: self.config.reclaim.steps, bytes: self.reclaiming.allowance };
        let outcome = self.store.reclaim(floor, &mut spend);
        self.reclaiming.allowance = spend.bytes;
        match outcome {
            Ok(more) => self.reclaiming.busy = more,
            Err(cold) => self.reclaiming.cold = self.want(&cold)? != Coming::Now,
        }
        let forgotten = self.store.reclaimed().tally().forgotten;
        let many = forgotten - self.reclaiming.shown >= UNPUBLISHED_MAX;
        let last = !self.reclaiming.busy && !self.store.is_published();
        if (many || last) && self.show()? {
            self.reclaiming.shown = forgotten;
        }
        Ok(())
    }

    /// Whether a turn left reclaim something that it may do at once.
    pub(super) fn reclaims_on(&self) -> bool {
        self.reclaiming.busy && !self.reclaiming.cold && self.reclaiming.allowance > 0
    }
}
