//! Protobuf's wire format: varints, tags, and a reader that hands out fields without copying.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>. Where that text leaves a choice on malformed input,
//! the reader decides as the decoders inside etcd do, down to the error text: a varint may be padded to ten bytes and
//! bits above the 64th are dropped, field numbers are cut to 32 bits, unknown fields and balanced groups are skipped.
//!
//! Reading never recurses, never allocates, and moves forward with every call, so it is linear in the input.

use std::fmt;

/// Longest varint, in bytes.
pub const VARINT_LEN_MAX: usize = 10;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// Bytes that are not the message they should be; the client's fault.
///
/// The text is what etcd's decoders say, so that it can stand behind `grpc: error unmarshalling request: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The message ends within a field.
    UnexpectedEof,
    /// A varint goes on after ten bytes.
    IntegerOverflow,
    /// A length does not fit 63 bits.
    NegativeLength,
    /// A known field has another wire type than its own.
    WrongWireType {
        /// What stood there.
        wire_type: u8,
        /// The field, as etcd's generated code names it.
        field: &'static str,
    },
    /// A wire type that does not exist.
    IllegalWireType(u8),
    /// A field number of 0, or one that is negative when cut to 32 bits.
    IllegalTag {
        /// The message it stood in.
        message: &'static str,
        /// The field number.
        number: i32,
        /// The whole tag.
        tag: u64,
    },
    /// A group ends where none began.
    EndGroup {
        /// The message it stood in.
        message: &'static str,
    },
    /// Messages are nested deeper than we follow.
    TooDeep,
    /// A message of the generated kind did not decode; the text is the decoder's.
    Generated(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::UnexpectedEof => f.write_str("unexpected EOF"),
            Malformed::IntegerOverflow => f.write_str("proto: integer overflow"),
            Malformed::NegativeLength => f.write_str("proto: negative length found during unmarshaling"),
            Malformed::WrongWireType { wire_type, field } => {
                write!(f, "proto: wrong wireType = {wire_type} for field {field}")
            }
            Malformed::IllegalWireType(wire_type) => write!(f, "proto: illegal wireType {wire_type}"),
            Malformed::IllegalTag { message, number, tag } => {
                write!(f, "proto: {message}: illegal tag {number} (wire type {tag})")
            }
            Malformed::EndGroup { message } => {
                write!(f, "proto: {message}: wiretype end group for non-group")
            }
            Malformed::TooDeep => f.write_str("proto: exceeded max recursion depth"),
            Malformed::Generated(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Malformed {}

/// Number and wire type in front of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Field number, at least 1.
    pub number: i32,
    wire_type: u8,
}

/// Reads the fields of one message, in the order they stand.
///
/// After each [`Fields::next_tag`] exactly one of the other calls consumes the value. The names passed to them are
/// those of etcd's generated code and appear in errors only.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    /// Reads `bytes` as a message called `message` in errors.
    pub fn new(bytes: &'a [u8], message: &'static str) -> Fields<'a> {
        Fields { rest: bytes, message }
    }

    /// Bytes not yet read.
    pub fn rest_len(&self) -> usize {
        self.rest.len()
    }

    /// The next field's tag, or `None` at the end of the message.
    #[inline]
    pub fn next_tag(&mut self) -> Result<Option<Tag>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let (number, wire_type) = split_tag(tag);
        if wire_type == GROUP_END {
            return Err(Malformed::EndGroup { message: self.message });
        }
        if number <= 0 {
            return Err(Malformed::IllegalTag { message: self.message, number, tag });
        }
        Ok(Some(Tag { number, wire_type }))
    }

    /// A `bytes` or `string` value, or the bytes of a message.
    #[inline]
    pub fn bytes(&mut self, tag: Tag, field: &'static str) -> Result<&'a [u8], Malformed> {
        tag.expect(LEN, field)?;
        self.len_delimited()
    }

    /// An `int64` value.
    #[inline]
    pub fn int64(&mut self, tag: Tag, field: &'static str) -> Result<i64, Malformed> {
        tag.expect(VARINT, field)?;
        Ok(self.varint()? as i64)
    }

    /// An enum's number: the low 32 bits, whatever they are.
    #[inline]
    pub fn enumeration(&mut self, tag: Tag, field: &'static str) -> Result<i32, Malformed> {
        tag.expect(VARINT, field)?;
        Ok(self.varint()? as i32)
    }

    /// The numbers of a repeated enum, packed or not.
    pub fn enumerations(
        &mut self,
        tag: Tag,
        field: &'static str,
        mut each: impl FnMut(i32),
    ) -> Result<(), Malformed> {
        if tag.wire_type != LEN {
            each(self.enumeration(tag, field)?);
            return Ok(());
        }
        let mut packed = Fields::new(self.len_delimited()?, self.message);
        while packed.rest_len() > 0 {
            each(packed.varint()? as i32);
        }
        Ok(())
    }

    /// A `bool` value: anything but 0 is true.
    #[inline]
    pub fn boolean(&mut self, tag: Tag, field: &'static str) -> Result<bool, Malformed> {
        tag.expect(VARINT, field)?;
        Ok(self.varint()? != 0)
    }

    /// Passes over the value of a field this version does not know.
    pub fn skip(&mut self, tag: Tag) -> Result<(), Malformed> {
        let mut open_groups = self.skip_value(tag.wire_type, 0)?;
        while open_groups > 0 {
            if self.rest.is_empty() {
                return Err(Malformed::UnexpectedEof);
            }
            let (_, wire_type) = split_tag(self.varint()?);
            open_groups = self.skip_value(wire_type, open_groups)?;
        }
        Ok(())
    }

    /// Passes over one value and returns how many groups are open after it.
    fn skip_value(&mut self, wire_type: u8, open_groups: usize) -> Result<usize, Malformed> {
        match wire_type {
            VARINT => self.varint().map(drop)?,
            FIXED64 => self.take(8).map(drop)?,
            LEN => self.len_delimited().map(drop)?,
            GROUP_START => return Ok(open_groups + 1),
            GROUP_END => {
                return Ok(open_groups.checked_sub(1).expect("ends are skipped inside a group only"));
            }
            FIXED32 => self.take(4).map(drop)?,
            other => return Err(Malformed::IllegalWireType(other)),
        }
        Ok(open_groups)
    }

    fn len_delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let len = i64::try_from(self.varint()?).map_err(|_| Malformed::NegativeLength)?;
        self.take(usize::try_from(len).map_err(|_| Malformed::UnexpectedEof)?)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::UnexpectedEof)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(VARINT_LEN_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < VARINT_LEN_MAX {
            Malformed::UnexpectedEof
        } else {
            Malformed::IntegerOverflow
        })
    }
}

impl Tag {
    #[inline]
    fn expect(self, wire_type: u8, field: &'static str) -> Result<(), Malformed> {
        if self.wire_type == wire_type {
            Ok(())
        } else {
            Err(Malformed::WrongWireType { wire_type: self.wire_type, field })
        }
    }
}

fn split_tag(tag: u64) -> (i32, u8) {
    ((tag >> 3) as i32, (tag & 7) as u8)
}

/// Bytes `value` takes as a varint.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes a `bytes`, `string` or message field takes whose value has `len` bytes and whose number is below 16.
#[inline]
pub const fn len_field_len(len: u64) -> u64 {
    1 + varint_len(len) as u64 + len
}

/// Writes a varint to the start of `out`, which has room for it, and returns its length.
#[inline]
pub fn write_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        out[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    out[len] = value as u8;
    len + 1
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; VARINT_LEN_MAX];
    let len = write_varint(&mut bytes, value);
    out.extend_from_slice(&bytes[..len]);
}

/// Appends a varint field; 0 is left out, as proto3 does.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(varint_tag(number)));
        put_varint(out, value);
    }
}

/// Appends tag and length of a `bytes`, `string` or message field; the value follows.
#[inline]
pub fn put_len_prefix(out: &mut Vec<u8>, number: u32, len: u64) {
    put_varint(out, u64::from(len_tag(number)));
    put_varint(out, len);
}

/// Tag of a varint field.
pub const fn varint_tag(number: u32) -> u32 {
    number << 3 | VARINT as u32
}

/// Tag of a `bytes`, `string` or message field.
pub const fn len_tag(number: u32) -> u32 {
    number << 3 | LEN as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skim(bytes: &[u8]) -> Result<Vec<i32>, Malformed> {
        let mut fields = Fields::new(bytes, "Test");
        let mut numbers = Vec::new();
        while let Some(tag) = fields.next_tag()? {
            numbers.push(tag.number);
            fields.skip(tag)?;
        }
        Ok(numbers)
    }

    #[test]
    fn unknown_fields_of_every_kind_are_skipped() {
        let check = |bytes: &[u8], expected: Result<&[i32], &str>| {
            let got = skim(bytes).map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(|e| e.as_str()), expected, "{bytes:02x?}");
        };
        check(b"", Ok(&[]));
        check(b"\x08\x01", Ok(&[1]));
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x02ab", Ok(&[1, 2]));
        check(b"\x09\0\0\0\0\0\0\0\0\x0d\0\0\0\0", Ok(&[1, 1]));
        check(b"\x7b\x7c\x08\0", Ok(&[15, 1]));
        check(b"\x7b\x7b\x08\x05\x7c\x12\0\x7c", Ok(&[15]));
        check(b"\x7b\x0c", Ok(&[15])); // Numbers of start and end are not compared.

        check(b"\x08", Err("unexpected EOF"));
        check(b"\x08\xff", Err("unexpected EOF"));
        check(b"\x12\x03ab", Err("unexpected EOF"));
        check(b"\x09\0\0\0", Err("unexpected EOF"));
        check(b"\x7b", Err("unexpected EOF"));
        check(b"\x7b\x7b\x7c", Err("unexpected EOF"));
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Err("proto: integer overflow"));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Err("proto: integer overflow"));
        check(
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            Err("proto: negative length found during unmarshaling"),
        );
        check(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", Err("unexpected EOF"));
        check(b"\x0e", Err("proto: illegal wireType 6"));
        check(b"\x7b\x0f", Err("proto: illegal wireType 7"));
        check(b"\0", Err("proto: Test: illegal tag 0 (wire type 0)"));
        check(b"\x07", Err("proto: Test: illegal tag 0 (wire type 7)"));
        check(b"\x0c", Err("proto: Test: wiretype end group for non-group"));
    }

    #[test]
    fn typed_reads_demand_their_wire_type() {
        let read = |bytes: &'static [u8]| {
            let mut fields = Fields::new(bytes, "Test");
            let tag = fields.next_tag().unwrap().unwrap();
            fields.bytes(tag, "Key").map(<[u8]>::to_vec)
        };
        assert_eq!(read(b"\x0a\x02ab"), Ok(b"ab".to_vec()));
        for (bytes, wire_type) in [(b"\x08\x01", 0), (b"\x0b\x0c", 3), (b"\x0d\0", 5)] {
            assert_eq!(read(bytes), Err(Malformed::WrongWireType { wire_type, field: "Key" }));
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip_and_their_length_is_known(value: u64, shift in 0..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            prop_assert_eq!(Fields::new(&bytes, "Test").varint(), Ok(value));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = skim(&bytes);
        }
    }
}
