//! Raft consensus (Ongaro's thesis) as a pure state machine: no clock, disk, socket, thread or randomness of
//! its own.
//!
//! It decides the order of opaque entries and nothing else. The one user of this crate drives a [`Raft`]:
//!
//! 1. **In.** [`tick`](Raft::tick) per heartbeat interval, [`step`](Raft::step) per message,
//!    [`propose`](Raft::propose) and [`read_index`](Raft::read_index) per batch of requests,
//!    [`persisted`](Raft::persisted) and [`applied`](Raft::applied) per completion. Inputs never block and
//!    never fail half way.
//! 2. **Write.** [`poll_append`](Raft::poll_append) hands out everything that must become durable, as one
//!    [`Append`] with a growing [`LogPosition`]. Write them in that order; several may be in flight; report
//!    [`persisted(p)`](Raft::persisted) when *all* up to `p` are durable.
//! 3. **Send.** [`poll_message`](Raft::poll_message) hands out only what may leave now. A leader's entries
//!    leave while they are being written. Acknowledgements, votes, refusals and vote requests are held inside
//!    until the write they rest on is reported durable; so the order of 2 and 3 does not matter.
//! 4. **Apply.** [`poll_committed`](Raft::poll_committed) hands out committed entries, consecutive and once
//!    each, also while earlier ones are being applied, and possibly before this member's own disk has them:
//!    state built from them may reach disk only after the log has. A configuration change found among them
//!    goes to [`apply_conf_change`](Raft::apply_conf_change); then [`applied`](Raft::applied) reports
//!    progress.
//! 5. **Read.** [`poll_read`](Raft::poll_read) confirms rounds of reads: serve them once the index is
//!    applied.
//! 6. **Forget.** [`compact`](Raft::compact) drops entries held in memory; a follower that still needs them
//!    shows up in [`poll_snapshot_request`](Raft::poll_snapshot_request).
//!
//! Poll every output after every input, until `None`. All bounds are in [`Config`]; a proposal beyond them is
//! refused with [`ProposeError::TooManyRequests`], and no input makes an output grow without one.
//!
//! **A crash** at any point is survived if [`Restored`] then holds at least what was reported persisted. What
//! a peer or a disk says is checked and answered with an error; what breaks Raft's own invariants is an
//! assertion that names the values: stopping is better than a wrong answer.
//!
//! The files, as data passes through them:

#![forbid(unsafe_code)]

// Tables of tests whose rows have names.
#[cfg(test)]
#[macro_use]
#[path = "../tests/harness/cases.rs"]
mod cases;

// The words: terms, indexes, positions, entries, and every message between members.
mod types;

mod message;

// What a member starts from, checked once: limits, and what its disk held.
mod config;

mod restore;

// The member: its state, its completions and outputs.
mod raft;

// A message arrives: whose term is newer, and which rule does it meet?
mod step;

// The rules: who leads,
mod election;

// what the leader admits,
mod propose;

// how the others come to hold it and when it counts,
mod replicate;

// who the others are,
mod confchange;

// and what a read must see.
mod read_index;

// What the rules keep their knowledge in: the log, each follower's progress and window, majorities, chance.
mod log;

mod progress;

mod inflights;

mod quorum;

mod random;

// What comes out: writes, messages held until a write is durable, and a picture for people.
mod outbox;

mod status;

// Mistakes that the simulator must find.
pub mod seeded;

pub use crate::confchange::{ConfChange, ConfChangeOp, ConfChangeRefusal, MalformedConfChange};
pub use crate::config::{Config, ConfigError};
pub use crate::election::TransferError;
pub use crate::message::{AppendOutcome, Message, Payload};
pub use crate::outbox::Append;
pub use crate::progress::ProgressState;
pub use crate::propose::{ProposeError, Proposed};
pub use crate::raft::{Raft, Role};
pub use crate::read_index::{ReadError, ReadState};
pub use crate::restore::{Promise, RestoreError, Restored};
pub use crate::status::{FollowerStatus, Status};
pub use crate::step::StepError;
pub use crate::types::{
    ConfState, Entry, EntryKind, HardState, LogIndex, LogPosition, MemberId, ReadRound, SnapshotMeta, Term,
};
