//! How long an HTTP/1 connection may take, as a machine that is told of every read, request and write.
//!
//! ```text
//!            a byte              the head is complete           the answer has gone
//!   Idle ─────────────► Head ──────────────────────► Answer ──────────────────────► Idle
//! ```
//! Bodies are never read, so there is no state for them: the connection closes behind an answer whose request has more
//! to say.

use std::time::{Duration, Instant};

/// A new connection must have said by then what it speaks, HTTP/2 or HTTP/1.
pub const SNIFF_TIME_MAX: Duration = Duration::from_secs(10);
/// A head must be complete this long after its first byte: etcd allows five minutes, which is what slow-header attacks
/// live on.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Silence between requests, as in etcd: scrapers keep their connections.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// The answer must be under way, and then taken piece by piece, at least this often. Longer than any read takes.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Where a connection stands, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    state: State,
    since: Instant,
    /// The last write found the socket full.
    blocked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody knows yet what it speaks.
    Unknown,
    Idle,
    Head,
    Answer {
        begun: bool,
    },
}

impl Pace {
    /// A connection just accepted.
    pub fn new(now: Instant) -> Pace {
        Pace { state: State::Unknown, since: now, blocked: false }
    }

    /// Bytes came in.
    pub fn on_received(&mut self, now: Instant) {
        if self.state == State::Idle {
            self.enter(State::Head, now);
        }
    }

    /// It speaks HTTP/1; its first bytes are there.
    pub fn on_recognised(&mut self) {
        self.state = State::Head;
    }

    /// Somebody wants to read: if an answer was given, it has gone.
    pub fn on_reading(&mut self, now: Instant) {
        if self.state == (State::Answer { begun: true }) && !self.blocked {
            self.enter(State::Idle, now);
        }
    }

    /// A head is complete.
    pub fn on_request(&mut self, now: Instant) {
        self.enter(State::Answer { begun: false }, now);
    }

    /// The socket took bytes of an answer, or none.
    pub fn on_sent(&mut self, now: Instant, blocked: bool) {
        self.blocked = blocked;
        if !blocked {
            self.enter(State::Answer { begun: true }, now);
        }
    }

    /// What the connection took too long for, by the name of the limit in [`abuse`](crate::h2::abuse).
    pub fn overdue(&self, now: Instant) -> Option<&'static str> {
        let (max, name) = match self.state {
            State::Unknown => (SNIFF_TIME_MAX, "handshake timeout"),
            State::Idle => (IDLE_TIME_MAX, IDLE),
            State::Head => (HEAD_TIME_MAX, "header timeout"),
            State::Answer { .. } => (ANSWER_TIME_MAX, "write stalled"),
        };
        (now >= self.since + max).then_some(name)
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }
}

/// The end of a connection that nobody uses: no reason to complain.
pub const IDLE: &str = "idle";

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps are (seconds since the one before, what happens); `expected` is what is overdue at the end, if anything.
    fn check(steps: &[(u64, fn(&mut Pace, Instant))], wait: u64, expected: Option<&str>) {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for (seconds, step) in steps {
            now += Duration::from_secs(*seconds);
            assert_eq!(pace.overdue(now), None, "{pace:?}");
            step(&mut pace, now);
        }
        assert_eq!(pace.overdue(now + Duration::from_secs(wait)), expected, "{pace:?}");
    }

    #[test]
    fn each_phase_has_its_time() {
        const RECOGNISED: (u64, fn(&mut Pace, Instant)) = (0, |pace, _| pace.on_recognised());
        const REQUEST: (u64, fn(&mut Pace, Instant)) = (9, |pace, now| pace.on_request(now));
        const SENT: (u64, fn(&mut Pace, Instant)) = (50, |pace, now| pace.on_sent(now, false));
        const READING: (u64, fn(&mut Pace, Instant)) = (0, |pace, now| pace.on_reading(now));
        const BYTE: (u64, fn(&mut Pace, Instant)) = (9, |pace, now| pace.on_received(now));
        check(&[], 9, None);
        check(&[], 10, Some("handshake timeout"));
        check(&[RECOGNISED], 10, Some("header timeout"));
        // Bytes that drip in do not prolong it.
        check(&[RECOGNISED, BYTE], 1, Some("header timeout"));
        check(&[RECOGNISED, REQUEST], 59, None);
        check(&[RECOGNISED, REQUEST], 60, Some("write stalled"));
        check(&[RECOGNISED, REQUEST, SENT, SENT, SENT], 59, None);
        check(
            &[RECOGNISED, REQUEST, SENT, (0, |pace, now| pace.on_sent(now, true)), READING],
            60,
            Some("write stalled"),
        );
        check(&[RECOGNISED, REQUEST, SENT, READING], 299, None);
        check(&[RECOGNISED, REQUEST, SENT, READING], 300, Some(IDLE));
        check(&[RECOGNISED, REQUEST, SENT, READING, BYTE], 10, Some("header timeout"));
        // A read for more input while the answer is being made is not the end of it.
        check(&[RECOGNISED, REQUEST, READING], 60, Some("write stalled"));
    }
}
