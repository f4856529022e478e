//! A member that has lost acknowledged data: it stores, and promises nothing until it has caught up with
//! itself.

use crate::player::*;

#[test]
fn a_recovering_member_promises_nothing() {
    let restored = Restored {
        hard_state: HardState { term: Term(2), ..HardState::default() },
        conf_state: ConfState::new([1, 2, 3].map(MemberId), []),
        entries: entries(&[1]),
        recovering: Some(Promise { term: Term(2), index: LogIndex(3) }),
        ..Restored::default()
    };
    let mut raft = Raft::new(Config::new(MemberId(1), 3), restored).unwrap();
    raft.campaign();
    assert_eq!(tick(&mut raft, 50), []);
    assert_eq!(granted(&step(&mut raft, 2, 3, vote(9, 2))), None);
    assert_eq!(raft.read_index(), Err(ReadError::Recovering));

    let counts = |sent: &[Message]| match sent[..] {
        [Message { payload: Payload::AppendReply { counting, .. }, .. }] => counting,
        _ => panic!("{sent:?}"),
    };
    assert!(
        !counts(&step(&mut raft, 2, 3, append((1, 1), entries_from(2, &[2, 2]), 2))),
        "3 may not be committed"
    );
    assert!(counts(&step(&mut raft, 2, 3, append((3, 2), vec![], 3))));
    assert_eq!(granted(&step(&mut raft, 3, 4, vote(9, 3))), None, "loyal again, like any other");
}

#[test]
fn what_a_recovering_follower_stores_is_not_counted() {
    let mut raft = leader(3, 2, &[1]);
    let outcome = AppendOutcome::Matched { index: LogIndex(2) };
    step(&mut raft, 2, 2, Payload::AppendReply { outcome, round: ReadRound(0), counting: false });
    assert_eq!(raft.commit_index(), LogIndex(0));
    step(&mut raft, 2, 2, Payload::AppendReply { outcome, round: ReadRound(0), counting: true });
    assert_eq!(raft.commit_index(), LogIndex(2));
}

/// Member 1 of three in `term`, with this log, having lost all from there up to `promise`.
fn damaged(term: u64, log: &[u64], promise: (u64, u64)) -> Raft {
    let restored = Restored {
        hard_state: HardState { term: Term(term), ..HardState::default() },
        conf_state: ConfState::new([1, 2, 3].map(MemberId), []),
        entries: entries(log),
        recovering: Some(Promise { term: Term(promise.0), index: LogIndex(promise.1) }),
        ..Restored::default()
    };
    Raft::new(Config { check_quorum: false, ..Config::new(MemberId(1), 3) }, restored).unwrap()
}

/// Found by reading: the term's leader may be another than the one voted for and forgotten.
#[test]
fn a_forgotten_vote_is_not_given_again() {
    let mut raft = damaged(3, &[1, 1], (3, 2));
    step(&mut raft, 2, 3, append((2, 1), vec![], 2));
    assert!(!raft.status().recovering);
    assert_eq!(raft.hard_state().vote, Some(MemberId(2)), "so it stays after a crash");

    let (hard_state, conf_state) = (raft.hard_state(), raft.conf_state().clone());
    let restored = Restored { hard_state, conf_state, entries: entries(&[1, 1]), ..Restored::default() };
    let mut again = Raft::new(Config::new(MemberId(1), 3), restored).unwrap();
    assert_eq!(granted(&step(&mut again, 3, 3, vote(2, 1))), Some(false));
    assert_eq!(granted(&step(&mut again, 3, 4, vote(2, 1))), Some(true));
}

/// Found by reading: what damage uncovers at an index is not what was acknowledged there.
#[test]
fn a_heartbeat_commits_nothing_uncovered_by_damage() {
    let mut raft = damaged(3, &[1, 1, 2], (3, 4));
    step(&mut raft, 2, 3, heartbeat(4));
    assert_eq!(raft.commit_index(), LogIndex(0));
    step(&mut raft, 2, 3, append((2, 1), entries_from(3, &[3, 3]), 4));
    assert_eq!((raft.commit_index(), terms(&raft)), (LogIndex(4), vec![1, 1, 3, 3]));
}

fn the_end_of_recovery(term: u64, payload: Payload, ends: bool) {
    let mut raft = damaged(2, &[1, 1], (3, 4));
    step(&mut raft, 2, term, payload);
    assert_eq!(!raft.status().recovering, ends);
}

cases! {
    the_end_of_recovery {
        is_log_and_commit_beyond_the_promise: (3, append((2, 1), entries_from(3, &[3, 3]), 4), true);
        is_not_the_log_alone: (3, append((2, 1), entries_from(3, &[3, 3]), 3), false);
        is_not_the_commit_alone: (3, append((2, 1), entries_from(3, &[3]), 9), false);
        is_not_in_a_term_before_the_promise: (2, append((2, 1), entries_from(3, &[2, 2]), 4), false);
        is_a_snapshot_beyond_it: (3, snapshot(5, 3), true);
        is_not_a_snapshot_before_it: (3, snapshot(3, 2), false);
        is_not_a_heartbeat: (3, heartbeat(4), false);
    }
}

fn a_recovering_member_answers(payload: Payload, term: u64, expected: bool) {
    let mut raft = damaged(2, &[1, 1], (3, 4));
    assert_eq!(!step(&mut raft, 2, term, payload).is_empty(), expected);
}

cases! {
    a_recovering_member_answers {
        appends: (append((2, 1), vec![], 2), 2, true);
        heartbeats: (heartbeat(2), 2, true);
        snapshots: (snapshot(3, 2), 2, true);
        no_vote: (vote(9, 2), 3, false);
        no_pre_vote: (pre_vote(9, 2), 3, false);
        no_invitation: (Payload::TimeoutNow, 2, false);
    }
}

/// Found by a scenario: what it acknowledged before the damage stood in the way of repair until the term ended.
#[test]
fn a_leader_believes_a_recovering_follower_that_has_less() {
    let mut raft = leader(3, 2, &[1]);
    step(&mut raft, 2, 2, matched(2));
    raft.propose([Bytes::from_static(b"a")]).unwrap();
    run(&mut raft);
    step(&mut raft, 2, 2, matched(3));
    let lost =
        AppendOutcome::Rejected { prev_index: LogIndex(3), hint_index: LogIndex(1), hint_term: Term(1) };
    let sent =
        step(&mut raft, 2, 2, Payload::AppendReply { outcome: lost, round: ReadRound(0), counting: false });
    let from = |message: &Message| match &message.payload {
        Payload::Append { prev_index, entries, .. } => Some((prev_index.0, entries.len())),
        _ => None,
    };
    assert_eq!(sent.iter().find_map(from), Some((1, 2)));
    // The same words from one that is not recovering are an old message.
    let mut raft = leader(3, 2, &[1]);
    step(&mut raft, 2, 2, matched(2));
    let old =
        AppendOutcome::Rejected { prev_index: LogIndex(2), hint_index: LogIndex(1), hint_term: Term(1) };
    let sent =
        step(&mut raft, 2, 2, Payload::AppendReply { outcome: old, round: ReadRound(0), counting: true });
    assert_eq!(sent, []);
}
