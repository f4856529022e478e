//! Reading a version of the tree: a key, the number of live keys in a range, the path to a key.
//!
//! Every function walks down from the root and has no state, so after `Error::Miss` the caller brings the page in
//! and calls again.

use std::borrow::Cow;

use super::layout::HEIGHT_MAX;
use super::node::{Node, Payload};
use super::{Error, Root, overflow};
use crate::map::page::{PageNo, ReadPages};

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The leaf it is in, for error reports.
    pub page: PageNo,
    /// The value: in its page, or put together when it was too long for one.
    pub value: Cow<'a, [u8]>,
    /// Whether the key counts.
    pub live: bool,
}

/// The entry of `key`.
pub fn get<'a, R: ReadPages>(pages: &'a R, root: &Root, key: &[u8]) -> Result<Option<Found<'a>>, Error> {
    let Some((no, leaf)) = leaf_of(pages, root, key)? else { return Ok(None) };
    match leaf.search(pages, key)? {
        Ok(i) => Ok(Some(found(pages, no, leaf.entry(i)?.payload)?)),
        Err(_) => Ok(None),
    }
}

pub(super) fn found<'a, R: ReadPages>(
    pages: &'a R,
    no: PageNo,
    payload: Payload<'a>,
) -> Result<Found<'a>, Error> {
    let value = match payload.chain(no)? {
        None => Cow::Borrowed(payload.bytes),
        Some(chain) => {
            let mut value = Vec::new();
            overflow::read(pages, chain, &mut value)?;
            Cow::Owned(value)
        }
    };
    Ok(Found { page: no, value, live: payload.live })
}

fn leaf_of<'a, R: ReadPages>(
    pages: &'a R,
    root: &Root,
    key: &[u8],
) -> Result<Option<(PageNo, Node<'a>)>, Error> {
    if root.height == 0 {
        return Ok(None);
    }
    let mut no = root.page;
    for _ in 1..root.height {
        let inner = open(pages, no, false)?;
        no = inner.child(inner.route(pages, key)?)?.page;
    }
    Ok(Some((no, open(pages, no, true)?)))
}

/// Live keys at or above `from` and below `to`; without `to`, to the end. Visits one path for each bound.
pub fn count<R: ReadPages>(pages: &R, root: &Root, from: &[u8], to: Option<&[u8]>) -> Result<u64, Error> {
    let below_to = match to {
        Some(to) if to <= from => return Ok(0),
        Some(to) => live_below(pages, root, to)?,
        None => root.live,
    };
    Ok(below_to.saturating_sub(live_below(pages, root, from)?))
}

fn live_below<R: ReadPages>(pages: &R, root: &Root, key: &[u8]) -> Result<u64, Error> {
    let mut sum = 0u64;
    let mut no = root.page;
    for level in (0..root.height).rev() {
        let node = open(pages, no, level == 0)?;
        let end = if level == 0 {
            node.search(pages, key)?.unwrap_or_else(|behind| behind)
        } else {
            let slot = node.route(pages, key)?;
            no = node.child(slot)?.page;
            slot
        };
        sum = sum.wrapping_add(node.live(0..end)?);
    }
    Ok(sum)
}

/// Opens a page that must be a leaf or must be an inner page.
pub(super) fn open<R: ReadPages>(pages: &R, no: PageNo, leaf: bool) -> Result<Node<'_>, Error> {
    let node = Node::open(no, pages.page(no)?)?;
    if node.is_leaf() != leaf {
        return Err(Error::Damaged { page: no, what: "leaves are not all at one height" });
    }
    Ok(node)
}

/// What is wrong with a page that is reached on two ways.
pub(super) const TWICE: &str = "the page is reached twice";

/// The pages from the root to a leaf, each with the slot taken in it.
#[derive(Clone, Copy)]
pub(super) struct Path {
    steps: [Step; HEIGHT_MAX],
    len: usize,
}

/// One page of a [`Path`].
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub page: PageNo,
    pub slot: usize,
}

impl Path {
    pub const EMPTY: Path = Path { steps: [Step { page: PageNo(0), slot: 0 }; HEIGHT_MAX], len: 0 };

    pub fn push(&mut self, step: Step) -> Result<(), Error> {
        if self.iter().any(|above| above.page == step.page) {
            return Err(Error::Damaged { page: step.page, what: TWICE });
        }
        let Some(place) = self.steps.get_mut(self.len) else {
            return Err(Error::Damaged { page: step.page, what: "the tree is too high" });
        };
        *place = step;
        self.len += 1;
        Ok(())
    }

    pub fn pop(&mut self) -> Option<Step> {
        self.len = self.len.checked_sub(1)?;
        Some(self.steps[self.len])
    }
}

impl std::ops::Deref for Path {
    type Target = [Step];

    fn deref(&self) -> &[Step] {
        &self.steps[..self.len]
    }
}

impl std::ops::DerefMut for Path {
    fn deref_mut(&mut self) -> &mut [Step] {
        &mut self.steps[..self.len]
    }
}

/// Walks to the leaf of `key`. The last step's slot is where the key is or belongs, `true` when it is there.
/// The tree is not empty.
pub(super) fn walk<R: ReadPages>(pages: &R, root: &Root, key: &[u8]) -> Result<(Path, bool), Error> {
    let mut path = Path::EMPTY;
    let mut no = root.page;
    for _ in 1..root.height {
        let inner = open(pages, no, false)?;
        let slot = inner.route(pages, key)?;
        path.push(Step { page: no, slot })?;
        no = inner.child(slot)?.page;
    }
    let found = open(pages, no, true)?.search(pages, key)?;
    path.push(Step { page: no, slot: found.unwrap_or_else(|behind| behind) })?;
    Ok((path, found.is_ok()))
}
