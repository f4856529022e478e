//! A thread that wakes an executor which sleeps without its timer; for the driver on io_uring alone.
//!
//! glommio 0.9 may wait in `io_uring_enter` with no timeout armed when all its tasks went idle under CPU contention:
//! its clock stops until a socket or a disk has something to say. Nothing is lost then, but an answer that waits for
//! the clock waits on. So the clock leaves a beat in an atomic, and a plain thread looks whether it goes
//! on; where it does not, it writes a byte to a socket that the executor polls. A healthy executor never gets one.

use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_io::AsyncRead;

/// How long a beat may stay away: more than the longest wait of the clock, less than what a client notices as a stall.
const PATIENCE: Duration = Duration::from_millis(150);

/// The executor's side: it beats, and it listens.
#[derive(Debug)]
pub struct Pulse {
    beats: Arc<AtomicU64>,
    listener: UnixStream,
}

/// Counts the turns of a clock. Relaxed: the count orders nothing, it only moves.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The clock has come round.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Pulse {
    /// Starts the thread. It ends when the executor's end of the socket is gone.
    pub fn start() -> io::Result<Pulse> {
        let (mut bell, listener) = UnixStream::pair()?;
        // A bell that was rung often enough need not be rung again.
        bell.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let beats = Arc::new(AtomicU64::new(0));
        let seen_by_thread = Arc::clone(&beats);
        std::thread::Builder::new().name("pulse".into()).spawn(move || {
            let mut seen = u64::MAX;
            loop {
                std::thread::sleep(PATIENCE);
                let now = seen_by_thread.load(Ordering::Relaxed);
                if now == seen {
                    match bell.write(&[0]) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
                seen = now;
            }
        })?;
        Ok(Pulse { beats, listener })
    }

    /// For the clock.
    pub fn beat(&self) -> Beat {
        Beat(Arc::clone(&self.beats))
    }

    /// Listens on the executor it is spawned on. To be woken is all there is to it.
    pub async fn listen(self) {
        let mut listener = net::listen::unix_into_glommio(self.listener);
        let mut rings = [0; 64];
        while let Ok(1..) = poll_fn(|cx| Pin::new(&mut listener).poll_read(cx, &mut rings)).await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_bell_rings_when_the_beat_stays_away_and_not_before() {
        let pulse = Pulse::start().unwrap();
        let beat = pulse.beat();
        let mut listener = pulse.listener.try_clone().unwrap();
        listener.set_nonblocking(false).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        beat.beat();
        // Nothing beats from here on: the bell must ring.
        assert_eq!(listener.read(&mut [0; 1]).unwrap(), 1);
    }
}
