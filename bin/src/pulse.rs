//! A thread that wakes an executor which sleeps although it has work; for the driver on io_uring alone.
//!
//! glommio 0.9 arms its preemption timer, and looks whether it has fired before it runs a task. A thread that loses its
//! processor in between for longer than the timer runs nothing; it takes that for having nothing to run, and waits in
//! `io_uring_enter` until a socket or a disk has something to say: for ever, if the timer of the clock was among what it
//! did not run, or if it was the first task of all. The timer is so long (`crate::runtime`) that only a process that was
//! stopped as a whole, or its machine, comes to that.
//!
//! So the clock leaves a beat in an atomic, and a plain thread looks whether it goes on. Where it does not, it sends
//! this process SIGURG, which nothing else uses and which the kernel gives to the main thread, the executor's: the wait
//! ends with EINTR, and the executor looks again. A healthy executor never gets one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::SIGURG;

/// How long a beat may stay away: more than the longest wait of the clock, less than what a client notices as a stall.
const PATIENCE: Duration = Duration::from_millis(150);

/// Counts the turns of a clock. Relaxed: the count orders nothing, it only moves.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The clock has come round.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts the thread, for an executor on the main thread that will be run next. The thread ends when the last copy of
/// the beat is gone.
pub fn start() -> io::Result<Beat> {
    start_with(Arc::new(AtomicBool::new(false)))
}

/// `woken` is set by each signal.
fn start_with(woken: Arc<AtomicBool>) -> io::Result<Beat> {
    // A signal that is only ignored interrupts nothing, so there must be a handler, whatever it does.
    signal_hook::flag::register(SIGURG, woken)?;
    let beats = Arc::new(AtomicU64::new(0));
    let seen_by_thread = Arc::downgrade(&beats);
    std::thread::Builder::new().name("pulse".into()).spawn(move || {
        let mut seen = u64::MAX;
        loop {
            std::thread::sleep(PATIENCE);
            let Some(beats) = seen_by_thread.upgrade() else { return };
            let now = beats.load(Ordering::Relaxed);
            if now == seen {
                // A process may always signal itself.
                let _ = kill_process(getpid(), Signal::URG);
            }
            seen = now;
        }
    })?;
    Ok(Beat(beats))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_signal_comes_when_the_beat_stays_away_and_not_before() {
        let woken = Arc::new(AtomicBool::new(false));
        let beat = start_with(Arc::clone(&woken)).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE * 3 {
            beat.beat();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!woken.load(Ordering::Relaxed), "a beating clock was interrupted");
        // Nothing beats from here on.
        while !woken.load(Ordering::Relaxed) {
            assert!(begun.elapsed() < Duration::from_secs(20), "no signal");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
