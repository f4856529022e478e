//! Lines about clients that a limit turned away: one for each kind of limit and span, however many clients there are.
//!
//! A flood must not become a flood of log lines. So each kind speaks once a minute, naming the client that met it
//! first, and how many times it was met in silence before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use net::h2::abuse;

use crate::logging::Logger;

/// A kind of complaint is logged at most this often.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// What was complained of lately. Kinds are literals in the code, so there are few.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<&'static str, Kind>);

#[derive(Debug)]
struct Kind {
    logged_at: Instant,
    silent: u64,
}

impl Complaints {
    /// A client met the limit `kind`. If it is to be logged: how many times it was met in silence since the last line.
    fn note(&mut self, now: Instant, kind: &'static str) -> Option<u64> {
        match self.0.get_mut(kind) {
            Some(known) if now < known.logged_at + COMPLAINT_INTERVAL => {
                known.silent += 1;
                None
            }
            known => {
                let silent = known.map_or(0, |known| known.silent);
                self.0.insert(kind, Kind { logged_at: now, silent: 0 });
                Some(silent)
            }
        }
    }

    /// Logs that a client met a limit, unless that was said not long ago.
    pub fn log(&mut self, log: &Logger, now: Instant, kind: &'static str, remote: Option<SocketAddr>) {
        let Some(silent) = self.note(now, kind) else { return };
        let remote = remote.map_or_else(|| "unknown".to_owned(), |remote| remote.to_string());
        log.warn(
            "turned a client away",
            &[
                ("remote-addr", &remote),
                ("reason", &kind),
                ("not-logged-before", &silent),
                ("cure", &cure(kind)),
            ],
        );
    }
}

/// The connection limit was met.
pub const TOO_MANY_CONNECTIONS: &str = "too many connections";
/// A connection said neither HTTP/2 nor HTTP/1.
pub const UNKNOWN_PROTOCOL: &str = "unknown protocol";

fn cure(kind: &str) -> &'static str {
    match kind {
        TOO_MANY_CONNECTIONS => {
            "raise the limit of open files (ulimit -n, LimitNOFILE), or find who opens so many"
        }
        UNKNOWN_PROTOCOL => "the client speaks TLS to a plain port, or another protocol",
        kind => abuse::cure(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_speaks_once_a_span() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        // (seconds, kind) -> the count that goes with a line, if there is one.
        let mut check = |seconds: u64, kind, expected: Option<u64>| {
            assert_eq!(
                complaints.note(start + Duration::from_secs(seconds), kind),
                expected,
                "{seconds} {kind}"
            );
        };
        check(0, "a", Some(0));
        check(1, "a", None);
        check(1, "b", Some(0));
        check(59, "a", None);
        check(60, "a", Some(2));
        check(61, "a", None);
        check(200, "b", Some(0));
    }
}
