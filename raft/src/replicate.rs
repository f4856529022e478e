//! Keeping logs equal: the leader's pipelined appends, the follower's consistency check, conflict hints, the
//! commit rule.
//!
//! Thesis §3.5 and §3.6.2, pipelining and parallel disk writes §10.2.1. The leader sends entries while it
//! writes them; its own copy counts, like a follower's, when durable.

use crate::log::{RaftLog, entry_bytes};
use crate::message::{AppendOutcome, Payload};
use crate::progress::{Progress, ProgressState};
use crate::quorum;
use crate::raft::Raft;
use crate::seeded::{self, Bug};
use crate::types::{Entry, LogIndex, MemberId, ReadRound, SnapshotMeta, Term};

impl Raft {
    /// Messages to `peer` are being lost.
    pub fn report_unreachable(&mut self, peer: MemberId) {
        if let Some(progress) = self.peers.get_mut(&peer)
            && progress.state == ProgressState::Replicate
        {
            progress.become_probe();
        }
    }

    /// A snapshot for `to`, asked for by [`poll_snapshot_request`](Self::poll_snapshot_request), is pinned;
    /// the driver streams it and sends the message this emits with it. False if it is no longer wanted.
    ///
    /// Until [`snapshot_status`](Self::snapshot_status) tells how that ended, or `to` itself shows that it
    /// has caught up, nothing else is sent to it.
    pub fn begin_snapshot(&mut self, to: MemberId, meta: SnapshotMeta) -> bool {
        let wanted = self.is_leader()
            && self.peers.get(&to).is_some_and(|peer| peer.state == ProgressState::Snapshot)
            && meta.index.next() >= self.log.first_index();
        if wanted {
            self.send(to, Payload::Snapshot { meta });
        }
        wanted
    }

    /// Streaming a snapshot to `peer` has ended: it arrived up to the given index, or it failed. That it is
    /// installed, the peer says itself.
    pub fn snapshot_status(&mut self, peer: MemberId, sent: Option<LogIndex>) {
        if let Some(progress) = self.peers.get_mut(&peer)
            && progress.state == ProgressState::Snapshot
        {
            progress.on_snapshot_done(sent.unwrap_or_default());
        }
    }

    /// Entries were added to the own log: they go to every follower with a free window.
    pub(crate) fn after_append(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        self.close_round();
        self.broadcast_append();
    }

    /// Entries or commit news for every follower that is not waiting.
    pub(crate) fn broadcast_append(&mut self) {
        let peers: Vec<MemberId> = self.peers.keys().copied().collect();
        for to in peers {
            self.send_append(to, true);
        }
    }

    /// Sends the next piece of the log to `to`; with nothing new to say only if `even_empty`. False if
    /// nothing was sent.
    pub(crate) fn send_append(&mut self, to: MemberId, even_empty: bool) -> bool {
        let Some(progress) = self.peers.get_mut(&to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let prev_index = progress.next.prev();
        let Some(prev_term) = self.log.term(prev_index) else {
            progress.become_snapshot();
            self.outbox.request_snapshot(to);
            return false;
        };
        let entries = next_entries(&self.log, progress, self.config.append_bytes_max);
        if entries.is_empty() && !even_empty {
            return false;
        }
        progress.on_sent(entries.len() as u64, entries.iter().map(entry_bytes).sum());
        let round = self.reads.closed();
        let commit = self.log.commit();
        progress.on_told(commit, round);
        self.send(to, Payload::Append { prev_index, prev_term, entries, commit, round });
        true
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        self.close_round();
        let peers: Vec<MemberId> = self.peers.keys().copied().collect();
        for to in peers {
            self.send_heartbeat(to);
        }
        self.peers.values_mut().for_each(Progress::on_tick);
    }

    /// A follower may have lost its log behind what it acknowledged in an earlier term, so no commit beyond
    /// its match.
    pub(crate) fn send_heartbeat(&mut self, to: MemberId) {
        let round = self.reads.closed();
        let Some(progress) = self.peers.get_mut(&to) else { return };
        let bound =
            if seeded::is(Bug::HeartbeatCommitsAll) { self.log.commit() } else { progress.match_index };
        let commit = self.log.commit().min(bound);
        progress.on_told(commit, round);
        self.send(to, Payload::Heartbeat { commit, round });
    }

    pub(crate) fn handle_append(
        &mut self,
        from: MemberId,
        (prev_index, prev_term): (LogIndex, Term),
        entries: Vec<Entry>,
        leader_commit: LogIndex,
        round: ReadRound,
    ) {
        if prev_index < self.log.commit() {
            // Late or repeated. What is committed here equals the leader's log.
            self.reply_append(from, AppendOutcome::Matched { index: self.log.commit() }, round);
            return;
        }
        let skips = seeded::is(Bug::SkipConsistencyCheck) && prev_index <= self.log.last_index();
        if !self.log.matches(prev_index, prev_term) && !skips {
            let start = prev_index.min(self.log.last_index());
            let (hint_index, hint_term) = self.log.find_conflict_by_term(start, prev_term);
            let hint_term = hint_term.unwrap_or_default();
            self.reply_append(from, AppendOutcome::Rejected { prev_index, hint_index, hint_term }, round);
            return;
        }
        let last_new = LogIndex(prev_index.0 + entries.len() as u64);
        self.store(entries);
        if seeded::is(Bug::TruncateRepeated) && last_new < self.log.last_index() && !self.is_leader() {
            self.drop_from(last_new.next());
        }
        self.commit_to(leader_commit.min(last_new));
        self.leave_recovery(last_new, leader_commit);
        self.reply_append(from, AppendOutcome::Matched { index: last_new }, round);
    }

    /// Adds what the log lacks, first dropping what contradicts it. Entries it already has are not written
    /// again.
    fn store(&mut self, mut entries: Vec<Entry>) {
        let Some(at) = self.log.find_conflict(&entries) else { return };
        assert!(!self.is_leader(), "a leader's log is changed by nobody else, in term {}", self.term);
        let mut fresh = entries.split_off(at);
        if seeded::is(Bug::KeepConflict) {
            fresh.retain(|entry| entry.index > self.log.last_index());
        }
        let Some(first) = fresh.first().map(|entry| entry.index) else { return };
        if first <= self.log.last_index() {
            self.drop_from(first);
        }
        let position = self.outbox.open();
        for entry in &fresh {
            self.log.push(entry.term, entry.kind, entry.data.clone());
        }
        self.outbox.entries().extend(fresh);
        self.log.written_at(position);
    }

    /// Drops `from` and everything after it, here and on disk.
    fn drop_from(&mut self, from: LogIndex) {
        self.outbox.open();
        self.log.truncate(from);
        self.outbox.truncate(from);
    }

    pub(crate) fn reply_append(&mut self, to: MemberId, outcome: AppendOutcome, round: ReadRound) {
        let counting = self.recovering.is_none();
        let round = if counting { round } else { ReadRound(0) };
        self.send_durable(to, Payload::AppendReply { outcome, round, counting });
    }

    pub(crate) fn handle_heartbeat(&mut self, from: MemberId, commit: LogIndex, round: ReadRound) {
        if self.recovering.is_some() {
            // What bounds the commit was acknowledged in an earlier life: this log may hold something else there.
            self.send_in_term(from, Payload::HeartbeatReply { round: ReadRound(0) });
            return;
        }
        // The bound was acknowledged by this member in this term, so the entries are here.
        self.commit_to(commit.min(self.log.last_index()));
        self.send_in_term(from, Payload::HeartbeatReply { round });
    }

    /// The state up to `meta` has been received whole.
    pub(crate) fn handle_snapshot(&mut self, from: MemberId, meta: SnapshotMeta) {
        let SnapshotMeta { index, term, .. } = meta;
        if index > self.log.commit() && self.log.matches(index, term) {
            // The log already holds all of it: only the news that it is committed counts.
            self.commit_to(index);
        } else if index > self.log.commit() {
            let position = self.outbox.open();
            self.log.restore((index, term), position);
            self.switch_conf(meta.conf_state.clone());
            self.outbox.snapshot(meta);
        }
        let commit = self.log.commit();
        self.leave_recovery(commit, commit);
        self.reply_append(from, AppendOutcome::Matched { index: commit }, ReadRound(0));
    }

    /// A recovering member counts again once it has everything it may ever have promised, and knows it
    /// committed.
    ///
    /// It may have voted in this term and forgotten for whom. The term has its leader now, so a vote for that one
    /// harms nobody, and bars every other.
    fn leave_recovery(&mut self, matched: LogIndex, leader_commit: LogIndex) {
        if let Some(promise) = self.recovering
            && matched >= promise.index
            && leader_commit >= promise.index
            && self.term >= promise.term
        {
            self.recovering = None;
            if self.vote.is_none() {
                self.set_hard_state(self.term, self.leader);
            }
        }
    }

    pub(crate) fn handle_append_reply(
        &mut self,
        from: MemberId,
        outcome: AppendOutcome,
        round: ReadRound,
        counting: bool,
    ) {
        let last = self.log.last_index();
        let is_leader = self.is_leader();
        let newest_round = self.reads.closed();
        let Some(progress) = self.peers.get_mut(&from).filter(|_| is_leader) else { return };
        progress.active = true;
        let counts_again = counting && !progress.counting;
        progress.counting = counting;
        progress.round_acked = progress.round_acked.max(round.min(newest_round));
        match outcome {
            // Nobody can hold more of this term than its leader; damage, so not believed.
            AppendOutcome::Matched { index } if index > last => {}
            AppendOutcome::Matched { index } => self.on_matched(from, index, counts_again),
            AppendOutcome::Rejected { prev_index, hint_index, hint_term } => {
                let hint = match hint_term {
                    Term(0) => hint_index,
                    term => self.log.find_conflict_by_term(hint_index.min(last), term).0,
                };
                if !counting {
                    progress.on_lost(hint.min(prev_index.prev()));
                }
                if progress.on_rejected(prev_index, hint) {
                    self.send_append(from, true);
                }
            }
        }
        self.confirm_reads();
    }

    fn on_matched(&mut self, from: MemberId, index: LogIndex, counts_again: bool) {
        let first = self.log.first_index();
        let progress = self.peers.get_mut(&from).expect("caller found it");
        // Others are late, or answer what was sent in an older term and compared nothing.
        let answers_probe = index >= progress.next.prev();
        let news = progress.on_matched(index);
        match progress.state {
            ProgressState::Probe if answers_probe => progress.become_replicate(),
            // The log can be followed on from there, whichever snapshot or append brought it.
            ProgressState::Snapshot if index.next() >= first => progress.become_replicate(),
            _ if !news && !counts_again => return,
            _ => {}
        }
        if !self.maybe_commit() {
            // The answer may have opened a full window, or made commit news usable.
            while self.send_append(from, false) {}
            if self.peers.get(&from).is_some_and(|peer| peer.wants_commit(self.log.commit())) {
                self.send_append(from, true);
            }
        }
        self.finish_transfer(from);
    }

    pub(crate) fn handle_heartbeat_reply(&mut self, from: MemberId, round: ReadRound) {
        let last = self.log.last_index();
        let is_leader = self.is_leader();
        let newest_round = self.reads.closed();
        let Some(progress) = self.peers.get_mut(&from).filter(|_| is_leader) else { return };
        progress.round_acked = progress.round_acked.max(round.min(newest_round));
        // It lacks entries that may be on the way or lost, or it is recovering, as round zero tells, and may not hold
        // what it once acknowledged: an append finds out.
        let lacks_entries = progress.match_index < last || progress.state == ProgressState::Probe;
        let recovering = !progress.counting || round == ReadRound(0);
        if progress.on_alive() && (lacks_entries || recovering) {
            self.send_append(from, true);
        }
        self.confirm_reads();
    }

    /// Commits what a majority holds durably, if it is of the own term (thesis §3.6.2). True, and everybody
    /// told, if that is news.
    pub(crate) fn maybe_commit(&mut self) -> bool {
        let own = self.config.id;
        let held = quorum::reached(&self.conf.voters, |id| {
            if id == own {
                if seeded::is(Bug::CountUnwritten) { self.log.last_index() } else { self.log.stable() }
            } else {
                self.peers.get(&id).map_or(LogIndex(0), Progress::counted)
            }
        });
        let own_term = self.log.matches(held, self.term) || seeded::is(Bug::CommitOlderTerm);
        if held <= self.log.commit() || !own_term {
            return false;
        }
        let first_of_term = !self.has_committed_in_term();
        self.commit_to(held);
        if first_of_term {
            self.advance_reads();
        }
        self.broadcast_append();
        true
    }
}

/// What to send next. With a full window nothing: the message then only asks whether the window was lost.
fn next_entries(log: &RaftLog, progress: &Progress, bytes_max: u64) -> Vec<Entry> {
    if progress.window_is_full() { Vec::new() } else { log.batch(progress.next, log.last_index(), bytes_max) }
}
