//! How long until a write is durable: by `O_DSYNC`, and by a write with `fdatasync` after it?
//!
//! Both are timed in turns on one file that is written beforehand, as log segments are, while every other CPU
//! is kept busy: on a quiet host `O_DSYNC` looks better than it will be under load.
//!
//! The writes here block, so what an asynchronous `O_DSYNC` write pays for its detour through a kernel worker
//! is not in the numbers. A driver that can time its own writes should, and give the result to
//! [`log_mode`](crate::profile::log_mode) all the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::direct::{AlignedBuf, scratch};

/// A log block of the smallest size.
const BLOCK_BYTES: usize = 4096;

/// The file's size; turns go round in it.
const BLOCKS: u64 = 64;

/// Each way is timed at least so often, however slow the disk.
const SAMPLES_MIN: usize = 5;

/// And never more often: enough for a median.
const SAMPLES_MAX: usize = 1000;

/// Median times of one durable write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushTimes {
    /// One `O_DSYNC` write.
    pub dsync: Duration,
    /// A write and an `fdatasync`.
    pub fdatasync: Duration,
    /// How often each was timed.
    pub samples: usize,
}

/// Times both in `dir` for about `budget`, with the CPUs but one busy. Blocks; the file is unlinked at once.
pub fn measure(dir: &Path, budget: Duration) -> io::Result<FlushTimes> {
    let path = scratch(dir);
    let opened = open_both(&path);
    let removed = std::fs::remove_file(&path);
    let (dsync, plain) = opened?;
    removed?;
    let buf = AlignedBuf::new(BLOCK_BYTES, BLOCK_BYTES);
    for block in 0..BLOCKS {
        plain.write_all_at(buf.as_slice(), block * BLOCK_BYTES as u64)?;
    }
    plain.sync_all()?;
    with_busy_cpus(|| time_in_turns(&dsync, &plain, &buf, budget))
}

fn open_both(path: &Path) -> io::Result<(File, File)> {
    let open = |flags: OFlags, create: bool| {
        let flags = (flags | OFlags::DIRECT).bits() as i32;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(create)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
    };
    let plain = open(OFlags::empty(), true)?;
    Ok((open(OFlags::DSYNC, false)?, plain))
}

fn time_in_turns(dsync: &File, plain: &File, buf: &AlignedBuf, budget: Duration) -> io::Result<FlushTimes> {
    let (mut by_dsync, mut by_fdatasync) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut block = 0;
    while by_dsync.len() < SAMPLES_MIN || (begun.elapsed() < budget && by_dsync.len() < SAMPLES_MAX) {
        let at = block % BLOCKS * BLOCK_BYTES as u64;
        block += 1;
        by_dsync.push(timed(|| dsync.write_all_at(buf.as_slice(), at))?);
        by_fdatasync.push(timed(|| {
            plain.write_all_at(buf.as_slice(), at)?;
            plain.sync_data()
        })?);
    }
    let samples = by_dsync.len();
    Ok(FlushTimes { dsync: median(by_dsync), fdatasync: median(by_fdatasync), samples })
}

fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let begun = Instant::now();
    work().map(|()| begun.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Runs `work` while a thread spins for each CPU but one.
fn with_busy_cpus<T>(work: impl FnOnce() -> T) -> T {
    let others = std::thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // Dropped at the end of `work` even if that is a panic: the threads must not outlive it.
        let _stop = StopOnDrop(&stop);
        work()
    })
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_is_the_median() {
        for (times, middle) in [(&[3u64] as &[u64], 3), (&[9, 1, 5], 5), (&[4, 1, 2, 3], 3)] {
            let times = times.iter().map(|ms| Duration::from_millis(*ms)).collect();
            assert_eq!(median(times), Duration::from_millis(middle));
        }
    }

    #[test]
    fn both_ways_are_timed_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        // Where direct IO is not to be had there is nothing to time.
        if let Ok(times) = measure(dir.path(), Duration::from_millis(1)) {
            assert!(times.samples >= SAMPLES_MIN);
            assert!(!times.dsync.is_zero() && !times.fdatasync.is_zero());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
