//! From a file to a writer: the newest sound meta page, and the bitmap it names. No page of the tree is read.
//!
//! Both meta pages are looked at, and the slots of the older one stay held until the next checkpoint is durable, so
//! that at any time either of the two would open. If the newest does not (its meta page is torn, or its bitmap is
//! damaged), the older one counts and [`Opened::passed_over`] says why; the log still has everything since.

use std::fs::File;
use std::sync::Arc;

use super::alloc::Slots;
use super::bitmap::Bitmap;
use super::epoch::{Publication, TAG_WORDS, Version};
use super::layout::{FIRST_PAGE, Flaw, Meta, check_page, decode_bitmap_page, offset_of};
use super::page::{PAGE_SIZE, Page, PageNo};
use super::space::Space;
use super::writer::Writer;
use super::{Limits, MapError};
use crate::disk::{self, Disk, DiskError, Durability, FileName, Op};

use bytes::Bytes;

/// An open index.
#[derive(Debug)]
pub struct Opened {
    /// Builds the next version. Its published version is that of the checkpoint; the tag is zero until the store,
    /// which knows its words from the payload, publishes one.
    pub writer: Writer,
    /// Number of the checkpoint; 0 for a store without a tree, which has no root either.
    pub generation: u64,
    /// What the store gave to that checkpoint.
    pub payload: Vec<u8>,
    /// Why the other meta page, although it is or may have been newer, was not taken. Normal after a power cut
    /// during a checkpoint; worth a warning.
    pub passed_over: Option<MapError>,
}

/// Opens the index, or creates it.
///
/// With `mapping`, which opens the same file for reading once it is there, clean pages are found in a mapping of it;
/// without, they are read into frames. Waits for the disk.
///
/// Errors: the disk fails; no checkpoint is sound; the file is of another format or beyond the limits.
pub fn open(
    disk: &mut dyn Disk,
    mapping: Option<&dyn Fn() -> std::io::Result<File>>,
    limits: Limits,
) -> Result<Opened, MapError> {
    open_for(disk, mapping, limits, Purpose::GoOn)
}

/// Opens the index to put another tree in the place of the one that is there: the writer begins without a tree, and
/// all pages of the checkpoints are kept until others are durable.
///
/// Waits for the disk. Errors as [`open`].
pub fn open_anew(disk: &mut dyn Disk, limits: Limits) -> Result<Opened, MapError> {
    open_for(disk, None, limits, Purpose::BeginAnew)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    GoOn,
    BeginAnew,
}

fn open_for(
    disk: &mut dyn Disk,
    mapping: Option<&dyn Fn() -> std::io::Result<File>>,
    limits: Limits,
    purpose: Purpose,
) -> Result<Opened, MapError> {
    let file_len = find_or_create(disk)?;
    let (newest, older, passed_over) = choose(disk, file_len)?;
    // What was read may be in the page cache only: the process ended after a write and before its sync. Or the sync
    // failed, and no later one covers that write. What a meta page names was synced before it; so it alone is written again,
    // the same bytes, while the other one is still there.
    disk.run(write_meta(&newest.meta)).map_err(MapError::Disk)?;
    disk.run(Op::Sync { file: FileName::Index }).map_err(MapError::Disk)?;
    // Then the other page as it was found: should the write of a newer one have failed and be on its way to the disk all
    // the same, it does not come after this. What is no checkpoint to fall back on is erased: pages that it may name are
    // about to be written, and the next write here, torn by a power cut, could complete what an earlier cut left of it.
    let other = PageNo(1 - newest.meta.slot().0);
    let kept = match older {
        Some(_) => meta_page(disk, file_len, other)?,
        None => Box::new([0; PAGE_SIZE]),
    };
    disk.run(write_page(other, &kept)).map_err(MapError::Disk)?;
    disk.run(Op::Sync { file: FileName::Index }).map_err(MapError::Disk)?;
    let page_count = newest.meta.page_count.max(older.as_ref().map_or(0, |older| older.meta.page_count));
    if page_count > limits.page_count_max {
        return Err(MapError::TooLarge { page_count, page_count_max: limits.page_count_max });
    }
    let Meta { generation, version, root, payload, bitmap_pages, .. } = newest.meta;
    let mut live = newest.in_use.clone();
    for slot in (0..FIRST_PAGE).chain(bitmap_pages.iter().map(|no| no.0)) {
        live.clear(slot);
    }
    let (root, live, kept) = match purpose {
        Purpose::GoOn => (root, live, bitmap_pages),
        Purpose::BeginAnew => {
            let kept = live.iter().map(PageNo).chain(bitmap_pages).collect();
            (None, Bitmap::default(), kept)
        }
    };
    let version = Version { number: version, root, tag: [0; TAG_WORDS] };
    let mut slots = Slots::new(limits.page_count_max, generation, live, kept, page_count);
    if let Some(older) = older {
        let only_there = older.in_use.iter().filter(|no| !newest.in_use.get(*no)).map(PageNo).collect();
        slots.hold_for_older(older.meta.generation, only_there);
    }
    let refused = |error: std::io::Error| MapError::Memory(error.to_string());
    let mut space = Space::reserve(limits, Publication::new(version, limits.readers_max)).map_err(refused)?;
    if let Some(open_file) = mapping {
        let unopened = |error| MapError::Disk(DiskError::new("opening index.db for its mapping", &error));
        space.map_file(&open_file().map_err(unopened)?).map_err(refused)?;
    }
    let writer = Writer::new(Arc::new(space), slots, version, generation);
    Ok(Opened { writer, generation, payload, passed_over })
}

/// A checkpoint of the file, as far as opening needs it.
#[derive(Debug)]
struct Candidate {
    meta: Meta,
    in_use: Bitmap,
}

/// Length of the file, which exists afterwards.
fn find_or_create(disk: &mut dyn Disk) -> Result<u64, MapError> {
    let files = disk.list().map_err(MapError::Disk)?;
    if let Some((_, len)) = files.iter().find(|(name, _)| *name == FileName::Index) {
        return Ok(*len);
    }
    let len = u64::from(FIRST_PAGE) * PAGE_SIZE as u64;
    disk.run(Op::Create { file: FileName::Index, len }).map_err(MapError::Disk)?;
    Ok(len)
}

/// The checkpoint to go on from, and the one before it if it is sound too.
fn choose(
    disk: &mut dyn Disk,
    file_len: u64,
) -> Result<(Candidate, Option<Candidate>, Option<MapError>), MapError> {
    let pages = [meta_page(disk, file_len, PageNo(0))?, meta_page(disk, file_len, PageNo(1))?];
    if pages.iter().all(|page| **page == [0; PAGE_SIZE]) {
        return Ok((format(disk)?, None, None));
    }
    let mut metas = Vec::new();
    let mut refusal = None;
    for (slot, page) in (0..).map(PageNo).zip(pages) {
        match Meta::decode(slot, &page) {
            Ok(meta) => metas.push(meta),
            Err(error @ MapError::Format { .. }) => return Err(error),
            // Slot 1 is empty until the first checkpoint.
            Err(_) if slot.0 == 1 && *page == [0; PAGE_SIZE] => {}
            Err(error) => refusal = Some(error),
        }
    }
    metas.sort_by_key(|meta| std::cmp::Reverse(meta.generation));
    let mut sound: Vec<Candidate> = Vec::new();
    for meta in metas {
        match in_use(disk, file_len, &meta) {
            Ok(in_use) => sound.push(Candidate { meta, in_use }),
            Err(error @ MapError::Disk(_)) => return Err(error),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let mut sound = sound.into_iter();
    let Some(newest) = sound.next() else {
        return Err(refusal.unwrap_or(MapError::Damaged { page: PageNo(0), flaw: Flaw::Unwritten }));
    };
    let older = sound.next().filter(|older| older.meta.generation + 1 == newest.meta.generation);
    Ok((newest, older, refusal))
}

/// Writes generation 0: the store without a tree. Its bytes but zeroes fit into 512, so it is there whole or not at
/// all, and a creation that a power cut interrupts starts over.
fn format(disk: &mut dyn Disk) -> Result<Candidate, MapError> {
    let meta = Meta::empty();
    disk.run(write_meta(&meta)).map_err(MapError::Disk)?;
    let in_use = (0..FIRST_PAGE).fold(Bitmap::default(), |mut bits, slot| {
        bits.set(slot);
        bits
    });
    Ok(Candidate { meta, in_use })
}

fn write_meta(meta: &Meta) -> Op {
    write_page(meta.slot(), &meta.encode())
}

fn write_page(slot: PageNo, page: &[u8; PAGE_SIZE]) -> Op {
    let data = Bytes::copy_from_slice(page);
    Op::Write { file: FileName::Index, offset: offset_of(slot), data, durability: Durability::Cached }
}

/// The slots the checkpoint uses, from its bitmap pages.
fn in_use(disk: &mut dyn Disk, file_len: u64, meta: &Meta) -> Result<Bitmap, MapError> {
    let mut bits = Bitmap::default();
    for (index, no) in meta.bitmap_pages.iter().enumerate() {
        let page = page(disk, file_len, *no)?;
        check_page(&page, *no)?;
        decode_bitmap_page(&page, index, &mut bits);
    }
    for slot in 0..FIRST_PAGE {
        bits.set(slot);
    }
    let first_bitmap = meta.bitmap_pages.first().copied().unwrap_or(meta.slot());
    let impossible = MapError::Damaged { page: first_bitmap, flaw: Flaw::Bounds };
    let beyond = bits.next_from(meta.page_count).is_some();
    if beyond || !meta.bitmap_pages.iter().chain(&meta.root).all(|no| bits.get(no.0)) {
        return Err(impossible);
    }
    // Pages in use were all written, so the file reaches beyond the last one.
    let slots_in_file = (file_len / PAGE_SIZE as u64).min(u64::from(u32::MAX)) as u32;
    match bits.next_from(slots_in_file.max(FIRST_PAGE)) {
        Some(no) => Err(MapError::Damaged { page: PageNo(no), flaw: Flaw::Unwritten }),
        None => Ok(bits),
    }
}

/// A meta page; zeroes where the file ends before it.
fn meta_page(disk: &mut dyn Disk, file_len: u64, slot: PageNo) -> Result<Box<Page>, MapError> {
    match page(disk, file_len, slot) {
        Err(MapError::Damaged { .. }) => Ok(Box::new([0; PAGE_SIZE])),
        other => other,
    }
}

fn page(disk: &mut dyn Disk, file_len: u64, no: PageNo) -> Result<Box<Page>, MapError> {
    if offset_of(no) + PAGE_SIZE as u64 > file_len {
        return Err(MapError::Damaged { page: no, flaw: Flaw::Unwritten });
    }
    let data = disk::read(disk, FileName::Index, offset_of(no), PAGE_SIZE).map_err(MapError::Disk)?;
    let mut page = Box::new([0; PAGE_SIZE]);
    page.copy_from_slice(&data);
    Ok(page)
}
