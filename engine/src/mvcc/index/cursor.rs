//! A scan in key order.

use std::borrow::Cow;

use super::node::Node;
use super::read::{Path, Step, found, open};
use super::{Error, Root, overflow};
use crate::map::page::{PageNo, ReadPages};

/// Where a cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'k> {
    /// At this key, or behind it when it is not there.
    At(&'k [u8]),
    /// Behind this key: where a scan goes on that was interrupted after it.
    After(&'k [u8]),
}

/// Walks entries in key order.
///
/// After [`Error::Miss`] it stands where it stood: bring the page in and call [`Cursor::next`] again, or, when that
/// needs the pages it borrows, make a new cursor from [`Cursor::resume`].
pub struct Cursor<'a, R> {
    pages: &'a R,
    root: Root,
    /// Inner pages above `leaf`, with the slots of the children taken; empty before the first step.
    path: Path,
    leaf: Option<Leaf<'a>>,
    /// The key returned last, or the one to start from.
    key: Vec<u8>,
    /// The scan goes on behind `key`, not at it.
    behind: bool,
    end: Option<Vec<u8>>,
}

struct Leaf<'a> {
    no: PageNo,
    node: Node<'a>,
    next: usize,
    /// Slots from here on are outside the scan.
    end: usize,
    /// `key` is one of this leaf, so it begins with its prefix.
    entered: bool,
}

/// An entry under a [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'c> {
    /// The leaf it is in, for error reports.
    pub page: PageNo,
    /// The key; borrowed from the cursor.
    pub key: &'c [u8],
    /// The value.
    pub value: Cow<'c, [u8]>,
    /// Whether the key counts.
    pub live: bool,
}

impl<'a, R: ReadPages> Cursor<'a, R> {
    /// Entries from `from` on and below `end`; without `end`, to the end.
    pub fn new(pages: &'a R, root: &Root, from: From<'_>, end: Option<&[u8]>) -> Cursor<'a, R> {
        let (key, behind) = match from {
            From::At(key) => (key, false),
            From::After(key) => (key, true),
        };
        let (path, leaf) = (Path::EMPTY, None);
        Cursor { pages, root: *root, path, leaf, key: key.to_vec(), behind, end: end.map(<[u8]>::to_vec) }
    }

    /// The next entry.
    #[allow(clippy::should_implement_trait)] // It lends from the cursor.
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Error> {
        if self.leaf.is_none() && !self.start()? {
            return Ok(None);
        }
        while self.leaf.as_ref().is_some_and(|leaf| leaf.next >= leaf.end) {
            if !self.step()? {
                return Ok(None);
            }
        }
        let Some(Leaf { no, node, next, entered, .. }) = &mut self.leaf else { return Ok(None) };
        let entry = node.entry(*next)?;
        // What may miss comes first; from there on nothing fails half-way.
        let value = found(self.pages, *no, entry.payload)?;
        let mut tail = Vec::new();
        if let Some(chain) = entry.tail {
            overflow::read(self.pages, chain, &mut tail)?;
        }
        if *entered {
            self.key.truncate(node.prefix().len());
        } else {
            self.key.clear();
            self.key.extend_from_slice(node.prefix());
        }
        entry.append_suffix(&mut self.key);
        self.key.extend_from_slice(&tail);
        (*entered, self.behind) = (true, true);
        *next += 1;
        Ok(Some(Item { page: *no, key: &self.key, value: value.value, live: value.live }))
    }

    /// Where a new cursor has to start to go on in place of this one.
    pub fn resume(&self) -> From<'_> {
        if self.behind { From::After(&self.key) } else { From::At(&self.key) }
    }

    /// Finds the first leaf; `false` when the tree is empty.
    fn start(&mut self) -> Result<bool, Error> {
        if self.root.height == 0 {
            return Ok(false);
        }
        let mut path = Path::EMPTY;
        let mut no = self.root.page;
        for _ in 1..self.root.height {
            let inner = open(self.pages, no, false)?;
            let slot = inner.route(self.pages, &self.key)?;
            path.push(Step { page: no, slot })?;
            no = inner.child(slot)?.page;
        }
        let leaf = open(self.pages, no, true)?;
        let first = match (leaf.search(self.pages, &self.key)?, self.behind) {
            (Ok(slot), true) => slot + 1,
            (Ok(slot) | Err(slot), _) => slot,
        };
        self.enter(path, no, leaf, first)?;
        Ok(true)
    }

    /// Goes to the next leaf; `false` behind the last one.
    fn step(&mut self) -> Result<bool, Error> {
        let leaf = self.leaf.as_ref().expect("a started cursor has a leaf");
        if leaf.end < leaf.node.count() {
            return Ok(false);
        }
        let mut path = self.path;
        let mut no = loop {
            let Some(Step { page, slot }) = path.pop() else { return Ok(false) };
            let inner = open(self.pages, page, false)?;
            if slot + 1 < inner.count() {
                path.push(Step { page, slot: slot + 1 })?;
                break inner.child(slot + 1)?.page;
            }
        };
        while path.len() + 1 < self.root.height as usize {
            let inner = open(self.pages, no, false)?;
            path.push(Step { page: no, slot: 0 })?;
            no = inner.child(0)?.page;
        }
        self.enter(path, no, open(self.pages, no, true)?, 0)?;
        Ok(true)
    }

    /// Takes a leaf as the current one, from slot `next` on.
    fn enter(&mut self, path: Path, no: PageNo, node: Node<'a>, next: usize) -> Result<(), Error> {
        let end = match &self.end {
            None => node.count(),
            Some(end) => node.search(self.pages, end)?.unwrap_or_else(|behind| behind),
        };
        self.path = path;
        self.leaf = Some(Leaf { no, node, next, end, entered: false });
        Ok(())
    }
}
