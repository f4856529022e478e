//! Chunks that are worth moving.

use std::collections::BTreeSet;

use crate::mvcc::history::History;
use crate::types::Seq;

/// Dead records may take one byte in so many; then the deadest chunks are moved.
const DEAD_PART: u64 = 8;

/// But not those with less than this part of dead bytes: much to copy for little.
const CHUNK_PART_MIN: u64 = 16;

/// Chunks to be moved now, by their first record.
pub fn chunks(history: &History) -> BTreeSet<Seq> {
    let sparse: BTreeSet<u64> = history.sparse_files().collect();
    let mut chosen = BTreeSet::new();
    let mut others = Vec::new();
    let (mut all, mut dead) = (0, 0);
    for info in history.movable() {
        let (region, dead_bytes) = (u64::from(info.region), info.dead_bytes());
        all += region;
        if dead_bytes * 2 >= region || sparse.contains(&info.segment) {
            chosen.insert(info.first_seq);
        } else if dead_bytes * CHUNK_PART_MIN >= region {
            dead += dead_bytes;
            others.push((dead_bytes as f64 / region as f64, info.first_seq, dead_bytes));
        }
    }
    others.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    for (_, first, dead_bytes) in others {
        if dead * DEAD_PART <= all {
            break;
        }
        dead -= dead_bytes;
        chosen.insert(first);
    }
    chosen
}
