//! Hot messages: requests decoded in place, answers encoded around stored bytes.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use engine::response::{KvList, Kvs, PutAnswer, RangeAnswer, Response};
use engine::types::{Revision, Seq};
use net::api::header::Origin;
use net::api::kv::{Whole, encode_whole};
use net::api::records::{Cold, RecordRef, Records};
use net::pb::hot;

const KEY: &[u8] = b"/registry/pods/default/web-0";
const ORIGIN: Origin =
    Origin { cluster_id: 0x0cdf_8181_94e3_a8c3, member_id: 0x8e9e_05c5_2164_694d, raft_term: 2 };

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = match bytes.len() {
        short @ 0..0x80 => vec![short as u8],
        long => vec![long as u8 | 0x80, (long >> 7) as u8],
    };
    [&[number << 3 | 2][..], &len, bytes].concat()
}

/// A put of 256 bytes and a read of one key.
fn decode(c: &mut Criterion) {
    let put = [field(1, KEY), field(2, &[b'v'; 256])].concat();
    c.bench_function("pb/decode PutRequest", |b| b.iter(|| hot::decode_put(black_box(&put))));
    let range = field(1, KEY);
    c.bench_function("pb/decode RangeRequest", |b| b.iter(|| hot::decode_range(black_box(&range))));
}

/// The same record for every number.
struct Record(Vec<u8>);

impl Records for Record {
    fn record(&self, _: Seq) -> Result<RecordRef<'_>, Cold> {
        Ok(RecordRef { wire: &self.0 })
    }
}

/// The answers to those two: a header, and a header with one record of 256 bytes.
fn encode(c: &mut Criterion) {
    let wire = [&field(1, KEY)[..], b"\x10\x02\x18\x85\x10\x20\x07", &field(5, &[b'v'; 256])].concat();
    let encoded_len = field(2, &wire).len() as u64;
    let records = Record(wire);
    let revision = Revision(123_456_789);
    let put = Response::Put(PutAnswer { revision, prev: None });
    let kvs = Kvs::List(KvList { seqs: vec![Seq(9)], encoded_len, keys_only: false });
    let range = Response::Range(RangeAnswer { revision, read_at: revision, kvs, more: false, count: 1 });
    let mut out = Vec::with_capacity(1024);
    for (name, answer) in [("pb/encode PutResponse", &put), ("pb/encode RangeResponse", &range)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                let whole = encode_whole(ORIGIN, black_box(answer), &records, &mut out);
                assert_eq!(whole, Whole::Encoded);
            })
        });
    }
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
