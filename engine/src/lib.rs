//! From a command to a durable, applied, queryable result.
//!
//! Nothing here knows protobuf, HTTP or sockets, and nothing but the named drivers in [`disk`] knows files or
//! io_uring: the cores take `now`, bytes and completions, and emit work. The simulator is just another driver.
//!
//! The modules stand in the order a put passes them.

// What a client may ask, in our words.
pub mod request;

// The checks of a request that need no state.
pub mod check;

// Whether a transaction might write one key twice.
pub mod overlap;

// What it gets back: revisions, counts and pointers into the history, never copies of values.
pub mod response;

// The one table of etcd's error codes and exact texts.
pub mod error;

// Revisions, lease ids and the other numbers that must not be mixed up.
pub mod types;

// What enters the log.
pub mod command;

// The seam to storage: operations, completions and their durability rules.
pub mod disk;

// The log: frames into blocks, blocks into durable positions, and back after a crash.
pub mod wal;

// The index file as checked pages; the only unsafe code of the engine.
pub mod map;

// Many versions of every key: the index of newest versions and the history of all of them.
pub mod mvcc;

// Leases: what is stored of them, and when they run out.
pub mod lease;

// Who belongs to the cluster.
pub mod members;

// A committed command becomes a state change.
pub mod apply;

// Who is told of which change: cursors into the history.
pub mod watch;
// The store as a file that etcd's tools accept.
pub mod snapshot;

// A member's state for another.
pub mod transfer;

// One member, without input or output.
pub mod replica;

// Mistakes that the simulator must find.
pub mod seeded;
