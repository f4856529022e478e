//! What a peer may ask of us without doing work, and the meters that notice. `docs/limits.md` is the list for operators.
//!
//! Every limit is far above what an honest etcd client does. Two habits of honest clients shape them: one Go
//! connection sends a PING and a WINDOW_UPDATE per call, and a client may keep thousands of streams open. So there is
//! no stream cap (memory is bounded by a ledger instead), and PINGs follow grpc-go's rule, which forgives all of them
//! while answers flow.

use super::error::{ConnectionError, Reason};
use std::time::{Duration, Instant};

/// Memory one connection may hold in streams, partial requests and answers waiting for windows.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;
/// What a stream costs in that ledger before it holds anything: its state, and the buffers its slot may keep. It makes
/// 32,768 the most streams of one connection.
pub const STREAM_COST_BYTES: usize = 2 << 10;
/// Decoded size of a header block, by HPACK's accounting; more resets the stream.
pub const HEADER_LIST_BYTES_MAX: usize = 64 << 10;
/// Encoded size of a header block; more ends the connection.
pub const HEADER_BLOCK_BYTES_MAX: usize = 64 << 10;
/// CONTINUATION frames of one header block.
pub const CONTINUATION_COUNT_MAX: u32 = 16;
/// Control replies (acks, resets) waiting in the output; then no more input is taken.
pub const CONTROL_REPLY_COUNT_MAX: usize = 100;
/// Output waiting for the socket; then no more input is taken.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Preface and first SETTINGS must have arrived by then.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A header block must be complete this long after its first frame.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Output must make progress at least this often.
pub const WRITE_STALL_TIME_MAX: Duration = Duration::from_secs(60);

/// The message of a call that takes one must be complete this long after its fields, one of a stream this long after its
/// first byte. The longest allowed one takes a tenth of that over a line of 1 MB/s.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(60);

/// The span the following counts are of.
pub const METER_SPAN: Duration = Duration::from_secs(10);
/// Age below which a stream that the peer resets counts as reset in haste. Clients that end thousands of watches at
/// once, or whose deadlines pass while the server is slow, reset old streams.
pub const RESET_AGE_MAX: Duration = Duration::from_millis(100);
/// Streams reset in haste by the peer, or by us for its errors, beyond [`RESET_COUNT_FREE`] and one for each finished stream.
pub const RESET_COUNT_MAX: u32 = 200;
/// Resets that need no finished stream to excuse them.
pub const RESET_COUNT_FREE: u32 = 100;
/// Streams refused because there are too many, or the ledger is full. A client in good faith backs off after the first
/// few; those that crossed our SETTINGS on the way are forgiven.
pub const REFUSED_COUNT_MAX: u32 = 10_000;
/// SETTINGS frames.
pub const SETTINGS_COUNT_MAX: u32 = 100;
/// Frames that ask for nothing (empty DATA, PRIORITY, acks of nothing, unknown types) beyond [`IDLE_COUNT_PER_WORK`] per useful frame.
pub const IDLE_COUNT_MAX: u32 = 1_000;
/// WINDOW_UPDATE frames, likewise.
pub const WINDOW_UPDATE_COUNT_MAX: u32 = 10_000;
/// What one useful frame (HEADERS, DATA, in either direction) excuses.
pub const IDLE_COUNT_PER_WORK: u32 = 8;

/// PINGs too early before the connection is closed: the third strike does.
pub const PING_STRIKE_COUNT_MAX: u32 = 2;
/// Shortest honest distance of PINGs while no stream is open.
pub const PING_IDLE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// A limit that was met, by the text in GOAWAY or by this name, and what an operator can do about it.
pub fn cure(limit: &str) -> &'static str {
    match limit {
        "too_many_resets" => {
            "the client cancels calls as soon as it sends them; look for a retry loop or an attack"
        }
        "too_many_pings" => "raise the client's keep-alive interval, or lower --grpc-keepalive-min-time",
        "too_many_settings"
        | "too_many_idle_frames"
        | "too_many_window_updates"
        | "too_many_continuations" => "no known client does this; look for a broken proxy or an attack",
        "header block too large" | HEADERS_TOO_LARGE => {
            "the client sends more metadata than any etcd client needs"
        }
        "too_many_refused_streams" | TOO_MANY_STREAMS => {
            "open fewer streams, or more connections; see --max-concurrent-streams"
        }
        MEMORY_FULL => {
            "the client does not read its answers, or sends many messages in part; it must read, or use more connections"
        }
        MEMORY_FULL_ALL => "clients do not read their answers; this one held the most",
        "handshake timeout" | "header timeout" | MESSAGE_LATE => {
            "the client or the network is too slow, or hung"
        }
        "write stalled" => "the client does not read its answers",
        "keepalive timeout" => "the client or the network is gone",
        _ => "the client does not follow HTTP/2, or is none",
    }
}

/// Name of [`HEADER_LIST_BYTES_MAX`] where a stream was reset for it.
pub const HEADERS_TOO_LARGE: &str = "header list too large";
/// Name of `--max-concurrent-streams` where a stream was refused for it.
pub const TOO_MANY_STREAMS: &str = "too many streams";
/// Name of [`MEMORY_BYTES_MAX`] where something was refused for it.
pub const MEMORY_FULL: &str = "connection holds too much memory";
/// Debug data of the GOAWAY of the connection that holds the most when all together hold too much.
pub const MEMORY_FULL_ALL: &str = "connections hold too much memory";
/// Name of [`MESSAGE_TIME_MAX`] where a call was ended for it.
pub const MESSAGE_LATE: &str = "message timeout";

/// Counts of the current span; they restart with the next.
#[derive(Debug)]
pub(super) struct Meter {
    span_end: Instant,
    resets: u32,
    refused: u32,
    finished: u32,
    settings: u32,
    idle: u32,
    window_updates: u32,
    work: u32,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Meter {
        let span_end = now + METER_SPAN;
        Meter {
            span_end,
            resets: 0,
            refused: 0,
            finished: 0,
            settings: 0,
            idle: 0,
            window_updates: 0,
            work: 0,
        }
    }

    /// Starts a new span if the last is over. Must be called with the current time before the others.
    pub(super) fn advance(&mut self, now: Instant) {
        if now >= self.span_end {
            *self = Meter::new(now);
        }
    }

    pub(super) fn on_work(&mut self, frames: u32) {
        self.work = self.work.saturating_add(frames);
    }

    pub(super) fn on_finished(&mut self, streams: u32) {
        self.finished = self.finished.saturating_add(streams);
    }

    pub(super) fn on_reset(&mut self) -> Result<(), ConnectionError> {
        self.resets += 1;
        let max = self.finished.saturating_add(RESET_COUNT_FREE + RESET_COUNT_MAX);
        within(self.resets, max, "too_many_resets")
    }

    pub(super) fn on_refused(&mut self) -> Result<(), ConnectionError> {
        self.refused += 1;
        within(self.refused, REFUSED_COUNT_MAX, "too_many_refused_streams")
    }

    pub(super) fn on_settings(&mut self) -> Result<(), ConnectionError> {
        self.settings += 1;
        within(self.settings, SETTINGS_COUNT_MAX, "too_many_settings")
    }

    pub(super) fn on_idle_frame(&mut self) -> Result<(), ConnectionError> {
        self.idle += 1;
        within(self.idle, self.excused(IDLE_COUNT_MAX), "too_many_idle_frames")
    }

    pub(super) fn on_window_update(&mut self) -> Result<(), ConnectionError> {
        self.window_updates += 1;
        within(self.window_updates, self.excused(WINDOW_UPDATE_COUNT_MAX), "too_many_window_updates")
    }

    fn excused(&self, base: u32) -> u32 {
        self.work.saturating_mul(IDLE_COUNT_PER_WORK).saturating_add(base)
    }
}

/// grpc-go's rule for PINGs (its http2_server.go, `handlePing`).
#[derive(Debug)]
pub(super) struct PingRule {
    interval_min: Duration,
    last: Option<Instant>,
    strikes: u32,
}

impl PingRule {
    pub(super) fn new(interval_min: Duration) -> PingRule {
        PingRule { interval_min, last: None, strikes: 0 }
    }

    /// Judges a PING. `answered`: HEADERS or DATA were sent since the one before, which forgives everything.
    pub(super) fn on_ping(
        &mut self,
        now: Instant,
        answered: bool,
        streams: usize,
    ) -> Result<(), ConnectionError> {
        let last = self.last.replace(now);
        if answered {
            self.strikes = 0;
            return Ok(());
        }
        let interval = if streams == 0 { PING_IDLE_INTERVAL } else { self.interval_min };
        if last.is_some_and(|last| now < last + interval) {
            self.strikes += 1;
        }
        within(self.strikes, PING_STRIKE_COUNT_MAX, "too_many_pings")
    }
}

fn within(count: u32, max: u32, text: &'static str) -> Result<(), ConnectionError> {
    if count <= max { Ok(()) } else { Err(ConnectionError { reason: Reason::EnhanceYourCalm, text }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_excused_by_finished_streams() {
        let mut meter = Meter::new(Instant::now());
        meter.on_finished(1000);
        for _ in 0..1000 + RESET_COUNT_FREE + RESET_COUNT_MAX {
            meter.on_reset().unwrap();
        }
        assert_eq!(meter.on_reset().unwrap_err().text, "too_many_resets");
    }

    #[test]
    fn a_new_span_starts_from_zero() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for round in 0..3 {
            meter.advance(start + METER_SPAN * round);
            for _ in 0..SETTINGS_COUNT_MAX {
                meter.on_settings().unwrap();
            }
        }
        assert!(meter.on_settings().is_err());
    }

    #[test]
    fn pings_by_grpc_go() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        // (seconds of each PING, answered in between, open streams) -> the PING that is too many.
        let check = |gaps: &[u64], answered: bool, streams: usize, expected: Option<usize>| {
            let mut rule = PingRule::new(Duration::from_secs(5));
            let mut now = start;
            let struck = gaps.iter().position(|gap| {
                now += second * *gap as u32;
                rule.on_ping(now, answered, streams).is_err()
            });
            assert_eq!(struck, expected, "{gaps:?} {answered} {streams}");
        };
        check(&[0, 1, 1, 1], false, 1, Some(3));
        check(&[0, 5, 5, 5, 5, 5, 5], false, 1, None);
        check(&[0, 5, 5, 5], false, 0, Some(3));
        check(&[0, 7200, 7200, 7200, 7200], false, 0, None);
        check(&[0, 0, 0, 0, 0, 0, 0, 0], true, 1, None);
    }
}
