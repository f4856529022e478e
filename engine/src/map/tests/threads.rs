//! One writer and readers on other threads, for real: what loom shows for two pages, on the whole machinery.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{Guard, Loader, TAG_WORDS};
use super::mapped::{FileDisk, checkpoint};
use super::toy::{build, change, values};

/// The version's tag repeats the sum of its numbers. Pages may be missing, as the writer evicts.
fn check(guard: &Guard<'_>) {
    if let Ok(numbers) = values(guard, guard.root().expect("there is a tree")) {
        let sum = numbers.into_iter().fold(0, u64::wrapping_add);
        assert_eq!(guard.version().tag, [sum; TAG_WORDS], "version {}", guard.version().number);
    }
}

/// Ends the readers also when the writer's thread panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_on_other_threads_see_whole_versions() {
    let mut disk = FileDisk::new("threads");
    let mut writer = disk.open().writer;
    let mut numbers: Vec<u64> = (0..50).collect();
    let mut root = build(&mut writer, &numbers);
    writer.publish(root, [numbers.iter().sum(); TAG_WORDS]);
    let mut loader = Loader::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        for _ in 0..2 {
            let reader = writer.reader();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let guard = reader.pin();
                    check(&guard);
                    check(&guard);
                }
            });
        }
        for version in 1..3000u64 {
            let i = (version * 17 % 50) as usize;
            // A reader that the system does not let run holds whatever was retired meanwhile.
            while writer.room() < 200 {
                writer.reclaim();
                std::thread::yield_now();
            }
            numbers[i] = version << 20;
            root = change(&mut writer, root, i, Some(numbers[i]));
            let sum = numbers.iter().copied().fold(0, u64::wrapping_add);
            writer.publish(root, [sum; TAG_WORDS]);
            if version % 250 == 0 {
                checkpoint(&mut disk, &mut writer);
            }
            if version % 100 == 0 {
                writer.evict(40);
                while let Err(miss) = values(&writer, root) {
                    loader.load(&mut writer, &mut disk, miss.page).unwrap();
                }
            }
        }
    });
}
