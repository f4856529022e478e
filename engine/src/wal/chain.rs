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
    loop {
        let last = chain.accepted.last();
        if let Some(next) = links.next(last) {
            if last.is_none() && next.header.first_index > applied.saturating_add(1) {
                chain.damage = Some((next.file(), 0, next.header.number - 1));
                return chain;
            }
            if next.read_at != next.offset {
                chain.warnings.push(format!("the head of {} is damaged; its copy was used", next.file()));
            }
            chain.accepted.push(next.clone());
            continue;
        }
        // The first segment's head was durable before anything else was written, so it cannot be torn.
        let missing = last.map_or(1, |last| last.header.number + 1);
        let torn = last.is_some() && missing > proven;
        let Some(resume) = links.resume(last).filter(|_| !torn) else {
            // What vouches for the missing block stands before it: the last accepted one went astray, and the blocks
            // that should follow it are where it should be.
            if let Some(last) = last.filter(|last| !torn && survey.promised(Some(last)).index > applied) {
                chain.damage = Some((last.file(), last.end(), missing));
            } else {
                note_tail(survey, last, &mut chain.warnings);
            }
            return chain;
        };
        let (file, offset) = first_broken(survey, last, resume);
        if resume.header.first_index > applied.saturating_add(1) {
            chain.damage = Some((file, offset, missing));
            return chain;
        }
        chain.warnings.push(format!(
            "{file} is damaged at offset {offset}; the index already holds what was there, the log before block {} \
             is dropped",
            resume.header.number
        ));
        chain.accepted.clear();
        chain.accepted.push(resume.clone());
    }
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
    fn next(&self, last: Option<&Found>) -> Option<&'a Found> {
        let Some(last) = last else {
            // An earlier attempt to begin may have left a segment without a head before the first block of
            // all.
            let begins = |found: &&&Found| found.segment == self.first_segment || found.header.previous == 0;
            return self.heads.iter().find(begins).copied();
        };
        let number = last.header.number + 1;
        let follows = |found: &&&Found| found.header.previous == last.header_crc;
        let in_place = |found: &&&Found| {
            found.header.start == last.header.start
                && (found.place() == (last.segment, last.end())
                    || (found.segment > last.segment && found.start.is_some()))
        };
        let beside = self.by_number.get(&number).into_iter().flatten().filter(follows).find(in_place);
        let cuts_here = |found: &&&Found| {
            found.header.start > last.header.start
                && found.segment > last.segment
                && found.start.is_some_and(|start| start.cut == number)
        };
        beside
            .or_else(|| {
                let cuts = self.heads.iter().filter(follows).filter(cuts_here);
                cuts.max_by_key(|found| found.header.start)
            })
            .copied()
    }

    /// The first block behind whatever is missing after `last`.
    fn resume(&self, last: Option<&Found>) -> Option<&'a Found> {
        let (number, place) = last.map_or((0, None), |last| (last.header.number, Some(last.place())));
        let later = self.by_number.range(number + 1..).flat_map(|(_, found)| found);
        later.copied().find(|found| Some(found.place()) > place)
    }
}

/// Where to point an operator: the first place between `last` and `resume` that once was a block, or where
/// the missing one should begin.
fn first_broken(survey: &Survey, last: Option<&Found>, resume: &Found) -> (FileName, u64) {
    let from = last.map_or((0, 0), |found| (found.segment, found.end()));
    let expected = last.map_or((FileName::Log(resume.segment), 0), |found| (found.file(), found.end()));
    let between = survey.broken.iter().find(|broken| {
        let FileName::Log(segment) = broken.file else { return false };
        let place = (segment, broken.offset);
        place >= from && place < resume.place()
    });
    between.map_or(expected, |broken| (broken.file, broken.offset))
}

fn note_tail(survey: &Survey, last: Option<&Found>, warnings: &mut Vec<String>) {
    let Some(last) = last else {
        return;
    };
    let beyond = survey.end(Some(last)).count() - 1;
    let torn = survey.broken.iter().any(|broken| broken.file == last.file() && broken.offset == last.end());
    if torn || beyond > 0 {
        warnings.push(format!(
            "{} ends in a torn write at offset {}: it and {beyond} blocks after it were never acknowledged and \
             are cut",
            last.file(),
            last.end()
        ));
    }
}
