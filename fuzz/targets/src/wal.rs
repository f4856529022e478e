//! The log's files with bytes changed: recovery keeps what counts, cuts, or refuses.

use engine::disk::FileName;
use engine::disk::mem::MemDisk;
use engine::wal::recover::Voters;
use engine::wal::{EntryId, inspect, open, recover};

use crate::input::{Edit, Input};
use crate::stored;

/// The first byte: checksums made right, chain made right, a group, something applied. Then edits of the segments. If
/// the first byte is 255, the rest is a segment of its own.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let mut disk = edited(mode, input);
    let _ = inspect::check(&mut disk, 0);
    let voters = if mode & 4 == 0 { Voters::Single } else { Voters::Group };
    let applied = if mode & 8 == 0 { EntryId::default() } else { EntryId { index: 4, term: 2 } };
    let Ok(recovered) = recover(&mut disk, stored::IDENTITY, applied, voters) else { return };
    assert!(recovered.entries.windows(2).all(|pair| pair[0].index + 1 == pair[1].index), "a gap");
    if open(&mut disk, &recovered, stored::log_config(), 1 << 42).is_err() {
        return;
    }
    let again =
        recover(&mut disk, stored::IDENTITY, applied, voters).expect("what was just opened opens again");
    assert_eq!(again.entries, recovered.entries, "entries changed by a restart");
}

fn edited(mode: u8, mut input: Input<'_>) -> MemDisk {
    let mut disk = stored::directory();
    if mode == u8::MAX {
        let mut disk = MemDisk::new();
        disk.put(FileName::Log(1), input.0.to_vec());
        return disk;
    }
    let logs: Vec<_> =
        stored::files(&mut disk).into_iter().filter(|name| matches!(name, FileName::Log(_))).collect();
    let content = |name: &FileName| disk.content(*name).expect("it was listed").to_vec();
    let mut contents: Vec<Vec<u8>> = logs.iter().map(content).collect();
    while let Some(edit) = input.edit() {
        let part = usize::from(edit.part) % contents.len();
        edit.apply(&mut contents[part]);
    }
    for (name, mut content) in logs.into_iter().zip(contents) {
        if mode & 1 != 0 {
            stored::repair_log(&mut content, mode & 2 != 0);
        }
        disk.put(name, content);
    }
    disk
}

/// Places that matter: headers, frames, the copy of a head.
pub fn seeds() -> Vec<Vec<u8>> {
    let edit = |part, at, bytes: &[u8]| Edit { part, at, bytes }.encode();
    let with_mode = |mode: u8, edits: &[Vec<u8>]| [&[mode][..], &edits.concat()].concat();
    vec![
        vec![0],
        vec![11],
        // A torn block, a lost head, numbers of entries and blocks, the body's length, frames.
        with_mode(0, &[edit(0, 4096 * 3 + 200, b"torn")]),
        with_mode(4, &[edit(1, 0, &[0; 15]), edit(1, 0xf000, &[0; 15])]),
        with_mode(1, &[edit(0, 4096 + 48, &[9]), edit(0, 4096 + 104, &[8])]),
        with_mode(3, &[edit(0, 8192 + 112, &[0xff, 0xff]), edit(1, 4096 + 80, &[0x7f])]),
        with_mode(3, &[edit(0, 4096 + 128, &[1, 2, 3, 4, 5, 6, 7, 8]), edit(1, 128, &[0xff; 12])]),
        with_mode(255, &[b"KontiLog\x01\0\0\0".to_vec(), vec![0; 500]]),
    ]
}
