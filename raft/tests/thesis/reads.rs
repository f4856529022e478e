//! §6.4 linearizable reads.

use crate::player::*;

/// Echoes count from the round before this read's: 1 is this one.
fn a_read_needs_a_majority(voters: u64, learners: &[u64], echoes: &[(u64, u64)], expected: bool) {
    let mut raft = leader(voters, 2, &[1]);
    for &id in learners {
        let op = ConfChangeOp::AddLearner;
        raft.apply_conf_change(&ConfChange { op, member: MemberId(id), context: Bytes::new() });
    }
    (2..=voters).for_each(|from| drop(step(&mut raft, from, 2, matched(2))));
    let round = raft.read_index().unwrap();
    run(&mut raft);
    for &(from, echoed) in echoes {
        step(&mut raft, from, 2, echo(ReadRound(round.0 - 1 + echoed)));
    }
    let answer = raft.poll_read();
    assert_eq!(answer.is_some_and(|read| read.round == round), expected);
}

cases! {
    a_read_needs_a_majority {
        alone_it_is_confirmed: (1, &[], &[], true);
        not_without_an_echo: (3, &[], &[], false);
        one_echo_of_three: (3, &[], &[(2, 1)], true);
        not_by_an_older_round: (3, &[], &[(2, 0)], false);
        not_by_one_echo_of_four: (4, &[], &[(2, 1)], false);
        not_by_one_echo_of_five: (5, &[], &[(2, 1)], false);
        not_by_one_echo_twice: (5, &[], &[(2, 1), (2, 1)], false);
        two_echoes_of_five: (5, &[], &[(2, 1), (3, 1)], true);
        not_by_a_learner: (3, &[4], &[(4, 1)], false);
        not_by_a_stranger: (3, &[], &[(9, 1)], false);
        an_echo_of_the_future_is_one_of_now: (3, &[], &[(2, 7)], true);
    }
}

#[test]
fn a_bogus_echo_confirms_no_later_read() {
    let mut raft = leader(3, 2, &[1]);
    step(&mut raft, 2, 2, matched(2));
    step(&mut raft, 2, 2, echo(ReadRound(1_000)));
    raft.read_index().unwrap();
    run(&mut raft);
    assert_eq!(raft.poll_read(), None);
}

#[test]
fn a_new_leader_confirms_no_read_before_its_first_commit() {
    let mut raft = leader(3, 2, &[1]);
    let round = raft.read_index().unwrap();
    run(&mut raft);
    step(&mut raft, 2, 2, echo(ReadRound(9)));
    assert_eq!(raft.poll_read(), None);
    step(&mut raft, 2, 2, matched(2));
    step(&mut raft, 2, 2, echo(round));
    let read = raft.poll_read().unwrap();
    assert_eq!((read.round, read.index), (round, LogIndex(2)));
}

#[test]
fn a_leader_that_comes_back_has_forgotten_its_unconfirmed_reads() {
    // In between somebody else may have led and committed more than the index this round was closed with.
    let mut raft = leader(3, 2, &[1]);
    step(&mut raft, 2, 2, matched(2));
    let round = raft.read_index().unwrap();
    run(&mut raft);
    step(&mut raft, 3, 3, heartbeat(0));
    tick(&mut raft, 20);
    step(&mut raft, 2, 4, vote_reply(true));
    assert_eq!((raft.role(), raft.term()), (Role::Leader, Term(4)));
    step(&mut raft, 2, 4, matched(3));
    step(&mut raft, 2, 4, echo(round));
    assert_eq!(raft.poll_read(), None);
}

#[test]
fn reads_need_a_leader() {
    assert_eq!(member(3, 2, &[1]).read_index(), Err(ReadError::NoLeader));
    let mut raft = member(3, 2, &[1]);
    step(&mut raft, 2, 2, heartbeat(0));
    assert!(raft.read_index().is_ok());
    let asked = run(&mut raft);
    assert!(
        matches!(asked[..], [Message { to: MemberId(2), payload: Payload::ReadIndex { .. }, .. }]),
        "{asked:?}"
    );
}
