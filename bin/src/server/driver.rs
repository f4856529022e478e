//! Which driver carries this run, and what becomes of the log by it.
//!
//! io_uring where the host allows it, the portable driver where not; a flag may insist on either. Falling back is said
//! in a warning that names what is in the way, what it costs, and what helps.

use std::rc::Rc;

use engine::disk::dma::DmaLog;
use engine::disk::record::Recorder;
use engine::disk::thread::{self, LogThread};
use engine::wal;
use tuning::profile::{self, Driver, Profile};

use super::refuse;
use crate::config::{Config, LogMode};
use crate::datadir::DataDir;
use crate::disks::LogFiles;
use crate::flags::Failure;
use crate::logging::Logger;
use crate::runtime::Runtime;

/// Blocks in flight.
const DEPTH: usize = 4;

/// What the warning says is lost without io_uring.
const LOST: &str =
    "the log goes to the disk one write at a time instead of four, so there are fewer puts a second";

/// Where the warning points.
const CURE: &str = "tuning/host/seccomp.json for containers, tuning/host/kontiki.service for systemd, docs/drivers.md \
                    for both; --kontiki-driver=portable says that this is meant";

/// What was chosen for this run.
pub(super) struct Choice {
    pub(super) runtime: Runtime,
    pub(super) profile: Profile,
    /// Never `Auto`.
    log_mode: LogMode,
}

impl Choice {
    /// Asks the host, and warns of what it refuses.
    pub(super) fn make(config: &Config, dir: &DataDir, log: &Logger) -> Result<Choice, Failure> {
        let host = profile::Host::probe(dir.log_dir());
        let profile = profile::decide(&host, config.driver)
            .map_err(|obstacle| refuse(format!("--kontiki-driver=io_uring: {obstacle}")))?;
        let reason = &profile.driver.reason;
        if profile.driver.value == Driver::Portable && config.driver.is_none() {
            log.warn(
                "io_uring cannot be used; the portable driver takes its place",
                &[("reason", reason), ("lost", &LOST), ("cure", &CURE)],
            );
        }
        if !profile.direct_io.value {
            log.warn("the log is written through the page cache", &[("reason", &profile.direct_io.reason)]);
        }
        let log_mode = match (config.log_mode, profile.log_mode.value) {
            (LogMode::Auto, profile::LogMode::Dsync) => LogMode::Dsync,
            (LogMode::Auto, profile::LogMode::Fdatasync) => LogMode::Fdatasync,
            (chosen, _) => chosen,
        };
        let runtime = match profile.driver.value {
            Driver::Ring => Runtime::Ring,
            Driver::Portable => Runtime::Portable,
        };
        Ok(Choice { runtime, profile, log_mode })
    }

    /// How the log is told that a block is durable.
    pub(super) fn wal_mode(&self, config: &Config) -> wal::Mode {
        match (self.runtime, self.log_mode) {
            _ if config.unsafe_no_fsync => wal::Mode::NoFsync { depth: DEPTH },
            // The thread syncs before it reports a write, in either of its ways.
            (Runtime::Portable, _) => wal::Mode::Dsync { depth: DEPTH },
            (Runtime::Ring, LogMode::Fdatasync) => wal::Mode::Fdatasync,
            (Runtime::Ring, LogMode::Auto | LogMode::Dsync) => wal::Mode::Dsync { depth: DEPTH },
        }
    }

    /// Opens the way to the log's files. Called off the executor: a thread begins where its maker may run.
    pub(super) fn log_files(
        &self,
        config: &Config,
        dir: &DataDir,
        recorder: Option<Recorder>,
    ) -> Result<LogFiles, Failure> {
        let directory = dir.log_dir().to_owned();
        let dsync = !config.unsafe_no_fsync && self.log_mode != LogMode::Fdatasync;
        Ok(match self.runtime {
            Runtime::Ring => LogFiles::Ring(Rc::new(DmaLog::new(directory, dsync, recorder))),
            Runtime::Portable => {
                let mode = thread::Mode { dsync, direct: self.profile.direct_io.value };
                let started = LogThread::start(directory, mode, recorder);
                LogFiles::Thread(started.map_err(|error| refuse(format!("no thread for the log: {error}")))?)
            }
        })
    }
}
