//! The index: a copy-on-write B+tree over 4 KiB pages that holds the newest version of every key, and everything else
//! that is durable and small.
//!
//! One writer builds the next version of the tree next to the published one: a page born in the current batch is
//! changed in place, any other is copied first, so readers of older roots never see a change. A version is a
//! `Root`; nobody keeps one here. Inner pages hold the number of live keys below each child, so a count costs two
//! walks from the root. Values of keys are not here but in the history; an entry says where, and whatever else a range
//! answers or filters by.
//!
//! The tree does not know where pages come from (`map` does), what is durable (the checkpoint does), or which
//! revision is current (the store does). All of it is safe code over byte slices; bytes that are no tree give
//! `Error::Damaged`.
//!
//! Ideas: slotted pages with prefix truncation, short separators and key heads from Graefe, "Modern B-Tree
//! Techniques" (2011), sections 3.3 and 3.5; copy-on-write without a log from LMDB; live counts are ours.

use std::borrow::Cow;
use std::fmt;

use crate::map::page::{Miss, PageNo, ReadPages, WritePages};
use crate::request::{KeyRange, RangeEnd};
use crate::seeded::{self, Bug};

// The bytes of a page, drawn.
pub mod layout;

// One page: checked view, search, simple edits.
mod node;

// Long keys and values.
mod overflow;

// Entries on their way from page to page.
mod items;

// A key, a count, a path.
pub mod read;

// A scan in order.
pub mod cursor;

// Put and remove.
pub mod write;

// What follows a removal.
mod merge;

// A tree from entries in order.
pub mod bulk;

// Which tables share the tree.
pub mod table;

// The value of table `Keys`.
pub mod entry;

// Whether a tree is whole.
pub mod check;

// A page memory that enforces the rules, and the tree against a model on it.
#[cfg(test)]
pub(crate) mod tests;

use cursor::{Cursor, From};
use entry::KeyEntry;
use table::{Table, TreeKey};
use write::Before;

/// A version of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The topmost page; none when `height` is 0.
    pub page: PageNo,
    /// Levels; 0 when the tree is empty, 1 when it is a leaf.
    pub height: u32,
    /// Live keys.
    pub live: u64,
    /// Entries, live or not.
    pub entries: u64,
}

impl Root {
    /// The tree without entries, and without pages.
    pub const EMPTY: Root = Root { page: PageNo(0), height: 0, live: 0, entries: 0 };

    /// Bytes of an encoded root.
    pub const LEN: usize = 24;

    /// For a meta page: page u32, height u32, live u64, entries u64, little-endian.
    pub fn encode(&self) -> [u8; Root::LEN] {
        let mut bytes = [0; Root::LEN];
        bytes[..4].copy_from_slice(&self.page.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.height.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.live.to_le_bytes());
        bytes[16..].copy_from_slice(&self.entries.to_le_bytes());
        bytes
    }

    /// Reads [`Root::encode`]'s bytes; `None` when no tree has such a root.
    pub fn decode(bytes: &[u8; Root::LEN]) -> Option<Root> {
        let u32_at = |at| bytes[at..].first_chunk().map(|field| u32::from_le_bytes(*field));
        let u64_at = |at| bytes[at..].first_chunk().map(|field| u64::from_le_bytes(*field));
        let root =
            Root { page: PageNo(u32_at(0)?), height: u32_at(4)?, live: u64_at(8)?, entries: u64_at(16)? };
        let possible = match root.height {
            0 => root == Root::EMPTY,
            height => height as usize <= layout::HEIGHT_MAX && root.live <= root.entries,
        };
        possible.then_some(root)
    }
}

/// Why an operation on the tree did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A page is not in memory; nothing was changed. The caller has it brought in and tries again.
    Miss(PageNo),
    /// A page is no page of this tree: its file is damaged, or our code is wrong. A batch that met it must not be
    /// published.
    Damaged {
        /// Which page.
        page: PageNo,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl std::convert::From<Miss> for Error {
    fn from(miss: Miss) -> Error {
        Error::Miss(miss.page)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Miss(page) => write!(f, "index page {} is not in memory", page.0),
            Error::Damaged { page, what } => write!(f, "index page {} is damaged: {what}", page.0),
        }
    }
}

impl std::error::Error for Error {}

/// The version under construction, for its one writer.
#[derive(Debug)]
pub struct Index<W> {
    pages: W,
    root: Root,
}

impl<W: WritePages> Index<W> {
    /// The tree below `root`, which is [`Root::EMPTY`] at first and the one of the newest meta page at open.
    pub fn new(pages: W, root: Root) -> Index<W> {
        Index { pages, root }
    }

    /// The version as it stands, to be published or written to a meta page.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The page memory.
    pub fn pages(&self) -> &W {
        &self.pages
    }

    /// The page memory, to publish a batch or to bring pages in.
    pub fn pages_mut(&mut self) -> &mut W {
        &mut self.pages
    }

    /// A look at the version as it stands, with its reads of single keys, counts and scans.
    pub fn view(&self) -> IndexView<'_, W> {
        IndexView { pages: &self.pages, root: self.root }
    }

    /// The newest version of `key`, a tombstone included.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyEntry>, Error> {
        self.view().get(key)
    }

    /// Makes `entry` the newest version of `key`. A tombstone does not count.
    pub fn put(&mut self, key: &[u8], entry: &KeyEntry) -> Result<Before, Error> {
        let key = Table::Keys.key(key);
        let live = entry.is_live() || seeded::is(Bug::CountTombstones);
        write::put(&mut self.pages, &mut self.root, &key, &entry.encode(), live)
    }

    /// Forgets `key`, as compaction does with a tombstone it passes.
    pub fn remove(&mut self, key: &[u8]) -> Result<Before, Error> {
        self.remove_row(Table::Keys, key)
    }

    /// The value under `key` in one of the small tables.
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Error> {
        self.view().row(table, key)
    }

    /// Writes a value into one of the small tables.
    pub fn put_row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<Before, Error> {
        assert_ne!(table, Table::Keys, "keys are written with their entry");
        write::put(&mut self.pages, &mut self.root, &table.key(key), value, false)
    }

    /// Removes a key from a table.
    pub fn remove_row(&mut self, table: Table, key: &[u8]) -> Result<Before, Error> {
        write::remove(&mut self.pages, &mut self.root, &table.key(key))
    }
}

/// A published version, for any number of readers.
#[derive(Debug)]
pub struct IndexView<'a, R> {
    pages: &'a R,
    root: Root,
}

impl<'a, R: ReadPages> IndexView<'a, R> {
    /// The tree below `root`.
    pub fn new(pages: &'a R, root: Root) -> IndexView<'a, R> {
        IndexView { pages, root }
    }

    /// The newest version of `key`, a tombstone included.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyEntry>, Error> {
        let found = read::get(self.pages, &self.root, &Table::Keys.key(key))?;
        found.map(|found| decode(found.page, &found.value)).transpose()
    }

    /// How many keys of `keys` exist, in O(log n).
    pub fn count(&self, keys: KeyRange<'_>) -> Result<u64, Error> {
        let (from, end) = bounds(keys);
        read::count(self.pages, &self.root, &from, Some(&end))
    }

    /// The newest versions of `keys` in order of key, tombstones included.
    pub fn scan(&self, keys: KeyRange<'_>) -> Scan<'a, R> {
        let (from, end) = bounds(keys);
        Scan { cursor: Cursor::new(self.pages, &self.root, From::At(&from), Some(&end)) }
    }

    /// The rest of a scan of `keys` that was interrupted after the key `last`.
    pub fn scan_after(&self, keys: KeyRange<'_>, last: &[u8]) -> Scan<'a, R> {
        let (from, end) = bounds(keys);
        let last = Table::Keys.key(last);
        let from = if *last < *from { From::At(&from) } else { From::After(&last) };
        Scan { cursor: Cursor::new(self.pages, &self.root, from, Some(&end)) }
    }

    /// The value under `key` in a table.
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Cow<'a, [u8]>>, Error> {
        Ok(read::get(self.pages, &self.root, &table.key(key))?.map(|found| found.value))
    }

    /// The rows of a table whose keys begin with `prefix`, in order.
    pub fn rows(&self, table: Table, prefix: &[u8]) -> Rows<'a, R> {
        let from = table.key(prefix);
        let end = behind_prefix(&from);
        Rows { cursor: Cursor::new(self.pages, &self.root, From::At(&from), Some(&end)) }
    }

    /// The rest of such a list that was interrupted after the key `last`.
    pub fn rows_after(&self, table: Table, prefix: &[u8], last: &[u8]) -> Rows<'a, R> {
        let end = behind_prefix(&table.key(prefix));
        Rows { cursor: Cursor::new(self.pages, &self.root, From::After(&table.key(last)), Some(&end)) }
    }

    /// Walks the whole tree; see [`check::check`].
    pub fn check(&self) -> Result<check::Report, Error> {
        check::check(self.pages, &self.root, |_, _| {})
    }
}

impl<R> Clone for IndexView<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for IndexView<'_, R> {}

/// A scan of keys. After a miss it can be called again, see [`Cursor`].
pub struct Scan<'a, R> {
    cursor: Cursor<'a, R>,
}

impl<R: ReadPages> Scan<'_, R> {
    /// The next key and its newest version.
    #[allow(clippy::should_implement_trait)] // It lends from the cursor.
    pub fn next(&mut self) -> Result<Option<(&[u8], KeyEntry)>, Error> {
        match self.cursor.next()? {
            Some(item) => Ok(Some((&item.key[1..], decode(item.page, &item.value)?))),
            None => Ok(None),
        }
    }
}

/// A key of a small table, without the table's byte, and its value.
pub type Row<'a> = (&'a [u8], Cow<'a, [u8]>);

/// A list of rows. After a miss it can be called again, see [`Cursor`].
pub struct Rows<'a, R> {
    cursor: Cursor<'a, R>,
}

impl<R: ReadPages> Rows<'_, R> {
    /// The next row.
    #[allow(clippy::should_implement_trait)] // It lends from the cursor.
    pub fn next(&mut self) -> Result<Option<Row<'_>>, Error> {
        Ok(self.cursor.next()?.map(|item| (&item.key[1..], item.value)))
    }
}

fn decode(page: PageNo, value: &[u8]) -> Result<KeyEntry, Error> {
    KeyEntry::decode(value).ok_or(Error::Damaged { page, what: "a value of the key table is no entry" })
}

/// First tree key of a set and first one behind it.
fn bounds(keys: KeyRange<'_>) -> (TreeKey, TreeKey) {
    let end = match keys.end {
        RangeEnd::Single => Table::Keys.key_of_parts(keys.key, &[0]),
        RangeEnd::Unbounded => TreeKey::end_of(Table::Keys),
        RangeEnd::Before(bound) => Table::Keys.key(bound),
    };
    (Table::Keys.key(keys.key), end)
}

/// The first tree key behind all that begin with `prefix`, whose first byte is a table's.
fn behind_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    let last = end.last_mut().expect("no table's byte is the greatest");
    *last += 1;
    end
}
