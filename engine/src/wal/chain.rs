//! Which blocks count: the chain from the first segment's head to the last block that was not torn.

use std::collections::BTreeMap;

use super::survey::{Found, Survey};
use crate::disk::FileName;

/// The accepted blocks, and why there are no more.
pub(super) struct Chain {
    pub accepted: Vec<Found>,
    /// Damage above the applied entry: file, offset and number of the first block that is missing.
    pub damage: Option<(FileName, u64, u64)>,
    pub warnings: Vec<String>,
}

/// Follows the chain. `applied` is the index's applied entry: damage below it costs nothing but the log's
/// prefix.
pub(super) fn follow(survey: &Survey, applied: u64) -> Chain {
    let mut chain = Chain { accepted: Vec::new(), damage: None, warnings: Vec::new() };
    for &(file, offset) in &survey.orphans {
        chain.warnings.push(format!(
            "{file} holds a block at offset {offset} whose segment's head is gone, copy and all; it does not count"
        ));
    }
    // A log's first segment was written with zeroes: what looks like a block there is one.
    if let (true, Some(&(file, offset))) = (survey.live.is_empty(), survey.orphans.first()) {
        chain.damage = Some((file, offset, 1));
        return chain;
    }
    let links = Links::new(survey);
    let proven = survey.proven();
    // Where the next block belongs.
    let mut end = (survey.first_segment, 0);
    let mut astray: Vec<&Found> = Vec::new();
    loop {
        let last = chain.accepted.last();
        if let Some(next) = links.next(last, end) {
            if last.is_none() && next.header.first_index > applied.saturating_add(1) {
                chain.damage = Some((next.file(), 0, next.header.number - 1));
                return chain;
            }
            if next.read_at != next.offset {
                chain.warnings.push(format!("the head of {} is damaged; its copy was used", next.file()));
            }
            if last.is_none() || stands_behind(next, last, end) {
                end = (next.segment, next.end());
            } else {
                chain.warnings.push(format!(
                    "block {} stands at offset {} of {} and belongs at {} of {}: the drive wrote it to the wrong place; \
                     it counts all the same",
                    next.header.number,
                    next.offset,
                    next.file(),
                    end.1,
                    FileName::Log(end.0)
                ));
                astray.push(next);
                end.1 += u64::from(next.header.length);
            }
            chain.accepted.push(next.clone());
            continue;
        }
        // The first segment's head was durable before anything else was written, so it cannot be torn.
        let missing = last.map_or(1, |last| last.header.number + 1);
        let torn = last.is_some() && missing > proven && !is_overwritten(survey, &astray, end);
        let Some(resume) = links.resume(last, end).filter(|_| !torn) else {
            // Nobody vouches for a block that another one has overwritten; or what vouches for the missing one stands
            // before it.
            let lost = missing > proven || survey.promised(last).index > applied;
            if last.is_some() && !torn && lost {
                chain.damage = Some((FileName::Log(end.0), end.1, missing));
            } else {
                note_tail(survey, last, end, &mut chain.warnings);
            }
            return chain;
        };
        let (file, offset) = first_broken(survey, last, end, resume);
        if resume.header.first_index > applied.saturating_add(1) {
            chain.damage = Some((file, offset, missing));
            return chain;
        }
        chain.warnings.push(format!(
            "{file} is damaged at offset {offset}; the index already holds what was there, the log before block {} \
             is dropped",
            resume.header.number
        ));
        end = (resume.segment, resume.end());
        chain.accepted.clear();
        chain.accepted.push(resume.clone());
    }
}

/// A place in the row of all bytes of the log: number of a segment, and offset in it.
type Place = (u64, u64);

/// Whether `next` is where a block behind `last` belongs. `last` itself may have gone astray, and then the place behind
/// it is `end`; or be the first in its place again after one that did.
fn stands_behind(next: &Found, last: Option<&Found>, end: Place) -> bool {
    next.start.is_some()
        || next.place() == end
        || last.is_some_and(|last| next.place() == (last.segment, last.end()))
}

/// Whether a block that went astray lies where the one at `end` was, if there was one.
fn is_overwritten(survey: &Survey, astray: &[&Found], end: Place) -> bool {
    let is_broken =
        survey.broken.iter().any(|broken| (broken.file, broken.offset) == (FileName::Log(end.0), end.1));
    astray
        .iter()
        .any(|block| block.segment == end.0 && block.end() > end.1 && (block.offset <= end.1 || is_broken))
}

/// Valid blocks by what leads to them.
struct Links<'a> {
    /// A number may come up more than once when a write went astray.
    by_number: BTreeMap<u64, Vec<&'a Found>>,
    heads: Vec<&'a Found>,
    first_segment: u64,
}

impl<'a> Links<'a> {
    fn new(survey: &'a Survey) -> Links<'a> {
        let mut by_number: BTreeMap<u64, Vec<&Found>> = BTreeMap::new();
        for found in &survey.live {
            by_number.entry(found.header.number).or_default().push(found);
        }
        let heads = survey.live.iter().filter(|found| found.start.is_some()).collect();
        Links { by_number, heads, first_segment: survey.first_segment }
    }

    /// The block that follows `last`, or the first of all.
    ///
    /// Start, number and the CRC of the header before it name one block and no other, wherever it stands: one that is
    /// not at `end`, where it belongs, was written to the wrong place, and its bytes are as good as they were.
    fn next(&self, last: Option<&Found>, end: Place) -> Option<&'a Found> {
        let Some(last) = last else {
            // An earlier attempt to begin may have left a segment without a head before the first block of
            // all.
            let begins = |found: &&&Found| found.segment == self.first_segment || found.header.previous == 0;
            return self.heads.iter().find(begins).copied();
        };
        let number = last.header.number + 1;
        let follows = |found: &&&Found| found.header.previous == last.header_crc;
        let beside = self.by_number.get(&number).into_iter().flatten();
        let beside = beside.filter(follows).filter(|found| found.header.start == last.header.start);
        let cuts_here = |found: &&&Found| {
            found.header.start > last.header.start && found.start.is_some_and(|start| start.cut == number)
        };
        beside
            .max_by_key(|found| stands_behind(found, Some(last), end))
            .or_else(|| {
                let cuts = self.heads.iter().filter(follows).filter(cuts_here);
                cuts.max_by_key(|found| found.header.start)
            })
            .copied()
    }

    /// The first block behind whatever is missing after `last`, which would stand at `end`.
    fn resume(&self, last: Option<&Found>, end: Place) -> Option<&'a Found> {
        let number = last.map_or(0, |last| last.header.number);
        let later = self.by_number.range(number + 1..).flat_map(|(_, found)| found);
        later.copied().find(|found| last.is_none() || found.place() >= end)
    }
}

/// Where to point an operator: the first place between `last` and `resume` that once was a block, or where
/// the missing one should begin.
fn first_broken(survey: &Survey, last: Option<&Found>, end: Place, resume: &Found) -> (FileName, u64) {
    let from = last.map_or((0, 0), |_| end);
    let expected = last.map_or((FileName::Log(resume.segment), 0), |_| (FileName::Log(end.0), end.1));
    let between = survey.broken.iter().find(|broken| {
        let FileName::Log(segment) = broken.file else { return false };
        let place = (segment, broken.offset);
        place >= from && place < resume.place()
    });
    between.map_or(expected, |broken| (broken.file, broken.offset))
}

fn note_tail(survey: &Survey, last: Option<&Found>, end: Place, warnings: &mut Vec<String>) {
    if last.is_none() {
        return;
    }
    let beyond = survey.end(last).count() - 1;
    let (file, offset) = (FileName::Log(end.0), end.1);
    let torn = survey.broken.iter().any(|broken| broken.file == file && broken.offset == offset);
    if torn || beyond > 0 {
        warnings.push(format!(
            "{file} ends in a torn write at offset {offset}: it and {beyond} blocks after it were never acknowledged \
             and are cut"
        ));
    }
}
