//! A recording of everything a server asks of its disks, for tests that rebuild what a power cut would leave.
//!
//! A test aid: with no recorder nothing here runs. One recorder serves all disks of a process; each operation is
//! noted when it is handed to the system and again when the system is done with it, before anybody else hears of
//! either. So whoever got an answer at a time `t` of the same clock finds everything the answer rests on ended before
//! `t`. Reads are not noted.
//!
//! The file is a row of records, all numbers little-endian:
//!
//! ```text
//! len u32 | kind u8 | at u64 | id u64 | body          len counts what follows it
//!
//! kind 1  begin, body:  what u8 | path | …            1 write:  durable u8 | offset u64 | the bytes
//!                                                     2 sync
//!                                                     3 create: length u64
//!                                                     4 rename: path, the new name
//!                                                     5 remove
//! kind 2  end, body:    ok u8
//! ```
//!
//! `at` is CLOCK_MONOTONIC in nanoseconds, never less than in the record before. `id` pairs the two records of an
//! operation. A path is a u16 length and that many bytes, relative to the data directory. `durable` is 1 if the write
//! is stable by its own end. The last record may be cut short where the process was killed.
#![allow(clippy::disallowed_methods, reason = "a driver: it writes a file and reads the clock")]

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::time::{ClockId, clock_gettime};

use super::{Disk, DiskError, Durability, FileName, Op, Outcome};

const BEGIN: u8 = 1;
const END: u8 = 2;

const WRITE: u8 = 1;
const SYNC: u8 = 2;
const CREATE: u8 = 3;
const RENAME: u8 = 4;
const REMOVE: u8 = 5;

/// Notes operations; clones write to the same file.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Mutex<Recording>>,
}

#[derive(Debug)]
struct Recording {
    file: File,
    next_id: u64,
}

/// An operation that was begun; none for one that leaves the disk as it is.
#[derive(Debug)]
#[must_use = "an operation that never ends may or may not have happened"]
pub struct Begun(Option<u64>);

impl Recorder {
    /// Begins a recording in a new file.
    pub fn create(path: &Path) -> io::Result<Recorder> {
        let file = File::create_new(path)?;
        Ok(Recorder { shared: Arc::new(Mutex::new(Recording { file, next_id: 0 })) })
    }

    /// `op` is about to be handed to the system.
    pub fn begin(&self, op: &Op) -> Begun {
        let mut body = Vec::new();
        match op {
            Op::Read { .. } => return Begun(None),
            Op::Write { file, offset, data, durability } => {
                put_op(&mut body, WRITE, *file);
                body.push(u8::from(*durability == Durability::Synced));
                body.extend(offset.to_le_bytes());
                body.extend(data);
            }
            Op::Sync { file } => put_op(&mut body, SYNC, *file),
            Op::Create { file, len } => {
                put_op(&mut body, CREATE, *file);
                body.extend(len.to_le_bytes());
            }
            Op::Rename { from, to } => {
                put_op(&mut body, RENAME, *from);
                put_path(&mut body, &to.path());
            }
            Op::Remove { file } => put_op(&mut body, REMOVE, *file),
        }
        Begun(Some(self.note(BEGIN, None, &body)))
    }

    /// A file that is not the cores' is about to be renamed.
    pub fn begin_rename(&self, from: &Path, to: &Path) -> Begun {
        let mut body = vec![RENAME];
        put_path(&mut body, from);
        put_path(&mut body, to);
        Begun(Some(self.note(BEGIN, None, &body)))
    }

    /// The system is done with it.
    pub fn end(&self, begun: Begun, ok: bool) {
        if let Begun(Some(id)) = begun {
            self.note(END, Some(id), &[u8::from(ok)]);
        }
    }

    /// Appends a record, with the id of the operation or a new one; returns it.
    fn note(&self, kind: u8, id: Option<u64>, body: &[u8]) -> u64 {
        let mut recording = self.shared.lock().expect("nobody panics with it");
        let id = id.unwrap_or_else(|| {
            recording.next_id += 1;
            recording.next_id
        });
        // Looked at inside the lock, so that records are in the order of their times.
        let at = monotonic_ns();
        let len = size_of_val(&kind) + size_of_val(&at) + size_of_val(&id) + body.len();
        let mut record = Vec::with_capacity(size_of::<u32>() + len);
        record.extend(u32::try_from(len).expect("no operation has 4 GiB").to_le_bytes());
        record.push(kind);
        record.extend(at.to_le_bytes());
        record.extend(id.to_le_bytes());
        record.extend(body);
        recording.file.write_all(&record).expect("a recording with gaps proves nothing");
        id
    }
}

fn put_op(body: &mut Vec<u8>, what: u8, file: FileName) {
    body.push(what);
    put_path(body, &file.path());
}

fn put_path(body: &mut Vec<u8>, path: &Path) {
    let bytes = path.as_os_str().as_encoded_bytes();
    body.extend(u16::try_from(bytes.len()).expect("names of ours are short").to_le_bytes());
    body.extend(bytes);
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A disk whose operations are noted.
#[derive(Debug)]
pub struct Recorded<D> {
    disk: D,
    recorder: Recorder,
}

impl<D: Disk> Recorded<D> {
    /// Notes what `disk` does.
    pub fn new(disk: D, recorder: Recorder) -> Recorded<D> {
        Recorded { disk, recorder }
    }
}

impl<D: Disk> Disk for Recorded<D> {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        self.disk.list()
    }

    fn run(&mut self, op: Op) -> Outcome {
        let begun = self.recorder.begin(&op);
        let outcome = self.disk.run(op);
        self.recorder.end(begun, outcome.is_ok());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::disk::mem::MemDisk;

    /// Kind, id and body of each record.
    fn records(mut bytes: &[u8]) -> Vec<(u8, u64, Vec<u8>)> {
        let (mut found, mut last) = (Vec::new(), 0);
        while let Some((len, rest)) = bytes.split_first_chunk() {
            let (record, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
            let number = |at: usize| u64::from_le_bytes(*record[at..].first_chunk().unwrap());
            assert!(number(1) >= last, "time goes back");
            last = number(1);
            found.push((record[0], number(9), record[17..].to_vec()));
            bytes = rest;
        }
        found
    }

    #[test]
    fn operations_are_noted_when_they_begin_and_when_they_end() {
        let path = std::env::temp_dir().join(format!("kontiki-record-{}", std::process::id()));
        let recorder = Recorder::create(&path).unwrap();
        assert!(Recorder::create(&path).is_err(), "a recording is never written over");
        let mut disk = Recorded::new(MemDisk::new(), recorder.clone());
        let (file, to) = (FileName::LogSpare(1), FileName::Log(2));
        disk.run(Op::Create { file, len: 4096 }).unwrap();
        let data = Bytes::from_static(b"abc");
        disk.run(Op::Write { file, offset: 7, data, durability: Durability::Cached }).unwrap();
        disk.run(Op::Read { file, offset: 7, len: 3, enough: 3 }).unwrap();
        disk.run(Op::Rename { from: file, to }).unwrap();
        disk.run(Op::Remove { file }).unwrap_err();
        recorder.end(recorder.begin_rename("a".as_ref(), "b".as_ref()), true);
        let found = records(&std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();

        let (spare, log) = (b"\x1a\0log/0000000000000001.spare", b"\x18\0log/0000000000000002.log");
        let bodies: [Vec<u8>; 5] = [
            [&[CREATE], &spare[..], &4096_u64.to_le_bytes()].concat(),
            [&[WRITE], &spare[..], &[0], &7_u64.to_le_bytes(), b"abc"].concat(),
            [&[RENAME], &spare[..], log].concat(),
            [&[REMOVE], &spare[..]].concat(),
            b"\x04\x01\0a\x01\0b".to_vec(),
        ];
        let expected = bodies
            .into_iter()
            .zip(1..)
            .flat_map(|(body, id)| [(BEGIN, id, body), (END, id, vec![u8::from(id != 4)])]);
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}
