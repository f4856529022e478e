//! Chains of overflow pages: the tails of long keys, and long values.
//!
//! A chain is written once, belongs to exactly one entry of a tree version, moves with that entry when pages split
//! or merge, and is retired as a whole. Its length is in the entry, so a walk over a damaged list ends.

use std::cmp::Ordering;

use super::Error;
use super::layout::{
    CHAIN_MAX, CHUNK, CHUNK_DATA, CHUNK_LEN, CHUNK_NEXT, Chain, FORMAT, FORMAT_VERSION, KIND, OVERFLOW,
    set_u16, u16_at,
};
use crate::map::page::{PageNo, ReadPages, WritePages};

/// Walks the parts of a chain in order.
pub(super) struct Chunks<'a, R> {
    pages: &'a R,
    next: PageNo,
    left: usize,
}

impl<'a, R: ReadPages> Chunks<'a, R> {
    pub fn new(pages: &'a R, chain: Chain) -> Chunks<'a, R> {
        Chunks { pages, next: chain.page, left: chain.len as usize }
    }

    fn read(&mut self) -> Result<(PageNo, &'a [u8]), Error> {
        let no = self.next;
        let page = self.pages.page(no)?;
        let damaged = |what| Err(Error::Damaged { page: no, what });
        if page[KIND] != OVERFLOW || page[FORMAT] != FORMAT_VERSION {
            return damaged("not an overflow page of this format");
        }
        if self.left > CHAIN_MAX {
            return damaged("the chain is longer than any key or value");
        }
        let len = u16_at(page, CHUNK_LEN);
        if len != self.left.min(CHUNK) {
            return damaged("an overflow page holds another part than its chain needs");
        }
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| page[CHUNK_NEXT + i]);
        self.next = PageNo(u32::from_le_bytes([a, b, c, d]));
        self.left -= len;
        if (self.left == 0) != (self.next.0 == 0) {
            return damaged("the chain does not end where its length says");
        }
        Ok((no, &page[CHUNK_DATA..CHUNK_DATA + len]))
    }
}

impl<'a, R: ReadPages> Iterator for Chunks<'a, R> {
    type Item = Result<(PageNo, &'a [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.left > 0).then(|| self.read())
    }
}

/// Appends the chain's bytes to `out`.
pub(super) fn read<R: ReadPages>(pages: &R, chain: Chain, out: &mut Vec<u8>) -> Result<(), Error> {
    for chunk in Chunks::new(pages, chain) {
        out.extend_from_slice(chunk?.1);
    }
    Ok(())
}

/// Orders the chain's bytes against `other`, reading no further than the first difference.
pub(super) fn compare<R: ReadPages>(pages: &R, chain: Chain, mut other: &[u8]) -> Result<Ordering, Error> {
    for chunk in Chunks::new(pages, chain) {
        let (_, chunk) = chunk?;
        let (here, rest) = other.split_at(chunk.len().min(other.len()));
        match chunk.cmp(here) {
            Ordering::Equal => other = rest,
            unequal => return Ok(unequal),
        }
    }
    Ok(if other.is_empty() { Ordering::Equal } else { Ordering::Less })
}

/// Adds the numbers of the chain's pages to `out`.
pub(super) fn collect<R: ReadPages>(pages: &R, chain: Chain, out: &mut Vec<PageNo>) -> Result<(), Error> {
    for chunk in Chunks::new(pages, chain) {
        out.push(chunk?.0);
    }
    Ok(())
}

/// Writes `bytes` as a new chain; they are not empty and at most [`CHAIN_MAX`].
pub(super) fn store<W: WritePages>(pages: &mut W, bytes: &[u8]) -> Chain {
    assert!(!bytes.is_empty() && bytes.len() <= CHAIN_MAX, "a chain of {} bytes", bytes.len());
    // From the end, because a page names its successor.
    let mut next = PageNo(0);
    for chunk in bytes.chunks(CHUNK).rev() {
        let no = pages.allocate();
        let page = pages.page_mut(no);
        page[KIND] = OVERFLOW;
        page[FORMAT] = FORMAT_VERSION;
        set_u16(page, CHUNK_LEN, chunk.len());
        page[CHUNK_NEXT..CHUNK_DATA].copy_from_slice(&next.0.to_le_bytes());
        page[CHUNK_DATA..CHUNK_DATA + chunk.len()].copy_from_slice(chunk);
        next = no;
    }
    Chain { page: next, len: bytes.len() as u32 }
}
