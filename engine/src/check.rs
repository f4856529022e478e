//! Checks of a request's shape: those that need no state and come before anything is proposed.
//!
//! Order and errors are etcd's (`server/etcdserver/api/v3rpc/key.go`): a request that is wrong in two ways must get the
//! same answer. All limits and rules are applied to both branches of a transaction, whichever will be taken.

use crate::error::ApiError;
use crate::overlap;
use crate::request::{DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn};
use crate::types::LeaseId;

/// Checks a range.
pub fn check_range(range: &Range<'_>) -> Result<(), ApiError> {
    check_key(range.keys.key)?;
    let known =
        !matches!(range.order, SortOrder::Unknown(_)) && !matches!(range.target, SortTarget::Unknown(_));
    if known { Ok(()) } else { Err(ApiError::InvalidSortOption) }
}

/// Checks a put.
pub fn check_put(put: &Put<'_>) -> Result<(), ApiError> {
    check_key(put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(ApiError::ValueProvided);
    }
    if put.ignore_lease && put.lease != LeaseId::NONE {
        return Err(ApiError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
pub fn check_delete(delete: &DeleteRange<'_>) -> Result<(), ApiError> {
    check_key(delete.keys.key)
}

/// Checks a transaction. `ops_max` is `--max-txn-ops`.
///
/// Recursion is as deep as transactions are nested, which the decoder bounds; each level also uses up at least one of
/// `ops_max`.
pub fn check_txn(txn: &Txn<'_>, ops_max: usize) -> Result<(), ApiError> {
    check_txn_shape(txn, ops_max)?;
    overlap::check(&txn.success)?;
    overlap::check(&txn.failure)
}

fn check_txn_shape(txn: &Txn<'_>, ops_max: usize) -> Result<(), ApiError> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let Some(ops_left) = ops_max.checked_sub(longest) else { return Err(ApiError::TooManyOps) };
    for compare in &txn.compare {
        check_key(compare.keys.key)?;
    }
    txn.success.iter().chain(&txn.failure).try_for_each(|op| check_op(op, ops_left))
}

fn check_op(op: &Op<'_>, ops_left: usize) -> Result<(), ApiError> {
    match op {
        Op::Range(range) => check_range(range),
        Op::Put(put) => check_put(put),
        Op::DeleteRange(delete) => check_delete(delete),
        Op::Txn(txn) => check_txn_shape(txn, ops_left),
        Op::Unset => Err(ApiError::KeyNotFound),
    }
}

fn check_key(key: &[u8]) -> Result<(), ApiError> {
    if key.is_empty() { Err(ApiError::EmptyKey) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Compare, CompareResult, CompareTarget, KeyRange};

    fn range(key: &[u8]) -> Range<'_> {
        Range::of(KeyRange::new(key, b""))
    }

    fn put(key: &[u8]) -> Put<'_> {
        Put { key, ..Put::default() }
    }

    fn compare(key: &[u8]) -> Compare<'_> {
        let target = CompareTarget::Version(0);
        Compare { keys: KeyRange::new(key, b""), result: CompareResult::Equal, target }
    }

    #[test]
    fn ranges() {
        let check = |range: Range<'_>, expected: Result<(), ApiError>| {
            assert_eq!(check_range(&range), expected, "{range:?}");
        };
        let unknown_order = SortOrder::Unknown(3);
        let unknown_target = SortTarget::Unknown(-1);
        check(range(b"a"), Ok(()));
        check(Range { limit: -1, revision: -1, ..range(b"a") }, Ok(()));
        check(Range { order: SortOrder::Descend, target: SortTarget::Value, ..range(b"a") }, Ok(()));
        check(range(b""), Err(ApiError::EmptyKey));
        check(Range { order: unknown_order, ..range(b"a") }, Err(ApiError::InvalidSortOption));
        check(Range { target: unknown_target, ..range(b"a") }, Err(ApiError::InvalidSortOption));
        check(Range { target: unknown_target, ..range(b"") }, Err(ApiError::EmptyKey));
        check(Range { keys: KeyRange::new(b"", b"\0"), ..range(b"") }, Err(ApiError::EmptyKey));
    }

    #[test]
    fn puts() {
        let check = |put: Put<'_>, expected: Result<(), ApiError>| {
            assert_eq!(check_put(&put), expected, "{put:?}");
        };
        let with_value = Put { value: b"v", ignore_value: true, ..put(b"a") };
        let with_lease = Put { lease: LeaseId(-7), ignore_lease: true, ..put(b"a") };
        check(put(b"a"), Ok(()));
        check(Put { ignore_value: true, ignore_lease: true, ..put(b"a") }, Ok(()));
        check(Put { value: b"v", lease: LeaseId(7), ..put(b"a") }, Ok(()));
        check(put(b""), Err(ApiError::EmptyKey));
        check(with_value, Err(ApiError::ValueProvided));
        check(with_lease, Err(ApiError::LeaseProvided));
        check(Put { lease: LeaseId(7), ignore_lease: true, ..with_value }, Err(ApiError::ValueProvided));
        check(Put { key: b"", ..with_value }, Err(ApiError::EmptyKey));
    }

    #[test]
    fn deletes() {
        let delete = |key, end| DeleteRange { keys: KeyRange::new(key, end), prev_kv: true };
        assert_eq!(check_delete(&delete(b"a", b"")), Ok(()));
        assert_eq!(check_delete(&delete(b"b", b"a")), Ok(()));
        assert_eq!(check_delete(&delete(b"", b"a")), Err(ApiError::EmptyKey));
    }

    #[test]
    fn transactions() {
        let check = |txn: Txn<'_>, expected: Result<(), ApiError>| {
            assert_eq!(check_txn(&txn, 3), expected, "{txn:?}");
        };
        let success = |ops: Vec<Op<'static>>| Txn { success: ops, ..Txn::default() };
        let failure = |ops: Vec<Op<'static>>| Txn { failure: ops, ..Txn::default() };
        let nest = |txn| Op::Txn(txn);
        let reads = |count| vec![Op::Range(range(b"a")); count];

        check(Txn::default(), Ok(()));
        check(success(reads(3)), Ok(()));
        check(success(reads(4)), Err(ApiError::TooManyOps));
        check(failure(reads(4)), Err(ApiError::TooManyOps));
        check(Txn { compare: vec![compare(b"a"); 4], ..Txn::default() }, Err(ApiError::TooManyOps));
        // The longest list counts, not the sum.
        check(Txn { compare: vec![compare(b"a"); 3], success: reads(3), failure: reads(3) }, Ok(()));
        // A parent of 1 leaves its child 2.
        check(success(vec![nest(success(reads(2)))]), Ok(()));
        check(success(vec![nest(success(reads(3)))]), Err(ApiError::TooManyOps));
        check(
            success(vec![nest(Txn { success: reads(1), ..Txn::default() }), nest(failure(reads(1)))]),
            Ok(()),
        );
        check(success(vec![nest(success(vec![nest(success(vec![nest(Txn::default())]))]))]), Ok(()));
        check(
            success(vec![nest(success(vec![nest(success(vec![nest(success(reads(1)))]))]))]),
            Err(ApiError::TooManyOps),
        );

        // Too many comes before everything else, compares before operations, success before failure.
        check(success(vec![Op::Unset; 4]), Err(ApiError::TooManyOps));
        check(
            Txn { compare: vec![compare(b"")], success: vec![Op::Unset], ..Txn::default() },
            Err(ApiError::EmptyKey),
        );
        check(success(vec![Op::Unset, Op::Put(put(b""))]), Err(ApiError::KeyNotFound));
        check(Txn { success: vec![Op::Put(put(b""))], ..failure(vec![Op::Unset]) }, Err(ApiError::EmptyKey));
        let unsorted = Range { order: SortOrder::Unknown(9), ..range(b"a") };
        check(failure(vec![Op::Range(unsorted)]), Err(ApiError::InvalidSortOption));
        check(success(vec![nest(failure(vec![Op::Unset]))]), Err(ApiError::KeyNotFound));

        // Overlap comes last, and covers both branches.
        let twice = || vec![Op::Put(put(b"k")), Op::Put(put(b"k"))];
        check(success(twice()), Err(ApiError::DuplicateKey));
        check(failure(twice()), Err(ApiError::DuplicateKey));
        check(Txn { failure: vec![Op::Unset], ..success(twice()) }, Err(ApiError::KeyNotFound));
    }
}
