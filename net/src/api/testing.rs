//! Random answers beside the messages they must become, and a store whose records may be cold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use engine::mvcc::range::LongList;
use engine::mvcc::view::At;
use engine::mvcc::walk::Walk;
use engine::request::{AlarmKind, Filter, KeyRange};
use engine::response::{DeleteAnswer, KvList, Kvs, OpAnswer, PutAnswer, RangeAnswer, Response, TxnAnswer};
use engine::types::{Revision, Seq};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::header::Origin;
use super::records::{Cold, RecordRef, Records};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::response_op;
use crate::pb::mvccpb::KeyValue;
use crate::pb::wire::len_field_len;

pub const ORIGIN: Origin = Origin { cluster_id: 1 << 60, member_id: 77, raft_term: 300 };

/// Records by number, some of which have to be asked for twice.
#[derive(Debug, Default)]
pub struct Store {
    pub records: BTreeMap<u64, Vec<u8>>,
    pub cold: RefCell<BTreeSet<u64>>,
    pub walk: KvList,
}

impl Records for Store {
    fn record(&self, seq: Seq) -> Result<RecordRef<'_>, Cold> {
        if self.cold.borrow().contains(&seq.0) {
            return Err(Cold(seq));
        }
        Ok(RecordRef { wire: &self.records[&seq.0] })
    }
}

impl Store {
    /// An answer that says it will walk, and finds what is in `walk`.
    pub fn long_list(&self) -> Kvs {
        let at = At { revision: Revision::INITIAL, last: Seq(0) };
        Kvs::Walk(Box::new(LongList {
            walk: Walk::new(KeyRange::new(b"k", b""), at, Filter::default()),
            left: self.walk.seqs.len() as u64,
            encoded_len: self.walk.encoded_len,
            keys_only: self.walk.keys_only,
        }))
    }

    pub fn bring_in(&self, seq: Seq) {
        assert!(self.cold.borrow_mut().remove(&seq.0), "{seq} was not cold");
    }

    pub fn chill_all(&self) {
        self.cold.borrow_mut().extend(self.records.keys());
    }

    fn add(&mut self, kv: &KeyValue) -> Seq {
        let seq = self.records.len() as u64 + 1;
        self.records.insert(seq, kv.encode_to_vec());
        Seq(seq)
    }

    /// Stores `kvs` and returns the list of them and what the message shows.
    fn list(&mut self, kvs: &[KeyValue], keys_only: bool) -> (KvList, Vec<KeyValue>) {
        let seqs = kvs.iter().map(|kv| self.add(kv)).collect();
        let shown: Vec<KeyValue> =
            kvs.iter()
                .map(|kv| {
                    if keys_only { KeyValue { value: Default::default(), ..kv.clone() } } else { kv.clone() }
                })
                .collect();
        let encoded_len = shown.iter().map(|kv| len_field_len(kv.encoded_len() as u64)).sum();
        (KvList { seqs, encoded_len, keys_only }, shown)
    }
}

/// What an answer is made from.
#[derive(Clone, Debug)]
pub enum Draft {
    Range { kvs: Vec<KeyValue>, keys_only: bool, more: bool, count: i64, revision: i64 },
    Put { prev: Option<KeyValue>, revision: i64 },
    Delete { prev: Vec<KeyValue>, deleted: i64, revision: i64 },
    Txn { succeeded: bool, ops: Vec<Draft>, revision: i64 },
}

impl Draft {
    /// The answer and its message, as the only answer of a call.
    pub fn build(self, store: &mut Store) -> (Response, Vec<u8>) {
        match self.op(store, |revision| ORIGIN.at(Revision(revision)).message()) {
            (OpAnswer::Range(answer), response_op::Response::ResponseRange(message)) => {
                (Response::Range(answer), message.encode_to_vec())
            }
            (OpAnswer::Put(answer), response_op::Response::ResponsePut(message)) => {
                (Response::Put(answer), message.encode_to_vec())
            }
            (OpAnswer::DeleteRange(answer), response_op::Response::ResponseDeleteRange(message)) => {
                (Response::DeleteRange(answer), message.encode_to_vec())
            }
            (OpAnswer::Txn(answer), response_op::Response::ResponseTxn(message)) => {
                (Response::Txn(answer), message.encode_to_vec())
            }
            (answer, message) => unreachable!("{answer:?} and {message:?} differ in kind"),
        }
    }

    fn op(
        self,
        store: &mut Store,
        header: impl Fn(i64) -> Option<pb::ResponseHeader>,
    ) -> (OpAnswer, response_op::Response) {
        match self {
            Draft::Range { kvs, keys_only, more, count, revision } => {
                let (list, kvs) = store.list(&kvs, keys_only);
                let message = pb::RangeResponse { header: header(revision), kvs, more, count };
                let revision = Revision(revision);
                let kvs = Kvs::List(list);
                let answer = RangeAnswer { revision, read_at: revision, kvs, more, count };
                (OpAnswer::Range(answer), response_op::Response::ResponseRange(message))
            }
            Draft::Put { prev, revision } => {
                let seq = prev.as_ref().map(|kv| store.add(kv));
                let message = pb::PutResponse { header: header(revision), prev_kv: prev };
                let answer = PutAnswer { revision: Revision(revision), prev: seq };
                (OpAnswer::Put(answer), response_op::Response::ResponsePut(message))
            }
            Draft::Delete { prev, deleted, revision } => {
                let (list, prev_kvs) = store.list(&prev, false);
                let message = pb::DeleteRangeResponse { header: header(revision), deleted, prev_kvs };
                let answer = DeleteAnswer { revision: Revision(revision), deleted, prev: list };
                (OpAnswer::DeleteRange(answer), response_op::Response::ResponseDeleteRange(message))
            }
            Draft::Txn { succeeded, ops, revision } => {
                Draft::txn(store, succeeded, ops, revision, header(revision))
            }
        }
    }

    fn txn(
        store: &mut Store,
        succeeded: bool,
        ops: Vec<Draft>,
        revision: i64,
        header: Option<pb::ResponseHeader>,
    ) -> (OpAnswer, response_op::Response) {
        let (mut answers, mut responses) = (Vec::new(), Vec::new());
        for op in ops {
            let nested = matches!(op, Draft::Txn { .. });
            let (answer, response) = op.op(store, |revision| {
                let revision = if nested { 0 } else { revision };
                Some(pb::ResponseHeader { revision, ..Default::default() })
            });
            answers.push(answer);
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        let message = pb::TxnResponse { header, succeeded, responses };
        let answer = TxnAnswer { revision: Revision(revision), succeeded, ops: answers };
        (OpAnswer::Txn(answer), response_op::Response::ResponseTxn(message))
    }
}

prop_compose! {
    pub fn any_kv()(
        key in vec(any::<u8>(), 1..20), value in vec(any::<u8>(), 0..200),
        revisions in (1..1000i64, 1..i64::MAX), version in 1..300i64, lease in prop_oneof![Just(0), any::<i64>()],
    ) -> KeyValue {
        KeyValue {
            key: key.into(), create_revision: revisions.0, mod_revision: revisions.1, version,
            value: value.into(), lease,
        }
    }
}

fn any_simple() -> impl Strategy<Value = Draft> {
    let revision = || prop_oneof![Just(1), 1..1_000_000i64];
    prop_oneof![
        (vec(any_kv(), 0..5), any::<bool>(), any::<bool>(), 0..300i64, revision()).prop_map(
            |(kvs, keys_only, more, count, revision)| Draft::Range { kvs, keys_only, more, count, revision }
        ),
        (proptest::option::of(any_kv()), revision())
            .prop_map(|(prev, revision)| Draft::Put { prev, revision }),
        (vec(any_kv(), 0..4), 0..300i64, revision()).prop_map(|(prev, deleted, revision)| Draft::Delete {
            prev,
            deleted,
            revision
        }),
    ]
}

/// Any answer of the KV service with records in it.
pub fn any_draft() -> impl Strategy<Value = Draft> {
    any_simple().prop_recursive(3, 10, 4, |inner| {
        (any::<bool>(), vec(inner, 0..4), 1..1000i64).prop_map(|(succeeded, ops, revision)| Draft::Txn {
            succeeded,
            ops,
            revision,
        })
    })
}

/// An answer that lists alarms, and its message.
pub fn alarm_answer() -> (Response, Vec<u8>) {
    let alarms = vec![(0, AlarmKind::NoSpace), (u64::MAX, AlarmKind::Corrupt)];
    let message = pb::AlarmResponse {
        header: ORIGIN.at(Revision(9)).message(),
        alarms: alarms
            .iter()
            .map(|(id, kind)| pb::AlarmMember { member_id: *id, alarm: *kind as i32 })
            .collect(),
    };
    (Response::Alarm { revision: Revision(9), alarms }, message.encode_to_vec())
}
