//! Reports on a log for an operator, and cuts a damaged one.
//!
//! `kontiki utl log check` prints a [`Report`]; `kontiki utl log cut` is [`cut`]. Both judge by the very
//! rules of recovery: what they call damaged is what a server refuses to start with.

use std::collections::BTreeSet;
use std::fmt;

use super::chain::follow;
use super::config::Config;
use super::frame::{self, Frame};
use super::layout::HEADER_BYTES;
use super::recover::{Policy, RecoverError, Recovered, Voters, judge};
use super::survey::{Broken, Found, Survey, survey};
use super::{EntryId, Identity, open};
use crate::disk::{self, Disk, DiskError, Durability, FileName, Op};

/// What one segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub file: FileName,
    /// Length in bytes.
    pub len: u64,
    /// Numbers of its first and last accepted block.
    pub blocks: Option<(u64, u64)>,
    /// Starts that wrote them.
    pub starts: BTreeSet<u64>,
    /// How many entries it holds, truncated ones included.
    pub entries: u64,
    /// Lowest and highest index among them.
    pub indexes: Option<(u64, u64)>,
    /// Valid blocks that do not count: stale, cut off, or out of reach.
    pub other_blocks: u64,
}

/// How the log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing acknowledged is missing. Blocks beyond the end, if any, are a torn tail.
    Sound {
        /// Valid blocks that a start would cut.
        torn: u64,
    },
    /// Acknowledged data is missing.
    Damaged {
        /// File of the first block that is missing.
        file: FileName,
        /// Its offset.
        offset: u64,
        /// Its number.
        block: u64,
        /// First entry that may be lost.
        from_index: u64,
        /// Last entry that any valid block tells of.
        to_index: u64,
    },
}

/// The state of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose it is, if any block tells.
    pub identity: Option<Identity>,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Number of spares.
    pub spares: usize,
    /// Blocks up to this number were reported durable.
    pub proven: u64,
    /// Places where a block is torn or damaged. Those beyond the end are harmless.
    pub broken: Vec<Broken>,
    /// What recovery would warn of.
    pub warnings: Vec<String>,
    /// How it ends.
    pub verdict: Verdict,
}

/// Looks at the log and changes nothing. `applied` is the index's applied entry; with 0 all damage counts.
pub fn check(disk: &mut dyn Disk, applied: u64) -> Result<Report, RecoverError> {
    let survey = survey(disk, None)?;
    let chain = follow(&survey, applied);
    let mut segments = Vec::with_capacity(survey.segments.len());
    for &(number, len) in &survey.segments {
        segments.push(segment_report(disk, &survey, &chain.accepted, number, len)?);
    }
    let last = chain.accepted.last();
    let beyond = |found: &&Found| last.is_none_or(|last| found.header.number > last.header.number);
    let verdict = match chain.damage {
        None => Verdict::Sound { torn: survey.live.iter().filter(beyond).count() as u64 },
        Some((file, offset, block)) => {
            let from_index = last.map_or(0, |last| last.header.last_index) + 1;
            Verdict::Damaged { file, offset, block, from_index, to_index: survey.promised(last).index }
        }
    };
    Ok(Report {
        identity: survey.identity,
        segments,
        spares: survey.spares.len(),
        proven: survey.proven(),
        broken: survey.broken,
        warnings: chain.warnings,
        verdict,
    })
}

fn segment_report(
    disk: &mut dyn Disk,
    survey: &Survey,
    accepted: &[Found],
    number: u64,
    len: u64,
) -> Result<SegmentReport, RecoverError> {
    let here: Vec<&Found> = accepted.iter().filter(|found| found.segment == number).collect();
    let valid = survey.live.iter().chain(&survey.void).filter(|found| found.segment == number).count();
    let mut report = SegmentReport {
        file: FileName::Log(number),
        len,
        blocks: here.first().zip(here.last()).map(|(first, last)| (first.header.number, last.header.number)),
        starts: here.iter().map(|found| found.header.start).collect(),
        entries: 0,
        indexes: None,
        other_blocks: (valid - here.len()) as u64,
    };
    for found in here {
        let at = found.read_at + HEADER_BYTES as u64;
        let body = disk::read(disk, found.file(), at, found.header.body_length as usize)?;
        for frame in frame::decode(&body).unwrap_or_default() {
            if let Frame::Entry(entry) = frame {
                report.entries += 1;
                let (low, high) = report.indexes.unwrap_or((entry.index, entry.index));
                report.indexes = Some((low.min(entry.index), high.max(entry.index)));
            }
        }
    }
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity {
            Some(Identity { cluster, member }) => {
                writeln!(f, "log of member {member:x} of cluster {cluster:x}")?
            }
            None => writeln!(f, "no valid block")?,
        }
        for segment in &self.segments {
            writeln!(f, "{segment}")?;
        }
        writeln!(f, "{} spares, reported durable up to block {}", self.spares, self.proven)?;
        for Broken { file, offset, reason } in &self.broken {
            writeln!(f, "{file} offset {offset}: {reason}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "{warning}")?;
        }
        write!(f, "{}", self.verdict)
    }
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} KiB): ", self.file, self.len >> 10)?;
        match self.blocks {
            Some((first, last)) => write!(f, "blocks {first} to {last}, starts {:?}", self.starts)?,
            None => write!(f, "no block that counts")?,
        }
        if let Some((low, high)) = self.indexes {
            write!(f, ", {} entries from {low} to {high}", self.entries)?;
        }
        if self.other_blocks > 0 {
            write!(f, ", {} other blocks", self.other_blocks)?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Sound { torn: 0 } => write!(f, "sound"),
            Verdict::Sound { torn } => {
                write!(f, "sound; {torn} blocks after a torn write were never acknowledged and will be cut")
            }
            Verdict::Damaged { file, offset, block, from_index, to_index } => write!(
                f,
                "DAMAGED: block {block} at offset {offset} of {file} was acknowledged and is missing; a cut there \
                 loses entries {from_index} to {to_index} and all later ones"
            ),
        }
    }
}

/// Why a log was not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutError {
    /// The copy has to go to an empty place.
    BackupInUse(FileName),
    /// Copying failed; nothing was changed.
    Backup(DiskError),
    /// Cutting failed.
    Log(RecoverError),
}

impl fmt::Display for CutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CutError::BackupInUse(file) => {
                write!(f, "the backup directory already holds {file}; name an empty one")
            }
            CutError::Backup(error) => write!(f, "the log was not copied and not changed: {error}"),
            CutError::Log(error) => write!(f, "the log was copied but could not be cut: {error}"),
        }
    }
}

impl std::error::Error for CutError {}

impl From<RecoverError> for CutError {
    fn from(error: RecoverError) -> CutError {
        CutError::Log(error)
    }
}

/// Copies the log to `backup`, then cuts it at the first damage; on return both are durable.
///
/// A single member accepts the loss of whatever stood behind. A member of a group does not forget what it
/// promised: it will start as Recovering. Returns what is left.
pub fn cut(
    disk: &mut dyn Disk,
    backup: &mut dyn Disk,
    identity: Identity,
    applied: EntryId,
    voters: Voters,
    config: Config,
    nonce: u64,
) -> Result<Recovered, CutError> {
    copy(disk, backup)?;
    let policy = match voters {
        Voters::Single => Policy::Accept,
        Voters::Group => Policy::Recover,
    };
    let recovered = judge(disk, identity, applied, policy)?;
    for segment in &recovered.segments {
        disk.run(Op::Sync { file: FileName::Log(segment.number) }).map_err(RecoverError::Disk)?;
    }
    open(disk, &recovered, config, nonce)?;
    Ok(recovered)
}

/// Bytes copied at a time.
const COPY_PIECE: u64 = 1 << 20;

fn copy(disk: &mut dyn Disk, backup: &mut dyn Disk) -> Result<(), CutError> {
    let segments = |disk: &mut dyn Disk| -> Result<Vec<(FileName, u64)>, CutError> {
        let files = disk.list().map_err(CutError::Backup)?;
        Ok(files.into_iter().filter(|(file, _)| matches!(file, FileName::Log(_))).collect())
    };
    if let Some(&(file, _)) = segments(backup)?.first() {
        return Err(CutError::BackupInUse(file));
    }
    for (file, len) in segments(disk)? {
        copy_file(disk, backup, file, len).map_err(CutError::Backup)?;
    }
    Ok(())
}

fn copy_file(disk: &mut dyn Disk, backup: &mut dyn Disk, file: FileName, len: u64) -> Result<(), DiskError> {
    backup.run(Op::Create { file, len })?;
    let mut offset = 0;
    while offset < len {
        let piece = COPY_PIECE.min(len - offset);
        let data = disk::read(disk, file, offset, piece as usize)?;
        backup.run(Op::Write { file, offset, data, durability: Durability::Cached })?;
        offset += piece;
    }
    backup.run(Op::Sync { file })?;
    Ok(())
}
