//! What all calls of a core add up to, by method: the numbers behind Go's gRPC metrics, and the calls that took long.
//!
//! Counted where a call begins and ends, so unary calls and streams alike. Nothing here reads a clock: the driver says
//! once a turn what time it is, and a call takes from the turn it came in to the turn it was answered in.

use super::metadata::MethodId;
use super::status::Code;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Status codes there are.
pub const CODE_COUNT: usize = 17;
/// Slow calls that wait to be asked for; what comes beyond them is only counted.
const SLOW_KEPT_MAX: usize = 64;

/// Counts of one method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls begun: all fields and, if the method takes one, the message were there.
    pub started: u64,
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Calls ended, by status code.
    pub handled: [u64; CODE_COUNT],
}

/// A call that took longer than [`Tally::warn_above`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Which method.
    pub method: MethodId,
    /// When it came.
    pub begun: Instant,
    /// Until it was answered.
    pub took: Duration,
    /// Length of its message.
    pub request_bytes: usize,
    /// How it ended.
    pub code: Code,
}

/// The sums of one core, shared by its connections.
#[derive(Debug, Default)]
pub struct Tally {
    methods: RefCell<Vec<Counts>>,
    /// Bytes of messages, without prefixes.
    received_bytes: Cell<u64>,
    sent_bytes: Cell<u64>,
    /// The time of this turn, once it was told.
    now: Cell<Option<Instant>>,
    /// No call is slow while this is none.
    warn_above: Cell<Option<Duration>>,
    slow: RefCell<VecDeque<Slow>>,
    slow_count: Cell<u64>,
}

impl Tally {
    /// Unary calls that take longer are kept for [`Self::poll_slow`].
    pub fn warn_above(&self, time: Duration) {
        self.warn_above.set(Some(time));
    }

    /// It is now this late.
    pub fn advance(&self, now: Instant) {
        self.now.set(Some(now));
    }

    /// The time of this turn, if anybody told it.
    pub fn now(&self) -> Option<Instant> {
        self.now.get()
    }

    /// The counts by method, as far as methods were called.
    pub fn counts(&self) -> Vec<Counts> {
        self.methods.borrow().clone()
    }

    /// Bytes of messages received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received_bytes.get(), self.sent_bytes.get())
    }

    /// How many unary calls were slow.
    pub fn slow_count(&self) -> u64 {
        self.slow_count.get()
    }

    /// The next slow call.
    pub fn poll_slow(&self) -> Option<Slow> {
        self.slow.borrow_mut().pop_front()
    }

    pub(super) fn on_started(&self, method: MethodId) {
        self.with(method, |counts| counts.started += 1);
    }

    pub(super) fn on_received(&self, method: MethodId, bytes: usize) {
        self.with(method, |counts| counts.received += 1);
        self.received_bytes.set(self.received_bytes.get() + bytes as u64);
    }

    pub(super) fn on_sent(&self, method: MethodId, bytes: u64) {
        self.with(method, |counts| counts.sent += 1);
        self.sent_bytes.set(self.sent_bytes.get() + bytes);
    }

    pub(super) fn on_handled(&self, method: MethodId, code: Code) {
        self.with(method, |counts| counts.handled[code as usize] += 1);
    }

    /// A unary call has ended.
    pub(super) fn time(&self, method: MethodId, begun: Instant, request_bytes: usize, code: Code) {
        let (Some(now), Some(max)) = (self.now(), self.warn_above.get()) else { return };
        let took = now.saturating_duration_since(begun);
        if took <= max {
            return;
        }
        self.slow_count.set(self.slow_count.get() + 1);
        let mut slow = self.slow.borrow_mut();
        if slow.len() < SLOW_KEPT_MAX {
            slow.push_back(Slow { method, begun, took, request_bytes, code });
        }
    }

    fn with(&self, method: MethodId, count: impl FnOnce(&mut Counts)) {
        let mut methods = self.methods.borrow_mut();
        let at = usize::from(method.0);
        if at >= methods.len() {
            methods.resize(at + 1, Counts::default());
        }
        count(&mut methods[at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_calls_are_kept_up_to_a_bound_and_counted_beyond() {
        let start = Instant::now();
        let tally = Tally::default();
        tally.warn_above(Duration::from_millis(300));
        tally.advance(start + Duration::from_millis(300));
        tally.time(MethodId(1), start, 7, Code::Ok);
        assert_eq!((tally.slow_count(), tally.poll_slow()), (0, None));
        tally.advance(start + Duration::from_millis(301));
        for _ in 0..2 * SLOW_KEPT_MAX {
            tally.time(MethodId(1), start, 7, Code::Ok);
        }
        let slow = tally.poll_slow().unwrap();
        assert_eq!((slow.took, slow.request_bytes), (Duration::from_millis(301), 7));
        assert_eq!(std::iter::from_fn(|| tally.poll_slow()).count(), SLOW_KEPT_MAX - 1);
        assert_eq!(tally.slow_count(), 2 * SLOW_KEPT_MAX as u64);
    }
}
