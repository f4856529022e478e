//! Pages as the tree sees them: numbers, bytes, and the rule that a page not in memory is a [`Miss`].
//!
//! The traits are the wall between the copy-on-write tree (`mvcc/index`, safe code over byte slices, run under
//! Miri with a plain vector of pages behind it) and the page memory of this folder.

/// Bytes of a page; also the unit of the index file.
pub const PAGE_SIZE: usize = 4096;

/// Bytes at the start of every page that belong to `map` (checksum, number, generation); the tree starts after them.
pub const PAGE_HEADER: usize = 16;

/// A page's bytes.
pub type Page = [u8; PAGE_SIZE];

/// Number of a page: its slot in the index file. 0 and 1 are the meta pages, so a tree page is at least 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u32);

/// The page is not in memory. The caller gives up, has it brought in, and starts over; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The page to bring in.
    pub page: PageNo,
}

/// Read access to the pages of one tree version.
pub trait ReadPages {
    /// The page's bytes, or [`Miss`]. Never blocks.
    fn page(&self, no: PageNo) -> Result<&Page, Miss>;
}

/// Write access: the next version of the tree, built page by page next to the published one.
pub trait WritePages: ReadPages {
    /// A new zeroed page, private to the current batch.
    fn allocate(&mut self) -> PageNo;

    /// Whether the page was allocated in the current batch and may be changed in place.
    fn is_private(&self, no: PageNo) -> bool;

    /// The bytes of a private page; any other page is our mistake and panics.
    fn page_mut(&mut self, no: PageNo) -> &mut Page;

    /// The page is not part of the version being built. A private page is free at once; a published one when no
    /// reader and no durable version needs it.
    fn retire(&mut self, no: PageNo);
}
