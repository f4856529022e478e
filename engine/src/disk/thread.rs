//! Log files through a thread of its own, with plain system calls: for hosts that refuse io_uring.
//!
//! A driver by name. It stands where [`dma`](super::dma) stands and keeps the same promise: a block's completion means
//! that the block is durable. Blocks are taken in order; whatever waits when the thread looks is a group: its writes
//! go first, those that touch as one, and then one `fdatasync` a file, *issued after they completed*. Only then does
//! any of the group complete. So while one group is on its way to the disk the next one gathers, as in a database's
//! group commit.
//!
//! Writes bypass the page cache where the file system takes direct IO. Where it does not, a failed sync leaves pages
//! in the cache that say they are clean; the log is never read again by the process that wrote it, and after the
//! first failure nothing more is written or synced here.
#![allow(clippy::disallowed_methods, reason = "this is the driver that opens log files and has a thread")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;

use super::record::Recorder;
use super::{BLOCK_SIZE, DiskError, Durability, FileName, Op, Outcome, Output};

/// A group takes no further block beyond this many bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// How files are opened and what makes a block durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Open with O_DSYNC; else `fdatasync` follows the writes of a group.
    pub dsync: bool,
    /// Open with O_DIRECT.
    pub direct: bool,
}

/// Hears of the end of an operation, on the log's thread.
pub type Done = Box<dyn FnOnce(Outcome) + Send>;

/// The log's directory, and the thread that writes there. The thread ends when this is dropped and all is done.
#[derive(Debug)]
pub struct LogThread {
    jobs: Sender<Job>,
}

enum Job {
    Run(Op, Done),
    Forget(FileName),
}

impl LogThread {
    /// Starts the thread, which may run wherever the caller may. A `recorder` notes what it does.
    pub fn start(directory: PathBuf, mode: Mode, recorder: Option<Recorder>) -> io::Result<LogThread> {
        let (jobs, waiting) = channel();
        let mut writer =
            Writer { directory, mode, recorder, open: BTreeMap::new(), buffer: Vec::new(), failed: None };
        std::thread::Builder::new().name("log".into()).spawn(move || writer.serve(&waiting))?;
        Ok(LogThread { jobs })
    }

    /// Hands over a write or a sync of a log file; `done` hears how it ended. Never blocks. Who calls bounds what is
    /// under way.
    pub fn submit(&self, op: Op, done: Done) {
        self.send(Job::Run(op, done));
    }

    /// The file was renamed or removed, or is about to be; what is open under its name is not it any more.
    pub fn forget(&self, file: FileName) {
        self.send(Job::Forget(file));
    }

    fn send(&self, job: Job) {
        assert!(self.jobs.send(job).is_ok(), "the log's thread ended");
    }
}

/// What the thread owns.
struct Writer {
    directory: PathBuf,
    mode: Mode,
    recorder: Option<Recorder>,
    open: BTreeMap<FileName, File>,
    /// Direct writes want aligned memory in one piece: what is not is copied here.
    buffer: Vec<u8>,
    /// The first failure; everything after it fails alike.
    failed: Option<DiskError>,
}

/// A row of bytes that goes to the disk in one call.
struct Run {
    file: FileName,
    offset: u64,
    pieces: Vec<Bytes>,
}

impl Writer {
    fn serve(&mut self, waiting: &Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            let (mut group, mut bytes) = (Vec::new(), 0);
            let mut next = Some(job);
            while let Some(job) = next {
                match job {
                    Job::Run(op, done) => {
                        bytes += if let Op::Write { data, .. } = &op { data.len() } else { 0 };
                        group.push((op, done));
                    }
                    Job::Forget(file) => {
                        // What was asked before is done before.
                        self.run_group(std::mem::take(&mut group));
                        self.open.remove(&file);
                    }
                }
                next = (bytes < GROUP_BYTES_MAX).then(|| waiting.try_recv().ok()).flatten();
            }
            self.run_group(group);
        }
    }

    fn run_group(&mut self, group: Vec<(Op, Done)>) {
        if group.is_empty() {
            return;
        }
        let (ops, dones): (Vec<Op>, Vec<Done>) = group.into_iter().unzip();
        if self.failed.is_none() {
            let recorder = self.recorder.clone();
            let begun: Vec<_> =
                recorder.iter().flat_map(|recorder| ops.iter().map(|op| recorder.begin(op))).collect();
            self.failed = self.carry_out(&ops).err();
            if let Some(recorder) = recorder {
                begun.into_iter().for_each(|begun| recorder.end(begun, self.failed.is_none()));
            }
        }
        // The log uses the memory of a block again, if nobody else holds it by then.
        drop(ops);
        for done in dones {
            done(self.failed.clone().map_or(Ok(Output::Done), Err));
        }
    }

    /// All writes, then all syncs. Which of them are durable is not known after an error.
    fn carry_out(&mut self, ops: &[Op]) -> Result<(), DiskError> {
        let needs_sync = |durability| durability == Durability::Synced && !self.mode.dsync;
        let unsynced: BTreeSet<FileName> = ops
            .iter()
            .filter_map(|op| match *op {
                Op::Write { file, durability, .. } => needs_sync(durability).then_some(file),
                Op::Sync { file } => Some(file),
                _ => unreachable!("{op} is not for the log's driver"),
            })
            .collect();
        for run in runs(ops) {
            let context = format!("write {} bytes at {} of {}", run.len(), run.offset, run.file);
            self.write(&run).map_err(|error| DiskError::new(context, &error))?;
        }
        for file in unsynced {
            let synced = self.handle(file).and_then(File::sync_data);
            synced.map_err(|error| DiskError::new(format!("sync {file}"), &error))?;
        }
        Ok(())
    }

    fn write(&mut self, run: &Run) -> io::Result<()> {
        if let [piece] = &run.pieces[..]
            && piece.as_ptr().align_offset(BLOCK_SIZE) == 0
        {
            return self.handle(run.file)?.write_all_at(piece, run.offset);
        }
        let len = run.len();
        if self.buffer.len() < len + BLOCK_SIZE {
            self.buffer = vec![0; len + BLOCK_SIZE];
        }
        let start = self.buffer.as_ptr().align_offset(BLOCK_SIZE);
        let mut at = start;
        for piece in &run.pieces {
            self.buffer[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        self.handle(run.file)?;
        self.open[&run.file].write_all_at(&self.buffer[start..at], run.offset)
    }

    fn handle(&mut self, file: FileName) -> io::Result<&File> {
        if !self.open.contains_key(&file) {
            let path = self.directory.join(file.path().file_name().expect("log files have names"));
            let flags = [(self.mode.dsync, libc::O_DSYNC), (self.mode.direct, libc::O_DIRECT)];
            let flags = flags.into_iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, flag)| all | flag);
            let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
            self.open.insert(file, opened);
        }
        Ok(&self.open[&file])
    }
}

impl Run {
    fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn end(&self) -> u64 {
        self.offset + self.len() as u64
    }
}

/// The writes among `ops`, in order; what touches the write before it goes with it.
fn runs(ops: &[Op]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for op in ops {
        let Op::Write { file, offset, data, .. } = op else { continue };
        match runs.last_mut().filter(|last| last.file == *file && last.end() == *offset) {
            Some(last) => last.pieces.push(data.clone()),
            None => runs.push(Run { file: *file, offset: *offset, pieces: vec![data.clone()] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::file::FileDisk;
    use crate::disk::{Disk, read};

    const LOG: FileName = FileName::Log(1);

    /// A data directory with one zeroed log file, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("kontiki-thread-{}-{test}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            FileDisk::open(&path).unwrap().run(Op::Create { file: LOG, len: 1 << 20 }).unwrap();
            Scratch(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("log")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn write(file: FileName, block: u64, byte: u8) -> Op {
        let data = Bytes::from(vec![byte; BLOCK_SIZE]);
        Op::Write { file, offset: block * BLOCK_SIZE as u64, data, durability: Durability::Synced }
    }

    /// Runs `ops` and gives how each ended, in the order in which they ended.
    fn run(log: &LogThread, ops: Vec<Op>) -> Vec<(usize, Outcome)> {
        let (send, ends) = channel();
        for (at, op) in ops.into_iter().enumerate() {
            let send = send.clone();
            log.submit(op, Box::new(move |outcome| send.send((at, outcome)).unwrap()));
        }
        drop(send);
        ends.iter().collect()
    }

    /// Direct IO where the temporary files lie on something that takes it.
    fn modes(directory: &Path) -> Vec<Mode> {
        let path = directory.join(LOG.path().file_name().unwrap());
        let takes_direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).is_ok();
        let direct = [Some(false), takes_direct.then_some(true)];
        let both = |direct| [false, true].map(|dsync| Mode { dsync, direct });
        direct.into_iter().flatten().flat_map(both).collect()
    }

    #[test]
    fn blocks_complete_in_order_and_are_there() {
        let scratch = Scratch::new("order");
        for mode in modes(&scratch.log()) {
            let log = LogThread::start(scratch.log(), mode, None).unwrap();
            // Rows that touch, one that does not, one that is written again.
            let blocks = [0, 1, 2, 9, 10, 4, 4];
            let ops = blocks.iter().zip(1..).map(|(block, byte)| write(LOG, *block, byte)).collect();
            let ends = run(&log, ops);
            assert_eq!(ends, (0..blocks.len()).map(|at| (at, Ok(Output::Done))).collect::<Vec<_>>());
            let mut disk = FileDisk::open(&scratch.0).unwrap();
            for (block, byte) in [(0, 1), (1, 2), (2, 3), (3, 0), (4, 7), (9, 4), (10, 5)] {
                let found = read(&mut disk, LOG, block * BLOCK_SIZE as u64, BLOCK_SIZE).unwrap();
                assert!(found.iter().all(|found| *found == byte), "block {block}, {mode:?}");
            }
        }
    }

    #[test]
    fn what_touches_goes_as_one() {
        let other = FileName::Log(2);
        let ops =
            [write(LOG, 0, 1), write(LOG, 1, 2), write(other, 2, 3), write(LOG, 2, 4), write(LOG, 4, 5)];
        let found: Vec<_> = runs(&ops).iter().map(|run| (run.file, run.offset, run.pieces.len())).collect();
        let block = BLOCK_SIZE as u64;
        let expected = [(LOG, 0, 2), (other, 2 * block, 1), (LOG, 2 * block, 1), (LOG, 4 * block, 1)];
        assert_eq!(found, expected);
    }

    #[test]
    fn after_a_failure_nothing_is_written() {
        let scratch = Scratch::new("failure");
        let log = LogThread::start(scratch.log(), Mode { dsync: false, direct: false }, None).unwrap();
        assert!(run(&log, vec![write(LOG, 0, 1)])[0].1.is_ok());
        let missing = FileName::Log(7);
        let error = run(&log, vec![write(missing, 0, 1)]).remove(0).1.unwrap_err();
        assert_eq!(error.kind, io::ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("write 4096 bytes at 0 of log/0000000000000007.log"), "{error}");
        assert_eq!(run(&log, vec![write(LOG, 1, 2), Op::Sync { file: LOG }]).remove(1).1, Err(error));
        let found = read(&mut FileDisk::open(&scratch.0).unwrap(), LOG, BLOCK_SIZE as u64, 1).unwrap();
        assert_eq!(found[0], 0);
    }

    #[test]
    fn a_renamed_file_is_opened_anew() {
        let scratch = Scratch::new("forget");
        let log = LogThread::start(scratch.log(), Mode { dsync: false, direct: false }, None).unwrap();
        run(&log, vec![write(LOG, 0, 1)]);
        let mut disk = FileDisk::open(&scratch.0).unwrap();
        let renamed = FileName::Log(2);
        log.forget(LOG);
        disk.run(Op::Rename { from: LOG, to: renamed }).unwrap();
        disk.run(Op::Create { file: LOG, len: 1 << 20 }).unwrap();
        run(&log, vec![write(LOG, 0, 2), write(renamed, 1, 3)]);
        let first =
            |disk: &mut FileDisk, file, block| read(disk, file, block * BLOCK_SIZE as u64, 1).unwrap()[0];
        assert_eq!(
            [first(&mut disk, LOG, 0), first(&mut disk, renamed, 0), first(&mut disk, renamed, 1)],
            [2, 1, 3]
        );
    }
}
