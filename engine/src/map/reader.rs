//! Reading published versions from any core.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::epoch::Version;
use super::page::{Miss, Page, PageNo, ReadPages};
use super::space::Space;

/// A reader of published versions. Clone one for each core; there are at most `Limits::readers_max`.
pub struct Reader {
    space: Arc<Space>,
    slot: usize,
    /// Guards alive: the first one pins, the last one unpins.
    guards: Cell<u32>,
}

impl Reader {
    /// A reader of its own slot; panics when all are taken, as their number is known at start.
    pub(super) fn new(space: Arc<Space>) -> Reader {
        let readers_max = space.limits().readers_max;
        let slot = space.publication.register();
        let slot = slot.unwrap_or_else(|| panic!("more than {readers_max} readers of the index"));
        Reader { space, slot, guards: Cell::new(0) }
    }

    /// Pins the newest version for as long as the guard lives.
    ///
    /// While it lives no page retired since is used again, so keep it for one synchronous slice (about a
    /// millisecond), **never across an await**. A guard taken while another of the same reader lives sees a version
    /// at least as new, and the older one decides what is kept.
    pub fn pin(&self) -> Guard<'_> {
        let guards = self.guards.get();
        let version =
            if guards == 0 { self.space.publication.pin(self.slot) } else { self.space.publication.newest() };
        self.guards.set(guards + 1);
        Guard { reader: self, version }
    }
}

impl Clone for Reader {
    fn clone(&self) -> Reader {
        Reader::new(Arc::clone(&self.space))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        debug_assert_eq!(self.guards.get(), 0, "guards borrow the reader");
        self.space.publication.deregister(self.slot);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("slot", &self.slot).field("guards", &self.guards).finish()
    }
}

/// A pinned version.
#[derive(Debug)]
pub struct Guard<'a> {
    reader: &'a Reader,
    version: Version,
}

impl Guard<'_> {
    /// Number, root and the store's words, all of one publication.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Root of the pinned version; none in a store that never had a tree.
    pub fn root(&self) -> Option<PageNo> {
        self.version.root
    }
}

impl ReadPages for Guard<'_> {
    /// `no` is the root of this version or a number found in one of its pages: only those are pinned.
    fn page(&self, no: PageNo) -> Result<&Page, Miss> {
        // SAFETY: the page belongs to the pinned version. Until this guard, which the answer borrows, is dropped the
        // writer neither changes published pages nor hands out their memory, nor does a checkpoint write their slot.
        unsafe { self.reader.space.page(no) }.ok_or(Miss { page: no })
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let guards = self.reader.guards.get() - 1;
        self.reader.guards.set(guards);
        if guards == 0 {
            self.reader.space.publication.unpin(self.reader.slot);
        }
    }
}
