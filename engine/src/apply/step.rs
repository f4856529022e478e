//! One range, put or delete of a transaction, or a put or delete on its own.

use std::collections::VecDeque;

use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::index::entry::KeyEntry;
use crate::mvcc::range::{self, Progress, RangeTask};
use crate::mvcc::store::Store;
use crate::mvcc::walk::Budget;
use crate::mvcc::wire;
use crate::request::{DeleteRange, Op, RangeEnd};
use crate::response::{DeleteAnswer, KvList, OpAnswer, PutAnswer};
use crate::types::Seq;

/// Keys a delete looks up before it deletes them: the tree cannot be changed under a scan.
const DELETE_BATCH: usize = 256;

/// An operation under way.
#[derive(Debug)]
pub enum Step {
    /// A read of several keys.
    Range(Box<RangeTask>),
    /// Anything about one key.
    AtOnce,
    /// A delete of several keys.
    Delete(Box<Deleting>),
}

/// A delete of several keys under way.
#[derive(Debug, Default)]
pub struct Deleting {
    /// Keys found and not yet deleted.
    batch: VecDeque<(Vec<u8>, KeyEntry)>,
    /// The last key passed.
    after: Option<Vec<u8>>,
    /// No more keys will be found.
    exhausted: bool,
    deleted: i64,
    prev: KvList,
}

impl Step {
    /// Begins an operation that was checked.
    pub fn new<W: WritePages>(store: &Store<W>, op: &Op<'_>) -> Result<Step, Cold> {
        Ok(match op {
            Op::Range(range) if !range::is_single(range) => {
                let task = RangeTask::new(&store.building(), range)?;
                Step::Range(Box::new(task.expect("the revision was checked")))
            }
            Op::DeleteRange(delete) if delete.keys.end != RangeEnd::Single => Step::Delete(Box::default()),
            _ => Step::AtOnce,
        })
    }

    /// Goes on with `op`, the one it was begun with.
    pub fn advance<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
        op: &Op<'_>,
    ) -> Result<Progress<OpAnswer>, Cold> {
        Ok(Progress::Done(match (self, op) {
            (Step::Range(task), _) => {
                return Ok(task.advance(&store.building(), budget)?.map(OpAnswer::Range));
            }
            (Step::AtOnce, _) if !budget.spend() => return Ok(Progress::More),
            (Step::AtOnce, Op::Range(range)) => {
                let answer = range::read_one(&store.building(), range)?;
                OpAnswer::Range(answer.expect("the revision was checked"))
            }
            (Step::AtOnce, Op::Put(put)) => {
                let prev = store.put(put)?;
                OpAnswer::Put(PutAnswer {
                    revision: store.next_revision(),
                    prev: prev.filter(|_| put.prev_kv),
                })
            }
            (Step::AtOnce, Op::DeleteRange(delete)) => OpAnswer::DeleteRange(delete_one(store, delete)?),
            (Step::Delete(deleting), Op::DeleteRange(delete)) => {
                if !deleting.advance(store, budget, delete)? {
                    return Ok(Progress::More);
                }
                let (deleted, prev) = (deleting.deleted, std::mem::take(&mut deleting.prev));
                OpAnswer::DeleteRange(DeleteAnswer { revision: store.seen_revision(), deleted, prev })
            }
            (step, op) => unreachable!("{step:?} was not begun with {op:?}"),
        }))
    }
}

/// Deletes one key, if it exists.
fn delete_one<W: WritePages>(store: &mut Store<W>, delete: &DeleteRange<'_>) -> Result<DeleteAnswer, Cold> {
    let key = delete.keys.key;
    let newest = store.building().index.get(key)?.filter(KeyEntry::is_live);
    let mut prev = KvList::default();
    if let Some(entry) = &newest {
        store.delete(key, entry)?;
        if delete.prev_kv {
            prev.push(entry.seq, entry.wire_len);
        }
    }
    Ok(DeleteAnswer { revision: store.seen_revision(), deleted: i64::from(newest.is_some()), prev })
}

impl Deleting {
    /// True when all keys are deleted.
    fn advance<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
        delete: &DeleteRange<'_>,
    ) -> Result<bool, Cold> {
        loop {
            while let Some((key, entry)) = self.batch.front() {
                if !budget.spend() {
                    return Ok(false);
                }
                store.delete(key, entry)?;
                self.deleted += 1;
                if delete.prev_kv {
                    self.prev.push(entry.seq, entry.wire_len);
                }
                self.batch.pop_front();
            }
            if self.exhausted {
                return Ok(true);
            }
            if budget.0 == 0 {
                return Ok(false);
            }
            self.find(store, budget, delete)?;
        }
    }

    /// Looks for keys to delete; tombstones cost as much to pass.
    fn find<W: WritePages>(
        &mut self,
        store: &Store<W>,
        budget: &mut Budget,
        delete: &DeleteRange<'_>,
    ) -> Result<(), Cold> {
        let index = store.building().index;
        let mut scan = match &self.after {
            None => index.scan(delete.keys),
            Some(last) => index.scan_after(delete.keys, last),
        };
        while self.batch.len() < DELETE_BATCH && budget.spend() {
            let Some((key, entry)) = scan.next()? else {
                self.exhausted = true;
                break;
            };
            if entry.is_live() {
                self.batch.push_back((key.to_vec(), entry));
            }
            let after = self.after.get_or_insert_default();
            after.clear();
            after.extend_from_slice(key);
        }
        Ok(())
    }
}

impl KvList {
    /// Adds a record whose KeyValue has `wire_len` bytes.
    pub fn push(&mut self, seq: Seq, wire_len: u32) {
        self.seqs.push(seq);
        self.encoded_len += wire::message_field_len(wire_len as usize) as u64;
    }
}
