//! The address space of the pages: one reserved range, and a table that says where in it each page's bytes are.
//!
//! ```text
//!  base                          first_frame                              end
//!   ┌─────────────────────────────┬────────┬────────┬─────────────────────┐
//!   │ the file, mapped read-only  │ frames │ frames │ reserved, untouched │
//!   └─────────────────────────────┴────────┴────────┴─────────────────────┘
//!  table[no]: 0 = not in memory; else the unit (4 KiB) of the range where page `no` is.
//!  In the mapping page `no` is unit `no`; frame `f` is unit `first_frame + f`.
//! ```
//!
//! The top bit of an entry marks a page *cold*: the next one to be evicted unless a visit clears the bit first.
//!
//! So a page is found by one load and one addition, without asking which kind of memory it is in; one comparison tells
//! apart the two rare cases, nowhere and cold. There is no second bitmap for "known resident in the mapping": a table
//! entry points into the mapping only after the page was populated, locked and checked, and is 0 until then.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Limits;
use super::epoch::Publication;
use super::page::{PAGE_SIZE, Page, PageNo};
use super::range::{CHUNK_UNITS, Range, Unpopulated};

/// Index of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frame(pub u32);

/// Where a page's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not in memory.
    Nowhere,
    /// In the mapping of the file, known resident and checked.
    Mapped,
    /// In a frame.
    Frame(Frame),
}

/// What the writer, the readers and the background work share.
#[derive(Debug)]
pub(super) struct Space {
    range: Range,
    /// Index: page number. Written by the writer alone.
    table: Box<[AtomicU32]>,
    /// First unit after the mapping.
    first_frame: u32,
    limits: Limits,
    /// Whether the file is mapped.
    mapped: bool,
    /// Pages that are somewhere. Changed by the writer alone.
    resident: AtomicU32,
    pub publication: Publication,
}

const NOWHERE: u32 = 0;
const COLD: u32 = 1 << 31;

// Units never reach the bit.
const _: () = assert!((super::layout::SLOT_COUNT_MAX as u64) * 2 + (CHUNK_UNITS as u64) < COLD as u64);

impl Space {
    /// Reserves the range.
    pub fn reserve(limits: Limits, publication: Publication) -> std::io::Result<Space> {
        limits.check();
        // Frames start on a chunk boundary, so that chunks can be huge pages.
        let first_frame = limits.page_count_max.next_multiple_of(CHUNK_UNITS);
        let units = first_frame as usize + limits.frame_count_max as usize;
        let range = Range::reserve(units)?;
        let table = zeroed_table(limits.page_count_max as usize);
        Ok(Space {
            range,
            table,
            first_frame,
            limits,
            mapped: false,
            resident: AtomicU32::new(0),
            publication,
        })
    }

    /// Places the file over the first part of the range. Nothing may be in memory yet.
    pub fn map_file(&mut self, file: &std::fs::File) -> std::io::Result<()> {
        self.range.map_file(file, self.limits.page_count_max as usize)?;
        self.mapped = true;
        Ok(())
    }

    /// Whether the file is mapped.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// The bounds it was made with.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Where the page is.
    pub fn place(&self, no: PageNo) -> Place {
        match self.entry(no) & !COLD {
            NOWHERE => Place::Nowhere,
            unit if unit < self.first_frame => Place::Mapped,
            unit => Place::Frame(Frame(unit - self.first_frame)),
        }
    }

    /// Says where the page is from now on. Only the writer calls this.
    ///
    /// A reader that already looked may go on using the old place: its memory stays as it is until the epochs passed.
    pub fn put(&self, no: PageNo, place: Place) {
        let unit = match place {
            Place::Nowhere => NOWHERE,
            Place::Mapped => {
                assert!(self.mapped, "{no:?} placed in a mapping that does not exist");
                no.0
            }
            Place::Frame(frame) => self.first_frame + frame.0,
        };
        let was_somewhere = self.entry(no) != NOWHERE;
        // Release: the bytes were written before; a reader acquires them with the entry (or with the root).
        self.table[no.0 as usize].store(unit, Ordering::Release);
        self.count(was_somewhere, unit != NOWHERE);
    }

    /// Marks a page that is somewhere as cold. Only the writer calls this.
    pub fn cool(&self, no: PageNo) {
        let before = self.table[no.0 as usize].fetch_or(COLD, Ordering::Relaxed);
        assert_ne!(before, NOWHERE, "{no:?} is nowhere and cannot cool");
    }

    /// Whether nobody visited the page since it cooled.
    pub fn is_cold(&self, no: PageNo) -> bool {
        self.entry(no) & COLD != 0
    }

    /// Makes a page that is still cold be nowhere; false if somebody visited it. Only the writer calls this. Its
    /// memory may be in use until the epochs passed.
    pub fn evict(&self, no: PageNo) -> bool {
        let entry = self.entry(no);
        let evicted = entry & COLD != 0
            && self.table[no.0 as usize]
                .compare_exchange(entry, NOWHERE, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        self.count(evicted, false);
        evicted
    }

    /// Pages that are somewhere.
    pub fn resident(&self) -> u32 {
        self.resident.load(Ordering::Relaxed)
    }

    fn count(&self, was_somewhere: bool, is_somewhere: bool) {
        let count =
            self.resident.load(Ordering::Relaxed) + u32::from(is_somewhere) - u32::from(was_somewhere);
        self.resident.store(count, Ordering::Relaxed);
    }

    /// The page's bytes, or none if it is not in memory.
    ///
    /// # Safety
    ///
    /// - For the life of the answer nobody writes the memory the page is in, and it is not given to another page: the
    ///   page belongs to a version the caller has pinned, or the caller is (borrowed from) the writer, which alone
    ///   hands memory out.
    pub unsafe fn page(&self, no: PageNo) -> Option<&Page> {
        let mut unit = self.entry(no);
        // Nowhere or cold, in one comparison.
        if unit.wrapping_sub(1) >= COLD - 1 {
            unit = self.warm(no, unit)?;
        }
        // SAFETY: entries are units inside the range, opened or populated, aligned to a page; that the bytes do not
        // change is the caller's duty.
        Some(unsafe { self.range.unit(unit).cast::<Page>().as_ref() })
    }

    /// Clears the mark of a cold page, and says where the page is.
    #[cold]
    fn warm(&self, no: PageNo, entry: u32) -> Option<u32> {
        if entry == NOWHERE {
            return None;
        }
        // If the writer was faster and evicted the page, the place is good all the same until the epochs passed. An
        // exchange also hands on what the entry's own store released.
        let _ = self.table[no.0 as usize].compare_exchange(
            entry,
            entry & !COLD,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        Some(entry & !COLD)
    }

    /// The bytes of a frame, for writing.
    ///
    /// # Safety
    ///
    /// - The frame is open, and for the life of the answer nobody else reads or writes it.
    #[expect(
        clippy::mut_from_ref,
        reason = "frames are handed out one by one; exclusive use is the caller's duty"
    )]
    pub unsafe fn frame_mut(&self, frame: Frame) -> &mut Page {
        assert!(frame.0 < self.limits.frame_count_max, "{frame:?} is beyond the range");
        // SAFETY: the unit lies inside the range, as just asserted; that it is open, and exclusive use, is the caller's
        // duty.
        unsafe { self.range.unit(self.first_frame + frame.0).cast::<Page>().as_mut() }
    }

    /// Opens a chunk of frames for use and faults its memory in. May take milliseconds.
    pub fn open_chunk(&self, first: Frame) -> std::io::Result<()> {
        assert!(first.0.is_multiple_of(CHUNK_UNITS), "{first:?} does not start a chunk");
        assert!(first.0 + CHUNK_UNITS <= self.limits.frame_count_max, "{first:?} is beyond the range");
        self.range.open(self.first_frame + first.0, CHUNK_UNITS)
    }

    /// Faults in `count` pages of the mapping from `first` on and locks them in memory.
    ///
    /// Errors: reading failed (the kernel reports it here instead of by SIGBUS), or locking is not allowed.
    pub fn populate(&self, first: PageNo, count: u32) -> Result<(), Unpopulated> {
        assert!(self.mapped, "nothing is mapped");
        assert!(
            first.0 + count <= self.limits.page_count_max,
            "{count} pages from {first:?} are beyond the range"
        );
        self.range.populate(first.0, count)
    }

    /// Undoes [`Space::populate`]: the pages may leave memory. None of them is placed in the mapping, nor will be
    /// without another populate.
    pub fn depopulate(&self, first: PageNo, count: u32) {
        assert!(
            self.mapped && first.0 + count <= self.limits.page_count_max,
            "{first:?} is not in a mapping"
        );
        self.range.depopulate(first.0, count);
    }

    /// Bytes of a page in the mapping, whatever the table says.
    ///
    /// # Safety
    ///
    /// - The page was populated, and nobody writes its slot of the file for the life of the answer.
    pub unsafe fn mapped_page(&self, no: PageNo) -> &Page {
        assert!(self.mapped && no.0 < self.limits.page_count_max, "{no:?} is not in a mapping");
        // SAFETY: the unit lies in the mapping; that it is backed by the file and unchanging is the caller's duty.
        unsafe { self.range.unit(no.0).cast::<Page>().as_ref() }
    }

    /// Where the mapping lies in memory: what a SIGBUS handler needs to name the page.
    pub fn locator(&self) -> Locator {
        let len = if self.mapped { self.limits.page_count_max as usize * PAGE_SIZE } else { 0 };
        Locator { start: self.range.start(), len }
    }

    fn entry(&self, no: PageNo) -> u32 {
        match self.table.get(no.0 as usize) {
            Some(entry) => entry.load(Ordering::Acquire),
            None => NOWHERE,
        }
    }
}

/// From a faulting address to the page of the file. Plain numbers: safe to use in a signal handler.
#[derive(Clone, Copy, Debug)]
pub struct Locator {
    start: usize,
    len: usize,
}

impl Locator {
    /// The page of the mapped file at `address`, if it is one.
    pub fn page_at(&self, address: usize) -> Option<PageNo> {
        let offset = address.checked_sub(self.start)?;
        (offset < self.len).then_some(PageNo((offset / PAGE_SIZE) as u32))
    }
}

/// `len` zeroed entries, untouched until used.
fn zeroed_table(len: usize) -> Box<[AtomicU32]> {
    let zeroes = vec![0u32; len].into_boxed_slice();
    // SAFETY: AtomicU32 has the size, alignment and bit validity of u32, and the box is the only owner.
    unsafe { Box::from_raw(Box::into_raw(zeroes) as *mut [AtomicU32]) }
}
