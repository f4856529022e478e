//! What is asked: puts or gets of uniformly random keys, as ready bytes in which only stream and key change.

use kontiki_tests::random::Random;

use super::link::{FRAME_HEADER_LEN, frame_header, kind};

/// All keys are this long: 64 bits in hex.
pub const KEY_LEN: usize = 16;
const PREFIX_LEN: usize = 5;

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Put of a value.
    Put,
    /// Linearizable read of one key.
    Get,
    /// Serializable read of one key.
    SerializableGet,
}

/// Which calls, over which keys.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The call.
    pub method: Method,
    /// How many keys there are.
    pub keys: u64,
    /// Bytes of a value.
    pub value_len: usize,
}

impl Workload {
    /// The method path.
    pub fn path(&self) -> &'static str {
        match self.method {
            Method::Put => "/etcdserverpb.KV/Put",
            Method::Get | Method::SerializableGet => "/etcdserverpb.KV/Range",
        }
    }

    /// The message for `key`.
    pub fn message(&self, key: &[u8; KEY_LEN]) -> Vec<u8> {
        let mut message = vec![0x0a, KEY_LEN as u8];
        message.extend_from_slice(key);
        match self.method {
            Method::Put => {
                message.push(0x12);
                push_varint(&mut message, self.value_len);
                message.resize(message.len() + self.value_len, b'v');
            }
            Method::Get => {}
            Method::SerializableGet => message.extend([0x38, 1]),
        }
        message
    }
}

/// The header block of the first request on a connection. It enters path, authority, content-type and te into the
/// server's dynamic table, where they stay: nothing else is ever entered.
pub(super) fn first_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x44][..], path),
        (&[0x41][..], "localhost"),
        (&[0x5f][..], "application/grpc"),
        (&[0x40, 2, b't', b'e'][..], "trailers"),
    ] {
        block.extend_from_slice(name);
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// The same for all later ones, by index only: the last four stand where [`first_block`] put them (RFC 7541 §2.3).
pub(super) const INDEXED_BLOCK: [u8; 6] = [0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];

/// A whole request as bytes.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    data_at: usize,
    key_at: usize,
}

impl Template {
    /// The first request of a connection, or any later one.
    pub fn new(workload: &Workload, first: bool) -> Template {
        let block = if first { first_block(workload.path()) } else { INDEXED_BLOCK.to_vec() };
        let message = workload.message(&[b'0'; KEY_LEN]);
        let mut bytes = frame_header(block.len(), kind::HEADERS, kind::END_HEADERS, 0).to_vec();
        bytes.extend_from_slice(&block);
        let data_at = bytes.len();
        bytes.extend_from_slice(&frame_header(PREFIX_LEN + message.len(), kind::DATA, kind::END_STREAM, 0));
        bytes.push(0);
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        let key_at = bytes.len() + 2;
        bytes.extend_from_slice(&message);
        Template { bytes, data_at, key_at }
    }

    /// Bytes that count against the server's flow-control window.
    pub fn data_len(&self) -> usize {
        self.bytes.len() - self.data_at - FRAME_HEADER_LEN
    }

    /// Appends the request for `key` on `stream`.
    pub fn write(&self, to: &mut Vec<u8>, stream: u32, key: &[u8; KEY_LEN]) {
        let start = to.len();
        to.extend_from_slice(&self.bytes);
        let bytes = &mut to[start..];
        for at in [0, self.data_at] {
            bytes[at + 5..at + FRAME_HEADER_LEN].copy_from_slice(&stream.to_be_bytes());
        }
        bytes[self.key_at..self.key_at + KEY_LEN].copy_from_slice(key);
    }
}

/// The key with this number: random, and another one for each number, for a generator's first output is a bijection of
/// its seed. So numbers in order are keys in no order, and a store of them has no dense ranges.
pub fn key_bytes(number: u64) -> [u8; KEY_LEN] {
    hex(Random::new(number).bits())
}

fn hex(bits: u64) -> [u8; KEY_LEN] {
    let mut text = [0; KEY_LEN];
    for (digit, byte) in text.iter_mut().rev().enumerate() {
        *byte = b"0123456789abcdef"[(bits >> (4 * digit)) as usize & 0xf];
    }
    text
}

/// Which key comes next.
#[derive(Debug)]
pub(super) enum Keys {
    Uniform(Random, u64),
    /// Each once, for filling a store.
    InOrder(u64),
}

impl Keys {
    pub fn next(&mut self) -> u64 {
        match self {
            Keys::Uniform(random, keys) => random.below(*keys),
            Keys::InOrder(next) => {
                *next += 1;
                *next - 1
            }
        }
    }
}

/// Appends a protobuf varint.
pub(super) fn push_varint(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fluke_hpack::Decoder;

    use super::*;

    #[test]
    fn both_blocks_say_the_same() {
        let workload = Workload { method: Method::Put, keys: 1, value_len: 256 };
        let mut decoder = Decoder::new();
        let first = decoder.decode(&first_block(workload.path())).unwrap();
        assert_eq!(decoder.decode(&INDEXED_BLOCK).unwrap(), first);
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(
            first,
            [
                field(":method", "POST"),
                field(":scheme", "http"),
                field(":path", "/etcdserverpb.KV/Put"),
                field(":authority", "localhost"),
                field("content-type", "application/grpc"),
                field("te", "trailers"),
            ]
        );
    }

    #[test]
    fn keys_are_hex_and_differ() {
        assert_eq!(&hex(0xabc), b"0000000000000abc");
        assert_eq!(&hex(u64::MAX), b"ffffffffffffffff");
        let keys = (0..1000).map(key_bytes).collect::<BTreeSet<_>>();
        assert_eq!(keys.len(), 1000);
    }

    #[test]
    fn templates_are_filled_in() {
        let workload = Workload { method: Method::Get, keys: 1, value_len: 0 };
        let template = Template::new(&workload, false);
        let mut bytes = Vec::new();
        template.write(&mut bytes, 7, &key_bytes(0x12));
        let text = bytes.windows(KEY_LEN).any(|window| window == key_bytes(0x12));
        assert!(text, "{bytes:?}");
        assert_eq!(template.data_len(), PREFIX_LEN + 2 + KEY_LEN);
        assert_eq!(bytes[5..9], [0, 0, 0, 7]);
    }
}
