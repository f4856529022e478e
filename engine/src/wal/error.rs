//! Why a log cannot be opened, in sentences that an operator can act on.

use std::fmt;

use super::layout::FORMAT;
use super::{EntryId, Identity};
use crate::disk::{DiskError, FileName};

/// Why the log cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// Reading or syncing failed.
    Disk(DiskError),
    /// The data directory belongs to another cluster or member.
    Stranger {
        /// A file that says so.
        file: FileName,
        /// Whose it is.
        found: Identity,
    },
    /// Written by another version.
    Format {
        /// A file that says so.
        file: FileName,
        /// Its format.
        format: u32,
    },
    /// A file that cannot be a segment.
    SegmentLength {
        /// Which one.
        file: FileName,
        /// Its length in bytes.
        len: u64,
    },
    /// Acknowledged data is damaged, and this member has the only copy.
    Damaged {
        /// Where the first damaged block begins.
        file: FileName,
        /// Its offset.
        offset: u64,
        /// Number of the block.
        block: u64,
        /// First entry that may be lost.
        index: u64,
    },
    /// A block shows that more was committed than the log holds, and this member has the only copy.
    CommitLost {
        /// Highest index known committed.
        commit: u64,
        /// Last valid entry.
        last: u64,
    },
    /// The member had lost promises, counted on a group to make up for it, and is alone now.
    StillRecovering {
        /// Highest index and term it had promised.
        promised: EntryId,
    },
    /// The log and the index contradict each other.
    Mismatch {
        /// The entry that the index has applied.
        applied: EntryId,
        /// Its term in the log.
        term: u64,
    },
    /// A block with right checksums and impossible content: a mistake of the writer.
    Malformed {
        /// Where the block is.
        file: FileName,
        /// Its offset.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

impl From<DiskError> for RecoverError {
    fn from(error: DiskError) -> RecoverError {
        RecoverError::Disk(error)
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Disk(error) => write!(f, "the log cannot be read: {error}"),
            RecoverError::Stranger { file, found } => write!(
                f,
                "{file} belongs to member {:x} of cluster {:x}; start with that member's data directory",
                found.member, found.cluster
            ),
            RecoverError::Format { file, format } => write!(
                f,
                "{file} has log format {format}, and this version reads format {}; use the version that wrote it",
                FORMAT
            ),
            RecoverError::SegmentLength { file, len } => {
                write!(f, "{file} has {len} bytes and cannot be a segment of the log")
            }
            RecoverError::Damaged { file, offset, block, index } => write!(
                f,
                "acknowledged data is damaged: block {block} at offset {offset} of {file}, entries from {index} on \
                 may be lost; restore a backup, or cut the log there and accept the loss"
            ),
            RecoverError::CommitLost { commit, last } => write!(
                f,
                "entries up to {commit} were committed but the log ends at {last}; restore a backup, or cut the \
                 log and accept the loss"
            ),
            RecoverError::StillRecovering { promised } => write!(
                f,
                "this member lost entries up to {} of term {} and has not got them back from its group; it cannot go \
                 on alone: remove it and add it again, or cut the log and accept the loss",
                promised.index, promised.term
            ),
            RecoverError::Mismatch { applied, term } => write!(
                f,
                "the index applied entry {} of term {}, but the log has term {term} there: they belong to \
                 different members",
                applied.index, applied.term
            ),
            RecoverError::Malformed { file, offset, reason } => {
                write!(f, "the block at offset {offset} of {file} is intact but makes no sense: {reason}")
            }
        }
    }
}

impl std::error::Error for RecoverError {}
