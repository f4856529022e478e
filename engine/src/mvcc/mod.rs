//! Many versions of every key: the index of newest versions and the history of all of them.
//!
//! A *revision* is a transaction that changed something; within it, changes are numbered by *sub revision*. A key
//! lives in *generations*: a put opens one (create revision, version 1), further puts raise the version, a delete
//! ends it with a *tombstone*. *Compaction* at R forgets, for every key, all versions but the newest at or below R.

// The one protobuf message the store writes itself.
pub mod wire;

// Every version, in revision order.
pub mod history;

// The newest version of every key, and the small tables: a copy-on-write tree.
pub mod index;

// One version of the store, for reading.
pub mod view;

// A scan at one revision, in slices.
pub mod walk;

// A range, from request to list of records.
pub mod range;

// Each key's newest version at a revision, as a set of records.
pub mod survivors;

// The rows that etcd would hold, in its order.
pub mod rows;

// The hash of those rows, and what is kept of compactions.
pub mod hash;

// The version being built and the one readers see.
pub mod store;

use crate::map::page::PageNo;

/// What must be brought into memory before a read can go on. The reader gives up, has it fetched, and starts over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cold {
    /// A page of the index.
    Page(PageNo),
    /// A record of the history.
    Record(crate::types::Seq),
    /// The table of the history chunk that begins with this record.
    Table(crate::types::Seq),
    /// All of the history chunk that begins with this record, and some behind it.
    Run(crate::types::Seq),
    /// Stored bytes are not what was written; the text names file and offset. The process must end.
    Damaged(String),
}

impl From<index::Error> for Cold {
    fn from(error: index::Error) -> Cold {
        match error {
            index::Error::Miss(page) => Cold::Page(page),
            index::Error::Damaged { .. } => Cold::Damaged(error.to_string()),
        }
    }
}
