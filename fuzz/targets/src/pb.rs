//! Requests of the KV service: decoded in place, checked, and taken into the log's form and back.

use engine::command::{self, RequestId};
use engine::request::Write;
use net::api::kv::{self, KvMethod, KvRequest};
use net::pb::etcdserverpb as pb;
use net::pb::etcdserverpb::compare::TargetUnion;
use net::pb::etcdserverpb::request_op::Request;
use prost::Message;

/// As `--max-txn-ops`.
const OPS_MAX: usize = 128;

const METHODS: [KvMethod; 5] =
    [KvMethod::Put, KvMethod::Range, KvMethod::Txn, KvMethod::DeleteRange, KvMethod::Compact];

/// The first byte is the method, the rest the message.
pub fn target(data: &[u8]) {
    let Some((&method, message)) = data.split_first() else { return };
    let Ok(request) = kv::decode(METHODS[usize::from(method) % METHODS.len()], message, OPS_MAX) else {
        return;
    };
    let _ = request.course();
    if request.check(OPS_MAX).is_err() {
        return;
    }
    let write = match request {
        KvRequest::Put(put) => Write::Put(put),
        KvRequest::DeleteRange(delete) => Write::DeleteRange(delete),
        KvRequest::Txn(txn) => Write::Txn(txn),
        KvRequest::Compact(compact) => Write::Compact(compact),
        KvRequest::Range(_) => return,
    };
    let mut entry = Vec::new();
    command::encode(&mut entry, RequestId(7), &write);
    let decoded = command::decode(&entry).expect("what is admitted can be read from the log");
    assert_eq!(decoded.write, write, "the log says something else than the client");
}

/// One of each kind, and a transaction of everything.
pub fn seeds() -> Vec<Vec<u8>> {
    let put = pb::PutRequest {
        key: "/registry/pods/default/web-0".into(),
        value: vec![b'v'; 100].into(),
        lease: 0x1234_5678_9abc,
        prev_kv: true,
        ..Default::default()
    };
    let range = pb::RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        limit: 500,
        revision: 1 << 33,
        sort_order: 1,
        sort_target: 3,
        serializable: true,
        keys_only: true,
        min_mod_revision: 5,
        max_create_revision: i64::MAX,
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), prev_kv: true };
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare = |target_union, target| pb::Compare {
        result: 0,
        target,
        key: "/registry/leases/x".into(),
        range_end: Default::default(),
        target_union: Some(target_union),
    };
    let txn = pb::TxnRequest {
        compare: vec![
            compare(TargetUnion::ModRevision(17), 2),
            compare(TargetUnion::Version(0), 0),
            compare(TargetUnion::Value("old".into()), 3),
            compare(TargetUnion::Lease(-1), 4),
        ],
        success: vec![op(Request::RequestPut(put.clone())), op(Request::RequestRange(range.clone()))],
        failure: vec![op(Request::RequestDeleteRange(delete.clone())), pb::RequestOp { request: None }],
    };
    let nested = pb::TxnRequest {
        success: vec![op(Request::RequestTxn(txn.clone())), op(Request::RequestRange(range.clone()))],
        ..Default::default()
    };
    let compact = pb::CompactionRequest { revision: 1 << 40, physical: true };
    let with_method = |method: u8, message: Vec<u8>| [&[method][..], &message].concat();
    vec![
        with_method(0, put.encode_to_vec()),
        with_method(1, range.encode_to_vec()),
        with_method(2, txn.encode_to_vec()),
        with_method(2, nested.encode_to_vec()),
        with_method(3, delete.encode_to_vec()),
        with_method(4, compact.encode_to_vec()),
    ]
}
