//! Transactions that only read: they never enter the log (etcd's `isTxnReadonly`).
//!
//! Compares are evaluated and every range is pinned to the version at hand when the read begins; then the ranges are
//! read in slices, all at that one version.

use super::txn::{self, Compares};
use crate::error::ApiError;
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::range::{Progress, RangeTask};
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::request::{Op, Txn};
use crate::response::{OpAnswer, TxnAnswer};
use crate::types::Revision;

/// Whether a transaction is answered without the log: all operations of both branches are ranges. One that holds
/// nested transactions is not, even if those only read.
pub fn is_read_only(txn: &Txn<'_>) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, Op::Range(_)))
}

/// Whether a read-only transaction may be answered without asking the leader: all ranges are serializable, which is
/// so when there are none.
pub fn is_serializable(txn: &Txn<'_>) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, Op::Range(range) if range.serializable))
}

/// A read-only transaction under way.
#[derive(Debug)]
pub struct ReadTxn {
    revision: Revision,
    succeeded: bool,
    /// Ranges not read yet, last first.
    tasks: Vec<RangeTask>,
    answers: Vec<OpAnswer>,
    pinned: Revision,
}

impl ReadTxn {
    /// Decides and begins.
    pub fn new<R: ReadPages>(view: &View<'_, R>, txn: &Txn<'_>) -> Result<Result<ReadTxn, ApiError>, Cold> {
        // In one go: the next slice might see another version.
        let decided = Compares::default().advance(view, txn, &mut Budget(u32::MAX))?;
        let Progress::Done(choice) = decided else { unreachable!("a budget that nobody can use up") };
        if let Err(error) = txn::check(view, txn, &choice)? {
            return Ok(Err(error));
        }
        let mut tasks = Vec::new();
        for op in txn::chosen(txn, &choice).into_iter().rev() {
            let Op::Range(range) = op else { unreachable!("{op:?} in a read-only transaction") };
            match RangeTask::new(view, range)? {
                Ok(task) => tasks.push(task),
                Err(error) => return Ok(Err(error)),
            }
        }
        let (revision, succeeded) = (view.revision, choice.succeeded);
        let pinned = tasks.iter().map(RangeTask::pinned).fold(revision, Revision::min);
        Ok(Ok(ReadTxn { revision, succeeded, tasks, answers: Vec::new(), pinned }))
    }

    /// The oldest revision that it reads.
    pub fn pinned(&self) -> Revision {
        self.pinned
    }

    /// Goes on until all ranges are read or the budget is used up.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Progress<TxnAnswer>, Cold> {
        while let Some(task) = self.tasks.last_mut() {
            match task.advance(view, budget)? {
                Progress::Done(answer) => self.answers.push(OpAnswer::Range(answer)),
                Progress::More => return Ok(Progress::More),
            }
            self.tasks.pop();
        }
        let ops = std::mem::take(&mut self.answers);
        Ok(Progress::Done(TxnAnswer { revision: self.revision, succeeded: self.succeeded, ops }))
    }
}
