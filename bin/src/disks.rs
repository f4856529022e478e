//! How the state core's disk operations are carried out: log blocks by the driver of this run, all else by blocking calls
//! on background threads.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::disk::dma::DmaLog;
use engine::disk::file::FileDisk;
use engine::disk::record::{Recorded, Recorder};
use engine::disk::thread::LogThread;
use engine::disk::{Disk, DiskError, FileName, Op, Outcome};
use tokio::sync::oneshot;

/// How log blocks are written.
pub enum LogFiles {
    /// On the ring.
    Ring(Rc<DmaLog>),
    /// By a thread.
    Thread(LogThread),
}

impl LogFiles {
    /// Carries out a write or a sync of a log file. A thread is handed it before this returns, the ring by the first
    /// poll.
    pub(crate) fn run(&self, op: Op) -> impl Future<Output = Outcome> + use<> {
        let running = match self {
            LogFiles::Ring(files) => Running::Ring(Rc::clone(files), op),
            LogFiles::Thread(thread) => {
                let (tell, told) = oneshot::channel();
                // Nobody waits any more only when the process ends.
                thread.submit(op, Box::new(move |outcome| drop(tell.send(outcome))));
                Running::Thread(told)
            }
        };
        async move {
            match running {
                Running::Ring(files, op) => files.run(op).await,
                Running::Thread(told) => {
                    told.await.expect("the log's thread tells how every operation ended")
                }
            }
        }
    }

    /// The file is about to be renamed or removed.
    pub(crate) fn forget(&self, file: FileName) {
        match self {
            LogFiles::Ring(files) => files.forget(file),
            LogFiles::Thread(thread) => thread.forget(file),
        }
    }
}

/// An operation of the log under way.
enum Running {
    Ring(Rc<DmaLog>, Op),
    Thread(oneshot::Receiver<Outcome>),
}

/// Blocking disks for background threads, one in use by each.
#[derive(Clone)]
pub struct Disks {
    root: PathBuf,
    log: PathBuf,
    recorder: Option<Recorder>,
    stall: Duration,
    idle: Arc<Mutex<Vec<Box<dyn Disk + Send>>>>,
}

impl Disks {
    /// Disks of the data directory `root`, whose log lies in `log`. A `recorder` notes what they do, and each
    /// read waits for `stall` first; both are for tests.
    pub fn new(root: PathBuf, log: PathBuf, recorder: Option<Recorder>, stall: Duration) -> Disks {
        Disks { root, log, recorder, stall, idle: Arc::default() }
    }

    /// One more disk.
    pub fn open(&self) -> Result<Box<dyn Disk + Send>, DiskError> {
        let disk = FileDisk::with_log(&self.root, &self.log)?;
        Ok(match &self.recorder {
            Some(recorder) => Box::new(Recorded::new(disk, recorder.clone())),
            None => Box::new(disk),
        })
    }

    /// Does `work` with a disk that nobody else uses meanwhile. Blocks.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut dyn Disk) -> T) -> T {
        let idle = self.idle.lock().expect("nobody panics with it").pop();
        let mut disk = idle.unwrap_or_else(|| self.open().expect("the data directory was opened before"));
        let outcome = work(&mut *disk);
        self.idle.lock().expect("nobody panics with it").push(disk);
        outcome
    }

    /// The data directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What a cold read waits for before it goes to the disk.
    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }
}
