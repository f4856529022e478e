//! Logs of each format version stay readable: `fixtures/log-v1` was written by the first version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use engine::disk::mem::MemDisk;
use engine::disk::{Disk, FileName, Op};
use engine::wal::recover::{RecoverError, Standing, Voters};
use engine::wal::{Config, Entry, EntryId, HardState, Identity, Mode, Writer, inspect, open, recover};

const IDENTITY: Identity = Identity { cluster: 0xcdf8_18c7_5aa1_ebc3, member: 0x8e9e_05c5_2164_694d };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(name: &str) -> MemDisk {
    let root = fixture(name);
    let mut disk = MemDisk::new();
    for entry in fs::read_dir(root.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let file = FileName::parse(path.strip_prefix(&root).unwrap()).unwrap();
        disk.put(file, fs::read(&path).unwrap());
    }
    disk
}

fn run(writer: &mut Writer, disk: &mut MemDisk) {
    while let Some((token, op)) = writer.poll(true) {
        // The spare that this would make is nothing to keep.
        if !matches!(op, Op::Write { .. }) {
            break;
        }
        let outcome = disk.run(op);
        writer.on_completed(token, outcome).unwrap();
    }
}

fn entry(index: u64, term: u64, kind: u8, data: &'static str) -> Entry {
    Entry { term, index, kind, data: Bytes::from_static(data.as_bytes()) }
}

/// What `log-v1` holds: two starts, a conflict that was resolved, an orderly stop.
fn write_log() -> MemDisk {
    let mut disk = MemDisk::new();
    let config = Config {
        mode: Mode::Dsync { depth: 1 },
        block_bytes_max: 4096,
        entry_bytes_max: 1024,
        segment_bytes: 20 << 10,
        segment_bytes_first: 20 << 10,
        ahead_bytes_min: 4096,
        seal_after: Duration::from_millis(100),
        ..Config::default()
    };
    let start = |disk: &mut MemDisk, nonce| {
        let recovered = recover(disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
        open(disk, &recovered, config, nonce).unwrap()
    };
    let mut writer = start(&mut disk, 0x0123_4567_89ab_cdef);
    writer.push_hard_state(1, HardState { term: 1, vote: Some(IDENTITY.member), commit: 0 });
    writer.push_conf_state(2, Bytes::from_static(b"one voter"));
    writer.push_entries(3, &[entry(1, 1, 1, ""), entry(2, 1, 0, "first"), entry(3, 1, 0, "replaced")]);
    run(&mut writer, &mut disk);
    let mut writer = start(&mut disk, 0xfedc_ba98_7654_3210);
    writer.push_truncate(1, EntryId { index: 2, term: 1 });
    writer.push_hard_state(2, HardState { term: 2, vote: None, commit: 2 });
    writer.push_entries(3, &[entry(3, 2, 0, "second")]);
    writer.push_stop(4);
    run(&mut writer, &mut disk);
    disk
}

#[test]
fn format_1_is_read() {
    let mut disk = load("log-v1");
    assert_eq!(recover::identity(&mut disk), Ok(Some(IDENTITY)));
    let recovered = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, 1, ""), entry(2, 1, 0, "first"), entry(3, 2, 0, "second")]);
    assert_eq!(recovered.hard_state, HardState { term: 2, vote: None, commit: 2 });
    assert_eq!(recovered.conf_state.as_deref(), Some(&b"one voter"[..]));
    assert_eq!((recovered.standing, recovered.clean, recovered.start), (Standing::Sound, true, 2));
    assert_eq!(
        inspect::check(&mut disk, 0).unwrap().to_string(),
        "log of member 8e9e05c52164694d of cluster cdf818c75aa1ebc3\n\
         log/0000000000000001.log (20 KiB): blocks 1 to 2, starts {1}, 3 entries from 1 to 3\n\
         log/0000000000000002.log (20 KiB): blocks 3 to 5, starts {2}, 1 entries from 3 to 3\n\
         0 spares, reported durable up to block 4\n\
         sound"
    );
}

#[test]
fn format_1_is_what_is_written() {
    let mut written = write_log();
    let mut kept = load("log-v1");
    assert_eq!(written.list(), kept.list());
    for (file, _) in kept.list().unwrap() {
        assert!(
            written.content(file) == kept.content(file),
            "{file} differs: a new format needs a new number"
        );
    }
}

#[test]
fn a_format_of_the_future_is_refused_in_a_sentence() {
    let refused = recover(&mut load("log-v99"), IDENTITY, EntryId::default(), Voters::Single).unwrap_err();
    let file = FileName::Log(1);
    assert_eq!(refused, RecoverError::Format { file, format: 99 });
    assert_eq!(
        refused.to_string(),
        "log/0000000000000001.log has log format 99, and this version reads format 1; use the version that wrote it"
    );
}

/// Not a test of anything: with `KONTIKI_WRITE_FIXTURES` set it writes the fixtures anew.
#[test]
fn fixtures_can_be_written_again() {
    if std::env::var_os("KONTIKI_WRITE_FIXTURES").is_none() {
        return;
    }
    let mut disk = write_log();
    for (file, _) in disk.list().unwrap() {
        let mut content = disk.content(file).unwrap().to_vec();
        let path = fixture("log-v1").join(file.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &content).unwrap();
        if file == FileName::Log(1) {
            for block in content.chunks_mut(4096).filter(|block| block.starts_with(b"KontiLog")) {
                block[8..12].copy_from_slice(&99u32.to_le_bytes());
                let crc = crc32fast::hash(&block[..124]);
                block[124..128].copy_from_slice(&crc.to_le_bytes());
            }
            let path = fixture("log-v99").join(file.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
}
