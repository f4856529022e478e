//! Reads that never wait: what the page cache holds is copied on the spot, anything else is left to a thread.
//!
//! A record that left our memory is most often still in the kernel's. Handing the read to a background thread then
//! costs some thirty times the read itself: two wake-ups and a second turn. `preadv2` with RWF_NOWAIT says whether it
//! would have to wait, and does not; so the state core may ask it. A file system that knows no such reads answers
//! nothing here, and all reads go to the threads.
#![allow(clippy::disallowed_methods, reason = "this is the driver that opens files for the cores")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use rustix::io::{ReadWriteFlags, preadv2};

use super::FileName;

/// Open files kept at most: 16 GiB of history. All are forgotten when there are more.
const FILES_MAX: usize = 256;

/// Files of a data directory that may be looked into. To open one may wait for the disk, so that is not done here.
#[derive(Debug)]
pub struct Peeks {
    root: PathBuf,
    /// `None` while it is being opened.
    files: BTreeMap<FileName, Option<File>>,
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub enum Peeked {
    /// The bytes.
    Here(Bytes),
    /// Not all of them are in memory, or nobody can tell.
    Elsewhere,
    /// The file is not open: a thread should [`open`] it and the result be [`Peeks::add`]ed. Said once for each file.
    Unopened(PathBuf),
}

impl Peeks {
    /// Nothing is open yet.
    pub fn new(root: PathBuf) -> Peeks {
        Peeks { root, files: BTreeMap::new() }
    }

    /// `len` bytes of `file`, if they are in memory. Does not block.
    pub fn read(&mut self, file: FileName, offset: u64, len: usize) -> Peeked {
        match self.files.get(&file) {
            Some(Some(opened)) => read(opened, offset, len).map_or(Peeked::Elsewhere, Peeked::Here),
            Some(None) => Peeked::Elsewhere,
            None => {
                if self.files.len() >= FILES_MAX {
                    self.files.clear();
                }
                self.files.insert(file, None);
                Peeked::Unopened(self.root.join(file.path()))
            }
        }
    }

    /// `file` was opened.
    pub fn add(&mut self, file: FileName, opened: File) {
        self.files.insert(file, Some(opened));
    }

    /// `file` is renamed or removed.
    pub fn forget(&mut self, file: FileName) {
        self.files.remove(&file);
    }
}

/// Opens a file to look into. Blocks.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn read(file: &File, offset: u64, len: usize) -> Option<Bytes> {
    let mut bytes = BytesMut::zeroed(len);
    let found = preadv2(file, &mut [IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT);
    // Whatever is wrong, the read that may wait will meet it and report it.
    (found.ok()? == len).then(|| bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileName = FileName::History(3);

    #[test]
    fn what_was_just_written_is_here_once_the_file_is_open() {
        let root = std::env::temp_dir().join(format!("kontiki-{}-peek", std::process::id()));
        std::fs::create_dir_all(root.join("history")).unwrap();
        std::fs::write(root.join(FILE.path()), b"0123456789").unwrap();
        let mut peeks = Peeks::new(root.clone());
        assert_eq!(peeks.read(FILE, 2, 3), Peeked::Unopened(root.join(FILE.path())));
        assert_eq!(peeks.read(FILE, 2, 3), Peeked::Elsewhere, "it is being opened");
        peeks.add(FILE, open(&root.join(FILE.path())).unwrap());
        // A file system without such reads is allowed.
        let found = peeks.read(FILE, 2, 3);
        assert!(found == Peeked::Here(Bytes::from_static(b"234")) || found == Peeked::Elsewhere, "{found:?}");
        assert_eq!(peeks.read(FILE, 8, 3), Peeked::Elsewhere, "beyond the end");
        peeks.forget(FILE);
        assert!(matches!(peeks.read(FILE, 2, 3), Peeked::Unopened(_)));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn open_files_are_bounded() {
        let mut peeks = Peeks::new(PathBuf::new());
        for number in 0..1000 {
            assert!(matches!(peeks.read(FileName::History(number), 0, 1), Peeked::Unopened(_)));
            assert!(peeks.files.len() <= FILES_MAX);
        }
    }
}
