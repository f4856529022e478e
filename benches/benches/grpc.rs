//! A connection: 100 unary requests of a put's size in, 100 answers out, as one read and one send of a driver.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use net::front::lookup;
use net::grpc::{Config, Event, Server};
use net::h2::{self, frame};
use net::hpack::Encoder;

const CALLS: u32 = 100;
const MESSAGE_LEN: usize = 290;
const ANSWER_LEN: usize = 30;

/// Frames of the calls with these stream ids.
fn requests(encoder: &mut Encoder, first: u32) -> Vec<u8> {
    let fields: [(&'static str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/etcdserverpb.KV/Put"),
        (":authority", b"127.0.0.1:2379"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    let mut out = Vec::new();
    for n in 0..CALLS {
        let (stream, mut block, mut body) = (first + 2 * n, Vec::new(), Vec::new());
        encoder.encode(&fields, &mut block);
        net::grpc::frame::put(&mut body, false, |out| out.resize(out.len() + MESSAGE_LEN, b'm'));
        frame::put(&mut out, frame::kind::HEADERS, frame::flag::END_HEADERS, stream, &block);
        frame::put(&mut out, frame::kind::DATA, frame::flag::END_STREAM, stream, &body);
    }
    out
}

fn serve(server: &mut Server, now: Instant, mut input: &[u8]) -> usize {
    loop {
        let call = match server.poll_event(now, &mut input).expect("sound frames") {
            Some(Event::Request { call, message, .. }) => {
                black_box(message);
                call
            }
            Some(other) => unreachable!("{other:?} of unary calls"),
            None => break,
        };
        server.reply_unary(call, |out| out.resize(out.len() + ANSWER_LEN, b'a'));
    }
    let sent = server.output().len();
    server.consume_output(now, sent);
    sent
}

fn connected(encoder: &mut Encoder, now: Instant) -> Server {
    let config = Config { http: h2::Config::default(), message_len_max: 2 << 20, route: lookup };
    let mut server = Server::new(config, now);
    let mut hello = frame::PREFACE.to_vec();
    frame::put(&mut hello, frame::kind::SETTINGS, 0, 0, &[]);
    serve(&mut server, now, &hello);
    // Past the first use of every field and every slot.
    serve(&mut server, now, &requests(encoder, 1));
    server
}

/// Time of all calls together; the throughput is per call.
fn unary(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("grpc");
    group.throughput(Throughput::Elements(CALLS.into()));
    group.bench_function("100 unary calls", |b| {
        b.iter_batched(
            || {
                let mut encoder = Encoder::new();
                let server = connected(&mut encoder, now);
                (server, requests(&mut encoder, 1 + 2 * CALLS))
            },
            |(mut server, input)| {
                black_box(serve(&mut server, now, &input));
                server
            },
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group!(benches, unary);
criterion_main!(benches);
