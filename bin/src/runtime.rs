//! What the loops of this crate need of an executor, so that none of them knows which one runs it.
//!
//! Two drivers carry the server: `ring` on io_uring, the one it is built for, and `portable` on epoll and plain
//! threads, for hosts and containers that refuse io_uring (`docs/drivers.md`). One is chosen at the start and stays. It is
//! an enum and not a trait, so that there is one `Node` and one `Conn`, and so that a receive or a send costs a
//! branch and no call through a table.
//!
//! Both run tasks on one thread, in the order in which they woke up; therefore turns batch alike.

// On io_uring, through glommio.
mod ring;

// On epoll and threads, through tokio.
mod portable;

// Sockets of either.
mod stream;

use std::future::Future;
use std::io;
use std::time::Duration;

pub use stream::{Listener, Stream};
use tuning::profile::Profile;

/// Threads for work that blocks: cold reads, and a few writes at a time.
pub const BACKGROUND_THREADS: usize = COLD_READS_MAX + 4;

/// Of those, cold reads have at most this many.
pub const COLD_READS_MAX: usize = 8;

/// The executor that this process runs on. A copy may be kept by whoever needs one; its methods belong on the executor's
/// own thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// io_uring.
    Ring,
    /// epoll.
    Portable,
}

impl Runtime {
    /// Runs `main` on this thread to its end, and what it spawns until then.
    ///
    /// Errors: the system does not give what the executor needs.
    pub fn run<T>(self, profile: &Profile, main: impl Future<Output = T>) -> io::Result<T> {
        match self {
            Runtime::Ring => ring::run(profile, main),
            Runtime::Portable => portable::run(profile, main),
        }
    }

    /// Starts a task that runs until it ends or the process does. Its first poll may happen before this returns, so until
    /// it has waited once it must not need what the caller has borrowed; and it may happen later, so what cannot wait
    /// is done before.
    pub fn spawn_local(self, task: impl Future<Output = ()> + 'static) {
        match self {
            Runtime::Ring => ring::spawn_local(task),
            Runtime::Portable => portable::spawn_local(task),
        }
    }

    /// Waits. Up to a few milliseconds longer than asked.
    pub async fn sleep(self, time: Duration) {
        match self {
            Runtime::Ring => ring::sleep(time).await,
            Runtime::Portable => portable::sleep(time).await,
        }
    }

    /// Lets every other ready task run, and those that sockets, disks and threads have made ready. What has more to do
    /// than one turn of it goes on by this and not by waking itself: else the executor would look at nothing else until
    /// all of it is done.
    pub async fn yield_to_io(self) {
        match self {
            Runtime::Ring => ring::yield_to_io().await,
            Runtime::Portable => portable::yield_to_io().await,
        }
    }

    /// Does `work`, which may block, on one of [`BACKGROUND_THREADS`]. A panic there is a panic here.
    pub async fn spawn_blocking<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Runtime::Ring => ring::spawn_blocking(work).await,
            Runtime::Portable => portable::spawn_blocking(work).await,
        }
    }

    /// Takes a listening socket over.
    pub fn listen(self, socket: net::listen::Listener) -> io::Result<Listener> {
        match self {
            Runtime::Ring => Ok(Listener::Ring(socket.into_glommio())),
            Runtime::Portable => portable::listen(socket.into_std()?),
        }
    }
}
