//! SIGTERM and SIGINT: a wish to end, told to the loop, and an end that the parent can see.
//!
//! The first signal is noted and wakes whoever waits; the server drains and then calls
//! [`Signal::end_process`], which dies of that same signal, as etcd does, so that a shell sees status 143 and
//! systemd a clean stop. Process 1 of a container cannot die of its own signal and exits with 0. A second
//! signal ends the process at once.
//!
//! SIGPIPE needs no care: Rust's runtime ignores it, and a write to a closed connection is an error.
//!
//! The handler writes one byte to a socket pair (`signal-hook` holds the unsafe part); a loop may poll that
//! socket, and a thread may block on it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// From a terminal.
    Interrupt,
    /// From a supervisor.
    Terminate,
}

impl Signal {
    /// As Go prints it; etcd's log has it in `received signal; shutting down`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
        }
    }

    fn number(self) -> i32 {
        match self {
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
        }
    }

    /// Ends the process by this signal; as process 1, with status 0. Flush the log before.
    pub fn end_process(self) -> ! {
        if std::process::id() != 1 {
            // Restores the default action and raises the signal; it returns only if that failed.
            let _ = low_level::emulate_default_handler(self.number());
        }
        std::process::exit(0)
    }
}

/// The installed handlers, and what they have seen.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    seen: Arc<AtomicUsize>,
}

impl Signals {
    /// Installs the handlers. Once a process: they stay for its life.
    pub fn install() -> io::Result<Signals> {
        let (wake, waker) = UnixStream::pair()?;
        let seen = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Actions run in this order: the first signal finds the trap unarmed, and arms it.
            flag::register_conditional_default(signal, Arc::clone(&armed))?;
            flag::register(signal, Arc::clone(&armed))?;
            flag::register_usize(signal, Arc::clone(&seen), signal as usize)?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Signals { wake, seen })
    }

    /// The signal that came, if one did. Never blocks.
    pub fn pending(&self) -> Option<Signal> {
        match self.seen.load(Ordering::SeqCst) as i32 {
            SIGINT => Some(Signal::Interrupt),
            SIGTERM => Some(Signal::Terminate),
            _ => None,
        }
    }

    /// Blocks until a signal comes. For a thread of its own.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            if let Some(signal) = self.pending() {
                return Ok(signal);
            }
            match (&self.wake).read(&mut [0; 1]) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}

impl AsFd for Signals {
    /// Becomes readable when a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Handlers belong to the process, so this is one test: the second signal would end the test run. How a
    // process ends is tested on processes, in tests/end_of_process.rs.
    #[test]
    fn the_first_signal_is_told() {
        let signals = Signals::install().unwrap();
        assert_eq!(signals.pending(), None);
        low_level::raise(SIGTERM).unwrap();
        assert_eq!(signals.wait().unwrap(), Signal::Terminate);
        assert_eq!(signals.pending(), Some(Signal::Terminate));
        assert_eq!((Signal::Terminate.name(), Signal::Interrupt.name()), ("terminated", "interrupt"));
    }

    #[test]
    fn the_runtime_ignores_sigpipe() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_ne!(ignored & 1 << (signal_hook::consts::SIGPIPE - 1), 0, "{ignored:x}");
    }
}
