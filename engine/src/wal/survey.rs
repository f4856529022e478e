//! What valid blocks lie where: the evidence that recovery judges.
//!
//! A survey reads every segment once and looks at each 4 KiB boundary that is not inside a valid block. A
//! block is evidence when header and body have the right checksums, cluster and member are ours and its nonce
//! is *known*: it stands in a segment head, which is a place that clients' bytes never reach. Without the
//! nonce, bytes that a client stored could pass for a block once the real one around them is damaged.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::frame::{self, Frame, Start};
use super::layout::{FORMAT, HEAD_BYTES, HEADER_BYTES, Header, HeaderError, SEGMENT_BYTES_MAX};
use super::recover::RecoverError;
use super::segment::Spare;
use super::{EntryId, Identity};
use crate::disk::{self, BLOCK_SIZE, Disk, FileName};

/// A valid block.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub header: Header,
    pub header_crc: u32,
    /// Number of the segment.
    pub segment: u64,
    /// Where the block belongs.
    pub offset: u64,
    /// Where it was read: elsewhere only for a head whose copy stands in for it.
    pub read_at: u64,
    /// What it says of the log before, if it is the head of a segment.
    pub start: Option<Start>,
}

impl Found {
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.header.length)
    }

    pub fn file(&self) -> FileName {
        FileName::Log(self.segment)
    }

    /// Place in the row of all bytes of the log.
    pub fn place(&self) -> (u64, u64) {
        (self.segment, self.offset)
    }
}

/// A place where a block began once and no valid one does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which file.
    pub file: FileName,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// All that can be told without judging it.
#[derive(Default)]
pub(super) struct Survey {
    /// Whose log it is, if known.
    pub identity: Option<Identity>,
    /// Numbers and lengths of the segments, in order.
    pub segments: Vec<(u64, u64)>,
    pub spares: Vec<Spare>,
    /// Valid blocks in order of place, void ones left out.
    pub live: Vec<Found>,
    /// Valid blocks that a later start has cut off.
    pub void: Vec<Found>,
    pub broken: Vec<Broken>,
    /// Blocks with right checksums, our identity and an unknown nonce from a start later than any known one:
    /// the heads of their segment are gone, or a client forged them.
    pub orphans: Vec<(FileName, u64)>,
    /// Highest start and number that any block with a known nonce carries, void ones and torn heads included.
    pub start_max: u64,
    pub number_max: u64,
}

impl Survey {
    /// Nothing but the names.
    pub fn of_files(files: Vec<(FileName, u64)>) -> Survey {
        let mut survey = Survey::default();
        for (file, len) in files {
            match file {
                FileName::Log(number) => survey.segments.push((number, len)),
                FileName::LogSpare(number) => survey.spares.push(Spare { number, len }),
                FileName::History(_) | FileName::Index => {}
            }
        }
        survey.segments.sort_unstable();
        survey
    }

    /// A copy stands in for a head that was durable once, not for one that a power cut tore.
    fn drop_torn_heads(&mut self) {
        let proven = self.proven();
        self.live.retain(|found| found.read_at == found.offset || found.header.number <= proven);
    }

    /// What a later start has cut off counts no more.
    fn set_void_apart(&mut self) {
        let cuts = self.live.iter().filter_map(|found| Some((found.header.start, found.start?.cut)));
        let cuts: Vec<(u64, u64)> = cuts.collect();
        let is_void = |found: &Found| {
            cuts.iter().any(|&(start, cut)| found.header.start < start && found.header.number >= cut)
        };
        (self.void, self.live) = std::mem::take(&mut self.live).into_iter().partition(is_void);
    }

    /// P: everything up to this block number was reported durable.
    pub fn proven(&self) -> u64 {
        self.live.iter().map(|found| found.header.durable_upto).max().unwrap_or(0)
    }

    /// The newest accepted block and all valid ones after it: what the log once said of its end.
    pub fn end<'a>(&'a self, newest: Option<&'a Found>) -> impl Iterator<Item = &'a Header> + Clone {
        let number = newest.map_or(0, |found| found.header.number);
        let later = self.live.iter().filter(move |found| found.header.number > number);
        newest.into_iter().chain(later).map(|found| &found.header)
    }

    /// Highest entry and term that `newest` and the blocks after it show to have been promised.
    pub fn promised(&self, newest: Option<&Found>) -> EntryId {
        EntryId {
            index: self.end(newest).map(|header| header.last_index).max().unwrap_or(0),
            term: self.end(newest).map(|header| header.hard_state.term).max().unwrap_or(0),
        }
    }
}

/// Reads the whole log of `identity`, or of whoever wrote the first valid head.
pub(super) fn survey(disk: &mut dyn Disk, identity: Option<Identity>) -> Result<Survey, RecoverError> {
    let mut survey = Survey::of_files(disk.list()?);
    survey.identity = identity;
    let heads = read_heads(disk, &survey.segments)?;
    let author = heads.iter().flatten().next().map(|head| head.header.identity);
    let Some(identity) = identity.or(author) else {
        return Ok(survey);
    };
    survey.identity = Some(identity);
    let ours = |found: &&Found| found.header.identity == identity;
    if let Some(stranger) = heads.iter().flatten().find(|found| !ours(found)) {
        return Err(RecoverError::Stranger { file: stranger.file(), found: stranger.header.identity });
    }
    let nonces: BTreeSet<u64> = heads.iter().flatten().map(|head| head.header.nonce).collect();
    let start_known = heads.iter().flatten().map(|head| head.header.start).max().unwrap_or(0);
    let known = Known { identity, nonces, start: start_known };
    for (&(number, len), head) in survey.segments.clone().iter().zip(heads) {
        scan(disk, number, len, head, &known, &mut survey)?;
    }
    survey.drop_torn_heads();
    survey.set_void_apart();
    Ok(survey)
}

/// The head of each segment, from its copy when the first one is damaged.
pub(super) fn read_heads(
    disk: &mut dyn Disk,
    segments: &[(u64, u64)],
) -> Result<Vec<Option<Found>>, RecoverError> {
    segments.iter().map(|&(number, len)| read_head(disk, number, len)).collect()
}

fn read_head(disk: &mut dyn Disk, number: u64, len: u64) -> Result<Option<Found>, RecoverError> {
    let file = FileName::Log(number);
    if len > SEGMENT_BYTES_MAX {
        return Err(RecoverError::SegmentLength { file, len });
    }
    if !len.is_multiple_of(BLOCK_SIZE as u64) || len < 2 * HEAD_BYTES as u64 {
        return Ok(None);
    }
    let mut formats = Vec::new();
    for read_at in [0, len - HEAD_BYTES as u64] {
        let bytes = disk::read(disk, file, read_at, HEAD_BYTES)?;
        match Header::decode(&bytes) {
            Err(HeaderError::Format(format)) => return Err(RecoverError::Format { file, format }),
            Err(HeaderError::Checksum(format)) if format != FORMAT => formats.push(format),
            _ => {}
        }
        if let Some((header, header_crc)) = valid_block(&bytes) {
            let body = bytes.slice(HEADER_BYTES..HEADER_BYTES + header.body_length as usize);
            let start = start_of(&body);
            if start.is_some() {
                return Ok(Some(Found { header, header_crc, segment: number, offset: 0, read_at, start }));
            }
        }
    }
    // A later format may have its checksum elsewhere; rot does not write the same number twice.
    match formats[..] {
        [format, copy] if format == copy => Err(RecoverError::Format { file, format }),
        _ => Ok(None),
    }
}

fn start_of(body: &Bytes) -> Option<Start> {
    match frame::decode(body).ok()?.first() {
        Some(&Frame::Start(start)) => Some(start),
        _ => None,
    }
}

/// What makes a block ours.
struct Known {
    identity: Identity,
    nonces: BTreeSet<u64>,
    /// Newest start that a head tells of.
    start: u64,
}

/// Looks at every block boundary of one segment.
fn scan(
    disk: &mut dyn Disk,
    number: u64,
    len: u64,
    head: Option<Found>,
    known: &Known,
    survey: &mut Survey,
) -> Result<(), RecoverError> {
    let file = FileName::Log(number);
    let whole_blocks = len / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
    let bytes = disk::read(disk, file, 0, whole_blocks as usize)?;
    let end = bytes.len().saturating_sub(HEAD_BYTES);
    let mut at = 0;
    if let Some(head) = head {
        if head.read_at != 0 {
            survey.broken.push(Broken {
                file,
                offset: 0,
                reason: "the head is damaged or torn; its copy is not",
            });
        }
        at = head.header.length as usize;
        note(survey, &head.header);
        survey.live.push(head);
    }
    while at + HEADER_BYTES <= end {
        let offset = at as u64;
        at += BLOCK_SIZE;
        match known.look(&bytes[offset as usize..end]) {
            Seen::Nothing => {}
            Seen::Broken(reason) => survey.broken.push(Broken { file, offset, reason }),
            Seen::Orphan => survey.orphans.push((file, offset)),
            Seen::Block(header, header_crc) => {
                note(survey, &header);
                at = offset as usize + header.length as usize;
                let (segment, read_at) = (number, offset);
                survey.live.push(Found { header, header_crc, segment, offset, read_at, start: None });
            }
        }
    }
    Ok(())
}

/// What is at a block boundary.
enum Seen {
    Nothing,
    Broken(&'static str),
    /// See [`Survey::orphans`].
    Orphan,
    Block(Header, u32),
}

impl Known {
    fn look(&self, bytes: &[u8]) -> Seen {
        let header = match Header::decode(bytes) {
            Ok((header, _)) => header,
            Err(HeaderError::Checksum(_)) => return Seen::Broken("the header is damaged"),
            Err(_) => return Seen::Nothing,
        };
        let known = self.nonces.contains(&header.nonce);
        match valid_block(bytes) {
            _ if header.identity != self.identity => Seen::Nothing,
            Some((header, crc)) if known => Seen::Block(header, crc),
            Some(_) if header.start > self.start => Seen::Orphan,
            None if known => Seen::Broken("the body is damaged"),
            _ => Seen::Nothing,
        }
    }
}

fn note(survey: &mut Survey, header: &Header) {
    survey.start_max = survey.start_max.max(header.start);
    survey.number_max = survey.number_max.max(header.number);
}

/// The header of the block that `bytes` begin with, and its CRC, if both checksums are right.
fn valid_block(bytes: &[u8]) -> Option<(Header, u32)> {
    let (header, crc) = Header::decode(bytes).ok()?;
    let block = bytes.get(..header.length as usize)?;
    let body = block.get(HEADER_BYTES..HEADER_BYTES + header.body_length as usize)?;
    (crc32fast::hash(body) == header.body_crc).then_some((header, crc))
}
