//! History files of each format: the current one opens, an unknown one is refused with a sentence.
//!
//! `KONTIKI_REWRITE=1 cargo test -p kontiki-engine --test history_formats` makes the fixture again, after a change of
//! format that was meant; the old folder stays, under its own number.

use std::path::{Path, PathBuf};

use engine::disk::Disk;
use engine::disk::file::FileDisk;
use engine::mvcc::history::record::{Change, NewRecord};
use engine::mvcc::history::{Config, History, Mark};
use engine::types::{LeaseId, Revision, Seq};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Where the fixture's history ends; in a data directory the index says so.
const MARK: Mark = Mark { last_seq: 3, last_main: 3, segment: 0, offset: 0, written: 4096, records: 3 };

fn write_fixture(root: &Path) {
    let _ = std::fs::remove_dir_all(root);
    let mut disk = FileDisk::open(root).unwrap();
    let mut history = History::new(Config::default());
    let put = |main, sub, prev, key: &'static [u8], value: &'static [u8], version| {
        let change = Change::Put { value, created: Revision(2), version, lease: LeaseId::NONE };
        NewRecord { main: Revision(main), sub, prev, key, change }
    };
    history.append(&put(2, 0, None, b"a", b"first", 1));
    history.append(&put(2, 1, None, b"b", b"second", 1));
    history.end_transaction();
    history.append(&NewRecord { change: Change::Delete, ..put(3, 0, Some(Seq(1)), b"a", b"", 0) });
    history.end_transaction();
    assert_eq!(history.begin_checkpoint(), MARK);
    while let Some((token, op)) = history.poll_disk() {
        let outcome = disk.run(op);
        history.on_completed(token, outcome).unwrap();
    }
    assert!(history.is_stable());
}

/// Opens a copy, because opening tidies up.
fn open_copy(name: &str) -> Result<History, String> {
    let scratch = std::env::temp_dir().join(format!("kontiki-history-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&scratch);
    let mut disk = FileDisk::open(&scratch).unwrap();
    for entry in std::fs::read_dir(fixture(name).join("history")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), scratch.join("history").join(entry.file_name())).unwrap();
    }
    let opened = History::open(Config::default(), Vec::new(), MARK, Vec::new(), &mut disk);
    std::fs::remove_dir_all(&scratch).unwrap();
    opened.map_err(|error| error.to_string())
}

#[test]
fn format_1_opens() {
    if std::env::var_os("KONTIKI_REWRITE").is_some() {
        write_fixture(&fixture("history-v1"));
    }
    let history = open_copy("history-v1").unwrap();
    let tombstone = history.record(Seq(3)).unwrap().unwrap();
    assert!(tombstone.is_tombstone() && tombstone.is_first() && tombstone.is_last());
    let first = history.version_at(Seq(3), history.last_seq_at(Revision(2)).unwrap()).unwrap().unwrap();
    let kv = first.fields();
    assert_eq!((kv.key, kv.value, kv.mod_revision, kv.version), (&b"a"[..], &b"first"[..], 2, 1));
    assert_eq!(history.next_seq(), Seq(4));
}

#[test]
fn format_99_is_refused_with_the_cure() {
    if std::env::var_os("KONTIKI_REWRITE").is_some() {
        let root = fixture("history-v99");
        write_fixture(&root);
        let file = root.join("history/0000000000000000.seg");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[4] = 99;
        std::fs::write(file, bytes).unwrap();
    }
    let error = open_copy("history-v99").unwrap_err();
    assert!(error.contains("format 99") && error.contains("newer kontiki"), "{error}");
}
