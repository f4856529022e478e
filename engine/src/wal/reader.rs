//! A segment's bytes, read front to back in large pieces.
//!
//! A device gives a mebibyte in one read much sooner than in 256; a caller that goes on in small steps gets
//! them out of the piece at hand.

use bytes::Bytes;

use super::layout::{HEAD_BYTES, HEADER_BYTES, Header};
use super::recover::RecoverError;
use crate::disk::{self, BLOCK_SIZE, Disk, FileName};

/// Bytes read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// The part of a segment that holds blocks.
pub(super) struct Reader<'a> {
    disk: &'a mut dyn Disk,
    pub segment: u64,
    /// Where blocks end: the copy of the head lies behind.
    pub end: u64,
    /// The caller leaps: reads are as short as possible.
    pub leaps: bool,
    piece_at: u64,
    piece: Bytes,
}

impl<'a> Reader<'a> {
    /// For a segment of `len` bytes, which need not make sense.
    pub fn new(disk: &'a mut dyn Disk, segment: u64, len: u64) -> Reader<'a> {
        let whole_blocks = len / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let end = whole_blocks.saturating_sub(HEAD_BYTES as u64);
        Reader { disk, segment, end, leaps: false, piece_at: 0, piece: Bytes::new() }
    }

    /// `len` bytes from `at` on, which must lie before the end; whatever else the read brings comes next.
    pub fn bytes(&mut self, at: u64, len: usize) -> Result<Bytes, RecoverError> {
        let is_here = at >= self.piece_at && at + len as u64 <= self.piece_at + self.piece.len() as u64;
        if !is_here {
            assert!(at + len as u64 <= self.end, "{len} bytes at {at} lie beyond the end {}", self.end);
            let piece = if self.leaps { BLOCK_SIZE as u64 } else { PIECE_BYTES };
            let piece = piece.max(len as u64).min(self.end - at);
            self.piece = disk::read(self.disk, FileName::Log(self.segment), at, piece as usize)?;
            self.piece_at = at;
        }
        let from = (at - self.piece_at) as usize;
        Ok(self.piece.slice(from..from + len))
    }

    /// The frames of the block at `at`, if they are what `header` says.
    pub fn body(&mut self, at: u64, header: &Header) -> Result<Option<Bytes>, RecoverError> {
        if at + u64::from(header.length) > self.end {
            return Ok(None);
        }
        let body = self.bytes(at, HEADER_BYTES + header.body_length as usize)?.slice(HEADER_BYTES..);
        Ok((crc32fast::hash(&body) == header.body_crc).then_some(body))
    }
}
