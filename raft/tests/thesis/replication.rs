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
        let payload = append((2, 2), vec![entry], 2);
        Message { from: MemberId(1), to: MemberId(to), term: Term(2), payload }
    };
    assert_eq!(sent, [expected(2), expected(3)]);
    assert_eq!(raft.poll_append().unwrap().entries.len(), 1);
}

#[test]
fn an_entry_commits_with_a_majority() {
    let check = |voters: u64, acks: &[u64], expected: bool| {
        let mut raft = leader(voters, 2, &[1]);
        (2..=voters).for_each(|from| drop(step(&mut raft, from, 2, matched(2))));
        raft.propose([Bytes::from_static(b"a")]).unwrap();
        run(&mut raft);
        acks.iter().for_each(|&from| drop(step(&mut raft, from, 2, matched(3))));
        assert_eq!(raft.commit_index() == LogIndex(3), expected, "{voters}: {acks:?}");
    };
    check(1, &[], true);
    check(3, &[], false);
    check(3, &[2], true);
    check(3, &[2, 3], true);
    check(5, &[2], false);
    check(5, &[2, 2], false);
    check(5, &[2, 3], true);
    check(5, &[2, 3, 4, 5], true);
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

#[test]
fn a_follower_commits_what_it_is_told_and_holds() {
    let check = |log: &[u64], payload: Payload, commit: u64| {
        let mut raft = member(3, 2, log);
        step(&mut raft, 2, 2, payload.clone());
        assert_eq!(raft.commit_index(), LogIndex(commit), "{log:?} <- {payload:?}");
    };
    check(&[1], append((1, 1), entries_from(2, &[2, 2]), 2), 2);
    check(&[1], append((1, 1), entries_from(2, &[2, 2]), 9), 3);
    // Entries behind the ones sent may still be replaced: they are not known to equal the leader's.
    check(&[1, 1, 1], append((1, 1), vec![], 3), 1);
    check(&[1, 1, 1], append((1, 1), entries_from(2, &[1]), 3), 2);
    check(&[1, 1], append((2, 2), vec![], 2), 0);
    check(&[1, 1], heartbeat(2), 2);
}

#[test]
fn the_consistency_check_compares_index_and_term() {
    let rejected = |prev: u64, hint: (u64, u64)| AppendOutcome::Rejected {
        prev_index: LogIndex(prev),
        hint_index: LogIndex(hint.0),
        hint_term: Term(hint.1),
    };
    let check = |prev: (u64, u64), expected: AppendOutcome| {
        let mut raft = member(3, 5, &[1, 2, 2]);
        assert_eq!(outcome(&step(&mut raft, 2, 5, append(prev, vec![], 0))), Some(expected), "{prev:?}");
    };
    // Only what was compared is acknowledged, not the entries behind it.
    check((0, 0), AppendOutcome::Matched { index: LogIndex(0) });
    check((1, 1), AppendOutcome::Matched { index: LogIndex(1) });
    check((2, 2), AppendOutcome::Matched { index: LogIndex(2) });
    check((2, 1), rejected(2, (1, 1)));
    check((3, 1), rejected(3, (1, 1)));
    check((3, 4), rejected(3, (3, 2)));
    check((4, 4), rejected(4, (3, 2)));
    check((9, 1), rejected(9, (1, 1)));
}

#[test]
fn a_conflicting_suffix_is_replaced_and_nothing_else() {
    let check = |prev: (u64, u64), sent: &[u64], after: &[u64], written: &[u64], truncated: Option<u64>| {
        let mut raft = member(3, 4, &[1, 2]);
        let message = Message {
            from: MemberId(2),
            to: MemberId(1),
            term: Term(4),
            payload: append(prev, entries_from(prev.0 + 1, sent), 0),
        };
        raft.step(message).unwrap();
        assert_eq!(terms(&raft), after, "{prev:?} {sent:?}");
        let write = raft.poll_append();
        let (entries, from) =
            write.map_or_else(Default::default, |write| (write.entries, write.truncate_from));
        assert_eq!(
            entries.iter().map(|entry| entry.term.0).collect::<Vec<_>>(),
            written,
            "{prev:?} {sent:?}"
        );
        assert_eq!(from, truncated.map(LogIndex), "{prev:?} {sent:?}");
    };
    check((2, 2), &[3], &[1, 2, 3], &[3], None);
    check((1, 1), &[3, 4], &[1, 3, 4], &[3, 4], Some(2));
    check((0, 0), &[1], &[1, 2], &[], None);
    check((0, 0), &[1, 2], &[1, 2], &[], None);
    check((0, 0), &[1, 2, 4], &[1, 2, 4], &[4], None);
    check((0, 0), &[3], &[3], &[3], Some(1));
    check((2, 1), &[3], &[1, 2], &[], None);
}

/// Figure 3.6 (7 in the paper): whatever a follower holds, the leader makes it equal to its own log.
#[test]
fn a_leader_repairs_every_divergent_log() {
    let ours = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let theirs: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for log in theirs {
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
            assert_eq!(terms(&cluster.nodes[&id].raft), expected, "{log:?}:\n{}", cluster.trace);
            assert_eq!(cluster.nodes[&id].disk.entries, cluster.nodes[&1].disk.entries, "{log:?}");
        }
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
