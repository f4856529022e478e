//! Publication of tree versions, and the epochs that tell when an old version has no reader left.
//!
//! A version is a number, a root page and a few words of the store. The writer publishes it with one atomic store;
//! a reader *pins* by noting in its own slot the version it saw, and then reads the newest one. What the next
//! version no longer reaches is reused once every pinned slot stands beyond the last version that reached it.
//!
//! Why it holds (Fraser's epochs, with the version number as the epoch):
//!
//! 1. The reader stores `pinned = e`, where `e` was current a moment ago, then a sequentially consistent fence, then
//!    reads `current` again and uses what it finds, `e' >= e`.
//! 2. The writer stores `current = v + 1`, then a sequentially consistent fence, then reads all slots and frees what
//!    was last reached by `v` only if every pinned slot is `> v`.
//! 3. One fence is first. If the reader's, the writer sees `pinned = e`; it frees only versions `< e <= e'`. If the
//!    writer's, the reader's second look finds `e' >= v + 1`, which does not reach what is freed.
//!
//! The words travel in a ring of records, each guarded as in a seqlock by `current` itself: record `v % RING` is
//! overwritten for version `v + RING`, so a reader that sees `current` move on by `RING - 1` or more meanwhile looks
//! again. All of it is safe code; `tests/loom_publish.rs` runs it under loom.

use super::page::PageNo;
use super::sync::{AtomicU64, Ordering, fence};

/// Words of its own the store publishes with a root: revision, history watermark and the like.
pub const TAG_WORDS: usize = 6;

/// The store's words.
pub type Tag = [u64; TAG_WORDS];

/// One published version of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number; each publication adds one. Goes on over restarts from the checkpoint's.
    pub number: u64,
    /// Its root page; none in a store that never had a tree.
    pub root: Option<PageNo>,
    /// The store's words.
    pub tag: Tag,
}

/// The newest version and who still reads older ones. Shared by one writer and many readers.
#[derive(Debug)]
pub struct Publication {
    current: AtomicU64,
    ring: [Record; RING],
    /// Slots are claimed and left by readers, so their number bounds the readers.
    slots: Box<[Slot]>,
    /// Slots beyond this many were never claimed; the writer need not look at them.
    claimed: AtomicU64,
}

/// Records are few: a reader looks again only if this many publications less one pass while it copies seven words.
const RING: usize = if cfg!(loom) { 2 } else { 8 };

#[derive(Debug)]
struct Record {
    root: AtomicU64,
    tag: [AtomicU64; TAG_WORDS],
}

/// A reader's slot on a cache line of its own: it is written twice per read.
#[derive(Debug)]
#[repr(align(64))]
struct Slot(AtomicU64);

/// No reader owns the slot.
const VACANT: u64 = u64::MAX;
/// Its reader holds nothing.
const IDLE: u64 = u64::MAX - 1;

impl Publication {
    /// Starts at `version`, with room for `readers_max` readers.
    pub fn new(version: Version, readers_max: usize) -> Publication {
        let publication = Publication {
            current: AtomicU64::new(version.number),
            ring: std::array::from_fn(|_| Record {
                root: AtomicU64::new(0),
                tag: std::array::from_fn(|_| AtomicU64::new(0)),
            }),
            slots: (0..readers_max).map(|_| Slot(AtomicU64::new(VACANT))).collect(),
            claimed: AtomicU64::new(0),
        };
        publication.record(version.number).fill(version);
        publication
    }

    /// Makes `version` the newest one. Only the one writer calls this, with the next number.
    pub fn publish(&self, version: Version) {
        let before = self.current.load(Ordering::Relaxed);
        assert_eq!(version.number, before + 1, "versions are published one after the other");
        // Whoever sees a word of the new record also sees that `current` reached `before`.
        fence(Ordering::Release);
        self.record(version.number).fill(version);
        self.current.store(version.number, Ordering::Release);
    }

    /// The newest version. What it reaches is safe to read for the writer, and for a reader that is pinned.
    pub fn newest(&self) -> Version {
        loop {
            let number = self.current.load(Ordering::Acquire);
            let record = self.record(number);
            let root = record.root.load(Ordering::Relaxed) as u32;
            let tag = std::array::from_fn(|i| record.tag[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if self.current.load(Ordering::Relaxed) - number < RING as u64 - 1 {
                return Version { number, root: (root != 0).then_some(PageNo(root)), tag };
            }
        }
    }

    /// Claims a slot for a new reader; none if there are as many readers as there may be.
    pub fn register(&self) -> Option<usize> {
        let slot = self.slots.iter().position(|slot| {
            slot.0.compare_exchange(VACANT, IDLE, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })?;
        // Ordered like the pins themselves: before the fence of the first one.
        self.claimed.fetch_max(slot as u64 + 1, Ordering::Relaxed);
        Some(slot)
    }

    /// Gives up a reader's slot.
    pub fn deregister(&self, slot: usize) {
        self.slots[slot].0.store(VACANT, Ordering::Release);
    }

    /// Holds on to the newest version and everything after it, until [`Publication::unpin`].
    pub fn pin(&self, slot: usize) -> Version {
        let seen = self.current.load(Ordering::Relaxed);
        // Release: a writer that sees this pin also has every read under the slot's earlier pins behind it.
        self.slots[slot].0.store(seen, Ordering::Release);
        fence(Ordering::SeqCst);
        self.newest()
    }

    /// Lets go. The reader's reads happen before whatever the writer does to the pages then.
    pub fn unpin(&self, slot: usize) {
        self.slots[slot].0.store(IDLE, Ordering::Release);
    }

    /// The oldest version some reader may hold, or `u64::MAX - 1` or more when there is none. Only the one writer
    /// calls this: what was last reached before the answer is free.
    pub fn oldest_pinned(&self) -> u64 {
        fence(Ordering::SeqCst);
        let claimed = &self.slots[..self.claimed.load(Ordering::Relaxed) as usize];
        claimed.iter().map(|slot| slot.0.load(Ordering::Acquire)).min().unwrap_or(VACANT)
    }

    fn record(&self, number: u64) -> &Record {
        &self.ring[(number % RING as u64) as usize]
    }
}

impl Record {
    fn fill(&self, version: Version) {
        self.root.store(version.root.map_or(0, |no| u64::from(no.0)), Ordering::Relaxed);
        for (word, value) in self.tag.iter().zip(version.tag) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn version(number: u64) -> Version {
        Version { number, root: Some(PageNo(number as u32 + 2)), tag: [number; TAG_WORDS] }
    }

    #[test]
    fn a_pin_holds_its_version_and_later_ones() {
        let publication = Publication::new(version(5), 2);
        let slot = publication.register().unwrap();
        assert!(publication.oldest_pinned() >= IDLE);
        assert_eq!(publication.pin(slot), version(5));
        for number in 6..30 {
            publication.publish(version(number));
            assert_eq!(publication.newest(), version(number));
            assert_eq!(publication.oldest_pinned(), 5);
        }
        publication.unpin(slot);
        assert!(publication.oldest_pinned() >= IDLE);
        assert_eq!(publication.pin(slot), version(29));
    }

    #[test]
    fn slots_are_bounded_and_used_again() {
        let publication = Publication::new(version(0), 2);
        assert_eq!((publication.register(), publication.register()), (Some(0), Some(1)));
        assert_eq!(publication.register(), None);
        publication.deregister(0);
        assert_eq!(publication.register(), Some(0));
    }
}
