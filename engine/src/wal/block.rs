//! One block while it is filled: frames are encoded once, straight into the bytes that will be written.

use bytes::{Buf, Bytes, BytesMut};

use super::layout::{HEADER_BYTES, Header, padded};
use super::{EntryId, HardState};
use crate::disk::BLOCK_SIZE;

/// A block that has not been submitted yet. Its body stands in `bytes` behind the room for the header.
pub(super) struct Block {
    bytes: BytesMut,
    /// Hard state as of the last push into it.
    pub hard_state: HardState,
    /// See [`Header::first_index`].
    pub first_index: u64,
    /// Last entry of the log as of the last push into it.
    pub last: EntryId,
    /// Configuration it logs, if any: later segment heads repeat it.
    pub conf_state: Option<Bytes>,
    /// What the member still owes; see [`super::frame::Start::promised`].
    pub promised: Option<EntryId>,
    /// Highest position that is complete with this block.
    pub position: u64,
    /// Flags of the header besides the ones that the writer derives.
    pub flags: u32,
    /// Nobody waits for it: it neither counts against the depth nor delays another block.
    pub light: bool,
}

impl Block {
    /// An empty block in `bytes`, whose content is discarded.
    pub fn new(mut bytes: BytesMut, last: EntryId, hard_state: HardState, position: u64) -> Block {
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        Block {
            bytes,
            hard_state,
            first_index: last.index + 1,
            last,
            conf_state: None,
            promised: None,
            position,
            flags: 0,
            light: false,
        }
    }

    /// Where frames are appended.
    pub fn body(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Bytes of the frames so far.
    pub fn body_len(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    /// Bytes it takes on disk.
    pub fn padded_len(&self) -> usize {
        padded(self.bytes.len())
    }

    /// Writes the header and the zero padding; lengths and checksums of `header` are filled in here. Returns
    /// the block's bytes and its header CRC.
    pub fn seal(self, mut header: Header) -> (Bytes, u32) {
        let mut bytes = self.bytes;
        header.body_length = u32::try_from(bytes.len() - HEADER_BYTES).expect("blocks are bounded");
        header.body_crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
        let whole = padded(bytes.len());
        header.length = u32::try_from(whole).expect("blocks are bounded");
        bytes.resize(whole, 0);
        let crc = header.encode(&mut bytes[..HEADER_BYTES]);
        (bytes.freeze(), crc)
    }
}

/// An empty buffer that holds `capacity` bytes from an address that suits direct IO.
pub(super) fn aligned_buffer(capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(capacity + BLOCK_SIZE - 1);
    let address = buffer.as_ptr() as usize;
    buffer.advance(address.next_multiple_of(BLOCK_SIZE) - address);
    buffer.clear();
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back_whole() {
        let mut buffer = aligned_buffer(8192);
        for round in 0..3 {
            buffer.resize(8192, round);
            assert_eq!(buffer.as_ptr() as usize % BLOCK_SIZE, 0, "round {round}");
            let written = buffer.freeze();
            buffer = written.try_into_mut().expect("nobody else holds it");
            buffer.clear();
            assert!(buffer.capacity() >= 8192, "round {round}");
        }
    }
}
