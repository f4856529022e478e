//! A tree made from entries that come in order: how a follower installs a snapshot.
//!
//! Pages are written left to right, once, nine tenths full, and never read again, so nothing here can miss, and the
//! batch may be published at any time to bound the private pages.

use super::Root;
use super::items::Items;
use super::layout::{CAPACITY, Chain, Child, INNER, LEAF, VALUE_INLINE_MAX, common, stem, tail};
use super::node::{NewKey, Payload};
use super::overflow;
use crate::map::page::WritePages;

/// Room left in each page, in bytes.
const SPARE: usize = CAPACITY / 10;

/// A tree under construction.
#[derive(Default)]
pub struct Builder {
    /// The leaf not yet written, and the separator in front of it.
    leaf: Items,
    separator: Separator,
    /// The last key.
    last: Vec<u8>,
    /// The inner pages not yet written, from the lowest level up.
    inners: Vec<Items>,
    live: u64,
    entries: u64,
}

#[derive(Default)]
struct Separator {
    stem: Vec<u8>,
    tail: Option<Chain>,
}

impl Builder {
    /// Adds an entry behind all others; its key is above theirs.
    pub fn push<W: WritePages>(&mut self, pages: &mut W, key: &[u8], value: &[u8], live: bool) {
        let behind = self.entries == 0 || self.last.as_slice() < key;
        assert!(behind, "key {} of a bulk load is not above the one before", key.escape_ascii());
        let chained = value.len() > VALUE_INLINE_MAX;
        let chain = chained.then(|| overflow::store(pages, value).encode());
        let payload = Payload { bytes: chain.as_ref().map_or(value, |chain| chain), live, chained };
        let new = NewKey { stem: stem(key), tail: tail(key).map(|tail| overflow::store(pages, tail)) };
        if let Some(full) = append(&mut self.leaf, LEAF, new, payload) {
            let separator = &key[..common(&self.last, key) + 1];
            let tail = tail(separator).map(|tail| overflow::store(pages, tail));
            let next = Separator { stem: stem(separator).to_vec(), tail };
            let separator = std::mem::replace(&mut self.separator, next);
            let leaf = write(pages, &full, full.count() - 1, LEAF);
            self.add_child(pages, 0, separator, leaf);
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.live += u64::from(live);
        self.entries += 1;
    }

    /// Writes what is left; the tree is then whole.
    pub fn finish<W: WritePages>(mut self, pages: &mut W) -> Root {
        if self.entries == 0 {
            return Root::EMPTY;
        }
        let leaf = write(pages, &self.leaf, self.leaf.count(), LEAF);
        let separator = std::mem::take(&mut self.separator);
        self.add_child(pages, 0, separator, leaf);
        let mut level = 0;
        loop {
            let inner = std::mem::take(&mut self.inners[level]);
            let top = level + 1 == self.inners.len();
            if let (true, 1, Some(child)) = (top, inner.count(), inner.child(0)) {
                let height = level as u32 + 1;
                return Root { page: child.page, height, live: self.live, entries: self.entries };
            }
            let child = write(pages, &inner, inner.count(), INNER);
            level += 1;
            self.add_child(pages, level, separator_of(&inner), child);
        }
    }

    /// Puts a page of the level below into the inner page under construction, and upwards when that is full.
    fn add_child<W: WritePages>(
        &mut self,
        pages: &mut W,
        level: usize,
        mut separator: Separator,
        mut child: Child,
    ) {
        for level in level.. {
            if level == self.inners.len() {
                self.inners.push(Items::default());
            }
            let key = NewKey { stem: &separator.stem, tail: separator.tail };
            let bytes = child.encode();
            match append(&mut self.inners[level], INNER, key, Payload::of_child(&bytes)) {
                None => return,
                Some(full) => {
                    child = write(pages, &full, full.count() - 1, INNER);
                    separator = separator_of(&full);
                }
            }
        }
    }
}

/// Adds an entry to a page under construction. When it is then too full, the page is handed back, and the entry, which
/// is its last, begins the next one.
fn append(items: &mut Items, kind: u8, key: NewKey<'_>, payload: Payload<'_>) -> Option<Items> {
    items.insert(items.count(), key, payload);
    if items.count() == 1 || items.fit(kind, SPARE) {
        return None;
    }
    let full = std::mem::take(items);
    items.insert(0, key, payload);
    Some(full)
}

fn write<W: WritePages>(pages: &mut W, items: &Items, count: usize, kind: u8) -> Child {
    let page = pages.allocate();
    items.write(0..count, kind, pages.page_mut(page));
    Child { page, live: items.live(0..count, kind) }
}

/// The separator in front of an inner page's first child is that in front of the page.
fn separator_of(items: &Items) -> Separator {
    let NewKey { stem, tail } = items.key(0);
    Separator { stem: stem.to_vec(), tail }
}
