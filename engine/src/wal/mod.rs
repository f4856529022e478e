//! The log: what this member has promised, on disk before anybody relies on it.
//!
//! Raft entries, votes, configurations and snapshot marks become frames, frames become blocks, blocks become
//! writes with up to K in flight. A block is durable by its own completion and counts when all before it are
//! durable too. Recovery tells a torn tail, which is cut, from damaged acknowledged data, which never is. The
//! reasoning, and what is assumed of the disk, stand in `docs/wal.md`; the rules on storage faults follow
//! "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018) in spirit.
//!
//! Not here: what an entry means (the replica), who may vote (raft), how bytes reach a device (`disk`). The
//! writer touches no file and no clock; recovery and opening block, because they run before any loop does.

use bytes::Bytes;

// Where each byte of a block is.
pub mod layout;

// The records inside a block.
pub mod frame;

// One block while it is filled.
mod block;

// What the next header and the next segment head repeat.
mod tail;

// Sizes and mode.
pub mod config;

// Segments: placing blocks, zeroed files ahead, reuse behind.
mod segment;

// Group commit without input or output: frames in, disk operations out, a durable position back.
pub mod writer;

// Why a log cannot be opened.
mod error;

// A segment's bytes, in large pieces.
mod reader;

// What valid blocks lie where: the evidence that recovery judges.
mod survey;

// The short way to the same evidence: what the index holds is not read.
mod walk;

// Which of them count.
mod chain;

// Frames into the state they describe.
mod replay;

// From the files of a log to the state to go on from, or a refusal.
pub mod recover;

// Begins a new start: the fresh segment that must be durable before anything is served.
pub mod open;

// Reports on a log for an operator, and cuts a damaged one.
pub mod inspect;

/// Whose log it is; blocks of anybody else do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Cluster id.
    pub cluster: u64,
    /// Member id, never 0.
    pub member: u64,
}

/// Names an entry; index 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Its place in the log.
    pub index: u64,
    /// The term in which it was proposed.
    pub term: u64,
}

/// A raft entry, opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which it was proposed.
    pub term: u64,
    /// Its place in the log; the first is 1.
    pub index: u64,
    /// What sort of entry, in raft's own numbers.
    pub kind: u8,
    /// Its content.
    pub data: Bytes,
}

impl Entry {
    /// Its name.
    pub fn id(&self) -> EntryId {
        EntryId { index: self.index, term: self.term }
    }
}

/// What raft must not forget besides entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term.
    pub term: u64,
    /// Whom this member voted for in that term.
    pub vote: Option<u64>,
    /// Highest index known committed; a hint, never ahead of what is durable somewhere.
    pub commit: u64,
}

pub use config::{Config, Mode};
pub use open::open;
pub use recover::{Recovered, recover};
pub use writer::{WalFailure, Writer};
