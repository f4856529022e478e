//! An operation fails, the process ends, and the next one relies on what the page cache shows.

use std::io::ErrorKind;

use super::super::{MapError, TAG_WORDS, Writer};
use super::toy::{build, change, load_values, open_toy};
use crate::disk::Disk;
use crate::disk::mem::{Fault, MemDisk};
use crate::disk::pcg::Pcg;

/// Numbers of a tree.
const NUMBERS: u64 = 6;

/// Publishes a tree that has `number` everywhere, and writes it; `after` sees the disk after each operation.
fn checkpoint(
    disk: &mut MemDisk,
    writer: &mut Writer,
    number: u64,
    mut after: impl FnMut(&MemDisk),
) -> Result<(), MapError> {
    let root = match writer.version().root {
        None => build(writer, &[number; NUMBERS as usize]),
        Some(root) => (0..NUMBERS as usize).fold(root, |root, i| change(writer, root, i, Some(number))),
    };
    writer.publish(root, [0; TAG_WORDS]);
    let mut checkpoint = writer.begin_checkpoint(&number.to_le_bytes());
    while let Some((token, op)) = checkpoint.poll() {
        let outcome = disk.run(op);
        checkpoint.on_completed(token, outcome)?;
        after(disk);
    }
    writer.finish_checkpoint(checkpoint);
    Ok(())
}

/// The number everywhere in the tree that opens.
fn number(disk: &mut MemDisk, opened: &mut Writer) -> u64 {
    let values = load_values(disk, opened);
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    values[0]
}

/// Simulator, failing operations with a checkpoint at every start, seed 0 operation 85: the write of a meta page failed, and
/// reached the disk with the power cut, when the slots it names had long been given to others.
#[test]
fn after_a_failed_operation_the_next_process_may_make_checkpoints_of_its_own() {
    for failing in 0.. {
        let mut disk = MemDisk::new();
        let mut writer = open_toy(&mut disk).writer;
        for number in 1..=3 {
            checkpoint(&mut disk, &mut writer, number, |_| ()).unwrap();
        }
        disk.inject(disk.operations() + failing, Fault::Fail(ErrorKind::Other));
        if checkpoint(&mut disk, &mut writer, 4, |_| ()).is_ok() {
            assert!(failing >= 4, "pages, sync, meta page, sync: {failing} operations");
            return;
        }
        disk.kill(&mut Pcg::new(failing));

        let mut writer = open_toy(&mut disk).writer;
        let mut durable = number(&mut disk, &mut writer);
        assert!((3..=4).contains(&durable), "{durable} after operation {failing} failed");
        for next in 5..=7 {
            checkpoint(&mut disk, &mut writer, next, |disk| {
                for cut in 0..if cfg!(miri) { 2 } else { 32 } {
                    let mut disk = disk.clone();
                    disk.crash(&mut Pcg::new(cut));
                    let mut opened = open_toy(&mut disk);
                    let number = number(&mut disk, &mut opened.writer);
                    assert!([durable, next].contains(&number), "{number} after operation {failing} failed");
                }
            })
            .unwrap();
            durable = next;
        }
    }
}
