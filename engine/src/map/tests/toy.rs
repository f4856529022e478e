//! A two-level copy-on-write "tree" of numbers: enough to have versions with shared pages.

use super::super::page::{Miss, PAGE_HEADER, Page, PageNo, ReadPages, WritePages};
use super::super::{Limits, Loader, Opened, Wanted, Writer, open};
use crate::disk::Disk;

/// Small enough for Miri, large enough for a few hundred pages.
pub const LIMITS: Limits = Limits { page_count_max: 1024, frame_count_max: 2048, readers_max: 8 };

/// Opens the index of `disk` without a mapping.
pub fn open_toy(disk: &mut dyn Disk) -> Opened {
    open(disk, None, LIMITS).expect("the index opens")
}

/// The root lists its leaves: how many, then their numbers.
pub fn children(root: &Page) -> Vec<PageNo> {
    let word = |i: usize| {
        let at = PAGE_HEADER + 4 * i;
        u32::from_le_bytes(root[at..at + 4].try_into().unwrap())
    };
    (0..word(0) as usize).map(|i| PageNo(word(i + 1))).collect()
}

fn set_children(root: &mut Page, children: &[PageNo]) {
    let words = std::iter::once(children.len() as u32).chain(children.iter().map(|no| no.0));
    for (i, word) in words.enumerate() {
        let at = PAGE_HEADER + 4 * i;
        root[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// A leaf repeats its number through the page, so that a page written over shows.
fn set_value(leaf: &mut Page, value: u64) {
    for bytes in leaf[PAGE_HEADER..].chunks_exact_mut(8) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

fn value(leaf: &Page) -> u64 {
    let first: [u8; 8] = leaf[PAGE_HEADER..PAGE_HEADER + 8].try_into().unwrap();
    assert!(leaf[PAGE_HEADER..].chunks_exact(8).all(|bytes| bytes == first), "a torn leaf");
    u64::from_le_bytes(first)
}

/// All numbers below `root`.
pub fn values(pages: &dyn ReadPages, root: PageNo) -> Result<Vec<u64>, Miss> {
    children(pages.page(root)?).into_iter().map(|leaf| Ok(value(pages.page(leaf)?))).collect()
}

/// A new root whose first numbers are `numbers`.
pub fn build(writer: &mut Writer, numbers: &[u64]) -> PageNo {
    let leaves: Vec<PageNo> = numbers.iter().map(|number| leaf(writer, *number)).collect();
    let root = writer.allocate();
    set_children(writer.page_mut(root), &leaves);
    root
}

/// `root` with number `i` replaced (or added at the end, or removed), in place where the batch owns the page.
pub fn change(writer: &mut Writer, root: PageNo, i: usize, number: Option<u64>) -> PageNo {
    let mut leaves = children(writer.page(root).expect("in memory"));
    match (number, leaves.get(i).copied()) {
        (Some(number), Some(old)) if writer.is_private(old) => set_value(writer.page_mut(old), number),
        (Some(number), Some(old)) => {
            leaves[i] = leaf(writer, number);
            writer.retire(old);
        }
        (Some(number), None) => leaves.push(leaf(writer, number)),
        (None, Some(old)) => {
            leaves.remove(i);
            writer.retire(old);
        }
        (None, None) => {}
    }
    let new = if writer.is_private(root) {
        root
    } else {
        writer.retire(root);
        writer.allocate()
    };
    set_children(writer.page_mut(new), &leaves);
    new
}

fn leaf(writer: &mut Writer, number: u64) -> PageNo {
    let no = writer.allocate();
    set_value(writer.page_mut(no), number);
    no
}

/// All numbers of the newest version, bringing in what is missing, after the allocator agreed with the tree.
pub fn load_values(disk: &mut dyn Disk, writer: &mut Writer) -> Vec<u64> {
    let Some(root) = writer.version().root else { return Vec::new() };
    let mut loader = Loader::new();
    loop {
        match values(writer, root) {
            Ok(values) => {
                let walk = writer.walk(&mut |page, next| {
                    if std::ptr::eq(writer.page(root).unwrap(), page) {
                        next.extend(children(page));
                    }
                });
                assert_eq!(walk, Ok(Default::default()));
                return values;
            }
            Err(miss) => {
                let wanted = loader.load(writer, disk, miss.page).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(wanted, Wanted::Ready, "{miss:?}");
            }
        }
    }
}
