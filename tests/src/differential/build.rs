//! Requests in few words; options by struct update: `RangeRequest { limit: 2, ..range("a", "z") }`.

use crate::proto::etcdserverpb as pb;

use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;

/// Range of one key.
pub fn get(key: impl Into<Vec<u8>>) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into().into(), ..Default::default() }
}

/// Range of `[key, end)`.
pub fn range(key: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into().into(), range_end: end.into().into(), ..Default::default() }
}

/// Put of a pair.
pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> pb::PutRequest {
    pb::PutRequest { key: key.into().into(), value: value.into().into(), ..Default::default() }
}

/// DeleteRange of one key.
pub fn del(key: impl Into<Vec<u8>>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into().into(), ..Default::default() }
}

/// DeleteRange of `[key, end)`.
pub fn del_range(key: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into().into(), range_end: end.into().into(), ..Default::default() }
}

/// Compact at `revision`.
pub fn compact(revision: i64) -> pb::CompactionRequest {
    pb::CompactionRequest { revision, physical: false }
}

/// HashKV at `revision`.
pub fn hash_kv(revision: i64) -> pb::HashKvRequest {
    pb::HashKvRequest { revision }
}

/// A transaction.
pub fn txn<const C: usize, const S: usize, const F: usize>(
    compare: [pb::Compare; C],
    success: [pb::RequestOp; S],
    failure: [pb::RequestOp; F],
) -> pb::TxnRequest {
    pb::TxnRequest { compare: compare.into(), success: success.into(), failure: failure.into() }
}

/// An operation of a transaction.
pub fn op(request: impl Into<pb::RequestOp>) -> pb::RequestOp {
    request.into()
}

/// `target(key) result union`.
pub fn compare(
    key: impl Into<Vec<u8>>,
    target: CompareTarget,
    result: CompareResult,
    union: impl Into<Option<TargetUnion>>,
) -> pb::Compare {
    pb::Compare {
        key: key.into().into(),
        target: target as i32,
        result: result as i32,
        target_union: union.into(),
        ..Default::default()
    }
}

macro_rules! into_op {
    ($($request:ident => $variant:ident,)*) => {$(
        impl From<pb::$request> for pb::RequestOp {
            fn from(request: pb::$request) -> pb::RequestOp {
                pb::RequestOp { request: Some(Op::$variant(request)) }
            }
        }
    )*};
}

into_op! {
    RangeRequest => RequestRange,
    PutRequest => RequestPut,
    DeleteRangeRequest => RequestDeleteRange,
    TxnRequest => RequestTxn,
}
