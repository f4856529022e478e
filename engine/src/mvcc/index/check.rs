//! Whether a tree is whole: every page sound, every key in its place, every count the sum of what is below it.
//!
//! For tests and for `kontiki utl`, which run it on a tree that is in memory. Checksums and births of pages are `map`'s;
//! `visit` hands it every page with its parent.

use std::collections::BTreeSet;

use super::layout::{CAPACITY, CHILD, GARBAGE, HEAD, HEIGHT_MAX, SLOT, slot_at, u16_at};
use super::node::Node;
use super::overflow::Chunks;
use super::read::{TWICE, open};
use super::{Error, Root};
use crate::map::page::{PageNo, ReadPages};

/// What a whole tree is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Leaf pages.
    pub leaves: u64,
    /// Of their capacity, bytes in use.
    pub leaf_bytes: u64,
    /// Inner pages.
    pub inners: u64,
    /// Pages of long keys and values.
    pub overflows: u64,
    /// Entries.
    pub entries: u64,
    /// Live keys.
    pub live: u64,
}

impl Report {
    /// Pages in all.
    pub fn pages(&self) -> u64 {
        self.leaves + self.inners + self.overflows
    }

    /// How full leaves are, from 0 to 1.
    pub fn fill(&self) -> f64 {
        self.leaf_bytes as f64 / (self.leaves * CAPACITY as u64).max(1) as f64
    }
}

/// Walks the tree below `root` and calls `visit` with every page and its parent (none for the root), parents first.
///
/// Errors name the first page that is wrong; [`Error::Miss`] when one is not in memory (nothing is kept: call again).
pub fn check<R: ReadPages>(
    pages: &R,
    root: &Root,
    visit: impl FnMut(Option<PageNo>, PageNo),
) -> Result<Report, Error> {
    let mut check = Check { pages, visit, report: Report::default(), reached: BTreeSet::new() };
    if root.height as usize > HEIGHT_MAX {
        return damaged(root.page, "the tree is too high");
    }
    if root.height > 0 {
        check.reach(None, root.page)?;
        check.node(root.page, root.height - 1, &[], None)?;
    }
    if check.report.live != root.live || check.report.entries != root.entries {
        return damaged(root.page, "the root's counts are not those of its leaves");
    }
    Ok(check.report)
}

struct Check<'a, R, F> {
    pages: &'a R,
    visit: F,
    report: Report,
    reached: BTreeSet<PageNo>,
}

impl<R: ReadPages, F: FnMut(Option<PageNo>, PageNo)> Check<'_, R, F> {
    fn reach(&mut self, parent: Option<PageNo>, no: PageNo) -> Result<(), Error> {
        if !self.reached.insert(no) {
            return damaged(no, TWICE);
        }
        (self.visit)(parent, no);
        Ok(())
    }

    /// Checks a page at `level` above the leaves whose keys are in `lower..upper`; answers its live keys.
    fn node(&mut self, no: PageNo, level: u32, lower: &[u8], upper: Option<&[u8]>) -> Result<u64, Error> {
        let pages = self.pages;
        let node = open(pages, no, level == 0)?;
        self.space(no, &node)?;
        let keys = self.keys(no, &node, lower, upper)?;
        if level == 0 {
            self.report.leaves += 1;
            self.report.leaf_bytes += node.used() as u64;
            self.report.entries += node.count() as u64;
            let live = node.live(0..node.count())?;
            self.report.live += live;
            return Ok(live);
        }
        self.report.inners += 1;
        let mut sum = 0;
        for i in 0..node.count() {
            let child = node.child(i)?;
            self.reach(Some(no), child.page)?;
            let lower = if i == 0 { lower } else { &keys[i] };
            let upper = keys.get(i + 1).map(Vec::as_slice).or(upper);
            let live = self.node(child.page, level - 1, lower, upper)?;
            if live != child.live {
                return damaged(no, "a child's live keys are not those below it");
            }
            sum = live.wrapping_add(sum);
        }
        Ok(sum)
    }

    /// Checks that entries lie apart from each other and that what is not in use is accounted for.
    fn space(&mut self, no: PageNo, node: &Node<'_>) -> Result<(), Error> {
        let page = self.pages.page(no)?;
        let mut extents = Vec::with_capacity(node.count());
        let mut used = node.prefix().len();
        for i in 0..node.count() {
            let at = u16_at(page, slot_at(page, i) + HEAD);
            let entry = node.entry(i)?;
            extents.push((at, at + entry.size() - SLOT));
            used += entry.size();
            let payload = entry.payload;
            if !node.is_leaf() && (payload.bytes.len() != CHILD || payload.live || payload.chained) {
                return damaged(no, "an inner entry is no child");
            }
            for chain in [entry.tail, payload.chain(no)?].into_iter().flatten() {
                for chunk in Chunks::new(self.pages, chain) {
                    self.reach(Some(no), chunk?.0)?;
                    self.report.overflows += 1;
                }
            }
        }
        extents.sort_unstable();
        let apart = extents.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        if !apart {
            return damaged(no, "entries overlap");
        }
        if used + node.gap() + u16_at(page, GARBAGE) != CAPACITY {
            return damaged(no, "bytes of the page are unaccounted for");
        }
        Ok(())
    }

    /// The page's keys, after checking their order and fences.
    fn keys(
        &self,
        no: PageNo,
        node: &Node<'_>,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys: Vec<Vec<u8>> = Vec::with_capacity(node.count());
        for i in 0..node.count() {
            let mut key = Vec::new();
            node.key(self.pages, i, &mut key)?;
            if i == 0 && !node.is_leaf() {
                if key != node.prefix() {
                    return damaged(no, "the first separator is not empty");
                }
                keys.push(key);
                continue;
            }
            if key.as_slice() < lower || upper.is_some_and(|upper| key.as_slice() >= upper) {
                return damaged(no, "a key is outside the fences");
            }
            // The first separator stands for the lower fence, which may be above it.
            if i > usize::from(!node.is_leaf()) && keys[i - 1] >= key {
                return damaged(no, "keys are not in order");
            }
            if node.search(self.pages, &key)? != Ok(i) {
                return damaged(no, "a key is not found where it is");
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

fn damaged<T>(page: PageNo, what: &'static str) -> Result<T, Error> {
    Err(Error::Damaged { page, what })
}
