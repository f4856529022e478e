//! Every message between members: who sends it, when, and what answers it.
//!
//! | message | from -> to | when | durable before it leaves |
//! |---|---|---|---|
//! | `PreVote`, `PreVoteReply` | candidate <-> voters | before a real election (thesis §9.6) | reply: yes |
//! | `Vote`, `VoteReply` | candidate <-> voters | election (§3.4) | both: log and vote |
//! | `Append` | leader -> all | new entries, commit news, probing (§3.5) | no: in parallel (§10.2.1) |
//! | `AppendReply` | follower -> leader | stored or refused | yes |
//! | `Heartbeat`, `HeartbeatReply` | leader <-> all | every tick, and for reads (§6.4) | reply: its term |
//! | `Snapshot` | leader -> follower | the entries it needs are gone (§5) | no; the state is streamed beside it |
//! | `TimeoutNow` | leader -> voter | leadership transfer (§3.10) | no |
//! | `Propose` | follower -> leader | a client wrote through a follower | no |
//! | `ReadIndex`, `ReadIndexReply` | follower <-> leader | a client read through a follower | no |
//!
//! Delivery may lose, repeat, delay and reorder; nothing here relies on more. The encoding is the driver's
//! business.

use bytes::Bytes;

use crate::types::{Entry, EntryKind, LogIndex, MemberId, ReadRound, SnapshotMeta, Term};

/// A message in its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: MemberId,
    /// The receiver.
    pub to: MemberId,
    /// The sender's term; for `PreVote` and its grant, the term the candidate would move to.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// "Would you vote for me?" Changes no state anywhere.
    PreVote {
        /// The candidate's last entry.
        last_index: LogIndex,
        /// That entry's term.
        last_term: Term,
    },
    /// Answer to `PreVote`.
    PreVoteReply {
        /// Whether the vote would be given.
        granted: bool,
        /// What the voter knows to be committed: a candidate may have forgotten that a change it needs
        /// already is.
        commit: LogIndex,
        /// The term of that entry.
        commit_term: Term,
    },
    /// "Vote for me."
    Vote {
        /// The candidate's last entry.
        last_index: LogIndex,
        /// That entry's term.
        last_term: Term,
        /// The leader asked for this election, so loyalty to it must not stand in the way.
        transfer: bool,
    },
    /// Answer to `Vote`.
    VoteReply {
        /// Whether the vote is given.
        granted: bool,
        /// As in `PreVoteReply`.
        commit: LogIndex,
        /// Its term.
        commit_term: Term,
    },
    /// Entries to follow `prev_index`; none to probe, or to bring commit news.
    Append {
        /// The entry before the first one sent.
        prev_index: LogIndex,
        /// Its term.
        prev_term: Term,
        /// Consecutive entries, terms not descending.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
        /// The newest closed read round.
        round: ReadRound,
    },
    /// Answer to `Append` and to `Snapshot`.
    AppendReply {
        /// Stored, or refused.
        outcome: AppendOutcome,
        /// The round of the message answered.
        round: ReadRound,
        /// False while the follower is recovering: it stores, but nothing may be counted on it.
        counting: bool,
    },
    /// "I lead."
    Heartbeat {
        /// Never beyond what this follower is known to store.
        commit: LogIndex,
        /// The newest closed read round.
        round: ReadRound,
    },
    /// Answer to `Heartbeat`.
    HeartbeatReply {
        /// The round of the message answered.
        round: ReadRound,
    },
    /// The state up to `meta` replaces the follower's log; delivered to [`Raft::step`](crate::Raft::step)
    /// only after the driver has received and checked the whole stream.
    Snapshot {
        /// What the state stands for.
        meta: SnapshotMeta,
    },
    /// "Start an election now."
    TimeoutNow,
    /// "Propose this for me." Lost or refused silently: the sender times out.
    Propose {
        /// Ascends from one sender, over its restarts too, so that a repeated message proposes nothing twice.
        number: u64,
        /// The kind of all entries.
        kind: EntryKind,
        /// Their data, in order.
        data: Vec<Bytes>,
    },
    /// "Confirm my read round."
    ReadIndex {
        /// The asker's round.
        round: ReadRound,
    },
    /// Answer to `ReadIndex`.
    ReadIndexReply {
        /// The asker's round.
        round: ReadRound,
        /// Reads of that round see everything up to here.
        index: LogIndex,
    },
}

/// Result of an `Append`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The follower's log equals the leader's, durably, up to `index`.
    Matched {
        /// Last index known equal.
        index: LogIndex,
    },
    /// The follower has no entry `prev_index` with the term asked for.
    Rejected {
        /// The `prev_index` that did not match.
        prev_index: LogIndex,
        /// The greatest index at which the logs may still agree.
        hint_index: LogIndex,
        /// The follower's term there; zero if its log does not reach back that far.
        hint_term: Term,
    },
}

impl Payload {
    /// Whether it may overtake appends: small, and late delivery costs an election or a read.
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Self::Append { .. } | Self::Snapshot { .. } | Self::Propose { .. })
    }
}
