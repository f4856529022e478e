//! What each request becomes: an answer at once, a proposal, or a read that waits.
//!
//! Order of steps for one call, as in etcd (see `facts` on checks: decoding, client version, leader, shape, then state).

use std::time::Instant;

use bytes::Bytes;
use engine::apply::read_txn::{self, ReadTxn};
use engine::check;
use engine::error::ApiError;
use engine::mvcc::Cold;
use engine::mvcc::hash::HashTask;
use engine::mvcc::range::{self, RangeTask};
use engine::replica::{CallId, Fatal, ReadStart, Replica};
use engine::request::{Range, Write};
use engine::response::{Kvs, RangeAnswer, Response};
use engine::snapshot::contents::{self, Facts};
use engine::types::Revision;

use super::long::{self, Task, Work};
use super::pins::{self, Sending};
use super::{Front, Outgoing, Place, Waiting};
use crate::api::kv::{self, KvRequest, Whole};
use crate::api::route::{self, Method};
use crate::api::snapshot::{self, Snapshot};
use crate::api::{Refusal, cluster, health, lease, maintenance};
use crate::grpc::{self, Metadata};

/// What became of a request.
#[derive(Debug)]
pub enum Served {
    /// A KV or alarm answer, to be encoded around stored records.
    Answer(Response),
    /// An encoded message.
    Message(Vec<u8>),
    /// A stream of messages begins.
    Snapshot(Box<Snapshot>),
    /// An error.
    Refused(Refusal),
    /// The first message of a call that stays open.
    Open(Vec<u8>),
    /// The answer comes later.
    Later,
}

impl From<Refusal> for Served {
    fn from(refusal: Refusal) -> Served {
        Served::Refused(refusal)
    }
}

impl From<ApiError> for Served {
    fn from(error: ApiError) -> Served {
        Served::Refused(error.into())
    }
}

/// Methods this version serves; all others answer as if they did not exist.
pub fn is_built(method: Method) -> bool {
    matches!(
        method,
        Method::Kv(_)
            | Method::LeaseGrant
            | Method::LeaseRevoke
            | Method::LeaseKeepAlive
            | Method::LeaseTimeToLive
            | Method::LeaseLeases
            | Method::Watch
            | Method::MemberList
            | Method::Alarm
            | Method::Status
            | Method::Defragment
            | Method::Hash
            | Method::HashKV
            | Method::Snapshot
            | Method::HealthCheck
            | Method::HealthList
            | Method::HealthWatch
    )
}

impl Front {
    /// The checks before a request is looked at.
    pub(super) fn admit(
        &mut self,
        method: grpc::MethodId,
        metadata: &Metadata,
        replica: &Replica,
    ) -> Result<(), ApiError> {
        let version = metadata.client_api_version().map(std::str::from_utf8).transpose();
        let version = version.map_err(|_| ApiError::InvalidClientApiVersion)?;
        self.versions.count(version, route::kind_of(method));
        if metadata.has_leader() && replica.raft().leader().is_none() {
            return Err(ApiError::NoLeader);
        }
        Ok(())
    }

    /// Serves a request that just came.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        message: &[u8],
        replica: &mut Replica,
    ) -> Result<Served, Fatal> {
        match method {
            Method::Kv(kv_method) => match kv::decode(kv_method, message, self.config.ops_max) {
                Ok(request) => self.serve_kv(now, place, method, message, request, replica),
                Err(malformed) => Ok(Refusal::from(malformed).into()),
            },
            Method::Alarm => match maintenance::decode_alarm(message) {
                Ok(alarm) => Ok(self.propose(now, place, &Write::Alarm(alarm), message.len(), replica)),
                Err(refusal) => Ok(refusal.into()),
            },
            Method::LeaseGrant | Method::LeaseRevoke => {
                Ok(self.serve_lease(now, place, method, message, replica))
            }
            Method::MemberList => match cluster::decode_member_list(message) {
                Ok(true) => match self.confirm(now, place, method, message, replica) {
                    ReadStart::Ready => self.serve_now(now, place, method, message, replica),
                    ReadStart::Waiting => Ok(Served::Later),
                },
                Ok(false) => self.serve_now(now, place, method, message, replica),
                Err(malformed) => Ok(Refusal::from(malformed).into()),
            },
            _ => self.serve_now(now, place, method, message, replica),
        }
    }

    fn serve_kv(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        message: &[u8],
        request: KvRequest<'_>,
        replica: &mut Replica,
    ) -> Result<Served, Fatal> {
        let ops_max = self.config.ops_max;
        let read = match into_write(request) {
            Err(read) => read,
            Ok(write) => {
                // A full store says so before it says that a request is malformed.
                let checked = replica.check_quota(now, &write).and_then(|()| check_write(&write, ops_max));
                return Ok(match checked {
                    Ok(()) => self.propose(now, place, &write, message.len(), replica),
                    Err(error) => error.into(),
                });
            }
        };
        if let Err(error) = read.check(ops_max) {
            return Ok(error.into());
        }
        let start = match is_serializable(&read) {
            true => ReadStart::Ready,
            false => self.confirm(now, place, method, message, replica),
        };
        match start {
            ReadStart::Ready => self.read(place, method, message, &read, replica),
            ReadStart::Waiting => Ok(Served::Later),
        }
    }

    /// Serves a request whose linearizable read, if it needed one, is confirmed.
    pub(super) fn serve_now(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        message: &[u8],
        replica: &mut Replica,
    ) -> Result<Served, Fatal> {
        let header = Front::origin(replica).at(replica.store().published().1.revision);
        Ok(match method {
            Method::Kv(kv_method) => {
                let request = kv::decode(kv_method, message, self.config.ops_max).expect("decoded before");
                return self.read(place, method, message, &request, replica);
            }
            Method::LeaseTimeToLive => self.time_to_live(now, place, message, replica),
            Method::LeaseLeases => match lease::decode_leases(message) {
                Ok(()) => Served::Message(lease::leases(header, replica.lessor().by_due())),
                Err(malformed) => Refusal::from(malformed).into(),
            },
            Method::MemberList => {
                Served::Message(cluster::member_list(Front::origin(replica), &self.config.members))
            }
            Method::Status => Served::Message(maintenance::status(header, &self.status_info(replica))),
            Method::Defragment => self.defragment(place, replica),
            Method::HashKV => self.hash_kv(place, message, replica),
            Method::Snapshot => return self.snapshot(place, message, replica),
            Method::Hash => Served::Message(maintenance::hash(header, store_hash(replica))),
            Method::HealthCheck => health::check(message, true).map_or_else(Served::Refused, Served::Message),
            Method::HealthList => Served::Message(health::list(true)),
            Method::HealthWatch => match health::HealthWatch::new(message) {
                Ok(watch) => Served::Open(watch.message(true)),
                Err(refusal) => refusal.into(),
            },
            method => unreachable!("{method:?} is not in the route table"),
        })
    }

    /// A hash of one of the last compactions is kept, or comes; any other is computed in slices.
    fn hash_kv(&mut self, place: Place, message: &[u8], replica: &mut Replica) -> Served {
        let revision = match maintenance::decode_hash_kv(message) {
            Ok(revision) => revision,
            Err(malformed) => return Refusal::from(malformed).into(),
        };
        let view = replica.view();
        if let Some(hash) = replica.compaction_hash(revision) {
            let header = Front::origin(replica).at(view.revision);
            return Served::Message(maintenance::hash_kv(header, hash));
        }
        let task = HashTask::new(&view, revision);
        let key = self.hold(place, Method::HashKV, message);
        if replica.wait_for_hash(revision, CallId(key.to_u64())) {
            return Served::Later;
        }
        self.unhold(place, key);
        match task {
            Ok(task) => self.begin(place, task.pin(), Work::Hash(Box::new(task))),
            Err(error) => error.into(),
        }
    }

    /// A snapshot of what is published now; first it finds out its length, in slices.
    fn snapshot(&mut self, place: Place, message: &[u8], replica: &mut Replica) -> Result<Served, Fatal> {
        if let Err(malformed) = snapshot::decode(message) {
            return Ok(Refusal::from(malformed).into());
        }
        let leases = match contents::leases(&replica.view()) {
            Ok(leases) => leases,
            Err(cold) => return self.again(place, Method::Snapshot, message, &cold, replica),
        };
        let state = replica.store().published().1;
        let facts = Facts {
            applied: replica.published(),
            conf_state: replica.raft().conf_state().clone(),
            compacted: state.compacted,
            alarms: replica.store().alarms().collect(),
            members: self.config.members.clone(),
            leases,
            storage_version: self.config.storage_version.clone(),
        };
        let snapshot = Box::new(Snapshot::new(facts, state.revision));
        Ok(self.begin(place, snapshot.pin(), Work::Count(snapshot)))
    }

    pub(super) fn propose(
        &mut self,
        now: Instant,
        place: Place,
        write: &Write<'_>,
        message_len: usize,
        replica: &mut Replica,
    ) -> Served {
        let key = self.waiting.insert(match write {
            Write::Compact(compact) if compact.physical => {
                Waiting::Compaction(place, Revision(compact.revision))
            }
            _ => Waiting::Write(place),
        });
        match replica.propose(now, CallId(key.to_u64()), write, message_len) {
            Ok(()) => Served::Later,
            Err(error) => {
                self.waiting.remove(key);
                error.into()
            }
        }
    }

    /// Begins a linearizable read; if it must wait, the request is served from the beginning when it may go on.
    fn confirm(
        &mut self,
        now: Instant,
        place: Place,
        method: Method,
        message: &[u8],
        replica: &mut Replica,
    ) -> ReadStart {
        // The usual read does not wait, and should not pay for keeping its message.
        let key = self.waiting.insert(Waiting::Again { place, method });
        let start = replica.read_index(now, CallId(key.to_u64()));
        if start == ReadStart::Waiting {
            self.held.insert(place.key(), Bytes::copy_from_slice(message));
        } else {
            self.waiting.remove(key);
        }
        start
    }

    /// Reads from the published version.
    fn read(
        &mut self,
        place: Place,
        method: Method,
        message: &[u8],
        request: &KvRequest<'_>,
        replica: &mut Replica,
    ) -> Result<Served, Fatal> {
        let begun = match request {
            KvRequest::Range(range) if range::is_single(range) => range::read_one(&replica.view(), range)
                .map(|answer| answer.map(|answer| Served::Answer(Response::Range(answer)))),
            KvRequest::Range(range) => RangeTask::new(&replica.view(), range)
                .map(|task| task.map(|task| self.begin(place, task.pinned(), Work::Range(Box::new(task))))),
            KvRequest::Txn(txn) => ReadTxn::new(&replica.view(), txn)
                .map(|task| task.map(|task| self.begin(place, task.pinned(), Work::Txn(Box::new(task))))),
            request => unreachable!("{request:?} is not a read"),
        };
        match begun {
            Ok(Ok(served)) => {
                if let Served::Answer(answer) = &served {
                    self.operations.count(answer);
                }
                Ok(served)
            }
            Ok(Err(error)) => Ok(error.into()),
            Err(cold) => self.again(place, method, message, &cold, replica),
        }
    }

    /// Serves the request from the beginning when what it found cold is there.
    fn again(
        &mut self,
        place: Place,
        method: Method,
        message: &[u8],
        cold: &Cold,
        replica: &mut Replica,
    ) -> Result<Served, Fatal> {
        let key = self.hold(place, method, message);
        replica.fetch(cold, CallId(key.to_u64()))?;
        Ok(Served::Later)
    }

    /// A read in slices; the first one is run with the turn's others.
    fn begin(&mut self, place: Place, revision: Revision, work: Work) -> Served {
        let pin = Some(self.pins.pin(revision));
        self.tasks.push_back(Task { place, work, _pin: pin });
        Served::Later
    }

    /// Gives a call what was served.
    pub(super) fn settle(
        &mut self,
        place: Place,
        served: Served,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        if !matches!(served, Served::Later)
            && let Some(stages) = server.stages(place.call)
        {
            stages.answered = stages.answered.or(self.tally.now());
        }
        match served {
            Served::Later => {
                let held = self.held.get(&place.key());
                server.charge(place.call, held.map_or(0, Bytes::len));
            }
            Served::Refused(refusal) => {
                server.reply_error(place.call, &refusal.into());
            }
            Served::Message(message) => {
                server.reply_unary(place.call, |out| out.extend_from_slice(&message));
            }
            Served::Open(message) => self.open_health_watch(place, &message, server),
            Served::Snapshot(snapshot) => {
                let pin = self.pins.pin(snapshot.pin());
                self.answers.insert(place.key(), Sending::new(Outgoing::Snapshot(snapshot), pin));
                server.want_writable(place.call);
            }
            Served::Answer(answer) => {
                self.scratch.clear();
                let records = long::Stored(replica);
                match kv::encode_whole(Front::origin(replica), &answer, &records, &mut self.scratch) {
                    // What cannot leave now would be queued; an answer that names its records waits for less.
                    Whole::Encoded if !server.has_room(place.call, self.scratch.len()) => {
                        self.begin_answer(place, answer, server, replica)?
                    }
                    Whole::Encoded => {
                        let scratch = &self.scratch;
                        server.reply_unary(place.call, |out| out.extend_from_slice(scratch));
                    }
                    Whole::Declined => self.begin_answer(place, answer, server, replica)?,
                    Whole::Cold(cold) => {
                        let list = match &answer {
                            Response::Range(RangeAnswer { kvs: Kvs::List(list), .. }) => Some(list),
                            Response::DeleteRange(deleted) => Some(&deleted.prev),
                            _ => None,
                        };
                        if let Some(list) = list {
                            let known = list.seqs.iter().position(|seq| *seq == cold.0).unwrap_or(0);
                            long::prefetch(&list.seqs[known..], replica)?;
                        }
                        let pin = self.pins.pin(pins::oldest_named(&answer));
                        let waiting = Waiting::Answer { place, answer: Box::new(answer), pin };
                        self.wait_for_record(waiting, cold, replica)?
                    }
                }
            }
        }
        Ok(())
    }

    fn status_info(&self, replica: &Replica) -> maintenance::StatusInfo {
        let raft = replica.raft();
        let db_size = replica.db_size() as i64;
        maintenance::StatusInfo {
            version: self.config.version.clone(),
            storage_version: self.config.storage_version.clone(),
            db_size,
            db_size_in_use: replica.db_size_in_use() as i64,
            db_size_quota: self.config.quota,
            leader: raft.leader().map_or(0, |leader| leader.0),
            raft_index: raft.commit_index().0,
            raft_term: raft.term().0,
            raft_applied_index: raft.applied_index().0,
            is_learner: false,
            alarms: replica.store().alarms().collect(),
            downgrade_target: None,
        }
    }
}

/// The write a request asks for, or the request back if it only reads.
fn into_write(request: KvRequest<'_>) -> Result<Write<'_>, KvRequest<'_>> {
    match request {
        KvRequest::Put(put) => Ok(Write::Put(put)),
        KvRequest::DeleteRange(delete) => Ok(Write::DeleteRange(delete)),
        KvRequest::Compact(compact) => Ok(Write::Compact(compact)),
        KvRequest::Txn(txn) if !read_txn::is_read_only(&txn) => Ok(Write::Txn(txn)),
        read => Err(read),
    }
}

/// The checks of a write that need no state. `ops_max` is `--max-txn-ops`.
fn check_write(write: &Write<'_>, ops_max: usize) -> Result<(), ApiError> {
    match write {
        Write::Put(put) => check::check_put(put),
        Write::DeleteRange(delete) => check::check_delete(delete),
        Write::Txn(txn) => check::check_txn(txn, ops_max),
        Write::Compact(_) | Write::Alarm(_) => Ok(()),
        Write::LeaseGrant(_) | Write::LeaseRevoke(_) | Write::LeaseCheckpoint(_) => Ok(()),
    }
}

/// Whether a read may be answered without asking the leader. A transaction without any operation counts as
/// serializable, as in etcd.
fn is_serializable(request: &KvRequest<'_>) -> bool {
    match request {
        KvRequest::Range(Range { serializable, .. }) => *serializable,
        KvRequest::Txn(txn) => read_txn::is_serializable(txn),
        _ => false,
    }
}

/// A number that changes when the content does; etcd's own differs from member to member too.
fn store_hash(replica: &Replica) -> u32 {
    let (root, state) = replica.store().published();
    let words = [root.live, state.revision.0 as u64, state.compacted.0 as u64].map(u64::to_le_bytes);
    crc32fast::hash(words.as_flattened())
}
