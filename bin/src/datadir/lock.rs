//! One process a directory: `flock`, with a bounded wait and the holder's process id.
//!
//! This lock answers early and politely. What keeps two processes from writing one log is the log's own lock
//! on the very files it writes through, because writes handed to io_uring can outlive the process that
//! submitted them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const RETRY: Duration = Duration::from_millis(50);

/// Why there is no lock.
pub(super) enum Refusal {
    /// Another process has it; its id, if the system tells.
    Held(Option<u32>),
    /// The file system knows no locks, or failed.
    Io(io::Error),
}

/// Takes the lock of `file`, trying until `wait` is over. It is released when `file` is closed.
pub(super) fn take(file: &File, wait: Duration) -> Result<(), Refusal> {
    let deadline = Instant::now() + wait;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(RETRY),
            Err(Errno::WOULDBLOCK) => return Err(Refusal::Held(holder(file))),
            Err(error) => return Err(Refusal::Io(error.into())),
        }
    }
}

/// The process that holds a lock on `file`, from /proc/locks. Best effort: in a container it may be hidden.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, inode)
}

/// A line is `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`. Devices are not compared: some file systems
/// show another one there than `stat` does.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        let same_inode = file.rsplit(':').next()?.parse() == Ok(inode);
        pid.parse().ok().filter(|pid| same_inode && *pid != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 3548 fe:00:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 fe:00:131 0 EOF\n\
                     3: FLOCK  ADVISORY  READ -1 fe:00:7 0 EOF\n";
        for (inode, pid) in [(131, Some(4711)), (7, None), (8, None)] {
            assert_eq!(holder_in(locks, inode), pid);
        }
    }

    #[test]
    fn the_lock_waits_and_gives_up() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let [one, two] = [(); 2].map(|()| File::open(path.path()).unwrap());
        assert!(take(&one, Duration::ZERO).is_ok());
        match take(&two, Duration::from_millis(60)) {
            Err(Refusal::Held(pid)) => assert!(pid.is_none_or(|pid| pid == std::process::id())),
            _ => panic!("two locks"),
        }
        let release = std::thread::spawn(move || {
            sleep(Duration::from_millis(60));
            drop(one);
        });
        assert!(take(&two, Duration::from_secs(5)).is_ok());
        release.join().unwrap();
    }
}
