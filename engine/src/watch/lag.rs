//! How far back a watcher may be before the history stops waiting for it.
//!
//! A watcher that is behind holds back reclaim, so one whose client has gone quiet must not do so for ever. What was
//! written longer ago than the limits allow is kept for nobody: a watcher that needs it goes on only as long as
//! no compaction has passed it, as in etcd.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::types::{Revision, Seq};

/// How far a watcher may be behind and still hold back reclaim.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In time.
    pub time_max: Duration,
    /// In bytes of history.
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { time_max: Duration::from_secs(60), bytes_max: 256 << 20 }
    }
}

/// Notes are taken this often, of the time limit and of the limit in bytes.
const NOTES: u32 = 32;

/// A position in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The first record behind it.
    pub seq: Seq,
    /// Revisions up to this one are before it.
    pub revision: Revision,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    at: Instant,
    bytes: u64,
    position: Bound,
}

/// Remembers where the history ended when.
#[derive(Debug)]
pub struct Lag {
    limits: Limits,
    notes: VecDeque<Note>,
    bytes: u64,
    bound: Bound,
}

impl Lag {
    /// Nothing is too far back.
    pub fn new(limits: Limits) -> Lag {
        let bound = Bound { seq: Seq(0), revision: Revision(0) };
        Lag { limits, notes: VecDeque::new(), bytes: 0, bound }
    }

    /// So much was written.
    pub fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The history ends here now.
    pub fn note(&mut self, now: Instant, position: Bound) {
        let due = self.notes.back().is_none_or(|last| {
            now >= last.at + self.limits.time_max / NOTES
                || self.bytes >= last.bytes + self.limits.bytes_max / u64::from(NOTES)
        });
        if due {
            self.notes.push_back(Note { at: now, bytes: self.bytes, position });
        }
        while let Some(oldest) = self.notes.front() {
            let over =
                now >= oldest.at + self.limits.time_max || self.bytes >= oldest.bytes + self.limits.bytes_max;
            if !over {
                break;
            }
            self.bound = oldest.position;
            self.notes.pop_front();
        }
    }

    /// What lies before is kept for nobody.
    pub fn bound(&self) -> Bound {
        self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_time_and_bytes() {
        let start = Instant::now();
        let mut lag = Lag::new(Limits { time_max: Duration::from_secs(32), bytes_max: 3200 });
        let note = |lag: &mut Lag, second: u64, bytes, expected| {
            lag.add_bytes(bytes);
            let position = Bound { seq: Seq(second * 10), revision: Revision(second as i64) };
            lag.note(start + Duration::from_secs(second), position);
            assert_eq!(lag.bound().seq, Seq(expected), "at {second} s");
        };
        note(&mut lag, 1, 0, 0);
        note(&mut lag, 20, 0, 0);
        note(&mut lag, 33, 0, 10);
        note(&mut lag, 51, 0, 10);
        note(&mut lag, 52, 3199, 200);
        note(&mut lag, 53, 1, 510);
        assert!(lag.notes.len() <= 2 * NOTES as usize);
    }

    #[test]
    fn notes_are_few() {
        let (start, mut lag) = (Instant::now(), Lag::new(Limits::default()));
        for n in 0..100_000u64 {
            lag.add_bytes(100_000);
            let position = Bound { seq: Seq(n), revision: Revision(n as i64) };
            lag.note(start + Duration::from_millis(n), position);
            assert!(lag.notes.len() <= 2 * NOTES as usize);
        }
        assert!(lag.bound().seq > Seq(97_000));
    }
}
