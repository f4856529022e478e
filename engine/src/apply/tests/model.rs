//! What etcd would answer, by the simplest means: the whole map of keys at every revision.

use std::collections::{BTreeMap, BTreeSet};

use super::show::{Kv, Shown};
use crate::error::ApiError;
use crate::lease::record::Lease;
use crate::request::{
    Alarm, AlarmAction, AlarmKind, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange,
    LeaseCheckpoint, LeaseGrant, Op, Put, Range, SortOrder, SortTarget, Txn, Write,
};
use crate::types::LeaseId;

/// Keys alive at one revision.
pub type Keys = BTreeMap<Vec<u8>, Kv>;

/// All revisions.
pub struct Model {
    /// The first is revision 1, the empty store.
    revisions: Vec<Keys>,
    compacted: i64,
    alarms: BTreeSet<(u64, AlarmKind)>,
    leases: BTreeMap<LeaseId, Lease>,
}

/// A transaction being executed; a single operation counts as one.
struct Open {
    /// The keys it leaves.
    keys: Keys,
    /// The revision before it.
    revision: i64,
    changed: bool,
}

impl Open {
    fn seen(&self) -> i64 {
        self.revision + i64::from(self.changed)
    }
}

impl Model {
    pub fn new() -> Model {
        Model {
            revisions: vec![Keys::new()],
            compacted: -1,
            alarms: BTreeSet::new(),
            leases: BTreeMap::new(),
        }
    }

    pub fn revision(&self) -> i64 {
        self.revisions.len() as i64
    }

    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Keys alive at a revision.
    pub fn keys_at(&self, revision: i64) -> &Keys {
        &self.revisions[revision as usize - 1]
    }

    pub fn leases(&self) -> &BTreeMap<LeaseId, Lease> {
        &self.leases
    }

    pub fn apply(&mut self, write: &Write<'_>) -> Result<Shown, ApiError> {
        let is_raised = |kind| self.alarms.iter().any(|(_, raised)| *raised == kind);
        if is_raised(AlarmKind::Corrupt) && !matches!(write, Write::Alarm(_) | Write::LeaseCheckpoint(_)) {
            return Err(ApiError::Corrupt);
        }
        let grows = match write {
            Write::Put(_) | Write::LeaseGrant(_) => true,
            Write::Txn(txn) => puts(txn),
            _ => false,
        };
        if grows && is_raised(AlarmKind::NoSpace) {
            return Err(ApiError::NoSpace);
        }
        match write {
            Write::Put(put) if !self.has_lease(put.lease) => Err(ApiError::LeaseNotFound),
            Write::Put(put) => {
                self.check(&Op::Put(*put))?;
                Ok(self.transact(|_, open| open.put(put)))
            }
            Write::DeleteRange(delete) => Ok(self.transact(|_, open| open.delete(delete))),
            Write::Txn(txn) => {
                self.check_path(txn)?;
                let mut shown = self.transact(|model, open| model.execute(open, txn));
                if let Shown::Txn { revision, .. } = &mut shown {
                    *revision = Some(self.revision());
                }
                Ok(shown)
            }
            Write::Compact(compact) if compact.revision <= self.compacted => Err(ApiError::Compacted),
            Write::Compact(compact) if compact.revision > self.revision() => Err(ApiError::FutureRevision),
            Write::Compact(compact) => {
                self.compacted = compact.revision;
                Ok(Shown::Compact { revision: self.revision() })
            }
            Write::Alarm(alarm) => Ok(self.alarm(alarm)),
            Write::LeaseGrant(grant) => self.grant(*grant),
            Write::LeaseRevoke(id) => {
                self.leases.remove(id).ok_or(ApiError::LeaseNotFound)?;
                self.transact(|_, open| open.revoke(*id));
                Ok(Shown::LeaseRevoke { revision: self.revision() })
            }
            Write::LeaseCheckpoint(checkpoints) => {
                for LeaseCheckpoint { id, remaining } in checkpoints {
                    self.leases.entry(*id).and_modify(|lease| lease.remaining = *remaining);
                }
                Ok(Shown::LeaseCheckpoint { revision: self.revision() })
            }
        }
    }

    fn grant(&mut self, grant: LeaseGrant) -> Result<Shown, ApiError> {
        let LeaseGrant { id, ttl } = grant;
        if id == LeaseId::NONE {
            return Err(ApiError::LeaseNotFound);
        }
        if ttl > 9_000_000_000 {
            return Err(ApiError::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(ApiError::LeaseExists);
        }
        self.leases.insert(id, Lease { ttl, remaining: 0 });
        Ok(Shown::LeaseGrant { revision: self.revision(), id, ttl })
    }

    fn has_lease(&self, id: LeaseId) -> bool {
        id == LeaseId::NONE || self.leases.contains_key(&id)
    }

    fn transact(&mut self, execute: impl FnOnce(&Model, &mut Open) -> Shown) -> Shown {
        let revision = self.revision();
        let mut open = Open { keys: self.keys_at(revision).clone(), revision, changed: false };
        let shown = execute(self, &mut open);
        if open.changed {
            self.revisions.push(open.keys);
        }
        shown
    }

    /// A range outside a transaction.
    pub fn range(&self, range: &Range<'_>) -> Result<Shown, ApiError> {
        let current = self.revision();
        match range.revision {
            ..=0 => Ok(list(self.keys_at(current), range, current)),
            asked if asked > current => Err(ApiError::FutureRevision),
            asked if asked < self.compacted => Err(ApiError::Compacted),
            asked => Ok(list(self.keys_at(asked), range, current)),
        }
    }

    /// A transaction that only reads.
    pub fn read(&self, txn: &Txn<'_>) -> Result<Shown, ApiError> {
        self.check_path(txn)?;
        let revision = self.revision();
        let mut open = Open { keys: self.keys_at(revision).clone(), revision, changed: false };
        let mut shown = self.execute(&mut open, txn);
        if let Shown::Txn { revision, .. } = &mut shown {
            *revision = Some(self.revision());
        }
        Ok(shown)
    }

    fn succeeds(&self, txn: &Txn<'_>) -> bool {
        txn.compare.iter().all(|compare| holds(self.keys_at(self.revision()), compare))
    }

    fn branch<'t, 'a>(&self, txn: &'t Txn<'a>) -> &'t [Op<'a>] {
        if self.succeeds(txn) { &txn.success } else { &txn.failure }
    }

    fn check_path(&self, txn: &Txn<'_>) -> Result<(), ApiError> {
        self.check_ops(self.branch(txn), &mut self.keys_at(self.revision()).clone())
    }

    /// `left` are the keys that deletes so far leave: keeping the value of another is what etcd dies of.
    fn check_ops(&self, ops: &[Op<'_>], left: &mut Keys) -> Result<(), ApiError> {
        ops.iter().try_for_each(|op| match op {
            Op::Txn(nested) => self.check_ops(self.branch(nested), left),
            Op::DeleteRange(delete) => {
                left.retain(|key, _| !delete.keys.contains(key));
                Ok(())
            }
            Op::Put(put) if (put.ignore_value || put.ignore_lease) && !left.contains_key(put.key) => {
                Err(ApiError::KeyNotFound)
            }
            op => self.check(op),
        })
    }

    fn check(&self, op: &Op<'_>) -> Result<(), ApiError> {
        match op {
            Op::Range(range) if range.revision > self.revision() => Err(ApiError::FutureRevision),
            Op::Range(range) if range.revision != 0 && range.revision < self.compacted => {
                Err(ApiError::Compacted)
            }
            Op::Put(put) => {
                let keys = self.keys_at(self.revision());
                if (put.ignore_value || put.ignore_lease) && !keys.contains_key(put.key) {
                    Err(ApiError::KeyNotFound)
                } else if !self.has_lease(put.lease) {
                    Err(ApiError::LeaseNotFound)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn execute(&self, open: &mut Open, txn: &Txn<'_>) -> Shown {
        let succeeded = self.succeeds(txn);
        let ops = self.branch(txn).iter().map(|op| match op {
            Op::Range(range) if range.revision > 0 && range.revision <= open.revision => {
                list(self.keys_at(range.revision), range, open.seen())
            }
            Op::Range(range) => list(&open.keys, range, open.seen()),
            Op::Put(put) => open.put(put),
            Op::DeleteRange(delete) => open.delete(delete),
            Op::Txn(nested) => self.execute(open, nested),
            Op::Unset => unreachable!("refused before"),
        });
        Shown::Txn { revision: None, succeeded, ops: ops.collect() }
    }

    fn alarm(&mut self, alarm: &Alarm) -> Shown {
        let Alarm { action, member, kind } = *alarm;
        let alarms = match action {
            AlarmAction::Get => {
                let wanted = |raised: &AlarmKind| kind == AlarmKind::None || *raised == kind;
                self.alarms.iter().copied().filter(|(_, raised)| wanted(raised)).collect()
            }
            _ if kind == AlarmKind::None => Vec::new(),
            AlarmAction::Activate => {
                self.alarms.insert((member, kind));
                vec![(member, kind)]
            }
            AlarmAction::Deactivate => self.alarms.take(&(member, kind)).into_iter().collect(),
        };
        Shown::Alarm { revision: self.revision(), alarms }
    }
}

impl Open {
    fn put(&mut self, put: &Put<'_>) -> Shown {
        let main = self.revision + 1;
        let prev = self.keys.get(put.key).cloned();
        let (created, version) = prev.as_ref().map_or((main, 1), |kv| (kv.created, kv.version + 1));
        let value = match &prev {
            Some(kv) if put.ignore_value => kv.value.clone(),
            _ => put.value.to_vec(),
        };
        let lease = match &prev {
            Some(kv) if put.ignore_lease => kv.lease,
            _ => put.lease,
        };
        let kv = Kv { key: put.key.to_vec(), value, created, modified: main, version, lease };
        self.keys.insert(put.key.to_vec(), kv);
        self.changed = true;
        Shown::Put { revision: main, prev: prev.filter(|_| put.prev_kv) }
    }

    fn revoke(&mut self, id: LeaseId) -> Shown {
        let before = self.keys.len();
        self.keys.retain(|_, kv| kv.lease != id);
        self.changed = self.keys.len() < before;
        Shown::LeaseRevoke { revision: self.seen() }
    }

    fn delete(&mut self, delete: &DeleteRange<'_>) -> Shown {
        let gone: Vec<Kv> = inside(&self.keys, delete.keys).cloned().collect();
        for kv in &gone {
            self.keys.remove(&kv.key);
        }
        self.changed |= !gone.is_empty();
        let deleted = gone.len() as i64;
        Shown::Delete { revision: self.seen(), deleted, prev: if delete.prev_kv { gone } else { Vec::new() } }
    }
}

fn puts(txn: &Txn<'_>) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Txn(nested) => puts(nested),
        op => matches!(op, Op::Put(_)),
    })
}

fn inside<'k>(keys: &'k Keys, range: KeyRange<'_>) -> impl Iterator<Item = &'k Kv> {
    keys.values().filter(move |kv| range.contains(&kv.key))
}

fn holds(keys: &Keys, compare: &Compare<'_>) -> bool {
    let found: Vec<&Kv> = inside(keys, compare.keys).collect();
    let holds = |kv: Option<&Kv>| {
        let number = |of: fn(&Kv) -> i64| kv.map_or(0, of);
        let order = match compare.target {
            CompareTarget::Version(given) => number(|kv| kv.version).cmp(&given),
            CompareTarget::Create(given) => number(|kv| kv.created).cmp(&given),
            CompareTarget::Mod(given) => number(|kv| kv.modified).cmp(&given),
            CompareTarget::Lease(given) => number(|kv| kv.lease.0).cmp(&given),
            CompareTarget::Value(given) => match kv {
                Some(kv) => kv.value.as_slice().cmp(given),
                None => return false,
            },
            CompareTarget::Unknown(_) => 0.cmp(&0),
        };
        match compare.result {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
            CompareResult::Unknown(_) => true,
        }
    };
    if found.is_empty() { holds(None) } else { found.into_iter().all(|kv| holds(Some(kv))) }
}

/// etcd's steps, one after the other.
fn list(keys: &Keys, range: &Range<'_>, revision: i64) -> Shown {
    let mut kvs: Vec<Kv> = inside(keys, range.keys).cloned().collect();
    let count = kvs.len() as i64;
    let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0);
    let filter = range.filter;
    if let Some(limit) = limit
        && range.order == SortOrder::None
        && filter.is_off()
    {
        kvs.truncate(limit.saturating_add(1));
    }
    kvs.retain(|kv| filter.max_mod == 0 || kv.modified <= filter.max_mod);
    kvs.retain(|kv| filter.min_mod == 0 || kv.modified >= filter.min_mod);
    kvs.retain(|kv| filter.max_create == 0 || kv.created <= filter.max_create);
    kvs.retain(|kv| filter.min_create == 0 || kv.created >= filter.min_create);
    // Up to twelve pairs etcd's sort keeps the order of equal ones, in both directions.
    let descending = range.order == SortOrder::Descend;
    kvs.sort_by(|a, b| {
        let (a, b) = if descending { (b, a) } else { (a, b) };
        match range.target {
            SortTarget::Key | SortTarget::Unknown(_) => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.created.cmp(&b.created),
            SortTarget::Mod => a.modified.cmp(&b.modified),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    });
    if range.count_only {
        kvs.clear();
    }
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    kvs.truncate(limit.unwrap_or(usize::MAX));
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    Shown::Range { revision, kvs, more, count }
}
