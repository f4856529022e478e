//! Pages on their way in, while the tree goes on without them.

use super::super::page::{PAGE_SIZE, PageNo, ReadPages, WritePages};
use super::super::{Load, Loader, TAG_WORDS, Wanted, Writer};
use super::disk::MemDisk;
use super::toy::{build, change, children, open_toy, values};
use crate::disk::{Disk, Op};

/// Numbers in the tree: with their root more pages than a window has.
const COUNT: u64 = 100;

/// A store opened anew: nothing is in memory but the root.
fn opened() -> (MemDisk, Writer, PageNo, Loader) {
    let mut disk = MemDisk::default();
    let mut writer = open_toy(&mut disk).writer;
    let root = build(&mut writer, &(0..COUNT).collect::<Vec<_>>());
    writer.publish(root, [0; TAG_WORDS]);
    checkpoint(&mut disk, &mut writer);
    let mut writer = open_toy(&mut disk).writer;
    let mut loader = Loader::new();
    assert_eq!(loader.load(&mut writer, &mut disk, root), Ok(Wanted::Ready));
    (disk, writer, root, loader)
}

fn checkpoint(disk: &mut MemDisk, writer: &mut Writer) {
    let mut checkpoint = writer.begin_checkpoint(b"");
    checkpoint.run(disk).unwrap();
    writer.finish_checkpoint(checkpoint);
}

#[test]
fn one_read_brings_in_the_window_and_only_what_is_missing() {
    let (mut disk, mut writer, root, mut loader) = opened();
    let missing: Vec<PageNo> =
        children(writer.page(root).unwrap()).into_iter().filter(|no| writer.page(*no).is_err()).collect();
    assert_eq!(missing.first(), Some(&PageNo(2)), "the first window was not read");
    assert_eq!(loader.want(&writer, PageNo(5)), Wanted::Coming);
    assert_eq!(loader.want(&writer, PageNo(6)), Wanted::Coming);
    let Some(Load::Read(token, op)) = loader.poll(&mut writer) else { panic!("a read") };
    assert!(matches!(op, Op::Read { offset: 8192, len, .. } if len == 62 * PAGE_SIZE), "{op:?}");
    assert_eq!(loader.want(&writer, PageNo(7)), Wanted::Coming);
    assert!(loader.poll(&mut writer).is_none(), "all three are in the one window");
    let outcome = disk.run(op);
    loader.on_completed(&mut writer, token, outcome).unwrap();
    assert_eq!(loader.want(&writer, PageNo(7)), Wanted::Ready);
    assert_eq!(values(&writer, root).unwrap(), (0..COUNT).collect::<Vec<_>>());
    assert!(loader.poll_preload(&mut writer).is_none(), "everything is in memory");
}

#[test]
fn a_page_outside_the_tree_is_gone() {
    let (_, writer, _, mut loader) = opened();
    for no in [0, 1, 500, u32::MAX] {
        assert_eq!(loader.want(&writer, PageNo(no)), Wanted::Gone, "page {no}");
    }
}

#[test]
fn a_slot_that_is_being_read_is_not_used_again_before_the_read_ends() {
    let (mut disk, mut writer, mut root, mut loader) = opened();
    let leaf = children(writer.page(root).unwrap())[0];
    assert_eq!(loader.want(&writer, leaf), Wanted::Coming);
    let Some(Load::Read(token, op)) = loader.poll(&mut writer) else { panic!("a read") };

    // The tree drops the leaf unseen, and then every checkpoint does.
    root = change(&mut writer, root, 0, None);
    for _ in 0..4 {
        root = change(&mut writer, root, 0, None);
        writer.publish(root, [0; TAG_WORDS]);
        checkpoint(&mut disk, &mut writer);
    }
    while writer.reclaim() {}
    let before = writer.room();
    let fresh: Vec<PageNo> = (0..150).map(|_| writer.allocate()).collect();
    assert!(!fresh.contains(&leaf), "{leaf:?} is being read");
    fresh.into_iter().for_each(|no| writer.retire(no));
    assert_eq!(writer.room(), before);

    let outcome = disk.run(op);
    loader.on_completed(&mut writer, token, outcome).unwrap();
    assert!(writer.page(leaf).is_err(), "nobody needs it any more");
    while writer.reclaim() {}
    assert!(writer.room() > before, "its slot is free now");
    assert_eq!(values(&writer, root).unwrap(), (5..COUNT).collect::<Vec<_>>());
}

#[test]
fn frames_are_opened_ahead_and_little_when_idle() {
    let mut disk = MemDisk::default();
    let mut writer = open_toy(&mut disk).writer;
    let root = build(&mut writer, &[1]);
    writer.publish(root, [0; TAG_WORDS]);
    while let Some(prefault) = writer.poll_prefault() {
        assert!(writer.poll_prefault().is_none(), "one chunk at a time");
        writer.on_prefaulted(prefault.run().unwrap());
    }
    let usage = writer.usage();
    assert!(usage.frames_free >= 1024 && usage.frames as usize * PAGE_SIZE <= 8 << 20, "{usage:?}");
}
