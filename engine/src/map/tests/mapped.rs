//! The mapping: a real file, pages that move from frames into it, and what the kernel says when it cannot.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;

use super::super::page::{PAGE_SIZE, PageNo, ReadPages};
use super::super::{Load, Loader, MapError, Opened, TAG_WORDS, Wanted, Writer, open};
use super::toy::{LIMITS, build, change, children, values};
use crate::disk::{Disk, DiskError, FileName, Op, Outcome, Output};

/// One index file in the directory for temporary files, removed at the end.
pub struct FileDisk {
    path: PathBuf,
    file: Option<File>,
}

impl FileDisk {
    pub fn new(name: &str) -> FileDisk {
        let path = std::env::temp_dir().join(format!("kontiki-map-{name}-{}", std::process::id()));
        FileDisk { path, file: None }
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("the file was created")
    }

    /// Opens the index with a mapping, the first time creating it.
    pub fn open(&mut self) -> Opened {
        let path = self.path.clone();
        let mapping = move || File::options().read(true).open(&path);
        open(self, Some(&mapping), LIMITS).expect("the index opens")
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        if self.file.is_some() {
            std::fs::remove_file(&self.path).unwrap();
        }
    }
}

impl Disk for FileDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.file.iter().map(|file| (FileName::Index, file.metadata().unwrap().len())).collect())
    }

    fn run(&mut self, op: Op) -> Outcome {
        let outcome = match op {
            Op::Create { len, .. } => {
                let mut options = File::options();
                let file = options.read(true).write(true).create_new(true).open(&self.path).unwrap();
                self.file = Some(file);
                self.file().set_len(len)
            }
            Op::Write { offset, data, .. } => self.file().write_all_at(&data, offset),
            Op::Sync { .. } => self.file().sync_data(),
            Op::Read { offset, len, .. } => {
                let mut data = vec![0; len];
                self.file().read_exact_at(&mut data, offset).unwrap();
                return Ok(Output::Data(Bytes::from(data)));
            }
            Op::Rename { .. } | Op::Remove { .. } => unreachable!("the index is never renamed or removed"),
        };
        outcome.map(|()| Output::Done).map_err(|error| DiskError::new("index.db", &error))
    }
}

/// Writes the newest version and moves its pages to the mapping.
pub fn checkpoint(disk: &mut FileDisk, writer: &mut Writer) {
    let mut checkpoint = writer.begin_checkpoint(b"");
    checkpoint.run(disk).unwrap();
    checkpoint.settle().unwrap();
    writer.finish_checkpoint(checkpoint);
}

fn frames_in_use(writer: &Writer) -> u32 {
    writer.usage().frames - writer.usage().frames_free
}

#[test]
fn pages_move_to_the_mapping_once_durable_and_their_frames_come_back() {
    let mut disk = FileDisk::new("move");
    let mut writer = disk.open().writer;
    let reader = writer.reader();
    let mut root = build(&mut writer, &(0..100).collect::<Vec<_>>());
    writer.publish(root, [0; TAG_WORDS]);
    assert_eq!(frames_in_use(&writer), 101);

    let guard = reader.pin();
    let leaf = children(guard.page(root).unwrap())[5];
    let in_frame = guard.page(leaf).unwrap();
    checkpoint(&mut disk, &mut writer);
    writer.reclaim();
    assert_eq!(frames_in_use(&writer), 101, "a reader may still be looking at the frames");
    let in_mapping = guard.page(leaf).unwrap();
    assert!(!std::ptr::eq(in_frame, in_mapping) && in_frame[16..] == in_mapping[16..]);
    assert_eq!(writer.locator().page_at(in_mapping.as_ptr() as usize + 7), Some(leaf));
    assert_eq!(writer.locator().page_at(in_frame.as_ptr() as usize), None);
    drop(guard);
    writer.reclaim();
    assert_eq!(frames_in_use(&writer), 0);

    for generation in 0..20 {
        root = change(&mut writer, root, generation * 7 % 100, Some(generation as u64));
        writer.publish(root, [0; TAG_WORDS]);
        checkpoint(&mut disk, &mut writer);
        let guard = reader.pin();
        assert_eq!(values(&guard, guard.root().unwrap()), values(&writer, root));
    }
    writer.reclaim();
    assert_eq!(frames_in_use(&writer), 0);
    assert!(writer.usage().file < 150, "slots are used again: {:?}", writer.usage());
}

#[test]
fn a_mapped_index_opens_without_reading_and_populates_what_is_missed() {
    let mut disk = FileDisk::new("open");
    let mut writer = disk.open().writer;
    let root = build(&mut writer, &(0..200).collect::<Vec<_>>());
    writer.publish(root, [0; TAG_WORDS]);
    checkpoint(&mut disk, &mut writer);

    let mut writer = disk.open().writer;
    assert!(writer.page(root).is_err());
    let mut loader = Loader::new();
    assert_eq!(loader.load(&mut writer, &mut disk, root), Ok(Wanted::Ready));
    while let Some(load) = loader.poll_preload(&mut writer) {
        let Load::Populate(populate) = load else { panic!("{load:?} with a mapping") };
        loader.on_populated(&mut writer, populate.run()).unwrap();
    }
    assert_eq!(values(&writer, root).unwrap(), (0..200).collect::<Vec<_>>());
    assert_eq!(frames_in_use(&writer), 0);
}

#[test]
fn rot_and_a_cut_file_are_errors_and_no_signal() {
    let mut disk = FileDisk::new("rot");
    let mut writer = disk.open().writer;
    let root = build(&mut writer, &(0..200).collect::<Vec<_>>());
    writer.publish(root, [0; TAG_WORDS]);
    checkpoint(&mut disk, &mut writer);
    let leaves = children(writer.page(root).unwrap());

    let mut writer = disk.open().writer;
    let (rotten, last) = (leaves[3], leaves[199]);
    disk.file().write_all_at(&[0xff], rotten.0 as u64 * PAGE_SIZE as u64 + 99).unwrap();
    let error = Loader::new().load(&mut writer, &mut disk, rotten).unwrap_err();
    assert!(matches!(error, MapError::Damaged { page, .. } if page == rotten), "{error}");

    let window = PageNo(last.0 / 64 * 64);
    disk.file().set_len(window.0 as u64 * PAGE_SIZE as u64).unwrap();
    let error = Loader::new().load(&mut writer, &mut disk, last).unwrap_err();
    let start = format!("reading index.db, page {}, offset {}", window.0, window.0 as usize * PAGE_SIZE);
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn windows_are_evicted_as_a_whole_once_cold_and_found_again() {
    let mut disk = FileDisk::new("evict");
    let mut writer = disk.open().writer;
    let mut loader = Loader::new();
    let root = build(&mut writer, &(0..200).collect::<Vec<_>>());
    writer.publish(root, [0; TAG_WORDS]);
    checkpoint(&mut disk, &mut writer);
    writer.reclaim();
    assert_eq!(writer.usage().resident, 201);

    // The first round cools, the second evicts; the root's window is visited in between.
    let reader = writer.reader();
    let leaves = children(writer.page(root).unwrap());
    let guard = reader.pin();
    let held = guard.page(leaves[0]).unwrap();
    for _ in 0..2 {
        writer.page(root).unwrap();
        for base in (0..=writer.usage().file).step_by(64) {
            writer.pass(base);
        }
    }
    assert!(guard.page(leaves[0]).is_err() && writer.page(root).is_ok());
    writer.reclaim();
    assert_eq!(
        u64::from_le_bytes(held[16..24].try_into().unwrap()),
        0,
        "a reader that had the page keeps it"
    );
    drop(guard);
    writer.reclaim();
    assert!(writer.usage().resident < 70, "{:?}", writer.usage());

    assert_eq!(loader.load(&mut writer, &mut disk, leaves[0]), Ok(Wanted::Ready));
    assert_eq!(writer.page(leaves[0]).unwrap()[16], 0);
    writer.evict(0);
    assert_eq!(writer.usage().resident, 0);
    while let Err(miss) = values(&writer, root) {
        loader.load(&mut writer, &mut disk, miss.page).unwrap();
    }
    assert_eq!(values(&writer, root).unwrap(), (0..200).collect::<Vec<_>>());
}
