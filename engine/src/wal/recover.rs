//! From the files of a log to the state to go on from, or a refusal.
//!
//! The story:
//! 1. The survey finds the valid blocks, those apart that the index makes needless. P is the greatest
//!    `durable_upto` among them.
//! 2. The chain: from the first segment's head, each block must follow the one before by number and the CRC
//!    of its header, or be the head of a later start that cut exactly here. One in the wrong place counts.
//! 3. At the first block b that is missing: b > P is a torn tail, and the log ends before b. b <= P is
//!    damage. If the next valid block needs no entry above the applied one, the index holds all that was
//!    lost: the log before it is dropped and the chain goes on there. Otherwise acknowledged data is gone: a
//!    single member refuses, a member of a group keeps what stands before b and is [`Standing::Recovering`].
//! 4. The accepted blocks are replayed into entries, configuration and hard state.
//! 5. Kept is not durable: what was read may sit in a cache only, so every segment is synced before anybody
//!    relies on it. The directory is synced when [`super::open()`] renames the fresh segment.

use bytes::Bytes;

use super::chain::{Chain, follow};
pub use super::error::RecoverError;
use super::frame::{self, BadFrame};
use super::layout::flags;
use super::replay::{Replay, Replayed};
use super::segment::{Segment, Spare};
use super::survey::{Body, Found, Survey, read_heads};
use super::walk::survey_above;
use super::{Entry, EntryId, HardState, Identity};
use crate::disk::{Disk, FileName, Op};
use crate::seeded::{self, Bug};

/// Who else holds copies of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voters {
    /// Nobody: what is lost here is lost.
    Single,
    /// Other members.
    Group,
}

/// Whether this member may act on its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that was promised is missing.
    Sound,
    /// Promises up to `promised` were made and are lost: no votes, no counting acks, no reads until the
    /// member has matched the leader beyond it.
    Recovering {
        /// Highest index and term that any valid block proves.
        promised: EntryId,
    },
}

/// What the log says.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Whose log it is.
    pub identity: Identity,
    /// Term and vote as last logged, commit clamped to the last entry.
    pub hard_state: HardState,
    /// The configuration as last logged; `None` in a new log, or when damage cost the prefix that had it: the
    /// index knows the one it has applied.
    pub conf_state: Option<Bytes>,
    /// The entry before the first of `entries`: the applied one.
    pub boundary: EntryId,
    /// Entries above the boundary, without a gap.
    pub entries: Vec<Entry>,
    /// Whether promises are missing.
    pub standing: Standing,
    /// The last stop was orderly and nothing is missing.
    pub clean: bool,
    /// There was no log, or none whose first block had become durable.
    pub fresh: bool,
    /// What an operator should know, in sentences.
    pub warnings: Vec<String>,
    /// Number of the newest start; the next one is one more.
    pub start: u64,
    /// Number for the next block: above all that were ever seen.
    pub next_block: u64,
    /// The first block number that does not count any more.
    pub cut: u64,
    /// Header CRC of the last accepted block.
    pub(super) header_crc: u32,
    /// Segments that hold accepted blocks, oldest first.
    pub segments: Vec<Segment>,
    /// Segments that hold none: made ready and never used, or cut off. They are used again as soon as the
    /// next start is durable, before any other.
    pub unused: Vec<Segment>,
    /// Spares.
    pub spares: Vec<Spare>,
}

impl Recovered {
    /// The last entry, or the boundary if there is none.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.boundary, Entry::id)
    }
}

/// Whose log lies here, if any. Reads the heads of the segments only.
pub fn identity(disk: &mut dyn Disk) -> Result<Option<Identity>, RecoverError> {
    let survey = Survey::of_files(disk.list()?);
    let heads = read_heads(disk, &survey.segments)?;
    Ok(heads.into_iter().flatten().next().map(|head| head.header.identity))
}

/// Reads the log. `applied` is what the durable index has applied; entries up to there are not needed any
/// more.
///
/// A log that ends below `applied` is missing its end: harmless data-wise, but a member of a group may have
/// lost a vote with it and is Recovering. A tool that makes a data directory out of a snapshot therefore
/// opens the log once itself, as a single member.
///
/// Blocks, reads what lies above `applied` and little else, and changes nothing but to sync what it keeps.
pub fn recover(
    disk: &mut dyn Disk,
    identity: Identity,
    applied: EntryId,
    voters: Voters,
) -> Result<Recovered, RecoverError> {
    let policy = match voters {
        Voters::Single => Policy::Refuse,
        Voters::Group => Policy::Recover,
    };
    let recovered = judge(disk, identity, applied, policy)?;
    if seeded::is(Bug::KeptIsNotDurable) {
        return Ok(recovered);
    }
    for segment in recovered.segments.iter().chain(&recovered.unused) {
        disk.run(Op::Sync { file: FileName::Log(segment.number) })?;
    }
    Ok(recovered)
}

/// What to do when acknowledged data is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Refuse,
    Recover,
    /// An operator accepts the loss.
    Accept,
}

pub(super) fn judge(
    disk: &mut dyn Disk,
    identity: Identity,
    applied: EntryId,
    policy: Policy,
) -> Result<Recovered, RecoverError> {
    let survey = survey_above(disk, identity, applied.index)?;
    let Chain { accepted, damage, mut warnings } = follow(&survey, applied.index);
    let mut replay = Replay::new(applied);
    let witness = holder(&accepted, applied.index);
    for found in &accepted {
        match found.body {
            Body::Unread => pass_block(disk, found, witness == Some(found.header.number), &mut replay)?,
            Body::Right | Body::Here(_) => replay_block(disk, found, &mut replay)?,
        }
    }
    let replayed = replay.finish(&mut warnings)?;
    let newest = accepted.last();
    if policy == Policy::Refuse && !seeded::is(Bug::TruncateAtFirstBadBlock) {
        refuse_loss(&survey, newest, damage, &replayed)?;
    }
    let loss = damage.is_some() || replayed.behind;
    let standing = match lost_promise(&survey, newest, loss, &replayed) {
        Some(promised) if policy == Policy::Recover => Standing::Recovering { promised },
        _ => Standing::Sound,
    };
    let mut hard_state = newest.map(|found| found.header.hard_state).unwrap_or_default();
    if loss && let Some(later) = survey.end(newest).max_by_key(|header| header.number) {
        // The newest vote that can still be read: never vote differently in that term.
        hard_state = later.hard_state;
    }
    hard_state.commit = hard_state.commit.clamp(applied.index, replayed.last.index);
    let stopped = newest.is_some_and(|found| found.header.flags & flags::CLEAN != 0);
    if newest.is_some_and(|found| found.header.flags & flags::NO_FSYNC != 0) && !stopped {
        warnings.push("the last start ran without fsync: what it acknowledged may be missing".into());
    }
    let whole = newest.is_some_and(|newest| survey.end(Some(newest)).count() == 1);
    let (segments, unused) = sort_segments(&survey, &accepted, applied.index);
    Ok(Recovered {
        identity,
        hard_state,
        conf_state: replayed.conf_state,
        boundary: applied,
        entries: replayed.entries,
        standing,
        clean: stopped && whole && warnings.is_empty() && standing == Standing::Sound,
        fresh: survey.live.is_empty() && survey.orphans.is_empty(),
        warnings,
        start: survey.start_max,
        next_block: survey.number_max + 1,
        cut: newest.map_or(1, |found| found.header.number + 1),
        header_crc: newest.map_or(0, |found| found.header_crc),
        segments,
        unused,
        spares: survey.spares,
    })
}

/// What a member that holds the only copy cannot accept.
fn refuse_loss(
    survey: &Survey,
    newest: Option<&Found>,
    damage: Option<(FileName, u64, u64)>,
    replayed: &Replayed,
) -> Result<(), RecoverError> {
    let last = replayed.last.index;
    if let Some((file, offset, block)) = damage {
        return Err(RecoverError::Damaged { file, offset, block, index: last + 1 });
    }
    if let Some(promised) = replayed.promised {
        return Err(RecoverError::StillRecovering { promised });
    }
    let commit = survey.end(newest).map(|header| header.hard_state.commit).max().unwrap_or(0);
    if commit > last {
        return Err(RecoverError::CommitLost { commit, last });
    }
    Ok(())
}

/// What was promised and is not here: by this loss, by an earlier one, or both.
fn lost_promise(survey: &Survey, newest: Option<&Found>, loss: bool, replayed: &Replayed) -> Option<EntryId> {
    if !loss {
        return replayed.promised;
    }
    let (proven, earlier) = (survey.promised(newest), replayed.promised.unwrap_or_default());
    Some(EntryId {
        index: proven.index.max(earlier.index).max(replayed.last.index),
        term: proven.term.max(earlier.term).max(replayed.last.term),
    })
}

/// Number of the block that wrote the applied entry, unless it wrote more.
fn holder(accepted: &[Found], applied: u64) -> Option<u64> {
    let newest = accepted.iter().map(|found| &found.header).rfind(|header| header.first_index <= applied)?;
    (newest.last_index == applied).then_some(newest.number)
}

/// A block at or below the applied entry, of which the header is enough. The one that holds the applied entry is
/// read for its term: it shows whether log and index belong together. Should it be damaged, that does no harm.
fn pass_block(
    disk: &mut dyn Disk,
    found: &Found,
    is_holder: bool,
    replay: &mut Replay,
) -> Result<(), RecoverError> {
    if found.header.flags & flags::RECOVERING == 0 {
        replay.caught_up();
    }
    replay.end_below(found.header.first_index, found.header.last_index);
    if is_holder && let Some(body) = found.read_body(disk)? {
        replay.witness(&frame::decode(&body).unwrap_or_default());
    }
    Ok(())
}

fn replay_block(disk: &mut dyn Disk, found: &Found, replay: &mut Replay) -> Result<(), RecoverError> {
    if found.header.flags & flags::RECOVERING == 0 {
        replay.caught_up();
    }
    let malformed =
        |reason: String| RecoverError::Malformed { file: found.file(), offset: found.offset, reason };
    let body = found.read_body(disk)?;
    let body = body.ok_or_else(|| malformed("it changed while it was read".into()))?;
    let frames = frame::decode(&body)
        .map_err(|BadFrame { offset, reason }| malformed(format!("the frame at {offset} {reason}")))?;
    for frame in frames {
        replay.frame(frame).map_err(malformed)?;
    }
    Ok(())
}

/// The segments, each with the highest entry that it or one before it holds, and those that hold nothing.
fn sort_segments(survey: &Survey, accepted: &[Found], applied: u64) -> (Vec<Segment>, Vec<Segment>) {
    let first_kept = accepted.first().map_or(0, |found| found.segment);
    let mut max_index = 0;
    let (mut kept, mut unused) = (Vec::new(), Vec::new());
    for &(number, len) in &survey.segments {
        let highest = accepted.iter().filter(|f| f.segment == number).map(|f| f.header.last_index).max();
        match highest {
            // A damaged prefix: the index holds what it held.
            None if number < first_kept => kept.push(Segment { number, len, max_index: applied }),
            None => unused.push(Segment { number, len, max_index: 0 }),
            Some(highest) => {
                max_index = highest.max(max_index);
                kept.push(Segment { number, len, max_index });
            }
        }
    }
    (kept, unused)
}
