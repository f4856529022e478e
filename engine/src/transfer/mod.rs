//! A member's whole state, from one that leads to one that is too far behind for its log.
//!
//! ```text
//!   leader                                     follower
//!   pins: revision, compaction, applied  ──►   spool: file `incoming`, piece by piece
//!   small tables, then records in order        synced ─► raft hears of it ─► mark in the log, durable
//!                                              ─► `commit` in the spool ─► the member is opened again,
//!                                              and opening puts history and index in place of the old ones
//! ```
//! Records go as they are stored, whole chunks at a time, and the follower packs them into chunks of its own and builds
//! its index from them. Writes go on meanwhile: what comes after the pin is in the leader's log.
//!
//! A piece names where it begins and where the next one does ([`Piece::at`], [`Piece::behind`]), so that one that was
//! lost is sent again, and a connection that broke goes on where it was. Whatever happens before the meta page of the
//! new index is durable leaves the old state whole; a spool without its commit is thrown away.

// Pieces as bytes.
pub mod piece;

// Pieces into the file.
pub mod spool;

// The file into a store.
pub mod install;

pub use piece::{Head, Piece};
