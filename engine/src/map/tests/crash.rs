//! Power cuts after every operation, and bits that rot.

use super::super::TAG_WORDS;
use super::super::page::PAGE_SIZE;
use super::disk::MemDisk;
use super::toy::{build, change, load_values, open_toy};
use crate::disk::Disk;

/// A small generator, so that every run tears the same sectors.
fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.is_multiple_of(2)
    }
}

#[test]
fn a_store_survives_being_closed() {
    let mut disk = MemDisk::default();
    let mut opened = open_toy(&mut disk);
    assert_eq!((opened.generation, opened.writer.version().root), (0, None));
    let root = build(&mut opened.writer, &[1, 2, 3]);
    opened.writer.publish(root, [7; TAG_WORDS]);
    let mut checkpoint = opened.writer.begin_checkpoint(b"revision 7");
    checkpoint.run(&mut disk).unwrap();
    opened.writer.finish_checkpoint(checkpoint);

    let mut opened = open_toy(&mut disk);
    assert_eq!((opened.generation, &opened.payload[..], opened.passed_over), (1, &b"revision 7"[..], None));
    assert_eq!(load_values(&mut disk, &mut opened.writer), [1, 2, 3]);
}

/// Checkpoints several versions and cuts the power after every operation, in several ways.
#[test]
fn after_a_power_cut_the_old_or_the_new_version_is_there() {
    let mut disk = MemDisk::default();
    let mut writer = open_toy(&mut disk).writer;
    let mut root = build(&mut writer, &(0..20).collect::<Vec<_>>());
    let mut versions: Vec<Vec<u64>> = vec![vec![]];
    for generation in 1..=6u64 {
        for i in 0..5 {
            root =
                change(&mut writer, root, (generation * 3 + i * 7) as usize % 22, Some(generation * 100 + i));
            writer.publish(root, [generation; TAG_WORDS]);
        }
        versions.push(load_values(&mut disk, &mut writer));
        let mut checkpoint = writer.begin_checkpoint(&generation.to_le_bytes());
        while let Some((token, op)) = checkpoint.poll() {
            let outcome = disk.run(op);
            checkpoint.on_completed(token, outcome).unwrap();
            // Life goes on meanwhile: nothing the checkpoint reads or holds may be touched by it.
            root = change(&mut writer, root, token.id as usize % 20, Some(token.id));
            writer.publish(root, [0; TAG_WORDS]);
            for cut in 0..if cfg!(miri) { 3 } else { 24 } {
                let mut torn = coin(cut + generation * 1000);
                let mut image = match cut {
                    0 => disk.power_cut(|| false),
                    1 => disk.power_cut(|| true),
                    _ => disk.power_cut(&mut torn),
                };
                let newest = if checkpoint.is_durable() {
                    generation..=generation
                } else {
                    generation - 1..=generation
                };
                check_image(&mut image, newest, &versions);
            }
        }
        writer.finish_checkpoint(checkpoint);
        if generation % 3 == 0 {
            writer = open_toy(&mut disk).writer;
            load_values(&mut disk, &mut writer);
            root = writer.version().root.expect("there is a tree");
        }
    }
}

fn check_image(image: &mut MemDisk, expected: std::ops::RangeInclusive<u64>, versions: &[Vec<u64>]) {
    let mut opened = open_toy(image);
    assert!(expected.contains(&opened.generation), "generation {} is not in {expected:?}", opened.generation);
    if opened.generation > 0 {
        assert_eq!(opened.payload, opened.generation.to_le_bytes());
    }
    assert_eq!(load_values(image, &mut opened.writer), versions[opened.generation as usize]);
    if opened.generation == 0 || opened.passed_over.is_some() {
        return;
    }
    // Both metas are sound: the older one opens just as well.
    let newest = opened.generation as usize % 2 * PAGE_SIZE;
    image.file.as_mut().expect("there is a file")[newest] ^= 1;
    let mut older = open_toy(image);
    assert_eq!(older.generation, opened.generation - 1);
    assert_eq!(load_values(image, &mut older.writer), versions[older.generation as usize]);
}
