//! A store whose pages and records leave memory, driven in slices.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::show::{Kv, Shown};
use crate::apply::Applying;
use crate::apply::read_txn::ReadTxn;
use crate::command::{self, RequestId};
use crate::disk::Disk;
use crate::disk::mem::MemDisk;
use crate::error::ApiError;
use crate::mvcc::Cold;
use crate::mvcc::history::{Config, History};
use crate::mvcc::index::tests::pages::{Random, TestPages};
use crate::mvcc::index::{Index, Root};
use crate::mvcc::range::{self, Progress, RangeTask};
use crate::mvcc::reclaim::Reclaim;
use crate::mvcc::store::{State, Store};
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::request::{Range, Txn, Write};
use crate::response::{DeleteAnswer, KvList, Kvs, OpAnswer, PutAnswer, RangeAnswer, Response, TxnAnswer};
use crate::types::{LeaseId, Seq};

/// The store, its disk, and what it has cost.
pub struct World {
    pub store: Store<TestPages>,
    disk: MemDisk,
    pub random: Random,
    /// Largest budget of a slice.
    slice_max: usize,
    /// One page in so many leaves memory at each publication; 0: none does.
    evict_one_in: usize,
    /// Slices that ended early.
    pub stops: u64,
    /// Records and tables that were cold.
    pub cold_records: u64,
}

/// A command that is not finished.
pub struct Pending(Applying);

/// A read under way, at the version it began with.
pub enum Reading {
    Range(Box<RangeTask>),
    Txn(ReadTxn),
}

impl World {
    /// Everything stays in memory and nothing is sliced.
    pub fn calm() -> World {
        World::new(0, 1 << 20, 0, 1 << 30)
    }

    pub fn new(seed: u64, slice_max: usize, evict_one_in: usize, resident_bytes: usize) -> World {
        World::with_chunks(seed, slice_max, evict_one_in, resident_bytes, 256 << 10)
    }

    pub fn with_chunks(
        seed: u64,
        slice_max: usize,
        evict_one_in: usize,
        resident_bytes: usize,
        chunk_bytes: usize,
    ) -> World {
        let index = Index::new(TestPages::new(), Root::EMPTY);
        let history =
            History::new(Config { segment_bytes: 4 * chunk_bytes as u64, chunk_bytes, resident_bytes });
        let store = Store::new(index, history, State::INITIAL, BTreeSet::new(), Reclaim::default());
        let (disk, random) = (MemDisk::default(), Random(seed));
        World { store, disk, random, slice_max, evict_one_in, stops: 0, cold_records: 0 }
    }

    pub fn budget(&mut self) -> Budget {
        Budget(1 + self.random.below(self.slice_max) as u32)
    }

    /// Brings in what was cold.
    pub fn warm(&mut self, cold: Cold) {
        match cold {
            Cold::Page(no) => self.store.pages_mut().bring_in(no),
            Cold::Damaged(what) => panic!("{what}"),
            Cold::Record(_) | Cold::Table(_) | Cold::Run(_) | Cold::Chunk(_) => {
                self.cold_records += 1;
                self.store.history_mut().fetch(&cold);
                self.drive_history();
            }
        }
    }

    pub fn drive_history(&mut self) {
        while let Some((token, op)) = self.store.history_mut().poll_disk() {
            let outcome = self.disk.run(op);
            self.store.history_mut().on_completed(token, outcome).unwrap();
        }
    }

    /// Repeats a read of the published version until nothing it needs is cold.
    pub fn read<T>(&mut self, read: impl Fn(&View<'_, TestPages>) -> Result<T, Cold>) -> T {
        loop {
            match read(&self.store.view()) {
                Ok(done) => return done,
                Err(cold) => self.warm(cold),
            }
        }
    }

    /// The keys attached to a lease.
    pub fn lease_keys(&mut self, id: LeaseId) -> Vec<Vec<u8>> {
        self.read(|view| {
            let mut keys = Vec::new();
            let all = view.lease_keys(id, None, |key| {
                keys.push(key.to_vec());
                true
            })?;
            assert!(all);
            Ok(keys)
        })
    }

    pub fn begin(&mut self, write: &Write<'_>) -> Pending {
        let mut entry = Vec::new();
        command::encode(&mut entry, RequestId(7), write);
        Pending(Applying::new(Bytes::from(entry)).unwrap())
    }

    /// One slice of a command.
    pub fn slice(&mut self, pending: &mut Pending) -> Option<Result<Response, ApiError>> {
        let mut budget = self.budget();
        match pending.0.advance(&mut self.store, &mut budget) {
            Ok(Progress::Done(answer)) => return Some(answer),
            Ok(Progress::More) => assert_eq!(budget.0, 0, "a slice that ends early was not used up"),
            Err(cold) => self.warm(cold),
        }
        self.stops += 1;
        None
    }

    /// Applies and publishes.
    pub fn run(&mut self, write: &Write<'_>) -> Result<Shown, ApiError> {
        let mut pending = self.begin(write);
        let answer = loop {
            if let Some(answer) = self.slice(&mut pending) {
                break answer;
            }
        };
        self.publish();
        Ok(self.show(answer?))
    }

    pub fn publish(&mut self) {
        while let Err(cold) = self.store.publish() {
            self.warm(cold);
        }
        self.published();
    }

    /// The same with everything that a checkpoint holds.
    pub fn publish_for_checkpoint(&mut self) {
        while let Err(cold) = self.store.publish_for_checkpoint() {
            self.warm(cold);
        }
        self.published();
    }

    fn published(&mut self) {
        self.store.pages_mut().publish();
        self.store.pages_mut().reclaim();
        if self.evict_one_in > 0 {
            self.store.pages_mut().evict(&mut self.random, self.evict_one_in);
        }
        self.drive_history();
    }

    pub fn begin_range(&mut self, range: &Range<'_>) -> Result<Reading, ApiError> {
        self.read(|view| RangeTask::new(view, range)).map(|task| Reading::Range(Box::new(task)))
    }

    pub fn begin_txn(&mut self, txn: &Txn<'_>) -> Result<Reading, ApiError> {
        self.read(|view| ReadTxn::new(view, txn)).map(Reading::Txn)
    }

    /// One slice of a read.
    pub fn read_slice(&mut self, reading: &mut Reading) -> Option<Response> {
        let mut budget = self.budget();
        let view = self.store.view();
        let progress = match reading {
            Reading::Range(task) => task.advance(&view, &mut budget).map(|done| done.map(Response::Range)),
            Reading::Txn(task) => task.advance(&view, &mut budget).map(|done| done.map(Response::Txn)),
        };
        match progress {
            Ok(Progress::Done(answer)) => return Some(answer),
            Ok(Progress::More) => assert_eq!(budget.0, 0, "a slice that ends early was not used up"),
            Err(cold) => self.warm(cold),
        }
        self.stops += 1;
        None
    }

    /// A range in one go.
    pub fn range(&mut self, range: &Range<'_>) -> Result<Shown, ApiError> {
        if range::is_single(range) {
            let answer = self.read(|view| range::read_one(view, range))?;
            return Ok(self.show(Response::Range(answer)));
        }
        let mut reading = self.begin_range(range)?;
        loop {
            if let Some(answer) = self.read_slice(&mut reading) {
                return Ok(self.show(answer));
            }
        }
    }

    /// A transaction that only reads, in one go.
    pub fn read_txn(&mut self, txn: &Txn<'_>) -> Result<Shown, ApiError> {
        let mut reading = self.begin_txn(txn)?;
        loop {
            if let Some(answer) = self.read_slice(&mut reading) {
                return Ok(self.show(answer));
            }
        }
    }

    /// Reads an answer's records, and checks the lengths it promised.
    pub fn show(&mut self, answer: Response) -> Shown {
        match answer {
            Response::Range(answer) => self.show_range(answer),
            Response::Put(answer) => self.show_put(answer),
            Response::DeleteRange(answer) => self.show_delete(answer),
            Response::Txn(TxnAnswer { revision, succeeded, ops }) => {
                let ops = ops.into_iter().map(|op| self.show_op(op)).collect();
                Shown::Txn { revision: Some(revision.0), succeeded, ops }
            }
            Response::Compact { revision } => Shown::Compact { revision: revision.0 },
            Response::Alarm { revision, alarms } => Shown::Alarm { revision: revision.0, alarms },
            Response::LeaseGrant { revision, id, ttl } => Shown::LeaseGrant { revision: revision.0, id, ttl },
            Response::LeaseRevoke { revision, .. } => Shown::LeaseRevoke { revision: revision.0 },
            Response::LeaseCheckpoint { revision, .. } => Shown::LeaseCheckpoint { revision: revision.0 },
            Response::Members { .. } => unreachable!("no command changes members"),
        }
    }

    fn show_op(&mut self, op: OpAnswer) -> Shown {
        match op {
            OpAnswer::Range(answer) => self.show_range(answer),
            OpAnswer::Put(answer) => self.show_put(answer),
            OpAnswer::DeleteRange(answer) => self.show_delete(answer),
            OpAnswer::Txn(TxnAnswer { succeeded, ops, .. }) => {
                let ops = ops.into_iter().map(|op| self.show_op(op)).collect();
                Shown::Txn { revision: None, succeeded, ops }
            }
        }
    }

    fn show_put(&mut self, PutAnswer { revision, prev }: PutAnswer) -> Shown {
        Shown::Put { revision: revision.0, prev: prev.map(|seq| self.kv(seq, false).0) }
    }

    fn show_delete(&mut self, DeleteAnswer { revision, deleted, prev }: DeleteAnswer) -> Shown {
        Shown::Delete { revision: revision.0, deleted, prev: self.show_list(&prev) }
    }

    fn show_range(&mut self, RangeAnswer { revision, kvs, more, count, .. }: RangeAnswer) -> Shown {
        let list = match kvs {
            Kvs::List(list) => list,
            Kvs::Walk(mut long) => {
                let (encoded_len, keys_only, pairs) = (long.encoded_len, long.keys_only, long.left);
                let mut seqs = Vec::new();
                while (seqs.len() as u64) < pairs {
                    let (mut budget, max) = (self.budget(), 1 + self.random.below(9));
                    match long.next(&self.store.view(), max, &mut budget) {
                        Ok(batch) => {
                            assert!(batch.len() <= max && (budget.0 == 0 || !batch.is_empty()), "{long:?}");
                            seqs.extend(batch);
                        }
                        Err(cold) => self.warm(cold),
                    }
                }
                assert_eq!(long.left, 0);
                assert_eq!(long.next(&self.store.view(), 9, &mut Budget(9)), Ok(Vec::new()));
                KvList { seqs, encoded_len, keys_only }
            }
        };
        Shown::Range { revision: revision.0, kvs: self.show_list(&list), more, count }
    }

    fn show_list(&mut self, list: &KvList) -> Vec<Kv> {
        let shown: Vec<(Kv, u64)> = list.seqs.iter().map(|&seq| self.kv(seq, list.keys_only)).collect();
        let encoded_len: u64 = shown.iter().map(|(_, len)| len).sum();
        assert_eq!(list.encoded_len, encoded_len, "promised and real length of {list:?}");
        shown.into_iter().map(|(kv, _)| kv).collect()
    }

    /// A record as a pair, and its length in an answer.
    fn kv(&mut self, seq: Seq, keys_only: bool) -> (Kv, u64) {
        loop {
            let cold = match self.store.history().record(seq) {
                Ok(record) => {
                    let record = record.expect("an answer names records that exist");
                    assert!(!record.is_tombstone(), "an answer names tombstone {seq}");
                    let fields = record.fields();
                    let value = if keys_only { &[] } else { fields.value };
                    let kv = Kv {
                        key: fields.key.to_vec(),
                        value: value.to_vec(),
                        created: fields.create_revision,
                        modified: fields.mod_revision,
                        version: fields.version,
                        lease: LeaseId(fields.lease),
                    };
                    return (kv, encoded_len(record.wire().len(), fields.value.len(), keys_only));
                }
                Err(cold) => cold,
            };
            self.warm(cold);
        }
    }
}

/// Field tag and length before the message; the same before the value, which `keys_only` leaves out.
fn encoded_len(wire_len: usize, value_len: usize, keys_only: bool) -> u64 {
    let varint_len = |value: usize| if value == 0 { 1 } else { value.ilog2() as usize / 7 + 1 };
    let value_field = if value_len == 0 || !keys_only { 0 } else { 1 + varint_len(value_len) + value_len };
    let len = wire_len - value_field;
    (1 + varint_len(len) + len) as u64
}
