//! Header compression: what every request and every answer pays.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use net::hpack::{Decoder, Encoder, FieldList};

/// As connections have it.
const FIELDS_BYTES_MAX: usize = 16 << 10;

/// A second request of a Go client: seven fields by index, and a timeout, 998754u, as a Huffman literal that is not
/// indexed.
fn decode(c: &mut Criterion) {
    let first: [&[u8]; 7] = [
        b"\x83\x86\x44\x14/etcdserverpb.KV/Put",
        b"\x41\x0e127.0.0.1:2379",
        b"\x5f\x10application/grpc",
        b"\x7a\x0egrpc-go/1.71.1",
        b"\x40\x02te\x08trailers",
        b"\x40\x14grpc-accept-encoding\x04gzip",
        b"\x40\x0cgrpc-timeout\x084998754u",
    ];
    let second = b"\x83\x86\xc4\xc3\xc2\xc1\xc0\xbf\x0f\x2f\x86\x7d\xf7\x9d\x6d\xab\x7f";
    let mut decoder = Decoder::new();
    let mut fields = FieldList::new(FIELDS_BYTES_MAX);
    decoder.decode(&first.concat(), &mut fields).expect("a block as clients send it");
    c.bench_function("hpack/decode a request's block", |b| {
        b.iter(|| {
            fields.clear();
            black_box(decoder.decode(black_box(second), &mut fields)).expect("the same block again");
        })
    });
}

/// Head and trailers of a successful answer, by index after the first.
fn encode(c: &mut Criterion) {
    let mut encoder = Encoder::new();
    let mut out = Vec::with_capacity(64);
    c.bench_function("hpack/encode head and trailers", |b| {
        b.iter(|| {
            out.clear();
            encoder.encode(&[(":status", b"200"), ("content-type", b"application/grpc")], &mut out);
            encoder.encode(&[("grpc-status", b"0"), ("grpc-message", b"")], &mut out);
            black_box(&out);
        })
    });
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
