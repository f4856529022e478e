//! Lines about requests that took long, and what the server was doing meanwhile.
//!
//! Two of etcd's lines, with its keys: `apply request took too long` for KV requests over `--warning-apply-duration`, and
//! `request stats` for any unary request over `--warning-unary-request-duration`. One line for a request, and at most
//! [`LINES_MAX`] a second: what a stalled disk makes slow is slow for all at once.
//!
//! A request does not carry a clock for each stage. Instead the few log writes and turns that took long themselves are
//! remembered, and a line names the longest of each that fell into the request's time: that is where it was spent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use net::api::route::{Kind, Method, ROUTES};
use net::grpc::tally::Slow;

use crate::logging::Logger;

/// Lines a second.
const LINES_MAX: u32 = 10;
/// What takes shorter explains no slow request.
const STAGE_MIN: Duration = Duration::from_millis(10);
/// Stages of each kind that are remembered.
const STAGES_KEPT_MAX: usize = 128;

/// What took long lately.
#[derive(Debug, Default)]
pub struct Slowness {
    apply_max: Cell<Duration>,
    unary_max: Cell<Duration>,
    log_writes: Stages,
    turns: Stages,
    second: Cell<Option<Instant>>,
    lines: Cell<u32>,
    silent: Cell<u64>,
}

impl Slowness {
    /// Sets what is slow; the lower of the two is when a call is worth a look.
    pub fn set(&self, apply_max: Duration, unary_max: Duration) -> Duration {
        self.apply_max.set(apply_max);
        self.unary_max.set(unary_max);
        apply_max.min(unary_max)
    }

    /// A block of the log took so long to be durable.
    pub fn on_log_write(&self, ended: Instant, took: Duration) {
        self.log_writes.note(ended, took);
    }

    /// A turn, in which requests are applied and answered, took so long.
    pub fn on_turn(&self, ended: Instant, took: Duration) {
        self.turns.note(ended, took);
    }

    /// Logs a slow call. True if it counts as a slow apply.
    pub fn log(&self, log: &Logger, now: Instant, slow: &Slow) -> bool {
        let route = &ROUTES[usize::from(slow.method.0)];
        if route.kind != Kind::Unary {
            return false;
        }
        let is_apply = matches!(route.method, Method::Kv(_)) && slow.took > self.apply_max.get();
        let is_unary = slow.took > self.unary_max.get();
        if !(is_apply || is_unary) || !self.admits(now) {
            return is_apply;
        }
        let log_write = self.log_writes.longest_since(slow.begun);
        let turn = self.turns.longest_since(slow.begun);
        let (took, silent) = (slow.took, self.silent.take());
        let code = format!("{:?}", slow.code);
        if is_apply {
            let prefix = if route.name() == "Range" { "read-only range " } else { "" };
            log.warn(
                "apply request took too long",
                &[
                    ("took", &took),
                    ("expected-duration", &self.apply_max.get()),
                    ("prefix", &prefix),
                    ("request", &format!("{} size:{}", route.path, slow.request_bytes)),
                    ("response", &code),
                    ("longest-log-write", &log_write),
                    ("longest-turn", &turn),
                    ("not-logged-before", &silent),
                ],
            );
        } else {
            log.warn(
                "request stats",
                &[
                    ("time spent", &took),
                    ("response type", &route.path),
                    ("request size", &(slow.request_bytes as u64)),
                    ("response", &code),
                    ("longest-log-write", &log_write),
                    ("longest-turn", &turn),
                    ("not-logged-before", &silent),
                ],
            );
        }
        is_apply
    }

    /// Whether this second has a line left.
    fn admits(&self, now: Instant) -> bool {
        if self.second.get().is_none_or(|second| now >= second + Duration::from_secs(1)) {
            self.second.set(Some(now));
            self.lines.set(0);
        }
        let admitted = self.lines.get() < LINES_MAX;
        if admitted {
            self.lines.set(self.lines.get() + 1);
        } else {
            self.silent.set(self.silent.get() + 1);
        }
        admitted
    }
}

/// The last stages that took long, by their end.
#[derive(Debug, Default)]
struct Stages(RefCell<VecDeque<(Instant, Duration)>>);

impl Stages {
    fn note(&self, ended: Instant, took: Duration) {
        if took < STAGE_MIN {
            return;
        }
        let mut stages = self.0.borrow_mut();
        if stages.len() == STAGES_KEPT_MAX {
            stages.pop_front();
        }
        stages.push_back((ended, took));
    }

    /// The longest that ended after `begun`; zero if all were short.
    fn longest_since(&self, begun: Instant) -> Duration {
        let stages = self.0.borrow();
        stages
            .iter()
            .rev()
            .take_while(|(ended, _)| *ended >= begun)
            .map(|(_, took)| *took)
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stage_of_a_request_is_found() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let stages = Stages::default();
        for (ended, took) in [(1, 500), (2, 30), (3, 40), (4, 5)] {
            stages.note(start + second * ended, Duration::from_millis(took));
        }
        for (begun, expected) in [(0, 500), (2, 40), (3, 40), (4, 0)] {
            let longest = stages.longest_since(start + second * begun);
            assert_eq!(longest, Duration::from_millis(expected), "since {begun}");
        }
        for _ in 0..2 * STAGES_KEPT_MAX {
            stages.note(start, second);
        }
        assert_eq!(stages.0.borrow().len(), STAGES_KEPT_MAX);
    }

    #[test]
    fn lines_are_limited_by_the_second() {
        let start = Instant::now();
        let slowness = Slowness::default();
        let admitted = |now| (0..25).filter(|_| slowness.admits(now)).count() as u32;
        assert_eq!(admitted(start), LINES_MAX);
        assert_eq!(slowness.silent.get(), u64::from(25 - LINES_MAX));
        assert_eq!(admitted(start + Duration::from_millis(999)), 0);
        assert_eq!(admitted(start + Duration::from_secs(1)), LINES_MAX);
    }
}
