//! A committed command becomes a state change: the same one on every member, in every replay.
//!
//! Nothing here looks at a clock, at who asked, or at anything but the command and the store. Long commands are
//! applied in slices: [`Applying::advance`] stops when its budget is used up or something is cold, and goes on from
//! there, with the version being built not yet published, so that no reader and no later command sees half of it.
//!
//! Order of checks (etcd's `apply`): alarms, then the operation's own errors.

// Transactions: which branch, what must hold before the first write, how the answers fit together.
pub mod txn;

// One range, put or delete.
pub mod step;

// Granting and revoking leases.
mod lease;

// Transactions that only read, which never enter the log.
pub mod read_txn;

// What a write may add to the store.
pub mod quota;

use bytes::Bytes;

use crate::command::{self, Command, RequestId, Undecodable};
use crate::error::ApiError;
use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::range::Progress;
use crate::mvcc::store::Store;
use crate::mvcc::walk::Budget;
use crate::request::{Alarm, AlarmAction, AlarmKind, Compact, Op, Txn, Write};
use crate::response::{OpAnswer, Response};
use crate::types::{LeaseId, Revision};
use lease::Revoking;
use step::Step;
use txn::{Choice, Compares};

/// What a client gets for a write.
pub type Answer = Result<Response, ApiError>;

/// A command being applied.
#[derive(Debug)]
pub struct Applying {
    entry: Bytes,
    id: RequestId,
    /// Compares of the transaction read so far.
    compares: Compares,
    /// Which branches the transaction takes; known once all compares are read.
    choice: Option<Choice>,
    /// The operation under way, if one was begun.
    step: Option<Step>,
    answers: Vec<OpAnswer>,
    /// The lease being revoked.
    revoking: Option<Revoking>,
}

impl Applying {
    /// Begins with a committed entry's bytes.
    ///
    /// Errors: the entry is too short to be a command. It was committed, so this is damage, and the process must stop.
    pub fn new(entry: Bytes) -> Result<Applying, Undecodable> {
        let id = command::request_id(&entry)?;
        let (compares, answers) = (Compares::default(), Vec::new());
        Ok(Applying { entry, id, compares, choice: None, step: None, answers, revoking: None })
    }

    /// Who waits for the answer.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Goes on until the command is applied or the budget is used up.
    ///
    /// Errors: something is cold; or the entry is no command of a known format, which is damage or a newer version's
    /// entry.
    pub fn advance<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
    ) -> Result<Progress<Answer>, Cold> {
        // Borrowed fields cannot be kept beside the bytes they borrow from, so every slice decodes again. Nearly all
        // commands need one.
        let entry = self.entry.clone();
        let Command { write, .. } = command::decode(&entry).map_err(|Undecodable| self.undecodable())?;
        if self.is_untouched()
            && let Some(error) = gate(store, &write)
        {
            return Ok(Progress::Done(Err(error)));
        }
        match write {
            Write::Compact(compact) => Ok(Progress::Done(apply_compact(store, compact))),
            Write::Alarm(alarm) => apply_alarm(store, alarm).map(Progress::Done),
            Write::LeaseGrant(grant) => lease::grant(store, grant).map(Progress::Done),
            Write::LeaseRevoke(id) => self.advance_revoke(store, budget, id),
            Write::LeaseCheckpoint(checkpoints) => lease::checkpoint(store, checkpoints).map(Progress::Done),
            Write::Put(put) => self.advance_single(store, budget, Op::Put(put)),
            Write::DeleteRange(delete) => self.advance_single(store, budget, Op::DeleteRange(delete)),
            Write::Txn(txn) => self.advance_txn(store, budget, &txn),
        }
    }

    fn undecodable(&self) -> Cold {
        Cold::Damaged(format!(
            "command {} is committed and not decodable: it is damaged, or a newer version of kontiki wrote it",
            self.id.0
        ))
    }

    fn is_untouched(&self) -> bool {
        self.choice.is_none() && self.step.is_none() && self.answers.is_empty() && self.revoking.is_none()
    }

    fn advance_revoke<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
        id: LeaseId,
    ) -> Result<Progress<Answer>, Cold> {
        if self.revoking.is_none() && store.building().lease(id)?.is_none() {
            return Ok(Progress::Done(Err(ApiError::LeaseNotFound)));
        }
        let revoking = self.revoking.get_or_insert_default();
        if !revoking.advance(store, budget, id)? {
            return Ok(Progress::More);
        }
        store.end_transaction();
        Ok(Progress::Done(Ok(Response::LeaseRevoke { revision: store.revision(), id })))
    }

    fn advance_single<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
        op: Op<'_>,
    ) -> Result<Progress<Answer>, Cold> {
        if self.step.is_none() {
            if let Err(error) = txn::check_single(&store.building(), &op)? {
                return Ok(Progress::Done(Err(error)));
            }
            self.step = Some(Step::new(store, &op)?);
        }
        let step = self.step.as_mut().expect("just begun");
        let Progress::Done(answer) = step.advance(store, budget, &op)? else { return Ok(Progress::More) };
        store.end_transaction();
        Ok(Progress::Done(Ok(match answer {
            OpAnswer::Put(put) => Response::Put(put),
            OpAnswer::DeleteRange(delete) => Response::DeleteRange(delete),
            other => unreachable!("a put or delete answered {other:?}"),
        })))
    }

    fn advance_txn<W: WritePages>(
        &mut self,
        store: &mut Store<W>,
        budget: &mut Budget,
        txn: &Txn<'_>,
    ) -> Result<Progress<Answer>, Cold> {
        if self.choice.is_none() {
            let decided = self.compares.advance(&store.building(), txn, budget)?;
            let Progress::Done(choice) = decided else { return Ok(Progress::More) };
            if let Err(error) = txn::check(&store.building(), txn, &choice)? {
                return Ok(Progress::Done(Err(error)));
            }
            self.choice = Some(choice);
        }
        let choice = self.choice.as_ref().expect("just decided");
        let ops = txn::chosen(txn, choice);
        while let Some(op) = ops.get(self.answers.len()) {
            if self.step.is_none() {
                self.step = Some(Step::new(store, op)?);
            }
            let step = self.step.as_mut().expect("just begun");
            let Progress::Done(answer) = step.advance(store, budget, op)? else { return Ok(Progress::More) };
            self.step = None;
            self.answers.push(answer);
        }
        let revision = store.seen_revision();
        store.end_transaction();
        let answers = std::mem::take(&mut self.answers);
        Ok(Progress::Done(Ok(Response::Txn(txn::assemble(txn, choice, answers, revision)))))
    }
}

/// What active alarms refuse.
fn gate<W: WritePages>(store: &Store<W>, write: &Write<'_>) -> Option<ApiError> {
    let (writes, grows) = match write {
        Write::Put(_) => (true, true),
        Write::DeleteRange(_) | Write::Compact(_) => (true, false),
        // One that was proposed counts as a write, even if its nested transactions only read.
        Write::Txn(txn) => (true, txn::has_puts(txn)),
        Write::LeaseGrant(_) => (true, true),
        Write::LeaseRevoke(_) => (true, false),
        Write::Alarm(_) | Write::LeaseCheckpoint(_) => (false, false),
    };
    if writes && store.has_alarm(AlarmKind::Corrupt) {
        return Some(ApiError::Corrupt);
    }
    (grows && store.has_alarm(AlarmKind::NoSpace)).then_some(ApiError::NoSpace)
}

fn apply_compact<W: WritePages>(store: &mut Store<W>, compact: Compact) -> Answer {
    let revision = Revision(compact.revision);
    if revision <= store.compacted() {
        return Err(ApiError::Compacted);
    }
    if revision > store.revision() {
        return Err(ApiError::FutureRevision);
    }
    store.compact(revision);
    Ok(Response::Compact { revision: store.revision() })
}

fn apply_alarm<W: WritePages>(store: &mut Store<W>, alarm: Alarm) -> Result<Answer, Cold> {
    let Alarm { action, member, kind } = alarm;
    let alarms = match (action, kind) {
        (AlarmAction::Get, AlarmKind::None) => store.alarms().collect(),
        (AlarmAction::Get, kind) => store.alarms().filter(|(_, raised)| *raised == kind).collect(),
        (_, AlarmKind::None) => Vec::new(),
        (AlarmAction::Activate, kind) => {
            store.set_alarm(member, kind, true)?;
            vec![(member, kind)]
        }
        (AlarmAction::Deactivate, kind) => {
            let was_raised = store.set_alarm(member, kind, false)?;
            if was_raised { vec![(member, kind)] } else { Vec::new() }
        }
    };
    Ok(Ok(Response::Alarm { revision: store.revision(), alarms }))
}

#[cfg(test)]
pub(crate) mod tests;
