//! Jump pointers: reading an old revision of a key costs O(log versions) hops.
//!
//! The chain of a key's records is a skew-binary list (Myers, "An applicative random-access stack", 1983): the
//! records fall into perfect trees whose sizes are 1, 3, 7, ...; a record that joins two trees of equal size becomes
//! the root of both, and its jump leads past them. To compute the next jump only the roots are needed, at most
//! 2 log n of them, so they are kept here for the keys that change often, by the sequence number of their newest
//! record. The book is bounded and lost at restart: a key without an entry starts a new bottom, its older records stay
//! reachable through `prev`, and no answer depends on it.

use std::collections::HashMap;

use crate::types::Seq;

/// Keys whose roots are kept.
const STACKS_MAX: usize = 64 * 1024;

/// A key's history is worth an entry from this version on: most Kubernetes objects never get there.
const VERSION_MIN: i64 = 4;

/// Roots of the trees of one key, oldest first: (records in the tree, its root).
type Stack = Vec<(u64, Seq)>;

/// The roots of frequently written keys.
#[derive(Debug, Default)]
pub struct Jumps {
    by_newest: HashMap<Seq, Stack>,
}

impl Jumps {
    /// Makes `seq` the newest record of the key whose newest one was `prev`, and returns its jump pointer.
    pub fn push(&mut self, prev: Option<Seq>, seq: Seq, version: i64) -> Option<Seq> {
        let prev = prev?;
        let mut stack = match self.by_newest.remove(&prev) {
            Some(stack) => stack,
            None if version < VERSION_MIN => return None,
            None => vec![(1, prev)],
        };
        match stack[..] {
            [.., (a, _), (b, _)] if a == b => {
                stack.truncate(stack.len() - 2);
                stack.push((a + b + 1, seq));
            }
            _ => stack.push((1, seq)),
        }
        let jump = stack.len().checked_sub(2).map(|below| stack[below].1);
        if self.by_newest.len() >= STACKS_MAX {
            self.by_newest.clear();
        }
        self.by_newest.insert(seq, stack);
        jump
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hops from the newest record to the newest one at or below `target`, following the rule of
    /// `History::version_at`.
    fn hops(jumps: &[Option<Seq>], target: u64) -> usize {
        let (mut at, mut hops) = (jumps.len() as u64, 0);
        while at > target {
            at = match jumps[at as usize - 1] {
                Some(jump) if jump.0 > target => jump.0,
                _ => at - 1,
            };
            hops += 1;
        }
        hops
    }

    fn chain(len: u64) -> Vec<Option<Seq>> {
        let mut book = Jumps::default();
        (1..=len).map(|n| book.push((n > 1).then(|| Seq(n - 1)), Seq(n), n as i64)).collect()
    }

    #[test]
    fn old_versions_are_a_few_hops_away() {
        let jumps = chain(100_000);
        let worst = (1..=100_000).map(|target| hops(&jumps, target)).max().unwrap();
        assert!(worst <= 42, "{worst} hops");
    }

    #[test]
    fn jumps_only_lead_back() {
        for (i, jump) in chain(5_000).into_iter().enumerate() {
            assert!(jump.is_none_or(|j| j.0 < i as u64 + 1), "record {} jumps to {jump:?}", i + 1);
        }
    }

    #[test]
    fn a_forgotten_key_starts_over() {
        let mut book = Jumps::default();
        assert_eq!(book.push(None, Seq(1), 1), None);
        assert_eq!(book.push(Some(Seq(900)), Seq(901), 800), Some(Seq(900)));
        assert_eq!(book.push(Some(Seq(901)), Seq(902), 801), None);
        assert_eq!(book.push(Some(Seq(902)), Seq(903), 802), Some(Seq(902)));
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = Jumps::default();
        for n in 0..3 * STACKS_MAX as u64 {
            book.push(Some(Seq(2 * n + 1)), Seq(2 * n + 2), 10);
            assert!(book.by_newest.len() <= STACKS_MAX);
        }
    }
}
