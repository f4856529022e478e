//! Header block to fields (RFC 7541 §3.2 and §6).
//!
//! Work per block is linear in its length and memory is bounded by the list's limit plus one literal, which is no
//! longer than 8/5 of the block. Every error is the peer's and ends the connection: after it the tables differ.

use super::TABLE_SIZE_BYTES_MAX;
use super::dynamic_table::DynamicTable;
use super::field::{FieldList, FieldName, is_value};
use super::huffman;
use super::static_table::{self, STATIC_COUNT};

/// One direction's decoding state; lives as long as the connection.
#[derive(Debug, Default)]
pub struct Decoder {
    dynamic: DynamicTable,
    /// Names and values of a literal on their way into the dynamic table.
    scratch: Vec<u8>,
}

/// What is wrong with a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The block ends inside an instruction.
    Truncated,
    /// Index 0 or beyond the last entry.
    BadIndex,
    /// An integer of more than 28 bits.
    IntegerTooLarge,
    /// A string whose Huffman form is broken.
    BadHuffman,
    /// A table size update after a field, or above the limit we gave.
    BadSizeUpdate,
}

impl Decoder {
    /// A decoder with an empty table of the default size.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Decodes one complete header block into `fields`, replacing what it held.
    pub fn decode(&mut self, block: &[u8], fields: &mut FieldList) -> Result<(), DecodeError> {
        fields.clear();
        let mut input = Reader { rest: block };
        let mut first_field_seen = false;
        while let Some(&byte) = input.rest.first() {
            if byte & 0x80 != 0 {
                let index = input.integer(7)?;
                let (name, text, value) = lookup(&self.dynamic, index)?;
                fields.push(name, text, value);
            } else if byte & 0x40 != 0 {
                self.literal(&mut input, 6, true, fields)?;
            } else if byte & 0x20 != 0 {
                let size = input.integer(5)?;
                if first_field_seen || size > TABLE_SIZE_BYTES_MAX {
                    return Err(DecodeError::BadSizeUpdate);
                }
                self.dynamic.resize(size);
                continue;
            } else {
                self.literal(&mut input, 4, false, fields)?;
            }
            first_field_seen = true;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        input: &mut Reader<'_>,
        prefix_bits: u32,
        remember: bool,
        fields: &mut FieldList,
    ) -> Result<(), DecodeError> {
        let index = input.integer(prefix_bits)?;
        self.scratch.clear();
        let mut name = if index == 0 {
            input.string(&mut self.scratch)?;
            FieldName::of(&self.scratch)
        } else {
            let (name, text, _) = lookup(&self.dynamic, index)?;
            self.scratch.extend_from_slice(text);
            name
        };
        let name_len = self.scratch.len();
        input.string(&mut self.scratch)?;
        let (text, value) = self.scratch.split_at(name_len);
        if !is_value(value) {
            name = FieldName::Malformed;
        }
        fields.push(name, text, value);
        if remember {
            self.dynamic.insert(name, text, value);
        }
        Ok(())
    }
}

/// Entry of an HPACK index: static first, then dynamic by age.
fn lookup(dynamic: &DynamicTable, index: usize) -> Result<(FieldName, &[u8], &[u8]), DecodeError> {
    if index <= STATIC_COUNT {
        let field = static_table::entry(index).ok_or(DecodeError::BadIndex)?;
        return Ok((field.name, field.text.as_bytes(), field.value.as_bytes()));
    }
    dynamic.entry(index - STATIC_COUNT - 1).ok_or(DecodeError::BadIndex)
}

/// What is left of the block.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// An integer whose first byte keeps `prefix_bits` for it (§5.1), at most four bytes after that.
    fn integer(&mut self, prefix_bits: u32) -> Result<usize, DecodeError> {
        let mask = (1usize << prefix_bits) - 1;
        let mut value = self.byte()? as usize & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()? as usize;
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::IntegerTooLarge)
    }

    /// Appends a string literal (§5.2) to `out`.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let huffman_coded = self.rest.first().ok_or(DecodeError::Truncated)? & 0x80 != 0;
        let len = self.integer(7)?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        if huffman_coded {
            return huffman::decode(text, out).map_err(|_| DecodeError::BadHuffman);
        }
        out.extend_from_slice(text);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    }

    /// Decodes `blocks` with one decoder, comparing each with lines of `name: value`.
    fn check(blocks: &[(&str, &str)]) {
        let mut decoder = Decoder::new();
        let mut fields = FieldList::new(1 << 16);
        for (block, expected) in blocks {
            decoder.decode(&hex(block), &mut fields).unwrap();
            let lines: Vec<String> = fields
                .iter_text()
                .map(|(name, value)| {
                    format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                })
                .collect();
            assert_eq!(lines.join("\n"), *expected);
        }
    }

    fn fails(block: &str, expected: DecodeError) {
        let result = Decoder::new().decode(&hex(block), &mut FieldList::new(1 << 16));
        assert_eq!(result, Err(expected), "{block}");
    }

    #[test]
    fn rfc_7541_c2_single_fields() {
        check(&[(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key: custom-header",
        )]);
        check(&[("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path")]);
        check(&[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret")]);
        check(&[("82", ":method: GET")]);
    }

    const REQUESTS: [&str; 3] = [
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
    ];

    #[test]
    fn rfc_7541_c3_requests_without_huffman() {
        check(&[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0]),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2]),
        ]);
    }

    #[test]
    fn rfc_7541_c4_requests_with_huffman() {
        check(&[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2]),
        ]);
    }

    #[test]
    fn rfc_7541_c6_responses_with_eviction() {
        // The table of the example holds 256 bytes; the leading size update (3fe101) sets it.
        check(&[
            (
                "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
                 location: https://www.example.com",
            ),
            (
                "4883 640e ffc1 c0bf",
                ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
                 location: https://www.example.com",
            ),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
                 location: https://www.example.com\ncontent-encoding: gzip\n\
                 set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ]);
    }

    #[test]
    fn broken_blocks_are_refused() {
        fails("80", DecodeError::BadIndex);
        fails("be", DecodeError::BadIndex);
        fails("ff", DecodeError::Truncated);
        fails("ffffffffff7f", DecodeError::IntegerTooLarge);
        fails("400a6375", DecodeError::Truncated);
        fails("0085f2b24a84ff", DecodeError::Truncated);
        fails("008287ffffff00", DecodeError::BadHuffman);
        fails("8220", DecodeError::BadSizeUpdate);
        fails("3fe21f", DecodeError::BadSizeUpdate);
    }

    #[test]
    fn a_malformed_value_stays_malformed_when_indexed() {
        let mut decoder = Decoder::new();
        let mut fields = FieldList::new(1 << 16);
        decoder.decode(&hex("40 01 61 01 0a"), &mut fields).unwrap();
        assert_eq!(fields.iter().next().unwrap().0, FieldName::Malformed);
        decoder.decode(&hex("be"), &mut fields).unwrap();
        assert_eq!(fields.iter().next().unwrap().0, FieldName::Malformed);
    }

    #[test]
    fn an_indexing_bomb_keeps_memory_bounded() {
        let mut block = hex("4001 61 7fa1 1e");
        block.extend_from_slice(&[b'x'; 4000]);
        block.extend_from_slice(&[0xbe; 60_000]);
        let (mut decoder, mut fields) = (Decoder::new(), FieldList::new(64 << 10));
        decoder.decode(&block, &mut fields).unwrap();
        assert!(fields.overflowed());
        assert!(fields.iter().count() < 20);
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(blocks: Vec<Vec<u8>>) {
            let (mut decoder, mut fields) = (Decoder::new(), FieldList::new(1000));
            for block in blocks {
                if decoder.decode(&block, &mut fields).is_err() {
                    break;
                }
            }
        }
    }
}
