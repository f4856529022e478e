//! A disk without room.
//!
//! Whoever finds none waits: the log for its next segment, the history and the checkpoint for their writes. The alarm is
//! raised, so that nothing is admitted that adds to the store. A file of nothing but space, the *reserve*, is
//! removed then: what it held is for deletes, for a compaction, for the checkpoint that makes it count, and for moved
//! chunks until their old files go. It is made again when the alarm was lowered.

use std::time::{Duration, Instant};

use super::{Fatal, Replica};
use crate::disk::{FileName, Op, Outcome, Owner, Token};
use crate::mvcc::history::OpenError;
use crate::request::AlarmKind;

/// How long after a vain attempt to make the reserve the next one is.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The reserve.
#[derive(Debug)]
pub struct Reserve {
    state: State,
    bytes: u64,
    next_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none, and none is tried before this time.
    Absent(Option<Instant>),
    /// It is to be made.
    Wanted,
    Creating,
    Present,
    /// Its space is needed.
    Given,
    Removing,
}

impl Reserve {
    /// As found at open; of `bytes`, or never if that is 0.
    pub fn new(bytes: u64, present: bool) -> Reserve {
        let state = if present { State::Present } else { State::Absent(None) };
        Reserve { state, bytes, next_id: 0 }
    }

    /// The next operation.
    pub fn poll(&mut self) -> Option<(Token, Op)> {
        let file = FileName::Reserve;
        let (state, op) = match self.state {
            State::Wanted => (State::Creating, Op::Create { file, len: self.bytes }),
            State::Given => (State::Removing, Op::Remove { file }),
            _ => return None,
        };
        self.state = state;
        self.next_id += 1;
        Some((Token { owner: Owner::Reserve, id: self.next_id }, op))
    }

    /// There is room to make it, as far as one knows.
    fn want(&mut self, now: Instant) {
        if let State::Absent(until) = self.state
            && self.bytes > 0
            && until.is_none_or(|until| now >= until)
        {
            self.state = State::Wanted;
        }
    }

    /// Its space is needed. False while that is on its way.
    fn give(&mut self, now: Instant) -> bool {
        match self.state {
            State::Present => self.state = State::Given,
            State::Wanted => self.state = State::Absent(Some(now + RETRY_AFTER)),
            _ => {}
        }
        matches!(self.state, State::Absent(_))
    }
}

impl Replica {
    /// Looks for those who wait for room on the disk, and lets them try again.
    pub(super) fn relieve(&mut self, now: Instant) {
        let waits = self.wal.needs_space() || self.store.history().is_full() || self.checkpoints.is_full();
        if !waits {
            if !self.stopping && !self.store.has_alarm(AlarmKind::NoSpace) {
                self.reserve.want(now);
            }
            return;
        }
        self.raise_no_space(now);
        if self.reserve.give(now) {
            self.wal.retry_space();
            self.store.history_mut().retry_space();
            self.checkpoints.retry_space();
        }
    }

    /// The reserve was made or removed.
    pub(super) fn on_reserve(&mut self, outcome: Outcome) -> Result<(), Fatal> {
        self.reserve.state = match (self.reserve.state, outcome) {
            (State::Creating, Ok(_)) => State::Present,
            (State::Creating, Err(error)) if error.is_full() => {
                State::Absent(Some(self.next_tick + RETRY_AFTER))
            }
            (State::Removing, Ok(_)) => State::Absent(Some(self.next_tick + RETRY_AFTER)),
            (_, Err(error)) => return Err(Fatal::History(OpenError::Disk(error))),
            (state, Ok(_)) => unreachable!("an operation of the reserve ended in {state:?}"),
        };
        Ok(())
    }
}
