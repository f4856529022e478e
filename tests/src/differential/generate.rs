//! Calls from a seed: a small key space, so that they meet, and the store's revisions as the reference tells them,
//! so that old, compacted and future revisions are all asked for.

use crate::proto::etcdserverpb as pb;
use crate::random::Random;

use pb::compare::TargetUnion;
use pb::{CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::build::{compact, del, del_range, get, hash_kv, op, put, range};
use super::call::{Call, Outcome};

/// What a generated call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Put,
    PutOption,
    Get,
    Range,
    RangeOption,
    OldRange,
    Delete,
    DeleteRange,
    Txn,
    NestedTxn,
    Compact,
    Hash,
    Invalid,
}

impl Kind {
    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::PutOption => "put with options",
            Kind::Get => "get",
            Kind::Range => "range",
            Kind::RangeOption => "range with options",
            Kind::OldRange => "range at a revision",
            Kind::Delete => "delete",
            Kind::DeleteRange => "delete of a range",
            Kind::Txn => "txn",
            Kind::NestedTxn => "nested txn",
            Kind::Compact => "compact",
            Kind::Hash => "hash",
            Kind::Invalid => "invalid",
        }
    }
}

/// Each kind with its share of all calls in percent; none above 20.
const SHARES: [(Kind, u64); 13] = [
    (Kind::Put, 15),
    (Kind::PutOption, 8),
    (Kind::Get, 5),
    (Kind::Range, 8),
    (Kind::RangeOption, 14),
    (Kind::OldRange, 12),
    (Kind::Delete, 6),
    (Kind::DeleteRange, 4),
    (Kind::Txn, 12),
    (Kind::NestedTxn, 7),
    (Kind::Compact, 2),
    (Kind::Hash, 2),
    (Kind::Invalid, 5),
];

/// Neighbours, prefixes of each other, and bytes at both ends.
const KEYS: [&[u8]; 22] = [
    b"\0",
    b"a",
    b"a\0",
    b"a\0\0",
    b"aa",
    b"ab",
    b"ab\xff",
    b"ac",
    b"b",
    b"b/1",
    b"b/2",
    b"b/3",
    b"b/4",
    b"b0",
    b"c",
    b"long key that shares a prefix 1",
    b"long key that shares a prefix 2",
    b"x\x7f",
    b"x\x80",
    b"\xff",
    b"\xff\0",
    b"\xff\xff",
];

/// The generator.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    /// The newest revision that the reference has told.
    revision: i64,
    /// The newest compaction that it accepted.
    compacted: i64,
    /// Whether the transaction that is made may keep values or leases. If so it deletes no key to the end of all
    /// keys: that overlap goes unseen, and a put with ignore_value after it finds no key and crashes etcd 3.6.16,
    /// again at every start.
    keeping: bool,
}

impl Generator {
    /// One that gives the same calls for the same seed and answers.
    pub fn new(seed: u64) -> Generator {
        Generator { random: Random::new(seed), revision: 1, compacted: 0, keeping: true }
    }

    /// The next call.
    pub fn call(&mut self) -> (Kind, Call) {
        let index = self.random.weighted(SHARES.iter().map(|&(_, share)| share));
        let kind = SHARES[index].0;
        let call = match kind {
            Kind::Put => put(self.key(), self.value()).into(),
            Kind::PutOption => self.put_option().into(),
            Kind::Get => get(self.key()).into(),
            Kind::Range => self.interval().into(),
            Kind::RangeOption => self.range_option().into(),
            Kind::OldRange => RangeRequest { revision: self.old_revision(), ..self.range_option() }.into(),
            Kind::Delete => DeleteRangeRequest { prev_kv: self.random.percent(50), ..del(self.key()) }.into(),
            Kind::DeleteRange => self.delete_range().into(),
            Kind::Txn => self.whole_txn(0).into(),
            Kind::NestedTxn => self.whole_txn(2).into(),
            Kind::Compact => self.compaction().into(),
            Kind::Hash => hash_kv(self.hash_revision()).into(),
            Kind::Invalid => self.invalid(),
        };
        (kind, call)
    }

    /// Learns from the reference's answer.
    pub fn observe(&mut self, call: &Call, outcome: &Outcome) {
        if let Some(revision) = outcome.revision() {
            self.revision = self.revision.max(revision);
            if let Call::Compact(request) = call {
                self.compacted = self.compacted.max(request.revision);
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.random.pick(&KEYS).to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => Vec::new(),
            1 => vec![b'v'; 5_000],
            2 => self.key(),
            few => vec![b'v', b'0' + few as u8],
        }
    }

    fn put_option(&mut self) -> PutRequest {
        let mut request = put(self.key(), self.value());
        request.prev_kv = self.random.percent(60);
        if self.random.percent(30) {
            request.ignore_value = true;
            request.value.clear();
        }
        request.ignore_lease = self.random.percent(30);
        if self.random.percent(5) {
            request.lease = 4_242;
        }
        request
    }

    fn end(&mut self, key: &[u8]) -> Vec<u8> {
        match self.random.below(6) {
            0 => Vec::new(),
            1 => b"\0".to_vec(),
            2 => [key, b"\0"].concat(),
            3 => prefix_end(key),
            _ => self.key(),
        }
    }

    fn interval(&mut self) -> RangeRequest {
        let key = self.key();
        range(key.clone(), self.end(&key))
    }

    fn range_option(&mut self) -> RangeRequest {
        let mut request = self.interval();
        request.limit = *self.random.pick(&[0, 0, 0, 1, 2, 3, 7, -1, i64::MAX]);
        request.serializable = self.random.percent(20);
        request.keys_only = self.random.percent(15);
        request.count_only = self.random.percent(10);
        if self.random.percent(40) {
            request.sort_order = self.random.between(0, 2) as i32;
            request.sort_target = self.random.between(0, 4) as i32;
        }
        if self.random.percent(30) {
            let bound = self.bound();
            match self.random.below(4) {
                0 => request.min_mod_revision = bound,
                1 => request.max_mod_revision = bound,
                2 => request.min_create_revision = bound,
                _ => request.max_create_revision = bound,
            }
        }
        request
    }

    /// A revision for a filter: mostly near the present.
    fn bound(&mut self) -> i64 {
        match self.random.below(10) {
            0 => -1,
            1 => self.revision + 1,
            2 => self.random.between(1, self.revision),
            _ => self.random.between((self.revision - 40).max(1), self.revision),
        }
    }

    /// A revision to read at: mostly readable, sometimes compacted, future or not positive.
    fn old_revision(&mut self) -> i64 {
        match self.random.below(20) {
            0 => -1,
            1 => self.revision + 1,
            2 => self.random.between(0, self.compacted),
            3 => self.compacted,
            4 => self.compacted + 1,
            5 => self.revision,
            _ => self.random.between(self.compacted.max(1), self.revision),
        }
    }

    /// A revision to hash at: not that of a compaction, which has a hash of its own once it is done, whenever that is.
    fn hash_revision(&mut self) -> i64 {
        match self.random.below(4) {
            0 => 0,
            _ if self.revision <= self.compacted => 0,
            _ => self.random.between(self.compacted + 1, self.revision),
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        // All keys at once would leave the store empty too often.
        let range_end = match self.end(&key) {
            end if end == b"\0" && self.random.percent(80) => prefix_end(&key),
            end => end,
        };
        DeleteRangeRequest { prev_kv: self.random.percent(50), ..del_range(key, range_end) }
    }

    fn whole_txn(&mut self, depth: u32) -> TxnRequest {
        self.keeping = self.random.percent(50);
        self.txn(depth)
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compare = (0..self.random.below(4)).map(|_| self.compare()).collect();
        let success = self.ops(depth);
        let failure = self.ops(depth);
        TxnRequest { compare, success, failure }
    }

    fn ops(&mut self, depth: u32) -> Vec<RequestOp> {
        (0..self.random.below(5)).map(|_| self.op(depth)).collect()
    }

    fn op(&mut self, depth: u32) -> RequestOp {
        if depth > 0 && self.random.percent(45) {
            return op(self.txn(depth - 1));
        }
        match self.random.below(10) {
            0..3 => op(put(self.key(), self.value())),
            3 if self.keeping => op(self.put_option()),
            3 => op(PutRequest { prev_kv: true, ..put(self.key(), self.value()) }),
            4 => op(DeleteRangeRequest { prev_kv: self.random.percent(50), ..del(self.key()) }),
            5 => match self.delete_range() {
                request if self.keeping && request.range_end == "\0" => op(del(request.key)),
                request => op(request),
            },
            6 => op(RangeRequest { revision: self.old_revision(), ..self.range_option() }),
            _ => op(self.range_option()),
        }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let target = self.random.below(5) as i32;
        // A union of another target now and then, and none at all.
        let union = if self.random.percent(5) { self.random.below(6) as i32 } else { target };
        let number = if self.random.percent(50) { self.random.between(0, 4) } else { self.bound() };
        let target_union = match union {
            0 => Some(TargetUnion::Version(number)),
            1 => Some(TargetUnion::CreateRevision(number)),
            2 => Some(TargetUnion::ModRevision(number)),
            3 => Some(TargetUnion::Value(self.value().into())),
            4 => Some(TargetUnion::Lease(self.random.between(0, 1))),
            _ => None,
        };
        let result = if self.random.percent(3) { 9 } else { self.random.below(4) as i32 };
        let target = if self.random.percent(3) { 9 } else { target };
        let range_end = if self.random.percent(25) { self.end(&key) } else { Vec::new() };
        Compare { result, target, key: key.into(), range_end: range_end.into(), target_union }
    }

    fn compaction(&mut self) -> CompactionRequest {
        let physical = self.random.percent(50);
        let revision = match self.random.below(10) {
            0 => self.revision + 1,
            1 => self.compacted,
            2 => self.random.between(-1, self.compacted),
            3 => self.revision,
            // Most leave a tail to read at.
            _ => self.random.between(self.compacted, self.revision - (self.revision - self.compacted) / 3),
        };
        CompactionRequest { physical, ..compact(revision) }
    }

    fn invalid(&mut self) -> Call {
        match self.random.below(10) {
            0 => get("").into(),
            1 => put("", self.value()).into(),
            2 => del("").into(),
            3 => RangeRequest { sort_order: 3, ..self.interval() }.into(),
            4 => RangeRequest { sort_target: -1, ..self.interval() }.into(),
            5 => PutRequest { ignore_value: true, ..put(self.key(), "v") }.into(),
            6 => PutRequest { ignore_lease: true, lease: 1, ..put(self.key(), "") }.into(),
            7 => PutRequest { lease: -7, ..put(self.key(), "v") }.into(),
            8 => {
                let key = self.key();
                TxnRequest {
                    success: vec![op(put(key.clone(), "1")), op(put(key, "2"))],
                    ..Default::default()
                }
                .into()
            }
            _ => TxnRequest { success: vec![op(get("a")); 129], ..Default::default() }.into(),
        }
    }
}

fn prefix_end(key: &[u8]) -> Vec<u8> {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    b"\0".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_and_whole() {
        assert_eq!(SHARES.iter().map(|&(_, share)| share).sum::<u64>(), 100);
        assert!(SHARES.iter().all(|&(_, share)| (1..=20).contains(&share)));
    }

    #[test]
    fn seeds_repeat() {
        let calls = |seed| {
            let mut generator = Generator::new(seed);
            (0..100).map(|_| generator.call()).collect::<Vec<_>>()
        };
        assert_eq!(calls(3), calls(3));
        assert_ne!(calls(3), calls(4));
    }

    #[test]
    fn prefixes_end_where_they_should() {
        let check = |key: &[u8], end: &[u8]| assert_eq!(prefix_end(key), end);
        check(b"a", b"b");
        check(b"a\xff", b"b");
        check(b"\xff\xff", b"\0");
    }
}
