//! Files of a data directory, one blocking operation at a time: what opening, recovery and background threads
//! use.
//!
//! It goes through the page cache; the log's own writes, with direct IO, have a driver of their own. A driver
//! by name: it is one of the few places that touch files.
#![allow(clippy::disallowed_methods, reason = "this is the driver that opens files for the cores")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::{Disk, DiskError, Durability, FileName, Op, Outcome, Output};

/// Zeroes are written in pieces of this many bytes.
const ZERO_PIECE: usize = 1 << 20;

/// Open files kept at most; all are forgotten when there are more.
const HANDLES_MAX: usize = 64;

/// A data directory.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    /// Where log files lie.
    log: PathBuf,
    handles: BTreeMap<FileName, File>,
}

impl FileDisk {
    /// Opens the data directory at `root`, and makes it and its subdirectories if they are missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<FileDisk, DiskError> {
        let root = root.into();
        let log = root.join("log");
        FileDisk::with_log(root, log)
    }

    /// The same for a data directory whose log lies elsewhere, in `log`.
    pub fn with_log(root: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Result<FileDisk, DiskError> {
        let disk = FileDisk { root: root.into(), log: log.into(), handles: BTreeMap::new() };
        let made = || -> io::Result<()> {
            for directory in FileName::DIRECTORIES {
                fs::create_dir_all(disk.directory(directory))?;
            }
            sync_directory(&disk.root)
        };
        made().map_err(|error| {
            DiskError::new(format!("open data directory {}", disk.root.display()), &error)
        })?;
        Ok(disk)
    }

    /// Where the files of a directory of the data directory are.
    fn directory(&self, name: &str) -> PathBuf {
        if name == "log" { self.log.clone() } else { self.root.join(name) }
    }

    fn path(&self, file: FileName) -> PathBuf {
        let relative = file.path();
        let directory = relative.parent().and_then(Path::to_str).expect("names of ours are UTF-8");
        self.directory(directory).join(relative.file_name().expect("every file has a name"))
    }

    fn handle(&mut self, file: FileName) -> io::Result<&File> {
        if !self.handles.contains_key(&file) {
            if self.handles.len() >= HANDLES_MAX {
                self.handles.clear();
            }
            let opened = OpenOptions::new().read(true).write(true).open(self.path(file))?;
            self.handles.insert(file, opened);
        }
        Ok(&self.handles[&file])
    }

    fn carry_out(&mut self, op: &Op) -> io::Result<Output> {
        match op {
            Op::Write { file, offset, data, durability } => {
                let handle = self.handle(*file)?;
                handle.write_all_at(data, *offset)?;
                if *durability == Durability::Synced {
                    handle.sync_data()?;
                }
            }
            Op::Sync { file } => self.handle(*file)?.sync_data()?,
            Op::Read { file, offset, len, .. } => {
                let handle = self.handle(*file)?;
                // Checked first: a length out of damaged bytes must not allocate.
                if offset.saturating_add(*len as u64) > handle.metadata()?.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let mut bytes = BytesMut::zeroed(*len);
                handle.read_exact_at(&mut bytes, *offset)?;
                return Ok(Output::Data(bytes.freeze()));
            }
            Op::Create { file, len } => self.create(*file, *len)?,
            Op::Rename { from, to } => {
                let target = self.path(*to);
                if target.exists() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(self.path(*from), &target)?;
                if let Some(handle) = self.handles.remove(from) {
                    self.handles.insert(*to, handle);
                }
                self.sync_parents(&[*from, *to])?;
            }
            Op::Remove { file } => {
                self.handles.remove(file);
                fs::remove_file(self.path(*file))?;
                self.sync_parents(&[*file])?;
            }
        }
        Ok(Output::Done)
    }

    /// Writes zeroes, so that later writes change no file system metadata. What a full disk cut short goes
    /// away.
    fn create(&mut self, file: FileName, len: u64) -> io::Result<()> {
        let path = self.path(file);
        let handle = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let filled = write_zeroes(&handle, len).and_then(|()| handle.sync_all());
        if let Err(error) = filled {
            // The first error is the one that tells; a leftover is removed at the next open.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.handles.insert(file, handle);
        self.sync_parents(&[file])
    }

    fn sync_parents(&self, files: &[FileName]) -> io::Result<()> {
        let mut directories: Vec<PathBuf> =
            files.iter().filter_map(|file| self.path(*file).parent().map(Path::to_path_buf)).collect();
        directories.dedup();
        directories.iter().try_for_each(|directory| sync_directory(directory))
    }
}

impl Disk for FileDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let mut found = Vec::new();
        let mut visit = |directory: &str| -> io::Result<()> {
            for entry in fs::read_dir(self.directory(directory))? {
                let entry = entry?;
                if let Some(name) = FileName::parse(&Path::new(directory).join(entry.file_name())) {
                    found.push((name, entry.metadata()?.len()));
                }
            }
            Ok(())
        };
        [""].iter().chain(&FileName::DIRECTORIES).try_for_each(|directory| visit(directory)).map_err(
            |error| DiskError::new(format!("list data directory {}", self.root.display()), &error),
        )?;
        found.sort_unstable();
        Ok(found)
    }

    fn run(&mut self, op: Op) -> Outcome {
        self.carry_out(&op).map_err(|error| {
            DiskError::new(format!("{op} in data directory {}", self.root.display()), &error)
        })
    }
}

fn write_zeroes(file: &File, len: u64) -> io::Result<()> {
    let zeroes = Bytes::from(vec![0; ZERO_PIECE.min(len as usize)]);
    let mut at = 0;
    while at < len {
        let piece = (len - at).min(zeroes.len() as u64) as usize;
        file.write_all_at(&zeroes[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::read;

    /// A directory of its own for `test`, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("kontiki-{}-{test}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_made_written_renamed_and_removed() {
        let scratch = Scratch::new("files");
        let mut disk = FileDisk::open(&scratch.0).unwrap();
        let (spare, log) = (FileName::LogSpare(1), FileName::Log(1));
        disk.run(Op::Create { file: spare, len: 3 << 20 }).unwrap();
        let data = Bytes::from_static(b"what was written");
        disk.run(Op::Write { file: spare, offset: 4096, data, durability: Durability::Synced }).unwrap();
        disk.run(Op::Rename { from: spare, to: log }).unwrap();
        assert_eq!(read(&mut disk, log, 4096, 17).unwrap(), &b"what was written\0"[..]);
        disk.run(Op::Sync { file: log }).unwrap();
        fs::write(scratch.0.join("log/notes.txt"), "not ours").unwrap();
        assert_eq!(FileDisk::open(&scratch.0).unwrap().list().unwrap(), [(log, 3 << 20)]);
        disk.run(Op::Remove { file: log }).unwrap();
        assert_eq!(disk.list().unwrap(), []);
    }

    #[test]
    fn what_cannot_be_done_is_said_with_file_and_offset() {
        let scratch = Scratch::new("errors");
        let mut disk = FileDisk::open(&scratch.0).unwrap();
        disk.run(Op::Create { file: FileName::Log(1), len: 4096 }).unwrap();
        disk.run(Op::Create { file: FileName::Log(2), len: 4096 }).unwrap();
        let (one, two) = (FileName::Log(1), FileName::Log(2));
        for (op, kind, word) in [
            (
                Op::Read { file: one, offset: 4000, len: 97, enough: 97 },
                io::ErrorKind::UnexpectedEof,
                "read 97 bytes at 4000",
            ),
            (
                Op::Read { file: one, offset: 0, len: usize::MAX, enough: 1 },
                io::ErrorKind::UnexpectedEof,
                "read",
            ),
            (Op::Create { file: one, len: 1 }, io::ErrorKind::AlreadyExists, "create"),
            (Op::Rename { from: one, to: two }, io::ErrorKind::AlreadyExists, "rename"),
            (Op::Sync { file: FileName::Log(3) }, io::ErrorKind::NotFound, "log/0000000000000003.log"),
        ] {
            let error = disk.run(op.clone()).unwrap_err();
            assert_eq!(error.kind, kind, "{op:?}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
