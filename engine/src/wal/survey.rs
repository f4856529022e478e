//! What valid blocks lie where: the evidence that recovery judges.
//!
//! A survey looks at each 4 KiB boundary that is not inside a valid block. A block is evidence when header and
//! body have the right checksums, cluster and member are ours and its nonce is *known*: it stands in a segment
//! head, which is a place that clients' bytes never reach. Without the nonce, bytes that a client stored could
//! pass for a block once the real one around them is damaged.
//!
//! [`survey`] reads every segment; that is for `utl log`. Recovery takes the shorter way of [`super::walk`],
//! which leaves out what cannot change its judgement.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::frame::{self, Frame, Start};
use super::layout::{FORMAT, HEAD_BYTES, HEADER_BYTES, Header, HeaderError, SEGMENT_BYTES_MAX};
use super::reader::Reader;
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
    /// Where the block stands: where it belongs, unless the drive wrote it to the wrong place.
    pub offset: u64,
    /// Where it was read: elsewhere only for a head whose copy stands in for it.
    pub read_at: u64,
    /// What it says of the log before, if it is the head of a segment.
    pub start: Option<Start>,
    pub body: Body,
}

/// What is known of a block's frames.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// They were not looked at: the index holds what they did, and the block is known to have been durable.
    Unread,
    /// Their checksum is right.
    Right,
    /// The same, and here they are.
    Here(Bytes),
}

impl Found {
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.header.length)
    }

    pub fn file(&self) -> FileName {
        FileName::Log(self.segment)
    }

    /// Its frames, if they are what the header says.
    pub fn read_body(&self, disk: &mut dyn Disk) -> Result<Option<Bytes>, RecoverError> {
        if let Body::Here(body) = &self.body {
            return Ok(Some(body.clone()));
        }
        let at = self.read_at + HEADER_BYTES as u64;
        let body = disk::read(disk, self.file(), at, self.header.body_length as usize)?;
        Ok((crc32fast::hash(&body) == self.header.body_crc).then_some(body))
    }

    /// It is a head that voids `other`.
    pub fn cuts(&self, other: &Found) -> bool {
        let start = self.header.start;
        self.start.is_some_and(|Start { cut, .. }| other.header.start < start && other.header.number >= cut)
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
    /// Number of the first segment looked at; the index holds all that those before it did.
    pub first_segment: u64,
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
                FileName::History(_) | FileName::Index | FileName::Reserve | FileName::Incoming => {}
            }
        }
        survey.segments.sort_unstable();
        survey.first_segment = survey.segments.first().map_or(0, |&(number, _)| number);
        survey
    }

    /// What heads and chain say of each other, once all blocks are there.
    pub fn judge_heads(&mut self) {
        self.drop_torn_heads();
        self.set_void_apart();
    }

    /// Remembers how far numbers have grown.
    pub fn note(&mut self, header: &Header) {
        self.start_max = self.start_max.max(header.start);
        self.number_max = self.number_max.max(header.number);
    }

    /// A copy stands in for a head that was durable once, not for one that a power cut tore.
    fn drop_torn_heads(&mut self) {
        let proven = self.proven();
        self.live.retain(|found| found.read_at == found.offset || found.header.number <= proven);
    }

    /// What a later start has cut off counts no more.
    fn set_void_apart(&mut self) {
        let heads: Vec<Found> = self.live.iter().filter(|found| found.start.is_some()).cloned().collect();
        let is_void = |found: &Found| heads.iter().any(|head| head.cuts(found));
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
    let (mut survey, heads) = survey_heads(disk, identity)?;
    let Some(known) = Known::by(&survey, &heads) else {
        return Ok(survey);
    };
    for (&(number, len), head) in survey.segments.clone().iter().zip(heads) {
        let mut reader = Reader::new(disk, number, len);
        scan(&mut reader, head, &known, &mut survey)?;
    }
    survey.judge_heads();
    Ok(survey)
}

/// Reads the heads, and makes sure that they are of one member.
pub(super) fn survey_heads(
    disk: &mut dyn Disk,
    identity: Option<Identity>,
) -> Result<(Survey, Vec<Option<Found>>), RecoverError> {
    let mut survey = Survey::of_files(disk.list()?);
    let heads = read_heads(disk, &survey.segments)?;
    let author = heads.iter().flatten().next().map(|head| head.header.identity);
    survey.identity = identity.or(author);
    let ours = |found: &&Found| Some(found.header.identity) == survey.identity;
    if let Some(stranger) = heads.iter().flatten().find(|found| !ours(found)) {
        return Err(RecoverError::Stranger { file: stranger.file(), found: stranger.header.identity });
    }
    heads.iter().flatten().for_each(|head| survey.note(&head.header));
    Ok((survey, heads))
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
                let body = Body::Here(body);
                return Ok(Some(Found {
                    header,
                    header_crc,
                    segment: number,
                    offset: 0,
                    read_at,
                    start,
                    body,
                }));
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
pub(super) struct Known {
    pub identity: Identity,
    pub nonces: BTreeSet<u64>,
    /// Newest start that a head tells of.
    start: u64,
}

/// Looks at every block boundary of one segment.
pub(super) fn scan(
    reader: &mut Reader,
    head: Option<Found>,
    known: &Known,
    survey: &mut Survey,
) -> Result<(), RecoverError> {
    let Some(head) = head else {
        return scan_from(reader, 0, known, survey);
    };
    if head.read_at != 0 {
        let reason = "the head is damaged or torn; its copy is not";
        survey.broken.push(Broken { file: head.file(), offset: 0, reason });
    }
    let end = head.end();
    survey.live.push(head);
    scan_from(reader, end, known, survey)
}

/// Looks at the block boundaries of a segment from `at` on.
pub(super) fn scan_from(
    reader: &mut Reader,
    mut at: u64,
    known: &Known,
    survey: &mut Survey,
) -> Result<(), RecoverError> {
    let file = FileName::Log(reader.segment);
    while at + BLOCK_SIZE as u64 <= reader.end {
        let offset = at;
        at += BLOCK_SIZE as u64;
        match known.look(reader, offset)? {
            Seen::Nothing => {}
            Seen::Broken(reason) => survey.broken.push(Broken { file, offset, reason }),
            Seen::Orphan => survey.orphans.push((file, offset)),
            Seen::Block(header, header_crc) => {
                survey.note(&header);
                at = offset + u64::from(header.length);
                let (segment, read_at) = (reader.segment, offset);
                let body = Body::Right;
                survey.live.push(Found { header, header_crc, segment, offset, read_at, start: None, body });
            }
        }
    }
    Ok(())
}

/// What is at a block boundary.
pub(super) enum Seen {
    Nothing,
    Broken(&'static str),
    /// See [`Survey::orphans`].
    Orphan,
    Block(Header, u32),
}

impl Known {
    /// What `heads` make known; nothing if nobody knows whose log it is.
    pub fn by(survey: &Survey, heads: &[Option<Found>]) -> Option<Known> {
        let heads = || heads.iter().flatten().map(|head| &head.header);
        Some(Known {
            identity: survey.identity?,
            nonces: heads().map(|head| head.nonce).collect(),
            start: heads().map(|head| head.start).max().unwrap_or(0),
        })
    }

    pub fn look(&self, reader: &mut Reader, at: u64) -> Result<Seen, RecoverError> {
        let (header, crc) = match Header::decode(&reader.bytes(at, HEADER_BYTES)?) {
            Ok(decoded) => decoded,
            Err(HeaderError::Checksum(_)) => return Ok(Seen::Broken("the header is damaged")),
            Err(_) => return Ok(Seen::Nothing),
        };
        if header.identity != self.identity {
            return Ok(Seen::Nothing);
        }
        let known = self.nonces.contains(&header.nonce);
        let whole = reader.body(at, &header)?.is_some();
        Ok(match whole {
            true if known => Seen::Block(header, crc),
            true if header.start > self.start => Seen::Orphan,
            false if known => Seen::Broken("the body is damaged"),
            _ => Seen::Nothing,
        })
    }
}

/// The header of the block that `bytes` begin with, and its CRC, if both checksums are right.
fn valid_block(bytes: &[u8]) -> Option<(Header, u32)> {
    let (header, crc) = Header::decode(bytes).ok()?;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + header.body_length as usize)?;
    (header.length as usize <= bytes.len() && crc32fast::hash(body) == header.body_crc)
        .then_some((header, crc))
}
