//! Where each byte of a log block is.
//!
//! A segment is a file of whole blocks, the last 4 KiB of it excepted: those hold a second copy of the
//! segment's first block, so that one damaged spot cannot hide which start wrote the segment.
//!
//! ```text
//!  segment   ┌──────┬───────┬───────┬─ ─ ─┬──────────────┬───────────┐
//!            │ head │ block │ block │     │ zeroes or    │ head copy │
//!            │ 4 KiB│ n * 4 KiB     │     │ stale blocks │ 4 KiB     │
//!            └──────┴───────┴───────┴─ ─ ─┴──────────────┴───────────┘
//!  block     ┌────────────────┬────────┬────────┬─ ─ ─┬───────────────┐
//!            │ header (128 B) │ frame  │ frame  │     │ zero padding  │
//!            └────────────────┴────────┴────────┴─ ─ ─┴───────────────┘
//!  header    0       8        12      16        24       32      40      48       56       60
//!            ┌───────┬────────┬───────┬─────────┬────────┬───────┬───────┬────────┬────────┬──────────┐
//!            │ magic │ format │ flags │ cluster │ member │ start │ nonce │ number │ length │ previous │
//!            └───────┴────────┴───────┴─────────┴────────┴───────┴───────┴────────┴────────┴──────────┘
//!            64     72     80       88      96     104            112           116        120 124
//!            ┌──────┬──────┬────────┬───────┬──────┬──────────────┬─────────────┬──────────┬───┬────────────┐
//!            │ term │ vote │ commit │ first │ last │ durable_upto │ body length │ body CRC │ 0 │ header CRC │
//!            └──────┴──────┴────────┴───────┴──────┴──────────────┴─────────────┴──────────┴───┴────────────┘
//!  frame     ┌──────┬────────────┬───┬────────┬───────┬──────┬─────────┐
//!            │ kind │ entry kind │ 0 │ length │ index │ term │ payload │
//!            └──────┴────────────┴───┴────────┴───────┴──────┴─────────┘
//!            0      1            2   4        8       16     24
//! ```
//!
//! All numbers are little endian. The header CRC covers the bytes before it, the body CRC the frames without
//! the padding; both are CRC-32 (IEEE). `previous` is the header CRC of the block accepted before this one.
//!
//! Versions: 1, the first. `magic` and `format` keep their places in every later one.

use std::ops::Range;

use super::{HardState, Identity};
use crate::disk::BLOCK_SIZE;

/// The format written, and the only one read.
pub const FORMAT: u32 = 1;

/// First bytes of every block.
pub const MAGIC: [u8; 8] = *b"KontiLog";

const MAGIC_AT: Range<usize> = 0..8;
const FORMAT_AT: Range<usize> = after(&MAGIC_AT, 4);
const FLAGS_AT: Range<usize> = after(&FORMAT_AT, 4);
const CLUSTER_AT: Range<usize> = after(&FLAGS_AT, 8);
const MEMBER_AT: Range<usize> = after(&CLUSTER_AT, 8);
const START_AT: Range<usize> = after(&MEMBER_AT, 8);
const NONCE_AT: Range<usize> = after(&START_AT, 8);
const NUMBER_AT: Range<usize> = after(&NONCE_AT, 8);
const LENGTH_AT: Range<usize> = after(&NUMBER_AT, 4);
const PREVIOUS_AT: Range<usize> = after(&LENGTH_AT, 4);
const TERM_AT: Range<usize> = after(&PREVIOUS_AT, 8);
const VOTE_AT: Range<usize> = after(&TERM_AT, 8);
const COMMIT_AT: Range<usize> = after(&VOTE_AT, 8);
const FIRST_INDEX_AT: Range<usize> = after(&COMMIT_AT, 8);
const LAST_INDEX_AT: Range<usize> = after(&FIRST_INDEX_AT, 8);
const DURABLE_UPTO_AT: Range<usize> = after(&LAST_INDEX_AT, 8);
const BODY_LENGTH_AT: Range<usize> = after(&DURABLE_UPTO_AT, 4);
const BODY_CRC_AT: Range<usize> = after(&BODY_LENGTH_AT, 4);
const RESERVED_AT: Range<usize> = after(&BODY_CRC_AT, 4);
const HEADER_CRC_AT: Range<usize> = after(&RESERVED_AT, 4);

/// Bytes of a block's header.
pub const HEADER_BYTES: usize = HEADER_CRC_AT.end;

/// Bytes of a frame before its payload.
pub const FRAME_BYTES: usize = 24;

/// Bytes of the block that opens each segment, and of its copy at the end.
pub const HEAD_BYTES: usize = BLOCK_SIZE;

/// Longest configuration, in bytes: it must fit into a segment's first block.
pub const CONF_STATE_BYTES_MAX: usize = 2048;

/// Longest segment recovery will read, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(HEADER_BYTES == 128, "the header grew or shrank");
const _: () = assert!(HEADER_CRC_AT.start == 124, "the header CRC must cover all that stands before it");
const _: () = assert!(
    HEADER_BYTES + 2 * FRAME_BYTES + super::frame::START_PAYLOAD_BYTES + CONF_STATE_BYTES_MAX <= HEAD_BYTES,
    "a segment's first block must hold the start frame and the configuration"
);

const fn after(before: &Range<usize>, len: usize) -> Range<usize> {
    before.end..before.end + len
}

/// `len` rounded up to whole blocks of the disk.
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK_SIZE)
}

/// Bits of a header's `flags`.
pub mod flags {
    /// Written without syncing: nothing before this block is known durable.
    pub const NO_FSYNC: u32 = 1;
    /// The member had lost promises and has not yet caught up with them.
    pub const RECOVERING: u32 = 1 << 1;
    /// The last block of an orderly stop.
    pub const CLEAN: u32 = 1 << 2;
    /// The block before this one logs a configuration: who skips the frames of others reads those.
    pub const AFTER_CONF_STATE: u32 = 1 << 3;
}

/// What a block says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bits of [`flags`].
    pub flags: u32,
    /// Whose log this is.
    pub identity: Identity,
    /// How often this log was opened for writing, this time included.
    pub start: u64,
    /// Random number of this start; tells our blocks from bytes that clients stored.
    pub nonce: u64,
    /// Number of the block: grows through all starts, by one within a start.
    pub number: u64,
    /// Bytes of the whole block, padding included; a multiple of 4096.
    pub length: u32,
    /// Header CRC of the block accepted before this one; 0 for the first of all.
    pub previous: u32,
    /// Term, vote and commit as of the end of this block.
    pub hard_state: HardState,
    /// All entries below this index come from earlier blocks: the lowest index that this block writes or
    /// truncates at, or `last_index + 1` when it does neither.
    pub first_index: u64,
    /// Last entry of the whole log as of the end of this block.
    pub last_index: u64,
    /// Highest block number such that it and all before it were known durable when this block was submitted.
    pub durable_upto: u64,
    /// Bytes of the frames.
    pub body_length: u32,
    /// CRC of the frames.
    pub body_crc: u32,
}

/// Why bytes are not a header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Other bytes altogether, zeroes for instance.
    NoMagic,
    /// The magic is there but the checksum is wrong; the value is the format the bytes claim.
    Checksum(u32),
    /// A block of another format; the value is the format.
    Format(u32),
    /// The checksum is right but numbers contradict each other.
    Lengths,
}

impl Header {
    /// Writes the header into the first [`HEADER_BYTES`] of `block`; returns its CRC.
    pub fn encode(&self, block: &mut [u8]) -> u32 {
        assert!(self.hard_state.vote != Some(0), "0 is no member id");
        block[MAGIC_AT].copy_from_slice(&MAGIC);
        put_u32(block, FORMAT_AT, FORMAT);
        put_u32(block, FLAGS_AT, self.flags);
        put_u64(block, CLUSTER_AT, self.identity.cluster);
        put_u64(block, MEMBER_AT, self.identity.member);
        put_u64(block, START_AT, self.start);
        put_u64(block, NONCE_AT, self.nonce);
        put_u64(block, NUMBER_AT, self.number);
        put_u32(block, LENGTH_AT, self.length);
        put_u32(block, PREVIOUS_AT, self.previous);
        put_u64(block, TERM_AT, self.hard_state.term);
        put_u64(block, VOTE_AT, self.hard_state.vote.unwrap_or(0));
        put_u64(block, COMMIT_AT, self.hard_state.commit);
        put_u64(block, FIRST_INDEX_AT, self.first_index);
        put_u64(block, LAST_INDEX_AT, self.last_index);
        put_u64(block, DURABLE_UPTO_AT, self.durable_upto);
        put_u32(block, BODY_LENGTH_AT, self.body_length);
        put_u32(block, BODY_CRC_AT, self.body_crc);
        put_u32(block, RESERVED_AT, 0);
        let crc = crc32fast::hash(&block[..HEADER_CRC_AT.start]);
        put_u32(block, HEADER_CRC_AT, crc);
        crc
    }

    /// Reads the header at the beginning of `bytes` (at least [`HEADER_BYTES`]), and its CRC.
    pub fn decode(bytes: &[u8]) -> Result<(Header, u32), HeaderError> {
        if bytes.len() < HEADER_BYTES || bytes[MAGIC_AT] != MAGIC {
            return Err(HeaderError::NoMagic);
        }
        let format = u32_at(bytes, FORMAT_AT);
        let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT.start]);
        if crc != u32_at(bytes, HEADER_CRC_AT) {
            return Err(HeaderError::Checksum(format));
        }
        if format != FORMAT {
            return Err(HeaderError::Format(format));
        }
        let vote = u64_at(bytes, VOTE_AT);
        let header = Header {
            flags: u32_at(bytes, FLAGS_AT),
            identity: Identity { cluster: u64_at(bytes, CLUSTER_AT), member: u64_at(bytes, MEMBER_AT) },
            start: u64_at(bytes, START_AT),
            nonce: u64_at(bytes, NONCE_AT),
            number: u64_at(bytes, NUMBER_AT),
            length: u32_at(bytes, LENGTH_AT),
            previous: u32_at(bytes, PREVIOUS_AT),
            hard_state: HardState {
                term: u64_at(bytes, TERM_AT),
                vote: (vote != 0).then_some(vote),
                commit: u64_at(bytes, COMMIT_AT),
            },
            first_index: u64_at(bytes, FIRST_INDEX_AT),
            last_index: u64_at(bytes, LAST_INDEX_AT),
            durable_upto: u64_at(bytes, DURABLE_UPTO_AT),
            body_length: u32_at(bytes, BODY_LENGTH_AT),
            body_crc: u32_at(bytes, BODY_CRC_AT),
        };
        let whole = padded(HEADER_BYTES.saturating_add(header.body_length as usize));
        let counters = [header.start, header.number, header.first_index, header.last_index];
        if header.length as usize != whole
            || header.number == 0
            || header.durable_upto >= header.number
            || counters.contains(&u64::MAX)
        {
            return Err(HeaderError::Lengths);
        }
        Ok((header, crc))
    }
}

fn put_u32(bytes: &mut [u8], at: Range<usize>, value: u32) {
    bytes[at].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: Range<usize>, value: u64) {
    bytes[at].copy_from_slice(&value.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: Range<usize>) -> u32 {
    u32::from_le_bytes(bytes[at].try_into().expect("the range is four bytes"))
}

fn u64_at(bytes: &[u8], at: Range<usize>) -> u64 {
    u64::from_le_bytes(bytes[at].try_into().expect("the range is eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn sample() -> Header {
        Header {
            flags: flags::CLEAN,
            identity: Identity { cluster: 0xc1, member: 0x3e },
            start: 7,
            nonce: 0x0123_4567_89ab_cdef,
            number: 42,
            length: 4096,
            previous: 0xdead_beef,
            hard_state: HardState { term: 3, vote: Some(2), commit: 17 },
            first_index: 18,
            last_index: 20,
            durable_upto: 41,
            body_length: 300,
            body_crc: 0x1234_5678,
        }
    }

    #[test]
    fn headers_round_trip() {
        let no_vote = Header { hard_state: HardState { vote: None, ..sample().hard_state }, ..sample() };
        for header in [sample(), no_vote] {
            let mut bytes = [0xff; HEADER_BYTES];
            let crc = header.encode(&mut bytes);
            assert_eq!(Header::decode(&bytes), Ok((header, crc)));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let mut bytes = [0; HEADER_BYTES];
        sample().encode(&mut bytes);
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn contradictions_under_a_good_checksum_are_refused() {
        let refused = [
            Header { length: 8192, ..sample() },
            Header { length: 0, ..sample() },
            Header { body_length: u32::MAX, ..sample() },
            Header { number: 0, ..sample() },
            Header { durable_upto: 42, ..sample() },
            Header { last_index: u64::MAX, ..sample() },
        ];
        for header in refused {
            let mut bytes = [0; HEADER_BYTES];
            header.encode(&mut bytes);
            assert_eq!(Header::decode(&bytes), Err(HeaderError::Lengths), "{header:?}");
        }
    }
}
