//! The short way to the evidence: what the index holds is not read, and what is needed is read once.
//!
//! The story:
//! 1. The heads are read. The newest one that lies at or below the applied entry stands for all before it:
//!    it repeats term, vote and configuration, and no entry above it is left. The walk begins there.
//! 2. From block to block: whatever continues the chain in its place is taken. Of a block at or below the
//!    applied entry the header is enough; what the header says was true when it was written, and nobody needs
//!    the frames. Blocks above are read and checked, and their frames kept for the replay.
//! 3. A block whose header alone was read must have been durable (it is not beyond P), or else its frames are
//!    checked after all: recovery with an older checkpoint must come to the same end.
//! 4. Where the walk ends, a torn tail has to be told from damage: every boundary of the rest is looked at,
//!    as [`super::survey`] does. Only after an orderly stop nothing can be there.
//!
//! What is judged here is which bytes to read. What the evidence means is for [`super::chain`]; `docs/wal.md`
//! says why that comes out the same.

use super::Identity;
use super::layout::{HEAD_BYTES, HEADER_BYTES, Header, flags};
use super::reader::Reader;
use super::recover::RecoverError;
use super::survey::{Body, Broken, Found, Known, Seen, Survey, scan, scan_from, survey_heads};
use crate::disk::Disk;

/// A log of which less than this could be left out is walked from its front: it costs little to notice rot
/// there too.
const LEFT_OUT_BYTES_MIN: u64 = 4 << 20;

/// Blocks at least this long are leapt over; shorter ones come with the large reads.
const LEAP_BYTES_MIN: u32 = 128 << 10;

/// The evidence on the log of `identity` for one whose index has applied everything up to `applied`.
pub(super) fn survey_above(
    disk: &mut dyn Disk,
    identity: Identity,
    applied: u64,
) -> Result<Survey, RecoverError> {
    let (mut survey, heads) = survey_heads(disk, Some(identity))?;
    let known = Known::by(&survey, &heads).expect("the identity is given");
    let ground = Ground { segments: survey.segments.clone(), heads, known, applied };
    if let Some(found) = ground.walk(disk, LEFT_OUT_BYTES_MIN)? {
        ground.take(disk, found, &mut survey)?;
    }
    if !ground.has_ended(disk, &survey)? {
        ground.search(disk, &mut survey)?;
    }
    survey.judge_heads();
    Ok(survey)
}

/// What is known before the walk.
struct Ground {
    segments: Vec<(u64, u64)>,
    /// Of each segment.
    heads: Vec<Option<Found>>,
    known: Known,
    applied: u64,
}

impl Ground {
    /// The blocks of the chain from the best place to begin at, if there is any. Nothing is left out unless
    /// it is `left_out_min` bytes at least.
    fn walk(&self, disk: &mut dyn Disk, left_out_min: u64) -> Result<Option<Vec<Found>>, RecoverError> {
        let left_out = |nth: usize| self.segments[..nth].iter().map(|&(_, len)| len).sum::<u64>();
        let anchors = self.heads.iter().enumerate().rev().filter(|&(nth, head)| {
            nth > 0
                && left_out(nth) >= left_out_min
                && head.as_ref().is_some_and(|head| self.stands_for_all_before(nth, head))
        });
        for anchor in anchors.filter_map(|(_, head)| head.as_ref()) {
            let found = self.walk_from(disk, anchor)?;
            // Were anything before the anchor not durable, an older checkpoint would find a hole there.
            let before = anchor.start.map_or(0, |start| start.cut.saturating_sub(1));
            if proven(&found) >= before {
                return Ok(Some(found));
            }
        }
        let front = self.heads.first().and_then(Option::as_ref);
        let front = front.filter(|head| head.read_at == head.offset && !self.may_be_void(head));
        front.map(|head| self.walk_from(disk, head)).transpose()
    }

    /// The index holds all that the log said before `head`, the head of the `nth` segment. Not so for the
    /// stale head of a segment that was made ready, for one that is or may be void, and for one that may be
    /// torn. Where no older head is left, nobody can tell whether it is stale.
    fn stands_for_all_before(&self, nth: usize, head: &Found) -> bool {
        let mut older = self.heads[..nth].iter().flatten().map(|other| other.header.number).peekable();
        let is_new = older.peek().is_some() && older.all(|number| number < head.header.number);
        head.read_at == head.offset && is_new && !self.may_be_void(head) && self.is_below(&head.header)
    }

    /// Its frames are of no use any more, provided it was durable.
    fn is_below(&self, header: &Header) -> bool {
        header.last_index <= self.applied && header.flags & flags::NO_FSYNC == 0
    }

    /// Heads that are torn count here too: in doubt the walk ends, and the evidence decides.
    fn may_be_void(&self, found: &Found) -> bool {
        self.heads.iter().flatten().any(|head| head.cuts(found))
    }

    fn walk_from(&self, disk: &mut dyn Disk, head: &Found) -> Result<Vec<Found>, RecoverError> {
        let mut found = vec![head.clone()];
        let mut next = Some(head);
        while let Some(head) = next {
            self.walk_segment(disk, head.segment, &mut found)?;
            next = self.next_head(found.last().expect("it begins with a head"));
            found.extend(next.cloned());
        }
        Ok(found)
    }

    /// Adds the blocks of one segment that continue `found` in their place.
    fn walk_segment(
        &self,
        disk: &mut dyn Disk,
        segment: u64,
        found: &mut Vec<Found>,
    ) -> Result<(), RecoverError> {
        let mut reader = self.reader(disk, segment);
        while let Some(next) = self.beside(&mut reader, found.last().expect("it begins with a head"))? {
            found.push(next);
        }
        Ok(())
    }

    /// The block behind `last` in the same segment, if it continues the chain.
    fn beside(&self, reader: &mut Reader, last: &Found) -> Result<Option<Found>, RecoverError> {
        let at = last.end();
        if at + HEADER_BYTES as u64 > reader.end {
            return Ok(None);
        }
        reader.leaps = matches!(last.body, Body::Unread) && last.header.length >= LEAP_BYTES_MIN;
        let bytes = reader.bytes(at, HEADER_BYTES)?;
        let Ok((header, header_crc)) = Header::decode(&bytes) else {
            return Ok(None);
        };
        let continues = header.identity == self.known.identity
            && self.known.nonces.contains(&header.nonce)
            && header.start == last.header.start
            && header.number == last.header.number + 1
            && header.previous == last.header_crc
            && at + u64::from(header.length) <= reader.end;
        if !continues {
            return Ok(None);
        }
        let body = match self.is_below(&header) {
            true => Body::Unread,
            false => match reader.body(at, &header)? {
                Some(body) => Body::Here(body),
                None => return Ok(None),
            },
        };
        let (segment, offset, read_at, start) = (reader.segment, at, at, None);
        let next = Found { header, header_crc, segment, offset, read_at, start, body };
        Ok((!self.may_be_void(&next)).then_some(next))
    }

    /// The head that continues the chain after `last`: of the same start, or of a later one that cut here. One
    /// that only its copy shows is left to the search.
    fn next_head(&self, last: &Found) -> Option<&Found> {
        let number = last.header.number + 1;
        let follows = |head: &&Found| head.header.previous == last.header_crc && head.segment > last.segment;
        let heads = || self.heads.iter().flatten().filter(follows);
        let same_start =
            |head: &&Found| head.header.start == last.header.start && head.header.number == number;
        let cuts_here = |head: &&Found| {
            head.header.start > last.header.start && head.start.is_some_and(|start| start.cut == number)
        };
        heads()
            .filter(|head| !self.may_be_void(head))
            .find(same_start)
            .or_else(|| heads().filter(cuts_here).max_by_key(|head| head.header.start))
            .filter(|head| head.read_at == head.offset && !self.may_be_void(head))
    }

    /// Makes the walked blocks evidence, after a look at those frames that are needed after all.
    fn take(
        &self,
        disk: &mut dyn Disk,
        mut found: Vec<Found>,
        survey: &mut Survey,
    ) -> Result<(), RecoverError> {
        survey.first_segment = found[0].segment;
        found.iter().for_each(|found| survey.note(&found.header));
        // A configuration is nowhere but in the frames. The head of the next segment repeats it.
        let configures =
            |pair: &[Found]| pair[1].start.is_none() && pair[1].header.flags & flags::AFTER_CONF_STATE != 0;
        let mut doubtful: Vec<usize> =
            found.windows(2).enumerate().filter(|(_, pair)| configures(pair)).map(|(nth, _)| nth).collect();
        loop {
            let proven = proven(&found);
            let nth = doubtful.pop().or_else(|| {
                let unread = |found: &Found| matches!(found.body, Body::Unread);
                found.iter().rposition(|found| unread(found) && found.header.number > proven)
            });
            let Some(nth) = nth else { break };
            let block = &found[nth];
            match block.read_body(disk)? {
                Some(body) => found[nth].body = Body::Here(body),
                None => {
                    // At the end the search will find it.
                    if nth + 1 < found.len() {
                        let (file, offset, reason) = (block.file(), block.offset, "the body is damaged");
                        survey.broken.push(Broken { file, offset, reason });
                    }
                    found.remove(nth);
                }
            }
        }
        survey.live = found;
        Ok(())
    }

    /// An orderly stop is the last thing that happened, and nothing hints at a start after it.
    fn has_ended(&self, disk: &mut dyn Disk, survey: &Survey) -> Result<bool, RecoverError> {
        let Some(last) = survey.live.last().filter(|last| last.header.flags & flags::CLEAN != 0) else {
            return Ok(false);
        };
        for (&(number, _), head) in self.segments.iter().zip(&self.heads) {
            let is_newer = |header: &Header| header.number > last.header.number;
            if number <= last.segment {
                continue;
            }
            if head.as_ref().is_some_and(|head| is_newer(&head.header)) {
                return Ok(false);
            }
            // A start whose head is gone, copy and all, still has its second block.
            let mut reader = self.reader(disk, number);
            reader.leaps = true;
            let at = HEAD_BYTES as u64;
            if at + HEADER_BYTES as u64 > reader.end {
                continue;
            }
            match self.known.look(&mut reader, at)? {
                Seen::Block(header, _) if !is_newer(&header) => {}
                Seen::Nothing => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Looks at every boundary behind the last block that was walked to, or at all if there is none.
    fn search(&self, disk: &mut dyn Disk, survey: &mut Survey) -> Result<(), RecoverError> {
        let last = survey.live.last().map(|last| (last.segment, last.end()));
        for (&(number, _), head) in self.segments.iter().zip(&self.heads) {
            let mut reader = self.reader(disk, number);
            match last {
                Some((segment, _)) if number < segment => {}
                Some((segment, end)) if number == segment => {
                    scan_from(&mut reader, end, &self.known, survey)?;
                }
                _ => scan(&mut reader, head.clone(), &self.known, survey)?,
            }
        }
        Ok(())
    }

    fn reader<'a>(&self, disk: &'a mut dyn Disk, segment: u64) -> Reader<'a> {
        let nth = self.segments.binary_search_by_key(&segment, |&(number, _)| number);
        Reader::new(disk, segment, self.segments[nth.expect("blocks lie in segments")].1)
    }
}

/// P as far as `found` tells.
fn proven(found: &[Found]) -> u64 {
    found.iter().map(|found| found.header.durable_upto).max().unwrap_or(0)
}
