//! The index file as checked pages: the only folder with unsafe code.
//!
//! A copy-on-write tree needs an array of pages of which old versions stay readable while the next one is built.
//! This module is that array: where each page's bytes are, who may still read them, which slot of the file may be
//! written, and how one version after the other gets there. It knows nothing of keys: the tree (`mvcc/index`) sees
//! byte slices through [`page::ReadPages`] and [`page::WritePages`]. The idea of one table entry a page is vmcache's
//! (Leis and others, SIGMOD 2023); two meta pages are LMDB's and bbolt's. `docs/map.md` has the reasoning.
//!
//! ```text
//!   state core                                     any core            background thread
//!   Writer ── allocate, page_mut, retire           Reader ── pin       Checkpoint ── poll / run, settle
//!      │                                              │                Prefault, Populate ── run
//!      └─ publish ──► epoch (version, root, tag) ◄────┘                     │
//!                     space (table, mapping, frames) ◄──────────────────────┘
//! ```
//!
//! # Contract
//!
//! - One writer, as many readers as [`Limits::readers_max`]. Nobody waits for anybody: a page that is not in memory
//!   is a [`page::Miss`], given to the [`Loader`].
//! - A published page never changes. Its memory is reused when no pinned version and no running checkpoint reaches
//!   it, its slot when moreover neither durable meta page does.
//! - Memory is bounded by the caller: [`Writer::evict`] takes clean pages out of it, frames are recycled and never given
//!   back to the system.
//! - The caller's part, which no type can check: a page is retired exactly when the next version does not reach it,
//!   and pages are looked up by numbers found in the pinned version. [`Writer::walk`] checks the first in tests.
//! - After an error from the disk, or damage, nothing is retried and the process ends.
//!
//! # What can go wrong underneath
//!
//! - *Power loss*: the file is as the last durable checkpoint left it, plus any part of what was written to slots
//!   that checkpoint does not use. Both metas are read at open; the newest sound one counts.
//! - *Bit rot*: every page's checksum and number are checked when it is brought in. Damage names file, page, offset.
//! - *IO error under the mapping*: reads of the file happen inside [`Populate::run`] and [`Checkpoint::settle`],
//!   where the kernel reports them as errors, and the pages are locked then. Should a page fail all the same, the
//!   kernel sends SIGBUS: the handler finds the page with [`Locator::page_at`], which is arithmetic only, writes
//!   file, page and offset as the last line of the log, and the process ends.
//! - *Truncation*: the file never shrinks while it is open. If a stranger cuts it, locked pages vanish and the next
//!   touch is SIGBUS as above.
//! - *A file system where writes do not show in a mapping* (some network and FUSE ones): [`mapping::is_coherent`]
//!   finds out; the index is opened without a mapping then, all pages in frames.

use std::fmt;

use crate::disk::DiskError;
use layout::{Flaw, offset_of};
use page::PageNo;

// Pages as the tree sees them.
pub mod page;

// The bytes of the file.
pub mod layout;

// A set of page numbers.
pub mod bitmap;

// Publication of versions, and who still reads which.
pub mod epoch;

// Addresses reserved, opened and mapped: the system calls.
mod range;

// Mapping and frames in one range, and the table that finds pages in them.
mod space;

// Anonymous memory for pages.
mod arena;

// Whether a file system allows the mapping.
pub mod mapping;

// Slots of the file and when they are free.
mod alloc;

// What waits for the last reader.
mod limbo;

// The one that builds versions.
mod writer;

// Those that read them.
mod reader;

// One version into the file.
mod checkpoint;

// Pages from the file.
mod load;

// Clean pages out of memory.
mod evict;

// From a file to a writer.
mod open;

#[cfg(test)]
mod tests;

pub use arena::{Prefault, Prefaulted};
pub use checkpoint::Checkpoint;
pub use epoch::{TAG_WORDS, Tag, Version};
pub use load::{Load, Loader, Populate, Populated, Wanted};
pub use open::{Opened, open, open_anew};
pub use reader::{Guard, Reader};
pub use space::Locator;
pub use writer::{Usage, Walk, Writer};

/// Atomics that loom can replace, for the part it models.
mod sync {
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
    #[cfg(not(loom))]
    pub use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// Bounds of an index, fixed while it is open. Address space is reserved for all of it, memory is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Slots of the file, at most [`layout::SLOT_COUNT_MAX`].
    pub page_count_max: u32,
    /// Frames of anonymous memory; a multiple of 512.
    pub frame_count_max: u32,
    /// Readers at one time.
    pub readers_max: usize,
}

impl Limits {
    fn check(&self) {
        let slots = layout::FIRST_PAGE + 1..=layout::SLOT_COUNT_MAX;
        assert!(slots.contains(&self.page_count_max), "page_count_max {}", self.page_count_max);
        let frames = self.frame_count_max;
        assert!(frames > 0 && frames.is_multiple_of(range::CHUNK_UNITS), "frame_count_max {frames}");
        assert!(frames <= layout::SLOT_COUNT_MAX, "frame_count_max {frames}");
    }
}

impl Default for Limits {
    /// 64 GiB of file and of frames, 64 readers.
    fn default() -> Limits {
        let pages = layout::SLOT_COUNT_MAX;
        Limits { page_count_max: pages, frame_count_max: pages, readers_max: 64 }
    }
}

/// Why the index cannot go on. All of them end the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The disk refused an operation.
    Disk(DiskError),
    /// The disk returned something else than was written.
    Damaged {
        /// Which page.
        page: PageNo,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The file was written by another version of the server.
    Format {
        /// Its format.
        found: u32,
    },
    /// The file has more pages than the limits allow.
    TooLarge {
        /// Pages of the file.
        page_count: u32,
        /// Pages allowed.
        page_count_max: u32,
    },
    /// No frame is left for a page to be brought in.
    Full {
        /// Frames allowed.
        frame_count_max: u32,
    },
    /// The system refused memory.
    Memory(String),
}

impl MapError {
    /// A page of the mapping could not be read.
    fn unreadable(page: PageNo, error: &std::io::Error) -> MapError {
        let context = format!("reading index.db, page {}, offset {}", page.0, offset_of(page));
        MapError::Disk(DiskError::new(context, error))
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Disk(error) => error.fmt(f),
            MapError::Damaged { page, flaw } => {
                write!(f, "index.db is damaged at page {}, offset {}: {flaw}", page.0, offset_of(*page))
            }
            MapError::Format { found } => write!(
                f,
                "index.db has format {found}; this version of kontiki reads and writes format {}",
                layout::FORMAT
            ),
            MapError::TooLarge { page_count, page_count_max } => {
                write!(f, "index.db has {page_count} pages; the limit is {page_count_max}")
            }
            MapError::Full { frame_count_max } => {
                write!(f, "all {frame_count_max} page frames of the index are in use")
            }
            MapError::Memory(reason) => write!(f, "no memory for the index: {reason}"),
        }
    }
}

impl std::error::Error for MapError {}
