//! The executor on io_uring.

use std::future::Future;
use std::io;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use tuning::profile::Profile;

use super::BACKGROUND_THREADS;

/// How long a task may run before others that became ready meanwhile are looked at.
const PREEMPT: Duration = Duration::from_millis(1);

pub(super) fn run<T>(profile: &Profile, main: impl Future<Output = T>) -> io::Result<T> {
    let placement = profile.state_cpu.value.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name("state")
        .io_memory(profile.io_memory_bytes.value)
        .ring_depth(profile.ring_depth.value)
        .preempt_timer(PREEMPT)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BACKGROUND_THREADS))
        .make()?;
    Ok(executor.run(main))
}

pub(super) fn spawn_local(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

pub(super) async fn sleep(time: Duration) {
    glommio::timer::sleep(time).await;
}

pub(super) async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}
