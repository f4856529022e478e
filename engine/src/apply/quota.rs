//! What a write may add to the store, for the quota (etcd's `storage/quota.go`).
//!
//! The quota is judged where a request comes in, by the size of this member's files. It is not judged again when the
//! request is applied: members differ in size, and what they apply must not.

use crate::request::{Op, Put, Txn, Write};

/// etcd's allowance for what a version costs besides key and value, in bytes.
const PUT_OVERHEAD: u64 = 256;

/// etcd's allowance for a lease, in bytes.
const LEASE_COST: u64 = 64;

/// Bytes a write may add; 0 for one that adds none, which a full store takes too.
pub fn cost(write: &Write<'_>) -> u64 {
    match write {
        Write::Put(put) => put_cost(put),
        Write::Txn(txn) => txn_cost(txn),
        Write::LeaseGrant(_) => LEASE_COST,
        Write::DeleteRange(_) | Write::Compact(_) | Write::Alarm(_) => 0,
        Write::LeaseRevoke(_) | Write::LeaseCheckpoint(_) => 0,
    }
}

fn put_cost(put: &Put<'_>) -> u64 {
    PUT_OVERHEAD + put.key.len() as u64 + put.value.len() as u64
}

/// The dearer of the two branches.
fn txn_cost(txn: &Txn<'_>) -> u64 {
    let branch = |ops: &[Op<'_>]| -> u64 {
        let costs = ops.iter().map(|op| match op {
            Op::Put(put) => put_cost(put),
            Op::Txn(nested) => txn_cost(nested),
            Op::Range(_) | Op::DeleteRange(_) | Op::Unset => 0,
        });
        costs.sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::LeaseGrant;
    use crate::types::LeaseId;

    #[test]
    fn the_dearer_branch_counts_and_deletes_are_free() {
        let put = |len| Op::Put(Put { key: b"k", value: &[0; 1000][..len], ..Put::default() });
        let nested = Txn { success: vec![put(10)], failure: vec![put(20), put(0)], ..Txn::default() };
        let txn = Txn { success: vec![put(5)], failure: vec![Op::Txn(nested), Op::Unset], ..Txn::default() };
        assert_eq!(cost(&Write::Txn(txn)), 257 + 20 + 257);
        assert_eq!(cost(&Write::Txn(Txn::default())), 0);
        assert_eq!(cost(&Write::LeaseGrant(LeaseGrant { id: LeaseId(1), ttl: 60 })), 64);
        assert_eq!(cost(&Write::LeaseRevoke(LeaseId(1))), 0);
    }
}
