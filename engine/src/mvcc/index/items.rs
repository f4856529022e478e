//! The entries of a page taken out of it, to be put into other pages: compaction, splits and merges.

use std::ops::Range;

use super::Error;
use super::layout::{CAPACITY, CHILD, Chain, Child, INNER};
use super::node::{self, NewKey, Node, Payload};
use crate::map::page::Page;

/// Entries in key order, with whole stems, so that they fit any page whose prefix their keys have.
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
                // The separator in slot 0 stays empty, whatever the prefix becomes.
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

    /// Bytes entry `i` takes in a page with this prefix.
    fn size(&self, i: usize, prefix_len: usize) -> usize {
        let Item { stem, tail, payload, .. } = &self.list[i];
        node::size(stem.len(), prefix_len, tail.is_some(), payload.len())
    }

    /// Bytes of a page's capacity that all of them take together with a prefix of this length.
    pub fn used(&self, prefix_len: usize) -> usize {
        prefix_len + (0..self.count()).map(|i| self.size(i, prefix_len)).sum::<usize>()
    }

    /// Where to cut entries that overflow a page with this prefix: how many go to the left page. Both parts fit.
    ///
    /// Next to the middle, or, when the page overflowed by an entry at its end, behind nine tenths: an ascending
    /// load then fills its pages.
    pub fn cut(&self, prefix_len: usize, appended: bool) -> usize {
        let total = self.used(prefix_len) - prefix_len;
        let target = if appended { total / 10 * 9 } else { total / 2 };
        let (mut left, mut at) = (0, 0);
        while at + 1 < self.count() {
            let with = left + self.size(at, prefix_len);
            let closer = with.abs_diff(target) <= left.abs_diff(target);
            if at > 0 && (!closer || with + prefix_len > CAPACITY) {
                break;
            }
            (left, at) = (with, at + 1);
        }
        at
    }

    /// Writes those in `range` as a page of this kind; they fit.
    pub fn write(&self, range: Range<usize>, kind: u8, prefix: &[u8], page: &mut Page) {
        node::init(page, kind, prefix);
        for (slot, i) in range.clone().enumerate() {
            // In an inner page the first separator is below everything.
            let key = match slot {
                0 if kind == INNER => NewKey { stem: &[], tail: None },
                _ => self.key(i),
            };
            node::insert(page, slot, key, self.payload(i));
        }
    }

    /// Live keys in or below those in `range`, of a leaf (`true`) or an inner page.
    pub fn live(&self, range: Range<usize>, leaf: bool) -> u64 {
        let live = |i| {
            let payload = self.payload(i);
            match <&[u8; CHILD]>::try_from(payload.bytes) {
                Ok(child) if !leaf => Child::decode(child).live,
                _ => payload.live.into(),
            }
        };
        range.map(live).fold(0, u64::wrapping_add)
    }
}
