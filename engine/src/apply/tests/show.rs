//! Answers as a client sees them, and as one line of text.

use std::fmt;

use crate::request::AlarmKind;
use crate::types::LeaseId;

/// A key-value pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: LeaseId,
}

/// An answer with its records read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Range {
        revision: i64,
        kvs: Vec<Kv>,
        more: bool,
        count: i64,
    },
    Put {
        revision: i64,
        prev: Option<Kv>,
    },
    Delete {
        revision: i64,
        deleted: i64,
        prev: Vec<Kv>,
    },
    /// A nested one shows no revision.
    Txn {
        revision: Option<i64>,
        succeeded: bool,
        ops: Vec<Shown>,
    },
    Compact {
        revision: i64,
    },
    Alarm {
        revision: i64,
        alarms: Vec<(u64, AlarmKind)>,
    },
    LeaseGrant {
        revision: i64,
        id: LeaseId,
        ttl: i64,
    },
    LeaseRevoke {
        revision: i64,
    },
    LeaseCheckpoint {
        revision: i64,
    },
}

/// `key=value` and created.modified.version, and the lease if there is one.
impl fmt::Display for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kv { key, value, created, modified, version, lease } = self;
        write!(f, " {}={} {created}.{modified}.{version}", key.escape_ascii(), value.escape_ascii())?;
        if *lease == LeaseId::NONE { Ok(()) } else { write!(f, " of {}", lease.0) }
    }
}

/// Name of the answer, `@revision`, then what it says.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Range { revision, kvs, more, count } => {
                write!(f, "range@{revision}")?;
                kvs.iter().try_for_each(|kv| kv.fmt(f))?;
                write!(f, "{} {count}", if *more { " more" } else { "" })
            }
            Shown::Put { revision, prev } => {
                write!(f, "put@{revision}")?;
                prev.iter().try_for_each(|kv| kv.fmt(f))
            }
            Shown::Delete { revision, deleted, prev } => {
                write!(f, "delete@{revision} {deleted}")?;
                prev.iter().try_for_each(|kv| kv.fmt(f))
            }
            Shown::Txn { revision, succeeded, ops } => {
                write!(f, "txn")?;
                revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
                write!(f, " {}", if *succeeded { "then" } else { "else" })?;
                ops.iter().try_for_each(|op| write!(f, " [{op}]"))
            }
            Shown::Compact { revision } => write!(f, "compact@{revision}"),
            Shown::Alarm { revision, alarms } => {
                write!(f, "alarm@{revision}")?;
                alarms.iter().try_for_each(|(member, kind)| write!(f, " {member}:{kind:?}"))
            }
            Shown::LeaseGrant { revision, id, ttl } => write!(f, "grant@{revision} {} for {ttl}", id.0),
            Shown::LeaseRevoke { revision } => write!(f, "revoke@{revision}"),
            Shown::LeaseCheckpoint { revision } => write!(f, "checkpoint@{revision}"),
        }
    }
}
