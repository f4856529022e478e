//! Proposals: what a leader admits to its log, and the bounds on what waits there.
//!
//! Two limits keep a leader's memory bounded whatever its followers and its state machine do: bytes not yet
//! committed, and entries committed but not yet applied. etcd has the second only
//! (`server/etcdserver/v3_server.go`); its raft has the first as an option.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::confchange::{ConfChange, ConfChangeRefusal};
use crate::log::entry_bytes;
use crate::message::Payload;
use crate::raft::Raft;
use crate::seeded::{self, Bug};
use crate::types::{EntryKind, LogIndex, MemberId, Term};

/// Where proposals went in the log. They may still be lost: only their application proves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The term they were proposed in.
    pub term: Term,
    /// The index of the first.
    pub first: LogIndex,
    /// The index of the last.
    pub last: LogIndex,
}

/// Why nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead; the one that does, if known, can be reached by [`Raft::forward`].
    NotLeader {
        /// The leader.
        leader: Option<MemberId>,
    },
    /// Leadership is being handed over.
    Transferring,
    /// Too much is uncommitted or unapplied (etcd: "too many requests").
    TooManyRequests,
    /// Another configuration change is not applied yet.
    ConfChangePending,
    /// The leader has not committed in its own term yet, so it must not change the configuration.
    LeaderNotReady,
    /// The configuration change would break the cluster.
    Refused(ConfChangeRefusal),
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader; member {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("not the leader; none is known"),
            Self::Transferring => f.write_str("leadership is being transferred"),
            Self::TooManyRequests => f.write_str("too many uncommitted or unapplied proposals"),
            Self::ConfChangePending => f.write_str("another membership change is not applied yet"),
            Self::LeaderNotReady => f.write_str("the leader has not committed in its term yet"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for ProposeError {}

/// Proposals passed on, numbered: a network may repeat a message, and a command must happen at most once.
///
/// A leader takes from each member only what is numbered above all it took in its term; a message of an earlier term
/// ends in [`Raft::step`]. What was overtaken on the way is lost, like any other message.
#[derive(Debug)]
pub(crate) struct Forwards {
    /// The last number given to a message of our own.
    sent: u64,
    /// Leader: the last number taken from each member in this term.
    taken: BTreeMap<MemberId, u64>,
}

impl Forwards {
    /// Of a member that was started `starts` times before.
    pub(crate) fn new(starts: u64) -> Self {
        Self { sent: starts << NUMBERS_PER_START_LOG2, taken: BTreeMap::new() }
    }

    /// A new term of the own leadership: nothing sent in an earlier one arrives any more.
    pub(crate) fn begin_term(&mut self) {
        self.taken.clear();
    }

    fn next(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Whether `number` is news from `from`.
    fn take(&mut self, from: MemberId, number: u64) -> bool {
        let taken = self.taken.entry(from).or_default();
        let news = number > *taken || seeded::is(Bug::TakeForwardsAgain);
        *taken = number.max(*taken);
        news
    }
}

impl Raft {
    /// Proposes `entries`, one command each, as one batch, taking from the iterator only what it admits.
    ///
    /// Stops when the uncommitted bytes reach their limit; pass `&mut iter` to keep the rest. At least one is
    /// admitted, whatever its size, or the answer is an error. An empty iterator proposes nothing, `last <
    /// first`.
    pub fn propose(&mut self, entries: impl IntoIterator<Item = Bytes>) -> Result<Proposed, ProposeError> {
        self.propose_within(self.config.apply_gap_max, entries)
    }

    /// As [`propose`](Self::propose), for requests that relieve the server (lease revocation, compaction,
    /// alarms): they are refused at twice the distance between commit and apply.
    pub fn propose_critical(
        &mut self,
        entries: impl IntoIterator<Item = Bytes>,
    ) -> Result<Proposed, ProposeError> {
        self.propose_within(self.config.apply_gap_max.saturating_mul(2), entries)
    }

    /// Whether proposals go anywhere now: into the own log, or to a leader. If not, they had better wait.
    pub fn takes_proposals(&self) -> bool {
        self.leader.is_some() && self.transfer.is_none()
    }

    /// Sends proposals to the leader. It may refuse or never see them; the caller notices by time only.
    ///
    /// Errors: there is no leader but this member; this member itself is too far behind with applying.
    pub fn forward(&mut self, kind: EntryKind, data: Vec<Bytes>) -> Result<(), ProposeError> {
        match self.leader {
            Some(leader) if !self.is_leader() => {
                if self.log.commit().since(self.log.applied()) > self.config.apply_gap_max {
                    return Err(ProposeError::TooManyRequests);
                }
                let number = self.forwards.next();
                self.send(leader, Payload::Propose { number, kind, data });
                Ok(())
            }
            leader => Err(ProposeError::NotLeader { leader }),
        }
    }

    /// A follower passes on what its clients wrote. Refusals are silent: its clients time out.
    pub(crate) fn handle_propose(&mut self, from: MemberId, number: u64, kind: EntryKind, data: Vec<Bytes>) {
        if !self.is_leader() || !self.peers.contains_key(&from) || !self.forwards.take(from, number) {
            return;
        }
        match kind {
            EntryKind::Normal => {
                let _ = self.propose(data);
            }
            EntryKind::ConfChange => {
                for change in data.iter().flat_map(ConfChange::decode) {
                    let _ = self.propose_conf_change(&change);
                }
            }
        }
    }

    fn propose_within(
        &mut self,
        gap_max: u64,
        entries: impl IntoIterator<Item = Bytes>,
    ) -> Result<Proposed, ProposeError> {
        self.check_proposal(gap_max)?;
        let first = self.log.last_index().next();
        let mut entries = entries.into_iter();
        while self.uncommitted_bytes < self.config.uncommitted_bytes_max
            && let Some(data) = entries.next()
        {
            self.append_entry(EntryKind::Normal, data);
        }
        let last = self.log.last_index();
        if last >= first {
            self.after_append();
        }
        Ok(Proposed { term: self.term, first, last })
    }

    pub(crate) fn check_proposal(&self, gap_max: u64) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader { leader: self.leader });
        }
        if self.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let uncommitted_full = self.uncommitted_bytes >= self.config.uncommitted_bytes_max;
        if uncommitted_full || self.log.commit().since(self.log.applied()) > gap_max {
            return Err(ProposeError::TooManyRequests);
        }
        Ok(())
    }

    /// Adds an entry of the own term to the log and to the open write.
    pub(crate) fn append_entry(&mut self, kind: EntryKind, data: Bytes) -> LogIndex {
        let position = self.outbox.open();
        let entry = self.log.push(self.term, kind, data);
        let index = entry.index;
        self.uncommitted_bytes += entry_bytes(entry);
        self.outbox.entries().push(entry.clone());
        self.log.written_at(position);
        index
    }

    /// Raises the commit index and gives back what its entries held of the proposal quota.
    pub(crate) fn commit_to(&mut self, index: LogIndex) -> bool {
        let before = self.log.commit();
        if !self.log.commit_to(index) {
            return false;
        }
        if self.is_leader() {
            let bytes: u64 = self.log.range(before.next(), index).map(entry_bytes).sum();
            assert!(bytes <= self.uncommitted_bytes, "{bytes} bytes committed of {}", self.uncommitted_bytes);
            self.uncommitted_bytes -= bytes;
        }
        true
    }
}

/// Room for a forward every microsecond for twelve days between starts, and for sixteen million starts.
const NUMBERS_PER_START_LOG2: u32 = 40;
