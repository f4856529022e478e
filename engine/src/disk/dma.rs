//! Log files through glommio: direct IO, several writes in flight, each durable by its own completion.
//!
//! A driver by name. Only the log is written through here: whole blocks at block offsets of zero-written files, which
//! never extend. Everything else goes through [`file`](super::file) on background threads.
//!
//! Two rules of glommio 0.9 shape it: the first direct file a thread opens decides for its device whether completions
//! can be polled, so files are opened for reading and writing and are never empty; and a write that is given
//! up keeps its buffer until it lands, so a write's future is never dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use glommio::io::{DmaFile, OpenOptions};

use super::record::Recorder;
use super::{DiskError, Durability, FileName, Op, Outcome, Output};

/// The log's directory on this executor.
#[derive(Debug)]
pub struct DmaLog {
    directory: PathBuf,
    open: RefCell<BTreeMap<FileName, Rc<DmaFile>>>,
    /// Files are opened with O_DSYNC.
    synced: bool,
    recorder: Option<Recorder>,
}

impl DmaLog {
    /// Log files in `directory`. With `synced`, every write is durable by its completion. A `recorder` notes them.
    pub fn new(directory: PathBuf, synced: bool, recorder: Option<Recorder>) -> DmaLog {
        DmaLog { directory, open: RefCell::default(), synced, recorder }
    }

    /// Carries out a write or a sync of a log file.
    pub async fn run(&self, op: Op) -> Outcome {
        let context = op.to_string();
        let begun = self.recorder.as_ref().map(|recorder| (recorder, recorder.begin(&op)));
        let outcome = match op {
            Op::Write { file, offset, data, durability } => {
                assert_eq!(self.synced, durability == Durability::Synced, "one mode a run: {context}");
                self.write(file, offset, &data).await
            }
            Op::Sync { file } => self.sync(file).await,
            _ => unreachable!("{context} is not for the log's driver"),
        };
        if let Some((recorder, begun)) = begun {
            recorder.end(begun, outcome.is_ok());
        }
        outcome.map(|()| Output::Done).map_err(|error| DiskError::new(context, &error))
    }

    async fn write(&self, file: FileName, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let handle = self.handle(file).await?;
        let mut buffer = handle.alloc_dma_buffer(data.len());
        buffer.as_bytes_mut()[..data.len()].copy_from_slice(data);
        let written = handle.write_at(buffer, offset).await?;
        match written == data.len() {
            true => Ok(()),
            false => Err(std::io::Error::new(
                std::io::ErrorKind::WriteZero,
                format!("{written} of {} bytes were written", data.len()),
            )),
        }
    }

    async fn sync(&self, file: FileName) -> std::io::Result<()> {
        Ok(self.handle(file).await?.fdatasync().await?)
    }

    async fn handle(&self, file: FileName) -> std::io::Result<Rc<DmaFile>> {
        if let Some(handle) = self.open.borrow().get(&file) {
            return Ok(Rc::clone(handle));
        }
        let path = self.directory.join(file.path().file_name().expect("log files have names"));
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self.synced {
            options.custom_flags(libc::O_DSYNC);
        }
        let handle = Rc::new(options.dma_open(path).await?);
        // Two writes may have opened it at once; both go to the same file.
        Ok(Rc::clone(self.open.borrow_mut().entry(file).or_insert(handle)))
    }

    /// The file was renamed or removed; what was open under its name is not it any more.
    pub fn forget(&self, file: FileName) {
        self.open.borrow_mut().remove(&file);
    }
}
