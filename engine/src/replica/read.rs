//! Reads that wait: for the index they must see, or for something cold.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use raft::{ReadError, ReadRound, ReadState};

use super::{CallId, Event, Replica};
use crate::error::ApiError;
use crate::mvcc::history::cold::Wanted;
use crate::seeded::{self, Bug};

/// How long a round may take before raft is asked again (etcd's `readIndexRetryTime`).
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A read that waits longer for its index is slow, as in etcd.
const SLOW: Duration = Duration::from_millis(500);

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
    /// Waiting for a leader to ask, oldest first.
    unasked: VecDeque<(CallId, Instant)>,
    /// When raft was last asked for a round.
    asked_at: Option<Instant>,
    /// Waiting for an index to be published, ascending.
    indexes: VecDeque<(u64, CallId)>,
    /// Waiting for pages of the index.
    pages: Vec<CallId>,
    /// Waiting for something of the history, each for its own: a thousand that wait for a thousand records must not all
    /// look again whenever one of them comes.
    history: BTreeMap<Wanted, Vec<CallId>>,
    /// Rounds up to this one were looked at when they were slow.
    seen_slow: Option<ReadRound>,
    slow: u64,
    failed: u64,
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

    /// The call waits for a page.
    pub fn wait_for_page(&mut self, call: CallId) {
        self.pages.push(call);
    }

    /// The call waits for something of the history.
    pub fn wait_for_history(&mut self, wanted: Wanted, call: CallId) {
        self.history.entry(wanted).or_default().push(call);
    }

    /// Pages were brought in: whoever waited for one looks again.
    pub fn pages_warmed(&mut self, events: &mut VecDeque<Event>) {
        events.extend(self.pages.drain(..).map(|call| Event::Go { call }));
    }

    /// This was brought in: whoever waited for it looks again.
    pub fn history_warmed(&mut self, wanted: Wanted, events: &mut VecDeque<Event>) {
        let calls = self.history.remove(&wanted).unwrap_or_default();
        events.extend(calls.into_iter().map(|call| Event::Go { call }));
    }

    /// Reads that waited long for their round, and those whose round never came.
    pub fn late(&self) -> (u64, u64) {
        (self.slow, self.failed)
    }

    /// Refuses reads whose round did not come within `limit`, and counts slow ones.
    pub fn expire(&mut self, now: Instant, limit: Duration, events: &mut VecDeque<Event>) {
        let counted = self.rounds.partition_point(|(round, ..)| Some(*round) <= self.seen_slow);
        let due = now + limit.saturating_sub(SLOW);
        let slow = self.rounds.partition_point(|(.., deadline)| *deadline <= due);
        if slow > counted {
            self.slow += (slow - counted) as u64;
            self.seen_slow = Some(self.rounds[slow - 1].0);
        }
        let error = ApiError::Timeout;
        while let Some((_, call, _)) = self.rounds.pop_front_if(|(_, _, deadline)| *deadline <= now) {
            self.failed += 1;
            events.push_back(Event::Refused { call, error });
        }
        while let Some((call, _)) = self.unasked.pop_front_if(|(_, deadline)| *deadline <= now) {
            self.failed += 1;
            events.push_back(Event::Refused { call, error });
        }
    }

    /// Another leader: the one that was asked, if any, answers no more, and as with etcd the clients hear of it.
    pub fn leader_changed(&mut self, events: &mut VecDeque<Event>) {
        self.refuse_unconfirmed(ApiError::LeaderChanged, events);
    }

    /// Nothing will be read here any more.
    pub fn refuse_all(&mut self, error: ApiError, events: &mut VecDeque<Event>) {
        self.refuse_unconfirmed(error, events);
        let confirmed = self.indexes.drain(..);
        events.extend(confirmed.map(|(_, call)| Event::Refused { call, error }));
    }

    fn refuse_unconfirmed(&mut self, error: ApiError, events: &mut VecDeque<Event>) {
        let asked = self.rounds.drain(..).map(|(_, call, _)| call);
        let calls = asked.chain(self.unasked.drain(..).map(|(call, _)| call));
        events.extend(calls.map(|call| Event::Refused { call, error }));
    }
}

impl Replica {
    /// Begins a linearizable read. Without a leader it waits for one.
    pub fn read_index(&mut self, now: Instant, call: CallId) -> ReadStart {
        if self.is_removed() {
            self.events.push_back(Event::Refused { call, error: ApiError::Stopped });
            return ReadStart::Waiting;
        }
        if seeded::is(Bug::ReadAtFollower) && !self.raft.is_leader() {
            return ReadStart::Ready;
        }
        let deadline = now + self.config.request_timeout;
        let round = match self.raft.read_index() {
            Ok(round) => round,
            Err(ReadError::NoLeader | ReadError::Recovering) => {
                self.reads.unasked.push_back((call, deadline));
                return ReadStart::Waiting;
            }
        };
        while let Some(state) = self.raft.poll_read() {
            self.reads.confirmed(state);
            // A single voter confirms at once: the usual read is served without being queued.
            let applied = state.index.0 <= self.applies.published().index || seeded::is(Bug::ReadBeforeApply);
            if state.round >= round && applied {
                return ReadStart::Ready;
            }
            if state.round >= round {
                self.reads.indexes.push_back((state.index.0, call));
                return ReadStart::Waiting;
            }
        }
        if self.reads.rounds.is_empty() {
            self.reads.asked_at = Some(now);
        }
        self.reads.rounds.push_back((round, call, deadline));
        ReadStart::Waiting
    }

    /// Asks once more, should question or answer have been lost. That is a round of its own, which confirms the
    /// earlier ones too: a number is never used twice (etcd #20418).
    pub(super) fn retry_reads(&mut self, now: Instant) {
        let is_due = self.reads.asked_at.is_none_or(|at| now >= at + RETRY_AFTER);
        if !self.reads.rounds.is_empty() && is_due {
            self.reads.asked_at = Some(now);
            // Whoever waits for a leader is woken by it.
            let _ = self.raft.read_index();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Seq;

    #[test]
    fn a_record_wakes_only_those_who_wait_for_it() {
        let mut reads = Reads::default();
        for call in 0..4 {
            reads.wait_for_history(Wanted::Record(Seq(call % 2)), CallId(call));
        }
        reads.wait_for_history(Wanted::Table(Seq(0)), CallId(4));
        reads.wait_for_page(CallId(5));
        let mut woken = |come: Option<Wanted>| {
            let mut events = VecDeque::new();
            match come {
                Some(wanted) => reads.history_warmed(wanted, &mut events),
                None => reads.pages_warmed(&mut events),
            }
            let call = |event| if let Event::Go { call } = event { call.0 } else { panic!("{event:?}") };
            events.into_iter().map(call).collect::<Vec<_>>()
        };
        assert_eq!(woken(Some(Wanted::Record(Seq(0)))), [0, 2]);
        assert_eq!(woken(Some(Wanted::Record(Seq(0)))), [] as [u64; 0]);
        assert_eq!(woken(None), [5]);
        assert_eq!(woken(Some(Wanted::Table(Seq(0)))), [4]);
        assert_eq!(woken(Some(Wanted::Record(Seq(1)))), [1, 3]);
    }
}
