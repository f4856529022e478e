//! The bytes of `index.db`, format 1.
//!
//! The file is an array of 4 KiB slots. Slots 0 and 1 are the meta pages; every other slot is free, a tree page or a
//! bitmap page. All numbers are little-endian.
//!
//! ```text
//!  slot     0        1        2        3        4        5
//!       ┌────────┬────────┬────────┬────────┬────────┬────────┬──
//!       │ meta   │ meta   │ tree   │ bitmap │ (free) │ tree   │ ...
//!       │ even   │ odd    │        │        │        │        │
//!       └────────┴────────┴────────┴────────┴────────┴────────┴──
//!
//!  page header (tree and bitmap pages)       bytes
//!   0  crc32 of bytes 4..4096                 4
//!   4  page number: its slot                  4
//!   8  birth: version that wrote it           8
//!  16  body: the tree's, or bits              4080
//!
//!  meta page: generation g stands in slot g % 2
//!   0  crc32 of bytes 4..4096                 4     these three keep their place in every
//!   4  magic "KTNINDEX"                       8     future format, so that a newer file is
//!  12  format                                 4     refused by name and never taken for damage
//!  16  generation: 0 is the empty store       8
//!  24  version: number of the tree version    8
//!  32  root page, 0 in generation 0           4
//!  36  page count: slots in use end here      4
//!  40  bitmap pages                           4
//!  44  payload length                         4
//!  48  payload: the store's, opaque           1024
//! 1072 numbers of the bitmap pages            4 each, at most 756
//! ```
//!
//! Bit `i` of bitmap page `n` (lowest bit of the lowest byte first) tells whether slot `n * 32640 + i` is in use by
//! this generation, its bitmap pages included. The bits 0 and 1 are always set.
//!
//! History of versions: 1, the first.

use std::fmt;

use super::MapError;
use super::bitmap::Bitmap;
use super::page::{PAGE_HEADER, PAGE_SIZE, Page, PageNo};

/// The format written, and the only one read.
pub const FORMAT: u32 = 1;

/// Slots before the first page: the two meta pages.
pub const FIRST_PAGE: u32 = 2;

/// Longest payload a meta page carries, in bytes.
pub const PAYLOAD_SIZE_MAX: usize = 1024;

/// Slots one bitmap page speaks for.
pub const SLOTS_PER_BITMAP_PAGE: u32 = ((PAGE_SIZE - PAGE_HEADER) * 8) as u32;

/// Largest number of slots: 64 GiB.
pub const SLOT_COUNT_MAX: u32 = 1 << 24;

const MAGIC: [u8; 8] = *b"KTNINDEX";

const CRC: usize = 0;
const PAGE_NUMBER: usize = CRC + 4;
const PAGE_BIRTH: usize = PAGE_NUMBER + 4;

const META_MAGIC: usize = CRC + 4;
const META_FORMAT: usize = META_MAGIC + MAGIC.len();
const META_GENERATION: usize = META_FORMAT + 4;
const META_VERSION: usize = META_GENERATION + 8;
const META_ROOT: usize = META_VERSION + 8;
const META_PAGE_COUNT: usize = META_ROOT + 4;
const META_BITMAP_COUNT: usize = META_PAGE_COUNT + 4;
const META_PAYLOAD_SIZE: usize = META_BITMAP_COUNT + 4;
const META_PAYLOAD: usize = META_PAYLOAD_SIZE + 4;
const META_BITMAP: usize = META_PAYLOAD + PAYLOAD_SIZE_MAX;
const BITMAP_COUNT_MAX: usize = (PAGE_SIZE - META_BITMAP) / 4;

const _: () = assert!(PAGE_BIRTH + 8 == PAGE_HEADER);
const _: () = assert!(META_PAYLOAD == 48 && META_BITMAP == 1072 && BITMAP_COUNT_MAX == 756);
// One meta page names every bitmap page of the largest file.
const _: () = assert!(BITMAP_COUNT_MAX as u64 * SLOTS_PER_BITMAP_PAGE as u64 >= SLOT_COUNT_MAX as u64);
// Generation 0 has neither payload nor bitmap: everything but zeroes lies in the first 512 bytes, which a power cut
// leaves whole or absent.
const _: () = assert!(META_PAYLOAD <= 512);

/// First byte of a page in the file.
pub const fn offset_of(no: PageNo) -> u64 {
    no.0 as u64 * PAGE_SIZE as u64
}

/// What one meta page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Number of the checkpoint; 0 is the store without a tree.
    pub generation: u64,
    /// Number of the tree version it holds.
    pub version: u64,
    /// Root of the tree; none in generation 0.
    pub root: Option<PageNo>,
    /// Slots in use lie below this one.
    pub page_count: u32,
    /// The store's own bytes, at most [`PAYLOAD_SIZE_MAX`].
    pub payload: Vec<u8>,
    /// The pages that hold the bitmap of slots in use, in order.
    pub bitmap_pages: Vec<PageNo>,
}

impl Meta {
    /// The meta page of a store without a tree.
    pub fn empty() -> Meta {
        Meta {
            generation: 0,
            version: 0,
            root: None,
            page_count: FIRST_PAGE,
            payload: Vec::new(),
            bitmap_pages: Vec::new(),
        }
    }

    /// The slot of this generation.
    pub fn slot(&self) -> PageNo {
        PageNo((self.generation % 2) as u32)
    }

    /// The page as it stands in the file.
    pub fn encode(&self) -> Box<Page> {
        assert!(self.payload.len() <= PAYLOAD_SIZE_MAX, "payload of {} bytes", self.payload.len());
        assert!(self.bitmap_pages.len() <= BITMAP_COUNT_MAX, "{} bitmap pages", self.bitmap_pages.len());
        let mut page = Box::new([0; PAGE_SIZE]);
        page[META_MAGIC..META_FORMAT].copy_from_slice(&MAGIC);
        put_u32(&mut page, META_FORMAT, FORMAT);
        put_u64(&mut page, META_GENERATION, self.generation);
        put_u64(&mut page, META_VERSION, self.version);
        put_u32(&mut page, META_ROOT, self.root.map_or(0, |no| no.0));
        put_u32(&mut page, META_PAGE_COUNT, self.page_count);
        put_u32(&mut page, META_BITMAP_COUNT, self.bitmap_pages.len() as u32);
        put_u32(&mut page, META_PAYLOAD_SIZE, self.payload.len() as u32);
        page[META_PAYLOAD..META_PAYLOAD + self.payload.len()].copy_from_slice(&self.payload);
        for (i, no) in self.bitmap_pages.iter().enumerate() {
            put_u32(&mut page, META_BITMAP + 4 * i, no.0);
        }
        put_crc(&mut page);
        page
    }

    /// Reads the meta page that stands in `slot`.
    ///
    /// Errors: [`MapError::Format`] for a sound page of another format, [`MapError::Damaged`] for anything else that
    /// is not a meta page of this slot.
    pub fn decode(slot: PageNo, page: &Page) -> Result<Meta, MapError> {
        let damaged = |flaw| MapError::Damaged { page: slot, flaw };
        if u32_at(page, CRC) != crc(page) {
            return Err(damaged(Flaw::Checksum));
        }
        if page[META_MAGIC..META_FORMAT] != MAGIC {
            return Err(damaged(Flaw::Magic));
        }
        let format = u32_at(page, META_FORMAT);
        if format != FORMAT {
            return Err(MapError::Format { found: format });
        }
        let payload_size = u32_at(page, META_PAYLOAD_SIZE) as usize;
        let bitmap_count = u32_at(page, META_BITMAP_COUNT) as usize;
        if payload_size > PAYLOAD_SIZE_MAX || bitmap_count > BITMAP_COUNT_MAX {
            return Err(damaged(Flaw::Bounds));
        }
        let root = u32_at(page, META_ROOT);
        let meta = Meta {
            generation: u64_at(page, META_GENERATION),
            version: u64_at(page, META_VERSION),
            root: (root != 0).then_some(PageNo(root)),
            page_count: u32_at(page, META_PAGE_COUNT),
            payload: page[META_PAYLOAD..META_PAYLOAD + payload_size].to_vec(),
            bitmap_pages: (0..bitmap_count).map(|i| PageNo(u32_at(page, META_BITMAP + 4 * i))).collect(),
        };
        meta.check(slot).map_err(damaged)?;
        Ok(meta)
    }

    /// Whether the numbers fit together.
    fn check(&self, slot: PageNo) -> Result<(), Flaw> {
        if self.slot() != slot {
            return Err(Flaw::PageNumber);
        }
        let in_file = |no: PageNo| (FIRST_PAGE..self.page_count).contains(&no.0);
        let mut once = Bitmap::default();
        let covered = self.bitmap_pages.len() as u64 * u64::from(SLOTS_PER_BITMAP_PAGE);
        let sound = (FIRST_PAGE..=SLOT_COUNT_MAX).contains(&self.page_count)
            && self.root.is_some() == (self.generation > 0)
            && self.root.is_none_or(in_file)
            && self.bitmap_pages.iter().copied().all(in_file)
            && self.bitmap_pages.iter().chain(&self.root).all(|no| once.set(no.0))
            && (self.generation == 0 || covered >= u64::from(self.page_count));
        if sound { Ok(()) } else { Err(Flaw::Bounds) }
    }
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The checksum does not match the bytes.
    Checksum,
    /// The page says it is another one: a misdirected write.
    PageNumber,
    /// Not a meta page of an index.
    Magic,
    /// Sound bytes with impossible numbers in them.
    Bounds,
    /// Nothing was ever written there.
    Unwritten,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Checksum => "checksum mismatch",
            Flaw::PageNumber => "it carries the number of another page",
            Flaw::Magic => "it is not a meta page",
            Flaw::Bounds => "its numbers are impossible",
            Flaw::Unwritten => "it was never written",
        })
    }
}

/// Starts a new page: number and birth, no checksum yet.
pub(super) fn start_page(page: &mut Page, no: PageNo, birth: u64) {
    put_u32(page, PAGE_NUMBER, no.0);
    put_u64(page, PAGE_BIRTH, birth);
}

/// Fills in the checksum of a copy that is about to be written, and the number in case the tree touched it.
pub(super) fn seal_page(page: &mut Page, no: PageNo) {
    put_u32(page, PAGE_NUMBER, no.0);
    put_crc(page);
}

/// Checks a page that was brought in.
pub(super) fn check_page(page: &Page, no: PageNo) -> Result<(), MapError> {
    let damaged = |flaw| Err(MapError::Damaged { page: no, flaw });
    if u32_at(page, CRC) != crc(page) {
        return damaged(Flaw::Checksum);
    }
    if u32_at(page, PAGE_NUMBER) != no.0 {
        return damaged(Flaw::PageNumber);
    }
    Ok(())
}

/// The version that wrote the page.
pub(super) fn birth_of(page: &Page) -> u64 {
    u64_at(page, PAGE_BIRTH)
}

/// Makes `page` bitmap page number `index` of a file: the bits of its stretch of slots. No checksum yet.
pub(super) fn fill_bitmap_page(page: &mut Page, bits: &Bitmap, index: usize, no: PageNo, birth: u64) {
    start_page(page, no, birth);
    let first_word = index * WORDS_PER_BITMAP_PAGE;
    for (i, bytes) in page[PAGE_HEADER..].chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&bits.word(first_word + i).to_le_bytes());
    }
}

/// Takes the bits of a checked bitmap page into `bits`.
pub(super) fn decode_bitmap_page(page: &Page, index: usize, bits: &mut Bitmap) {
    let first_word = index * WORDS_PER_BITMAP_PAGE;
    for (i, bytes) in page[PAGE_HEADER..].chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        bits.set_word(first_word + i, word);
    }
}

const WORDS_PER_BITMAP_PAGE: usize = (PAGE_SIZE - PAGE_HEADER) / 8;

fn crc(page: &Page) -> u32 {
    crc32fast::hash(&page[CRC + 4..])
}

fn put_crc(page: &mut Page) {
    let crc = crc(page);
    put_u32(page, CRC, crc);
}

fn put_u32(page: &mut Page, at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(page: &mut Page, at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn u32_at(page: &Page, at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(page: &Page, at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            generation: 7,
            version: 123_456,
            root: Some(PageNo(40_000)),
            page_count: 40_001,
            payload: (0..=255).collect(),
            bitmap_pages: vec![PageNo(9), PageNo(3)],
        }
    }

    #[test]
    fn meta_pages_round_trip() {
        for meta in [Meta::empty(), meta(), Meta { payload: vec![7; PAYLOAD_SIZE_MAX], ..meta() }] {
            assert_eq!(Meta::decode(meta.slot(), &meta.encode()), Ok(meta));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_meta_page_is_noticed() {
        let good = meta().encode();
        for at in 0..PAGE_SIZE {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Meta::decode(PageNo(1), &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn sound_bytes_with_impossible_numbers_are_refused() {
        let check = |change: &dyn Fn(&mut Meta), expected| {
            let mut meta = meta();
            change(&mut meta);
            let got = Meta::decode(meta.slot(), &meta.encode());
            assert_eq!(got, Err(MapError::Damaged { page: meta.slot(), flaw: expected }));
        };
        check(&|m| m.root = None, Flaw::Bounds);
        check(&|m| m.root = Some(PageNo(1)), Flaw::Bounds);
        check(&|m| m.page_count = 40_000, Flaw::Bounds);
        check(&|m| m.page_count = SLOT_COUNT_MAX + 1, Flaw::Bounds);
        check(&|m| m.bitmap_pages[1] = PageNo(40_001), Flaw::Bounds);
        check(&|m| m.bitmap_pages.truncate(1), Flaw::Bounds);
        check(&|m| m.bitmap_pages[1] = PageNo(9), Flaw::Bounds);
        check(&|m| m.bitmap_pages[1] = PageNo(40_000), Flaw::Bounds);
        check(&|m| m.generation = 0, Flaw::Bounds);
        let misplaced = Meta::decode(PageNo(0), &meta().encode());
        assert_eq!(misplaced, Err(MapError::Damaged { page: PageNo(0), flaw: Flaw::PageNumber }));
    }

    #[test]
    fn another_format_is_named_and_not_called_damage() {
        let mut page = meta().encode();
        put_u32(&mut page, META_FORMAT, 99);
        put_crc(&mut page);
        assert_eq!(Meta::decode(PageNo(1), &page), Err(MapError::Format { found: 99 }));
    }

    #[test]
    fn pages_are_checked_by_sum_and_number() {
        let mut page: Page = [0x5a; PAGE_SIZE];
        start_page(&mut page, PageNo(12), 34);
        seal_page(&mut page, PageNo(12));
        assert_eq!(check_page(&page, PageNo(12)), Ok(()));
        assert_eq!(birth_of(&page), 34);
        let misdirected = MapError::Damaged { page: PageNo(13), flaw: Flaw::PageNumber };
        assert_eq!(check_page(&page, PageNo(13)), Err(misdirected));
        page[4095] ^= 1;
        let rotten = MapError::Damaged { page: PageNo(12), flaw: Flaw::Checksum };
        assert_eq!(check_page(&page, PageNo(12)), Err(rotten));
    }

    #[test]
    fn bitmap_pages_round_trip() {
        let mut bits = Bitmap::default();
        for no in
            [0, 1, 2, 63, 64, SLOTS_PER_BITMAP_PAGE - 1, SLOTS_PER_BITMAP_PAGE, SLOTS_PER_BITMAP_PAGE + 77]
        {
            bits.set(no);
        }
        let mut read = Bitmap::default();
        for index in 0..2 {
            let mut page: Page = [0; PAGE_SIZE];
            fill_bitmap_page(&mut page, &bits, index, PageNo(5), 1);
            seal_page(&mut page, PageNo(5));
            assert_eq!(check_page(&page, PageNo(5)), Ok(()));
            decode_bitmap_page(&page, index, &mut read);
        }
        assert_eq!(read.iter().collect::<Vec<_>>(), bits.iter().collect::<Vec<_>>());
    }
}
