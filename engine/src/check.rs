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
