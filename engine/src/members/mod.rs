//! The members of the cluster as replicated state: who they are, what may become of them, and how the log says so.
//!
//! Raft knows ids and votes and makes them so (`raft/src/confchange.rs`); names and URLs are kept here, change by the same
//! entries, and are rows of the index like leases are. What a change may be is decided twice, as in etcd: by the leader
//! before it is proposed, from what it hears of the others ([`guards`]), and on every member alike when it is applied
//! ([`Roster::check`]).

// Rows of the index.
pub mod record;

// Changes as entries of the log.
pub mod change;

// Who belongs to the cluster, and who did.
pub mod roster;

// What would cost the cluster its quorum.
pub mod guards;

pub use change::MemberChange;
pub use roster::Roster;
