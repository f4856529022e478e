//! Rot, foreign formats, and the file of format 1 that every later version must open.

use super::super::layout::{FORMAT, Flaw};
use super::super::page::{PAGE_SIZE, PageNo};
use super::super::{Loader, MapError, TAG_WORDS, open};
use super::disk::MemDisk;
use super::toy::{LIMITS, build, change, children, load_values, open_toy};
use crate::disk::{DiskError, FileName, Op};

/// A disk with `generations` checkpoints; the one of generation `g` holds `[g, 1, 2]`.
fn disk_with(generations: u64) -> MemDisk {
    let mut disk = MemDisk::default();
    let mut writer = open_toy(&mut disk).writer;
    let mut root = build(&mut writer, &[0, 1, 2]);
    for generation in 1..=generations {
        root = change(&mut writer, root, 0, Some(generation));
        writer.publish(root, [0; TAG_WORDS]);
        let mut checkpoint = writer.begin_checkpoint(&generation.to_le_bytes());
        checkpoint.run(&mut disk).unwrap();
        writer.finish_checkpoint(checkpoint);
    }
    disk
}

#[test]
fn both_metas_open_after_any_number_of_checkpoints() {
    for generations in 1..=9 {
        let mut disk = disk_with(generations);
        let mut opened = open_toy(&mut disk);
        assert_eq!((opened.generation, opened.passed_over), (generations, None));
        assert_eq!(load_values(&mut disk, &mut opened.writer), [generations, 1, 2]);

        let newest = generations as usize % 2 * PAGE_SIZE;
        disk.file.as_mut().unwrap()[newest + 100] ^= 1;
        let mut opened = open_toy(&mut disk);
        assert_eq!(opened.generation, generations - 1);
        assert!(matches!(opened.passed_over, Some(MapError::Damaged { flaw: Flaw::Checksum, .. })));
        if generations > 1 {
            assert_eq!(load_values(&mut disk, &mut opened.writer), [generations - 1, 1, 2]);
        }
    }
}

#[test]
fn going_on_from_the_older_checkpoint_is_as_safe() {
    let mut disk = disk_with(4);
    disk.file.as_mut().unwrap()[100] ^= 1;
    let mut writer = open_toy(&mut disk).writer;
    assert_eq!(load_values(&mut disk, &mut writer), [3, 1, 2]);
    let root = writer.version().root.unwrap();
    let root = change(&mut writer, root, 1, Some(50));
    writer.publish(root, [0; TAG_WORDS]);
    let mut checkpoint = writer.begin_checkpoint(b"");
    let synced = MemDisk::with_file(disk.file.clone().unwrap());
    let mut running = synced;
    while let Some((token, op)) = checkpoint.poll() {
        let mut image = running.power_cut(|| false);
        assert_eq!(load_values(&mut image.clone(), &mut open_toy(&mut image).writer), [3, 1, 2]);
        let outcome = crate::disk::Disk::run(&mut running, op);
        checkpoint.on_completed(token, outcome).unwrap();
    }
    let mut opened = open_toy(&mut running);
    assert_eq!((opened.generation, load_values(&mut running, &mut opened.writer)), (4, vec![3, 50, 2]));
}

#[test]
fn a_flipped_bit_of_a_page_is_found_when_it_is_brought_in_and_named() {
    let disk = disk_with(1);
    let mut writer = open_toy(&mut disk.clone()).writer;
    load_values(&mut disk.clone(), &mut writer);
    let root = writer.version().root.unwrap();
    let leaf = children(super::super::page::ReadPages::page(&writer, root).unwrap())[2];
    for at in (0..PAGE_SIZE).step_by(if cfg!(miri) { 1024 } else { 61 }) {
        let mut disk = disk.clone();
        disk.file.as_mut().unwrap()[leaf.0 as usize * PAGE_SIZE + at] ^= 0x10;
        let mut writer = open_toy(&mut disk).writer;
        let error = Loader::new().load(&mut writer, &mut disk, leaf).unwrap_err();
        assert_eq!(error, MapError::Damaged { page: leaf, flaw: Flaw::Checksum });
        let offset = leaf.0 as usize * PAGE_SIZE;
        let text = format!("index.db is damaged at page {}, offset {offset}: checksum mismatch", leaf.0);
        assert_eq!(error.to_string(), text);
    }
}

/// The bitmap page of generation 2.
fn newest_bitmap(disk: &MemDisk) -> PageNo {
    let bitmap = (2..12).map(PageNo).find(|no| {
        let mut disk = disk.clone();
        disk.file.as_mut().unwrap()[no.0 as usize * PAGE_SIZE + 77] ^= 1;
        open_toy(&mut disk).generation == 1
    });
    bitmap.expect("one page is the bitmap of the newest checkpoint")
}

#[test]
fn a_damaged_bitmap_of_the_newest_checkpoint_leaves_the_older_one() {
    let mut disk = disk_with(2);
    let bitmap = newest_bitmap(&disk);
    disk.file.as_mut().unwrap()[bitmap.0 as usize * PAGE_SIZE] ^= 1;
    let mut opened = open_toy(&mut disk);
    assert_eq!(opened.passed_over, Some(MapError::Damaged { page: bitmap, flaw: Flaw::Checksum }));
    assert_eq!(load_values(&mut disk, &mut opened.writer), [1, 1, 2]);
}

/// Goes on from what is there, changes it, and writes a checkpoint up to its last sync; then the power fails, and of
/// the meta page the sectors that `keep` names arrive.
fn go_on_until_the_last_sync(
    disk: &mut MemDisk,
    change_to: u64,
    payload: &[u8],
    keep: impl Fn(usize) -> bool,
) -> MemDisk {
    let mut writer = open_toy(disk).writer;
    load_values(disk, &mut writer);
    let root = writer.version().root.unwrap();
    let root = change(&mut writer, root, 1, Some(change_to));
    writer.publish(root, [0; TAG_WORDS]);
    let mut checkpoint = writer.begin_checkpoint(payload);
    let mut syncs = 0;
    while let Some((token, op)) = checkpoint.poll() {
        syncs += u32::from(matches!(op, Op::Sync { .. }));
        if syncs == 2 {
            break;
        }
        let outcome = crate::disk::Disk::run(disk, op);
        checkpoint.on_completed(token, outcome).unwrap();
    }
    let mut sector = 0..;
    disk.power_cut(|| sector.next().is_some_and(&keep))
}

/// Seed 208 of the simulator: the first cut left all of a meta page but one sector, and the second one, a checkpoint
/// later, just that sector. It was sound then, and its pages were others by now.
#[test]
fn what_is_left_of_a_torn_meta_page_is_not_completed_by_the_next_one() {
    const SECTOR: usize = 512;
    let payload = [7; 1000];
    for lost in 0..PAGE_SIZE / SECTOR {
        let mut disk = go_on_until_the_last_sync(&mut disk_with(1), 50, &payload, |sector| sector != lost);
        let mut disk = go_on_until_the_last_sync(&mut disk, 60, &payload, |sector| sector == lost);
        let mut opened = open_toy(&mut disk);
        // A sector of zeroes is not missed: then the first of the two is there whole.
        let expected = if opened.generation == 1 { [1, 1, 2] } else { [1, 50, 2] };
        assert_eq!(load_values(&mut disk, &mut opened.writer), expected, "without sector {lost}");
    }
}

#[test]
fn a_checkpoint_whose_bitmap_was_damaged_does_not_come_back() {
    let mut disk = disk_with(2);
    let bitmap = newest_bitmap(&disk);
    disk.file.as_mut().unwrap()[bitmap.0 as usize * PAGE_SIZE] ^= 1;
    let mut disk = go_on_until_the_last_sync(&mut disk, 50, b"", |_| false);
    let mut opened = open_toy(&mut disk);
    assert_eq!((opened.generation, load_values(&mut disk, &mut opened.writer)), (1, vec![1, 1, 2]));
}

#[test]
fn without_a_sound_meta_page_nothing_opens() {
    let mut disk = disk_with(3);
    for at in [5, PAGE_SIZE + 5] {
        disk.file.as_mut().unwrap()[at] ^= 1;
    }
    let error = open(&mut disk, None, LIMITS).unwrap_err();
    assert_eq!(error, MapError::Damaged { page: PageNo(1), flaw: Flaw::Checksum });
}

#[test]
fn a_creation_that_was_cut_short_starts_over() {
    for (file, generation) in [(vec![0; 2 * PAGE_SIZE], 0), (vec![], 0), (vec![0; 100], 0)] {
        let mut disk = MemDisk::with_file(file);
        assert_eq!(open_toy(&mut disk).generation, generation);
        assert_eq!(open_toy(&mut disk).passed_over, None);
    }
}

#[test]
fn a_file_that_was_cut_is_damaged() {
    let mut disk = disk_with(1);
    let file = disk.file.as_mut().unwrap();
    file.truncate(file.len() - 1);
    let opened = open_toy(&mut disk);
    assert_eq!(opened.generation, 0, "the older checkpoint, which has no pages, still opens");
    assert!(matches!(opened.passed_over, Some(MapError::Damaged { flaw: Flaw::Unwritten, .. })));
}

#[test]
fn a_file_beyond_the_limits_is_refused() {
    let mut disk = disk_with(3);
    let limits = super::super::Limits { page_count_max: 4, ..LIMITS };
    let error = open(&mut disk, None, limits).unwrap_err();
    assert!(matches!(error, MapError::TooLarge { page_count_max: 4, .. }), "{error}");
}

#[test]
fn a_failed_write_or_sync_is_final() {
    let mut disk = MemDisk::default();
    let mut writer = open_toy(&mut disk).writer;
    let root = build(&mut writer, &[1]);
    writer.publish(root, [0; TAG_WORDS]);
    let mut checkpoint = writer.begin_checkpoint(b"");
    let (token, op) = checkpoint.poll().unwrap();
    assert!(matches!(op, Op::Write { file: FileName::Index, .. }));
    let failure = DiskError::new("writing index.db", &std::io::Error::other("broken"));
    assert_eq!(checkpoint.on_completed(token, Err(failure.clone())), Err(MapError::Disk(failure)));
    assert!(checkpoint.poll().is_none() && !checkpoint.is_durable());
}

/// The file was written by `disk_with(3)` of the first version of this code, and stays as it is.
#[cfg(not(miri))]
#[test]
fn the_file_of_format_1_opens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/index-v1/index.db");
    let mut disk = MemDisk::with_file(std::fs::read(path).unwrap());
    let mut opened = open_toy(&mut disk);
    assert_eq!((opened.generation, opened.payload), (3, 3u64.to_le_bytes().to_vec()));
    assert_eq!(load_values(&mut disk, &mut opened.writer), [3, 1, 2]);
}

#[test]
fn another_format_is_refused_in_a_sentence() {
    let mut disk = disk_with(2);
    let file = disk.file.as_mut().unwrap();
    file[12..16].copy_from_slice(&99u32.to_le_bytes());
    let crc = crc32fast::hash(&file[4..PAGE_SIZE]);
    file[..4].copy_from_slice(&crc.to_le_bytes());
    let error = open(&mut disk, None, LIMITS).unwrap_err();
    assert_eq!(error, MapError::Format { found: 99 });
    let text = "index.db has format 99; this version of kontiki reads and writes format 1";
    assert_eq!((error.to_string(), FORMAT), (text.to_string(), 1));
}
