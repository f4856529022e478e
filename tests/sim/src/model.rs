//! What etcd would answer: every version of every key in a map, and requests carried out on it as etcd's documents
//! say. Slow, small, and without a line of the engine's: it is what the engine is judged by.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use engine::error::ApiError;
use engine::request::{AlarmAction, AlarmKind, CompareResult, SortOrder, SortTarget};

use crate::call::{Compare, Keys, Kv, MEMBER, Op, Range, Reply, Request, Target, Txn};

/// What one transaction did to one key; without a `kv` it deleted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// What it is from now on.
    pub kv: Option<Kv>,
}

/// All versions of all keys up to a revision.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Versions of a key, ascending: (revision, what it is from then on).
    keys: BTreeMap<Bytes, Vec<(i64, Option<Kv>)>>,
    /// What each revision changed, from 2 on.
    changes: Vec<Vec<Change>>,
}

/// Where and when a request is carried out.
#[derive(Clone, Debug)]
pub struct At {
    /// The revision before it.
    pub revision: i64,
    /// The compaction revision, -1 for none.
    pub compacted: i64,
    /// Whether the NOSPACE alarm is raised.
    pub no_space: bool,
    /// Whether the lease that the request names exists.
    pub lease: bool,
}

impl Model {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        1 + self.changes.len() as i64
    }

    /// What a revision changed.
    pub fn changes(&self, revision: i64) -> &[Change] {
        let nth = usize::try_from(revision - 2).ok();
        nth.and_then(|nth| self.changes.get(nth)).map_or(&[], Vec::as_slice)
    }

    /// Adds the next revision.
    pub fn push(&mut self, changes: Vec<Change>) {
        let revision = self.revision() + 1;
        for Change { key, kv } in &changes {
            self.keys.entry(key.clone()).or_default().push((revision, kv.clone()));
        }
        self.changes.push(changes);
    }

    /// What a key is at a revision.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&Kv> {
        let versions = self.keys.get(key)?;
        let (_, kv) = versions.iter().rev().find(|(modified, _)| *modified <= revision)?;
        kv.as_ref()
    }

    /// What revoking a lease changes at a revision: its keys go, in their order.
    pub fn revoked(&self, lease: i64, revision: i64) -> Vec<Change> {
        let attached =
            self.keys.keys().filter(|key| self.get(key, revision).is_some_and(|kv| kv.lease == lease));
        attached.map(|key| Change { key: key.clone(), kv: None }).collect()
    }

    /// Carries a request out. Returns the answer and what becomes of which key.
    pub fn execute(&self, request: &Request, at: &At) -> (Reply, Vec<Change>) {
        let mut open = Open { model: self, at, overlay: BTreeMap::new(), changes: Vec::new() };
        let reply = match request {
            Request::Op(op) => open.request(op),
            Request::Compact(revision) => match *revision {
                revision if revision <= at.compacted => Err(ApiError::Compacted),
                revision if revision > at.revision => Err(ApiError::FutureRevision),
                _ => Ok(Reply::Compact { revision: at.revision }),
            },
            Request::Alarm(action, kind) => Ok(alarm(at, *action, *kind)),
            Request::Grant { .. } if at.no_space => Err(ApiError::NoSpace),
            Request::Grant { .. } if at.lease => Err(ApiError::LeaseExists),
            Request::Grant { .. } => Ok(Reply::Granted { revision: at.revision }),
            Request::Revoke(_) if !at.lease => Err(ApiError::LeaseNotFound),
            Request::Revoke(id) => Ok(open.revoke(*id)),
            Request::Renew(_) => unreachable!("a renewal has no place among revisions"),
        };
        (reply.unwrap_or_else(Reply::Refused), open.changes)
    }
}

fn alarm(at: &At, action: AlarmAction, kind: AlarmKind) -> Reply {
    let raised = at.no_space && matches!(kind, AlarmKind::None | AlarmKind::NoSpace);
    let listed = match action {
        AlarmAction::Get => raised,
        AlarmAction::Activate => true,
        AlarmAction::Deactivate => raised,
    };
    let alarms = if listed { vec![(MEMBER, AlarmKind::NoSpace)] } else { Vec::new() };
    Reply::Alarm { revision: at.revision, alarms }
}

/// A transaction under way: what it changed lies over what was before.
struct Open<'a> {
    model: &'a Model,
    at: &'a At,
    overlay: BTreeMap<Bytes, Option<Kv>>,
    changes: Vec<Change>,
}

impl Open<'_> {
    fn request(&mut self, op: &Op) -> Result<Reply, ApiError> {
        if let Op::Range(range) = op {
            self.check_range(range)?;
            return Ok(self.range(range));
        }
        if self.at.no_space && has_puts(op) {
            return Err(ApiError::NoSpace);
        }
        if let Op::Put { lease, .. } = op {
            // A single put asks for the lease first, one in a transaction for the key.
            self.check_lease(*lease)?;
        }
        self.check(op, &mut Vec::new())?;
        let path = self.decide(op);
        let mut reply = self.op(op, &mut path.into_iter());
        self.settle(&mut reply);
        Ok(reply)
    }

    fn check_lease(&self, lease: i64) -> Result<(), ApiError> {
        if lease == 0 || self.at.lease { Ok(()) } else { Err(ApiError::LeaseNotFound) }
    }

    fn revoke(&mut self, lease: i64) -> Reply {
        self.changes = self.model.revoked(lease, self.at.revision);
        Reply::Revoked { revision: self.seen() }
    }

    /// The revision that headers show.
    fn seen(&self) -> i64 {
        self.at.revision + i64::from(!self.changes.is_empty())
    }

    /// Transactions show the revision at their end, however deep they are nested.
    fn settle(&self, reply: &mut Reply) {
        if let Reply::Txn { revision, ops, .. } = reply {
            *revision = self.seen();
            ops.iter_mut().for_each(|op| self.settle(op));
        }
    }

    /// Branches of all transactions on the path, outermost first, as the state before all of it decides.
    fn decide(&self, op: &Op) -> Vec<bool> {
        let Op::Txn(txn) = op else { return Vec::new() };
        let mut path = vec![self.holds(txn)];
        for op in self.branch(txn) {
            path.extend(self.decide(op));
        }
        path
    }

    fn branch<'t>(&self, txn: &'t Txn) -> &'t [Op] {
        if self.holds(txn) { &txn.success } else { &txn.failure }
    }

    fn holds(&self, txn: &Txn) -> bool {
        txn.compare.iter().all(|compare| self.compare(compare))
    }

    fn compare(&self, compare: &Compare) -> bool {
        let found = self.before(&compare.keys, self.at.revision);
        if found.is_empty() {
            return holds(compare, None);
        }
        found.iter().all(|kv| holds(compare, Some(kv)))
    }

    /// What is refused before anything is done: judged by the state before it all, but for a put that keeps the value
    /// of a key which a delete before it takes away. (etcd dies of that one.)
    fn check<'t>(&self, op: &'t Op, deleted: &mut Vec<&'t Keys>) -> Result<(), ApiError> {
        match op {
            Op::Range(range) => self.check_range(range),
            Op::Put { key, ignore_value, lease, .. } => {
                let there = self.model.get(key, self.at.revision).is_some();
                let stays = !deleted.iter().any(|keys| keys.contains(key));
                let kept = !ignore_value || there && stays;
                if kept { self.check_lease(*lease) } else { Err(ApiError::KeyNotFound) }
            }
            Op::Delete { keys, .. } => {
                deleted.push(keys);
                Ok(())
            }
            Op::Txn(txn) => self.branch(txn).iter().try_for_each(|op| self.check(op, deleted)),
        }
    }

    fn check_range(&self, range: &Range) -> Result<(), ApiError> {
        match range.revision {
            0 => Ok(()),
            asked if asked > self.at.revision => Err(ApiError::FutureRevision),
            asked if asked < self.at.compacted => Err(ApiError::Compacted),
            _ => Ok(()),
        }
    }

    fn op(&mut self, op: &Op, path: &mut impl Iterator<Item = bool>) -> Reply {
        match op {
            Op::Range(range) => self.range(range),
            Op::Put { key, value, prev_kv, ignore_value, lease } => {
                let before = self.now(key);
                let modified = self.at.revision + 1;
                let kept = before.as_ref().filter(|_| *ignore_value).map(|kv| kv.value.clone());
                let kv = Kv {
                    key: key.clone(),
                    value: kept.unwrap_or_else(|| value.clone()),
                    created: before.as_ref().map_or(modified, |kv| kv.created),
                    modified,
                    version: before.as_ref().map_or(1, |kv| kv.version + 1),
                    lease: *lease,
                };
                self.change(key.clone(), Some(kv));
                Reply::Put { revision: self.seen(), prev: before.filter(|_| *prev_kv) }
            }
            Op::Delete { keys, prev_kv } => {
                let found = self.present(keys);
                found.iter().for_each(|kv| self.change(kv.key.clone(), None));
                let deleted = found.len() as i64;
                Reply::Delete {
                    revision: self.seen(),
                    deleted,
                    prev: if *prev_kv { found } else { Vec::new() },
                }
            }
            Op::Txn(txn) => {
                let succeeded = path.next().expect("a branch for each transaction");
                let branch = if succeeded { &txn.success } else { &txn.failure };
                let ops = branch.iter().map(|op| self.op(op, path)).collect();
                Reply::Txn { revision: 0, succeeded, ops }
            }
        }
    }

    fn change(&mut self, key: Bytes, kv: Option<Kv>) {
        self.overlay.insert(key.clone(), kv.clone());
        self.changes.push(Change { key, kv });
    }

    /// What the transaction sees under a key.
    fn now(&self, key: &Bytes) -> Option<Kv> {
        match self.overlay.get(key) {
            Some(kv) => kv.clone(),
            None => self.model.get(key, self.at.revision).cloned(),
        }
    }

    /// What it sees of a set of keys.
    fn present(&self, keys: &Keys) -> Vec<Kv> {
        let names = self.model.keys.keys().chain(self.overlay.keys());
        let mut names: Vec<&Bytes> = names.filter(|key| keys.contains(key)).collect();
        names.sort();
        names.dedup();
        names.into_iter().filter_map(|key| self.now(key)).collect()
    }

    /// What there was of a set of keys at a revision.
    fn before(&self, keys: &Keys, revision: i64) -> Vec<Kv> {
        let names = self.model.keys.keys().filter(|key| keys.contains(key));
        names.filter_map(|key| self.model.get(key, revision).cloned()).collect()
    }

    /// etcd's steps: fetch, filter, sort, cut.
    fn range(&self, range: &Range) -> Reply {
        let mut kvs = match range.revision {
            0 => self.present(&range.keys),
            revision => self.before(&range.keys, revision),
        };
        let count = kvs.len() as i64;
        let limit = usize::try_from(range.limit).unwrap_or(0);
        if limit > 0 && range.order == SortOrder::None && range.min_mod == 0 {
            kvs.truncate(limit + 1);
        }
        if range.min_mod != 0 {
            kvs.retain(|kv| kv.modified >= range.min_mod);
        }
        sort(&mut kvs, range.order, range.target);
        let more = limit > 0 && kvs.len() > limit && !range.count_only;
        if limit > 0 {
            kvs.truncate(limit);
        }
        if range.count_only {
            kvs.clear();
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Reply::Range { revision: self.seen(), kvs, more, count }
    }
}

fn has_puts(op: &Op) -> bool {
    match op {
        Op::Put { .. } => true,
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).any(has_puts),
        _ => false,
    }
}

fn sort(kvs: &mut [Kv], order: SortOrder, target: SortTarget) {
    let by = |a: &Kv, b: &Kv| match target {
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.created.cmp(&b.created),
        SortTarget::Mod => a.modified.cmp(&b.modified),
        SortTarget::Value => a.value.cmp(&b.value),
        _ => a.key.cmp(&b.key),
    };
    match order {
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
        _ => kvs.sort_by(by),
    }
}

fn holds(compare: &Compare, kv: Option<&Kv>) -> bool {
    let order = match &compare.target {
        Target::Version(given) => kv.map_or(0, |kv| kv.version).cmp(given),
        Target::Create(given) => kv.map_or(0, |kv| kv.created).cmp(given),
        Target::Mod(given) => kv.map_or(0, |kv| kv.modified).cmp(given),
        Target::Value(given) => match kv {
            Some(kv) => kv.value.cmp(given),
            None => return false,
        },
    };
    match compare.result {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Unknown(_) => true,
    }
}
