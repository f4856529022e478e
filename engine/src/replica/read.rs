//! Reads that wait: for the index they must see, or for something cold.

use std::collections::VecDeque;
use std::time::Instant;

use raft::{ReadError, ReadRound, ReadState};

use super::{CallId, Event, Replica};
use crate::error::ApiError;
use crate::seeded::{self, Bug};

/// How a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStart {
    /// It may be served from the published version at once.
    Ready,
    /// The call hears by [`Event::Go`] or [`Event::Refused`].
    Waiting,
}

/// Reads under way.
#[derive(Debug, Default)]
pub struct Reads {
    /// Waiting for their round, ascending.
    rounds: VecDeque<(ReadRound, CallId, Instant)>,
    /// Waiting for an index to be published, ascending.
    indexes: VecDeque<(u64, CallId)>,
    /// Waiting for the disk.
    cold: Vec<CallId>,
}

impl Reads {
    /// Raft confirmed all rounds up to this one.
    pub fn confirmed(&mut self, state: ReadState) {
        while let Some(&(round, call, _)) = self.rounds.front() {
            if round > state.round {
                break;
            }
            self.rounds.pop_front();
            self.indexes.push_back((state.index.0, call));
        }
    }

    /// The call waits for a disk completion.
    pub fn wait_for_disk(&mut self, call: CallId) {
        self.cold.push(call);
    }

    /// Something was brought in: whoever waited looks again.
    pub fn warmed(&mut self, events: &mut VecDeque<Event>) {
        events.extend(self.cold.drain(..).map(|call| Event::Go { call }));
    }

    /// Refuses reads whose round never came.
    pub fn expire(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        while let Some(&(_, call, deadline)) = self.rounds.front() {
            if deadline > now {
                break;
            }
            self.rounds.pop_front();
            events.push_back(Event::Refused { call, error: ApiError::Timeout });
        }
    }
}

impl Replica {
    /// Begins a linearizable read.
    ///
    /// Errors: no leader is known.
    pub fn read_index(&mut self, now: Instant, call: CallId) -> Result<ReadStart, ApiError> {
        let round = match self.raft.read_index() {
            Ok(round) => round,
            Err(ReadError::NoLeader | ReadError::Recovering) => return Err(ApiError::NoLeader),
        };
        while let Some(state) = self.raft.poll_read() {
            self.reads.confirmed(state);
            // A single voter confirms at once: the usual read is served without being queued.
            let applied = state.index.0 <= self.applies.published().index || seeded::is(Bug::ReadBeforeApply);
            if state.round >= round && applied {
                return Ok(ReadStart::Ready);
            }
            if state.round >= round {
                self.reads.indexes.push_back((state.index.0, call));
                return Ok(ReadStart::Waiting);
            }
        }
        self.reads.rounds.push_back((round, call, now + self.config.request_timeout));
        Ok(ReadStart::Waiting)
    }

    /// Lets reads go whose index is published.
    pub(super) fn release_reads(&mut self) {
        let published = self.applies.published().index;
        while let Some(&(index, call)) = self.reads.indexes.front() {
            if index > published {
                break;
            }
            self.reads.indexes.pop_front();
            self.events.push_back(Event::Go { call });
        }
    }
}
