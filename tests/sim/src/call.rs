//! What simulated clients ask and what they get, owned, so that both outlive the call and the server.

use bytes::Bytes;
use engine::error::ApiError;
use engine::request::{
    self, AlarmAction, AlarmKind, CompareResult, Filter, KeyRange, SortOrder, SortTarget, Write,
};
use engine::types::LeaseId;

/// A set of keys, as etcd's `key` and `range_end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key.
    pub key: Bytes,
    /// Empty for one key, a zero byte for all that follow, or the bound.
    pub end: Bytes,
}

impl Keys {
    /// One key.
    pub fn one(key: Bytes) -> Keys {
        Keys { key, end: Bytes::new() }
    }

    /// All keys.
    pub fn all() -> Keys {
        Keys { key: Bytes::from_static(b"\0"), end: Bytes::from_static(b"\0") }
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            [] => key == self.key,
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        }
    }

    /// As the engine takes it.
    pub fn as_engine(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.end)
    }
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: Keys,
    /// At most this many, if not 0.
    pub limit: i64,
    /// At which revision; 0 for now.
    pub revision: i64,
    /// In which order.
    pub order: SortOrder,
    /// Ordered by what.
    pub target: SortTarget,
    /// Without values.
    pub keys_only: bool,
    /// Only the count.
    pub count_only: bool,
    /// Lowest mod revision kept; 0 for any.
    pub min_mod: i64,
    /// From whatever is published, without asking the leader.
    pub serializable: bool,
}

impl Range {
    /// Everything about `keys`.
    pub fn of(keys: Keys, revision: i64) -> Range {
        Range {
            keys,
            limit: 0,
            revision,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod: 0,
            serializable: false,
        }
    }

    /// In the engine's words.
    pub fn as_engine(&self) -> request::Range<'_> {
        request::Range {
            limit: self.limit,
            revision: self.revision,
            order: self.order,
            target: self.target,
            keys_only: self.keys_only,
            count_only: self.count_only,
            serializable: self.serializable,
            filter: Filter { min_mod: self.min_mod, ..Filter::default() },
            ..request::Range::of(self.keys.as_engine())
        }
    }
}

/// A guard of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys must satisfy it.
    pub keys: Keys,
    /// What must hold.
    pub result: CompareResult,
    /// Of what.
    pub target: Target,
}

/// What a guard looks at, and the value it compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Version within the generation.
    Version(i64),
    /// Create revision.
    Create(i64),
    /// Mod revision.
    Mod(i64),
    /// The value.
    Value(Bytes),
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// What happens then.
    pub success: Vec<Op>,
    /// What happens otherwise.
    pub failure: Vec<Op>,
}

impl Txn {
    /// In the engine's words.
    pub fn as_engine(&self) -> request::Txn<'_> {
        let compare = self.compare.iter().map(|compare| request::Compare {
            keys: compare.keys.as_engine(),
            result: compare.result,
            target: match &compare.target {
                Target::Version(given) => request::CompareTarget::Version(*given),
                Target::Create(given) => request::CompareTarget::Create(*given),
                Target::Mod(given) => request::CompareTarget::Mod(*given),
                Target::Value(given) => request::CompareTarget::Value(given),
            },
        });
        request::Txn {
            compare: compare.collect(),
            success: self.success.iter().map(Op::as_engine).collect(),
            failure: self.failure.iter().map(Op::as_engine).collect(),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read.
    Range(Range),
    /// A write.
    Put {
        /// The key.
        key: Bytes,
        /// The value; never written twice in a run.
        value: Bytes,
        /// Answer with the version before.
        prev_kv: bool,
        /// Keep the value that is there.
        ignore_value: bool,
        /// The lease to attach to, 0 for none. One request names one lease at most.
        lease: i64,
    },
    /// A delete.
    Delete {
        /// Which keys.
        keys: Keys,
        /// Answer with the versions before.
        prev_kv: bool,
    },
    /// A transaction.
    Txn(Txn),
}

impl Op {
    /// In the engine's words.
    pub fn as_engine(&self) -> request::Op<'_> {
        match self {
            Op::Range(range) => request::Op::Range(range.as_engine()),
            Op::Put { key, value, prev_kv, ignore_value, lease } => request::Op::Put(request::Put {
                key,
                value,
                lease: LeaseId(*lease),
                prev_kv: *prev_kv,
                ignore_value: *ignore_value,
                ignore_lease: false,
            }),
            Op::Delete { keys, prev_kv } => {
                request::Op::DeleteRange(request::DeleteRange { keys: keys.as_engine(), prev_kv: *prev_kv })
            }
            Op::Txn(txn) => request::Op::Txn(txn.as_engine()),
        }
    }

    /// The lease it names.
    fn lease(&self) -> Option<i64> {
        match self {
            Op::Put { lease, .. } => Some(*lease).filter(|lease| *lease != 0),
            Op::Txn(txn) => txn.success.iter().chain(&txn.failure).find_map(Op::lease),
            _ => None,
        }
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// An operation on keys.
    Op(Op),
    /// A compaction at this revision.
    Compact(i64),
    /// An alarm of the one member.
    Alarm(AlarmAction, AlarmKind),
    /// A lease; no id is granted twice.
    Grant {
        /// The lease.
        id: i64,
        /// Seconds to live.
        ttl: i64,
    },
    /// The end of a lease.
    Revoke(i64),
    /// All its time again for a lease.
    Renew(i64),
}

/// The one member's id, which alarms name.
pub const MEMBER: u64 = 0x3e;

impl Request {
    /// Whether it may see an older state after a restart.
    pub fn is_serializable(&self) -> bool {
        matches!(self, Request::Op(Op::Range(range)) if range.serializable)
    }

    /// The lease it names.
    pub fn lease(&self) -> Option<i64> {
        match self {
            Request::Op(op) => op.lease(),
            Request::Grant { id, .. } | Request::Revoke(id) | Request::Renew(id) => Some(*id),
            Request::Compact(_) | Request::Alarm(..) => None,
        }
    }

    /// As the engine takes it on; `None` for a read, which it serves from what is published.
    pub fn as_write(&self) -> Option<Write<'_>> {
        Some(match self {
            Request::Op(Op::Range(_)) => return None,
            Request::Op(op) => match op.as_engine() {
                request::Op::Put(put) => Write::Put(put),
                request::Op::DeleteRange(delete) => Write::DeleteRange(delete),
                request::Op::Txn(txn) if engine::apply::read_txn::is_read_only(&txn) => return None,
                request::Op::Txn(txn) => Write::Txn(txn),
                other => unreachable!("clients do not ask for {other:?}"),
            },
            Request::Grant { id, ttl } => {
                Write::LeaseGrant(request::LeaseGrant { id: LeaseId(*id), ttl: *ttl })
            }
            Request::Revoke(id) => Write::LeaseRevoke(LeaseId(*id)),
            Request::Renew(_) => return None,
            Request::Compact(revision) => {
                Write::Compact(request::Compact { revision: *revision, physical: false })
            }
            Request::Alarm(action, kind) => {
                Write::Alarm(request::Alarm { action: *action, member: MEMBER, kind: *kind })
            }
        })
    }
}

/// A version of a key, as etcd's `KeyValue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision that created the key.
    pub created: i64,
    /// Revision that wrote this version.
    pub modified: i64,
    /// Number within the generation.
    pub version: i64,
    /// The lease it is attached to, 0 for none.
    pub lease: i64,
}

/// An answer, every field of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of a range.
    Range {
        /// Header revision.
        revision: i64,
        /// The list.
        kvs: Vec<Kv>,
        /// The limit cut it.
        more: bool,
        /// Keys there are.
        count: i64,
    },
    /// Of a put.
    Put {
        /// Header revision.
        revision: i64,
        /// The version before, if asked for.
        prev: Option<Kv>,
    },
    /// Of a delete.
    Delete {
        /// Header revision.
        revision: i64,
        /// How many keys it deleted.
        deleted: i64,
        /// Their versions before, if asked for.
        prev: Vec<Kv>,
    },
    /// Of a transaction.
    Txn {
        /// Header revision.
        revision: i64,
        /// Which branch was taken.
        succeeded: bool,
        /// One answer an operation.
        ops: Vec<Reply>,
    },
    /// Of a compaction.
    Compact {
        /// Header revision.
        revision: i64,
    },
    /// Of an alarm request.
    Alarm {
        /// Header revision.
        revision: i64,
        /// What is, or was, raised.
        alarms: Vec<(u64, AlarmKind)>,
    },
    /// Of a grant.
    Granted {
        /// Header revision.
        revision: i64,
    },
    /// Of a revocation, which changed keys if there were any.
    Revoked {
        /// Header revision.
        revision: i64,
    },
    /// Of a renewal: seconds to live, 0 when there is no such lease.
    Renewed(i64),
    /// An error; nothing happened.
    Refused(ApiError),
}

impl Reply {
    /// The header revision.
    pub fn revision(&self) -> Option<i64> {
        match self {
            Reply::Range { revision, .. }
            | Reply::Put { revision, .. }
            | Reply::Delete { revision, .. }
            | Reply::Txn { revision, .. }
            | Reply::Compact { revision }
            | Reply::Alarm { revision, .. }
            | Reply::Granted { revision }
            | Reply::Revoked { revision } => Some(*revision),
            Reply::Renewed(_) | Reply::Refused(_) => None,
        }
    }

    /// Whether it says that keys were changed.
    pub fn is_change(&self) -> bool {
        match self {
            Reply::Put { .. } => true,
            Reply::Delete { deleted, .. } => *deleted > 0,
            Reply::Txn { ops, .. } => ops.iter().any(Reply::is_change),
            _ => false,
        }
    }
}
