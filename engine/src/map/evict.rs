//! Taking clean pages out of memory when the index outgrows its share.
//!
//! A clock with a second chance: a hand goes round the file by windows of 64 pages. What it finds warm it marks cold;
//! what it finds still cold on its next round, because no visit cleared the mark, it evicts. Only pages of a durable
//! checkpoint are evicted, and only while none is out, so every page evicted can be read again. A frame goes back after
//! the epochs. In the mapping a window is evicted as a whole, as it was locked as a whole: one warm page keeps it.
//!
//! A reader that meets an evicted page gets a miss, and finds it again through the loader.

use super::layout::FIRST_PAGE;
use super::limbo::What;
use super::load::WINDOW;
use super::page::PageNo;
use super::space::Place;
use super::writer::Writer;

/// Windows the hand passes at one call: 16 MiB of pages, some 20 us.
const WINDOWS_MAX: u32 = 64;

/// Where the clock stands.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// The next window.
    hand: u32,
    /// Evicted windows that fell free while a checkpoint, which locks windows, was out.
    postponed: Vec<PageNo>,
}

impl Writer {
    /// Evicts clean pages as long as more than `resident_max` pages are in memory. One call is one short step; the
    /// next goes on where it stopped, so a driver over its budget calls once a turn. Does nothing while a checkpoint
    /// is out.
    pub fn evict(&mut self, resident_max: u32) {
        if self.is_checkpointing() {
            return;
        }
        for _ in 0..WINDOWS_MAX {
            if self.space.resident() <= resident_max {
                return;
            }
            let base = self.eviction.hand * WINDOW;
            self.eviction.hand =
                if base + WINDOW < self.slots.page_count() { self.eviction.hand + 1 } else { 0 };
            self.pass(base);
        }
    }

    /// The hand passes the window that begins at `base`.
    pub(super) fn pass(&mut self, base: u32) {
        let (mut frames, mut mapped) = (Vec::new(), Vec::new());
        let clean = (base.max(FIRST_PAGE)..base + WINDOW).map(PageNo).filter(|no| self.slots.is_clean(*no));
        for no in clean {
            match self.space.place(no) {
                Place::Nowhere => {}
                Place::Mapped => mapped.push(no),
                Place::Frame(_) if !self.space.is_cold(no) => self.space.cool(no),
                Place::Frame(frame) if self.space.evict(no) => frames.push(frame),
                Place::Frame(_) => {}
            }
        }
        let now = self.published.number;
        if !frames.is_empty() {
            self.limbo.push(now, What::Frames(frames));
        }
        if mapped.iter().any(|no| !self.space.is_cold(*no)) {
            mapped.into_iter().for_each(|no| self.space.cool(no));
        } else if !mapped.is_empty() {
            // One that is visited in this moment stays; the window then stays locked.
            for no in mapped {
                self.space.evict(no);
            }
            self.limbo.push(now, What::Windows(vec![PageNo(base)]));
        }
    }

    /// Lets the system have a window of the mapping that no version's reader looks at, unless pages of it came back.
    pub(super) fn release_window(&mut self, first: PageNo) {
        if self.is_checkpointing() {
            self.eviction.postponed.push(first);
            return;
        }
        let in_use = (first.0..first.0 + WINDOW).any(|no| self.space.place(PageNo(no)) == Place::Mapped);
        if !in_use && !self.reading.is_in_window(first) {
            let count = WINDOW.min(self.space.limits().page_count_max - first.0);
            self.space.depopulate(first, count);
        }
    }

    /// The checkpoint is back: windows that waited for it go round again.
    pub(super) fn retry_windows(&mut self) {
        let postponed = std::mem::take(&mut self.eviction.postponed);
        self.limbo.push(self.published.number, What::Windows(postponed));
    }
}
