//! Changing the tree: put and remove, on pages private to the batch.
//!
//! An operation has two halves. The first only reads: it walks down, decides what will happen and looks at every page
//! that needs. `Error::Miss` comes from there, so nothing was changed and the caller simply tries again. The second
//! half changes pages; what it reads the first half has seen, and a page that was in memory stays there until the
//! operation returns. `Error::Damaged` may come from either half and ends the batch.
//!
//! A removal ends with a merge of pages that became too empty (`merge`).

use super::layout::{CHAIN, Chain, Child, INNER, LEAF, SLOT, VALUE_INLINE_MAX, common, stem, tail};
use super::node::{self, NewKey, Node, Payload};
use super::read::{Path, Step, open, walk};
use super::{Error, Root, items::Items, merge, overflow};
use crate::map::page::{PAGE_HEADER, PAGE_SIZE, Page, PageNo, ReadPages, WritePages};

/// What there was at a key before it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// No entry.
    Absent,
    /// An entry that did not count.
    Dead,
    /// A live key.
    Live,
}

impl Before {
    fn of(live: bool) -> Before {
        if live { Before::Live } else { Before::Dead }
    }
}

/// What happens to the leaf.
enum Edit {
    /// The payload changes in place.
    Overwrite,
    /// The entry moves within the page; this many bytes of it stay behind.
    Replace { old_size: usize, tail: Option<Chain> },
    /// There is room for the new entry.
    Insert,
    /// There is room when the page is compacted.
    Rewrite(Items),
    /// There is none.
    Split { items: Items, cut: usize, separator: Vec<u8> },
}

/// Writes `value` under `key`; `live` says whether the key counts.
///
/// Both are at most [`CHAIN_MAX`](super::layout::CHAIN_MAX) bytes, which is the caller's duty.
pub fn put<W: WritePages>(
    pages: &mut W,
    root: &mut Root,
    key: &[u8],
    value: &[u8],
    live: bool,
) -> Result<Before, Error> {
    let chained = value.len() > VALUE_INLINE_MAX;
    // The place of the chain is known only after the half that may miss.
    let planned = Payload { bytes: if chained { &[0; CHAIN] } else { value }, live, chained };
    if root.height == 0 {
        plant(pages, root);
    }
    let (mut path, found) = walk(pages, root, key)?;
    let step = path[path.len() - 1];
    let leaf = open(pages, step.page, true)?;
    let old = if found { Some(leaf.entry(step.slot)?) } else { None };
    let before = old.map_or(Before::Absent, |old| Before::of(old.payload.live));
    let mut dead = Vec::new();
    if let Some(chain) = old.map_or(Ok(None), |old| old.payload.chain(step.page))? {
        overflow::collect(pages, chain, &mut dead)?;
    }
    let edit = plan(pages, step, &leaf, found, key, planned)?;

    let delta = u64::from(live).wrapping_sub(u64::from(before == Before::Live));
    own_path(pages, root, &mut path, delta)?;
    root.entries += u64::from(!found);
    dead.into_iter().for_each(|no| pages.retire(no));
    let chain = chained.then(|| overflow::store(pages, value).encode());
    let payload = Payload { bytes: chain.as_ref().map_or(value, |chain| chain), ..planned };
    let tail = if found { None } else { tail(key).map(|tail| overflow::store(pages, tail)) };
    change(pages, root, path, edit, NewKey { stem: stem(key), tail }, payload)?;
    Ok(before)
}

/// Makes the first page of an empty tree.
fn plant<W: WritePages>(pages: &mut W, root: &mut Root) {
    let no = pages.allocate();
    node::init(pages.page_mut(no), LEAF, &[]);
    *root = Root { page: no, height: 1, live: 0, entries: 0 };
}

fn plan<R: ReadPages>(
    pages: &R,
    step: Step,
    leaf: &Node<'_>,
    found: bool,
    key: &[u8],
    payload: Payload<'_>,
) -> Result<Edit, Error> {
    let new = node::new_key(key);
    let size = node::size(new.stem.len(), leaf.prefix().len(), new.tail.is_some(), payload.bytes.len());
    if found {
        let old = leaf.entry(step.slot)?;
        if old.payload.bytes.len() == payload.bytes.len() {
            return Ok(Edit::Overwrite);
        }
        if leaf.gap() + SLOT >= size {
            return Ok(Edit::Replace { old_size: old.size(), tail: old.tail });
        }
    } else if leaf.gap() >= size && key.starts_with(leaf.prefix()) {
        return Ok(Edit::Insert);
    }
    let mut items = Items::of(leaf)?;
    if found {
        items.set_payload(step.slot, payload);
    } else {
        items.insert(step.slot, new, payload);
    }
    if items.fit(LEAF, 0) {
        return Ok(Edit::Rewrite(items));
    }
    let damaged = |what| Error::Damaged { page: step.page, what };
    let cut = items.cut(LEAF, step.slot).ok_or_else(|| damaged(OVERFULL))?;
    let separator = {
        let new_at = (!found).then_some(step.slot);
        let left = whole_key(pages, &items, cut - 1, new_at, key)?;
        let right = whole_key(pages, &items, cut, new_at, key)?;
        let len = common(&left, &right) + 1;
        right.get(..len).ok_or_else(|| damaged("keys are not in order"))?.to_vec()
    };
    Ok(Edit::Split { items, cut, separator })
}

/// Key `i` of `items`, where the one at `new_at` is `new` and not stored yet.
fn whole_key<R: ReadPages>(
    pages: &R,
    items: &Items,
    i: usize,
    new_at: Option<usize>,
    new: &[u8],
) -> Result<Vec<u8>, Error> {
    if new_at == Some(i) {
        return Ok(new.to_vec());
    }
    let NewKey { stem, tail } = items.key(i);
    let mut key = stem.to_vec();
    if let Some(chain) = tail {
        overflow::read(pages, chain, &mut key)?;
    }
    Ok(key)
}

fn change<W: WritePages>(
    pages: &mut W,
    root: &mut Root,
    path: Path,
    edit: Edit,
    key: NewKey<'_>,
    payload: Payload<'_>,
) -> Result<(), Error> {
    let Step { page: no, slot } = path[path.len() - 1];
    let finish = |items: &mut Items| {
        items.set_payload(slot, payload);
        if let Some(tail) = key.tail {
            items.set_tail(slot, tail);
        }
    };
    match edit {
        Edit::Overwrite => node::set_payload(pages.page_mut(no), slot, payload),
        Edit::Replace { old_size, tail } => {
            node::remove(pages.page_mut(no), slot, old_size);
            node::insert(pages.page_mut(no), slot, NewKey { tail, ..key }, payload);
        }
        Edit::Insert => node::insert(pages.page_mut(no), slot, key, payload),
        Edit::Rewrite(mut items) => {
            finish(&mut items);
            items.write(0..items.count(), LEAF, pages.page_mut(no));
        }
        Edit::Split { mut items, cut, separator } => {
            finish(&mut items);
            let tail = tail(&separator).map(|tail| overflow::store(pages, tail));
            let separator = NewKey { stem: stem(&separator), tail };
            split(pages, root, path, &items, cut, separator)?;
        }
    }
    Ok(())
}

/// Spreads `items` over the last page of `path` and a new one to its right, and tells the parent.
fn split<W: WritePages>(
    pages: &mut W,
    root: &mut Root,
    mut path: Path,
    items: &Items,
    cut: usize,
    separator: NewKey<'_>,
) -> Result<(), Error> {
    let Step { page: left, .. } = path.pop().expect("a split page is on its path");
    let kind = if path.len() + 1 == root.height as usize { LEAF } else { INNER };
    let right = pages.allocate();
    let count = items.count();
    items.write(0..cut, kind, pages.page_mut(left));
    items.write(cut..count, kind, pages.page_mut(right));
    let left = Child { page: left, live: items.live(0..cut, kind) };
    let right = Child { page: right, live: items.live(cut..count, kind) };
    add_child(pages, root, path, left, separator, right)
}

/// Puts `right` next to `left` into the last page of `path`, or into a new root above both.
fn add_child<W: WritePages>(
    pages: &mut W,
    root: &mut Root,
    path: Path,
    left: Child,
    separator: NewKey<'_>,
    right: Child,
) -> Result<(), Error> {
    let (left, right) = (left.encode(), right.encode());
    let (left, right) = (Payload::of_child(&left), Payload::of_child(&right));
    let Some(&Step { page: no, slot }) = path.last() else {
        let no = pages.allocate();
        let page = pages.page_mut(no);
        node::init(page, INNER, &[]);
        node::insert(page, 0, NewKey { stem: &[], tail: None }, left);
        node::insert(page, 1, separator, right);
        *root = Root { page: no, height: root.height + 1, ..*root };
        return Ok(());
    };
    node::set_payload(pages.page_mut(no), slot, left);
    let parent = open(pages, no, false)?;
    let size =
        node::size(separator.stem.len(), parent.prefix().len(), separator.tail.is_some(), right.bytes.len());
    if parent.gap() >= size && separator.stem.starts_with(parent.prefix()) {
        node::insert(pages.page_mut(no), slot + 1, separator, right);
        return Ok(());
    }
    let mut items = Items::of(&parent)?;
    items.insert(slot + 1, separator, right);
    if items.fit(INNER, 0) {
        items.write(0..items.count(), INNER, pages.page_mut(no));
        return Ok(());
    }
    // The separator at the cut moves up; on the right it becomes the first, which is below everything.
    let cut = items.cut(INNER, slot + 1).ok_or(Error::Damaged { page: no, what: OVERFULL })?;
    split(pages, root, path, &items, cut, items.key(cut))
}

/// Removes the entry of `key`.
pub fn remove<W: WritePages>(pages: &mut W, root: &mut Root, key: &[u8]) -> Result<Before, Error> {
    if root.height == 0 {
        return Ok(Before::Absent);
    }
    let (mut path, found) = walk(pages, root, key)?;
    if !found {
        return Ok(Before::Absent);
    }
    let step = path[path.len() - 1];
    let entry = open(pages, step.page, true)?.entry(step.slot)?;
    let (size, live) = (entry.size(), entry.payload.live);
    let mut dead = Vec::new();
    for chain in [entry.tail, entry.payload.chain(step.page)?].into_iter().flatten() {
        overflow::collect(pages, chain, &mut dead)?;
    }

    own_path(pages, root, &mut path, 0u64.wrapping_sub(live.into()))?;
    root.entries = root.entries.saturating_sub(1);
    dead.into_iter().for_each(|no| pages.retire(no));
    node::remove(pages.page_mut(path[path.len() - 1].page), step.slot, size);
    merge::rebalance(pages, root, path)?;
    Ok(Before::of(live))
}

/// Makes the pages of `path` private and adds `delta` to the live keys of the root and of every child on the path.
fn own_path<W: WritePages>(pages: &mut W, root: &mut Root, path: &mut Path, delta: u64) -> Result<(), Error> {
    root.live = root.live.wrapping_add(delta);
    for depth in 0..path.len() {
        let old = path[depth].page;
        let new = own(pages, old)?;
        path[depth].page = new;
        if depth == 0 {
            root.page = new;
        } else if new != old || delta != 0 {
            let Step { page: parent, slot } = path[depth - 1];
            let child = open(pages, parent, false)?.child(slot)?;
            let child = Child { page: new, live: child.live.wrapping_add(delta) };
            node::set_payload(pages.page_mut(parent), slot, Payload::of_child(&child.encode()));
        }
    }
    Ok(())
}

/// A private page with the bytes of `no`: itself when it is one.
pub(super) fn own<W: WritePages>(pages: &mut W, no: PageNo) -> Result<PageNo, Error> {
    if pages.is_private(no) {
        return Ok(no);
    }
    // By way of the stack, because the memory lends one page at a time. The gap, a third of the page, is left out.
    let gap = Node::open(no, resident(pages, no))?.gap_range();
    let mut copy: Page = [0; PAGE_SIZE];
    copy[..gap.start].copy_from_slice(&resident(pages, no)[..gap.start]);
    copy[gap.end..].copy_from_slice(&resident(pages, no)[gap.end..]);
    let new = pages.allocate();
    let page = pages.page_mut(new);
    page[PAGE_HEADER..gap.start].copy_from_slice(&copy[PAGE_HEADER..gap.start]);
    page[gap.end..].copy_from_slice(&copy[gap.end..]);
    pages.retire(no);
    Ok(new)
}

/// A page the first half of the operation has read.
pub(super) fn resident<R: ReadPages>(pages: &R, no: PageNo) -> &Page {
    match pages.page(no) {
        Ok(page) => page,
        Err(miss) => panic!("page {} left memory within one operation", miss.page.0),
    }
}

const OVERFULL: &str = "a page holds more than fits two";
