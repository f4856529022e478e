//! The server as a process: what it does on a command line, a signal, a kill, a copied directory, a race. Nothing
//! here compares with etcd; the rules are those of durability, and etcd itself must pass them too.

/// Percentiles of requests.
mod times;

/// What the store must hold, kept beside it.
mod model;

/// Clients that write and remember.
mod load;

/// kill -9 under load.
pub mod kill9;

/// Power cuts at any moment.
pub mod power;

/// Copies of the data directory taken under load.
pub mod copies;

/// Cold reads that stall.
pub mod stall;

/// Leases that run out by the ten thousand.
pub mod leases;
/// What compaction frees comes back.
pub mod reclaim;

/// How much memory a server has, and may have.
pub mod memory;

/// Long lists, many at once.
pub mod lists;

/// Much data in little memory.
pub mod cgroup;

/// The way out: snapshots that etcd serves.
pub mod snapshot;
/// Watchers under load.
pub mod watch;

/// What a first start costs.
pub mod start;

/// Creators of the same key.
pub mod race;

/// Requests that crash or hang etcd.
pub mod hostile;

/// Command lines and probes of Kubernetes.
pub mod kubernetes;

/// Floods and slow clients beside honest ones.
pub mod floods;

/// HTTP/2 by the book.
pub mod h2spec;
/// Hosts without io_uring.
pub mod refused;

/// What can be listened on.
pub mod ports;

/// Command lines, signals and directories.
pub mod flags;

use std::fmt;

use rustix::time::{ClockId, clock_gettime};

/// What a check says: it passed with these numbers, or what is wrong.
pub type Verdict = Result<String, Failure>;

/// Why a check failed.
#[derive(Debug)]
pub enum Failure {
    /// The server did something wrong.
    Wrong(String),
    /// It could not be asked.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Broken(Box::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Wrong(text) => write!(f, "WRONG: {text}"),
            Failure::Broken(error) => write!(f, "could not be checked: {error}"),
        }
    }
}

/// The server did something wrong unless `fact` holds.
fn ensure(fact: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if fact { Ok(()) } else { Err(Failure::Wrong(text())) }
}

/// The clock of the server's recordings.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
