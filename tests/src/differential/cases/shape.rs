//! errors.md sections 1, 8 and 9: request shapes, sizes, metadata, and which check comes first.

use crate::proto::etcdserverpb::{PutRequest, RangeRequest};
use crate::proto::grpc::health::v1::HealthCheckRequest;
use crate::wire::Request;

use super::super::build::{del, get, op, put, range, txn};
use super::super::call::Call;
use super::{Case, INVALID, NOT_FOUND};

pub const CASES: &[Case] = &[
    Case {
        rows: &["errors/1/key-not-provided"],
        run: |p| {
            let missing = "etcdserver: key is not provided";
            p.fails(get(""), INVALID, missing);
            p.fails(range("", "z"), INVALID, missing);
            p.fails(range("", "\0"), INVALID, missing);
            p.fails(put("", "v"), INVALID, missing);
            p.fails(del(""), INVALID, missing);
            p.fails(PutRequest { ignore_value: true, ..put("", "v") }, INVALID, missing);
        },
    },
    Case {
        rows: &["errors/1/too-large", "kv/8/proposal-limit"],
        run: |p| {
            let large = "etcdserver: request is too large";
            let limit = 1_572_864;
            p.fails(put("large", vec![b'v'; limit]), INVALID, large);
            p.succeeds(put("large", vec![b'v'; limit - 100]));
            p.fails(txn([], [op(put("large", vec![b'v'; limit]))], []), INVALID, large);
            p.fails(del(vec![b'k'; limit]), INVALID, large);
            p.succeeds(get(vec![b'k'; limit]));
        },
    },
    Case {
        rows: &["kv/8/grpc-send"],
        run: |p| {
            for key in ["big/1", "big/2", "big/3", "big/4", "big/5"] {
                p.succeeds(put(key, vec![b'v'; 1_500_000]));
            }
            p.succeeds(range("big/", "big0"));
            p.succeeds(RangeRequest { limit: 3, ..range("big/", "big0") });
        },
    },
    Case {
        rows: &["errors/8/hasleader", "errors/8/client-api-version"],
        run: |p| {
            let request = || Call::from(get("meta")).request(0);
            let _ = p.raw(&request().with("hasleader", "true"));
            let _ = p.raw(&request().with("hasleader", "false"));
            let _ = p.raw(&request().with("client-api-version", "3.6"));
            let _ = p.raw(&request().with("client-api-version", ""));
            let _ = p.raw(&request().with("user-agent", "judge/1").with("x-unknown", "1"));
        },
    },
    Case {
        rows: &["errors/8/token-without-auth"],
        run: |p| {
            let request = || Call::from(put("meta", "1")).request(0);
            let _ = p.raw(&request().with("token", "whatever"));
            let _ = p.raw(&request().with("authorization", "Bearer whatever"));
        },
    },
    Case {
        rows: &["protos/health-check"],
        run: |p| {
            p.succeeds(HealthCheckRequest { service: String::new() });
            p.fails(HealthCheckRequest { service: "etcd".into() }, NOT_FOUND, "unknown service");
        },
    },
    Case {
        rows: &["protos/unknown-fields", "protos/range-stream"],
        run: |p| {
            // Field 99, varint 1: a newer client.
            let mut body = Call::from(get("new")).encode();
            body.extend([0x98, 0x06, 1]);
            let _ = p.raw(&Request::grpc("/etcdserverpb.KV/Range", &body));
            let _ = p.raw(&Request::grpc("/etcdserverpb.KV/RangeStream", &body));
        },
    },
];
