//! Numbers that meet and must not be mixed up.
//!
//! Client-visible numbers keep etcd's signed 64-bit range, because clients may send negative ones and get defined
//! answers; internal ones are unsigned.

use std::fmt;

/// Main revision of the store: grows by one for every transaction that changed anything. A fresh store is at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// Revision of a store that was never written.
    pub const INITIAL: Revision = Revision(1);

    /// Value of the compaction revision of a store that was never compacted.
    pub const NEVER_COMPACTED: Revision = Revision(-1);

    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0.checked_add(1).expect("a store makes fewer than 2^63 revisions"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sequence number of a history record: assigned at apply, from 1 without gaps, equal on all members.
///
/// Pointers between records, and from the index to records, are sequence numbers and never byte offsets, so that
/// reclaim may move records without touching either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lease id as clients see it; 0 means no lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The key is attached to no lease.
    pub const NONE: LeaseId = LeaseId(0);
}

/// A member of the cluster, as clients and snapshots show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it does not vote.
    pub is_learner: bool,
}
