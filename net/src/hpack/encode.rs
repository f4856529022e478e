//! Fields to header block, tuned to gRPC answers.
//!
//! The three fields of every successful answer that the static table lacks are put into the peer's table the first
//! time they are sent and are one byte each from then on; nothing else is ever added, so they are never evicted. All
//! other fields are literals in plain text: they belong to errors, which are rare and short.

use super::TABLE_SIZE_BYTES_MAX;
use super::static_table::{self, STATIC_COUNT};

/// A name, in lower case, and a value.
pub type Field<'a> = (&'static str, &'a [u8]);

/// One direction's encoding state; lives as long as the connection.
#[derive(Debug, Default)]
pub struct Encoder {
    /// When each of [`PINNED`] was added to the peer's table, counting from 1; 0 if it is not there.
    added_as: [u8; PINNED.len()],
    added: u8,
    /// The peer allows too small a table for [`PINNED`]: everything is literal.
    table_off: bool,
    /// A size update the next block must begin with (RFC 7541 §4.2).
    size_update: Option<usize>,
}

impl Encoder {
    /// An encoder that assumes the peer's default table size.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Appends `fields` to `out` as one header block.
    pub fn encode(&mut self, fields: &[Field<'_>], out: &mut Vec<u8>) {
        if let Some(size) = self.size_update.take() {
            integer(0x20, 5, size, out);
        }
        for &(name, value) in fields {
            match PINNED.iter().position(|pinned| pinned.0 == name && pinned.1 == value) {
                Some(pin) if !self.table_off => self.pinned(pin, out),
                _ => literal(0x00, 4, name, value, out),
            }
        }
    }

    /// Takes over the peer's SETTINGS_HEADER_TABLE_SIZE: what it can keep of what we send.
    pub fn set_table_size(&mut self, size_bytes: u32) {
        let size = (size_bytes as usize).min(TABLE_SIZE_BYTES_MAX);
        self.table_off = size < PINNED_SIZE_BYTES;
        // Emptying the table first makes any order of changes safe: a later enlargement starts from nothing.
        if self.table_off {
            (self.added_as, self.added) = ([0; PINNED.len()], 0);
            self.size_update = Some(0);
        } else {
            self.size_update = Some(size);
        }
    }

    fn pinned(&mut self, pin: usize, out: &mut Vec<u8>) {
        if self.added_as[pin] != 0 {
            let age = self.added - self.added_as[pin];
            out.push(0x80 | (STATIC_COUNT as u8 + 1 + age));
            return;
        }
        let (name, value) = PINNED[pin];
        literal(0x40, 6, name, value, out);
        self.added += 1;
        self.added_as[pin] = self.added;
    }
}

/// Sends a field in full, or as an index when the static table holds all of it.
fn literal(pattern: u8, prefix_bits: u32, name: &str, value: &[u8], out: &mut Vec<u8>) {
    match static_table::find(name, value) {
        Some((index, true)) => return integer(0x80, 7, index, out),
        Some((index, false)) => integer(pattern, prefix_bits, index, out),
        None => {
            out.push(pattern);
            string(name.as_bytes(), out);
        }
    }
    string(value, out);
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(0x00, 7, text.len(), out);
    out.extend_from_slice(text);
}

/// An integer of RFC 7541 §5.1 in the low `prefix_bits` of a byte that begins with `pattern`.
fn integer(pattern: u8, prefix_bits: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// What every successful answer says besides `:status: 200`.
const PINNED: [(&str, &[u8]); 3] =
    [("content-type", b"application/grpc"), ("grpc-status", b"0"), ("grpc-message", b"")];

/// Their size in the peer's table.
const PINNED_SIZE_BYTES: usize = {
    let (mut size, mut at) = (0, 0);
    while at < PINNED.len() {
        size += PINNED[at].0.len() + PINNED[at].1.len() + super::ENTRY_OVERHEAD_BYTES;
        at += 1;
    }
    size
};

// One byte of index reaches 126.
const _: () = assert!(STATIC_COUNT + PINNED.len() < 0x7f);

#[cfg(test)]
mod tests {
    use super::super::{Decoder, FieldList};
    use super::*;

    const HEAD: [Field<'static>; 2] = [(":status", b"200"), ("content-type", b"application/grpc")];
    const TRAILERS: [Field<'static>; 2] = [("grpc-status", b"0"), ("grpc-message", b"")];

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut fields = FieldList::new(1 << 20);
        decoder.decode(block, &mut fields).unwrap();
        fields
            .iter_text()
            .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
            .collect()
    }

    fn expect(fields: &[Field<'_>]) -> Vec<(String, Vec<u8>)> {
        fields.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect()
    }

    #[test]
    fn the_second_answer_costs_four_bytes_of_fields() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for round in 0..3 {
            let (mut head, mut trailers) = (Vec::new(), Vec::new());
            encoder.encode(&HEAD, &mut head);
            encoder.encode(&TRAILERS, &mut trailers);
            assert_eq!(decoded(&mut decoder, &head), expect(&HEAD));
            assert_eq!(decoded(&mut decoder, &trailers), expect(&TRAILERS));
            if round > 0 {
                assert_eq!((head.len(), trailers.len()), (2, 2));
            }
        }
    }

    #[test]
    fn table_size_changes_are_announced_and_obeyed() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for size in [4096, 0, 0, 100, 65536, 200, 147, 148, 4096] {
            encoder.set_table_size(size);
            for fields in [&HEAD, &TRAILERS, &HEAD] {
                let mut block = Vec::new();
                encoder.encode(fields, &mut block);
                assert_eq!(decoded(&mut decoder, &block), expect(fields), "{size}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trip(blocks in proptest::collection::vec(
            proptest::collection::vec((0usize..6, proptest::collection::vec(0u8..255, 0..300)), 0..8), 0..20)
        ) {
            const NAMES: [&str; 6] =
                [":status", "content-type", "grpc-status", "grpc-message", "grpc-encoding", "x-long-name-of-no-use"];
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            for block in blocks {
                let fields: Vec<Field<'_>> = block.iter().map(|(n, value)| (NAMES[*n], &value[..])).collect();
                let mut out = Vec::new();
                encoder.encode(&fields, &mut out);
                assert_eq!(decoded(&mut decoder, &out), expect(&fields));
            }
        }
    }
}
