//! grpcwire.md and errors.md section 7: what a client may send wrong, frame by frame, and the shape of answers.

use std::time::Duration;

use bytes::Bytes;

use crate::wire::{Request, compress, frame_message};

use super::super::build::{get, put};
use super::super::call::{Call, RawBody, RawOutcome};
use super::super::pair::Pair;
use super::Case;

const PUT: &str = "/etcdserverpb.KV/Put";

pub const CASES: &[Case] = &[
    Case {
        rows: &["wire/ok-shape", "errors/7/success-trailer"],
        run: |p| {
            let answer = p.raw(&write());
            let shape = answer.map(|answer| answer.shape);
            p.expect(
                shape.as_deref() == Ok("HEADERS DATA HEADERS+END"),
                &format!("OK is three parts: {shape:?}"),
            );
        },
    },
    Case {
        rows: &["wire/error-shape", "errors/7/immediate-error", "wire/no-details"],
        run: |p| {
            let answer = p.raw(&call(get("")));
            let shape = answer.map(|answer| answer.shape);
            p.expect(shape.as_deref() == Ok("HEADERS+END"), &format!("an error is trailers only: {shape:?}"));
        },
    },
    Case {
        rows: &["wire/settings", "wire/port-sharing"],
        run: |p| {
            let _ = p.raw(&write());
            p.settings();
        },
    },
    Case {
        rows: &["wire/connection-header"],
        run: |p| {
            let _ = p.raw(&write().with("connection", "keep-alive"));
            let _ = p.raw(&write());
        },
    },
    Case {
        rows: &["wire/header-size"],
        run: |p| {
            let _ = p.raw(&write().with("x-large", &"v".repeat(9_000)));
            let _ = p.raw(&write().with("x-large", &"v".repeat(40_000)));
        },
    },
    Case {
        rows: &["wire/content-types", "errors/7/content-type", "wire/other-content-type"],
        run: |p| {
            for accepted in [
                "application/grpc",
                "application/grpc+proto",
                "application/grpc+json",
                "application/grpc; charset=x",
            ] {
                let _ = p.raw(&write().with("content-type", accepted));
                let _ = p.raw(&call(get("")).with("content-type", accepted));
            }
            for refused in ["application/json", "text/html", "application/grpcx", ""] {
                let _ = p.raw(&write().with("content-type", refused));
            }
            let _ = p.raw(&write().without("content-type"));
        },
    },
    Case {
        rows: &["wire/no-te"],
        run: |p| {
            let _ = p.raw(&write().without("te"));
        },
    },
    Case {
        rows: &["wire/method"],
        run: |p| {
            for method in ["GET", "PUT", "HEAD"] {
                let _ = p.raw(&write().with(":method", method));
                let _ = p.raw(&Request { body: Vec::new(), ..write().with(":method", method) });
            }
        },
    },
    Case {
        rows: &[
            "wire/path",
            "errors/7/unknown-method",
            "errors/7/unknown-service",
            "errors/7/malformed-path",
        ],
        run: |p| {
            for path in [
                "/nopath",
                "/",
                "//",
                "/etcdserverpb.KV/",
                "/etcdserverpb.KV/Nope",
                "/etcdserverpb.KV/put",
                "/etcdserverpb.KV/Put/",
                "/etcdserverpb.KV/Put?x=1",
                "/foo.Bar/Baz",
                "/foo.Bar/",
                "//Put",
                "/a/etcdserverpb.KV/Put",
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            ] {
                let _ = p.raw(&write().with(":path", path));
            }
        },
    },
    Case {
        rows: &["wire/timeout-malformed"],
        run: |p| {
            for timeout in ["xx", "1", "", "m", "1x", "-1S", "1.5S", "999999999S", "123456789n"] {
                let _ = p.raw(&write().with("grpc-timeout", timeout));
            }
        },
    },
    Case {
        rows: &["wire/timeout-units", "errors/7/deadline"],
        run: |p| {
            for timeout in ["99999999H", "1H", "5M", "10S", "10000m", "10000000u", "99999999n"] {
                let _ = p.raw(&call(get("x")).with("grpc-timeout", timeout));
            }
            let _ = p.raw(&call(get("x")).with_timeout(Duration::from_secs(30)));
            let _ = p.raw(&call(get("x")).with("grpc-timeout", "1n"));
            let _ = p.raw(&call(get("x")).with("grpc-timeout", "0S"));
        },
    },
    Case {
        rows: &["wire/no-message"],
        run: |p| {
            let _ = p.raw(&write().with_body([]));
        },
    },
    Case {
        rows: &["wire/cut-short"],
        run: |p| {
            let body = write().body;
            for len in [1, 4, 5, 6, body.len() - 1] {
                let _ = p.raw(&write().with_body(&body[..len]));
            }
        },
    },
    Case {
        rows: &["wire/two-messages"],
        run: |p| {
            let body = [write().body, call(put("wire", "second")).body].concat();
            let _ = p.raw(&write().with_body(body));
            p.succeeds(get("wire"));
        },
    },
    Case {
        rows: &["wire/flag-without-encoding"],
        run: |p| {
            let packed = frame_message(&compress(&Call::from(put("wire", "z")).encode()), true);
            let _ = p.raw(&write().with_body(packed.clone()));
            let _ = p.raw(&write().with("grpc-encoding", "identity").with_body(packed));
            let _ = p.raw(&write().with("grpc-encoding", "identity"));
        },
    },
    Case {
        rows: &["wire/gzip", "errors/7/gzip"],
        run: |p| {
            let packed = frame_message(&compress(&Call::from(put("wire", "zipped")).encode()), true);
            gzip(p, &write().with_body(packed));
            gzip(p, &write());
            let long = frame_message(&compress(&Call::from(put("wire", vec![b'z'; 100_000])).encode()), true);
            gzip(p, &write().with_body(long));
            gzip(p, &call(get("wire")).with_body(frame_message(&Call::from(get("wire")).encode(), false)));
            gzip(p, &call(get("")));
        },
    },
    Case {
        rows: &["wire/unknown-encoding"],
        run: |p| {
            for encoding in ["snappy", "deflate", "x"] {
                let _ = p.raw(&write().with("grpc-encoding", encoding));
                let packed = frame_message(b"?", true);
                let _ = p.raw(&write().with("grpc-encoding", encoding).with_body(packed));
            }
        },
    },
    Case {
        rows: &["wire/accept-encoding"],
        run: |p| {
            let _ = p.raw(&write().with("grpc-accept-encoding", "gzip"));
            let _ = p.raw(&write().with("accept-encoding", "gzip"));
        },
    },
    Case {
        rows: &["errors/7/message-too-large", "kv/8/grpc-receive"],
        run: |p| {
            let _ = p.raw(&call(put("large", vec![b'v'; 2_200_000])));
            let _ = p.raw(&call(put("large", vec![b'v'; 2_097_152])));
            let _ = p.raw(&call(put("large", vec![b'v'; 2_097_139])));
            let _ = p.raw(&call(put("large", vec![b'v'; 2_097_138])));
            // Announced, never sent.
            let _ = p.raw(&write().with_body([0, 0x7f, 0xff, 0xff, 0xff, 1, 2]));
            let _ = p.raw(&write().with_body([0, 0xff, 0xff, 0xff, 0xff]));
        },
    },
    Case {
        rows: &["errors/7/undecodable"],
        run: |p| {
            // A length beyond the end, in each message of the hot path.
            for path in
                [PUT, "/etcdserverpb.KV/Range", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn"]
            {
                let _ = p.raw(&Request::grpc(path, &[0x0a, 0x05, b'a']));
            }
        },
    },
    Case {
        rows: &["wire/empty-message"],
        run: |p| {
            for path in [PUT, "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact"] {
                let _ = p.raw(&Request::grpc(path, b""));
            }
        },
    },
    Case {
        rows: &["wire/message-encoding"],
        run: |p| {
            let _ = p.raw(&write().with(":path", "/caf\u{e9}.100%/X"));
            let _ = p.raw(&write().with("grpc-encoding", "caf\u{e9}%"));
        },
    },
    Case {
        rows: &["wire/http-over-h2"],
        run: |p| {
            let request = Request { body: Vec::new(), ..write() };
            let plain = request.without("te").without("content-type").with(":method", "GET");
            let _ = p.raw_with(&plain.clone().with(":path", "/version"), without_text);
            let _ = p.raw_with(&plain.clone().with(":path", "/health").with("accept", "*/*"), without_text);
            let _ = p.raw(&plain.with(":path", "/health").with("content-type", "text/html"));
        },
    },
];

/// With a stream limit of 100 set.
pub const STREAM_CAP: &[Case] = &[Case {
    rows: &["wire/stream-cap"],
    run: |p| {
        let _ = p.raw(&write());
        p.settings();
    },
}];

fn call(call: impl Into<Call>) -> Request {
    call.into().request(0)
}

fn write() -> Request {
    call(put("wire", "value"))
}

/// Leaves the statuses. Whoever asks without a content type is a person, and gets a text from us; etcd has none.
fn without_text(outcome: &mut RawOutcome) {
    let kept = |(name, _): &(String, String)| name == ":status" || name.starts_with("grpc-");
    let mut fields: Vec<_> = outcome.blocks.drain(..).flatten().filter(kept).collect();
    fields.sort();
    outcome.blocks = vec![fields];
    outcome.shape.clear();
    outcome.body = RawBody::Bytes(Bytes::new());
}

fn gzip(p: &mut Pair, request: &Request) {
    let _ = p.raw(&request.clone().with("grpc-encoding", "gzip"));
}
