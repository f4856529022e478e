//! From answers to settings, each with its reason.
//!
//! [`Host`] is what was found, [`Profile`] what follows; [`decide`] is the only thing between them and asks
//! nothing of the host itself, so that a profile can be thought through for any machine. The numbers behind
//! the rules were measured; they stand beside the constants.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::Obstacle;
use crate::probe::cpus::{self, DiskInterrupt};
use crate::probe::flush::{self, FlushTimes};
use crate::probe::{direct, limits, ring};

/// `O_DSYNC` writes in flight: 2.9k, 28k, 325k records/s for 1, 10, 100 clients at 4, and less at 1 and at 8.
const DSYNC_DEPTH: usize = 4;

/// `fdatasync` covers writes that completed before it, so a second one in flight gains nothing.
const FDATASYNC_DEPTH: usize = 1;

/// `O_DSYNC` may be slower by this factor and still wins, because several run at once.
const DSYNC_SLOWER_MAX: f64 = 1.5;

/// Below so many CPUs one executor does everything: a hop between parked cores costs 80 to 230 us, a put a
/// few.
const CPUS_FOR_FRONTS: usize = 4;

/// More connection cores than this have nothing to do before the state core is full.
const EXECUTORS_MAX: usize = 8;

/// Entries of a ring; deeper ones were not faster.
const RING_DEPTH: usize = 128;

/// Memory of an executor's buffers, and what the runtime locks of it.
const IO_MEMORY_BYTES: u64 = 1024 * 1024;
const IO_MEMORY_BYTES_MIN: u64 = 512 * 1024;
const LOCKED_PER_IO_MEMORY: u64 = 3;

/// How long the disk is timed: a fifth of what a first start may take, and some 60 samples of each kind on an NVMe disk.
const FLUSH_BUDGET: Duration = Duration::from_millis(20);

/// What was found.
#[derive(Clone, Debug)]
pub struct Host {
    /// Whether io_uring may be used.
    pub ring: Result<(), Obstacle>,
    /// Bytes that may be locked; `None` is no limit.
    pub memlock_bytes: Option<u64>,
    /// Files that may be open; `None` is no limit.
    pub open_files: Option<u64>,
    /// Unit of direct IO in the log's directory, bytes.
    pub direct_unit: Result<usize, Obstacle>,
    /// CPUs this process may run on.
    pub cpus: Vec<usize>,
    /// Where the log disk's completions arrive.
    pub disk_interrupt: Option<DiskInterrupt>,
    /// How long durable writes take; `None` when they were not or could not be timed.
    pub flush: Option<FlushTimes>,
}

impl Host {
    /// Asks everything, about `log_dir` (which must exist) where it is about a disk. Blocks for about 20 ms.
    pub fn probe(log_dir: &Path) -> Host {
        let direct_unit = direct::unit(log_dir);
        Host {
            ring: ring::allowed(),
            memlock_bytes: limits::memlock_bytes(),
            open_files: limits::open_files(),
            cpus: cpus::allowed(),
            disk_interrupt: cpus::disk_interrupt(log_dir),
            flush: direct_unit.is_ok().then(|| flush::measure(log_dir, FLUSH_BUDGET).ok()).flatten(),
            direct_unit,
        }
    }

    /// What is in the way of io_uring and direct IO; empty when nothing is.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let answers = [
            self.ring.clone(),
            limits::check_memlock(self.memlock_bytes),
            limits::check_open_files(self.open_files),
            self.direct_unit.clone().map(drop),
        ];
        answers.into_iter().filter_map(Result::err).collect()
    }
}

/// A setting and why it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<T> {
    /// The setting.
    pub value: T,
    /// The reason, for a log line.
    pub reason: String,
}

impl<T> Choice<T> {
    fn new(value: T, reason: impl Into<String>) -> Choice<T> {
        Choice { value, reason: reason.into() }
    }
}

/// How a log block becomes durable. One way for a whole run: mixing lost at every load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogMode {
    /// `O_DSYNC` writes, several in flight.
    Dsync,
    /// One write, then `fdatasync`.
    Fdatasync,
}

impl LogMode {
    /// Writes that may be in flight.
    pub fn depth(self) -> usize {
        match self {
            LogMode::Dsync => DSYNC_DEPTH,
            LogMode::Fdatasync => FDATASYNC_DEPTH,
        }
    }
}

impl fmt::Display for LogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogMode::Dsync => "dsync",
            LogMode::Fdatasync => "fdatasync",
        })
    }
}

/// Which driver carries files and sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring with direct IO.
    Ring,
    /// epoll and a log thread, where io_uring or direct IO is not to be had.
    Portable,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Ring => "io_uring",
            Driver::Portable => "portable",
        })
    }
}

/// Settings for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The driver.
    pub driver: Choice<Driver>,
    /// Executors, the state core included.
    pub executors: Choice<usize>,
    /// CPU to pin the state core to.
    pub state_cpu: Choice<Option<usize>>,
    /// How the log becomes durable.
    pub log_mode: Choice<LogMode>,
    /// Whether the log bypasses the page cache.
    pub direct_io: Choice<bool>,
    /// Entries of each executor's ring.
    pub ring_depth: Choice<usize>,
    /// Bytes of each executor's IO buffers.
    pub io_memory_bytes: Choice<usize>,
}

/// What follows from `host`, and from the driver that somebody wishes for. Without a wish it is io_uring if that works.
///
/// Errors: io_uring is wished for and something is in its way.
pub fn decide(host: &Host, wish: Option<Driver>) -> Result<Profile, Obstacle> {
    let driver = driver(host, wish)?;
    let executors = executors(&host.cpus);
    Ok(Profile {
        state_cpu: state_cpu(&host.cpus, host.disk_interrupt),
        log_mode: log_mode(driver.value, host.flush),
        direct_io: match &host.direct_unit {
            Ok(unit) => Choice::new(true, format!("it works in units of {unit} bytes")),
            Err(obstacle) => Choice::new(false, obstacle.0.clone()),
        },
        ring_depth: Choice::new(RING_DEPTH, "measured: deeper rings are not faster"),
        io_memory_bytes: io_memory(host.memlock_bytes, executors.value),
        executors,
        driver,
    })
}

fn driver(host: &Host, wish: Option<Driver>) -> Result<Choice<Driver>, Obstacle> {
    let answers =
        [host.ring.clone(), limits::check_memlock(host.memlock_bytes), host.direct_unit.clone().map(drop)];
    match (wish, answers.into_iter().find_map(Result::err)) {
        (Some(Driver::Portable), _) => Ok(Choice::new(Driver::Portable, "it was asked for")),
        (Some(Driver::Ring), Some(obstacle)) => Err(obstacle),
        (None, Some(obstacle)) => Ok(Choice::new(Driver::Portable, obstacle.0)),
        (_, None) => Ok(Choice::new(Driver::Ring, "io_uring and direct IO work here")),
    }
}

fn executors(cpus: &[usize]) -> Choice<usize> {
    match cpus.len() {
        count if count < CPUS_FOR_FRONTS => {
            Choice::new(1, format!("{count} CPUs: a hop between cores would cost more than a request"))
        }
        // One CPU is left to interrupts, the log's kernel workers and background threads.
        count => Choice::new((count - 1).min(EXECUTORS_MAX), format!("{count} CPUs, one left to the system")),
    }
}

fn state_cpu(cpus: &[usize], interrupt: Option<DiskInterrupt>) -> Choice<Option<usize>> {
    match interrupt {
        None => Choice::new(None, "it is not known which CPU hears from the disk"),
        Some(disk) if disk.queues >= cpus.len() && cpus.len() > 1 => {
            Choice::new(None, format!("the disk has {} queues and tells each CPU itself", disk.queues))
        }
        Some(disk) if !cpus.contains(&disk.cpu) => Choice::new(
            None,
            format!("CPU {} hears from the disk, but this process may not run there", disk.cpu),
        ),
        Some(disk) => Choice::new(Some(disk.cpu), format!("CPU {} hears from the disk", disk.cpu)),
    }
}

/// `O_DSYNC`, unless it was found slower: on the ring clearly slower, on a thread, which does one thing at a time,
/// slower at all.
pub fn log_mode(driver: Driver, times: Option<FlushTimes>) -> Choice<LogMode> {
    let Some(FlushTimes { dsync, fdatasync, samples }) = times else {
        return Choice::new(LogMode::Dsync, "the disk was not timed");
    };
    let slower_max = if driver == Driver::Ring { DSYNC_SLOWER_MAX } else { 1.0 };
    let is_slower = dsync.as_secs_f64() > slower_max * fdatasync.as_secs_f64();
    let mode = if is_slower { LogMode::Fdatasync } else { LogMode::Dsync };
    Choice::new(
        mode,
        format!("O_DSYNC {dsync:.0?}, write and fdatasync {fdatasync:.0?} (median of {samples})"),
    )
}

fn io_memory(memlock_bytes: Option<u64>, executors: usize) -> Choice<usize> {
    let wanted = LOCKED_PER_IO_MEMORY * IO_MEMORY_BYTES * executors as u64;
    match memlock_bytes {
        Some(limit) if limit < wanted => Choice::new(
            IO_MEMORY_BYTES_MIN as usize,
            format!("{} KiB may be locked, and {} would be more", limit / 1024, wanted / 1024),
        ),
        _ => Choice::new(IO_MEMORY_BYTES as usize, "the limit of locked memory allows it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            ring: Ok(()),
            memlock_bytes: Some(8 << 20),
            open_files: Some(1024),
            direct_unit: Ok(512),
            cpus: vec![0, 1],
            disk_interrupt: Some(DiskInterrupt { cpu: 1, queues: 1 }),
            flush: None,
        }
    }

    #[test]
    fn a_small_host() {
        let profile = decide(&host(), None).unwrap();
        assert_eq!(profile.driver.value, Driver::Ring);
        assert_eq!(profile.executors.value, 1);
        assert_eq!(profile.state_cpu.value, Some(1));
        assert_eq!(profile.log_mode.value, LogMode::Dsync);
        assert_eq!(profile.io_memory_bytes.value, 1 << 20);
        assert_eq!(host().obstacles(), []);
    }

    #[test]
    fn executors_follow_the_cpus() {
        for (cpus, executors) in [(1, 1), (3, 1), (4, 3), (8, 7), (64, 8)] {
            assert_eq!(
                decide(&Host { cpus: (0..cpus).collect(), ..host() }, None).unwrap().executors.value,
                executors,
                "{cpus}"
            );
        }
    }

    #[test]
    fn the_state_core_goes_where_the_disk_calls() {
        let interrupt = |cpu, queues| Some(DiskInterrupt { cpu, queues });
        for (cpus, disk, cpu) in [
            (vec![0, 1], None, None),
            (vec![0, 1], interrupt(1, 1), Some(1)),
            (vec![0, 1], interrupt(1, 2), None),
            (vec![0, 1], interrupt(5, 1), None),
            (vec![3], interrupt(3, 1), Some(3)),
        ] {
            assert_eq!(state_cpu(&cpus, disk).value, cpu, "{cpus:?} {disk:?}");
        }
    }

    #[test]
    fn dsync_unless_clearly_slower() {
        for (driver, dsync, fdatasync, mode) in [
            (Driver::Ring, 100, 100, LogMode::Dsync),
            (Driver::Ring, 150, 100, LogMode::Dsync),
            (Driver::Ring, 151, 100, LogMode::Fdatasync),
            (Driver::Portable, 100, 100, LogMode::Dsync),
            (Driver::Portable, 101, 100, LogMode::Fdatasync),
        ] {
            let [dsync, fdatasync] = [dsync, fdatasync].map(Duration::from_micros);
            let choice = log_mode(driver, Some(FlushTimes { dsync, fdatasync, samples: 9 }));
            assert_eq!(choice.value, mode);
            assert!(choice.reason.contains("median of 9"), "{}", choice.reason);
        }
        assert_eq!((LogMode::Dsync.depth(), LogMode::Fdatasync.depth()), (4, 1));
    }

    #[test]
    fn obstacles_lead_to_the_portable_driver() {
        let blocked = || Err(Obstacle("blocked".to_owned()));
        for host in [
            Host { ring: blocked(), ..host() },
            Host { memlock_bytes: Some(64 << 10), ..host() },
            Host { direct_unit: Err(Obstacle("tmpfs".to_owned())), ..host() },
        ] {
            let profile = decide(&host, None).unwrap();
            assert_eq!(profile.driver.value, Driver::Portable);
            assert_eq!(profile.driver.reason, host.obstacles()[0].0);
            assert_eq!(profile.direct_io.value, host.direct_unit.is_ok());
            assert_eq!(decide(&host, Some(Driver::Ring)), Err(host.obstacles()[0].clone()));
        }
        assert_eq!(decide(&host(), Some(Driver::Portable)).unwrap().driver.value, Driver::Portable);
        // Too few files are in the way of any driver.
        assert_eq!(Host { open_files: Some(100), ..host() }.obstacles().len(), 1);
    }

    #[test]
    fn little_locked_memory_means_small_buffers() {
        for (limit, executors, bytes) in
            [(None, 8, 1 << 20), (Some(8 << 20), 2, 1 << 20), (Some(8 << 20), 3, 512 << 10)]
        {
            assert_eq!(io_memory(limit, executors).value, bytes, "{limit:?}");
        }
    }
}
