//! Hashes that compactions leave, computed behind the scenes: a slice each turn.

use super::{CallId, Coming, Event, Fatal, Replica};
use crate::mvcc::hash::{CompactionHashes, KvHash};
use crate::mvcc::walk::Budget;
use crate::types::Revision;

/// What one turn spends: about a tenth of a millisecond.
const SLICE: Budget = Budget(1024);

/// Hashes and who waits for them.
#[derive(Debug, Default)]
pub struct Hashing {
    hashes: CompactionHashes,
    /// What is hashed next is cold, and under way.
    cold: bool,
    /// Calls that want the hash of a compaction.
    waiting: Vec<(i64, CallId)>,
}

impl Hashing {
    /// There was a compaction at `revision`, after one at `before`.
    pub fn push(&mut self, before: Revision, revision: Revision) {
        self.hashes.push(before, revision);
    }

    /// Something was brought in: try again.
    pub fn warmed(&mut self) {
        self.cold = false;
    }

    /// Whether there is anything to hash now.
    pub fn has_work(&self) -> bool {
        self.hashes.is_busy() && !self.cold
    }
}

impl Replica {
    /// Goes on with the hash of the oldest compaction that has none.
    pub(super) fn advance_hashes(&mut self) -> Result<(), Fatal> {
        if !self.hashing.has_work() {
            return Ok(());
        }
        let before = self.hashed_up_to();
        if let Err(cold) = self.hashing.hashes.advance(&self.store.view(), &mut SLICE.clone()) {
            self.hashing.cold = self.want(&cold)? != Coming::Now;
        }
        if self.hashed_up_to() != before {
            let Hashing { hashes, waiting, .. } = &mut self.hashing;
            let events = &mut self.events;
            waiting.retain(|&(revision, call)| {
                let pending = hashes.is_pending(revision);
                if !pending {
                    events.push_back(Event::Go { call });
                }
                pending
            });
        }
        Ok(())
    }

    /// The hash that a compaction at `revision` left.
    pub fn compaction_hash(&self, revision: i64) -> Option<KvHash> {
        self.hashing.hashes.at(revision)
    }

    /// If the hash of the compaction at `revision` is being computed, the call hears by [`Event::Go`] when it is there.
    pub fn wait_for_hash(&mut self, revision: i64, call: CallId) -> bool {
        let pending = self.hashing.hashes.is_pending(revision);
        if pending {
            self.hashing.waiting.push((revision, call));
        }
        pending
    }

    /// Compactions up to this revision have left their hashes: what only later ones made dead must stay until they have.
    pub fn hashed_up_to(&self) -> Revision {
        self.hashing.hashes.pin().unwrap_or(self.store.published().1.compacted)
    }
}
