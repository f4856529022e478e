//! The entries of a page taken out of it, to be put into other pages: compaction, splits and merges.

use std::ops::Range;

use super::Error;
use super::layout::{CAPACITY, Chain, Child, INNER, PREFIX_MAX, common};
use super::node::{self, NewKey, Node, Payload};
use crate::map::page::Page;

/// Entries in key order, with whole stems, so that a page made of them has the longest prefix they allow.
#[derive(Default)]
pub(super) struct Items {
    bytes: Vec<u8>,
    list: Vec<Item>,
}

#[derive(Clone)]
struct Item {
    stem: Range<usize>,
    tail: Option<Chain>,
    payload: Range<usize>,
    live: bool,
    chained: bool,
}

impl Items {
    /// Those of `node`.
    pub fn of(node: &Node<'_>) -> Result<Items, Error> {
        let mut items = Items::default();
        // The stems of a page are about as long as the page, prefixes aside.
        items.bytes.reserve(CAPACITY + node.count() * node.prefix().len());
        items.list.reserve(node.count() + 1);
        items.append(node, None)?;
        Ok(items)
    }

    /// Adds those of `node`, the next page to the right; `first` is the separator in front of an inner page, which
    /// stops to be its first.
    pub fn append(&mut self, node: &Node<'_>, first: Option<NewKey<'_>>) -> Result<(), Error> {
        for i in 0..node.count() {
            let entry = node.entry(i)?;
            let start = self.bytes.len();
            let tail = match first {
                Some(separator) if i == 0 && !node.is_leaf() => {
                    self.bytes.extend_from_slice(separator.stem);
                    separator.tail
                }
                // The separator in slot 0 is empty, and the prefix is not part of it.
                None if i == 0 && !node.is_leaf() => None,
                _ => {
                    self.bytes.extend_from_slice(node.prefix());
                    entry.append_suffix(&mut self.bytes);
                    entry.tail
                }
            };
            let stem = start..self.bytes.len();
            let item = self.item_with(stem, tail, entry.payload);
            self.list.push(item);
        }
        Ok(())
    }

    fn item_with(&mut self, stem: Range<usize>, tail: Option<Chain>, payload: Payload<'_>) -> Item {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload.bytes);
        let range = start..self.bytes.len();
        Item { stem, tail, payload: range, live: payload.live, chained: payload.chained }
    }

    /// Puts an entry in front of the one at `i`.
    pub fn insert(&mut self, i: usize, key: NewKey<'_>, payload: Payload<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key.stem);
        let item = self.item_with(start..start + key.stem.len(), key.tail, payload);
        self.list.insert(i, item);
    }

    /// Gives the entry at `i` another payload.
    pub fn set_payload(&mut self, i: usize, payload: Payload<'_>) {
        let Item { stem, tail, .. } = self.list[i].clone();
        self.list[i] = self.item_with(stem, tail, payload);
    }

    /// Says where the tail of the key at `i` is.
    pub fn set_tail(&mut self, i: usize, tail: Chain) {
        self.list[i].tail = Some(tail);
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    pub fn key(&self, i: usize) -> NewKey<'_> {
        NewKey { stem: &self.bytes[self.list[i].stem.clone()], tail: self.list[i].tail }
    }

    pub fn payload(&self, i: usize) -> Payload<'_> {
        let Item { payload, live, chained, .. } = &self.list[i];
        Payload { bytes: &self.bytes[payload.clone()], live: *live, chained: *chained }
    }

    /// Bytes of a page's capacity that those in `range` take as a page of this kind.
    fn used(&self, range: Range<usize>, kind: u8) -> usize {
        let prefix_len = self.prefix(range.clone(), kind).len();
        prefix_len + range.map(|i| self.size(i, prefix_len)).sum::<usize>()
    }

    fn size(&self, i: usize, prefix_len: usize) -> usize {
        let Item { stem, tail, payload, .. } = &self.list[i];
        node::size(stem.len(), prefix_len, tail.is_some(), payload.len())
    }

    /// Whether all of them go into one page of this kind and leave `spare` bytes.
    pub fn fit(&self, kind: u8, spare: usize) -> bool {
        self.used(0..self.count(), kind) + spare <= CAPACITY
    }

    /// What all keys of `range` begin with. In an inner page the first separator is below everything and has no say.
    fn prefix(&self, range: Range<usize>, kind: u8) -> &[u8] {
        let first = range.start + usize::from(kind == INNER);
        if first >= range.end {
            return &[];
        }
        let (first, last) = (self.key(first).stem, self.key(range.end - 1).stem);
        &first[..common(first, last).min(PREFIX_MAX)]
    }

    /// Where to cut entries that overflow a page of this kind, the one at `new` being the newcomer: how many go to the
    /// left page. Both parts fit; `None` when no cut does that, which no page of ours leads to.
    ///
    /// Next to the middle, or, when the newcomer is the last, behind nine tenths: an ascending load then fills its
    /// pages.
    pub fn cut(&self, kind: u8, new: usize) -> Option<usize> {
        let (count, appended) = (self.count(), new + 1 == self.count());
        let prefix_len = self.prefix(0..count, kind).len();
        let total = (0..count).map(|i| self.size(i, prefix_len)).sum::<usize>();
        let target = if appended { total / 10 * 9 } else { total / 2 };
        let (mut left, mut cut) = (self.size(0, prefix_len), 1);
        while cut + 1 < count {
            let with = left + self.size(cut, prefix_len);
            if with.abs_diff(target) > left.abs_diff(target) {
                break;
            }
            (left, cut) = (with, cut + 1);
        }
        // When that does not fit, the newcomer took away the prefix: it is first or last, and the others fit alone.
        [cut, new.max(1)].into_iter().find(|&cut| {
            (1..count).contains(&cut)
                && self.used(0..cut, kind) <= CAPACITY
                && self.used(cut..count, kind) <= CAPACITY
        })
    }

    /// Writes those in `range` as a page of this kind; they fit.
    pub fn write(&self, range: Range<usize>, kind: u8, page: &mut Page) {
        let used = self.used(range.clone(), kind);
        assert!(used <= CAPACITY, "{used} bytes for one page");
        node::init(page, kind, self.prefix(range.clone(), kind));
        for (slot, i) in range.enumerate() {
            let first = NewKey { stem: &[], tail: None };
            let key = if slot == 0 && kind == INNER { first } else { self.key(i) };
            node::insert(page, slot, key, self.payload(i));
        }
    }

    /// The child in entry `i` of an inner page.
    pub fn child(&self, i: usize) -> Option<Child> {
        self.payload(i).bytes.try_into().ok().map(Child::decode)
    }

    /// Live keys in or below those in `range`, taken as a page of this kind.
    pub fn live(&self, range: Range<usize>, kind: u8) -> u64 {
        let live = |i| match self.child(i) {
            Some(child) if kind == INNER => child.live,
            _ => self.payload(i).live.into(),
        };
        range.map(live).fold(0, u64::wrapping_add)
    }
}
