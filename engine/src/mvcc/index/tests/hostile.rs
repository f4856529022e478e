//! Pages that are any bytes: errors, never a panic, never an endless walk.

use proptest::prelude::*;

use super::pages::TestPages;
use super::{Cursor, Error, From, Root, check, count, get, key_of, put, remove, value_of};
use crate::map::page::{PAGE_HEADER, PAGE_SIZE, PageNo};
use crate::mvcc::index::layout::{FORMAT, FORMAT_VERSION, INNER, KIND, LEAF};

/// A tree of at least three levels, published.
fn tree() -> (TestPages, Root) {
    let (mut pages, mut root) = (TestPages::new(), Root::EMPTY);
    for n in 0..if cfg!(miri) { 60 } else { 700 } {
        put(&mut pages, &mut root, &key_of(n), &value_of(n), n % 3 > 0).unwrap();
    }
    pages.publish();
    (pages, root)
}

/// Calls everything that reads, then everything that writes, and does not care what comes out.
fn exercise(pages: &mut TestPages, root: Root) {
    let _ = check(pages, &root, |_, _| {});
    let keys: Vec<_> = (0..40).map(|n| key_of(n * 17)).collect();
    for key in &keys {
        let _ = get(pages, &root, key);
        let _ = count(pages, &root, b"", Some(key));
    }
    let mut cursor = Cursor::new(pages, &root, From::At(b""), None);
    for _ in 0..2000 {
        match cursor.next() {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let mut root = root;
    for (n, key) in keys.iter().enumerate() {
        // A batch that met damage is never published.
        if let Err(Error::Damaged { .. }) = put(pages, &mut root, key, &value_of(n * 7), true) {
            return;
        }
    }
    for key in &keys {
        if let Err(Error::Damaged { .. }) = remove(pages, &mut root, key) {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 150 }))]

    #[test]
    fn a_page_with_some_bytes_changed(
        page in 0.0..1.0f64,
        changes in proptest::collection::vec((PAGE_HEADER..PAGE_SIZE, any::<u8>()), 0..6),
        fields in proptest::collection::vec((KIND..KIND + 100, any::<u8>()), 1..4),
    ) {
        let (mut pages, root) = tree();
        let no = PageNo(2 + (page * (pages.in_use() as f64)) as u32);
        pages.damage(no, |page| for (at, byte) in fields.into_iter().chain(changes) { page[at] = byte });
        exercise(&mut pages, root);
    }

    #[test]
    fn the_root_and_a_leaf_are_noise(
        seed in any::<u64>(),
        kinds in proptest::array::uniform2(prop_oneof![Just(LEAF), Just(INNER)]),
        count in 0..64u8,
    ) {
        let (mut pages, root) = tree();
        let mut random = super::Random(seed);
        for (no, kind) in [root.page, PageNo(2)].into_iter().zip(kinds) {
            pages.damage(no, |page| {
                page[PAGE_HEADER..].fill_with(|| random.next() as u8);
                (page[KIND], page[FORMAT]) = (kind, FORMAT_VERSION);
                // Count, heap and prefix such that the page as a whole passes: what counts is behind them.
                page[FORMAT + 1..FORMAT + 9].copy_from_slice(&[count, 0, 0, 4, 0, 0, 3, 0]);
            });
            exercise(&mut pages, root);
        }
    }

    #[test]
    fn a_child_that_is_any_page(from in 0.0..1.0f64, to in 0.0..1.1f64) {
        let (mut pages, root) = tree();
        let at = |part: f64| 2 + (part * (pages.in_use() as f64)) as u32;
        let (from, to) = (PageNo(at(from)), at(to));
        // Some number of a page in the page, which may be a child's, becomes another.
        pages.damage(from, |page| {
            for at in PAGE_HEADER..PAGE_SIZE - 4 {
                if page[at + 1..at + 4] == [0; 3] && page[at] > 1 && at % 3 == 0 {
                    page[at..at + 4].copy_from_slice(&to.to_le_bytes());
                }
            }
        });
        exercise(&mut pages, root);
    }
}

#[test]
fn a_root_below_itself_is_damage() {
    let (mut pages, root) = tree();
    let root = Root { height: root.height + 20, ..root };
    for key in [&b"a"[..], b"/registry"] {
        assert!(matches!(get(&pages, &root, key), Err(Error::Damaged { .. })));
        assert!(matches!(put(&mut pages, &mut { root }, key, b"", true), Err(Error::Damaged { .. })));
    }
}
