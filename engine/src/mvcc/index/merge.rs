//! Merging pages that removals left too empty, and lowering the root.
//!
//! This comes after a removal is complete and is never needed for a right answer, so it does nothing where a sibling
//! is not in memory: the next removal there tries again. The rule is simple: a page below a quarter merges with a
//! sibling when both fit one page and leave room; entries are never moved just to even two pages out.

use super::items::Items;
use super::layout::{CAPACITY, Child, INNER, LEAF};
use super::node::{self, NewKey, Node, Payload};
use super::read::{Path, TWICE, open};
use super::write::{own, resident};
use super::{Error, Root, overflow};
use crate::map::page::{PageNo, ReadPages, WritePages};

/// Merges the pages of `path` that became too empty, from the leaf up.
pub(super) fn rebalance<W: WritePages>(pages: &mut W, root: &mut Root, mut path: Path) -> Result<(), Error> {
    while let Some(step) = path.pop() {
        let Some(parent) = path.last() else { return lower_root(pages, root) };
        if Node::open(step.page, resident(pages, step.page))?.used() >= MERGE_BELOW {
            return Ok(());
        }
        let slot = parent.slot;
        let merged = (slot > 0 && merge(pages, &path, slot - 1)?) || merge(pages, &path, slot)?;
        if !merged {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes away what is above the only page of a level, and the last page when it is empty.
fn lower_root<W: WritePages>(pages: &mut W, root: &mut Root) -> Result<(), Error> {
    // Only the old root is sure to be in memory. A child that is not may stay under a root of one child.
    while let Ok(page) = pages.page(root.page) {
        let node = Node::open(root.page, page)?;
        let below = match (node.is_leaf(), node.count()) {
            (true, 0) => Root::EMPTY,
            (false, 1) => Root { page: node.child(0)?.page, height: root.height - 1, ..*root },
            _ => return Ok(()),
        };
        pages.retire(root.page);
        *root = below;
        if root.height == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Merges children `left` and `left + 1` of the last page of `path`, if both are there, in memory, and fit one page.
fn merge<W: WritePages>(pages: &mut W, path: &Path, left: usize) -> Result<bool, Error> {
    match plan_merge(pages, path, left) {
        Err(Error::Miss(_)) | Ok(None) => Ok(false),
        Err(damaged) => Err(damaged),
        Ok(Some(plan)) => {
            let parent = path[path.len() - 1].page;
            let no = own(pages, plan.left.page)?;
            plan.items.write(0..plan.items.count(), plan.kind, pages.page_mut(no));
            pages.retire(plan.right.page);
            plan.dead.into_iter().for_each(|no| pages.retire(no));
            let child = Child { page: no, live: plan.left.live.wrapping_add(plan.right.live) };
            let page = pages.page_mut(parent);
            node::set_payload(page, left, Payload::of_child(&child.encode()));
            node::remove(page, left + 1, plan.separator_size);
            Ok(true)
        }
    }
}

/// Two pages that become one.
struct Merge {
    left: Child,
    right: Child,
    items: Items,
    kind: u8,
    /// Bytes the separator leaves behind in the parent.
    separator_size: usize,
    /// Its tail, when nobody needs it any more.
    dead: Vec<PageNo>,
}

fn plan_merge<R: ReadPages>(pages: &R, path: &Path, at: usize) -> Result<Option<Merge>, Error> {
    let parent = open(pages, path[path.len() - 1].page, false)?;
    if at + 1 >= parent.count() {
        return Ok(None);
    }
    let (left, right) = (parent.child(at)?, parent.child(at + 1)?);
    if left.page == right.page || path.iter().any(|step| [left.page, right.page].contains(&step.page)) {
        return Err(Error::Damaged { page: left.page, what: TWICE });
    }
    let left_node = Node::open(left.page, pages.page(left.page)?)?;
    let right_node = open(pages, right.page, left_node.is_leaf())?;
    if left_node.used() + right_node.used() + MERGE_SPARE > CAPACITY {
        return Ok(None);
    }
    let separator = parent.entry(at + 1)?;
    let mut stem = Vec::new();
    parent.stem(at + 1, &mut stem)?;
    let mut items = Items::of(&left_node)?;
    items.append(&right_node, Some(NewKey { stem: &stem, tail: separator.tail }))?;
    let kind = if left_node.is_leaf() { LEAF } else { INNER };
    if !items.fit(kind, MERGE_SPARE) {
        return Ok(None);
    }
    let mut dead = Vec::new();
    if let (true, Some(chain)) = (left_node.is_leaf(), separator.tail) {
        overflow::collect(pages, chain, &mut dead)?;
    }
    Ok(Some(Merge { left, right, items, kind, separator_size: separator.size(), dead }))
}

/// A page that uses fewer bytes looks for a sibling to merge with.
const MERGE_BELOW: usize = CAPACITY / 4;
/// Pages merge when together they leave this much room for insertions, in bytes.
const MERGE_SPARE: usize = CAPACITY / 8;
