//! etcd sorts a range with an unstable sort, so the order among equal sort values is nobody's promise (kv.md §3).
//! This makes two answers that differ only in that equal, and nothing else.

use bytes::Bytes;

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::KeyValue;

use pb::range_request::SortTarget;
use pb::request_op::Request as Op;
use pb::response_op::Response;

use super::call::{Call, Reply};

/// Puts ties in `reply` into one order.
pub fn settle_ties(call: &Call, reply: &mut Reply) {
    match (call, reply) {
        (Call::Range(request), Reply::Range(response)) => settle_range(request, response),
        (Call::Txn(request), Reply::Txn(response)) => settle_txn(request, response),
        _ => {}
    }
}

fn settle_txn(request: &pb::TxnRequest, response: &mut pb::TxnResponse) {
    let ops = if response.succeeded { &request.success } else { &request.failure };
    for (op, answer) in ops.iter().zip(&mut response.responses) {
        match (&op.request, &mut answer.response) {
            (Some(Op::RequestRange(request)), Some(Response::ResponseRange(response))) => {
                settle_range(request, response);
            }
            (Some(Op::RequestTxn(request)), Some(Response::ResponseTxn(response))) => {
                settle_txn(request, response);
            }
            _ => {}
        }
    }
}

fn settle_range(request: &pb::RangeRequest, response: &mut pb::RangeResponse) {
    let by_key = request.sort_target == SortTarget::Key as i32;
    // Values that keys_only took out were still sorted by.
    let blind = request.keys_only && request.sort_target == SortTarget::Value as i32;
    if by_key {
        return;
    }
    if blind {
        match response.more {
            true => response.kvs.fill(KeyValue::default()),
            false => response.kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        }
        return;
    }
    let same = |a: &KeyValue, b: &KeyValue| sort_value(request, a) == sort_value(request, b);
    let cut = response.more;
    let groups = response.kvs.chunk_by_mut(same).collect::<Vec<_>>();
    let last = groups.len().saturating_sub(1);
    for (index, group) in groups.into_iter().enumerate() {
        if index == last && cut {
            // The limit may have cut through these ties: any of them may be here.
            group.iter_mut().for_each(|kv| *kv = anonymous(request, kv));
        } else {
            group.sort_by(|a, b| a.key.cmp(&b.key));
        }
    }
}

fn sort_value(request: &pb::RangeRequest, kv: &KeyValue) -> (i64, Bytes) {
    match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => (kv.version, Bytes::new()),
        Ok(SortTarget::Create) => (kv.create_revision, Bytes::new()),
        Ok(SortTarget::Mod) => (kv.mod_revision, Bytes::new()),
        Ok(SortTarget::Value) => (0, kv.value.clone()),
        Ok(SortTarget::Key) | Err(_) => (0, kv.key.clone()),
    }
}

fn anonymous(request: &pb::RangeRequest, kv: &KeyValue) -> KeyValue {
    let (number, value) = sort_value(request, kv);
    KeyValue { version: number, value, ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kvs(pairs: &[(&str, i64)]) -> pb::RangeResponse {
        let kvs = pairs
            .iter()
            .map(|&(key, version)| KeyValue { key: key.to_owned().into(), version, ..KeyValue::default() })
            .collect();
        pb::RangeResponse { kvs, ..pb::RangeResponse::default() }
    }

    #[test]
    fn only_ties_are_forgiven() {
        let request = pb::RangeRequest { sort_target: SortTarget::Version as i32, ..Default::default() };
        let alike = |a: &[(&str, i64)], b: &[(&str, i64)], more: bool| {
            let [a, b] = [a, b].map(|pairs| {
                let mut response = pb::RangeResponse { more, ..kvs(pairs) };
                settle_range(&request, &mut response);
                response
            });
            a == b
        };
        assert!(alike(&[("a", 1), ("b", 1), ("c", 2)], &[("b", 1), ("a", 1), ("c", 2)], false));
        assert!(!alike(&[("a", 1), ("b", 2)], &[("b", 2), ("a", 1)], false));
        assert!(!alike(&[("a", 1), ("b", 1)], &[("a", 1), ("c", 1)], false));
        assert!(alike(&[("x", 0), ("a", 1)], &[("x", 0), ("b", 1)], true));
        assert!(!alike(&[("x", 0), ("a", 1)], &[("y", 0), ("b", 1)], true));
    }
}
