//! The typed face of the tree: keys with their entries, and the small tables beside them.

use super::Root;
use super::pages::TestPages;
use crate::mvcc::index::entry::KeyEntry;
use crate::mvcc::index::table::Table;
use crate::mvcc::index::write::Before;
use crate::mvcc::index::{Error, Index, IndexView};
use crate::request::KeyRange;
use crate::types::{LeaseId, Revision, Seq};

fn entry(revision: i64, tombstone: bool) -> KeyEntry {
    let (seq, modified, lease) = (Seq(revision as u64), Revision(revision), LeaseId(revision % 2));
    KeyEntry { seq, modified, created: Revision(1), version: 1, wire_len: 10, lease, tombstone }
}

fn scan(view: IndexView<'_, TestPages>, keys: KeyRange<'_>) -> Vec<String> {
    let mut scan = view.scan(keys);
    let mut all = Vec::new();
    while let Some((key, entry)) = scan.next().unwrap() {
        all.push(format!("{}@{}", key.escape_ascii(), entry.modified));
    }
    all
}

#[test]
fn ranges_of_keys_see_no_other_table() {
    let mut index = Index::new(TestPages::new(), Root::EMPTY);
    for (i, key) in [&b"a"[..], b"a\0", b"b", b"c", b"\xff\xff"].into_iter().enumerate() {
        assert_eq!(index.put(key, &entry(i as i64 + 2, key == b"b")), Ok(Before::Absent));
    }
    for table in Table::ALL.into_iter().filter(|&table| table != Table::Keys) {
        index.put_row(table, b"b", b"row").unwrap();
        index.put_row(table, b"\xff\xff\xff", b"row").unwrap();
    }
    let check = |key: &str, end: &str, expected: &str, count| {
        let keys = KeyRange::new(key.as_bytes(), end.as_bytes());
        assert_eq!(scan(index.view(), keys).join(" "), expected, "{key:?} {end:?}");
        assert_eq!(index.view().count(keys), Ok(count), "{key:?} {end:?}");
    };
    check("a", "", "a@2", 1);
    check("b", "", "b@4", 0);
    check("x", "", "", 0);
    check("a", "b", r"a@2 a\x00@3", 2);
    check("b", "\0", r"b@4 c@5 \xff\xff@6", 2);
    check("", "\0", r"a@2 a\x00@3 b@4 c@5 \xff\xff@6", 4);
    check("c", "a", "", 0);
    check("a", "a", "", 0);
    assert_eq!(index.root().live, 4);
    assert_eq!(index.get(b"b"), Ok(Some(entry(4, true))));
    assert_eq!(index.put(b"b", &entry(9, false)), Ok(Before::Dead));
    assert_eq!(index.remove(b"b"), Ok(Before::Live));
    assert_eq!(index.get(b"b"), Ok(None));
}

#[test]
fn a_scan_goes_on_after_a_key() {
    let mut index = Index::new(TestPages::new(), Root::EMPTY);
    for n in 0..1000 {
        index.put(format!("{n:03}").as_bytes(), &entry(n + 1, false)).unwrap();
    }
    let keys = KeyRange::new(b"100", b"900");
    let check = |last: &[u8], next: Option<&[u8]>| {
        let mut scan = index.view().scan_after(keys, last);
        assert_eq!(scan.next().unwrap().map(|(key, _)| key), next, "{last:?}");
    };
    check(b"100", Some(b"101"));
    check(b"1005", Some(b"101"));
    check(b"000", Some(b"100"));
    check(b"898", Some(b"899"));
    check(b"899", None);
    check(b"999", None);
}

#[test]
fn rows_of_a_table_are_listed_by_prefix() {
    let mut index = Index::new(TestPages::new(), Root::EMPTY);
    for lease in [1i64, -1, 256] {
        for key in ["x", "y"] {
            let row = [&lease.to_be_bytes()[..], key.as_bytes()].concat();
            index.put_row(Table::LeaseKeys, &row, b"").unwrap();
        }
    }
    let list = |lease: i64, after: Option<&str>| {
        let prefix = lease.to_be_bytes();
        let mut rows = match after {
            None => index.view().rows(Table::LeaseKeys, &prefix),
            Some(key) => {
                let last = [&prefix[..], key.as_bytes()].concat();
                index.view().rows_after(Table::LeaseKeys, &prefix, &last)
            }
        };
        let mut keys = String::new();
        while let Some((key, _)) = rows.next().unwrap() {
            keys.extend(key[8..].iter().map(|&byte| char::from(byte)));
        }
        keys
    };
    assert_eq!((list(1, None), list(1, Some("x")), list(1, Some("y"))), ("xy".into(), "y".into(), "".into()));
    assert_eq!((list(-1, None), list(256, Some("x")), list(2, None)), ("xy".into(), "y".into(), "".into()));
    assert_eq!(index.root().live, 0);
    assert_eq!(index.view().row(Table::Lease, b"x"), Ok(None));
    let long = vec![7; 10_000];
    index.put_row(Table::Auth, b"user", &long).unwrap();
    assert_eq!(index.row(Table::Auth, b"user").unwrap().as_deref(), Some(&long[..]));
}

#[test]
fn a_key_whose_value_is_no_entry_is_damage() {
    let (mut pages, mut root) = (TestPages::new(), Root::EMPTY);
    super::put(&mut pages, &mut root, b"kx", b"?", true).unwrap();
    assert!(matches!(IndexView::new(&pages, root).get(b"x"), Err(Error::Damaged { .. })));
}

#[test]
fn roots_round_trip_and_impossible_ones_are_refused() {
    let mut root = Root { height: 3, live: 5, entries: 7, ..Root::EMPTY };
    assert_eq!(Root::decode(&root.encode()), Some(root));
    assert_eq!(Root::decode(&Root::EMPTY.encode()), Some(Root::EMPTY));
    root.live = 8;
    assert_eq!(Root::decode(&root.encode()), None);
    assert_eq!(Root::decode(&Root { height: 1000, ..root }.encode()), None);
    assert_eq!(Root::decode(&Root { height: 0, ..root }.encode()), None);
}
