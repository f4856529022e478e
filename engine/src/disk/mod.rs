//! The seam to storage: what the cores ask of a disk, and what a disk promises them.
//!
//! A core emits an [`Op`] under a [`Token`]; a driver carries it out and reports the outcome under the same token.
//! Operations may complete in any order. What every driver, the simulated one too, must keep to:
//!
//! 1. A [`Durability::Synced`] write is on stable storage when its own completion is reported, and never before. Until
//!    then any 512-byte part of it may or may not be there after a power cut.
//! 2. A [`Durability::Cached`] write is stable once a [`Op::Sync`] of the same file, *submitted after* the write
//!    completed, has completed; until then parts of it may be lost, in any order.
//! 3. `Create`, `Rename` and `Remove` report completion only after the directory is synced as well. A power cut
//!    before that leaves the old or the new name, and no third state.
//! 4. A failed operation is reported once and never retried by the driver: after a failed sync the page cache cannot
//!    be trusted (the pages are marked clean), so the cores stop acknowledging and the process ends.
//! 5. Reads see every completed write of the same file.
//!
//! Nothing here overwrites bytes that a durable structure relies on, and nothing assumes that more than 512 bytes
//! are written atomically.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

// A disk in memory that can lose power: for tests and the simulator.
pub mod mem;

// The seeded random numbers that decide what such a disk loses.
pub mod pcg;

// Files of a data directory, one blocking operation at a time.
pub mod file;

// What the page cache holds, without waiting.
pub mod peek;

// Log files through glommio.
pub mod dma;

// Log files through a thread, where there is no io_uring.
pub mod thread;

// What all of them are asked for, on record.
pub mod record;

/// Smallest unit of offset, length and memory alignment for direct IO, in bytes.
pub const BLOCK_SIZE: usize = 4096;

/// A file of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A log segment in use, by number.
    Log(u64),
    /// A zero-written log segment that waits for its turn, by number.
    LogSpare(u64),
    /// A history segment, by number.
    History(u64),
    /// The index.
    Index,
    /// Nothing but space, for when there is no other.
    Reserve,
    /// Another member's state on its way here.
    Incoming,
}

impl FileName {
    /// Directories below the data directory that hold files.
    pub const DIRECTORIES: [&'static str; 2] = ["log", "history"];

    /// Path relative to the data directory.
    pub fn path(self) -> PathBuf {
        match self {
            FileName::Log(n) => format!("log/{n:016x}.log").into(),
            FileName::LogSpare(n) => format!("log/{n:016x}.spare").into(),
            FileName::History(n) => format!("history/{n:016x}.seg").into(),
            FileName::Index => "index.db".into(),
            FileName::Reserve => "reserve".into(),
            FileName::Incoming => "incoming".into(),
        }
    }

    /// The inverse of [`FileName::path`]; `None` for anything else.
    pub fn parse(path: &Path) -> Option<FileName> {
        let text = path.to_str()?;
        match text {
            "index.db" => return Some(FileName::Index),
            "reserve" => return Some(FileName::Reserve),
            "incoming" => return Some(FileName::Incoming),
            _ => {}
        }
        let number = |stem: &str| {
            let canonical = stem.len() == 16 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            canonical.then(|| u64::from_str_radix(stem, 16).ok()).flatten()
        };
        let (directory, file) = text.split_once('/')?;
        let (stem, extension) = file.split_once('.')?;
        match (directory, extension) {
            ("log", "log") => number(stem).map(FileName::Log),
            ("log", "spare") => number(stem).map(FileName::LogSpare),
            ("history", "seg") => number(stem).map(FileName::History),
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// When a write's bytes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// By the write's own completion (O_DSYNC).
    Synced,
    /// By a later sync of the file.
    Cached,
}

/// What a core asks of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes `data` at `offset`. For log files, and for any [`Durability::Synced`] write, both are multiples of
    /// [`BLOCK_SIZE`]. Writing beyond the end extends the file (log files never do).
    Write {
        /// Which file.
        file: FileName,
        /// First byte written.
        offset: u64,
        /// What is written.
        data: Bytes,
        /// When it is stable.
        durability: Durability,
    },
    /// Makes completed writes of the file stable (fdatasync).
    Sync {
        /// Which file.
        file: FileName,
    },
    /// Reads `len` bytes; that the file has fewer is an error.
    Read {
        /// Which file.
        file: FileName,
        /// First byte read.
        offset: u64,
        /// How many bytes.
        len: usize,
        /// A driver that has so many of them at hand, at most `len`, may return those alone. The rest is read ahead.
        enough: usize,
    },
    /// Creates the file with `len` bytes, all written as zeroes and stable, and syncs the directory.
    Create {
        /// Which file; it must not exist.
        file: FileName,
        /// Its length in bytes.
        len: u64,
    },
    /// Renames a file over a name that is not in use, and syncs the directory.
    Rename {
        /// Old name.
        from: FileName,
        /// New name.
        to: FileName,
    },
    /// Removes the file and syncs the directory.
    Remove {
        /// Which file.
        file: FileName,
    },
}

impl Op {
    /// The file the operation is about (for a rename, the old name).
    pub fn file(&self) -> FileName {
        match *self {
            Op::Write { file, .. }
            | Op::Sync { file }
            | Op::Read { file, .. }
            | Op::Create { file, .. }
            | Op::Remove { file } => file,
            Op::Rename { from, .. } => from,
        }
    }
}

impl fmt::Display for Op {
    /// What is asked, in words; never the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Write { file, offset, data, .. } => {
                write!(f, "write {} bytes at {offset} of {file}", data.len())
            }
            Op::Sync { file } => write!(f, "sync {file}"),
            Op::Read { file, offset, len, .. } => write!(f, "read {len} bytes at {offset} of {file}"),
            Op::Create { file, len } => write!(f, "create {file} with {len} bytes"),
            Op::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Op::Remove { file } => write!(f, "remove {file}"),
        }
    }
}

/// Which core an operation belongs to; completions find their way back by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The log writer.
    Log,
    /// The history.
    History,
    /// The checkpoint.
    Checkpoint,
    /// Reads of cold pages of the index.
    Index,
    /// Space kept for when there is no other.
    Reserve,
    /// Another member's state on its way here.
    Incoming,
}

/// Names one outstanding operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Who waits for it.
    pub owner: Owner,
    /// The owner's own number, never reused within a run.
    pub id: u64,
}

/// Outcome of an operation.
pub type Outcome = Result<Output, DiskError>;

/// What a successful operation returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    Done,
    /// The bytes of a read.
    Data(Bytes),
}

/// An operation the disk refused; never retried, but for [`DiskError::is_full`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What was asked, in words, with file and offset.
    pub context: String,
    /// What the kernel answered.
    pub kind: std::io::ErrorKind,
    /// Its text.
    pub reason: String,
}

impl DiskError {
    /// Wraps an error of the operating system.
    pub fn new(context: impl Into<String>, error: &std::io::Error) -> DiskError {
        DiskError { context: context.into(), kind: error.kind(), reason: error.to_string() }
    }
}

impl DiskError {
    /// Whether there was no room. A write that nobody was told of may be tried again then, with the same bytes at the same
    /// place, because the log has what it is about; a sync never may.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.context, self.reason)
    }
}

impl std::error::Error for DiskError {}

/// A disk that carries out one operation at a time and waits for it: what opening and recovery use, before any loop
/// runs, and what background threads use afterwards.
pub trait Disk {
    /// Files present, in order of name, with their lengths. Names that are not ours are left out.
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError>;

    /// Carries out `op`.
    fn run(&mut self, op: Op) -> Outcome;
}

/// Reads exactly `len` bytes at `offset`.
pub fn read(disk: &mut dyn Disk, file: FileName, offset: u64, len: usize) -> Result<Bytes, DiskError> {
    match disk.run(Op::Read { file, offset, len, enough: len })? {
        Output::Data(data) => {
            assert_eq!(data.len(), len, "the disk returned another length than asked from {file}");
            Ok(data)
        }
        Output::Done => unreachable!("a read of {file} returned no data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_strangers_are_not_ours() {
        for name in [
            FileName::Log(0),
            FileName::LogSpare(7),
            FileName::History(u64::MAX),
            FileName::Index,
            FileName::Reserve,
            FileName::Incoming,
        ] {
            assert_eq!(FileName::parse(&name.path()), Some(name));
        }
        for stranger in
            ["member/snap/db", "log/1.log", "log/000000000000000A.log", "history/x.seg", "index.db.bak"]
        {
            assert_eq!(FileName::parse(Path::new(stranger)), None, "{stranger}");
        }
    }
}
