//! A message written back to front, so that the length of every nested message is known when its prefix is written.
//!
//! One pass and no second look at the content, however deep the nesting. Bytes that are not here yet (records of the
//! history) are left out as gaps of known length.

use super::wire::{VARINT_LEN_MAX, len_tag, varint_tag, write_varint};

/// A message that grows at its front.
#[derive(Debug, Default)]
pub struct Back {
    /// The bytes so far, last one first.
    reversed: Vec<u8>,
    /// Bytes left out so far.
    gaps_len: u64,
}

/// A place in a [`Back`], counted from the end of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Back {
    /// Bytes so far, with the gaps.
    pub fn encoded_len(&self) -> u64 {
        self.reversed.len() as u64 + self.gaps_len
    }

    /// The current front; a message that is about to be written ends here.
    pub fn mark(&self) -> Mark {
        Mark(self.encoded_len())
    }

    /// Puts `bytes` in front.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    /// Puts a varint field in front; 0 is left out, as proto3 does.
    pub fn varint_field(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.varint(value);
            self.varint(u64::from(varint_tag(number)));
        }
    }

    /// Puts tag and length of a message in front that ends at `end` and begins at the current front.
    pub fn close(&mut self, number: u32, end: Mark) {
        self.varint(self.encoded_len() - end.0);
        self.varint(u64::from(len_tag(number)));
    }

    /// Leaves a gap of `len` bytes in front. Returns where it lies: bytes that stand behind it, without other gaps.
    pub fn gap(&mut self, len: u64) -> usize {
        self.gaps_len += len;
        self.reversed.len()
    }

    /// The bytes in their right order, without the gaps.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.reversed;
        bytes.reverse();
        bytes
    }

    fn varint(&mut self, value: u64) {
        let mut forward = [0; VARINT_LEN_MAX];
        let len = write_varint(&mut forward, value);
        self.bytes(&forward[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_messages_get_their_lengths_and_gaps_count() {
        let mut back = Back::default();
        back.varint_field(4, 300);
        back.varint_field(3, 0);
        let end = back.mark();
        back.bytes(b"xyz");
        let behind = back.gap(200);
        back.close(2, end);
        assert_eq!(behind, 6);
        assert_eq!(back.encoded_len(), 3 + 3 + 200 + 3);
        assert_eq!(back.finish(), b"\x12\xcb\x01xyz\x20\xac\x02");
    }
}
