//! What the index knows of a key: everything a range answers or filters by, except the value.
//!
//! ```text
//! flags u8 │ seq varint │ modified varint │ modified - created varint │ version varint │ wire_len varint │ [lease i64]
//! ```
//! Varints are LEB128 and each the shortest; lease is little-endian and there only with its flag. A fresh key at a
//! revision in the millions takes 13 bytes, where fixed fields would take 27: a third of the whole tree.

use crate::types::{LeaseId, Revision, Seq};

/// The newest version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Its record in the history.
    pub seq: Seq,
    /// Revision that wrote it.
    pub modified: Revision,
    /// Revision that created the key; at most `modified`. A tombstone keeps the one of the deleted generation.
    pub created: Revision,
    /// Writes since it was created, this one included; never negative.
    pub version: i64,
    /// Length of its KeyValue message in wire form, so that the length of an answer is known before it is read.
    pub wire_len: u32,
    /// The lease it is attached to.
    pub lease: LeaseId,
    /// The key was deleted: it is kept only until compaction passes it, and does not count.
    pub tombstone: bool,
}

impl KeyEntry {
    /// Whether the key exists at the newest revision.
    pub fn is_live(&self) -> bool {
        !self.tombstone
    }

    /// The bytes kept in the tree.
    pub fn encode(&self) -> Encoded {
        let age = self.modified.0.checked_sub(self.created.0).filter(|_| self.created.0 >= 0);
        let age = age.filter(|&age| age >= 0 && self.version >= 0);
        let Some(age) = age else { panic!("no version of a key looks like this: {self:?}") };
        let mut out = Encoded { bytes: [0; ENCODED_MAX], len: 0 };
        let flag = |set, bit| if set { bit } else { 0 };
        out.push(&[flag(self.tombstone, TOMBSTONE) | flag(self.lease != LeaseId::NONE, LEASE)]);
        for value in
            [self.seq.0, self.modified.0 as u64, age as u64, self.version as u64, self.wire_len.into()]
        {
            out.push_varint(value);
        }
        if self.lease != LeaseId::NONE {
            out.push(&self.lease.0.to_le_bytes());
        }
        out
    }

    /// Reads [`KeyEntry::encode`]'s bytes; `None` when they are no entry.
    pub fn decode(bytes: &[u8]) -> Option<KeyEntry> {
        let (&flags, mut rest) = bytes.split_first()?;
        let seq = Seq(varint(&mut rest)?);
        let modified = i64::try_from(varint(&mut rest)?).ok()?;
        let created = modified.checked_sub_unsigned(varint(&mut rest)?).filter(|&created| created >= 0)?;
        let version = i64::try_from(varint(&mut rest)?).ok()?;
        let wire_len = u32::try_from(varint(&mut rest)?).ok()?;
        let lease = match flags & LEASE {
            0 if rest.is_empty() => LeaseId::NONE,
            0 => return None,
            _ => LeaseId(i64::from_le_bytes(rest.try_into().ok()?)),
        };
        if flags & !(TOMBSTONE | LEASE) != 0 || (flags & LEASE != 0) != (lease != LeaseId::NONE) {
            return None;
        }
        let tombstone = flags & TOMBSTONE != 0;
        let (modified, created) = (Revision(modified), Revision(created));
        Some(KeyEntry { seq, modified, created, version, wire_len, lease, tombstone })
    }
}

/// An encoded [`KeyEntry`].
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; ENCODED_MAX],
    len: u8,
}

impl Encoded {
    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }
}

impl std::ops::Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(VARINT_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        value |= bits << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            let overflows = i + 1 == VARINT_MAX && bits > 1;
            let padded = i > 0 && byte == 0;
            return (!overflows && !padded).then_some(value);
        }
    }
    None
}

const TOMBSTONE: u8 = 1;
const LEASE: u8 = 2;
/// Longest LEB128 form of 64 bits.
const VARINT_MAX: usize = 10;
/// Flags, five varints of which one is 32 bits, and a lease.
const ENCODED_MAX: usize = 1 + 4 * VARINT_MAX + 5 + 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64, modified: i64, created: i64, version: i64) -> KeyEntry {
        let (seq, modified, created) = (Seq(seq), Revision(modified), Revision(created));
        KeyEntry { seq, modified, created, version, wire_len: 300, lease: LeaseId::NONE, tombstone: false }
    }

    #[test]
    fn round_trips() {
        let check = |entry: KeyEntry, len| {
            assert_eq!(entry.encode().len(), len, "{entry:?}");
            assert_eq!(KeyEntry::decode(&entry.encode()), Some(entry));
        };
        check(entry(0, 0, 0, 0), 7);
        check(entry(5_000_000, 5_000_000, 5_000_000, 1), 13);
        check(entry(5_000_000, 5_000_000, 9, 1000), 17);
        check(KeyEntry { lease: LeaseId(-3), tombstone: true, ..entry(1, 2, 1, 1) }, 15);
        let most = entry(u64::MAX, i64::MAX, 0, i64::MAX);
        check(KeyEntry { wire_len: u32::MAX, lease: LeaseId(i64::MIN), ..most }, 51);
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = entry(300, 200, 100, 1).encode().to_vec();
        for len in 0..good.len() {
            assert_eq!(KeyEntry::decode(&good[..len]), None, "{len}");
        }
        let refused: [&[u8]; 6] = [
            &[4, 1, 1, 0, 1, 1],                          // unknown flag
            &[0, 1, 1, 0, 1, 1, 0],                       // something behind
            &[0, 1, 1, 2, 1, 1],                          // created below 0
            &[0, 0x81, 0, 1, 0, 1, 1],                    // padded varint
            &[2, 1, 1, 0, 1, 1, 0, 0],                    // short lease
            &[0, 1, 1, 0, 1, 0xff, 0xff, 0xff, 0xff, 16], // wire length above 32 bits
        ];
        for bytes in refused {
            assert_eq!(KeyEntry::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_decodes_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(entry) = KeyEntry::decode(&bytes) {
                prop_assert_eq!(&entry.encode()[..], &bytes[..]);
            }
        }
    }
}
