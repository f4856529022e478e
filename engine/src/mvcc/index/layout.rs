//! The bytes of a tree page, format 1. All integers are little-endian but the key heads.
//!
//! A leaf or an inner page is slotted: slots grow up from the prefix, entries grow down from the end.
//!
//! ```text
//!    0 ┌──────────────────────────────────────────────┐
//!      │ 16 bytes of `map`: checksum, number, birth   │
//!   16 ├──────┬────────┬───────────┬──────────────────┤
//!      │ kind │ format │ count u16 │ heap u16         │  heap: offset of the lowest entry
//!   22 ├──────┴────────┼───────────┼──────────────────┤
//!      │ garbage u16   │ prefix u16│ zero (6 bytes)   │  garbage: bytes of removed entries, prefix: its length
//!   32 ├───────────────┴───────────┴──────────────────┤
//!      │ prefix: what all keys of the page begin with │  next to the header, in the cache line a search reads first
//!      ├──────────────────────────────────────────────┤ 32 + prefix
//!      │ slots: count × { head 4 B, offset u16 }      │  head: first key bytes behind the prefix, zero-padded,
//!      ├──────────────────────────────────────────────┤  big-endian so that it compares as a number
//!      │ free                                         │
//!      ├──────────────────────────────────────────────┤ heap
//!      │ entries                                      │
//! 4096 └──────────────────────────────────────────────┘
//!
//! entry ┌─────────┬─────────────┬─────────┬──────────────┬─────────────────────────────┐
//!       │ key u16 │ payload u16 │ payload │ [tail chain] │ key bytes behind the head   │
//!       └─────────┴─────────────┴─────────┴──────────────┴─────────────────────────────┘
//! key      bits 0..15 bytes of the key in this page behind the prefix (head included), bit 15 LONG: a tail follows
//! payload  bits 0..14 its length, bit 14 CHAINED: it is a chain, bit 15 LIVE: counts as a live key
//!          leaf: the value;  inner: { child u32, live u64 }, where live is the number of live keys below child
//! chain    { page u32, len u32 }: len bytes in a list of overflow pages
//!
//! overflow page, from byte 16: kind, format, len u16, next u32 (0 ends the list), len data bytes
//! ```
//!
//! - A key of at most `KEY_INLINE_MAX` bytes is whole in its page. Of a longer one the page keeps the first
//!   `STEM_LONG` bytes, its *stem*, and the rest is a tail in overflow pages. (Of a short key all is stem.)
//! - A page's prefix is what all its keys begin with when it is written as a whole, cut at `PREFIX_MAX`. It is taken
//!   from the keys and not from the fences (the separators that bound the page in its ancestors, of which it stores
//!   no copy): the last page of an ascending load has no upper fence, and would have no prefix. The price is that a
//!   key between the fences may lack the prefix. Such a key is below or above all others of the page; to insert it
//!   the page is written with a shorter prefix, or cut next to it.
//! - A separator is the shortest key that is above everything left of it and not above anything right of it. The one
//!   in slot 0 of an inner page is empty: below everything.
//!
//! Versions: 1, the first.

use crate::map::page::{PAGE_HEADER, PAGE_SIZE, PageNo};

/// Value of the format byte.
pub(super) const FORMAT_VERSION: u8 = 1;

/// Kind of a page that holds keys and values.
pub(super) const LEAF: u8 = 1;
/// Kind of a page that holds separators and children.
pub(super) const INNER: u8 = 2;
/// Kind of a page that holds a part of a long key or value.
pub(super) const OVERFLOW: u8 = 3;

pub(super) const KIND: usize = PAGE_HEADER;
pub(super) const FORMAT: usize = KIND + 1;
pub(super) const COUNT: usize = FORMAT + 1;
pub(super) const HEAP: usize = COUNT + 2;
pub(super) const GARBAGE: usize = HEAP + 2;
pub(super) const PREFIX_LEN: usize = GARBAGE + 2;
/// Where the prefix begins, and behind it the slots.
pub(super) const PREFIX: usize = PREFIX_LEN + 2 + 6;

pub(super) const CHUNK_LEN: usize = FORMAT + 1;
pub(super) const CHUNK_NEXT: usize = CHUNK_LEN + 2;
pub(super) const CHUNK_DATA: usize = CHUNK_NEXT + 4;

/// Bytes of a slot.
pub(super) const SLOT: usize = HEAD + 2;
/// Key bytes in a slot.
pub(super) const HEAD: usize = 4;
/// Bytes in front of an entry's payload.
pub(super) const ENTRY_HEADER: usize = 4;
/// Bytes of a chain reference.
pub(super) const CHAIN: usize = 8;
/// Bytes of an inner page's payload.
pub(super) const CHILD: usize = 12;

/// Set in an entry's key length when a tail chain follows.
pub(super) const LONG: u16 = 1 << 15;
/// Set in an entry's payload length when the key is live.
pub(super) const LIVE: u16 = 1 << 15;
/// Set in an entry's payload length when the payload is a chain.
pub(super) const CHAINED: u16 = 1 << 14;

/// Bytes of a leaf or inner page for slots, entries and prefix.
pub(super) const CAPACITY: usize = PAGE_SIZE - PREFIX;
/// Data bytes of an overflow page.
pub(super) const CHUNK: usize = PAGE_SIZE - CHUNK_DATA;

/// Longest key that is whole in its page, in bytes.
pub const KEY_INLINE_MAX: usize = 1024;
/// What the page keeps of a longer key, in bytes.
pub(super) const STEM_LONG: usize = 256;
/// Longest prefix of a page, in bytes.
pub(super) const PREFIX_MAX: usize = STEM_LONG - HEAD;
/// Longest value that is in its leaf, in bytes.
pub const VALUE_INLINE_MAX: usize = 256;
/// Longest key or value, in bytes; above what any request may carry. Callers check before they come here.
pub const CHAIN_MAX: usize = 64 << 20;
/// Most levels of a tree: with the smallest fan-out of 3 more than all page numbers need.
pub(super) const HEIGHT_MAX: usize = 24;

/// Bytes of the largest entry with its slot.
pub(super) const ENTRY_MAX: usize = SLOT + ENTRY_HEADER + VALUE_INLINE_MAX + KEY_INLINE_MAX;

const _: () = assert!(PREFIX == 32 && SLOT == 6 && CHUNK_DATA == 24);
// A stem behind a prefix fills the head, so that heads order keys whose tails are elsewhere.
const _: () = assert!(STEM_LONG - PREFIX_MAX >= HEAD && STEM_LONG < KEY_INLINE_MAX);
// A page that overflows by one entry splits into two that fit, wherever the cut falls next to the middle.
const _: () = assert!(ENTRY_MAX + PREFIX_MAX <= CAPACITY / 2);
const _: () = assert!(KEY_INLINE_MAX < LONG as usize && VALUE_INLINE_MAX < CHAINED as usize);

/// A list of overflow pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub page: PageNo,
    pub len: u32,
}

impl Chain {
    pub fn decode(bytes: &[u8; CHAIN]) -> Chain {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Chain { page: PageNo(u32::from_le_bytes([a, b, c, d])), len: u32::from_le_bytes([e, f, g, h]) }
    }

    pub fn encode(self) -> [u8; CHAIN] {
        let mut bytes = [0; CHAIN];
        bytes[..4].copy_from_slice(&self.page.0.to_le_bytes());
        bytes[4..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }
}

/// What an inner page knows of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub page: PageNo,
    pub live: u64,
}

impl Child {
    pub fn decode(bytes: &[u8; CHILD]) -> Child {
        let [a, b, c, d, live @ ..] = *bytes;
        Child { page: PageNo(u32::from_le_bytes([a, b, c, d])), live: u64::from_le_bytes(live) }
    }

    pub fn encode(self) -> [u8; CHILD] {
        let mut bytes = [0; CHILD];
        bytes[..4].copy_from_slice(&self.page.0.to_le_bytes());
        bytes[4..].copy_from_slice(&self.live.to_le_bytes());
        bytes
    }
}

/// Reads a field; `at` is one of the offsets above.
pub(super) fn u16_at(page: &[u8; PAGE_SIZE], at: usize) -> usize {
    u16::from_le_bytes([page[at], page[at + 1]]).into()
}

/// Writes a field; `at` is one of the offsets above.
pub(super) fn set_u16(page: &mut [u8; PAGE_SIZE], at: usize, value: usize) {
    let value = u16::try_from(value).expect("offsets and lengths within a page fit 16 bits");
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Where slot `i` is.
pub(super) fn slot_at(page: &[u8; PAGE_SIZE], i: usize) -> usize {
    PREFIX + u16_at(page, PREFIX_LEN) + i * SLOT
}

/// The part of `key` that is in its page.
pub(super) fn stem(key: &[u8]) -> &[u8] {
    if key.len() > KEY_INLINE_MAX { &key[..STEM_LONG] } else { key }
}

/// The part of `key` that is in overflow pages.
pub(super) fn tail(key: &[u8]) -> Option<&[u8]> {
    (key.len() > KEY_INLINE_MAX).then(|| &key[STEM_LONG..])
}

/// The first bytes behind a prefix, as they stand in a slot.
pub(super) fn head(suffix: &[u8]) -> [u8; HEAD] {
    match suffix.first_chunk() {
        Some(head) => *head,
        None => {
            let mut head = [0; HEAD];
            head[..suffix.len()].copy_from_slice(suffix);
            head
        }
    }
}

/// Length of the common prefix.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
