//! Whether a transaction might write one key twice (etcd's "duplicate key").
//!
//! One list of operations is judged by these rules, the two branches of the outermost transaction separately:
//!
//! 1. `deletes` starts with all deletes of this level, wherever they stand.
//! 2. Each nested transaction in turn: its branches are judged on their own. A put of either branch must not be in
//!    `puts` (its two branches may share a key) nor inside `deletes`. Its puts are added; then its deletes are.
//! 3. Each put of this level must not be in `puts` nor inside `deletes`, and is added.
//!
//! So order matters between siblings (delete then put is refused, put then delete is not), and does not between a
//! level and its own puts. An inverted delete covers nothing, and neither does one to the end of the key space
//! (`range_end` of one zero byte): etcd's interval for it is inverted too.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ApiError;
use crate::request::{KeyRange, Op, RangeEnd};

/// Judges one branch of an outermost transaction.
pub fn check(ops: &[Op<'_>]) -> Result<(), ApiError> {
    // One operation alone, unless it nests, cannot collide: most transactions end here.
    if let [] | [Op::Range(_) | Op::Put(_) | Op::DeleteRange(_)] = ops {
        return Ok(());
    }
    written(ops).map(drop)
}

/// What a list of operations may write.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

fn written<'a>(ops: &[Op<'a>]) -> Result<Written<'a>, ApiError> {
    let mut all = Written::default();
    for op in ops {
        if let Op::DeleteRange(delete) = op {
            all.deletes.add(delete.keys);
        }
    }
    for op in ops {
        if let Op::Txn(txn) = op {
            all.nest(written(&txn.success)?, written(&txn.failure)?)?;
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            all.put(put.key)?;
        }
    }
    Ok(all)
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), ApiError> {
        if self.deletes.cover(key) || !self.puts.insert(key) { Err(ApiError::DuplicateKey) } else { Ok(()) }
    }

    /// Takes in the two branches of a nested transaction, of which one will run.
    fn nest(&mut self, success: Written<'a>, failure: Written<'a>) -> Result<(), ApiError> {
        for key in &success.puts {
            self.put(key)?;
        }
        for key in failure.puts.difference(&success.puts) {
            self.put(key)?;
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }
}

/// A union of deleted ranges.
#[derive(Default)]
struct Deletes<'a> {
    points: BTreeSet<&'a [u8]>,
    /// First key to bound, disjoint.
    spans: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    fn add(&mut self, keys: KeyRange<'a>) {
        match keys.end {
            RangeEnd::Single => {
                self.points.insert(keys.key);
            }
            RangeEnd::Before(bound) if keys.key < bound => self.add_span(keys.key, bound),
            RangeEnd::Before(_) | RangeEnd::Unbounded => {}
        }
    }

    /// Adds a span and merges it with those it touches.
    fn add_span(&mut self, mut first: &'a [u8], mut bound: &'a [u8]) {
        while let Some((&begin, &end)) =
            self.spans.range(..=bound).next_back().filter(|(_, end)| **end >= first)
        {
            self.spans.remove(begin);
            first = first.min(begin);
            bound = bound.max(end);
        }
        self.spans.insert(first, bound);
    }

    fn cover(&self, key: &[u8]) -> bool {
        self.points.contains(key)
            || self.spans.range(..=key).next_back().is_some_and(|(_, bound)| key < *bound)
    }

    fn extend(&mut self, other: Deletes<'a>) {
        self.points.extend(other.points);
        for (first, bound) in other.spans {
            self.add_span(first, bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{DeleteRange, Put, Range, Txn};

    fn put(key: &str) -> Op<'_> {
        Op::Put(Put { key: key.as_bytes(), ..Put::default() })
    }

    fn get<'a>(key: &'a str, end: &'a str) -> Op<'a> {
        Op::Range(Range::of(KeyRange::new(key.as_bytes(), end.as_bytes())))
    }

    fn delete<'a>(key: &'a str, end: &'a str) -> Op<'a> {
        Op::DeleteRange(DeleteRange { keys: KeyRange::new(key.as_bytes(), end.as_bytes()), prev_kv: false })
    }

    fn txn<'a>(success: &[Op<'a>], failure: &[Op<'a>]) -> Op<'a> {
        Op::Txn(Txn { compare: Vec::new(), success: success.to_vec(), failure: failure.to_vec() })
    }

    #[test]
    fn what_etcd_accepts_and_refuses() {
        let fine = |ops: &[Op<'_>]| assert_eq!(check(ops), Ok(()), "{ops:?}");
        let refused = |ops: &[Op<'_>]| assert_eq!(check(ops), Err(ApiError::DuplicateKey), "{ops:?}");

        fine(&[]);
        fine(&[put("a")]);
        fine(&[put("a"), put("b")]);
        refused(&[put("a"), put("b"), put("a")]);
        fine(&[put("a"), get("a", ""), get("a", "z")]);

        // A level's deletes and puts, in any order.
        refused(&[delete("a", ""), put("a")]);
        refused(&[put("a"), delete("a", "")]);
        refused(&[put("b"), delete("a", "c")]);
        fine(&[put("c"), delete("a", "c")]);
        fine(&[put("aa"), delete("a", "")]);
        fine(&[delete("a", ""), delete("a", ""), delete("a", "c"), delete("b", "d")]);
        refused(&[delete("a", "c"), delete("b", "d"), put("cc")]);
        refused(&[delete("a", "b"), delete("b", "c"), put("b")]);
        refused(&[delete("c", "d"), delete("a", "b"), delete("a", "z"), put("f")]);

        // Deletes etcd does not see.
        fine(&[put("b"), delete("a", "\0")]);
        fine(&[put("a"), delete("a", "\0")]);
        fine(&[put("b"), delete("c", "a")]);
        fine(&[put("a"), delete("a", "a")]);

        // Nested: branches exclude each other, siblings and the parent do not.
        fine(&[txn(&[put("a")], &[put("a")])]);
        refused(&[txn(&[put("a"), put("a")], &[])]);
        refused(&[txn(&[], &[put("a"), delete("a", "")])]);
        fine(&[txn(&[put("a")], &[delete("a", "")])]);
        refused(&[txn(&[put("a")], &[put("b")]), put("a")]);
        refused(&[put("b"), txn(&[put("a")], &[put("b")])]);
        refused(&[txn(&[put("a")], &[]), txn(&[], &[put("a")])]);
        fine(&[txn(&[put("a")], &[]), txn(&[put("b")], &[put("b")]), put("c")]);
        refused(&[txn(&[put("a")], &[]), delete("a", "b")]);
        refused(&[txn(&[], &[delete("a", "")]), put("a")]);
        refused(&[put("a"), txn(&[], &[delete("a", "b")])]);
        // Siblings: delete then put is refused, put then delete is not.
        refused(&[txn(&[delete("a", "")], &[]), txn(&[put("a")], &[])]);
        fine(&[txn(&[put("a")], &[]), txn(&[delete("a", "")], &[])]);
        refused(&[txn(&[], &[delete("a", "b")]), txn(&[], &[put("aa")])]);

        // Deeper levels count as their parents do.
        refused(&[txn(&[txn(&[put("a")], &[])], &[]), put("a")]);
        refused(&[txn(&[txn(&[], &[delete("a", "")])], &[]), put("a")]);
        fine(&[txn(&[txn(&[put("a")], &[put("a")])], &[txn(&[put("a")], &[])])]);
    }
}
