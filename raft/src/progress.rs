//! What the leader knows about one follower, and how freely it may send to it.
//!
//! ```text
//!            ack                    entries needed are gone
//!   Probe ---------> Replicate          any -----------> Snapshot
//!     ^                  |                                  |
//!     +------------------+                                  |
//!     |  reject, unreachable                                |
//!     +-----------------------------------------------------+
//!        installed or failed; any ack the log can follow on goes straight to Replicate
//! ```
//! Probe sends one message and waits; Replicate pipelines within a window (thesis §10.2.1); Snapshot sends
//! nothing. `match_index < next` always. Counterpart of etcd raft's `tracker/progress.go`.

use crate::config::Config;
use crate::inflights::Inflights;
use crate::types::{LogIndex, ReadRound};

/// How the leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Looking for the last common entry: one message at a time.
    Probe,
    /// In step: entries are sent as they come.
    Replicate,
    /// Being sent a snapshot.
    Snapshot,
}

/// The leader's view of one follower. Reset with every leadership.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) match_index: LogIndex,
    pub(crate) next: LogIndex,
    pub(crate) state: ProgressState,
    /// Heard from since the last quorum check.
    pub(crate) active: bool,
    /// False while the follower says it is recovering: its log counts for nothing.
    pub(crate) counting: bool,
    /// The newest read round a message to it carried, and the newest it echoed.
    pub(crate) round_sent: ReadRound,
    pub(crate) round_acked: ReadRound,
    /// The commit index the last message to it carried.
    sent_commit: LogIndex,
    /// A tick's heartbeat is unanswered; the answer may be used to find out whether appends were lost.
    tick_unanswered: bool,
    inflights: Inflights,
    /// Probe, or a full window: one message is out, wait for its answer or the next heartbeat's.
    waiting: bool,
}

impl Progress {
    pub(crate) fn new(config: &Config, next: LogIndex) -> Self {
        Self {
            match_index: LogIndex(0),
            next,
            state: ProgressState::Probe,
            active: false,
            counting: true,
            round_sent: ReadRound(0),
            round_acked: ReadRound(0),
            sent_commit: LogIndex(0),
            tick_unanswered: false,
            inflights: Inflights::new(config.inflight_count_max, config.inflight_bytes_max),
            waiting: false,
        }
    }

    /// A follower that joins under a leader: taken for active until the next quorum check, to have time to
    /// answer.
    pub(crate) fn newcomer(config: &Config, next: LogIndex) -> Self {
        Self { active: true, ..Self::new(config, next) }
    }

    /// What this follower adds to a quorum.
    pub(crate) fn counted(&self) -> LogIndex {
        if self.counting { self.match_index } else { LogIndex(0) }
    }

    pub(crate) fn is_paused(&self) -> bool {
        match self.state {
            ProgressState::Probe | ProgressState::Replicate => self.waiting,
            ProgressState::Snapshot => true,
        }
    }

    pub(crate) fn window_is_full(&self) -> bool {
        self.state == ProgressState::Replicate && self.inflights.is_full()
    }

    pub(crate) fn inflight_count(&self) -> usize {
        self.inflights.len()
    }

    /// Whether a message would bring it commit news it can use.
    pub(crate) fn wants_commit(&self, commit: LogIndex) -> bool {
        self.sent_commit < commit.min(self.match_index)
    }

    /// A message carrying `commit` and `round` has left.
    pub(crate) fn on_told(&mut self, commit: LogIndex, round: ReadRound) {
        self.sent_commit = commit;
        self.round_sent = round;
    }

    /// The heartbeat of a tick has left.
    pub(crate) fn on_tick(&mut self) {
        self.tick_unanswered = true;
    }

    /// A message with `count` entries and `bytes` of them has left.
    pub(crate) fn on_sent(&mut self, count: u64, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if count > 0 {
                    self.next = LogIndex(self.next.0 + count);
                    self.inflights.add(self.next.prev(), bytes);
                }
                // With a full window one empty message probes whether the window was lost, then it is quiet.
                self.waiting = self.inflights.is_full();
            }
            ProgressState::Probe => self.waiting = true,
            ProgressState::Snapshot => unreachable!("nothing is appended to a follower in snapshot state"),
        }
        debug_assert!(self.match_index < self.next, "match {} next {}", self.match_index, self.next);
    }

    /// The follower stores everything up to `index`; false if that is old news.
    pub(crate) fn on_matched(&mut self, index: LogIndex) -> bool {
        let news = index > self.match_index;
        self.match_index = self.match_index.max(index);
        self.next = self.next.max(index.next());
        self.inflights.free_to(index);
        if news {
            self.waiting = false;
        }
        news
    }

    /// The follower refused `prev_index`; the logs may agree up to `hint`. False if the answer is outdated.
    pub(crate) fn on_rejected(&mut self, prev_index: LogIndex, hint: LogIndex) -> bool {
        match self.state {
            ProgressState::Replicate if prev_index <= self.match_index => false,
            ProgressState::Replicate => {
                self.become_probe();
                true
            }
            _ if self.next.prev() != prev_index => false,
            _ => {
                self.next = prev_index.min(hint.next()).max(self.match_index.next());
                self.waiting = false;
                true
            }
        }
    }

    /// The follower is recovering, and its log holds nothing of use beyond `index`, whatever it once acknowledged.
    pub(crate) fn on_lost(&mut self, index: LogIndex) {
        self.match_index = self.match_index.min(index);
    }

    /// The follower answers a heartbeat. True once a tick: a lost append must not keep it waiting for ever,
    /// and heartbeats sent for reads are too many to look after each time.
    pub(crate) fn on_alive(&mut self) -> bool {
        self.active = true;
        let due = std::mem::take(&mut self.tick_unanswered);
        self.waiting &= !due;
        due
    }

    /// Starts over just behind what is known to match.
    pub(crate) fn become_probe(&mut self) {
        self.reset_state(ProgressState::Probe);
        self.next = self.match_index.next();
    }

    pub(crate) fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next = self.match_index.next();
    }

    pub(crate) fn become_snapshot(&mut self) {
        self.reset_state(ProgressState::Snapshot);
    }

    /// The snapshot up to `installed` was sent (zero: it failed). Probe behind it, at the pace of heartbeats.
    pub(crate) fn on_snapshot_done(&mut self, installed: LogIndex) {
        self.become_probe();
        self.next = self.next.max(installed.next());
        self.waiting = true;
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.state = state;
        self.waiting = false;
        self.inflights.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MemberId;

    fn progress(state: ProgressState, matched: u64, next: u64) -> Progress {
        let mut config = Config::new(MemberId(1), 0);
        config.inflight_count_max = 2;
        let mut progress = Progress::new(&config, LogIndex(next));
        progress.match_index = LogIndex(matched);
        progress.state = state;
        progress
    }

    use ProgressState::{Probe, Replicate, Snapshot};

    fn rejection(
        state: ProgressState,
        matched: u64,
        next: u64,
        rejected: u64,
        hint: u64,
        expected: (bool, u64),
    ) {
        let mut progress = progress(state, matched, next);
        let moved = progress.on_rejected(LogIndex(rejected), LogIndex(hint));
        assert_eq!((moved, progress.next.0), expected);
        assert!(progress.match_index < progress.next);
    }

    cases! {
        rejection {
            of_what_was_acknowledged_is_old: (Replicate, 5, 10, 5, 5, (false, 10));
            of_less_than_was_acknowledged_is_old: (Replicate, 5, 10, 4, 4, (false, 10));
            in_replicate_goes_back_to_the_match: (Replicate, 5, 10, 9, 9, (true, 6));
            of_another_probe_is_old: (Probe, 0, 10, 8, 3, (false, 10));
            goes_to_the_hint: (Probe, 0, 10, 9, 2, (true, 3));
            goes_back_at_least_by_one: (Probe, 0, 10, 9, 20, (true, 9));
            stops_at_the_beginning: (Probe, 0, 1, 0, 0, (true, 1));
            stops_at_the_match: (Probe, 4, 10, 9, 2, (true, 5));
            under_a_snapshot_of_another_probe: (Snapshot, 4, 10, 7, 2, (false, 10));
        }
    }

    #[test]
    fn a_recovering_follower_is_believed_when_it_has_less() {
        let check = |state, next: u64, lost: u64, (matched, after): (u64, u64)| {
            let mut progress = progress(state, 7, next);
            progress.on_lost(LogIndex(lost));
            assert!(progress.on_rejected(LogIndex(next - 1), LogIndex(lost)));
            assert_eq!(
                (progress.match_index.0, progress.next.0),
                (matched, after),
                "{state:?} {next} {lost}"
            );
        };
        check(Replicate, 8, 4, (4, 5));
        check(Probe, 8, 4, (4, 5));
        check(Replicate, 10, 9, (7, 8));
    }

    #[test]
    fn probe_sends_once_and_replicate_fills_its_window() {
        let mut probe = progress(Probe, 0, 1);
        probe.on_sent(3, 30);
        assert!(probe.is_paused());
        assert_eq!(probe.next, LogIndex(1), "a probe does not assume delivery");
        assert!(!probe.on_alive(), "an answer to a read's heartbeat changes nothing");
        assert!(probe.is_paused());
        probe.on_tick();
        assert!(probe.on_alive());
        assert!(!probe.is_paused());

        let mut replicate = progress(Replicate, 0, 1);
        replicate.on_sent(3, 30);
        assert!(!replicate.is_paused());
        replicate.on_sent(1, 10);
        assert!(replicate.is_paused() && replicate.window_is_full());
        assert!(replicate.on_matched(LogIndex(3)));
        assert!(!replicate.is_paused());
        assert_eq!((replicate.match_index, replicate.next), (LogIndex(3), LogIndex(5)));
        assert!(!replicate.on_matched(LogIndex(2)));
    }

    #[test]
    fn after_a_snapshot_probing_starts_behind_it() {
        let check = |installed: u64, next: u64| {
            let mut progress = progress(Snapshot, 3, 4);
            progress.on_snapshot_done(LogIndex(installed));
            assert_eq!((progress.state, progress.next.0), (Probe, next));
            assert!(progress.is_paused(), "the next heartbeat answer restarts it");
        };
        check(0, 4);
        check(9, 10);
    }
}
