//! §3.5 log replication.

use crate::harness::{Cluster, Disk};
use crate::player::*;

#[test]
fn a_leader_appends_and_sends_at_once() {
    let mut raft = leader(3, 2, &[1]);
    step(&mut raft, 2, 2, matched(2));
    step(&mut raft, 3, 2, matched(2));
    raft.propose([Bytes::from_static(b"a")]).unwrap();
    // Taken before the write is even handed out: the network and the disk work in parallel.
    let sent: Vec<Message> = std::iter::from_fn(|| raft.poll_message()).collect();
    let expected = |to: u64| {
        let entry = Entry {
            term: Term(2),
            index: LogIndex(3),
            kind: EntryKind::Normal,
            data: Bytes::from_static(b"a"),
        };
        let payload = Payload::Append {
            prev_index: LogIndex(2),
            prev_term: Term(2),
            entries: vec![entry],
            commit: LogIndex(2),
            round: ReadRound(1),
        };
        Message { from: MemberId(1), to: MemberId(to), term: Term(2), payload }
    };
    assert_eq!(sent, [expected(2), expected(3)]);
    assert_eq!(raft.poll_append().unwrap().entries.len(), 1);
}

fn a_commit_needs_a_majority(voters: u64, acks: &[u64], expected: bool) {
    let mut raft = leader(voters, 2, &[1]);
    (2..=voters).for_each(|from| drop(step(&mut raft, from, 2, matched(2))));
    raft.propose([Bytes::from_static(b"a")]).unwrap();
    run(&mut raft);
    acks.iter().for_each(|&from| drop(step(&mut raft, from, 2, matched(3))));
    assert_eq!(raft.commit_index() == LogIndex(3), expected);
}

cases! {
    a_commit_needs_a_majority {
        alone: (1, &[], true);
        not_one_of_two: (2, &[], false);
        both_of_two: (2, &[2], true);
        not_one_of_three: (3, &[], false);
        two_of_three: (3, &[2], true);
        all_of_three: (3, &[2, 3], true);
        not_two_of_four: (4, &[2], false);
        three_of_four: (4, &[2, 4], true);
        not_two_of_five: (5, &[2], false);
        one_answer_twice_is_one: (5, &[2, 2], false);
        three_of_five: (5, &[2, 3], true);
        all_of_five: (5, &[2, 3, 4, 5], true);
        strangers_do_not_count: (3, &[8, 9], false);
    }
}

#[test]
fn followers_may_commit_before_the_leaders_disk_does() {
    let mut raft = leader(3, 2, &[1]);
    step(&mut raft, 2, 2, matched(2));
    raft.propose([Bytes::from_static(b"a")]).unwrap();
    let write = raft.poll_append().unwrap();
    for (from, commit) in [(2, 2), (3, 3)] {
        let message = Message { from: MemberId(from), to: MemberId(1), term: Term(2), payload: matched(3) };
        raft.step(message).unwrap();
        assert_eq!(raft.commit_index(), LogIndex(commit), "after the answer of {from}");
    }
    raft.persisted(write.position);
}

#[test]
fn earlier_entries_commit_below_one_of_the_own_term() {
    for log in [&[][..], &[2], &[1, 2], &[1, 1, 2]] {
        let mut raft = leader(3, 3, log);
        assert_eq!(raft.commit_index(), LogIndex(0));
        let last = log.len() as u64 + 1;
        step(&mut raft, 2, 3, matched(last));
        assert_eq!(raft.applied_index(), LogIndex(last), "{log:?}");
    }
}

fn a_follower_commits(log: &[u64], payload: Payload, commit: u64) {
    let mut raft = member(3, 2, log);
    step(&mut raft, 2, 2, payload);
    assert_eq!(raft.commit_index(), LogIndex(commit));
}

cases! {
    a_follower_commits {
        what_it_is_told: (&[1], append((1, 1), entries_from(2, &[2, 2]), 2), 2);
        no_more_than_it_was_sent: (&[1], append((1, 1), entries_from(2, &[2, 2]), 9), 3);
        // Entries behind the ones sent may still be replaced: they are not known to equal the leader's.
        nothing_behind_what_was_compared: (&[1, 1, 1], append((1, 1), vec![], 3), 1);
        nothing_behind_what_was_sent: (&[1, 1, 1], append((1, 1), entries_from(2, &[1]), 3), 2);
        nothing_when_it_rejects: (&[1, 1], append((2, 2), vec![], 2), 0);
        with_a_heartbeat: (&[1, 1], heartbeat(2), 2);
        no_more_than_it_holds_with_a_heartbeat: (&[1, 1], heartbeat(7), 2);
    }
}

fn rejected(prev: u64, hint: (u64, u64)) -> AppendOutcome {
    let (hint_index, hint_term) = (LogIndex(hint.0), Term(hint.1));
    AppendOutcome::Rejected { prev_index: LogIndex(prev), hint_index, hint_term }
}

fn stored(index: u64) -> AppendOutcome {
    AppendOutcome::Matched { index: LogIndex(index) }
}

fn the_consistency_check(prev: (u64, u64), expected: AppendOutcome) {
    let mut raft = member(3, 5, &[1, 2, 2]);
    assert_eq!(outcome(&step(&mut raft, 2, 5, append(prev, vec![], 0))), Some(expected));
}

cases! {
    the_consistency_check {
        // Only what was compared is acknowledged, not the entries behind it.
        agrees_at_the_beginning: ((0, 0), stored(0));
        agrees_at_the_first: ((1, 1), stored(1));
        agrees_in_the_middle: ((2, 2), stored(2));
        agrees_at_the_end: ((3, 2), stored(3));
        rejects_an_older_term: ((2, 1), rejected(2, (1, 1)));
        rejects_an_older_term_at_the_end: ((3, 1), rejected(3, (1, 1)));
        rejects_a_newer_term: ((3, 4), rejected(3, (3, 2)));
        rejects_what_it_lacks: ((4, 4), rejected(4, (3, 2)));
        rejects_far_beyond_its_end: ((9, 1), rejected(9, (1, 1)));
    }
}

fn a_suffix(prev: (u64, u64), sent: &[u64], after: &[u64], written: &[u64], truncated: Option<u64>) {
    let mut raft = member(3, 4, &[1, 2]);
    let payload = append(prev, entries_from(prev.0 + 1, sent), 0);
    raft.step(Message { from: MemberId(2), to: MemberId(1), term: Term(4), payload }).unwrap();
    assert_eq!(terms(&raft), after);
    let write = raft.poll_append();
    let (entries, from) = write.map_or_else(Default::default, |write| (write.entries, write.truncate_from));
    assert_eq!(entries.iter().map(|entry| entry.term.0).collect::<Vec<_>>(), written);
    assert_eq!(from, truncated.map(LogIndex));
}

cases! {
    a_suffix {
        is_added: ((2, 2), &[3], &[1, 2, 3], &[3], None);
        that_conflicts_is_replaced: ((1, 1), &[3, 4], &[1, 3, 4], &[3, 4], Some(2));
        that_is_known_is_not_written: ((0, 0), &[1], &[1, 2], &[], None);
        that_is_all_known_is_not_written: ((0, 0), &[1, 2], &[1, 2], &[], None);
        that_is_known_in_part_is_written_in_part: ((0, 0), &[1, 2, 4], &[1, 2, 4], &[4], None);
        that_conflicts_from_the_beginning_replaces_all: ((0, 0), &[3], &[3], &[3], Some(1));
        behind_what_does_not_match_is_refused: ((2, 1), &[3], &[1, 2], &[], None);
    }
}

/// Figure 3.6 (7 in the paper): whatever a follower holds, the leader makes it equal to its own log.
fn a_leader_repairs(log: &[u64]) {
    let ours = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let mut cluster = Cluster::empty();
    let disk = |log: &[u64]| Disk {
        hard_state: HardState { term: Term(7), ..HardState::default() },
        conf_state: ConfState::new([1, 2, 3].map(MemberId), []),
        entries: entries(log),
        ..Disk::default()
    };
    cluster.start(1, disk(&ours));
    cluster.start(2, disk(log));
    // It is elected with the vote of a third member that has nothing.
    cluster.start(3, disk(&[]));
    cluster.raft(1).campaign();
    cluster.settle();
    let expected = terms(&cluster.nodes[&1].raft);
    assert!(cluster.nodes[&1].raft.is_leader() && expected.ends_with(&[6, 8]), "{}", cluster.trace);
    for id in [2, 3] {
        assert_eq!(terms(&cluster.nodes[&id].raft), expected, "{}", cluster.trace);
        assert_eq!(cluster.nodes[&id].disk.entries, cluster.nodes[&1].disk.entries);
    }
}

cases! {
    a_leader_repairs {
        figure_a_one_entry_missing: (&[1, 1, 1, 4, 4, 5, 5, 6, 6]);
        figure_b_many_missing: (&[1, 1, 1, 4]);
        figure_c_one_too_many: (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]);
        figure_d_a_later_term: (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]);
        figure_e_missing_and_too_many: (&[1, 1, 1, 4, 4, 4, 4]);
        figure_f_terms_nobody_knows: (&[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]);
        an_equal_log: (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
        nothing_at_all: (&[]);
    }
}

#[test]
fn a_repeated_or_late_append_does_no_harm() {
    let mut raft = member(3, 2, &[1]);
    step(&mut raft, 2, 2, append((1, 1), entries_from(2, &[2, 2, 2]), 3));
    let late = step(&mut raft, 2, 2, append((1, 1), entries_from(2, &[2]), 2));
    assert_eq!(
        outcome(&late),
        Some(AppendOutcome::Matched { index: LogIndex(3) }),
        "what is committed is equal"
    );
    assert_eq!((terms(&raft), raft.commit_index()), (vec![1, 2, 2, 2], LogIndex(3)));
}

/// Found by reading: the answer to a message of an older term compares nothing, and must not be taken for an empty log
/// while its sender is probed at the end of it.
#[test]
fn an_answer_that_compared_nothing_moves_no_probe() {
    let mut raft = leader(3, 4, &[1, 1, 1]);
    assert_eq!(step(&mut raft, 3, 4, matched(0)), []);
    let probe =
        |raft: &Raft| raft.status().followers.iter().find(|peer| peer.id == MemberId(3)).cloned().unwrap();
    assert_eq!((probe(&raft).state, probe(&raft).next_index), (raft::ProgressState::Probe, LogIndex(4)));
    step(&mut raft, 3, 4, matched(3));
    assert_eq!(probe(&raft).state, raft::ProgressState::Replicate);
}
