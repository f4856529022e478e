//! Linearizable reads without writes (thesis §6.4, "ReadIndex"), by round numbers.
//!
//! 1. Reads that arrive together join the open round.
//! 2. The round is closed with the commit index of that moment; from then on every append and heartbeat
//!    carries its number. Under write load that costs no message; when idle, one heartbeat per follower.
//! 3. A follower echoes the number it was sent. When a majority of voters has echoed `r`, the leader was
//!    still the leader after `r` was closed, so every round up to `r` is confirmed.
//!
//! A number is never used twice, also not for a retry: etcd #20418 was a stale read after one was. An echo
//! counts only in the leader's own term, learners and recovering members never count, and nothing is
//! confirmed before the leader has committed in its own term (etcd #7331): until then it may not know of all
//! committed entries.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::message::Payload;
use crate::quorum;
use crate::raft::{Raft, Role};
use crate::seeded::{self, Bug};
use crate::types::{LogIndex, MemberId, ReadRound};

/// A confirmation: every read that was given `round` *or an earlier one* may be served once `index` is
/// applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The newest round confirmed.
    pub round: ReadRound,
    /// What those reads must see at least.
    pub index: LogIndex,
}

/// Why no read can be confirmed now; ask again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No leader is known.
    NoLeader,
    /// This member has lost acknowledged data and does not know yet what it missed.
    Recovering,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeader => "no leader",
            Self::Recovering => "recovering from damaged data",
        })
    }
}

impl std::error::Error for ReadError {}

/// Rounds open, closed and waiting for their quorum.
#[derive(Debug, Default)]
pub(crate) struct ReadRounds {
    /// The newest closed round; the open one is the next.
    closed: ReadRound,
    open: Readers,
    pending: VecDeque<Pending>,
}

/// Who waits for a round.
#[derive(Debug, Default)]
struct Readers {
    local: bool,
    /// The newest round of each asking member; confirming it confirms its earlier ones.
    remote: BTreeMap<MemberId, ReadRound>,
}

#[derive(Debug)]
struct Pending {
    round: ReadRound,
    index: LogIndex,
    readers: Readers,
}

impl ReadRounds {
    /// Rounds of a member that was started `starts` times before.
    pub(crate) fn new(starts: u64) -> Self {
        // Not zero: a recovering member echoes that, and nobody else may.
        Self { closed: ReadRound((starts << ROUNDS_PER_START_LOG2) + 1), ..Self::default() }
    }

    fn join(&mut self) -> ReadRound {
        self.open.local = true;
        if seeded::is(Bug::JoinAskedRound) { self.closed } else { self.closed.next() }
    }

    fn is_wanted(&self) -> bool {
        self.open.local || !self.open.remote.is_empty()
    }

    /// Closes the open round if somebody waits for it and the list of unconfirmed rounds has room.
    fn close(&mut self, index: LogIndex) {
        if !self.is_wanted() || self.pending.len() == PENDING_MAX {
            return;
        }
        self.closed = self.closed.next();
        self.pending.push_back(Pending {
            round: self.closed,
            index,
            readers: std::mem::take(&mut self.open),
        });
    }

    /// Leadership is lost: what waits here will be asked again, of somebody else.
    pub(crate) fn drop_all(&mut self) {
        self.pending.clear();
        self.open.remote.clear();
    }

    pub(crate) fn closed(&self) -> ReadRound {
        self.closed
    }
}

impl Raft {
    /// Asks for the index a linearizable read arriving now must see. [`poll_read`](Self::poll_read) answers.
    ///
    /// One call serves any number of reads that are waiting. The answer may never come: a change of term or
    /// leader forgets unconfirmed rounds, and messages get lost. The caller asks again on its own timer and
    /// gets a new round.
    pub fn read_index(&mut self) -> Result<ReadRound, ReadError> {
        if self.recovering.is_some() {
            return Err(ReadError::Recovering);
        }
        if self.leader.is_none() {
            return Err(ReadError::NoLeader);
        }
        let round = self.reads.join();
        if self.is_leader() && self.conf.voters == [self.config.id] {
            self.close_round();
            self.confirm_reads();
        }
        Ok(round)
    }

    /// Leader: `from` asks on behalf of its own readers.
    pub(crate) fn handle_read_index(&mut self, from: MemberId, round: ReadRound) {
        if !self.peers.contains_key(&from) {
            return;
        }
        let newest = self.reads.open.remote.entry(from).or_default();
        *newest = round.max(*newest);
        self.advance_reads();
    }

    /// Follower: the leader has confirmed `round`, which is one of ours.
    pub(crate) fn handle_read_index_reply(&mut self, round: ReadRound, index: LogIndex) {
        if round <= self.reads.closed {
            self.outbox.confirm_read(ReadState { round, index });
        }
    }

    /// Called before messages leave: sends what the waiting reads need.
    pub(crate) fn flush_reads(&mut self) {
        if self.role == Role::Leader {
            if self.reads.pending.is_empty() {
                self.close_round();
            }
            self.spread_round();
        } else if let Some(leader) = self.leader
            && self.reads.open.local
        {
            self.reads.open.local = false;
            self.reads.closed = self.reads.closed.next();
            self.send(leader, Payload::ReadIndex { round: self.reads.closed });
        }
    }

    /// Closes the open round so that the messages about to be made carry it.
    pub(crate) fn close_round(&mut self) {
        if self.has_committed_in_term() {
            self.reads.close(self.log.commit());
        }
    }

    /// Something that reads wait for has happened: a first commit, an echo, a smaller quorum.
    pub(crate) fn advance_reads(&mut self) {
        if self.conf.voters == [self.config.id] {
            self.close_round();
        }
        self.confirm_reads();
    }

    /// Confirms all rounds a majority has echoed.
    pub(crate) fn confirm_reads(&mut self) {
        if self.reads.pending.is_empty() {
            return;
        }
        let own = self.reads.closed;
        let echoed = quorum::reached(&self.conf.voters, |id| {
            if id == self.config.id || seeded::is(Bug::ReadWithoutRound) {
                own
            } else {
                self.peers.get(&id).map_or(ReadRound(0), |p| p.round_acked)
            }
        });
        while self.reads.pending.front().is_some_and(|pending| pending.round <= echoed) {
            let Pending { round, index, readers } = self.reads.pending.pop_front().expect("front exists");
            if readers.local {
                self.outbox.confirm_read(ReadState { round, index });
            }
            for (reader, round) in readers.remote {
                self.send(reader, Payload::ReadIndexReply { round, index });
            }
        }
    }

    /// Sends a heartbeat to each voter that has not been sent the newest unconfirmed round by other means.
    fn spread_round(&mut self) {
        let Some(newest) = self.reads.pending.back().map(|pending| pending.round) else { return };
        let behind = |(id, progress): (&MemberId, &crate::progress::Progress)| {
            (self.conf.is_voter(*id) && progress.round_sent < newest).then_some(*id)
        };
        let unaware: Vec<MemberId> = self.peers.iter().filter_map(behind).collect();
        for id in unaware {
            self.send_heartbeat(id);
        }
    }
}

/// Room for a round every microsecond for twelve days between starts, and for sixteen million starts.
const ROUNDS_PER_START_LOG2: u32 = 40;

/// Unconfirmed rounds kept apart; beyond it reads go on joining the open round.
const PENDING_MAX: usize = 64;
