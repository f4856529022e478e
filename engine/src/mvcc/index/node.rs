//! One leaf or inner page: a checked view, a search, and the edits that need no other byte to move.
//!
//! `Node::open` checks what holds for the page as a whole, `Node::entry` what holds for one entry, each time:
//! a page may be any bytes and still only gives `Error::Damaged`. Edits that rearrange a page are in `items`.

use std::cmp::Ordering;

use super::Error;
use super::layout::{
    CAPACITY, CHAIN, CHAINED, CHILD, COUNT, Chain, Child, ENTRY_HEADER, FORMAT, FORMAT_VERSION, GARBAGE,
    HEAD, HEAP, INNER, KEY_INLINE_MAX, KIND, LEAF, LIVE, LONG, PREFIX, PREFIX_LEN, PREFIX_MAX, SLOT,
    STEM_LONG, head, set_u16, slot_at, stem, tail, u16_at,
};
use super::overflow;
use crate::map::page::{PAGE_SIZE, Page, PageNo, ReadPages};

/// A leaf or inner page.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    no: PageNo,
    page: &'a Page,
    /// Where entries begin.
    heap: usize,
    slots: &'a [[u8; SLOT]],
    prefix: &'a [u8],
}

/// One entry of a page, as slices of it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    head: [u8; HEAD],
    /// Bytes of the key in the page behind the prefix.
    suffix_len: usize,
    /// Those of them behind the head.
    rest: &'a [u8],
    pub tail: Option<Chain>,
    pub payload: Payload<'a>,
}

/// What an entry says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    pub bytes: &'a [u8],
    pub live: bool,
    /// The bytes are a [`Chain`] that holds the real ones.
    pub chained: bool,
}

impl Payload<'_> {
    pub fn of_child(bytes: &[u8; CHILD]) -> Payload<'_> {
        Payload { bytes, live: false, chained: false }
    }

    /// Where the real bytes are when they are not here.
    pub fn chain(&self, page: PageNo) -> Result<Option<Chain>, Error> {
        match self.bytes.try_into() {
            _ if !self.chained => Ok(None),
            Ok(chain) => Ok(Some(Chain::decode(chain))),
            Err(_) => Err(Error::Damaged { page, what: "a chained value is no chain" }),
        }
    }
}

impl<'a> Node<'a> {
    #[inline]
    pub fn open(no: PageNo, page: &'a Page) -> Result<Node<'a>, Error> {
        let damaged = |what| Err(Error::Damaged { page: no, what });
        if page[FORMAT] != FORMAT_VERSION || !matches!(page[KIND], LEAF | INNER) {
            return damaged("not a tree page of this format");
        }
        let prefix_len = u16_at(page, PREFIX_LEN);
        if prefix_len > PREFIX_MAX {
            return damaged("the prefix is too long");
        }
        let (heap, count) = (u16_at(page, HEAP), u16_at(page, COUNT));
        let Some(slots) = page.get(PREFIX + prefix_len..PREFIX + prefix_len + count * SLOT) else {
            return damaged("slots reach outside the page");
        };
        if PREFIX + prefix_len + slots.len() > heap || heap > PAGE_SIZE {
            return damaged("slots and entries overlap");
        }
        if page[KIND] == INNER && count == 0 {
            return damaged("an inner page has no child");
        }
        let prefix = &page[PREFIX..PREFIX + prefix_len];
        Ok(Node { no, page, heap, slots: slots.as_chunks().0, prefix })
    }

    pub fn is_leaf(&self) -> bool {
        self.page[KIND] == LEAF
    }

    pub fn count(&self) -> usize {
        self.slots.len()
    }

    pub fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged { page: self.no, what }
    }

    /// Where slots end and entries begin: what is between has no meaning.
    pub fn gap_range(&self) -> std::ops::Range<usize> {
        self.heap - self.gap()..self.heap
    }

    /// Bytes between slots and entries.
    pub fn gap(&self) -> usize {
        self.heap - PREFIX - self.prefix.len() - self.slots.len() * SLOT
    }

    /// Bytes that slots, entries and prefix take, those of removed entries left out.
    pub fn used(&self) -> usize {
        CAPACITY.saturating_sub(self.gap() + u16_at(self.page, GARBAGE))
    }

    /// The entry in slot `i`, which is below [`Node::count`].
    #[inline(always)]
    pub fn entry(&self, i: usize) -> Result<Entry<'a>, Error> {
        self.decode(&self.slots[i]).ok_or_else(|| self.damaged("an entry reaches outside its page"))
    }

    // Inlined, a search makes of an entry only what its comparison needs: a third of its time.
    #[inline(always)]
    fn decode(&self, slot: &[u8; SLOT]) -> Option<Entry<'a>> {
        let [h0, h1, h2, h3, offset @ ..] = *slot;
        let at = usize::from(u16::from_le_bytes(offset));
        // Edits in place rely on it that no entry reaches into header or slots.
        let body = if at < self.heap { None } else { self.page.get(at..) }?;
        let (&[k0, k1, p0, p1], body) = body.split_first_chunk::<ENTRY_HEADER>()?;
        let (key, payload) = (u16::from_le_bytes([k0, k1]), u16::from_le_bytes([p0, p1]));
        let suffix_len = usize::from(key & !LONG);
        if suffix_len > KEY_INLINE_MAX {
            return None;
        }
        let (bytes, body) = body.split_at_checked(usize::from(payload & !(LIVE | CHAINED)))?;
        let (tail, body) = match key & LONG {
            0 => (None, body),
            _ => body.split_first_chunk::<CHAIN>().map(|(chain, body)| (Some(Chain::decode(chain)), body))?,
        };
        let rest = body.get(..suffix_len.saturating_sub(HEAD))?;
        let payload = Payload { bytes, live: payload & LIVE != 0, chained: payload & CHAINED != 0 };
        Some(Entry { head: [h0, h1, h2, h3], suffix_len, rest, tail, payload })
    }

    /// The child in slot `i` of an inner page.
    pub fn child(&self, i: usize) -> Result<Child, Error> {
        let payload = self.entry(i)?.payload;
        let bytes = payload.bytes.try_into().map_err(|_| self.damaged("an inner entry is no child"))?;
        Ok(Child::decode(bytes))
    }

    /// Where `key` is (`Ok`) or belongs (`Err`). In an inner page never slot 0, whose separator is below everything.
    pub fn search<R: ReadPages>(&self, pages: &R, key: &[u8]) -> Result<Result<usize, usize>, Error> {
        let first = usize::from(!self.is_leaf());
        let Some(suffix) = key.strip_prefix(self.prefix) else {
            return Ok(Err(if key < self.prefix { first } else { self.count() }));
        };
        let want = u32::from_be_bytes(head(suffix));
        let head_of = |slot: &[u8; SLOT]| u32::from_be_bytes([slot[0], slot[1], slot[2], slot[3]]);
        let mut low = first + self.slots[first..].partition_point(|slot| head_of(slot) < want);
        let mut high = low;
        // Most often one entry at most has this head; the prefix of a page that spans a border can be short, though.
        if self.slots.get(low).is_some_and(|slot| head_of(slot) == want) {
            high += self.slots[low..].partition_point(|slot| head_of(slot) == want);
        }
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(middle)?.compare(pages, suffix, key)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Ok(middle)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }

    /// The slot of the child that `key` is below; this is an inner page.
    pub fn route<R: ReadPages>(&self, pages: &R, key: &[u8]) -> Result<usize, Error> {
        Ok(self.search(pages, key)?.unwrap_or_else(|behind| behind - 1))
    }

    /// Replaces `out` by the stem of the key in slot `i`.
    pub fn stem(&self, i: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let entry = self.entry(i)?;
        out.clear();
        out.extend_from_slice(self.prefix);
        entry.append_suffix(out);
        Ok(())
    }

    /// Replaces `out` by the key in slot `i`.
    pub fn key<R: ReadPages>(&self, pages: &R, i: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        self.stem(i, out)?;
        match self.entry(i)?.tail {
            Some(tail) => overflow::read(pages, tail, out),
            None => Ok(()),
        }
    }

    /// Live keys in or below slots `range`.
    pub fn live(&self, range: std::ops::Range<usize>) -> Result<u64, Error> {
        let mut sum = 0u64;
        for i in range {
            sum = sum.wrapping_add(if self.is_leaf() {
                self.entry(i)?.payload.live.into()
            } else {
                self.child(i)?.live
            });
        }
        Ok(sum)
    }
}

impl Entry<'_> {
    /// Appends the key's bytes behind the prefix that are in the page.
    pub fn append_suffix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[..self.suffix_len.min(HEAD)]);
        out.extend_from_slice(self.rest);
    }

    /// Bytes the entry takes with its slot.
    pub fn size(&self) -> usize {
        let tail = if self.tail.is_some() { CHAIN } else { 0 };
        SLOT + ENTRY_HEADER + self.payload.bytes.len() + tail + self.rest.len()
    }

    /// Orders the entry's key against one with the same head, given in whole and behind the prefix.
    #[inline(always)]
    fn compare<R: ReadPages>(&self, pages: &R, suffix: &[u8], key: &[u8]) -> Result<Ordering, Error> {
        let in_page = match self.tail {
            None => suffix,
            Some(_) => &suffix[..suffix.len().min(self.suffix_len)],
        };
        // Keys shorter than a head are padded by zeroes; their length tells "a" from "a\0".
        let order = self.rest.cmp(in_page.get(HEAD..).unwrap_or_default());
        let order = order.then(self.suffix_len.cmp(&in_page.len()));
        match self.tail {
            Some(chain) if order.is_eq() => overflow::compare(pages, chain, &key[key.len().min(STEM_LONG)..]),
            _ => Ok(order),
        }
    }
}

/// A key on its way into a page: the part for the page, and where the rest is.
#[derive(Clone, Copy)]
pub(super) struct NewKey<'a> {
    pub stem: &'a [u8],
    pub tail: Option<Chain>,
}

/// Makes `page` an empty page of this kind.
pub(super) fn init(page: &mut Page, kind: u8, prefix: &[u8]) {
    page[KIND] = kind;
    page[FORMAT] = FORMAT_VERSION;
    page[PREFIX_LEN + 2..PREFIX].fill(0);
    page[PREFIX..PREFIX + prefix.len()].copy_from_slice(prefix);
    set_u16(page, COUNT, 0);
    set_u16(page, HEAP, PAGE_SIZE);
    set_u16(page, GARBAGE, 0);
    set_u16(page, PREFIX_LEN, prefix.len());
}

/// Bytes an entry takes with its slot in a page with this prefix.
pub(super) fn size(stem_len: usize, prefix_len: usize, has_tail: bool, payload_len: usize) -> usize {
    let rest = stem_len.saturating_sub(prefix_len + HEAD);
    SLOT + ENTRY_HEADER + payload_len + if has_tail { CHAIN } else { 0 } + rest
}

/// Puts an entry into slot `i` of a page whose gap is large enough.
pub(super) fn insert(page: &mut Page, i: usize, key: NewKey<'_>, payload: Payload<'_>) {
    let (count, heap, prefix) = (u16_at(page, COUNT), u16_at(page, HEAP), u16_at(page, PREFIX_LEN));
    let suffix = key.stem.get(prefix..).unwrap_or_default();
    let rest = suffix.get(HEAD..).unwrap_or_default();
    let at = heap + SLOT - size(key.stem.len(), prefix, key.tail.is_some(), payload.bytes.len());

    let mut fields = [0; ENTRY_HEADER];
    let long = if key.tail.is_some() { LONG } else { 0 };
    fields[..2].copy_from_slice(&(suffix.len() as u16 | long).to_le_bytes());
    fields[2..].copy_from_slice(&payload_word(payload).to_le_bytes());
    let chain = key.tail.map(Chain::encode);
    let mut end = at;
    for part in [&fields[..], payload.bytes, chain.as_ref().map_or(&[][..], |chain| chain), rest] {
        page[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }

    let (slot, end) = (slot_at(page, i), slot_at(page, count));
    page.copy_within(slot..end, slot + SLOT);
    page[slot..slot + HEAD].copy_from_slice(&head(suffix));
    set_u16(page, slot + HEAD, at);
    set_u16(page, HEAP, at);
    set_u16(page, COUNT, count + 1);
}

/// Takes the entry out of slot `i`; `size` is its [`Entry::size`].
pub(super) fn remove(page: &mut Page, i: usize, size: usize) {
    let count = u16_at(page, COUNT);
    let (slot, end) = (slot_at(page, i), slot_at(page, count));
    page.copy_within(slot + SLOT..end, slot);
    set_u16(page, COUNT, count - 1);
    set_u16(page, GARBAGE, (u16_at(page, GARBAGE) + size - SLOT).min(PAGE_SIZE));
}

/// Overwrites the payload in slot `i` by one of the same length; the entry was decoded before.
pub(super) fn set_payload(page: &mut Page, i: usize, payload: Payload<'_>) {
    let at = u16_at(page, slot_at(page, i) + HEAD);
    page[at + 2..at + ENTRY_HEADER].copy_from_slice(&payload_word(payload).to_le_bytes());
    let at = at + ENTRY_HEADER;
    page[at..at + payload.bytes.len()].copy_from_slice(payload.bytes);
}

fn payload_word(payload: Payload<'_>) -> u16 {
    let flag = |set, bit| if set { bit } else { 0 };
    payload.bytes.len() as u16 | flag(payload.live, LIVE) | flag(payload.chained, CHAINED)
}

/// The new key's part for the page; its tail, when it has one, gets its chain later.
pub(super) fn new_key(key: &[u8]) -> NewKey<'_> {
    let tail = tail(key).map(|tail| Chain { page: PageNo(0), len: tail.len() as u32 });
    NewKey { stem: stem(key), tail }
}
