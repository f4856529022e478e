//! Compaction without being asked (etcd's `v3compactor`), and what there is to say of any compaction.
//!
//! *Periodic* keeps a window of revisions, one a sample interval: a tenth of the period, or of an hour where the period is
//! longer. When a period has passed since the start, and then each interval since the last success, the oldest of the
//! window is compacted, which is what was current one period ago. *Revision* keeps so many revisions and looks every
//! five minutes. A member that does not lead waits; its window goes on.
//!
//! A pure core: it takes the time and the store's numbers, says what to compact, and is told how that went.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine::error::ApiError;
use engine::types::Revision;

use crate::config::AutoCompaction;
use crate::logging::Logger;

/// Longest interval between two periodic compactions.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Samples in an interval.
const SAMPLES: u32 = 10;

/// Time between two looks in revision mode.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// What the compactor knows of the member.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The newest revision.
    pub revision: Revision,
    /// Whether it leads.
    pub leads: bool,
}

/// The compactor of a member.
#[derive(Debug)]
pub struct Compactor {
    mode: Mode,
    /// When to look next.
    due: Instant,
    /// The compaction under way.
    asked: Option<(Revision, Instant)>,
}

#[derive(Debug)]
enum Mode {
    Off,
    Periodic {
        period: Duration,
        window: VecDeque<Revision>,
        last: Revision,
        /// The last success, or the start.
        since: Instant,
        /// Time that must have passed since then.
        wait: Duration,
    },
    Revision {
        keep: u64,
        last: Revision,
    },
}

impl Compactor {
    /// Begins at `now`.
    pub fn new(config: AutoCompaction, now: Instant, revision: Revision) -> Compactor {
        let mode = match config {
            AutoCompaction::Off => Mode::Off,
            AutoCompaction::Periodic(period) => {
                let window = VecDeque::from([revision]);
                Mode::Periodic { period, window, last: Revision(0), since: now, wait: period }
            }
            AutoCompaction::Revision(keep) => Mode::Revision { keep, last: Revision(0) },
        };
        let mut compactor = Compactor { mode, due: now, asked: None };
        compactor.due = now + compactor.interval();
        compactor
    }

    /// Time between two looks.
    fn interval(&self) -> Duration {
        match &self.mode {
            Mode::Off => INTERVAL_MAX,
            Mode::Periodic { period, .. } => (*period).min(INTERVAL_MAX) / SAMPLES,
            Mode::Revision { .. } => REVISION_INTERVAL,
        }
    }

    /// What to compact now, if anything; [`Compactor::on_done`] must follow.
    pub fn poll(&mut self, now: Instant, facts: Facts, log: &Logger) -> Option<Revision> {
        if now < self.due || self.asked.is_some() {
            return None;
        }
        self.due = now + self.interval();
        let revision = self.choose(now, facts)?;
        match &self.mode {
            Mode::Off => unreachable!("nothing is chosen"),
            Mode::Periodic { period, .. } => log.info(
                "starting auto periodic compaction",
                &[("revision", &revision.0), ("compact-period", period)],
            ),
            Mode::Revision { keep, .. } => log.info(
                "starting auto revision compaction",
                &[("revision", &revision.0), ("revision-compaction-retention", keep)],
            ),
        }
        self.asked = Some((revision, now));
        Some(revision)
    }

    fn choose(&mut self, now: Instant, facts: Facts) -> Option<Revision> {
        let interval = self.interval();
        match &mut self.mode {
            Mode::Off => None,
            Mode::Periodic { period, window, last, since, wait } => {
                let oldest = *window.front().expect("it begins with one");
                let passed = now.saturating_duration_since(*since) >= *wait;
                // The sample that the next look begins with.
                window.push_back(facts.revision);
                let kept = (period.as_nanos() / interval.as_nanos().max(1)) as usize + 1;
                if window.len() > kept {
                    window.pop_front();
                }
                if !facts.leads || !passed || oldest == *last {
                    return None;
                }
                *wait = (*period).min(INTERVAL_MAX);
                Some(oldest)
            }
            Mode::Revision { keep, last } => {
                let revision = Revision(facts.revision.0.saturating_sub_unsigned(*keep));
                (facts.leads && revision.0 > 0 && revision != *last).then_some(revision)
            }
        }
    }

    /// The compaction of [`Compactor::poll`] is done.
    pub fn on_done(&mut self, now: Instant, outcome: Result<(), ApiError>, log: &Logger) {
        let (revision, begun) = self.asked.take().expect("a compaction was under way");
        let took = now.saturating_duration_since(begun);
        let interval = self.interval();
        let outcome = match outcome {
            Err(ApiError::Compacted) => Ok(()),
            outcome => outcome,
        };
        match (&mut self.mode, outcome) {
            (Mode::Off, _) => unreachable!("nothing was chosen"),
            (Mode::Periodic { period, last, since, .. }, Ok(())) => {
                (*last, *since) = (revision, now);
                log.info(
                    "completed auto periodic compaction",
                    &[("revision", &revision.0), ("compact-period", period), ("took", &took)],
                );
            }
            (Mode::Revision { keep, last }, Ok(())) => {
                *last = revision;
                log.info(
                    "completed auto revision compaction",
                    &[("revision", &revision.0), ("revision-compaction-retention", keep), ("took", &took)],
                );
            }
            (Mode::Periodic { period, .. }, Err(error)) => log.warn(
                "failed auto periodic compaction",
                &[
                    ("revision", &revision.0),
                    ("compact-period", period),
                    ("retry-interval", &interval),
                    ("error", &error.to_string()),
                ],
            ),
            (Mode::Revision { keep, .. }, Err(error)) => log.warn(
                "failed auto revision compaction",
                &[
                    ("revision", &revision.0),
                    ("revision-compaction-retention", keep),
                    ("retry-interval", &interval),
                    ("error", &error.to_string()),
                ],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging;

    /// A log that nobody reads.
    fn silent() -> Logger {
        let options = logging::Options { outputs: Vec::new(), ..logging::Options::default() };
        Logger::open(&options).expect("no outputs fail")
    }

    const MINUTE: Duration = Duration::from_secs(60);

    /// Minutes at which something was compacted, and what, where the revision is the minute times ten; compactions of
    /// `fails` minutes fail.
    fn run(
        config: AutoCompaction,
        minutes: u32,
        leads: impl Fn(u32) -> bool,
        fails: &[u32],
    ) -> Vec<(u32, i64)> {
        let log = silent();
        let start = Instant::now();
        let mut compactor = Compactor::new(config, start, Revision(1));
        let mut done = Vec::new();
        for minute in 1..=minutes {
            let now = start + MINUTE * minute;
            let facts = Facts { revision: Revision(1 + 10 * i64::from(minute)), leads: leads(minute) };
            if let Some(revision) = compactor.poll(now, facts, &log) {
                done.push((minute, revision.0));
                let failed = fails.contains(&minute);
                compactor.on_done(now, if failed { Err(ApiError::Timeout) } else { Ok(()) }, &log);
            }
        }
        done
    }

    #[test]
    fn a_short_period_is_compacted_each_period() {
        // Samples each minute, eleven in the window: etcd's oldest is eleven minutes old from the second one on.
        let ten = AutoCompaction::Periodic(10 * MINUTE);
        assert_eq!(run(ten, 35, |_| true, &[]), [(10, 1), (20, 91), (30, 191)]);
        // A failed one is tried again at the next sample, with the revision that is due then.
        assert_eq!(run(ten, 25, |_| true, &[10, 11]), [(10, 1), (11, 1), (12, 11), (22, 111)]);
        // Who does not lead waits, and knows what is due when it leads.
        assert_eq!(run(ten, 25, |minute| minute > 14, &[]), [(15, 41), (25, 141)]);
    }

    #[test]
    fn a_long_period_is_compacted_each_hour() {
        let two_hours = AutoCompaction::Periodic(120 * MINUTE);
        assert_eq!(run(two_hours, 250, |_| true, &[]), [(120, 1), (180, 541), (240, 1141)]);
    }

    #[test]
    fn revisions_are_counted_every_five_minutes() {
        let keep = AutoCompaction::Revision(70);
        assert_eq!(run(keep, 17, |_| true, &[]), [(10, 31), (15, 81)]);
        assert_eq!(run(keep, 17, |minute| minute > 12, &[]), [(15, 81)]);
        assert_eq!(run(AutoCompaction::Off, 1000, |_| true, &[]), []);
    }

    #[test]
    fn a_store_that_stands_still_is_compacted_once() {
        let log = silent();
        let start = Instant::now();
        let mut compactor = Compactor::new(AutoCompaction::Periodic(10 * MINUTE), start, Revision(5));
        let mut done = 0;
        for minute in 1..100 {
            let now = start + MINUTE * minute;
            let facts = Facts { revision: Revision(5), leads: true };
            if compactor.poll(now, facts, &log).is_some() {
                done += 1;
                // Somebody else was faster, which is as good.
                compactor.on_done(now, Err(ApiError::Compacted), &log);
            }
        }
        assert_eq!(done, 1);
    }
}
