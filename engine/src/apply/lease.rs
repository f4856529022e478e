//! Granting, checkpointing and revoking leases (etcd's `server/lease`, what of it is replicated).

use std::collections::VecDeque;

use super::Answer;
use crate::error::ApiError;
use crate::lease::record::{Lease, TTL_MAX};
use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::index::entry::KeyEntry;
use crate::mvcc::store::Store;
use crate::mvcc::walk::Budget;
use crate::request::{LeaseCheckpoint, LeaseGrant};
use crate::response::Response;
use crate::seeded::{self, Bug};
use crate::types::LeaseId;

/// Keys a revocation looks up before it deletes them: the tree cannot be changed under a scan.
const REVOKE_BATCH: usize = 256;

/// Creates a lease.
pub fn grant<W: WritePages>(store: &mut Store<W>, grant: LeaseGrant) -> Result<Answer, Cold> {
    let LeaseGrant { id, ttl } = grant;
    if id == LeaseId::NONE {
        return Ok(Err(ApiError::LeaseNotFound));
    }
    if ttl > TTL_MAX {
        return Ok(Err(ApiError::LeaseTtlTooLarge));
    }
    if store.building().lease(id)?.is_some() {
        return Ok(Err(ApiError::LeaseExists));
    }
    store.put_lease(id, Lease { ttl, remaining: 0 })?;
    Ok(Ok(Response::LeaseGrant { revision: store.revision(), id, ttl }))
}

/// Remembers how long leases have left. Repeated from the beginning if a page is cold, which changes nothing.
pub fn checkpoint<W: WritePages>(
    store: &mut Store<W>,
    checkpoints: Vec<LeaseCheckpoint>,
) -> Result<Answer, Cold> {
    for &LeaseCheckpoint { id, remaining } in &checkpoints {
        if let Some(lease) = store.building().lease(id)? {
            store.put_lease(id, Lease { remaining, ..lease })?;
        }
    }
    Ok(Ok(Response::LeaseCheckpoint { revision: store.revision(), checkpoints }))
}

/// A lease being revoked: its keys are deleted in ascending order, in one transaction.
#[derive(Debug, Default)]
pub struct Revoking {
    /// Keys found and not yet deleted.
    batch: VecDeque<Vec<u8>>,
    /// No more keys will be found.
    exhausted: bool,
}

impl Revoking {
    /// True when all keys are deleted and the lease is gone.
    pub fn advance<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
        id: LeaseId,
    ) -> Result<bool, Cold> {
        loop {
            while let Some(key) = self.batch.front() {
                if !budget.spend() {
                    return Ok(false);
                }
                let entry = attached(store, id, key)?;
                store.delete(key, &entry)?;
                self.batch.pop_front();
                if seeded::is(Bug::SplitRevoke) {
                    store.end_transaction();
                }
            }
            if self.exhausted {
                store.remove_lease(id)?;
                return Ok(true);
            }
            if budget.0 == 0 {
                return Ok(false);
            }
            // Deleted keys have left the list, so it always goes on at the beginning.
            let batch = &mut self.batch;
            self.exhausted = store.building().lease_keys(id, None, |key| {
                batch.push_back(key.to_vec());
                batch.len() < REVOKE_BATCH
            })?;
        }
    }
}

/// The version of a key that its lease's list names.
fn attached<W: WritePages>(store: &Store<W>, id: LeaseId, key: &[u8]) -> Result<KeyEntry, Cold> {
    let entry = store.building().index.get(key)?.filter(|entry| entry.is_live() && entry.lease == id);
    entry.ok_or_else(|| {
        let key = key.escape_ascii();
        Cold::Damaged(format!("the index lists key {key} under lease {}, to which it is not attached", id.0))
    })
}
