//! Does a directory take direct IO, and in what units?
//!
//! Tried, not looked up: a file is opened past the page cache, unlinked at once, and written in the smallest
//! unit that works. tmpfs is refused by name, because newer kernels take the flag there and still keep
//! everything in memory.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fstatfs};

use crate::Obstacle;

/// Units to try, smallest first: sectors of old and of new disks.
const UNITS: [usize; 2] = [512, 4096];

/// Magic numbers of file systems that live in memory, from linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// The unit, in bytes, in which files in `dir` can be written directly: offset, length and memory in
/// multiples of it.
///
/// Blocks for a few writes.
pub fn unit(dir: &Path) -> Result<usize, Obstacle> {
    let refuse = |what: &str, error: &dyn std::fmt::Display| {
        let dir = dir.display();
        Obstacle(format!(
            "{what} {dir} ({error}): name a directory on a local disk (ext4, xfs) with --data-dir"
        ))
    };
    let path = scratch(dir);
    let created = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    drop(created.map_err(|error| refuse("cannot create a file in", &error))?);
    let opened = open_direct(&path);
    // Unlinked before anything can go wrong, so that nothing is left behind.
    std::fs::remove_file(&path).map_err(|error| refuse("cannot remove a file in", &error))?;
    let file = opened.map_err(|error| refuse("no direct IO in", &error))?;
    let kind = fstatfs(&file).map(|stat| stat.f_type as u64).unwrap_or(0);
    if [TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind) {
        return Err(refuse(
            "no direct IO in",
            &"a file system in memory, which a restart of the host empties",
        ));
    }
    let mut last = None;
    for unit in UNITS {
        match write_unit(&file, unit) {
            Ok(()) => return Ok(unit),
            Err(error) => last = Some(error),
        }
    }
    Err(refuse("direct writes fail in", &last.expect("there are units to try")))
}

/// A name no file of the server has.
pub(super) fn scratch(dir: &Path) -> PathBuf {
    dir.join(format!(".probe-{}-{:?}", std::process::id(), std::thread::current().id()))
}

fn open_direct(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path)
}

fn write_unit(file: &File, unit: usize) -> std::io::Result<()> {
    let buf = AlignedBuf::new(unit, unit);
    file.write_all_at(buf.as_slice(), unit as u64)
}

/// Zeroed memory at a multiple of `align`.
pub(super) struct AlignedBuf {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    pub(super) fn new(len: usize, align: usize) -> AlignedBuf {
        let memory = vec![0; len + align];
        let start = memory.as_ptr().align_offset(align);
        assert!(start <= align, "no multiple of {align} within {align} bytes: {start}");
        AlignedBuf { memory, start, len }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_answers_and_stays_clean() {
        let dir = tempfile::tempdir().unwrap();
        // The test host may keep its temporary files in memory; then the answer is no.
        if let Ok(unit) = unit(dir.path()) {
            assert!(UNITS.contains(&unit));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_no_disk() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let text = unit(dir.path()).unwrap_err().to_string();
        assert!(text.starts_with("no direct IO in /dev/shm") && text.contains("--data-dir"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let text = unit(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(text.contains("/nonexistent"), "{text}");
    }

    #[test]
    fn buffers_are_aligned() {
        for align in [1, 512, 4096] {
            let buf = AlignedBuf::new(100, align);
            assert_eq!((buf.as_slice().as_ptr() as usize % align, buf.as_slice().len()), (0, 100));
        }
    }
}
