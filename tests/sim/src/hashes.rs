//! Whether every member leaves the same hash of each compaction.
//!
//! A member computes it in slices while it goes on, from records that reclaim moves meanwhile, and again after a restart;
//! what it says is compared by clients to find members that differ.

use std::collections::BTreeMap;

use engine::mvcc::hash::KvHash;
use engine::replica::Replica;

/// What was said so far.
#[derive(Debug, Default)]
pub struct Hashes {
    /// By the revision of the compaction: the first answer, and who gave it.
    said: BTreeMap<i64, (usize, KvHash)>,
    /// By member: the compaction whose hash is awaited or known.
    newest: BTreeMap<usize, (i64, bool)>,
    /// Comparisons made between two members, or two lives of one.
    pub compared: u64,
}

impl Hashes {
    /// Looks at what a member has, after anything may have changed.
    pub fn check(&mut self, node: usize, replica: &Replica) -> Result<(), String> {
        let compacted = replica.store().published().1.compacted.0;
        let newest = self.newest.entry(node).or_default();
        if newest.0 != compacted {
            *newest = (compacted, false);
        }
        if newest.1 {
            return Ok(());
        }
        let Some(hash) = replica.compaction_hash(compacted) else { return Ok(()) };
        newest.1 = true;
        let (first, said) = *self.said.entry(compacted).or_insert((node, hash));
        if said != hash {
            return Err(format!("node {node} leaves {hash:?} of a compaction, node {first} left {said:?}"));
        }
        self.compared += u64::from(first != node);
        Ok(())
    }

    /// The process has ended: what it knew it must find out again.
    pub fn died(&mut self, node: usize) {
        self.newest.remove(&node);
    }
}
