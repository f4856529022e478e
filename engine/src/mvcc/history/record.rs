//! One record of the history: a version of a key, already in wire form.
//!
//! ```text
//!  offset  size
//!       0     4  length of the whole record, header included, padding excluded
//!       4     4  CRC-32 (ISO HDLC) of bytes 8..length
//!       8     8  sequence number
//!      16     8  sequence number of the key's previous version, 0 for none
//!      24     8  jump: sequence number of a much older version, 0 for none
//!      32     8  main revision
//!      40     4  sub revision: position within the transaction
//!      44     4  flags
//!      48     -  mvccpb.KeyValue, canonical: fields 1..6 ascending, zeros omitted, minimal varints
//! ```
//! All numbers are little endian. Records start at multiples of 8 so that the header of a resident record can be
//! read in place; the gap is zero. A length of 0 means "no more records in this 4 KiB block": the writer pads to the
//! next block at a checkpoint, so that no block that holds durable bytes is ever written again.
//!
//! The wire bytes are what range answers, watch events and HashKV copy out unchanged, which is why they are stored
//! encoded: etcd hashes exactly these bytes (its `mvcc/hash.go`), and protobuf's freedom ends here.

use crate::mvcc::wire;
use crate::types::{LeaseId, Revision, Seq};

/// Bytes before the wire form.
pub const HEADER: usize = JUMP + 8 + 8 + 4 + 4;

const LENGTH: usize = 0;
const CRC: usize = LENGTH + 4;
const SEQ: usize = CRC + 4;
const PREV: usize = SEQ + 8;
const JUMP: usize = PREV + 8;
const MAIN: usize = JUMP + 8;
const SUB: usize = MAIN + 8;
const FLAGS: usize = SUB + 4;
const _: () = assert!(HEADER == FLAGS + 4 && HEADER == 48);

/// Alignment of a record's first byte.
pub const ALIGN: usize = 8;

const TOMBSTONE: u32 = 1 << 0;
const FIRST: u32 = 1 << 1;
const LAST: u32 = 1 << 2;
const KNOWN_FLAGS: u32 = TOMBSTONE | FIRST | LAST;

/// A version about to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Main revision of the transaction.
    pub main: Revision,
    /// Position within the transaction.
    pub sub: u32,
    /// Sequence number of the key's previous version, tombstones included.
    pub prev: Option<Seq>,
    /// The key.
    pub key: &'a [u8],
    /// What becomes of it.
    pub change: Change<'a>,
}

/// What a record does to its key.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The key gets a value.
    Put {
        /// The value.
        value: &'a [u8],
        /// Revision that opened the generation.
        created: Revision,
        /// Version within it, from 1.
        version: i64,
        /// Lease, or none.
        lease: LeaseId,
    },
    /// The generation ends.
    Delete,
}

impl NewRecord<'_> {
    /// Length of the wire form, in bytes; what the index keeps as `wire_len`.
    pub fn wire_len(&self) -> usize {
        let head = wire::bytes_field_len(self.key.len()) + wire::int_field_len(self.main.0);
        match self.change {
            Change::Delete => head,
            Change::Put { value, created, version, lease } => {
                head + wire::int_field_len(created.0)
                    + wire::int_field_len(version)
                    + wire::bytes_field_len(value.len())
                    + wire::int_field_len(lease.0)
            }
        }
    }

    fn put_wire(&self, out: &mut Vec<u8>) {
        wire::put_bytes_field(out, 1, self.key);
        match self.change {
            Change::Delete => wire::put_int_field(out, 3, self.main.0),
            Change::Put { value, created, version, lease } => {
                wire::put_int_field(out, 2, created.0);
                wire::put_int_field(out, 3, self.main.0);
                wire::put_int_field(out, 4, version);
                wire::put_bytes_field(out, 5, value);
                wire::put_int_field(out, 6, lease.0);
            }
        }
    }
}

/// Appends `record` to `out` under `seq`, first of its transaction if `sub` is 0, with room for the CRC, which
/// [`seal`] fills when it is known whether another record of the transaction follows.
pub fn encode(out: &mut Vec<u8>, seq: Seq, jump: Option<Seq>, record: &NewRecord<'_>) {
    let start = out.len();
    assert!(start.is_multiple_of(ALIGN), "record {seq} would start at {start}");
    let len = HEADER + record.wire_len();
    let first = if record.sub == 0 { FIRST } else { 0 };
    let tombstone = if matches!(record.change, Change::Delete) { TOMBSTONE } else { 0 };
    out.extend_from_slice(&u32::try_from(len).expect("a record is smaller than a segment").to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&seq.0.to_le_bytes());
    out.extend_from_slice(&record.prev.map_or(0, |p| p.0).to_le_bytes());
    out.extend_from_slice(&jump.map_or(0, |j| j.0).to_le_bytes());
    out.extend_from_slice(&record.main.0.to_le_bytes());
    out.extend_from_slice(&record.sub.to_le_bytes());
    out.extend_from_slice(&(first | tombstone).to_le_bytes());
    debug_assert_eq!(out.len(), start + HEADER);
    record.put_wire(out);
    assert_eq!(out.len(), start + len, "wire length of record {seq} was miscounted");
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// Finishes the record at the start of `bytes`: sets its place in the transaction and the CRC.
pub fn seal(bytes: &mut [u8], last: bool) {
    let len = u32_at(bytes, LENGTH) as usize;
    if last {
        let flags = u32_at(bytes, FLAGS) | LAST;
        bytes[FLAGS..FLAGS + 4].copy_from_slice(&flags.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[SEQ..len]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
}

/// A record in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    bytes: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The length does not fit the bytes given.
    Length,
    /// The checksum does not match.
    Checksum,
    /// A flag this version does not know.
    Flags,
    /// It names a version after itself as one before; following it might never end.
    Links,
    /// The checksum is right, but what it covers is not a KeyValue as we write it.
    Message,
}

impl<'a> Record<'a> {
    /// Checks the record at the start of `bytes`, which come from a disk.
    pub fn parse(bytes: &'a [u8]) -> Result<Record<'a>, Damage> {
        if bytes.len() < HEADER {
            return Err(Damage::Length);
        }
        let len = u32_at(bytes, LENGTH) as usize;
        if len < HEADER || len > bytes.len() {
            return Err(Damage::Length);
        }
        if crc32fast::hash(&bytes[SEQ..len]) != u32_at(bytes, CRC) {
            return Err(Damage::Checksum);
        }
        if u32_at(bytes, FLAGS) & !KNOWN_FLAGS != 0 {
            return Err(Damage::Flags);
        }
        let record = Record { bytes: &bytes[..len] };
        if record.prev().max(record.jump()).is_some_and(|older| older >= record.seq()) {
            return Err(Damage::Links);
        }
        if wire::KeyValue::parse(record.wire()).is_none() {
            return Err(Damage::Message);
        }
        Ok(record)
    }

    /// The record at the start of `bytes`, which this process wrote or checked before.
    pub fn trusted(bytes: &'a [u8]) -> Record<'a> {
        let len = u32_at(bytes, LENGTH) as usize;
        debug_assert!((HEADER..=bytes.len()).contains(&len), "record length {len} in {} bytes", bytes.len());
        Record { bytes: &bytes[..len] }
    }

    /// Bytes up to where the next record may start.
    pub fn padded_len(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGN)
    }

    /// Its sequence number.
    pub fn seq(&self) -> Seq {
        Seq(u64_at(self.bytes, SEQ))
    }

    /// The key's previous version.
    pub fn prev(&self) -> Option<Seq> {
        pointer(u64_at(self.bytes, PREV))
    }

    /// A much older version of the key.
    pub fn jump(&self) -> Option<Seq> {
        pointer(u64_at(self.bytes, JUMP))
    }

    /// Main revision.
    pub fn main(&self) -> Revision {
        Revision(u64_at(self.bytes, MAIN) as i64)
    }

    /// Sub revision.
    pub fn sub(&self) -> u32 {
        u32_at(self.bytes, SUB)
    }

    /// Whether it ends a generation.
    pub fn is_tombstone(&self) -> bool {
        u32_at(self.bytes, FLAGS) & TOMBSTONE != 0
    }

    /// Whether it opens its transaction.
    pub fn is_first(&self) -> bool {
        u32_at(self.bytes, FLAGS) & FIRST != 0
    }

    /// Whether it closes its transaction.
    pub fn is_last(&self) -> bool {
        u32_at(self.bytes, FLAGS) & LAST != 0
    }

    /// The mvccpb.KeyValue message.
    pub fn wire(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }

    /// The key, without reading what follows it.
    pub fn key(&self) -> &'a [u8] {
        wire::key_of(self.wire()).expect("a checked record holds the message we encoded")
    }

    /// The fields of the wire form.
    pub fn fields(&self) -> wire::KeyValue<'a> {
        wire::KeyValue::parse(self.wire()).expect("a checked record holds the message we encoded")
    }
}

fn pointer(seq: u64) -> Option<Seq> {
    (seq != 0).then_some(Seq(seq))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static [u8], value: &'static [u8]) -> NewRecord<'static> {
        NewRecord {
            main: Revision(300),
            sub: 0,
            prev: Some(Seq(7)),
            key,
            change: Change::Put { value, created: Revision(2), version: 3, lease: LeaseId(-5) },
        }
    }

    #[test]
    fn a_put_comes_back_as_it_was_written() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Seq(9), Some(Seq(1)), &put(b"key", b"value"));
        seal(&mut bytes, true);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!((record.seq(), record.prev(), record.jump()), (Seq(9), Some(Seq(7)), Some(Seq(1))));
        assert_eq!((record.main(), record.sub()), (Revision(300), 0));
        assert!(record.is_first() && record.is_last() && !record.is_tombstone());
        let kv = record.fields();
        assert_eq!((kv.key, kv.value), (&b"key"[..], &b"value"[..]));
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (2, 300, 3, -5));
        assert_eq!(record.padded_len(), bytes.len());
    }

    #[test]
    fn a_tombstone_carries_key_and_revision_alone() {
        let mut bytes = Vec::new();
        let delete = NewRecord { change: Change::Delete, sub: 4, prev: None, ..put(b"k", b"") };
        encode(&mut bytes, Seq(1), None, &delete);
        seal(&mut bytes, false);
        let record = Record::parse(&bytes).unwrap();
        assert!(record.is_tombstone() && !record.is_first() && !record.is_last());
        assert_eq!(record.prev(), None);
        assert_eq!(record.wire(), [0x0a, 1, b'k', 0x18, 0xac, 0x02]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Seq(9), None, &put(b"key", b"value"));
        seal(&mut bytes, true);
        let len = Record::parse(&bytes).unwrap().bytes.len();
        for bit in 0..len * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse(&damaged).is_err(), "bit {bit} flipped unnoticed");
        }
        for cut in 0..len {
            assert!(Record::parse(&bytes[..cut]).is_err(), "cut to {cut} bytes unnoticed");
        }
    }

    #[test]
    fn nonsense_under_a_right_checksum_is_damage() {
        let check = |change: &dyn Fn(&mut [u8]), expected: Damage| {
            let mut bytes = Vec::new();
            encode(&mut bytes, Seq(9), Some(Seq(1)), &put(b"key", b"value"));
            change(&mut bytes);
            seal(&mut bytes, true);
            assert_eq!(Record::parse(&bytes), Err(expected));
        };
        check(&|bytes| bytes[FLAGS + 1] = 1, Damage::Flags);
        check(&|bytes| bytes[PREV] = 9, Damage::Links);
        check(&|bytes| bytes[JUMP + 7] = 1, Damage::Links);
        check(&|bytes| bytes[HEADER] = 0x7a, Damage::Message);
    }
}
