//! What a client gets back: revisions, counts and pointers into the history, never copies of values.
//!
//! A record's bytes are already in wire form, so an answer only needs to name it by [`Seq`]; the bytes are copied
//! once, into the connection's send buffer, when the answer is encoded. An answer of any size therefore costs eight
//! bytes a key until then, and a long one ([`Kvs::Walk`]) not even that.

use crate::mvcc::range::LongList;
use crate::request::{AlarmKind, LeaseCheckpoint};
use crate::types::{LeaseId, Member, Revision, Seq};

/// Answer of one request; `revision` is what the header shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Of a range.
    Range(RangeAnswer),
    /// Of a put.
    Put(PutAnswer),
    /// Of a delete.
    DeleteRange(DeleteAnswer),
    /// Of a transaction.
    Txn(TxnAnswer),
    /// Of a compaction: the current revision.
    Compact {
        /// For the header.
        revision: Revision,
    },
    /// Of an alarm request.
    Alarm {
        /// For the header.
        revision: Revision,
        /// (member id, alarm), in ascending order.
        alarms: Vec<(u64, AlarmKind)>,
    },
    /// Of a lease that was granted.
    LeaseGrant {
        /// For the header.
        revision: Revision,
        /// The lease.
        id: LeaseId,
        /// Its seconds to live, which may be more than asked for.
        ttl: i64,
    },
    /// Of a lease that was revoked.
    LeaseRevoke {
        /// For the header: the one that deleted its keys, or the current one if it had none.
        revision: Revision,
        /// The lease.
        id: LeaseId,
    },
    /// Of a checkpoint of leases.
    LeaseCheckpoint {
        /// For the header.
        revision: Revision,
        /// What was told.
        checkpoints: Vec<LeaseCheckpoint>,
    },
    /// Of a change of a member.
    Members {
        /// The current one; headers of this service do not show it.
        revision: Revision,
        /// All members after the change, ascending by id.
        members: Vec<Member>,
    },
}

/// Keys and counts a range found.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAnswer {
    /// For the header: the store's revision when it was read.
    pub revision: Revision,
    /// The revision that was read.
    pub read_at: Revision,
    /// The list.
    pub kvs: Kvs,
    /// Whether the limit cut the list.
    pub more: bool,
    /// Keys alive in the range, whatever limit and filters say.
    pub count: i64,
}

/// The key-value pairs of an answer, not yet read.
#[derive(Clone, Debug, PartialEq)]
pub enum Kvs {
    /// Records in answer order.
    List(KvList),
    /// So many that the answer walks the index again while it is sent.
    Walk(Box<LongList>),
}

/// Records by sequence number, in answer order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvList {
    /// One record a pair.
    pub seqs: Vec<Seq>,
    /// Sum over all pairs of a `repeated KeyValue` field as it stands in the answer: tag, length and message.
    pub encoded_len: u64,
    /// Values are left out; lengths above already say so.
    pub keys_only: bool,
}

/// Answer of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutAnswer {
    /// Revision of the write.
    pub revision: Revision,
    /// The previous version, if asked for and alive.
    pub prev: Option<Seq>,
}

/// Answer of a delete.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteAnswer {
    /// Revision of the delete, or the current one if nothing matched.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: i64,
    /// Their last versions in key order, if asked for.
    pub prev: KvList,
}

/// Answer of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct TxnAnswer {
    /// For the outer header.
    pub revision: Revision,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One a operation of the chosen branch.
    pub ops: Vec<OpAnswer>,
}

/// Answer of one operation of a transaction; its header carries the revision alone.
#[derive(Clone, Debug, PartialEq)]
pub enum OpAnswer {
    /// Of a range.
    Range(RangeAnswer),
    /// Of a put.
    Put(PutAnswer),
    /// Of a delete.
    DeleteRange(DeleteAnswer),
    /// Of a nested transaction, whose header is present and empty.
    Txn(TxnAnswer),
}
