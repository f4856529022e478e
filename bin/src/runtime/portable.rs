//! The executor on epoll.
//!
//! tokio's executor of one thread. Its pool does what blocks; the log has a thread of its own
//! (`engine/src/disk/thread.rs`).

use std::future::Future;
use std::io;
use std::time::Duration;

use net::listen::StdListener;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, LocalOptions};
use tuning::profile::Profile;

use super::{BACKGROUND_THREADS, Listener};

/// Sockets are looked at after so many polls of tasks, if some are ready all the time. A poll may be a turn or the sends of
/// a long answer, and tokio's own 61 of them a tenth of a second before the next put is seen.
const POLLS_BETWEEN_EVENTS: u32 = 8;

pub(super) fn run<T>(profile: &Profile, main: impl Future<Output = T>) -> io::Result<T> {
    let everywhere = sched_getaffinity(None)?;
    if let Some(cpu) = profile.state_cpu.value {
        let mut here = CpuSet::new();
        here.set(cpu);
        sched_setaffinity(None, &here)?;
    }
    let runtime = Builder::new_current_thread()
        .event_interval(POLLS_BETWEEN_EVENTS)
        .enable_io()
        .enable_time()
        .max_blocking_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .on_thread_start(move || {
            // Threads begin where their maker may run, and these shall run elsewhere. Where that fails they are late, not
            // wrong.
            let _ = sched_setaffinity(None, &everywhere);
        })
        .build_local(LocalOptions::default())?;
    Ok(runtime.block_on(main))
}

pub(super) fn spawn_local(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

pub(super) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// tokio wakes whoever yields after it has looked at the sockets.
pub(super) async fn yield_to_io() {
    tokio::task::yield_now().await;
}

pub(super) async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

pub(super) fn listen(socket: StdListener) -> io::Result<Listener> {
    match socket {
        StdListener::Tcp(socket) => tokio::net::TcpListener::from_std(socket).map(Listener::Portable),
        StdListener::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(Listener::PortableUnix),
    }
}
