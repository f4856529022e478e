//! What enters the log: one write request, as bytes that every member decodes the same way for ever.
//!
//! ```text
//!  offset  size
//!       0     1  format, 1
//!       1     1  kind
//!       2     2  reserved, 0
//!       4     8  request id: who proposed it and waits for the answer
//!      12     -  body, by kind
//! ```
//! All numbers are little endian; `bytes` is a 4-byte length and the content; `list` a 4-byte count and the items.
//!
//! | kind | body |
//! |---|---|
//! | 1 put | flags (1: prev_kv, 2: ignore_value, 4: ignore_lease), lease 8, key bytes, value to the end or bytes in a txn |
//! | 2 delete range | flags (1: prev_kv), range |
//! | 3 txn | list of compares, list of success ops, list of failure ops |
//! | 4 compact | flags (1: physical), revision 8 |
//! | 5 alarm | action 1, alarm 1, member 8 |
//! | 7 lease grant | lease 8, seconds to live 8 |
//! | 8 lease revoke | lease 8 |
//! | 9 lease checkpoint | list of lease 8 and seconds left 8 |
//!
//! A range is a tag (0 single, 1 unbounded, 2 before) with key bytes and, for 2, the bound. An operation is a tag and
//! its body: 0 unset, 1 put, 2 delete range, 3 txn, 6 range.
//!
//! Entries survive crashes and reach other members, so decoding trusts nothing; an undecodable committed entry is
//! damage, and the process stops.

use crate::request::{
    Alarm, AlarmAction, AlarmKind, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Filter,
    KeyRange, LeaseCheckpoint, LeaseGrant, Op, Put, Range, RangeEnd, SortOrder, SortTarget, Txn, Write,
};
use crate::types::LeaseId;

/// Names a request among all requests of all members and runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A decoded log entry; borrows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Who waits for the answer.
    pub id: RequestId,
    /// What to do.
    pub write: Write<'a>,
}

/// The bytes are not a command of a format this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;

const FORMAT: u8 = 1;
const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const ALARM: u8 = 5;
const RANGE: u8 = 6;
const LEASE_GRANT: u8 = 7;
const LEASE_REVOKE: u8 = 8;
const LEASE_CHECKPOINT: u8 = 9;
const UNSET: u8 = 0;

/// Nesting the decoder follows; requests are refused long before (protobuf stops at 100).
const DEPTH_MAX: usize = 128;

/// Appends the command's bytes to `out`.
pub fn encode(out: &mut Vec<u8>, id: RequestId, write: &Write<'_>) {
    let kind = match write {
        Write::Put(_) => PUT,
        Write::DeleteRange(_) => DELETE_RANGE,
        Write::Txn(_) => TXN,
        Write::Compact(_) => COMPACT,
        Write::Alarm(_) => ALARM,
        Write::LeaseGrant(_) => LEASE_GRANT,
        Write::LeaseRevoke(_) => LEASE_REVOKE,
        Write::LeaseCheckpoint(_) => LEASE_CHECKPOINT,
    };
    out.extend_from_slice(&[FORMAT, kind, 0, 0]);
    out.extend_from_slice(&id.0.to_le_bytes());
    match write {
        Write::Put(put) => {
            put_head(out, put);
            out.extend_from_slice(put.value);
        }
        Write::DeleteRange(delete) => put_delete(out, delete),
        Write::Txn(txn) => put_txn(out, txn),
        Write::Compact(compact) => {
            out.push(u8::from(compact.physical));
            out.extend_from_slice(&compact.revision.to_le_bytes());
        }
        Write::Alarm(alarm) => {
            out.extend_from_slice(&[alarm.action as u8, alarm.kind as u8]);
            out.extend_from_slice(&alarm.member.to_le_bytes());
        }
        Write::LeaseGrant(grant) => {
            out.extend_from_slice(&grant.id.0.to_le_bytes());
            out.extend_from_slice(&grant.ttl.to_le_bytes());
        }
        Write::LeaseRevoke(id) => out.extend_from_slice(&id.0.to_le_bytes()),
        Write::LeaseCheckpoint(checkpoints) => {
            put_count(out, checkpoints.len());
            for checkpoint in checkpoints {
                out.extend_from_slice(&checkpoint.id.0.to_le_bytes());
                out.extend_from_slice(&checkpoint.remaining.to_le_bytes());
            }
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("requests are smaller than 4 GiB").to_le_bytes());
}

fn put_head(out: &mut Vec<u8>, put: &Put<'_>) {
    out.push(u8::from(put.prev_kv) | u8::from(put.ignore_value) << 1 | u8::from(put.ignore_lease) << 2);
    out.extend_from_slice(&put.lease.0.to_le_bytes());
    put_bytes(out, put.key);
}

fn put_keys(out: &mut Vec<u8>, keys: &KeyRange<'_>) {
    let tag = match keys.end {
        RangeEnd::Single => 0,
        RangeEnd::Unbounded => 1,
        RangeEnd::Before(_) => 2,
    };
    out.push(tag);
    put_bytes(out, keys.key);
    if let RangeEnd::Before(bound) = keys.end {
        put_bytes(out, bound);
    }
}

fn put_delete(out: &mut Vec<u8>, delete: &DeleteRange<'_>) {
    out.push(u8::from(delete.prev_kv));
    put_keys(out, &delete.keys);
}

fn put_range(out: &mut Vec<u8>, range: &Range<'_>) {
    let flags =
        u8::from(range.serializable) | u8::from(range.keys_only) << 1 | u8::from(range.count_only) << 2;
    out.push(flags);
    put_keys(out, &range.keys);
    let order = match range.order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
        SortOrder::Unknown(n) => n,
    };
    let target = match range.target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
        SortTarget::Unknown(n) => n,
    };
    out.extend_from_slice(&order.to_le_bytes());
    out.extend_from_slice(&target.to_le_bytes());
    let Filter { min_mod, max_mod, min_create, max_create } = range.filter;
    for number in [range.limit, range.revision, min_mod, max_mod, min_create, max_create] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_txn(out: &mut Vec<u8>, txn: &Txn<'_>) {
    put_count(out, txn.compare.len());
    for compare in &txn.compare {
        put_compare(out, compare);
    }
    for ops in [&txn.success, &txn.failure] {
        put_count(out, ops.len());
        for op in ops {
            put_op(out, op);
        }
    }
}

fn put_op(out: &mut Vec<u8>, op: &Op<'_>) {
    match op {
        Op::Unset => out.push(UNSET),
        Op::Put(put) => {
            out.push(PUT);
            put_head(out, put);
            put_bytes(out, put.value);
        }
        Op::DeleteRange(delete) => {
            out.push(DELETE_RANGE);
            put_delete(out, delete);
        }
        Op::Txn(txn) => {
            out.push(TXN);
            put_txn(out, txn);
        }
        Op::Range(range) => {
            out.push(RANGE);
            put_range(out, range);
        }
    }
}

fn put_compare(out: &mut Vec<u8>, compare: &Compare<'_>) {
    put_keys(out, &compare.keys);
    let result = match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
        CompareResult::Unknown(n) => n,
    };
    out.extend_from_slice(&result.to_le_bytes());
    let (target, number) = match compare.target {
        CompareTarget::Version(n) => (0, n),
        CompareTarget::Create(n) => (1, n),
        CompareTarget::Mod(n) => (2, n),
        CompareTarget::Value(_) => (3, 0),
        CompareTarget::Lease(n) => (4, n),
        CompareTarget::Unknown(n) => (n, 0),
    };
    out.extend_from_slice(&target.to_le_bytes());
    match compare.target {
        CompareTarget::Value(value) => put_bytes(out, value),
        _ => out.extend_from_slice(&number.to_le_bytes()),
    }
}

/// Decodes a log entry's bytes.
pub fn decode(bytes: &[u8]) -> Result<Command<'_>, Undecodable> {
    let mut r = Reader { rest: bytes };
    let (format, kind, reserved, id) = (r.u8()?, r.u8()?, r.array::<2>()?, r.u64()?);
    if format != FORMAT || reserved != [0, 0] {
        return Err(Undecodable);
    }
    let write = match kind {
        PUT => {
            let head = r.put_head()?;
            Write::Put(Put { value: std::mem::take(&mut r.rest), ..head })
        }
        DELETE_RANGE => Write::DeleteRange(r.delete()?),
        TXN => Write::Txn(r.txn(DEPTH_MAX)?),
        COMPACT => Write::Compact(Compact { physical: r.flag()?, revision: r.i64()? }),
        ALARM => Write::Alarm(r.alarm()?),
        LEASE_GRANT => Write::LeaseGrant(LeaseGrant { id: r.lease()?, ttl: r.i64()? }),
        LEASE_REVOKE => Write::LeaseRevoke(r.lease()?),
        LEASE_CHECKPOINT => Write::LeaseCheckpoint(r.lease_checkpoints()?),
        _ => return Err(Undecodable),
    };
    if r.rest.is_empty() { Ok(Command { id: RequestId(id), write }) } else { Err(Undecodable) }
}

/// The request id of an entry without decoding the rest.
pub fn request_id(bytes: &[u8]) -> Result<RequestId, Undecodable> {
    let mut r = Reader { rest: bytes };
    r.array::<4>()?;
    Ok(RequestId(r.u64()?))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecodable> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Undecodable)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Undecodable> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, Undecodable> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Undecodable),
        }
    }

    fn i32(&mut self) -> Result<i32, Undecodable> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Undecodable> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Undecodable> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count of items that take at least one byte each, so that a hostile one cannot reserve memory.
    fn count(&mut self) -> Result<usize, Undecodable> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count <= self.rest.len() { Ok(count) } else { Err(Undecodable) }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Undecodable> {
        let len = self.count()?;
        let (content, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(content)
    }

    fn put_head(&mut self) -> Result<Put<'a>, Undecodable> {
        let flags = self.u8()?;
        if flags > 7 {
            return Err(Undecodable);
        }
        let lease = LeaseId(self.i64()?);
        let key = self.bytes()?;
        let (prev_kv, ignore_value, ignore_lease) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Ok(Put { key, value: &[], lease, prev_kv, ignore_value, ignore_lease })
    }

    fn keys(&mut self) -> Result<KeyRange<'a>, Undecodable> {
        let (tag, key) = (self.u8()?, self.bytes()?);
        let end = match tag {
            0 => RangeEnd::Single,
            1 => RangeEnd::Unbounded,
            2 => RangeEnd::Before(self.bytes()?),
            _ => return Err(Undecodable),
        };
        Ok(KeyRange { key, end })
    }

    fn delete(&mut self) -> Result<DeleteRange<'a>, Undecodable> {
        Ok(DeleteRange { prev_kv: self.flag()?, keys: self.keys()? })
    }

    fn range(&mut self) -> Result<Range<'a>, Undecodable> {
        let flags = self.u8()?;
        if flags > 7 {
            return Err(Undecodable);
        }
        let keys = self.keys()?;
        let order = match self.i32()? {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            n => SortOrder::Unknown(n),
        };
        let target = match self.i32()? {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            n => SortTarget::Unknown(n),
        };
        let (limit, revision) = (self.i64()?, self.i64()?);
        let filter = Filter {
            min_mod: self.i64()?,
            max_mod: self.i64()?,
            min_create: self.i64()?,
            max_create: self.i64()?,
        };
        let (serializable, keys_only, count_only) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Ok(Range { keys, limit, revision, order, target, serializable, keys_only, count_only, filter })
    }

    fn txn(&mut self, depth: usize) -> Result<Txn<'a>, Undecodable> {
        let depth = depth.checked_sub(1).ok_or(Undecodable)?;
        let mut txn = Txn::default();
        for _ in 0..self.count()? {
            txn.compare.push(self.compare()?);
        }
        for _ in 0..self.count()? {
            txn.success.push(self.op(depth)?);
        }
        for _ in 0..self.count()? {
            txn.failure.push(self.op(depth)?);
        }
        Ok(txn)
    }

    fn op(&mut self, depth: usize) -> Result<Op<'a>, Undecodable> {
        Ok(match self.u8()? {
            UNSET => Op::Unset,
            PUT => {
                let head = self.put_head()?;
                Op::Put(Put { value: self.bytes()?, ..head })
            }
            DELETE_RANGE => Op::DeleteRange(self.delete()?),
            TXN => Op::Txn(self.txn(depth)?),
            RANGE => Op::Range(self.range()?),
            _ => return Err(Undecodable),
        })
    }

    fn compare(&mut self) -> Result<Compare<'a>, Undecodable> {
        let keys = self.keys()?;
        let result = match self.i32()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            n => CompareResult::Unknown(n),
        };
        let target = match self.i32()? {
            0 => CompareTarget::Version(self.i64()?),
            1 => CompareTarget::Create(self.i64()?),
            2 => CompareTarget::Mod(self.i64()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.i64()?),
            n => {
                self.i64()?;
                CompareTarget::Unknown(n)
            }
        };
        Ok(Compare { keys, result, target })
    }

    fn alarm(&mut self) -> Result<Alarm, Undecodable> {
        let action = match self.u8()? {
            0 => AlarmAction::Get,
            1 => AlarmAction::Activate,
            2 => AlarmAction::Deactivate,
            _ => return Err(Undecodable),
        };
        let kind = match self.u8()? {
            0 => AlarmKind::None,
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            _ => return Err(Undecodable),
        };
        Ok(Alarm { action, kind, member: self.u64()? })
    }

    fn lease(&mut self) -> Result<LeaseId, Undecodable> {
        self.i64().map(LeaseId)
    }

    fn lease_checkpoints(&mut self) -> Result<Vec<LeaseCheckpoint>, Undecodable> {
        let count = self.count()?;
        (0..count).map(|_| Ok(LeaseCheckpoint { id: self.lease()?, remaining: self.i64()? })).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<Write<'static>> {
        let range = Range {
            limit: -3,
            revision: 9,
            order: SortOrder::Unknown(7),
            target: SortTarget::Value,
            keys_only: true,
            filter: Filter { min_mod: 1, max_mod: -1, min_create: 0, max_create: i64::MAX },
            ..Range::of(KeyRange::new(b"a", b"b"))
        };
        let put = Put { key: b"k", value: b"v", lease: LeaseId(-1), prev_kv: true, ..Put::default() };
        let compare =
            |target| Compare { keys: KeyRange::new(b"c", b"\0"), result: CompareResult::Less, target };
        let nested = Txn { compare: vec![], success: vec![Op::Put(put), Op::Unset], failure: vec![] };
        vec![
            Write::Put(put),
            Write::Put(Put { value: b"", ignore_value: true, ..put }),
            Write::DeleteRange(DeleteRange { keys: KeyRange::new(b"k", b""), prev_kv: true }),
            Write::Txn(Txn {
                compare: vec![
                    compare(CompareTarget::Value(b"x")),
                    compare(CompareTarget::Unknown(9)),
                    compare(CompareTarget::Lease(4)),
                ],
                success: vec![Op::Range(range), Op::Txn(nested)],
                failure: vec![Op::DeleteRange(DeleteRange { keys: KeyRange::new(b"", b""), prev_kv: false })],
            }),
            Write::Compact(Compact { revision: -5, physical: true }),
            Write::Alarm(Alarm {
                action: AlarmAction::Deactivate,
                kind: AlarmKind::NoSpace,
                member: u64::MAX,
            }),
            Write::LeaseGrant(LeaseGrant { id: LeaseId(i64::MIN), ttl: 9_000_000_001 }),
            Write::LeaseRevoke(LeaseId(7)),
            Write::LeaseCheckpoint(vec![]),
            Write::LeaseCheckpoint(vec![
                LeaseCheckpoint { id: LeaseId(7), remaining: 600 },
                LeaseCheckpoint { id: LeaseId(-7), remaining: 0 },
            ]),
        ]
    }

    #[test]
    fn commands_come_back_as_they_were_written() {
        for write in sample() {
            let mut bytes = Vec::new();
            encode(&mut bytes, RequestId(77), &write);
            assert_eq!(request_id(&bytes), Ok(RequestId(77)));
            assert_eq!(decode(&bytes), Ok(Command { id: RequestId(77), write }));
        }
    }

    #[test]
    fn cut_or_stretched_commands_are_refused() {
        for write in sample() {
            let mut bytes = Vec::new();
            encode(&mut bytes, RequestId(1), &write);
            if !matches!(write, Write::Put(_)) {
                for cut in 0..bytes.len() {
                    assert_eq!(decode(&bytes[..cut]), Err(Undecodable), "{write:?} cut to {cut}");
                }
                bytes.push(0);
                assert_eq!(decode(&bytes), Err(Undecodable), "{write:?} with a byte more");
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..11) {
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&[FORMAT, kind, 0, 0]);
            }
            let _ = decode(&bytes);
        }
    }
}
