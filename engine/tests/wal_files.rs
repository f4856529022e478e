//! The log on real files: what recovery and opening do through the blocking driver.

use bytes::Bytes;
use engine::disk::Disk;
use engine::disk::file::FileDisk;
use engine::wal::inspect::{self, CutError};
use engine::wal::recover::Voters;
use engine::wal::{Config, Entry, EntryId, HardState, Identity, Mode, Writer, open, recover};

const IDENTITY: Identity = Identity { cluster: 1, member: 2 };

fn run(writer: &mut Writer, disk: &mut FileDisk) {
    while let Some((token, op)) = writer.poll(true) {
        let outcome = disk.run(op);
        writer.on_completed(token, outcome).unwrap();
    }
}

#[test]
fn a_log_survives_its_process_and_can_be_copied_and_cut() {
    let root = std::env::temp_dir().join(format!("kontiki-wal-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let config = Config {
        mode: Mode::Fdatasync,
        segment_bytes_first: 128 << 10,
        segment_bytes: 256 << 10,
        ahead_bytes_min: 128 << 10,
        block_bytes_max: 16 << 10,
        entry_bytes_max: 32 << 10,
        ..Config::default()
    };
    let mut entries = Vec::new();
    for life in 0..4 {
        let mut disk = FileDisk::open(root.join("data")).unwrap();
        let recovered = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
        assert_eq!(recovered.entries, entries);
        assert_eq!((recovered.fresh, recovered.hard_state.term), (life == 0, life));
        let mut writer = open(&mut disk, &recovered, config, life).unwrap();
        writer.push_hard_state(1, HardState { term: life + 1, vote: Some(2), commit: 0 });
        let first = entries.len() as u64 + 1;
        let new = (first..first + 100).map(|index| Entry {
            term: life + 1,
            index,
            kind: 0,
            data: Bytes::from(vec![index as u8; 700]),
        });
        let new: Vec<Entry> = new.collect();
        for (position, entry) in (2..).zip(&new) {
            writer.push_entries(position, std::slice::from_ref(entry));
            run(&mut writer, &mut disk);
        }
        assert_eq!(writer.durable(), 101);
        entries.extend(new);
    }
    let mut disk = FileDisk::open(root.join("data")).unwrap();
    let mut backup = FileDisk::open(root.join("backup")).unwrap();
    let mut cut = |nonce| {
        inspect::cut(&mut disk, &mut backup, IDENTITY, EntryId::default(), Voters::Single, config, nonce)
    };
    assert_eq!(cut(9).unwrap().entries, entries, "nothing is damaged, nothing is lost");
    assert!(matches!(cut(10), Err(CutError::BackupInUse(_))));
    std::fs::remove_dir_all(&root).unwrap();
}
