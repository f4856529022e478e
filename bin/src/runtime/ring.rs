//! The executor on io_uring.

use std::future::Future;
use std::io;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use tuning::profile::Profile;

use super::BACKGROUND_THREADS;

/// After how long glommio interrupts a round of tasks, to look at the rings. It must not come to that: a timer that fires
/// before the first task of a round has run makes glommio 0.9 take all of them for done, and sleep (`crate::pulse`); and
/// a thread that shares its processor is easily away for some milliseconds just then. Rounds end by themselves, since
/// nothing that goes on for long does so without [`yield_to_io`].
const PREEMPT: Duration = Duration::from_secs(1);

/// Longer than it takes to begin to wait, shorter than a look at the rings.
const SOON: Duration = Duration::from_micros(2);

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

/// Timers are looked at after the rings, so whoever waits for one that is due at once goes on after them.
pub(super) async fn yield_to_io() {
    glommio::timer::sleep(SOON).await;
}

pub(super) async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}
