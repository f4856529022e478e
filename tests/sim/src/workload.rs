//! What simulated clients do: few keys, so that they get in each other's way, and values that are never written twice,
//! so that a value tells who wrote it.

use bytes::Bytes;
use engine::check;
use engine::disk::pcg::Pcg;
use engine::request::{AlarmAction, AlarmKind, CompareResult, SortOrder, SortTarget};

use crate::call::{Compare, Keys, Op, Range, Request, Target, Txn};

/// Shapes a run's requests.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Keys there are.
    keys: u64,
    /// Longest value.
    value_bytes_max: u64,
    /// Values written so far.
    written: u64,
    /// Leases asked for so far; their ids count up from here.
    leases: i64,
    first_lease: i64,
    /// The lease that the request being made may name, 0 for none.
    lease: i64,
}

/// etcd's default for `--max-txn-ops`.
const OPS_MAX: usize = 128;

impl Workload {
    /// A workload of its own for each seed.
    pub fn new(pcg: &mut Pcg) -> Workload {
        let keys = [3, 8, 40, 150][pcg.below(4) as usize];
        let value_bytes_max = [16, 64, 600, 6000][pcg.below(4) as usize];
        // A run that goes on with another's disk uses ids of its own.
        let first_lease = 1 + (pcg.below(1 << 40) as i64) * 1000;
        Workload { keys, value_bytes_max, written: 0, leases: 0, first_lease, lease: 0 }
    }

    /// The next request, when the store is at about `revision`.
    pub fn next(&mut self, pcg: &mut Pcg, revision: i64) -> Request {
        self.lease = if pcg.one_in(4) { self.some_lease(pcg) } else { 0 };
        if pcg.one_in(8) {
            return self.lease_request(pcg);
        }
        match pcg.below(100) {
            0..=39 => Request::Op(self.put(pcg)),
            40..=49 => Request::Op(self.delete(pcg)),
            50..=69 => Request::Op(Op::Range(self.range(pcg, revision))),
            70..=91 => Request::Op(self.txn(pcg, revision)),
            92..=95 => Request::Op(self.create_once(pcg)),
            96..=98 => Request::Compact(self.revision(pcg, revision)),
            _ => self.alarm(pcg),
        }
    }

    /// One of the newest, which may be gone; 0 if there was none.
    fn some_lease(&self, pcg: &mut Pcg) -> i64 {
        match self.leases {
            0 => 0,
            leases => self.first_lease + leases - 1 - pcg.below(leases.min(3) as u64) as i64,
        }
    }

    fn lease_request(&mut self, pcg: &mut Pcg) -> Request {
        let id = self.some_lease(pcg);
        match pcg.below(10) {
            0 | 1 if id != 0 => Request::Revoke(id),
            2..=7 if id != 0 => Request::Renew(id),
            _ => {
                self.leases += 1;
                let ttl = [2, 3, 30][pcg.below(3) as usize];
                Request::Grant { id: self.first_lease + self.leases - 1, ttl }
            }
        }
    }

    fn key(&self, pcg: &mut Pcg) -> Bytes {
        let number = pcg.below(self.keys);
        // Some are too long for a tree page's own slot.
        let tail = if number.is_multiple_of(11) { "x".repeat(700) } else { String::new() };
        Bytes::from(format!("k{number:03}{tail}"))
    }

    fn keys(&self, pcg: &mut Pcg) -> Keys {
        match pcg.below(6) {
            0 => Keys::all(),
            1 => Keys { key: self.key(pcg), end: Bytes::from_static(b"\0") },
            2 | 3 => Keys { key: self.key(pcg), end: self.key(pcg) },
            _ => Keys::one(self.key(pcg)),
        }
    }

    fn value(&mut self, pcg: &mut Pcg) -> Bytes {
        self.written += 1;
        let mut value = format!("v{}.", self.written).into_bytes();
        let len = pcg.below(self.value_bytes_max) as usize;
        value.resize(len.max(value.len()), b'a' + (self.written % 26) as u8);
        Bytes::from(value)
    }

    fn put(&mut self, pcg: &mut Pcg) -> Op {
        let ignore_value = pcg.one_in(20);
        let value = if ignore_value { Bytes::new() } else { self.value(pcg) };
        let lease = if pcg.one_in(2) { self.lease } else { 0 };
        Op::Put { key: self.key(pcg), value, prev_kv: pcg.one_in(2), ignore_value, lease }
    }

    fn delete(&mut self, pcg: &mut Pcg) -> Op {
        // Mostly single keys: a store that is always empty tests little.
        let keys = if pcg.one_in(4) { self.keys(pcg) } else { Keys::one(self.key(pcg)) };
        Op::Delete { keys, prev_kv: pcg.one_in(2) }
    }

    /// Now, or some time between the beginning and slightly in the future.
    fn revision(&self, pcg: &mut Pcg, revision: i64) -> i64 {
        match pcg.below(8) {
            0 => revision + 1 + pcg.below(3) as i64,
            1 | 2 => 1 + pcg.below(revision as u64) as i64,
            _ => (revision - pcg.below(30) as i64).max(1),
        }
    }

    fn range(&self, pcg: &mut Pcg, revision: i64) -> Range {
        let asked = if pcg.one_in(2) { 0 } else { self.revision(pcg, revision) };
        let mut range = Range::of(self.keys(pcg), asked);
        if pcg.one_in(3) {
            range.limit = 1 + pcg.below(6) as i64;
        }
        if pcg.one_in(4) {
            range.order = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][pcg.below(3) as usize];
            range.target = [
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ][pcg.below(5) as usize];
        }
        range.keys_only = pcg.one_in(6);
        range.count_only = pcg.one_in(6);
        if pcg.one_in(10) {
            range.min_mod = self.revision(pcg, revision);
        }
        // What was compacted when is left to the other reads.
        range.serializable = asked == 0 && pcg.one_in(3);
        range
    }

    fn compare(&self, pcg: &mut Pcg, revision: i64) -> Compare {
        let result =
            [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual]
                [pcg.below(4) as usize];
        let target = match pcg.below(4) {
            0 => Target::Version(pcg.below(4) as i64),
            1 => Target::Create(if pcg.one_in(2) { 0 } else { self.revision(pcg, revision) }),
            2 => Target::Mod(self.revision(pcg, revision)),
            _ => Target::Value(Bytes::from(format!("v{}", pcg.below(self.written + 1)))),
        };
        Compare { keys: self.keys(pcg), result, target }
    }

    fn txn(&mut self, pcg: &mut Pcg, revision: i64) -> Op {
        loop {
            let txn = self.txn_of(pcg, revision, 0);
            // What etcd would refuse before it does anything is not asked for.
            if check::check_txn(&txn.as_engine(), OPS_MAX).is_ok() {
                return Op::Txn(txn);
            }
        }
    }

    fn txn_of(&mut self, pcg: &mut Pcg, revision: i64, depth: u32) -> Txn {
        let compares = pcg.below(3);
        let compare = (0..compares).map(|_| self.compare(pcg, revision)).collect();
        let (success, failure) = (self.ops(pcg, revision, depth), self.ops(pcg, revision, depth));
        Txn { compare, success, failure }
    }

    fn ops(&mut self, pcg: &mut Pcg, revision: i64, depth: u32) -> Vec<Op> {
        let count = pcg.below(4);
        let op = |_| match pcg.below(10) {
            0..=4 => self.put(pcg),
            5 | 6 => self.delete(pcg),
            7 if depth < 2 => Op::Txn(self.txn_of(pcg, revision, depth + 1)),
            _ => Op::Range(self.range(pcg, revision)),
        };
        (0..count).map(op).collect()
    }

    /// The race for a key that only one may create.
    fn create_once(&mut self, pcg: &mut Pcg) -> Op {
        let key = self.key(pcg);
        let absent =
            Compare { keys: Keys::one(key.clone()), result: CompareResult::Equal, target: Target::Create(0) };
        let create = Op::Put {
            key: key.clone(),
            value: self.value(pcg),
            prev_kv: false,
            ignore_value: false,
            lease: self.lease,
        };
        Op::Txn(Txn {
            compare: vec![absent],
            success: vec![create],
            failure: vec![Op::Range(Range::of(Keys::one(key), 0))],
        })
    }

    fn alarm(&self, pcg: &mut Pcg) -> Request {
        let action =
            [AlarmAction::Activate, AlarmAction::Deactivate, AlarmAction::Deactivate, AlarmAction::Get]
                [pcg.below(4) as usize];
        Request::Alarm(action, AlarmKind::NoSpace)
    }
}
