//! The one protobuf message the store itself writes: mvccpb.KeyValue, in canonical form.
//!
//! Everything else about protobuf lives in `net`. This message is here because etcd hashes and exports its stored
//! bytes, so its encoding is part of the data format: fields ascending, zeros omitted, minimal varints.

/// Bytes of `value` as a varint.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends `value` as a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of an integer field with a one-byte tag; none for 0.
pub fn int_field_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

/// Appends an integer field; nothing for 0.
pub fn put_int_field(out: &mut Vec<u8>, field: u8, value: i64) {
    if value != 0 {
        out.push(field << 3);
        put_varint(out, value as u64);
    }
}

/// Bytes of a bytes field of `len` bytes with a one-byte tag; none for an empty one.
pub fn bytes_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { message_field_len(len) }
}

/// Bytes of a message field of `len` bytes with a one-byte tag, which is there even when it is empty.
pub fn message_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Appends a bytes field; nothing for an empty one.
pub fn put_bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// Length of a KeyValue without its value, given the length with it.
pub fn wire_len_without_value(wire_len: usize, value_len: usize) -> usize {
    wire_len - bytes_field_len(value_len)
}

/// The fields of an mvccpb.KeyValue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// Field 1.
    pub key: &'a [u8],
    /// Field 2.
    pub create_revision: i64,
    /// Field 3.
    pub mod_revision: i64,
    /// Field 4.
    pub version: i64,
    /// Field 5.
    pub value: &'a [u8],
    /// Field 6.
    pub lease: i64,
}

impl<'a> KeyValue<'a> {
    /// Reads the canonical form; `None` for anything that this module would not have written.
    pub fn parse(mut bytes: &'a [u8]) -> Option<KeyValue<'a>> {
        let mut kv = KeyValue::default();
        let mut last = 0;
        while let Some((&tag, rest)) = bytes.split_first() {
            let field = tag >> 3;
            if field <= last {
                return None;
            }
            last = field;
            let (number, rest) = read_varint(rest)?;
            bytes = match (field, tag & 7) {
                (1 | 5, 2) => {
                    let len = usize::try_from(number).ok()?;
                    if len == 0 || len > rest.len() {
                        return None;
                    }
                    let (content, rest) = rest.split_at(len);
                    *(if field == 1 { &mut kv.key } else { &mut kv.value }) = content;
                    rest
                }
                (2, 0) => store(&mut kv.create_revision, number, rest)?,
                (3, 0) => store(&mut kv.mod_revision, number, rest)?,
                (4, 0) => store(&mut kv.version, number, rest)?,
                (6, 0) => store(&mut kv.lease, number, rest)?,
                _ => return None,
            };
        }
        Some(kv)
    }
}

/// The key of an encoded KeyValue: its first field, since no key is empty.
pub fn key_of(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = read_varint(bytes.strip_prefix(&[1 << 3 | 2])?)?;
    rest.get(..usize::try_from(len).ok()?)
}

fn store<'a>(field: &mut i64, number: u64, rest: &'a [u8]) -> Option<&'a [u8]> {
    *field = number as i64;
    (number != 0).then_some(rest)
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            // A canonical varint has no trailing zero group.
            return (byte != 0 || i == 0).then_some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_long_as_they_say() {
        for value in [0, 1, 127, 128, 300, 16383, 16384, u64::from(u32::MAX), 1 << 62, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&out), Some((value, &[][..])), "{value}");
        }
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        let check = |bytes: &[u8]| assert_eq!(KeyValue::parse(bytes), None, "{bytes:?}");
        check(&[0x0a, 0]); // an empty key is left out, never written
        check(&[0x10, 0]); // so is a zero
        check(&[0x18, 1, 0x10, 1]); // out of order
        check(&[0x10, 0x80, 0x00]); // padded varint
        check(&[0x0a, 5, b'a']); // cut short
        check(&[0x3a, 1, b'a']); // unknown field
        assert_eq!(KeyValue::parse(&[]), Some(KeyValue::default()));
    }
}
