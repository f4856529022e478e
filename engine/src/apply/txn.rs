//! Transactions: which branch, what must hold before the first write, how the answers fit together.
//!
//! All compares, those of nested transactions too, look at the state before the outermost transaction (etcd's
//! `server/etcdserver/txn`), so the whole path is known before anything is written. Then everything on the path that
//! could fail is checked, again against that state. After that nothing fails.

use crate::error::ApiError;
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::range::Progress;
use crate::mvcc::view::{Found, View};
use crate::mvcc::walk::{Budget, Walk};
use crate::request::{Compare, CompareResult, CompareTarget, Filter, KeyRange, Op, Put, RangeEnd, Txn};
use crate::response::{OpAnswer, TxnAnswer};
use crate::types::{LeaseId, Revision};

/// Which branch each transaction takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// All compares held.
    pub succeeded: bool,
    /// Choices of the nested transactions of the branch, in order.
    nested: Vec<Choice>,
}

impl Choice {
    fn branch<'t, 'a>(&self, txn: &'t Txn<'a>) -> &'t [Op<'a>] {
        if self.succeeded { &txn.success } else { &txn.failure }
    }
}

/// Compares on the path, evaluated in slices: what is known so far.
///
/// The state before the transaction does not change meanwhile, so results stay good.
#[derive(Debug, Default)]
pub struct Compares {
    /// Results in order of the path.
    results: Vec<bool>,
    /// The compare of a range under way.
    range: Option<ComparingRange>,
}

#[derive(Debug)]
struct ComparingRange {
    walk: Walk,
    /// No key was met yet.
    empty: bool,
    /// All keys met so far satisfy it.
    holds: bool,
}

impl Compares {
    /// Goes on until the path is known or the budget is used up.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        txn: &Txn<'_>,
        budget: &mut Budget,
    ) -> Result<Progress<Choice>, Cold> {
        Deciding { view, compares: self, nth: 0, budget }.choose(txn)
    }
}

/// A walk down the path, passing over what is known.
struct Deciding<'d, 'v, R> {
    view: &'d View<'v, R>,
    compares: &'d mut Compares,
    /// Compares passed.
    nth: usize,
    budget: &'d mut Budget,
}

impl<R: ReadPages> Deciding<'_, '_, R> {
    fn choose(&mut self, txn: &Txn<'_>) -> Result<Progress<Choice>, Cold> {
        let mut choice = Choice { succeeded: true, nested: Vec::new() };
        for compare in &txn.compare {
            let Progress::Done(holds) = self.next_holds(compare)? else { return Ok(Progress::More) };
            if !holds {
                choice.succeeded = false;
                break;
            }
        }
        for op in choice.branch(txn) {
            if let Op::Txn(nested) = op {
                let Progress::Done(nested) = self.choose(nested)? else { return Ok(Progress::More) };
                choice.nested.push(nested);
            }
        }
        Ok(Progress::Done(choice))
    }

    fn next_holds(&mut self, compare: &Compare<'_>) -> Result<Progress<bool>, Cold> {
        let nth = self.nth;
        self.nth += 1;
        if let Some(&known) = self.compares.results.get(nth) {
            return Ok(Progress::Done(known));
        }
        let progress = match compare.keys.end {
            RangeEnd::Single if !self.budget.spend() => Progress::More,
            RangeEnd::Single => {
                Progress::Done(holds_for(self.view, compare, self.view.get(compare.keys.key)?)?)
            }
            _ => self.range_holds(compare)?,
        };
        if let Progress::Done(holds) = progress {
            self.compares.results.push(holds);
        }
        Ok(progress)
    }

    /// Whether all keys of a range satisfy a compare.
    fn range_holds(&mut self, compare: &Compare<'_>) -> Result<Progress<bool>, Cold> {
        let now = self.view.now()?;
        let range = self.compares.range.get_or_insert_with(|| {
            let walk = Walk::new(compare.keys, now, Filter::default());
            ComparingRange { walk, empty: true, holds: true }
        });
        let ComparingRange { walk, empty, holds } = range;
        let over = walk.advance(self.view, self.budget, |found, _| {
            *holds = holds_for(self.view, compare, Some(found))?;
            *empty = false;
            Ok(*holds)
        })?;
        if !over {
            return Ok(Progress::More);
        }
        // An empty range behaves like a missing key.
        let holds = if *empty { holds_for(self.view, compare, None)? } else { *holds };
        self.compares.range = None;
        Ok(Progress::Done(holds))
    }
}

fn holds_for<R: ReadPages>(
    view: &View<'_, R>,
    compare: &Compare<'_>,
    found: Option<Found>,
) -> Result<bool, Cold> {
    let number = |of: fn(&Found) -> i64| found.as_ref().map_or(0, of);
    let order = match compare.target {
        CompareTarget::Version(given) => number(|f| f.version).cmp(&given),
        CompareTarget::Create(given) => number(|f| f.created.0).cmp(&given),
        CompareTarget::Mod(given) => number(|f| f.modified.0).cmp(&given),
        CompareTarget::Lease(given) => number(|f| f.lease.0).cmp(&given),
        CompareTarget::Unknown(_) => std::cmp::Ordering::Equal,
        CompareTarget::Value(given) => {
            let Some(found) = found else { return Ok(false) };
            let record = view.history.record(found.seq)?.expect("a version that exists has its record");
            record.fields().value.cmp(given)
        }
    };
    Ok(match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Unknown(_) => true,
    })
}

/// Checks everything on the path that could fail.
///
/// Almost all of it is judged by the state before the transaction, as in etcd. The exception is what etcd dies of: a
/// put that keeps the old value of a key which a delete before it, one without an end that the overlap rules
/// do not see, takes away.
pub fn check<R: ReadPages>(
    view: &View<'_, R>,
    txn: &Txn<'_>,
    choice: &Choice,
) -> Result<Result<(), ApiError>, Cold> {
    let mut deleted: Vec<KeyRange<'_>> = Vec::new();
    for op in chosen(txn, choice) {
        match op {
            Op::DeleteRange(delete) => deleted.push(delete.keys),
            Op::Put(put) if keeps_something(put) && deleted.iter().any(|keys| keys.contains(put.key)) => {
                return Ok(Err(ApiError::KeyNotFound));
            }
            _ => {}
        }
        let checked = check_op(view, op)?;
        if checked.is_err() {
            return Ok(checked);
        }
    }
    Ok(Ok(()))
}

fn keeps_something(put: &Put<'_>) -> bool {
    put.ignore_value || put.ignore_lease
}

/// Checks one operation against the state before the transaction.
fn check_op<R: ReadPages>(view: &View<'_, R>, op: &Op<'_>) -> Result<Result<(), ApiError>, Cold> {
    match op {
        Op::Range(range) => Ok(check_revision(view, range.revision)),
        // etcd asks for the key first here, and for the lease first outside a transaction.
        Op::Put(put) => {
            check_kept(view, put)?.map_or_else(|error| Ok(Err(error)), |()| check_lease(view, put))
        }
        Op::DeleteRange(_) => Ok(Ok(())),
        Op::Txn(_) => unreachable!("a nested transaction is checked operation by operation"),
        Op::Unset => Ok(Err(ApiError::KeyNotFound)),
    }
}

/// Checks a put or delete outside a transaction.
pub fn check_single<R: ReadPages>(view: &View<'_, R>, op: &Op<'_>) -> Result<Result<(), ApiError>, Cold> {
    match op {
        Op::Put(put) => {
            check_lease(view, put)?.map_or_else(|error| Ok(Err(error)), |()| check_kept(view, put))
        }
        op => check_op(view, op),
    }
}

/// Inside a transaction a negative revision is not simply "now", as it is outside: one below the compaction fails.
fn check_revision<R>(view: &View<'_, R>, asked: i64) -> Result<(), ApiError> {
    match asked {
        _ if asked > view.revision.0 => Err(ApiError::FutureRevision),
        0 => Ok(()),
        _ if asked < view.compacted.0 => Err(ApiError::Compacted),
        _ => Ok(()),
    }
}

/// A put that keeps something of a key needs the key.
fn check_kept<R: ReadPages>(view: &View<'_, R>, put: &Put<'_>) -> Result<Result<(), ApiError>, Cold> {
    Ok(if keeps_something(put) && view.get(put.key)?.is_none() { Err(ApiError::KeyNotFound) } else { Ok(()) })
}

/// A put that attaches its key to a lease needs the lease.
fn check_lease<R: ReadPages>(view: &View<'_, R>, put: &Put<'_>) -> Result<Result<(), ApiError>, Cold> {
    let exists = put.lease == LeaseId::NONE || view.lease(put.lease)?.is_some();
    Ok(if exists { Ok(()) } else { Err(ApiError::LeaseNotFound) })
}

/// The operations on the path, nested ones in their place, in order of execution.
pub fn chosen<'t, 'a>(txn: &'t Txn<'a>, choice: &Choice) -> Vec<&'t Op<'a>> {
    let (mut ops, mut nested) = (Vec::new(), choice.nested.iter());
    for op in choice.branch(txn) {
        match op {
            Op::Txn(txn) => ops.extend(chosen(txn, nested.next().expect("a choice a nested transaction"))),
            op => ops.push(op),
        }
    }
    ops
}

/// Puts the answers of [`chosen`] operations back into the shape of the transaction.
pub fn assemble(txn: &Txn<'_>, choice: &Choice, answers: Vec<OpAnswer>, revision: Revision) -> TxnAnswer {
    let mut answers = answers.into_iter();
    let answer = fill(txn, choice, &mut answers, revision);
    assert!(answers.next().is_none(), "an answer without its operation");
    answer
}

fn fill(
    txn: &Txn<'_>,
    choice: &Choice,
    answers: &mut impl Iterator<Item = OpAnswer>,
    revision: Revision,
) -> TxnAnswer {
    let mut nested = choice.nested.iter();
    let ops = choice.branch(txn).iter().map(|op| match op {
        Op::Txn(txn) => {
            let choice = nested.next().expect("a choice a nested transaction");
            OpAnswer::Txn(fill(txn, choice, answers, revision))
        }
        _ => answers.next().expect("an answer an operation"),
    });
    TxnAnswer { revision, succeeded: choice.succeeded, ops: ops.collect() }
}

/// Whether any branch could make the store grow.
pub fn has_puts(txn: &Txn<'_>) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Txn(nested) => has_puts(nested),
        op => matches!(op, Op::Put(_)),
    })
}
