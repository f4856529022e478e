//! §3.6 safety: who may lead, and what counts as committed.

use crate::player::*;

#[test]
fn vote_requests_carry_the_end_of_the_log_and_wait_for_it() {
    let mut raft = member_with(plain_config(), 3, 4, &[1, 2, 4]);
    raft.campaign();
    assert_eq!(raft.poll_message(), None, "a claim about the log waits until it is durable");
    let sent = run(&mut raft);
    let to: Vec<u64> = sent.iter().map(|message| message.to.0).collect();
    assert_eq!(to, [2, 3]);
    assert!(sent.iter().all(|message| message.term == Term(5) && message.payload == vote(3, 4)), "{sent:?}");
}

fn votes_go_to_complete_logs(log: &[u64], last: (u64, u64), expected: bool) {
    for request in [vote(last.0, last.1), pre_vote(last.0, last.1)] {
        let mut raft = member(3, 5, log);
        assert_eq!(granted(&step(&mut raft, 2, 6, request)), Some(expected), "{log:?} asked by {last:?}");
    }
}

cases! {
    votes_go_to_complete_logs {
        equal: (&[1], (1, 1), true);
        longer: (&[1], (2, 1), true);
        not_shorter: (&[1, 1], (1, 1), false);
        newer: (&[1], (1, 2), true);
        newer_and_longer: (&[1], (2, 2), true);
        newer_though_shorter: (&[1, 1], (1, 2), true);
        not_older: (&[2], (1, 1), false);
        not_older_though_longer: (&[2], (2, 1), false);
        not_older_and_shorter: (&[1, 2], (1, 1), false);
        empty_to_empty: (&[], (0, 0), true);
        not_empty: (&[1], (0, 0), false);
    }
}

#[test]
fn a_vote_leaves_when_it_is_durable() {
    let mut raft = member(3, 1, &[1]);
    let message = Message { from: MemberId(2), to: MemberId(1), term: Term(2), payload: vote(1, 1) };
    raft.step(message).unwrap();
    assert_eq!(raft.poll_message(), None);
    let write = raft.poll_append().unwrap();
    assert_eq!((write.hard_state.term, write.hard_state.vote), (Term(2), Some(MemberId(2))));
    assert_eq!(raft.poll_message(), None);
    raft.persisted(write.position);
    assert_eq!(granted(&[raft.poll_message().unwrap()]), Some(true));
}

/// Figure 3.7 (8 in the paper): a majority holding an old entry does not commit it.
fn only_entries_of_the_own_term_are_counted(acknowledged: u64, expected: u64) {
    let mut raft = leader(3, 4, &[1, 2]);
    step(&mut raft, 2, 4, matched(acknowledged));
    assert_eq!(raft.commit_index(), LogIndex(expected));
}

cases! {
    only_entries_of_the_own_term_are_counted {
        first_term_is_not: (1, 0);
        earlier_term_is_not: (2, 0);
        own_term_is_and_all_before_it: (3, 3);
    }
}

#[test]
fn a_repeated_forward_proposes_nothing_twice() {
    let propose = |number: u64| {
        let data = vec![Bytes::from_static(b"put")];
        Payload::Propose { number, kind: EntryKind::Normal, data }
    };
    let mut raft = leader(3, 2, &[1]);
    let check = |raft: &mut Raft, from: u64, term: u64, number: u64, last: u64| {
        step(raft, from, term, propose(number));
        assert_eq!(raft.last_index(), LogIndex(last), "{number} from {from} in term {term}");
    };
    check(&mut raft, 2, 2, 1, 3);
    check(&mut raft, 2, 2, 1, 3);
    check(&mut raft, 3, 2, 1, 4);
    check(&mut raft, 2, 2, 3, 5);
    // Overtaken on the way: lost.
    check(&mut raft, 2, 2, 2, 5);
    // From an earlier term of ours, or a stranger.
    check(&mut raft, 2, 1, 4, 5);
    check(&mut raft, 9, 2, 1, 5);
}

#[test]
fn a_member_numbers_its_forwards_on_over_a_restart() {
    let forwarded = |starts: u64| {
        let conf_state = ConfState::new((1..=3).map(MemberId), []);
        let hard_state = HardState { term: Term(2), ..HardState::default() };
        let restored = Restored { hard_state, conf_state, starts, ..Restored::default() };
        let mut raft = Raft::new(Config::new(MemberId(1), 3), restored).unwrap();
        step(&mut raft, 2, 2, heartbeat(0));
        raft.forward(EntryKind::Normal, vec![Bytes::from_static(b"put")]).unwrap();
        let number = |message: &Message| match message.payload {
            Payload::Propose { number, .. } => Some(number),
            _ => None,
        };
        run(&mut raft).iter().find_map(number).unwrap()
    };
    assert!(forwarded(0) < forwarded(1) && forwarded(1) < forwarded(2));
}
