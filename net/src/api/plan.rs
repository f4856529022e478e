//! The plan of an answer: everything but its records, written back to front, and where the records belong.
//!
//! Back to front, because the length of every nested message must stand before it: see `pb::back`. One pass over the
//! answer, however deep its transactions are nested.

use engine::request::AlarmKind;
use engine::response::{DeleteAnswer, KvList, Kvs, OpAnswer, PutAnswer, RangeAnswer, Response, TxnAnswer};

use super::cluster;
use super::encoder::Cut;
use super::header::{Header, Origin};
use super::records::{Cold, Records};
use crate::pb::back::Back;
use crate::pb::wire::len_field_len;

/// Field numbers of the answers.
pub(super) mod field {
    pub const RANGE_KVS: u32 = 2;
    pub const RANGE_MORE: u32 = 3;
    pub const RANGE_COUNT: u32 = 4;

    pub const PUT_PREV_KV: u32 = 2;

    pub const DELETE_DELETED: u32 = 2;
    pub const DELETE_PREV_KVS: u32 = 3;

    pub const TXN_SUCCEEDED: u32 = 2;
    pub const TXN_RESPONSES: u32 = 3;

    pub const ALARM_ALARMS: u32 = 2;

    pub const LEASE_GRANT_ID: u32 = 2;
    pub const LEASE_GRANT_TTL: u32 = 3;
}

/// A planned answer.
pub(super) struct Plan {
    /// Everything but the records.
    pub skeleton: Vec<u8>,
    /// Where records belong; the last comes first.
    pub cuts: Vec<Cut>,
    /// Length of the whole.
    pub encoded_len: u64,
}

/// Plans an answer, or gives it back if the length of a previous version is not known because its record is cold.
pub(super) fn plan(
    origin: Origin,
    answer: Response,
    records: &(impl Records + ?Sized),
) -> Result<Plan, (Response, Cold)> {
    if let Err(cold) = check_prev_warm(&answer, records) {
        return Err((answer, cold));
    }
    let mut planner = Planner { back: Back::default(), cuts: Vec::new(), records };
    planner.response(origin, answer);
    let Planner { back, cuts, .. } = planner;
    Ok(Plan { encoded_len: back.encoded_len(), skeleton: back.finish(), cuts })
}

/// An answer being planned, from its last byte to its first.
struct Planner<'r, R: ?Sized> {
    back: Back,
    cuts: Vec<Cut>,
    records: &'r R,
}

impl<R: Records + ?Sized> Planner<'_, R> {
    fn response(&mut self, origin: Origin, answer: Response) {
        match answer {
            Response::Range(answer) => self.range(origin.at(answer.revision), answer),
            Response::Put(answer) => self.put(origin.at(answer.revision), answer),
            Response::DeleteRange(answer) => self.delete_range(origin.at(answer.revision), answer),
            Response::Txn(answer) => self.txn(origin.at(answer.revision), answer),
            Response::Compact { revision } => self.header(origin.at(revision)),
            Response::Alarm { revision, alarms } => self.alarm(origin.at(revision), &alarms),
            Response::LeaseGrant { revision, id, ttl } => {
                self.back.varint_field(field::LEASE_GRANT_TTL, ttl as u64);
                self.back.varint_field(field::LEASE_GRANT_ID, id.0 as u64);
                self.header(origin.at(revision));
            }
            Response::LeaseRevoke { revision, .. } => self.header(origin.at(revision)),
            Response::LeaseCheckpoint { .. } => unreachable!("no client asks for a checkpoint of leases"),
            // Whatever was changed, it is the list that is answered.
            Response::Members { members, .. } => self.back.bytes(&cluster::member_list(origin, &members)),
        }
    }

    fn range(&mut self, header: Header, answer: RangeAnswer) {
        self.back.varint_field(field::RANGE_COUNT, answer.count as u64);
        self.back.varint_field(field::RANGE_MORE, u64::from(answer.more));
        match answer.kvs {
            Kvs::List(list) => self.list(field::RANGE_KVS, list),
            Kvs::Walk(walk) => {
                let behind = self.back.gap(walk.encoded_len);
                self.cuts.push(Cut::walk(behind, field::RANGE_KVS, walk));
            }
        }
        self.header(header);
    }

    fn put(&mut self, header: Header, answer: PutAnswer) {
        if let Some(seq) = answer.prev {
            let record = self.records.record(seq).expect("checked to be warm in the same call");
            let encoded_len = len_field_len(record.wire.len() as u64);
            self.list(field::PUT_PREV_KV, KvList { seqs: vec![seq], encoded_len, keys_only: false });
        }
        self.header(header);
    }

    fn delete_range(&mut self, header: Header, answer: DeleteAnswer) {
        self.list(field::DELETE_PREV_KVS, answer.prev);
        self.back.varint_field(field::DELETE_DELETED, answer.deleted as u64);
        self.header(header);
    }

    fn txn(&mut self, header: Header, answer: TxnAnswer) {
        for op in answer.ops.into_iter().rev() {
            let end = self.back.mark();
            let kind = self.op(op);
            self.back.close(kind, end);
            self.back.close(field::TXN_RESPONSES, end);
        }
        self.back.varint_field(field::TXN_SUCCEEDED, u64::from(answer.succeeded));
        self.header(header);
    }

    /// Returns the field number of the kind of answer in `ResponseOp`.
    fn op(&mut self, answer: OpAnswer) -> u32 {
        match answer {
            OpAnswer::Range(answer) => {
                self.range(Header::nested(answer.revision), answer);
                1
            }
            OpAnswer::Put(answer) => {
                self.put(Header::nested(answer.revision), answer);
                2
            }
            OpAnswer::DeleteRange(answer) => {
                self.delete_range(Header::nested(answer.revision), answer);
                3
            }
            OpAnswer::Txn(answer) => {
                self.txn(Header::default(), answer);
                4
            }
        }
    }

    fn alarm(&mut self, header: Header, alarms: &[(u64, AlarmKind)]) {
        for &(member, kind) in alarms.iter().rev() {
            let end = self.back.mark();
            self.back.varint_field(2, kind as u64);
            self.back.varint_field(1, member);
            self.back.close(field::ALARM_ALARMS, end);
        }
        self.header(header);
    }

    fn header(&mut self, header: Header) {
        self.back.bytes(header.field().as_slice());
    }

    fn list(&mut self, number: u32, list: KvList) {
        let behind = self.back.gap(list.encoded_len);
        self.cuts.push(Cut::list(behind, number, list));
    }
}

/// The lengths of previous versions of puts come from the records themselves, so these must be in memory.
fn check_prev_warm(answer: &Response, records: &(impl Records + ?Sized)) -> Result<(), Cold> {
    match answer {
        Response::Put(answer) => check_put_warm(answer, records),
        Response::Txn(answer) => check_txn_warm(answer, records),
        _ => Ok(()),
    }
}

fn check_put_warm(answer: &PutAnswer, records: &(impl Records + ?Sized)) -> Result<(), Cold> {
    answer.prev.map_or(Ok(()), |seq| records.record(seq).map(drop))
}

fn check_txn_warm(answer: &TxnAnswer, records: &(impl Records + ?Sized)) -> Result<(), Cold> {
    answer.ops.iter().try_for_each(|op| match op {
        OpAnswer::Put(answer) => check_put_warm(answer, records),
        OpAnswer::Txn(answer) => check_txn_warm(answer, records),
        OpAnswer::Range(_) | OpAnswer::DeleteRange(_) => Ok(()),
    })
}
