//! What all calls of a core add up to, by method: the numbers behind Go's gRPC metrics, and what each call passed until
//! it was over.
//!
//! Counted where a call begins and ends, so unary calls and streams alike. Nothing here reads a clock: the driver says
//! once a turn what time it is, and takes the calls that are over when their answers have been handed to their sockets.

use super::metadata::MethodId;
use super::status::Code;
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// Status codes there are.
pub const CODE_COUNT: usize = 17;
/// Room for calls that are over which is kept.
const ENDED_KEPT_MAX: usize = 1024;

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

/// What a call passed on its way, by the turns that noticed; nothing where it did not come so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// It went on: a write was handed to the log, a read got what it waited for last. A read that waits for nothing
    /// has none.
    pub started: Option<Instant>,
    /// A write was durable.
    pub durable: Option<Instant>,
    /// Its answer was made, from what was applied and published.
    pub answered: Option<Instant>,
}

/// A call that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which method.
    pub method: MethodId,
    /// When it came.
    pub begun: Instant,
    /// What it passed.
    pub stages: Stages,
    /// Length of its last message.
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
    /// Whether calls that are over are kept.
    keeps: Cell<bool>,
    /// Calls over since they were taken; their number is bounded by that of calls in flight.
    ended: RefCell<Vec<Ended>>,
}

impl Tally {
    /// From now on calls that are over are kept for [`Self::take_ended`], which the driver calls once a turn.
    pub fn keep_ended(&self) {
        self.keeps.set(true);
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

    /// Takes the calls that are over, in order.
    pub fn take_ended(&self, mut each: impl FnMut(&Ended)) {
        let mut ended = self.ended.borrow_mut();
        ended.iter().for_each(&mut each);
        ended.clear();
        ended.shrink_to(ENDED_KEPT_MAX);
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

    /// A call is over.
    pub(super) fn on_ended(&self, ended: Ended) {
        if self.keeps.get() {
            self.ended.borrow_mut().push(ended);
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
    fn calls_that_are_over_are_kept_for_who_takes_them() {
        let begun = Instant::now();
        let tally = Tally::default();
        let call = |method| Ended {
            method: MethodId(method),
            begun,
            stages: Stages::default(),
            request_bytes: 7,
            code: Code::Ok,
        };
        let taken = |tally: &Tally| {
            let mut methods = Vec::new();
            tally.take_ended(|ended| methods.push(ended.method.0));
            methods
        };
        tally.on_ended(call(1));
        assert_eq!(taken(&tally), [] as [u16; 0], "nobody said that he would take them");
        tally.keep_ended();
        tally.on_ended(call(2));
        tally.on_ended(call(3));
        assert_eq!(taken(&tally), [2, 3]);
        assert_eq!(taken(&tally), [] as [u16; 0]);
    }
}
