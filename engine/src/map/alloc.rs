//! Which slot of the file is whose, and when a slot may be used again.
//!
//! ```text
//!            allocate                publish                 retire, publish
//!   free ─────────────► private ─────────────────► live ───────────────────────┐
//!    ▲  ▲   retire         │                                                   ▼
//!    │  └──────────────────┘                     no checkpoint reaches it   some checkpoint k reaches it
//!    │                                                     │                   │  held until k+2 is durable:
//!    │                  every epoch passed                 ▼                   │  then the file's two metas are
//!    └───────────────────────────────────────────────── limbo ◄────────────────┘  k+1 and k+2
//! ```
//!
//! A page was born in version `b` and last reached by version `v`; a checkpoint of version `c` reaches it exactly if
//! `b <= c <= v`. Every checkpoint begun so far has `c <= v` and every later one `c > v`, so a retired page is held
//! exactly if the newest checkpoint begun is not older than `b`, and that one is the last to let it go. A page born
//! and retired between two checkpoints never waits for the disk, however long a checkpoint takes.

use std::collections::VecDeque;

use super::bitmap::Bitmap;
use super::layout::FIRST_PAGE;
use super::page::PageNo;
use crate::seeded::{self, Bug};

/// The slots of the file.
#[derive(Debug)]
pub(super) struct Slots {
    page_count_max: u32,
    /// Not free: private, live, held, in limbo, or a bitmap page of a checkpoint.
    used: Bitmap,
    /// Words of `used` without a free slot, so that a search skips 4096 slots at a step.
    full: Bitmap,
    /// Part of the newest published version.
    live: Bitmap,
    /// Live and in no checkpoint yet.
    dirty: Bitmap,
    /// Born in the batch that is being built.
    private: Bitmap,
    /// Every slot that ever was private in this batch; `private` tells which still are.
    born: Vec<PageNo>,
    /// Live slots the version being built does not reach, with their birth.
    retired: Vec<(PageNo, u64)>,
    /// `retired` as a set, to catch a page retired twice.
    retiring: Bitmap,
    /// Slots in use lie below this one.
    page_count: u32,
    /// Where the next search for a free slot starts.
    cursor: u32,
    held: VecDeque<Held>,
}

/// Slots whose last durable holder is one checkpoint.
#[derive(Debug)]
struct Held {
    generation: u64,
    pages: Vec<PageNo>,
}

/// The pages a publication took out of the tree.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// In no checkpoint: slot and memory are free once the epochs passed.
    pub young: Vec<PageNo>,
    /// In a checkpoint: only the memory is.
    pub held: Vec<PageNo>,
}

/// What a new checkpoint has to write.
#[derive(Debug)]
pub(super) struct Census {
    /// Tree pages that are in no checkpoint yet.
    pub dirty: Bitmap,
    /// All slots in use by the checkpoint.
    pub in_use: Bitmap,
    /// Slots for its bitmap, in order.
    pub bitmap_pages: Vec<PageNo>,
    /// Slots in use lie below this one.
    pub page_count: u32,
}

impl Slots {
    /// The slots as the newest checkpoint `generation` left them: `live` tree pages, and its own bitmap pages.
    pub fn new(
        page_count_max: u32,
        generation: u64,
        live: Bitmap,
        bitmap_pages: Vec<PageNo>,
        page_count: u32,
    ) -> Slots {
        let mut slots = Slots {
            page_count_max,
            used: Bitmap::default(),
            full: Bitmap::default(),
            live,
            dirty: Bitmap::default(),
            private: Bitmap::default(),
            born: Vec::new(),
            retired: Vec::new(),
            retiring: Bitmap::default(),
            page_count,
            cursor: FIRST_PAGE,
            held: VecDeque::new(),
        };
        let in_use = (0..FIRST_PAGE).chain(slots.live.iter()).chain(bitmap_pages.iter().map(|no| no.0));
        in_use.collect::<Vec<_>>().into_iter().for_each(|slot| slots.mark_used(slot));
        slots.held.push_back(Held { generation, pages: bitmap_pages });
        slots
    }

    /// Keeps slots that only the older of the two durable checkpoints reaches.
    pub fn hold_for_older(&mut self, generation: u64, pages: Vec<PageNo>) {
        assert!(self.held.front().is_some_and(|held| held.generation == generation + 1));
        for no in &pages {
            self.mark_used(no.0);
        }
        self.held.push_front(Held { generation, pages });
    }

    /// A free slot, now private. Panics at the limit: `Writer::room` tells in time.
    pub fn allocate(&mut self) -> PageNo {
        let no = self.take();
        self.private.set(no.0);
        self.born.push(no);
        no
    }

    /// Whether the page was born in the batch being built.
    pub fn is_private(&self, no: PageNo) -> bool {
        self.private.get(no.0)
    }

    /// Whether the newest published version reaches the page.
    pub fn is_live(&self, no: PageNo) -> bool {
        self.live.get(no.0)
    }

    /// Whether the page is live and in a durable checkpoint, given that none is out.
    pub fn is_clean(&self, no: PageNo) -> bool {
        self.live.get(no.0) && !self.dirty.get(no.0)
    }

    /// The live pages.
    pub fn live(&self) -> &Bitmap {
        &self.live
    }

    /// Live pages in no checkpoint yet.
    pub fn dirty_count(&self) -> u32 {
        self.dirty.count()
    }

    /// Slots that can still be allocated.
    pub fn room(&self) -> u32 {
        self.page_count_max - self.used.count()
    }

    /// Slots in use lie below this one.
    pub fn page_count(&self) -> u32 {
        self.page_count
    }

    /// Slots held for a durable checkpoint.
    pub fn held_count(&self) -> usize {
        self.held.iter().map(|held| held.pages.len()).sum()
    }

    /// Takes a private page back at once.
    pub fn discard(&mut self, no: PageNo) {
        assert!(self.private.clear(no.0), "{no:?} is not private");
        self.free(no);
    }

    /// The version being built does not reach the live page; the published one still does.
    pub fn retire(&mut self, no: PageNo, birth: u64) {
        assert!(self.live.get(no.0), "{no:?} is retired but not part of the tree");
        assert!(self.retiring.set(no.0), "{no:?} is retired twice");
        self.retired.push((no, birth));
    }

    /// The batch became the newest version. `checkpointed` is the version of the newest checkpoint begun.
    pub fn publish(&mut self, checkpointed: u64) -> Departed {
        let mut departed = Departed::default();
        for (no, birth) in std::mem::take(&mut self.retired) {
            self.live.clear(no.0);
            self.dirty.clear(no.0);
            self.retiring.clear(no.0);
            if birth > checkpointed { &mut departed.young } else { &mut departed.held }.push(no);
        }
        let newest = self.held.back_mut().expect("the newest checkpoint always has an entry");
        newest.pages.extend_from_slice(&departed.held);
        for no in std::mem::take(&mut self.born) {
            // A slot given back and allocated again in one batch is listed twice.
            if self.private.clear(no.0) {
                self.live.set(no.0);
                self.dirty.set(no.0);
            }
        }
        departed
    }

    /// Draws up what checkpoint `generation` of the newest published version has to write.
    pub fn begin_checkpoint(&mut self, generation: u64, slots_per_bitmap_page: u32) -> Census {
        let mut bitmap_pages = Vec::new();
        // The bitmap covers its own pages, which may be the last ones of the file.
        while bitmap_pages.len() < self.page_count.div_ceil(slots_per_bitmap_page) as usize {
            bitmap_pages.push(self.take());
        }
        let mut in_use = self.live.clone();
        for slot in (0..FIRST_PAGE).chain(bitmap_pages.iter().map(|no| no.0)) {
            in_use.set(slot);
        }
        self.held.push_back(Held { generation, pages: bitmap_pages.clone() });
        let dirty = std::mem::take(&mut self.dirty);
        Census { dirty, in_use, bitmap_pages, page_count: self.page_count }
    }

    /// Checkpoint `generation` is durable. Returns the slots that no meta of the file reaches any more; they are free
    /// once the epochs passed.
    pub fn finish_checkpoint(&mut self, generation: u64) -> Vec<PageNo> {
        let mut released = Vec::new();
        let kept = if seeded::is(Bug::ReuseSlotEarly) { 1 } else { 2 };
        while self.held.front().is_some_and(|held| held.generation + kept <= generation) {
            released.append(&mut self.held.pop_front().expect("just seen").pages);
        }
        released
    }

    /// The slot is free: no version, epoch or durable meta reaches it.
    pub fn free(&mut self, no: PageNo) {
        debug_assert!(!self.live.get(no.0) && !self.private.get(no.0), "{no:?} is freed while in use");
        assert!(self.used.clear(no.0), "{no:?} is freed twice");
        self.full.clear(no.0 / 64);
    }

    fn take(&mut self) -> PageNo {
        let end = self.page_count;
        let free = self.next_free(self.cursor, end).or_else(|| self.next_free(FIRST_PAGE, self.cursor));
        let slot = free.unwrap_or(end);
        assert!(slot < self.page_count_max, "all {} slots are in use", self.page_count_max);
        self.page_count = self.page_count.max(slot + 1);
        self.cursor = slot + 1;
        self.mark_used(slot);
        PageNo(slot)
    }

    /// The least free slot that is at least `from` and below `end`.
    fn next_free(&self, mut from: u32, end: u32) -> Option<u32> {
        while from < end {
            let word = self.full.next_absent(from / 64, end.div_ceil(64))?;
            let word_end = (word + 1) * 64;
            if let Some(slot) = self.used.next_absent(from.max(word * 64), word_end.min(end)) {
                return Some(slot);
            }
            from = word_end;
        }
        None
    }

    fn mark_used(&mut self, slot: u32) {
        assert!(self.used.set(slot), "slot {slot} is given out twice");
        if self.used.word(slot as usize / 64) == u64::MAX {
            self.full.set(slot / 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Slots {
        Slots::new(64, 0, Bitmap::default(), Vec::new(), FIRST_PAGE)
    }

    #[test]
    fn slots_come_in_order_and_private_ones_come_back_at_once() {
        let mut slots = fresh();
        assert_eq!((slots.allocate(), slots.allocate(), slots.allocate()), (PageNo(2), PageNo(3), PageNo(4)));
        slots.discard(PageNo(3));
        assert_eq!(slots.allocate(), PageNo(3), "the only free slot below the end");
        assert_eq!(slots.allocate(), PageNo(5));
        slots.publish(0);
        assert_eq!(slots.live().iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn every_free_slot_is_found_before_the_file_grows() {
        let mut slots = Slots::new(1000, 0, Bitmap::default(), Vec::new(), FIRST_PAGE);
        let all: Vec<PageNo> = (0..500).map(|_| slots.allocate()).collect();
        let mut freed: Vec<PageNo> = all.into_iter().filter(|no| no.0 % 67 < 3 || no.0 / 64 == 3).collect();
        freed.iter().for_each(|no| slots.discard(*no));
        let mut again: Vec<PageNo> = freed.iter().map(|_| slots.allocate()).collect();
        again.sort();
        freed.sort();
        assert_eq!(again, freed);
        assert_eq!(slots.allocate(), PageNo(502));
    }

    #[test]
    fn a_page_no_checkpoint_reaches_waits_for_none() {
        let mut slots = fresh();
        let page = slots.allocate();
        slots.publish(0);
        slots.retire(page, 1);
        let departed = slots.publish(0);
        assert_eq!((departed.young, departed.held), (vec![page], vec![]));
        slots.free(page);
        assert_eq!(slots.room(), 62);
    }

    #[test]
    fn a_checkpointed_page_is_held_until_the_second_checkpoint_after_its_last() {
        let mut slots = fresh();
        let page = slots.allocate();
        slots.publish(0);
        let census = slots.begin_checkpoint(1, 32);
        assert_eq!(census.dirty.iter().collect::<Vec<_>>(), [2]);
        assert_eq!(census.in_use.iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(slots.finish_checkpoint(1), []);
        slots.retire(page, 1);
        assert_eq!(slots.publish(1).held, [page]);
        slots.begin_checkpoint(2, 32);
        assert_eq!(slots.finish_checkpoint(2), []);
        slots.begin_checkpoint(3, 32);
        let bitmap_of_1 = PageNo(3);
        assert_eq!(slots.finish_checkpoint(3), [bitmap_of_1, page]);
    }

    #[test]
    fn the_bitmap_covers_its_own_pages() {
        let mut slots = Slots::new(64, 0, Bitmap::default(), Vec::new(), FIRST_PAGE);
        for _ in 0..6 {
            slots.allocate();
        }
        slots.publish(0);
        // Eight slots a page and eight in use: the first bitmap page makes a second one necessary.
        let census = slots.begin_checkpoint(1, 8);
        assert_eq!((census.bitmap_pages.len(), census.page_count), (2, 10));
    }

    #[test]
    #[should_panic(expected = "retired twice")]
    fn retiring_twice_is_our_mistake() {
        let mut slots = fresh();
        let page = slots.allocate();
        slots.publish(0);
        slots.retire(page, 1);
        slots.retire(page, 1);
    }
}
