//! Lines about requests that took long, and what the server was doing meanwhile.
//!
//! Two of etcd's lines, with its keys: `apply request took too long` for KV requests over `--warning-apply-duration`, and
//! `request stats` for any unary request over `--warning-unary-request-duration`. One line for a request, and at most
//! [`LINES_MAX`] a second: what a stalled disk makes slow is slow for all at once.
//!
//! A line says how long the request spent in each stage, as far as it came:
//!
//! | stage | until |
//! |---|---|
//! | `queued` | a write is handed to the log; a read has what it waited for: its index, or something cold |
//! | `logged` | the write is durable; the wait for the blocks before its own included |
//! | `applied`, of a read `read` | its answer is made |
//! | `sent` | the last of it is with the socket |
//!
//! Stages are as long as the turns tell that noticed their ends. Log writes and turns that took long themselves are
//! remembered, and a line names the longest of each that fell into the request's time: whose fault it was.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use net::api::kv::KvMethod;
use net::api::route::{Kind, Method, ROUTES};
use net::grpc::Code;
use net::grpc::tally::Ended;

use crate::logging::{Logger, Value};

/// Lines a second.
const LINES_MAX: u32 = 10;
/// What takes shorter explains no slow request.
const LONG_MIN: Duration = Duration::from_millis(10);
/// Of each kind, so many are remembered.
const LONG_KEPT_MAX: usize = 128;

/// What took long lately.
#[derive(Debug, Default)]
pub struct Slowness {
    apply_max: Cell<Duration>,
    unary_max: Cell<Duration>,
    log_writes: Long,
    turns: Long,
    second: Cell<Option<Instant>>,
    lines: Cell<u32>,
    silent: Cell<u64>,
}

impl Slowness {
    /// Sets what is slow.
    pub fn set(&self, apply_max: Duration, unary_max: Duration) {
        self.apply_max.set(apply_max);
        self.unary_max.set(unary_max);
    }

    /// A block of the log took so long to be durable.
    pub fn on_log_write(&self, ended: Instant, took: Duration) {
        self.log_writes.note(ended, took);
    }

    /// A turn, in which requests are applied and answered, took so long.
    pub fn on_turn(&self, ended: Instant, took: Duration) {
        self.turns.note(ended, took);
    }

    /// Logs a call that is over, if it was slow. True if it counts as a slow apply.
    pub fn log(&self, log: &Logger, now: Instant, ended: &Ended) -> bool {
        let took = now.saturating_duration_since(ended.begun);
        if took <= self.apply_max.get() && took <= self.unary_max.get() {
            return false;
        }
        let route = &ROUTES[usize::from(ended.method.0)];
        if route.kind != Kind::Unary {
            return false;
        }
        let is_apply = matches!(route.method, Method::Kv(_)) && took > self.apply_max.get();
        let is_unary = took > self.unary_max.get();
        if !(is_apply || is_unary) || !self.admits(now) {
            return is_apply;
        }
        let is_range = matches!(route.method, Method::Kv(KvMethod::Range));
        let stages = stages(ended, is_range, now);
        let log_write = self.log_writes.longest_since(ended.begun);
        let turn = self.turns.longest_since(ended.begun);
        let silent = self.silent.take();
        let code = format!("{:?}", ended.code);
        let (apply_max, request_bytes) = (self.apply_max.get(), ended.request_bytes as u64);
        let prefix = if is_range { "read-only range " } else { "" };
        let request = format!("{} size:{}", route.path, ended.request_bytes);
        let (text, mut fields): (_, Vec<(&str, &dyn Value)>) = match is_apply {
            true => (
                "apply request took too long",
                vec![
                    ("took", &took),
                    ("expected-duration", &apply_max),
                    ("prefix", &prefix),
                    ("request", &request),
                    ("response", &code),
                ],
            ),
            false => (
                "request stats",
                vec![
                    ("time spent", &took),
                    ("response type", &route.path),
                    ("request size", &request_bytes),
                    ("response", &code),
                ],
            ),
        };
        fields.extend(stages.iter().map(|(name, time)| (*name, time as &dyn Value)));
        fields.extend([
            ("longest-log-write", &log_write as &dyn Value),
            ("longest-turn", &turn),
            ("not-logged-before", &silent),
        ]);
        log.warn(text, &fields);
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

/// How long a call that is over spent in each of its stages; the last one is where it ended.
fn stages(ended: &Ended, is_range: bool, now: Instant) -> Vec<(&'static str, Duration)> {
    let marks = ended.stages;
    let is_write = marks.durable.is_some() || (!is_range && ended.code != Code::Ok);
    // A read that waited for nothing went on at once.
    let started = marks.started.or((!is_write).then_some(ended.begun));
    let mut ends = vec![("queued", started)];
    if is_write {
        ends.extend([("logged", marks.durable), ("applied", marks.answered)]);
    } else {
        ends.push(("read", marks.answered));
    }
    ends.push(("sent", Some(now)));
    let mut from = ended.begun;
    let mut stages = Vec::new();
    for (name, end) in ends {
        let until = end.unwrap_or(now);
        stages.push((name, until.saturating_duration_since(from)));
        from = until;
        if end.is_none() {
            break;
        }
    }
    stages
}

/// What took long lately, by its end.
#[derive(Debug, Default)]
struct Long(RefCell<VecDeque<(Instant, Duration)>>);

impl Long {
    fn note(&self, ended: Instant, took: Duration) {
        if took < LONG_MIN {
            return;
        }
        let mut long = self.0.borrow_mut();
        if long.len() == LONG_KEPT_MAX {
            long.pop_front();
        }
        long.push_back((ended, took));
    }

    /// The longest that ended after `begun`; zero if all were short.
    fn longest_since(&self, begun: Instant) -> Duration {
        let long = self.0.borrow();
        long.iter()
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
    use net::grpc::MethodId;
    use net::grpc::tally::Stages;

    #[test]
    fn the_longest_in_the_time_of_a_request_is_found() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let long = Long::default();
        for (ended, took) in [(1, 500), (2, 30), (3, 40), (4, 5)] {
            long.note(start + second * ended, Duration::from_millis(took));
        }
        for (begun, expected) in [(0, 500), (2, 40), (3, 40), (4, 0)] {
            let longest = long.longest_since(start + second * begun);
            assert_eq!(longest, Duration::from_millis(expected), "since {begun}");
        }
        for _ in 0..2 * LONG_KEPT_MAX {
            long.note(start, second);
        }
        assert_eq!(long.0.borrow().len(), LONG_KEPT_MAX);
    }

    #[test]
    fn stages_add_up_to_the_whole_time() {
        let begun = Instant::now();
        let at = |ms: Option<u64>| ms.map(|ms| begun + Duration::from_millis(ms));
        let check = |marks: [Option<u64>; 3], is_range, code, expected: &[(&str, u64)]| {
            let [started, durable, answered] = marks.map(at);
            let stages = Stages { started, durable, answered };
            let ended = Ended { method: MethodId(0), begun, stages, request_bytes: 0, code };
            let found = super::stages(&ended, is_range, begun + Duration::from_millis(100));
            let expected: Vec<_> =
                expected.iter().map(|(name, ms)| (*name, Duration::from_millis(*ms))).collect();
            assert_eq!(found, expected, "{marks:?}");
        };
        let write = |marks, code, expected: &[_]| check(marks, false, code, expected);
        let whole = [("queued", 1), ("logged", 29), ("applied", 20), ("sent", 50)];
        write([Some(1), Some(30), Some(50)], Code::Ok, &whole);
        write([Some(1), None, Some(99)], Code::Unavailable, &[("queued", 1), ("logged", 99)]);
        write([None, None, Some(99)], Code::Unavailable, &[("queued", 100)]);
        let read = |marks, code, expected: &[_]| check(marks, true, code, expected);
        read([None, None, Some(70)], Code::Ok, &[("queued", 0), ("read", 70), ("sent", 30)]);
        read([Some(20), None, Some(70)], Code::Ok, &[("queued", 20), ("read", 50), ("sent", 30)]);
        read([Some(20), None, None], Code::DeadlineExceeded, &[("queued", 20), ("read", 80)]);
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
