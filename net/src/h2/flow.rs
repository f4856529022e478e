//! Flow-control windows (RFC 9113 §5.2 and §6.9).
//!
//! Sending, a window may be negative: the peer can lower SETTINGS_INITIAL_WINDOW_SIZE under bytes already sent.
//! Receiving, we never hold a window back to save memory, because what a request occupies is bounded by the message
//! limit and the connection's ledger; windows only tell the peer how far ahead it may run. So credit is returned as
//! bytes are taken, half a window at a time, and the window doubles with each return until it is no longer what
//! limits an upload.

use super::settings::{WINDOW_DEFAULT, WINDOW_MAX};

/// What we may still send.
#[derive(Clone, Copy, Debug)]
pub struct SendWindow(i64);

impl SendWindow {
    /// A window of `size` bytes.
    pub fn new(size: u32) -> SendWindow {
        SendWindow(i64::from(size))
    }

    /// Bytes that may go out now.
    pub fn room(self) -> usize {
        self.0.max(0) as usize
    }

    /// Accounts for bytes sent, never more than [`Self::room`].
    pub fn take(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.room(), "{bytes} sent into a window of {}", self.0);
        self.0 -= bytes as i64;
    }

    /// Adds a WINDOW_UPDATE, or the difference of two initial sizes; false when the window would pass 2^31-1.
    #[must_use]
    pub fn widen(&mut self, bytes: i64) -> bool {
        self.0 += bytes;
        self.0 <= i64::from(WINDOW_MAX)
    }
}

/// What the peer may still send.
#[derive(Clone, Copy, Debug)]
pub struct RecvWindow {
    available: u32,
    /// Taken and not yet returned; `available + owed == size` but for [`Self::ensure`].
    owed: u32,
    size: u32,
    size_max: u32,
}

impl RecvWindow {
    /// A window of the default size that may grow to `size_max`.
    pub fn new(size_max: u32) -> RecvWindow {
        RecvWindow { available: WINDOW_DEFAULT, owed: 0, size: WINDOW_DEFAULT, size_max }
    }

    /// Accounts for bytes received; false when the peer overran the window.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let Some(left) = (self.available as usize).checked_sub(bytes) else { return false };
        self.available = left as u32;
        self.owed += bytes as u32;
        true
    }

    /// The increment to send now, if one is due.
    pub fn refill(&mut self) -> Option<u32> {
        if self.owed < self.size / 2 {
            return None;
        }
        let growth = self.size.min(self.size_max - self.size);
        self.size += growth;
        let increment = self.owed + growth;
        self.owed = 0;
        self.available += increment;
        Some(increment)
    }

    /// Makes room for `bytes` to come, known from a message's length; the increment to send, if any.
    pub fn ensure(&mut self, bytes: usize) -> Option<u32> {
        let bytes = bytes.min(WINDOW_MAX as usize / 2) as u32;
        let increment = bytes.checked_sub(self.available).filter(|missing| *missing > 0)?;
        self.owed = self.owed.saturating_sub(increment);
        self.available = bytes;
        Some(increment)
    }
}

/// How far the connection's window grows.
pub const CONNECTION_WINDOW_MAX: u32 = 16 << 20;
/// How far a stream's window grows.
pub const STREAM_WINDOW_MAX: u32 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_window_goes_negative_and_back() {
        let mut window = SendWindow::new(100);
        window.take(80);
        assert!(window.widen(-100));
        assert_eq!(window.room(), 0);
        assert!(window.widen(90));
        assert_eq!(window.room(), 10);
        assert!(!window.widen(i64::from(WINDOW_MAX)));
    }

    #[test]
    fn receive_window_is_returned_by_halves_and_grows() {
        let mut window = RecvWindow::new(200_000);
        assert!(window.take(30_000));
        assert_eq!(window.refill(), None);
        assert!(window.take(10_000));
        assert_eq!(window.refill(), Some(40_000 + 65_535));
        assert!(window.take(131_070));
        assert_eq!(window.refill(), Some(131_070 + 200_000 - 131_070));
        assert!(window.take(200_000));
        assert!(!window.take(1));
    }

    #[test]
    fn a_known_length_opens_the_window_once() {
        let mut window = RecvWindow::new(STREAM_WINDOW_MAX);
        assert_eq!(window.ensure(1000), None);
        assert_eq!(window.ensure(1_000_000), Some(1_000_000 - 65_535));
        assert!(window.take(1_000_000));
        assert!(!window.take(1));
    }

    proptest::proptest! {
        #[test]
        fn windows_never_overflow(steps in proptest::collection::vec((0usize..3, 0usize..3_000_000), 0..200)) {
            let mut window = RecvWindow::new(CONNECTION_WINDOW_MAX);
            for (kind, bytes) in steps {
                match kind {
                    0 => { let _ = window.take(bytes); }
                    1 => { window.refill(); }
                    _ => { window.ensure(bytes); }
                }
                assert!(window.available <= WINDOW_MAX);
            }
        }
    }
}
