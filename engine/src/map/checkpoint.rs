//! Writing one version to the file: pages, then the meta page that makes it the newest.
//!
//! ```text
//!  begin ─► pages in runs ─► sync ─► meta page ─► sync ─► durable ─► settle ─► finish
//!           (several at once)        (slot g % 2)                    (mapped files only)
//! ```
//!
//! 1. Slots written are free in both durable checkpoints, so a power cut during the pages harms neither.
//! 2. The meta page is written only after the sync of everything it refers to, over the older of the two; torn, it
//!    fails its checksum and the other one counts.
//! 3. Only after the second sync does the writer learn of it, and only then lets go of what the older one held.
//!
//! A pure core: it emits operations and is told how they ended. It is `Send` and needs nothing of the writer until
//! it is done, so the gathering (copy and checksum of each page) may run on a background thread; or the state core
//! polls it, at the pace it likes. A failed write or sync is final: nothing is retried, the process ends.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::MapError;
use super::bitmap::Bitmap;
use super::layout::{self, Meta};
use super::page::{PAGE_SIZE, Page, PageNo};
use super::range::Unpopulated;
use super::space::{Place, Space};
use crate::disk::{Disk, Durability, FileName, Op, Outcome, Owner, Token};
use crate::seeded::{self, Bug};

/// Longest write, in pages: 1 MiB.
const RUN_PAGES_MAX: u32 = 256;

/// Writes outstanding at most.
const WRITES_MAX: usize = 4;

/// Pages made resident at a time when settling: 256 KiB.
const SETTLE_PAGES: u32 = 64;

/// A checkpoint under way.
#[must_use = "slots and memory are held until it is finished"]
#[derive(Debug)]
pub struct Checkpoint {
    space: Arc<Space>,
    meta: Meta,
    /// Pages not written yet, the bitmap's included.
    unwritten: Bitmap,
    /// Tree pages written, for settling.
    dirty: Bitmap,
    /// Slots in use by this version: the contents of the bitmap pages.
    in_use: Bitmap,
    step: Step,
    /// Outstanding operations, each with the pages it writes.
    in_flight: BTreeMap<u64, Range<u32>>,
    next_id: u64,
    failed: bool,
    /// The disk had no room for a page; nothing is begun until [`Checkpoint::retry`].
    full: bool,
    settled: Bitmap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pages,
    SyncPages,
    Meta,
    SyncMeta,
    Durable,
}

impl Checkpoint {
    pub(super) fn new(space: Arc<Space>, meta: Meta, dirty: Bitmap, in_use: Bitmap) -> Checkpoint {
        let mut unwritten = dirty.clone();
        for no in &meta.bitmap_pages {
            unwritten.set(no.0);
        }
        Checkpoint {
            space,
            // Token numbers stay unique over all checkpoints of a run.
            next_id: meta.generation << 32,
            meta,
            unwritten,
            dirty,
            in_use,
            step: Step::Pages,
            in_flight: BTreeMap::new(),
            failed: false,
            full: false,
            settled: Bitmap::default(),
        }
    }

    /// Its number.
    pub fn generation(&self) -> u64 {
        self.meta.generation
    }

    /// The version it writes.
    pub fn version(&self) -> u64 {
        self.meta.version
    }

    /// Pages still to be written: what pacing goes by.
    pub fn remaining(&self) -> u32 {
        self.unwritten.count()
    }

    /// Whether it survives a power cut now.
    pub fn is_durable(&self) -> bool {
        self.step == Step::Durable
    }

    /// The next operation. None while the outstanding ones must end first, and when there is nothing left to do.
    /// The driver decides when to ask again: that is the pacing.
    pub fn poll(&mut self) -> Option<(Token, Op)> {
        if self.failed || self.full {
            return None;
        }
        if self.step == Step::Pages {
            if self.in_flight.len() < WRITES_MAX
                && let Some((pages, write)) = self.next_run()
            {
                return Some(self.emit(write, pages));
            }
            if self.in_flight.is_empty() && self.unwritten.count() == 0 {
                self.step = if seeded::is(Bug::MetaBeforeData) { Step::Meta } else { Step::SyncPages };
            }
        }
        if !self.in_flight.is_empty() {
            return None;
        }
        let op = match self.step {
            Step::Pages | Step::Durable => return None,
            Step::SyncPages | Step::SyncMeta => Op::Sync { file: FileName::Index },
            Step::Meta => write(self.meta.slot(), Bytes::copy_from_slice(&self.meta.encode()[..])),
        };
        Some(self.emit(op, 0..0))
    }

    /// Whether it waits, with nothing outstanding, for room on the disk.
    pub fn is_full(&self) -> bool {
        self.full && self.in_flight.is_empty()
    }

    /// There may be room now.
    pub fn retry(&mut self) {
        self.full = false;
    }

    /// Reports the end of an operation. After an error the checkpoint emits nothing more and can never be finished:
    /// the caller logs it and ends the process. A disk without room for a page is no error: no sync has been asked
    /// for, so the page is written again when there is room.
    pub fn on_completed(&mut self, token: Token, outcome: Outcome) -> Result<(), MapError> {
        let pages = self.in_flight.remove(&token.id);
        let pages = pages.unwrap_or_else(|| panic!("{token:?} is not outstanding"));
        if let Err(error) = outcome {
            if error.is_full() && self.step == Step::Pages {
                for no in pages {
                    self.unwritten.set(no);
                }
                self.full = true;
                return Ok(());
            }
            self.failed = true;
            return Err(MapError::Disk(error));
        }
        self.step = match self.step {
            Step::SyncPages => Step::Meta,
            Step::Meta => Step::SyncMeta,
            Step::SyncMeta => Step::Durable,
            step @ (Step::Pages | Step::Durable) => step,
        };
        Ok(())
    }

    /// Carries the whole checkpoint out on a disk that waits: for background threads, recovery and tests.
    pub fn run(&mut self, disk: &mut dyn Disk) -> Result<(), MapError> {
        while let Some((token, op)) = self.poll() {
            let outcome = disk.run(op);
            self.on_completed(token, outcome)?;
        }
        assert!(self.is_durable(), "a checkpoint without outstanding work is durable");
        Ok(())
    }

    /// Makes the pages just written resident in the mapping, and checks them there, so that their frames can be
    /// reused. Blocks: call it on a background thread once the checkpoint is durable, before the writer gets it back.
    /// Does nothing without a mapping, and stops where memory may not be locked: those pages stay in their frames.
    pub fn settle(&mut self) -> Result<(), MapError> {
        assert!(self.is_durable(), "only durable pages may leave their frames");
        if !self.space.is_mapped() {
            return Ok(());
        }
        let mut from = 0;
        while let Some(first) = self.dirty.next_from(from) {
            let end = (first / SETTLE_PAGES + 1) * SETTLE_PAGES;
            let pages: Vec<u32> = self.dirty.iter_from(first).take_while(|no| *no < end).collect();
            let last = *pages.last().expect("`first` is one of them");
            match self.space.populate(PageNo(first), last - first + 1) {
                Ok(()) => {}
                Err(Unpopulated::Unlockable) => return Ok(()),
                Err(Unpopulated::Read(error)) => return Err(MapError::unreadable(PageNo(first), &error)),
            }
            for no in pages {
                // SAFETY: just populated; the writer frees no slot of a checkpoint that is out, so nobody writes it.
                layout::check_page(unsafe { self.space.mapped_page(PageNo(no)) }, PageNo(no))?;
                self.settled.set(no);
            }
            from = end;
        }
        Ok(())
    }

    /// The end: its number and the pages that are resident in the mapping.
    pub(super) fn into_durable(self, space: &Arc<Space>) -> (u64, Bitmap) {
        assert!(Arc::ptr_eq(&self.space, space), "a checkpoint of another index");
        assert!(self.is_durable(), "checkpoint {} is not durable", self.meta.generation);
        (self.meta.generation, self.settled)
    }

    /// The next run of neighbouring pages, in order of slot.
    fn next_run(&mut self) -> Option<(Range<u32>, Op)> {
        let first = self.unwritten.next_from(0)?;
        let end = self.unwritten.next_absent(first, first + RUN_PAGES_MAX).unwrap_or(first + RUN_PAGES_MAX);
        let mut data = BytesMut::zeroed((end - first) as usize * PAGE_SIZE);
        let (copies, _) = data.as_chunks_mut::<PAGE_SIZE>();
        for (no, copy) in (first..end).map(PageNo).zip(copies) {
            self.unwritten.clear(no.0);
            self.copy(no, copy);
            layout::seal_page(copy, no);
        }
        Some((first..end, write(PageNo(first), data.freeze())))
    }

    /// The bytes of a page of this checkpoint, without its checksum.
    fn copy(&self, no: PageNo, copy: &mut Page) {
        if !self.dirty.get(no.0) {
            let index = self.meta.bitmap_pages.iter().position(|bitmap| *bitmap == no);
            let index =
                index.unwrap_or_else(|| panic!("{no:?} is neither a dirty page nor one of the bitmap"));
            layout::fill_bitmap_page(copy, &self.in_use, index, no, self.meta.version);
            return;
        }
        debug_assert!(matches!(self.space.place(no), Place::Frame(_)), "dirty page {no:?} is not in a frame");
        // SAFETY: the page is part of the published version this checkpoint was begun with; until the checkpoint is
        // handed back the writer parks such pages instead of reusing them, and published pages never change.
        let page = unsafe { self.space.page(no) };
        copy.copy_from_slice(page.unwrap_or_else(|| panic!("dirty page {no:?} is not in memory")));
    }

    fn emit(&mut self, op: Op, pages: Range<u32>) -> (Token, Op) {
        let token = Token { owner: Owner::Checkpoint, id: self.next_id };
        self.next_id += 1;
        self.in_flight.insert(token.id, pages);
        (token, op)
    }
}

fn write(first: PageNo, data: Bytes) -> Op {
    Op::Write {
        file: FileName::Index,
        offset: layout::offset_of(first),
        data,
        durability: Durability::Cached,
    }
}
