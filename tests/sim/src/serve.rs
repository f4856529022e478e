//! Calls under way: what `net` does for real clients, without sockets. A write waits for its answer, a read for its
//! index, and both for what is cold; then the answer's records are copied out.

use std::collections::BTreeMap;
use std::time::Instant;

use engine::apply::read_txn::ReadTxn;
use engine::error::ApiError;
use engine::lease::lessor::Renewal;
use engine::mvcc::Cold;
use engine::mvcc::range::{self, Progress, RangeTask};
use engine::mvcc::walk::Budget;
use engine::replica::{CallId, Event, Fatal, ReadStart, Replica};
use engine::response::{KvList, Kvs, OpAnswer, RangeAnswer, Response};
use engine::types::{LeaseId, Revision, Seq};

use crate::call::{Kv, Op, Reply, Request};
use crate::judge::kv_of;

/// The call of the world itself, which waits for what its dump found cold.
pub const PROBE: CallId = CallId(u64::MAX >> 1);

/// Keys a read passes in one go; small, so that writes come between.
const SLICE: Budget = Budget(20);

/// Calls under way.
#[derive(Debug, Default)]
pub struct Serving {
    calls: BTreeMap<u64, Stage>,
    /// [`PROBE`] may go on.
    pub probe_may_go: bool,
    /// Or it may ask again: a late message made another member the leader.
    pub probe_refused: bool,
}

#[derive(Debug)]
enum Stage {
    /// A write that was admitted.
    Write,
    /// A read whose index is published; it begins now.
    Begin,
    /// A range in slices.
    Range(Box<RangeTask>),
    /// A transaction that only reads, in slices.
    Txn(Box<ReadTxn>),
    /// A renewal that waits.
    Renew,
    /// The answer is there, its records, which somebody saw at this revision, are copied.
    Copy(Box<Response>, Revision),
}

impl Stage {
    /// The oldest revision it needs.
    fn pinned(&self) -> Option<Revision> {
        match self {
            Stage::Write | Stage::Begin | Stage::Renew => None,
            Stage::Range(task) => Some(task.pinned()),
            Stage::Txn(task) => Some(task.pinned()),
            Stage::Copy(_, revision) => Some(*revision),
        }
    }
}

/// What becomes of a call for now.
#[derive(Debug)]
pub enum Served {
    /// It waits.
    Waiting,
    /// It used its slice up and wants another.
    Again,
    /// It is answered.
    Done(Reply),
}

impl Serving {
    /// The oldest revision that a call under way needs.
    pub fn oldest_pin(&self) -> Option<Revision> {
        self.calls.values().filter_map(Stage::pinned).min()
    }

    /// Takes a call on.
    pub fn begin(
        &mut self,
        now: Instant,
        call: u64,
        request: &Request,
        replica: &mut Replica,
    ) -> Result<Served, Fatal> {
        if let Some(write) = request.as_write() {
            return Ok(match replica.propose(now, CallId(call), &write, message_len(request)) {
                Ok(()) => {
                    self.calls.insert(call, Stage::Write);
                    Served::Waiting
                }
                Err(error) => Served::Done(Reply::Refused(error)),
            });
        }
        if let Request::Renew(id) = request {
            return Ok(self.renew(now, call, *id, replica));
        }
        if request.is_serializable() {
            self.calls.insert(call, Stage::Begin);
            return self.advance(call, request, replica);
        }
        self.calls.insert(call, Stage::Begin);
        match replica.read_index(now, CallId(call)) {
            ReadStart::Ready => self.advance(call, request, replica),
            ReadStart::Waiting => Ok(Served::Waiting),
        }
    }

    fn renew(&mut self, now: Instant, call: u64, id: i64, replica: &mut Replica) -> Served {
        match replica.lease_renew(now, LeaseId(id)) {
            Renewal::Renewed(ttl) => Served::Done(Reply::Renewed(ttl)),
            Renewal::Gone => Served::Done(Reply::Renewed(0)),
            Renewal::Later(later) => match replica.lease_wait(now, LeaseId(id), later, CallId(call)) {
                Ok(()) => {
                    self.calls.insert(call, Stage::Renew);
                    Served::Waiting
                }
                Err(error) => Served::Done(Reply::Refused(error)),
            },
        }
    }

    /// The replica has news of a call.
    pub fn on_event(
        &mut self,
        now: Instant,
        event: Event,
        request: impl Fn(u64) -> Request,
        replica: &mut Replica,
    ) -> Result<(u64, Served), Fatal> {
        match event {
            Event::Go { call: PROBE } => {
                self.probe_may_go = true;
                Ok((PROBE.0, Served::Waiting))
            }
            Event::Refused { call: PROBE, .. } => {
                self.probe_refused = true;
                Ok((PROBE.0, Served::Waiting))
            }
            Event::Answer { call, answer, .. } => match answer {
                Ok(response) => {
                    self.calls.insert(call.0, Stage::Copy(Box::new(response), replica.floor()));
                    Ok((call.0, self.advance(call.0, &request(call.0), replica)?))
                }
                Err(error) => Ok((call.0, self.refuse(call.0, error))),
            },
            Event::Go { call } if matches!(self.calls.get(&call.0), Some(Stage::Renew)) => {
                self.calls.remove(&call.0);
                let Request::Renew(id) = request(call.0) else { unreachable!("only renewals wait so") };
                Ok((call.0, self.renew(now, call.0, id, replica)))
            }
            Event::Go { call } => Ok((call.0, self.advance(call.0, &request(call.0), replica)?)),
            Event::Lease { call, times } => {
                self.calls.remove(&call.0);
                Ok((call.0, Served::Done(Reply::Renewed(times.map_or(0, |times| times.granted)))))
            }
            Event::Refused { call, error } => Ok((call.0, self.refuse(call.0, error))),
        }
    }

    fn refuse(&mut self, call: u64, error: ApiError) -> Served {
        self.calls.remove(&call);
        Served::Done(Reply::Refused(error))
    }

    /// Goes on with a call.
    pub fn advance(&mut self, call: u64, request: &Request, replica: &mut Replica) -> Result<Served, Fatal> {
        let mut stage = self.calls.remove(&call).expect("a call under way");
        loop {
            match step(&mut stage, request, replica) {
                Ok(Step::To(next)) => stage = next,
                Ok(Step::Done(reply)) => return Ok(Served::Done(reply)),
                Ok(Step::More) => {
                    self.calls.insert(call, stage);
                    return Ok(Served::Again);
                }
                Err(cold) => {
                    self.calls.insert(call, stage);
                    replica.fetch(&cold, CallId(call))?;
                    return Ok(Served::Waiting);
                }
            }
        }
    }
}

enum Step {
    To(Stage),
    More,
    Done(Reply),
}

fn step(stage: &mut Stage, request: &Request, replica: &Replica) -> Result<Step, Cold> {
    let view = replica.view();
    let refused = |error| Ok(Step::Done(Reply::Refused(error)));
    match stage {
        Stage::Renew => unreachable!("a renewal has no steps: {request:?}"),
        Stage::Write => unreachable!("a write has no steps of its own: {request:?}"),
        Stage::Begin => match request {
            Request::Op(Op::Range(asked)) => {
                let asked = asked.as_engine();
                if range::is_single(&asked) {
                    return match range::read_one(&view, &asked)? {
                        Ok(answer) => {
                            Ok(Step::To(Stage::Copy(Box::new(Response::Range(answer)), replica.floor())))
                        }
                        Err(error) => refused(error),
                    };
                }
                match RangeTask::new(&view, &asked)? {
                    Ok(task) => Ok(Step::To(Stage::Range(Box::new(task)))),
                    Err(error) => refused(error),
                }
            }
            Request::Op(Op::Txn(txn)) => match ReadTxn::new(&view, &txn.as_engine())? {
                Ok(task) => Ok(Step::To(Stage::Txn(Box::new(task)))),
                Err(error) => refused(error),
            },
            other => unreachable!("{other:?} is no read"),
        },
        Stage::Range(task) => Ok(match task.advance(&view, &mut SLICE.clone())? {
            Progress::Done(answer) => Step::To(Stage::Copy(Box::new(Response::Range(answer)), task.pinned())),
            Progress::More => Step::More,
        }),
        Stage::Txn(task) => Ok(match task.advance(&view, &mut SLICE.clone())? {
            Progress::Done(answer) => Step::To(Stage::Copy(Box::new(Response::Txn(answer)), task.pinned())),
            Progress::More => Step::More,
        }),
        Stage::Copy(response, _) => Ok(Step::Done(copy(response, replica)?)),
    }
}

/// About the bytes of the request's message; it only matters that it is below the limit.
fn message_len(request: &Request) -> usize {
    let mut bytes = Vec::new();
    if let Some(write) = request.as_write() {
        engine::command::encode(&mut bytes, engine::command::RequestId(0), &write);
    }
    bytes.len()
}

/// Copies the records that an answer names.
pub fn copy(response: &Response, replica: &Replica) -> Result<Reply, Cold> {
    let op = match response {
        Response::Range(answer) => return copy_range(answer, replica),
        Response::Put(answer) => OpAnswer::Put(*answer),
        Response::DeleteRange(answer) => OpAnswer::DeleteRange(answer.clone()),
        Response::Txn(answer) => OpAnswer::Txn(answer.clone()),
        Response::Compact { revision } => return Ok(Reply::Compact { revision: revision.0 }),
        Response::LeaseGrant { revision, .. } => return Ok(Reply::Granted { revision: revision.0 }),
        Response::LeaseRevoke { revision, .. } => return Ok(Reply::Revoked { revision: revision.0 }),
        Response::LeaseCheckpoint { .. } | Response::Members { .. } => unreachable!("no client asks for it"),
        Response::Alarm { revision, alarms } => {
            return Ok(Reply::Alarm { revision: revision.0, alarms: alarms.clone() });
        }
    };
    copy_op(&op, replica)
}

fn copy_op(op: &OpAnswer, replica: &Replica) -> Result<Reply, Cold> {
    Ok(match op {
        OpAnswer::Range(answer) => copy_range(answer, replica)?,
        OpAnswer::Put(put) => {
            let prev = put.prev.map(|seq| copy_record(seq, false, replica)).transpose()?;
            Reply::Put { revision: put.revision.0, prev }
        }
        OpAnswer::DeleteRange(delete) => Reply::Delete {
            revision: delete.revision.0,
            deleted: delete.deleted,
            prev: copy_list(&delete.prev, replica)?,
        },
        OpAnswer::Txn(txn) => Reply::Txn {
            revision: txn.revision.0,
            succeeded: txn.succeeded,
            ops: txn.ops.iter().map(|op| copy_op(op, replica)).collect::<Result<_, _>>()?,
        },
    })
}

fn copy_range(answer: &RangeAnswer, replica: &Replica) -> Result<Reply, Cold> {
    let kvs = match &answer.kvs {
        Kvs::List(list) => copy_list(list, replica)?,
        Kvs::Walk(_) => unreachable!("no simulated answer has that many keys"),
    };
    Ok(Reply::Range { revision: answer.revision.0, kvs, more: answer.more, count: answer.count })
}

fn copy_list(list: &KvList, replica: &Replica) -> Result<Vec<Kv>, Cold> {
    let kvs: Vec<Kv> =
        list.seqs.iter().map(|seq| copy_record(*seq, list.keys_only, replica)).collect::<Result<_, _>>()?;
    let encoded: usize = kvs.iter().map(encoded_len).sum();
    assert_eq!(list.encoded_len, encoded as u64, "the promised length of an answer with {kvs:?}");
    Ok(kvs)
}

fn copy_record(seq: Seq, key_only: bool, replica: &Replica) -> Result<Kv, Cold> {
    let record = replica.store().history().record(seq)?;
    let record = record.unwrap_or_else(|| panic!("an answer names record {seq}, which is not there"));
    let mut kv = kv_of(&record.fields());
    if key_only {
        kv.value.clear();
    }
    Ok(kv)
}

/// Bytes of a version as a `repeated KeyValue` field, counted by hand.
fn encoded_len(kv: &Kv) -> usize {
    let varint = |value: u64| (0..10).find(|n| value >> (7 * (n + 1)) == 0).unwrap_or(9) + 1;
    let bytes = |len: usize| if len == 0 { 0 } else { 1 + varint(len as u64) + len };
    let int = |value: i64| if value == 0 { 0 } else { 1 + varint(value as u64) };
    let message = bytes(kv.key.len())
        + int(kv.created)
        + int(kv.modified)
        + int(kv.version)
        + bytes(kv.value.len())
        + int(kv.lease);
    1 + varint(message as u64) + message
}
