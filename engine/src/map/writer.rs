//! The one writer: builds the next version next to the published one, publishes it, and takes memory and slots back.
//!
//! A batch is whatever happens between two publications; it may be spread over many turns of the loop, as apply
//! yields after a millisecond. Pages born in the batch are private: nobody else has their number, so they are edited
//! in place. Published pages never change.

use std::sync::Arc;

use super::alloc::Slots;
use super::arena::{Frames, Prefault, Prefaulted};
use super::checkpoint::Checkpoint;
use super::epoch::{Tag, Version};
use super::evict::Eviction;
use super::layout::{self, SLOTS_PER_BITMAP_PAGE};
use super::limbo::{Free, Limbo, What};
use super::load::Reading;
use super::page::{Miss, PAGE_SIZE, Page, PageNo, ReadPages, WritePages};
use super::reader::Reader;
use super::space::{Locator, Place, Space};

/// Pages taken back at one publication at most, so that the end of a checkpoint costs no long turn.
const RECLAIM_STEP_MAX: usize = 4096;

/// The writer of the index. There is one, on the state core.
#[derive(Debug)]
pub struct Writer {
    pub(super) space: Arc<Space>,
    pub(super) slots: Slots,
    pub(super) frames: Frames,
    pub(super) limbo: Limbo,
    pub(super) published: Version,
    durable: Durable,
    pub(super) eviction: Eviction,
    /// Slots being read from the file; none of them may change hands meanwhile.
    pub(super) reading: Reading,
}

/// How far the file is.
#[derive(Debug)]
struct Durable {
    /// Newest durable checkpoint.
    generation: u64,
    /// Version of the newest checkpoint begun.
    begun: u64,
    /// A checkpoint is out: it reads pages of `begun`.
    out: bool,
    /// Pages it may still read although the tree dropped them.
    parked: Vec<PageNo>,
    /// Pages of the newest checkpoint, as an estimate of the next one.
    page_count: u32,
}

/// What the index takes up, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Pages of the newest version: times the page size, the index's share of dbSize.
    pub live: u32,
    /// Pages of it that are in no checkpoint yet.
    pub dirty: u32,
    /// Slots of the file up to the last one in use.
    pub file: u32,
    /// Slots kept for the two durable checkpoints only.
    pub held: usize,
    /// Pages, slots and frames that wait for readers of old versions.
    pub waiting: usize,
    /// Pages in memory, of any version, in frames or in the mapping.
    pub resident: u32,
    /// Frames opened so far, used or not: the anonymous memory.
    pub frames: u32,
    /// Frames opened and free.
    pub frames_free: u32,
}

impl Writer {
    pub(super) fn new(space: Arc<Space>, slots: Slots, published: Version, generation: u64) -> Writer {
        let durable =
            Durable { generation, begun: published.number, out: false, parked: Vec::new(), page_count: 0 };
        let frames = Frames::new(Arc::clone(&space));
        Writer {
            space,
            slots,
            frames,
            limbo: Limbo::default(),
            published,
            durable,
            eviction: Eviction::default(),
            reading: Reading::default(),
        }
    }

    /// The newest published version.
    pub fn version(&self) -> Version {
        self.published
    }

    /// A reader of published versions, for any core. Panics beyond `Limits::readers_max`.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.space))
    }

    /// Makes the batch the newest version, by one atomic store, and returns its number. The next batch begins.
    ///
    /// `root` must be part of the version and nothing retired may be reachable from it.
    pub fn publish(&mut self, root: PageNo, tag: Tag) -> u64 {
        assert!(
            self.slots.is_private(root) || self.slots.is_live(root),
            "root {root:?} is not a page of the version"
        );
        let old = self.published.number;
        self.published = Version { number: old + 1, root: Some(root), tag };
        self.space.publication.publish(self.published);
        // What departs now was still reached by `old`: it goes to limbo under that number, after the publication.
        let departed = self.slots.publish(self.durable.begun);
        assert!(self.slots.is_live(root), "root {root:?} was retired in its own batch");
        if !departed.young.is_empty() {
            self.limbo.push(old, What::Pages(departed.young));
        }
        if self.durable.out {
            self.durable.parked.extend(departed.held);
        } else if !departed.held.is_empty() {
            self.limbo.push(old, What::Memory(departed.held));
        }
        self.reclaim();
        old + 1
    }

    /// Takes back what no reader holds any more, at most a few thousand pages; returns whether more may be ready.
    /// Every publication does it, a driver may when idle.
    pub fn reclaim(&mut self) -> bool {
        let oldest = self.space.publication.oldest_pinned();
        for _ in 0..RECLAIM_STEP_MAX {
            match self.limbo.pop(oldest) {
                None => return false,
                Some(Free::Frame(frame)) => self.frames.give_back(frame),
                Some(Free::Memory(no)) => self.release_memory(no),
                Some(Free::Window(first)) => self.release_window(first),
                Some(Free::Page(no)) => {
                    self.release_memory(no);
                    if !self.reading.defer(no) {
                        self.slots.free(no);
                    }
                }
            }
        }
        true
    }

    /// Pages that can still be allocated before a limit is reached. Admission keeps a reserve of it: allocating
    /// beyond it is our mistake and panics.
    pub fn room(&self) -> u32 {
        self.slots.room().min(self.frames.room())
    }

    /// Begins the checkpoint of the newest published version; `payload` is what [`open`](super::open()) returns with it.
    ///
    /// The checkpoint does its work on any thread and comes back to [`Writer::finish_checkpoint`]. Until then no
    /// other can begin. Panics if the payload is too long or nothing was ever published.
    pub fn begin_checkpoint(&mut self, payload: &[u8]) -> Checkpoint {
        assert!(!self.durable.out, "a checkpoint of version {} is still out", self.durable.begun);
        let root = self.published.root.expect("a checkpoint needs a tree");
        let generation = self.durable.generation + 1;
        let census = self.slots.begin_checkpoint(generation, SLOTS_PER_BITMAP_PAGE);
        self.durable.out = true;
        self.durable.begun = self.published.number;
        self.durable.page_count = census.dirty.count();
        let meta = layout::Meta {
            generation,
            version: self.published.number,
            root: Some(root),
            page_count: census.page_count,
            payload: payload.to_vec(),
            bitmap_pages: census.bitmap_pages,
        };
        Checkpoint::new(Arc::clone(&self.space), meta, census.dirty, census.in_use)
    }

    /// Takes a durable checkpoint back: slots only the one before the last reached become free, pages move to the
    /// mapping where [`Checkpoint::settle`] made them resident. Returns the generation.
    ///
    /// The log and whatever else the *previous* checkpoint needed may be let go now, not what this one needs.
    pub fn finish_checkpoint(&mut self, checkpoint: Checkpoint) -> u64 {
        let (generation, settled) = checkpoint.into_durable(&self.space);
        assert!(
            self.durable.out && generation == self.durable.generation + 1,
            "checkpoint {generation} is not ours"
        );
        self.durable.generation = generation;
        self.durable.out = false;
        let now = self.published.number;
        let parked = std::mem::take(&mut self.durable.parked);
        self.limbo.push(now, What::Memory(parked));
        let mut frames = Vec::new();
        for no in settled.iter().map(PageNo).filter(|no| self.slots.is_live(*no)) {
            if let Place::Frame(frame) = self.space.place(no) {
                self.space.put(no, Place::Mapped);
                frames.push(frame);
            }
        }
        self.limbo.push(now, What::Frames(frames));
        self.retry_windows();
        let released = self.slots.finish_checkpoint(generation);
        self.limbo.push(now, What::Pages(released));
        generation
    }

    /// Work for the background thread: frames to fault in ahead of need.
    pub fn poll_prefault(&mut self) -> Option<Prefault> {
        self.frames.poll_prefault(self.durable.page_count.max(self.slots.dirty_count()))
    }

    /// The background thread did it.
    pub fn on_prefaulted(&mut self, done: Prefaulted) {
        self.frames.on_prefaulted(done);
    }

    /// Whether a checkpoint is out.
    pub(super) fn is_checkpointing(&self) -> bool {
        self.durable.out
    }

    /// What the index takes up now.
    pub fn usage(&self) -> Usage {
        Usage {
            live: self.slots.live().count(),
            dirty: self.slots.dirty_count(),
            file: self.slots.page_count(),
            held: self.slots.held_count(),
            waiting: self.limbo.len(),
            resident: self.space.resident(),
            frames: self.frames.open_count(),
            frames_free: self.frames.free_count(),
        }
    }

    /// For the handler of SIGBUS.
    pub fn locator(&self) -> Locator {
        self.space.locator()
    }

    /// Compares what is reachable from the newest root with the allocator's record of live pages. `children` lists
    /// the pages a page refers to, as only the tree knows them. For tests and debug builds: it visits every page.
    pub fn walk(&self, children: &mut dyn FnMut(&Page, &mut Vec<PageNo>)) -> Result<Walk, Miss> {
        let mut walk = Walk::default();
        let mut seen = super::bitmap::Bitmap::default();
        let mut next: Vec<PageNo> = self.published.root.into_iter().collect();
        while let Some(no) = next.pop() {
            if !self.slots.is_live(no) {
                walk.not_live.push(no);
            } else if seen.set(no.0) {
                children(self.page(no)?, &mut next);
            } else {
                walk.shared.push(no);
            }
        }
        walk.unreachable = self.slots.live().iter().filter(|no| !seen.get(*no)).map(PageNo).collect();
        Ok(walk)
    }

    /// Moves slots on whose read is over.
    pub(super) fn let_go(&mut self, deferred: Vec<PageNo>) {
        self.limbo.push(self.published.number, What::Pages(deferred));
    }

    fn release_memory(&mut self, no: PageNo) {
        match self.space.place(no) {
            Place::Nowhere => {}
            Place::Mapped => self.space.put(no, Place::Nowhere),
            Place::Frame(frame) => {
                self.space.put(no, Place::Nowhere);
                self.frames.give_back(frame);
            }
        }
    }
}

/// What [`Writer::walk`] found; all empty if the tree and the allocator agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Referred to, but not part of the tree by the allocator's record: about to be overwritten.
    pub not_live: Vec<PageNo>,
    /// Referred to more than once.
    pub shared: Vec<PageNo>,
    /// Part of the tree by the record, but nothing refers to them: leaked.
    pub unreachable: Vec<PageNo>,
}

impl ReadPages for Writer {
    fn page(&self, no: PageNo) -> Result<&Page, Miss> {
        // SAFETY: the answer borrows the writer, and only the writer, through `&mut self`, changes private pages or
        // hands memory out. Checkpoints write slots the tree does not contain.
        unsafe { self.space.page(no) }.ok_or(Miss { page: no })
    }
}

impl WritePages for Writer {
    fn allocate(&mut self) -> PageNo {
        let no = self.slots.allocate();
        let frame = self.frames.take();
        debug_assert_eq!(self.space.place(no), Place::Nowhere, "{no:?} was free but in memory");
        // SAFETY: the frame was just taken from the free ones, so nothing refers to it, and the writer is borrowed.
        let page = unsafe { self.space.frame_mut(frame) };
        *page = [0; PAGE_SIZE];
        layout::start_page(page, no, self.published.number + 1);
        self.space.put(no, Place::Frame(frame));
        no
    }

    fn is_private(&self, no: PageNo) -> bool {
        self.slots.is_private(no)
    }

    fn page_mut(&mut self, no: PageNo) -> &mut Page {
        assert!(self.slots.is_private(no), "{no:?} is not private to the batch");
        let Place::Frame(frame) = self.space.place(no) else {
            unreachable!("private page {no:?} is not in a frame");
        };
        // SAFETY: a private page is in no published version, so no reader and no checkpoint looks at its frame, and
        // the answer borrows the writer exclusively.
        unsafe { self.space.frame_mut(frame) }
    }

    fn retire(&mut self, no: PageNo) {
        if self.slots.is_private(no) {
            self.slots.discard(no);
            self.release_memory(no);
            return;
        }
        // A page never brought in is as old as any: every checkpoint so far holds it.
        let birth = self.page(no).map_or(0, layout::birth_of);
        self.slots.retire(no, birth);
    }
}
