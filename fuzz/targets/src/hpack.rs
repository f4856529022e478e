//! Header blocks of one connection: each has a length in two bytes, and they share a decoder with its table.

use net::hpack::{Decoder, Encoder, FieldList};

use crate::input::Input;

/// Room for the fields of one block, as a connection gives.
const FIELDS_BYTES_MAX: usize = 16 << 10;

/// Decodes block after block until one is refused.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let mut decoder = Decoder::new();
    let mut fields = FieldList::new(FIELDS_BYTES_MAX);
    while !input.is_empty() {
        let len = input.u16();
        fields.clear();
        if decoder.decode(input.bytes(len.into()), &mut fields).is_err() {
            return;
        }
        let bytes: usize = fields.iter_text().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= FIELDS_BYTES_MAX, "{bytes} bytes of fields");
    }
}

/// What clients send: grpc-go's first and second request, a resized table, Huffman text, long fields.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new();
    let mut block = |fields: &[(&'static str, &[u8])]| {
        let mut out = Vec::new();
        encoder.encode(fields, &mut out);
        out
    };
    let request: &[(&'static str, &[u8])] = &[
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/etcdserverpb.KV/Put"),
        (":authority", b"127.0.0.1:2379"),
        ("content-type", b"application/grpc"),
        ("user-agent", b"grpc-go/1.71.1"),
        ("te", b"trailers"),
        ("grpc-timeout", b"4998754u"),
    ];
    let ours = block(request);
    // Literals with indexing, as Go sends them, Huffman coded; then the same by index.
    let go_first = b"\x83\x86\x45\x91\x62\x7b\x64\x19\x64\x9d\x2c\x84\x33\x4f\x2b\x58\xea\xd4\xc3\x6d\x7f\
        \x41\x8a\x08\x9d\x5c\x0b\x81\x70\xdc\x7c\x4f\x8b\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64";
    let go_second = b"\x83\x86\xc0\xbf\xbe";
    // RFC 7541, C.4 and C.3.
    let rfc_huffman = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let rfc_plain = b"\x82\x86\x84\x41\x0fwww.example.com";
    let resized = b"\x20\x3f\xe1\x1f\x82\x40\x01a\x01b\xbe";
    let long = block(&[("grpc-message", &[b'x'; 900]), (":status", b"200")]);
    vec![
        framed(&[&ours, &ours]),
        framed(&[go_first, go_second]),
        framed(&[rfc_huffman, rfc_plain, b"\x82\x86\x84\xbe"]),
        framed(&[resized, resized]),
        framed(&[&long, rfc_plain]),
    ]
}

fn framed(blocks: &[&[u8]]) -> Vec<u8> {
    let frame = |block: &&[u8]| [&(block.len() as u16).to_le_bytes()[..], block].concat();
    blocks.iter().flat_map(frame).collect()
}
