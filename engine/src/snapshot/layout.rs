//! bbolt's pages.
//!
//! ```text
//! page header                          leaf element                        branch element
//!  offset  size                         offset  size                        offset  size
//!       0     8  page id                     0     4  flags, 1: a bucket         0     4  position of the key
//!       8     2  flags                       4     4  position of the key        4     4  length of the key
//!      10     2  count of elements           8     4  length of the key          8     8  page id of the child
//!      12     4  pages it goes on over      12     4  length of the value
//!
//! meta, behind the header of pages 0 and 1                       value of a bucket
//!       0     4  magic ED0CDAED                                       0     8  page id of its root
//!       4     4  version, 2                                           8     8  sequence, 0
//!       8     4  page size
//!      12     4  flags, 0
//!      16     8  page id of the root bucket's root
//!      24     8  sequence, 0
//!      32     8  page id of the free list, all ones: not stored
//!      40     8  first page id that does not exist
//!      48     8  transaction id
//!      56     8  FNV-1a of bytes 0..56
//! ```
//! Little endian. Elements follow the header, and keys with their values follow the elements; a position counts from
//! the start of its element.

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Bytes of a page's header.
pub const HEADER: usize = 8 + 2 + 2 + 4;

/// Bytes of an element, of either kind.
pub const ELEMENT: usize = 16;

/// Bytes of the value of a bucket.
pub const BUCKET: usize = 16;

/// The first page behind the two meta pages.
pub const FIRST_PAGE: u64 = 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_SUM: usize = 4 + 4 + 4 + 4 + 8 + 8 + 8 + 8 + 8;
const _: () = assert!(META_SUM == 56 && HEADER == 16);

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Keys and children.
    Branch = 0x01,
    /// Keys and values.
    Leaf = 0x02,
    /// Where everything begins.
    Meta = 0x04,
}

/// Appends a header.
pub fn put_header(out: &mut Vec<u8>, id: u64, kind: Kind, count: usize, overflow: usize) {
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    out.extend_from_slice(&u16::try_from(count).expect("a page has fewer elements than bytes").to_le_bytes());
    out.extend_from_slice(&u32::try_from(overflow).expect("a row is smaller than 16 TiB").to_le_bytes());
}

/// Appends four words, as both kinds of elements are.
pub fn put_words(out: &mut Vec<u8>, words: [u32; 4]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// The value of a bucket whose tree begins at `root`.
pub fn bucket(root: u64) -> [u8; BUCKET] {
    let mut value = [0; BUCKET];
    value[..8].copy_from_slice(&root.to_le_bytes());
    value
}

/// Appends meta page `id` of an image of `pages` pages, whose root bucket begins at `root`. Of the two, readers take the
/// one with the greater transaction id.
pub fn put_meta(out: &mut Vec<u8>, id: u64, root: u64, pages: u64, transaction: u64) {
    let end = out.len() + PAGE;
    put_header(out, id, Kind::Meta, 0, 0);
    let start = out.len();
    put_words(out, [MAGIC, VERSION, PAGE as u32, 0]);
    for word in [root, 0, u64::MAX, pages, transaction] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    assert_eq!(out.len(), start + META_SUM);
    let sum = fnv1a(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.resize(end, 0);
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_page() {
        assert_eq!(fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        let mut page = Vec::new();
        put_meta(&mut page, 1, 7, 9, 3);
        assert_eq!(page.len(), PAGE);
        assert_eq!(page[..16], [1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(page[16..28], [0xED, 0xDA, 0x0C, 0xED, 2, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(page[72..80], fnv1a(&page[16..72]).to_le_bytes());
    }
}
