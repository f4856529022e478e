//! The messages on the path of every put, read and transaction, decoded in place.
//!
//! Keys and values stay in the receive buffer; only the lists of a transaction allocate. What a repeated scalar or
//! oneof means is decided as in etcd: the last one wins, whole (a second message of a oneof replaces the first and is
//! not merged into it). Numbers outside an enum are kept, because etcd gives each a meaning (`check`, `apply`). An
//! explicitly empty `range_end` is an absent one: no proto3 client can say it, and etcd 3.6 reads it as "to the end".
//!
//! Compared field by field with the generated decoder in the tests.

use engine::request::{
    Compact, Compare, CompareResult, CompareTarget, DeleteRange, Filter, KeyRange, Op, Put, Range, SortOrder,
    SortTarget, Txn,
};
use engine::types::LeaseId;

use super::wire::{Fields, Malformed};

/// Transactions nested deeper than this are refused. The default of `--max-txn-ops` allows 128 levels in theory; the
/// bound is protobuf's usual one and keeps the recursion below on a small stack.
pub const TXN_DEPTH_MAX: usize = 100;

/// Decodes a `RangeRequest`.
pub fn decode_range(bytes: &[u8]) -> Result<Range<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "RangeRequest");
    let (mut key, mut range_end): (&[u8], &[u8]) = (&[], &[]);
    let mut range = Range::of(KeyRange::new(&[], &[]));
    let mut filter = Filter::default();
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => key = fields.bytes(tag, "Key")?,
            2 => range_end = fields.bytes(tag, "RangeEnd")?,
            3 => range.limit = fields.int64(tag, "Limit")?,
            4 => range.revision = fields.int64(tag, "Revision")?,
            5 => range.order = sort_order(fields.enumeration(tag, "SortOrder")?),
            6 => range.target = sort_target(fields.enumeration(tag, "SortTarget")?),
            7 => range.serializable = fields.boolean(tag, "Serializable")?,
            8 => range.keys_only = fields.boolean(tag, "KeysOnly")?,
            9 => range.count_only = fields.boolean(tag, "CountOnly")?,
            10 => filter.min_mod = fields.int64(tag, "MinModRevision")?,
            11 => filter.max_mod = fields.int64(tag, "MaxModRevision")?,
            12 => filter.min_create = fields.int64(tag, "MinCreateRevision")?,
            13 => filter.max_create = fields.int64(tag, "MaxCreateRevision")?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(Range { keys: KeyRange::new(key, range_end), filter, ..range })
}

/// Decodes a `PutRequest`.
pub fn decode_put(bytes: &[u8]) -> Result<Put<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "PutRequest");
    let mut put = Put::default();
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => put.key = fields.bytes(tag, "Key")?,
            2 => put.value = fields.bytes(tag, "Value")?,
            3 => put.lease = LeaseId(fields.int64(tag, "Lease")?),
            4 => put.prev_kv = fields.boolean(tag, "PrevKv")?,
            5 => put.ignore_value = fields.boolean(tag, "IgnoreValue")?,
            6 => put.ignore_lease = fields.boolean(tag, "IgnoreLease")?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(put)
}

/// Decodes a `DeleteRangeRequest`.
pub fn decode_delete_range(bytes: &[u8]) -> Result<DeleteRange<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "DeleteRangeRequest");
    let (mut key, mut range_end): (&[u8], &[u8]) = (&[], &[]);
    let mut prev_kv = false;
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => key = fields.bytes(tag, "Key")?,
            2 => range_end = fields.bytes(tag, "RangeEnd")?,
            3 => prev_kv = fields.boolean(tag, "PrevKv")?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(DeleteRange { keys: KeyRange::new(key, range_end), prev_kv })
}

/// Decodes a `CompactionRequest`.
pub fn decode_compact(bytes: &[u8]) -> Result<Compact, Malformed> {
    let mut fields = Fields::new(bytes, "CompactionRequest");
    let mut compact = Compact { revision: 0, physical: false };
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => compact.revision = fields.int64(tag, "Revision")?,
            2 => compact.physical = fields.boolean(tag, "Physical")?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(compact)
}

/// Decodes a `TxnRequest`.
///
/// A list longer than `ops_max` is refused later anyway (`too many operations`), after everything decoded: so each
/// list keeps `ops_max + 1` elements, enough to be refused, and the rest is decoded and dropped. An operation of two
/// bytes on the wire could otherwise cost a hundred in memory.
pub fn decode_txn(bytes: &[u8], ops_max: usize) -> Result<Txn<'_>, Malformed> {
    txn(bytes, ops_max, 1)
}

fn txn(bytes: &[u8], ops_max: usize, depth: usize) -> Result<Txn<'_>, Malformed> {
    if depth > TXN_DEPTH_MAX {
        return Err(Malformed::TooDeep);
    }
    let mut fields = Fields::new(bytes, "TxnRequest");
    let mut txn = Txn::default();
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => keep(&mut txn.compare, compare(fields.bytes(tag, "Compare")?)?, ops_max),
            2 => keep(&mut txn.success, op(fields.bytes(tag, "Success")?, ops_max, depth)?, ops_max),
            3 => keep(&mut txn.failure, op(fields.bytes(tag, "Failure")?, ops_max, depth)?, ops_max),
            _ => fields.skip(tag)?,
        }
    }
    Ok(txn)
}

fn keep<T>(list: &mut Vec<T>, item: T, ops_max: usize) {
    if list.len() <= ops_max {
        list.push(item);
    }
}

fn op(bytes: &[u8], ops_max: usize, depth: usize) -> Result<Op<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "RequestOp");
    let mut op = Op::Unset;
    while let Some(tag) = fields.next_tag()? {
        op = match tag.number {
            1 => Op::Range(decode_range(fields.bytes(tag, "RequestRange")?)?),
            2 => Op::Put(decode_put(fields.bytes(tag, "RequestPut")?)?),
            3 => Op::DeleteRange(decode_delete_range(fields.bytes(tag, "RequestDeleteRange")?)?),
            4 => Op::Txn(txn(fields.bytes(tag, "RequestTxn")?, ops_max, depth + 1)?),
            _ => {
                fields.skip(tag)?;
                continue;
            }
        };
    }
    Ok(op)
}

/// The given value of a compare, as sent; counts only when it fits the target.
#[derive(Clone, Copy)]
enum Given<'a> {
    Nothing,
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(&'a [u8]),
    Lease(i64),
}

fn compare(bytes: &[u8]) -> Result<Compare<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "Compare");
    let (mut key, mut range_end): (&[u8], &[u8]) = (&[], &[]);
    let (mut result, mut target) = (0, 0);
    let mut given = Given::Nothing;
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => result = fields.enumeration(tag, "Result")?,
            2 => target = fields.enumeration(tag, "Target")?,
            3 => key = fields.bytes(tag, "Key")?,
            4 => given = Given::Version(fields.int64(tag, "Version")?),
            5 => given = Given::Create(fields.int64(tag, "CreateRevision")?),
            6 => given = Given::Mod(fields.int64(tag, "ModRevision")?),
            7 => given = Given::Value(fields.bytes(tag, "Value")?),
            8 => given = Given::Lease(fields.int64(tag, "Lease")?),
            64 => range_end = fields.bytes(tag, "RangeEnd")?,
            _ => fields.skip(tag)?,
        }
    }
    let keys = KeyRange::new(key, range_end);
    Ok(Compare { keys, result: compare_result(result), target: compare_target(target, given) })
}

fn compare_result(number: i32) -> CompareResult {
    match number {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        other => CompareResult::Unknown(other),
    }
}

fn compare_target(number: i32, given: Given<'_>) -> CompareTarget<'_> {
    match (number, given) {
        (0, Given::Version(version)) => CompareTarget::Version(version),
        (0, _) => CompareTarget::Version(0),
        (1, Given::Create(revision)) => CompareTarget::Create(revision),
        (1, _) => CompareTarget::Create(0),
        (2, Given::Mod(revision)) => CompareTarget::Mod(revision),
        (2, _) => CompareTarget::Mod(0),
        (3, Given::Value(value)) => CompareTarget::Value(value),
        (3, _) => CompareTarget::Value(&[]),
        (4, Given::Lease(lease)) => CompareTarget::Lease(lease),
        (4, _) => CompareTarget::Lease(0),
        (other, _) => CompareTarget::Unknown(other),
    }
}

fn sort_order(number: i32) -> SortOrder {
    match number {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        other => SortOrder::Unknown(other),
    }
}

fn sort_target(number: i32) -> SortTarget {
    match number {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        other => SortTarget::Unknown(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::back::Back;
    use crate::pb::etcdserverpb as pb;
    use crate::pb::etcdserverpb::compare::TargetUnion;
    use crate::pb::etcdserverpb::request_op::Request;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    // The generated decoder's view of the same request, in engine terms.

    fn range_of(m: &pb::RangeRequest) -> Range<'_> {
        Range {
            keys: KeyRange::new(&m.key, &m.range_end),
            limit: m.limit,
            revision: m.revision,
            order: sort_order(m.sort_order),
            target: sort_target(m.sort_target),
            serializable: m.serializable,
            keys_only: m.keys_only,
            count_only: m.count_only,
            filter: Filter {
                min_mod: m.min_mod_revision,
                max_mod: m.max_mod_revision,
                min_create: m.min_create_revision,
                max_create: m.max_create_revision,
            },
        }
    }

    fn put_of(m: &pb::PutRequest) -> Put<'_> {
        Put {
            key: &m.key,
            value: &m.value,
            lease: LeaseId(m.lease),
            prev_kv: m.prev_kv,
            ignore_value: m.ignore_value,
            ignore_lease: m.ignore_lease,
        }
    }

    fn delete_of(m: &pb::DeleteRangeRequest) -> DeleteRange<'_> {
        DeleteRange { keys: KeyRange::new(&m.key, &m.range_end), prev_kv: m.prev_kv }
    }

    fn compare_of(m: &pb::Compare) -> Compare<'_> {
        let given = match &m.target_union {
            None => Given::Nothing,
            Some(TargetUnion::Version(v)) => Given::Version(*v),
            Some(TargetUnion::CreateRevision(v)) => Given::Create(*v),
            Some(TargetUnion::ModRevision(v)) => Given::Mod(*v),
            Some(TargetUnion::Value(v)) => Given::Value(v),
            Some(TargetUnion::Lease(v)) => Given::Lease(*v),
        };
        Compare {
            keys: KeyRange::new(&m.key, &m.range_end),
            result: compare_result(m.result),
            target: compare_target(m.target, given),
        }
    }

    fn op_of(m: &pb::RequestOp) -> Op<'_> {
        match &m.request {
            None => Op::Unset,
            Some(Request::RequestRange(m)) => Op::Range(range_of(m)),
            Some(Request::RequestPut(m)) => Op::Put(put_of(m)),
            Some(Request::RequestDeleteRange(m)) => Op::DeleteRange(delete_of(m)),
            Some(Request::RequestTxn(m)) => Op::Txn(txn_of(m)),
        }
    }

    fn txn_of(m: &pb::TxnRequest) -> Txn<'_> {
        Txn {
            compare: m.compare.iter().map(compare_of).collect(),
            success: m.success.iter().map(op_of).collect(),
            failure: m.failure.iter().map(op_of).collect(),
        }
    }

    fn key() -> impl Strategy<Value = bytes::Bytes> {
        vec(any::<u8>(), 0..6).prop_map(bytes::Bytes::from)
    }

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), any::<i64>(), -3..300i64]
    }

    fn enumeration() -> impl Strategy<Value = i32> {
        prop_oneof![-1..6, any::<i32>()]
    }

    prop_compose! {
        fn any_range()(
            keys in (key(), key()), numbers in (number(), number()), order in enumeration(),
            target in enumeration(), flags: (bool, bool, bool), revisions in [number(), number(), number(), number()],
        ) -> pb::RangeRequest {
            pb::RangeRequest {
                key: keys.0, range_end: keys.1, limit: numbers.0, revision: numbers.1, sort_order: order,
                sort_target: target, serializable: flags.0, keys_only: flags.1, count_only: flags.2,
                min_mod_revision: revisions[0], max_mod_revision: revisions[1],
                min_create_revision: revisions[2], max_create_revision: revisions[3],
            }
        }
    }

    prop_compose! {
        fn any_put()(key in key(), value in key(), lease in number(), flags: (bool, bool, bool)) -> pb::PutRequest {
            pb::PutRequest {
                key, value, lease, prev_kv: flags.0, ignore_value: flags.1, ignore_lease: flags.2,
            }
        }
    }

    prop_compose! {
        fn any_delete()(key in key(), range_end in key(), prev_kv: bool) -> pb::DeleteRangeRequest {
            pb::DeleteRangeRequest { key, range_end, prev_kv }
        }
    }

    prop_compose! {
        fn any_compare()(
            result in enumeration(), target in enumeration(), key in key(), range_end in key(),
            target_union in proptest::option::of(prop_oneof![
                number().prop_map(TargetUnion::Version),
                number().prop_map(TargetUnion::CreateRevision),
                number().prop_map(TargetUnion::ModRevision),
                key().prop_map(TargetUnion::Value),
                number().prop_map(TargetUnion::Lease),
            ]),
        ) -> pb::Compare {
            pb::Compare { result, target, key, range_end, target_union }
        }
    }

    fn any_txn() -> impl Strategy<Value = pb::TxnRequest> {
        let leaf = prop_oneof![
            any_range().prop_map(|m| Some(Request::RequestRange(m))),
            any_put().prop_map(|m| Some(Request::RequestPut(m))),
            any_delete().prop_map(|m| Some(Request::RequestDeleteRange(m))),
            Just(None),
        ];
        let op = leaf.prop_map(|request| pb::RequestOp { request }).prop_recursive(3, 12, 3, |inner| {
            (vec(any_compare(), 0..3), vec(inner.clone(), 0..3), vec(inner, 0..3)).prop_map(
                |(compare, success, failure)| {
                    let txn = pb::TxnRequest { compare, success, failure };
                    pb::RequestOp { request: Some(Request::RequestTxn(txn)) }
                },
            )
        });
        (vec(any_compare(), 0..4), vec(op.clone(), 0..4), vec(op, 0..4))
            .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
    }

    proptest! {
        #[test]
        fn ranges_decode_as_generated_code_does(m in any_range()) {
            let bytes = m.encode_to_vec();
            prop_assert_eq!(decode_range(&bytes), Ok(range_of(&m)));
        }

        #[test]
        fn puts_decode_as_generated_code_does(m in any_put()) {
            let bytes = m.encode_to_vec();
            prop_assert_eq!(decode_put(&bytes), Ok(put_of(&m)));
        }

        #[test]
        fn deletes_decode_as_generated_code_does(m in any_delete()) {
            let bytes = m.encode_to_vec();
            prop_assert_eq!(decode_delete_range(&bytes), Ok(delete_of(&m)));
        }

        #[test]
        fn compactions_decode_as_generated_code_does(revision in number(), physical: bool) {
            let m = pb::CompactionRequest { revision, physical };
            let bytes = m.encode_to_vec();
            prop_assert_eq!(decode_compact(&bytes), Ok(Compact { revision, physical }));
        }

        #[test]
        fn transactions_decode_as_generated_code_does(m in any_txn()) {
            let bytes = m.encode_to_vec();
            prop_assert_eq!(decode_txn(&bytes, 128), Ok(txn_of(&m)));
        }

        #[test]
        fn cut_and_flipped_requests_never_panic(m in any_txn(), cut: usize, at: usize, byte: u8) {
            let mut bytes = m.encode_to_vec();
            if !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(cut % (bytes.len() + 1));
            // What the generated decoder takes must be taken here too, with the same meaning.
            let ours = decode_txn(&bytes, 128);
            if let Ok(theirs) = pb::TxnRequest::decode(&bytes[..]) {
                prop_assert!(ours.is_ok(), "{:?} is refused: {:?}", theirs, ours);
            }
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..48)) {
            let _ = (decode_range(&bytes), decode_put(&bytes), decode_delete_range(&bytes));
            let _ = (decode_compact(&bytes), decode_txn(&bytes, 3));
        }
    }

    #[test]
    fn errors_read_as_etcds_do() {
        let check = |decoded: Result<(), Malformed>, expected: &str| {
            assert_eq!(decoded.unwrap_err().to_string(), expected);
        };
        let range = |bytes: &[u8]| decode_range(bytes).map(drop);
        let txn = |bytes: &[u8]| decode_txn(bytes, 128).map(drop);
        check(range(b"\x0a"), "unexpected EOF");
        check(range(b"\x0a\x05a"), "unexpected EOF");
        check(range(b"\x08\x01"), "proto: wrong wireType = 0 for field Key");
        check(range(b"\x0b"), "proto: wrong wireType = 3 for field Key");
        check(range(b"\x0c"), "proto: RangeRequest: wiretype end group for non-group");
        check(range(b"\0"), "proto: RangeRequest: illegal tag 0 (wire type 0)");
        check(range(b"\x0a\x01a\x32\0"), "proto: wrong wireType = 2 for field SortTarget");
        check(range(b"\x0a\x01a\x7e"), "proto: illegal wireType 6");
        check(txn(b"\x12\x05"), "unexpected EOF");
        check(txn(b"\x12\x03\x22\x01\x08"), "proto: wrong wireType = 0 for field Compare");
        check(txn(b"\x0a\x03\x18\x01\x01"), "proto: wrong wireType = 0 for field Key");
        check(decode_put(b"\x08\x01").map(drop), "proto: wrong wireType = 0 for field Key");
        check(decode_compact(b"\x0a\x01").map(drop), "proto: wrong wireType = 2 for field Revision");
    }

    #[test]
    fn the_last_of_repeated_fields_wins_whole() {
        assert_eq!(decode_range(b"\x0a\x01a\x0a\x01b").unwrap().keys.key, b"b");
        let twice = b"\x12\x0a\x12\x03\x0a\x01a\x12\x03\x12\x01v";
        let put = Put { value: b"v", ..Put::default() };
        assert_eq!(decode_txn(twice, 128).unwrap().success, [Op::Put(put)]);
        let other_kind = b"\x12\x09\x12\x03\x0a\x01a\x1a\x02\x18\x01";
        let delete = DeleteRange { keys: KeyRange::new(b"", b""), prev_kv: true };
        assert_eq!(decode_txn(other_kind, 128).unwrap().success, [Op::DeleteRange(delete)]);
        assert_eq!(decode_range(b"\x0a\x01a\x12\0").unwrap().keys, KeyRange::new(b"a", b""));
    }

    #[test]
    fn nesting_is_bounded_and_long_lists_are_cut() {
        let nested = |levels: usize| {
            let mut back = Back::default();
            let end = back.mark();
            for _ in 1..levels {
                back.close(4, end); // RequestOp.request_txn
                back.close(2, end); // TxnRequest.success
            }
            back.finish()
        };
        assert!(decode_txn(&nested(TXN_DEPTH_MAX), 128).is_ok());
        assert_eq!(decode_txn(&nested(TXN_DEPTH_MAX + 1), 128), Err(Malformed::TooDeep));
        assert_eq!(decode_txn(&nested(20_000), 128), Err(Malformed::TooDeep));
        assert_eq!(decode_txn(&b"\x12\0".repeat(1000), 128).unwrap().success.len(), 129);
        assert!(decode_txn(&[&b"\x12\0".repeat(1000)[..], b"\x12\x01\0"].concat(), 128).is_err());
    }
}
