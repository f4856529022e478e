//! §3.3 terms, §3.4 elections, §4.2.3 loyalty to a live leader, §6.2 quorum checks, §9.6 pre-vote.

use crate::player::*;

fn a_higher_term_is_adopted(role: Role, payload: Payload, leader: Option<u64>) {
    // Check-quorum would make a leader deaf to votes; that is tested below.
    let mut raft = member_with(Config { check_quorum: false, ..plain_config() }, 3, 1, &[1]);
    if role != Role::Follower {
        raft.campaign();
        run(&mut raft);
    }
    if role == Role::Leader {
        step(&mut raft, 2, 2, vote_reply(true));
    }
    assert_eq!(raft.role(), role);
    step(&mut raft, 2, 9, payload);
    let state = (raft.role(), raft.term(), raft.leader());
    assert_eq!(state, (Role::Follower, Term(9), leader.map(MemberId)));
}

cases! {
    a_higher_term_is_adopted {
        by_a_follower_from_an_append: (Role::Follower, append((0, 0), vec![], 0), Some(2));
        by_a_follower_from_a_heartbeat: (Role::Follower, heartbeat(0), Some(2));
        by_a_follower_from_a_vote: (Role::Follower, vote(9, 8), None);
        by_a_follower_from_a_refusal: (Role::Follower, vote_reply(false), None);
        by_a_follower_from_an_answer: (Role::Follower, matched(0), None);
        by_a_candidate_from_an_append: (Role::Candidate, append((0, 0), vec![], 0), Some(2));
        by_a_candidate_from_a_heartbeat: (Role::Candidate, heartbeat(0), Some(2));
        by_a_candidate_from_a_vote: (Role::Candidate, vote(9, 8), None);
        by_a_candidate_from_a_refusal: (Role::Candidate, vote_reply(false), None);
        by_a_candidate_from_an_answer: (Role::Candidate, matched(0), None);
        by_a_leader_from_an_append: (Role::Leader, append((0, 0), vec![], 0), Some(2));
        by_a_leader_from_a_heartbeat: (Role::Leader, heartbeat(0), Some(2));
        by_a_leader_from_a_vote: (Role::Leader, vote(9, 8), None);
        by_a_leader_from_a_refusal: (Role::Leader, vote_reply(false), None);
        by_a_leader_from_an_answer: (Role::Leader, matched(0), None);
    }
}

fn a_stale_term_changes_nothing(payload: Payload, answered: bool) {
    let mut raft = member(3, 5, &[1, 5]);
    let sent = step(&mut raft, 2, 4, payload);
    assert_eq!((raft.term(), raft.leader(), terms(&raft)), (Term(5), None, vec![1, 5]));
    assert_eq!(!sent.is_empty(), answered, "{sent:?}");
    assert!(sent.iter().all(|message| message.term == Term(5)), "{sent:?}");
}

cases! {
    a_stale_term_changes_nothing {
        // A deposed leader and a candidate behind learn of the newer term; nobody else is answered.
        append_is_answered: (append((0, 0), entries(&[4]), 1), true);
        heartbeat_is_answered: (heartbeat(2), true);
        pre_vote_is_answered: (pre_vote(9, 4), true);
        vote_is_not: (vote(9, 4), false);
        vote_reply_is_not: (vote_reply(true), false);
        append_reply_is_not: (matched(2), false);
        invitation_is_not: (Payload::TimeoutNow, false);
        echo_is_not: (echo(ReadRound(1)), false);
    }
}

#[test]
fn members_start_as_followers() {
    let raft = member(3, 5, &[1, 5]);
    assert_eq!((raft.role(), raft.term(), raft.leader()), (Role::Follower, Term(5), None));
}

#[test]
fn leaders_send_heartbeats_every_tick() {
    let mut raft = leader(3, 2, &[1]);
    for _ in 0..3 {
        let to: Vec<u64> = tick(&mut raft, 1)
            .iter()
            .filter(|message| matches!(message.payload, Payload::Heartbeat { .. }))
            .map(|message| message.to.0)
            .collect();
        assert_eq!(to, [2, 3]);
    }
}

#[test]
fn followers_and_candidates_campaign_after_a_timeout() {
    for mut raft in [member_with(plain_config(), 3, 1, &[1]), candidate(3, 2, &[1])] {
        let term = raft.term();
        assert_eq!(tick(&mut raft, 9), [], "never before the election timeout");
        tick(&mut raft, 10);
        assert_eq!((raft.role(), raft.term()), (Role::Candidate, Term(term.0 + 1)));
    }
}

#[test]
fn timeouts_are_spread_over_their_whole_range() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut raft = member_with(Config { seed, ..plain_config() }, 3, 1, &[1]);
        let ticks = (1..).find(|_| !tick(&mut raft, 1).is_empty()).unwrap();
        seen.insert(ticks);
    }
    assert_eq!(seen, (10..20).collect());
}

#[test]
fn members_rarely_time_out_together() {
    let timeout = |seed: u64, id: u64| {
        let config = Config { seed, pre_vote: false, ..Config::new(MemberId(id), seed) };
        let conf_state = ConfState::new((1..=5).map(MemberId), []);
        let mut raft = Raft::new(config, Restored { conf_state, ..Restored::default() }).unwrap();
        (1..).find(|_| !tick(&mut raft, 1).is_empty()).unwrap()
    };
    let collisions = (0..300).filter(|&seed| {
        let mut timeouts: Vec<u32> = (1..=5).map(|id| timeout(seed, id)).collect();
        timeouts.sort_unstable();
        timeouts[0] == timeouts[1]
    });
    let share = collisions.count() as f64 / 300.0;
    assert!(share < 0.4, "the first two of five time out together in {share} of all cases");
}

fn an_election_ends_in(voters: u64, answers: &[(u64, bool)], expected: Role) {
    let mut raft = candidate(voters, 2, &[1]);
    for &(from, granted) in answers {
        step(&mut raft, from, 2, vote_reply(granted));
    }
    assert_eq!(raft.role(), expected);
}

cases! {
    an_election_ends_in {
        victory_alone: (1, &[], Role::Leader);
        victory_with_two_of_three: (3, &[(2, true)], Role::Leader);
        victory_before_a_refusal: (3, &[(2, true), (3, false)], Role::Leader);
        victory_after_a_refusal: (3, &[(2, false), (3, true)], Role::Leader);
        victory_with_three_of_five: (5, &[(2, true), (3, true)], Role::Leader);
        victory_with_three_of_four: (4, &[(2, true), (3, true)], Role::Leader);
        waiting_of_three: (3, &[], Role::Candidate);
        waiting_of_five: (5, &[(2, true)], Role::Candidate);
        waiting_at_half_of_four: (4, &[(2, true)], Role::Candidate);
        waiting_when_one_votes_twice: (5, &[(2, true), (2, true)], Role::Candidate);
        waiting_between_two_refusals: (5, &[(2, true), (3, false), (4, false)], Role::Candidate);
        waiting_when_a_stranger_votes: (3, &[(9, true)], Role::Candidate);
        defeat_of_three: (3, &[(2, false), (3, false)], Role::Follower);
        defeat_of_five: (5, &[(2, false), (3, false), (4, false)], Role::Follower);
        defeat_at_half_of_four: (4, &[(2, false), (3, false)], Role::Follower);
        defeat_when_the_first_answer_stands: (3, &[(2, false), (2, true), (3, false)], Role::Follower);
    }
}

fn one_vote_a_term(first: u64, second: u64, expected: bool) {
    let mut raft = member(5, 1, &[1]);
    assert_eq!(granted(&step(&mut raft, first, 2, vote(1, 1))), Some(true));
    assert_eq!(granted(&step(&mut raft, second, 2, vote(1, 1))), Some(expected));
    assert_eq!(raft.hard_state().vote, Some(MemberId(first)));
}

cases! {
    one_vote_a_term {
        again_to_the_same: (2, 2, true);
        not_to_a_second: (2, 3, false);
        first_come_first_served: (3, 2, false);
    }
}

fn every_role_hears_a_vote_of_a_newer_term(role: Role) {
    let mut raft = match role {
        Role::Follower => member(3, 1, &[1]),
        Role::PreCandidate => {
            let mut raft = member(3, 1, &[1]);
            raft.campaign();
            raft
        }
        Role::Candidate => candidate(3, 2, &[1]),
        Role::Leader => leader(3, 2, &[1]),
    };
    run(&mut raft);
    assert_eq!(raft.role(), role);
    // The leader asked for this one, so its loyalty to itself does not stand in the way.
    let request = Payload::Vote { last_index: LogIndex(9), last_term: Term(2), transfer: true };
    assert_eq!(granted(&step(&mut raft, 3, 3, request)), Some(true));
    assert_eq!((raft.role(), raft.term()), (Role::Follower, Term(3)));
}

cases! {
    every_role_hears_a_vote_of_a_newer_term {
        follower: (Role::Follower);
        pre_candidate: (Role::PreCandidate);
        candidate: (Role::Candidate);
        leader: (Role::Leader);
    }
}

fn a_candidate_yields(term: u64, payload: Payload) {
    let mut raft = candidate(3, 2, &[1]);
    step(&mut raft, 3, term, payload);
    assert_eq!((raft.role(), raft.leader(), raft.term()), (Role::Follower, Some(MemberId(3)), Term(term)));
}

cases! {
    a_candidate_yields {
        to_an_append_of_its_term: (2, append((1, 1), vec![], 0));
        to_an_append_of_a_newer_term: (3, append((1, 1), vec![], 0));
        to_a_heartbeat_of_its_term: (2, heartbeat(0));
        to_a_heartbeat_of_a_newer_term: (3, heartbeat(0));
        to_a_snapshot_of_its_term: (2, snapshot(5, 1));
    }
}

#[test]
fn a_term_has_one_leader() {
    let second = Message { from: MemberId(2), to: MemberId(1), term: Term(2), payload: heartbeat(0) };
    assert_eq!(leader(3, 2, &[1]).step(second.clone()), Err(StepError::SecondLeader));
    let mut follower = member(3, 2, &[1]);
    step(&mut follower, 3, 2, heartbeat(0));
    assert_eq!(follower.step(second), Err(StepError::SecondLeader));
}

/// §4.2.3: within an election timeout of hearing from a leader, requests to replace it are ignored, term and all.
fn loyalty(silent_ticks: u32, request: Payload, heard: bool) {
    let mut raft = member(3, 2, &[1]);
    step(&mut raft, 2, 2, heartbeat(0));
    tick(&mut raft, silent_ticks);
    let sent = step(&mut raft, 3, 3, request);
    assert_eq!(granted(&sent).is_some(), heard);
}

cases! {
    loyalty {
        just_after_a_heartbeat: (0, vote(9, 2), false);
        until_the_last_tick: (9, vote(9, 2), false);
        against_pre_votes_too: (9, pre_vote(9, 2), false);
        ends_after_a_timeout: (10, vote(9, 2), true);
        ends_for_pre_votes_too: (10, pre_vote(9, 2), true);
        gives_way_to_a_transfer: (0, Payload::Vote { last_index: LogIndex(9), last_term: Term(2), transfer: true }, true);
    }
}

fn a_leader_needs_to_hear_a_quorum(voters: u64, answering: &[u64], leads: bool) {
    let mut raft = leader(voters, 2, &[1]);
    for _ in 0..30 {
        tick(&mut raft, 1);
        for &from in answering {
            step(&mut raft, from, 2, echo(ReadRound(0)));
        }
    }
    assert_eq!(raft.is_leader(), leads);
}

cases! {
    a_leader_needs_to_hear_a_quorum {
        alone_it_is_one: (1, &[], true);
        nobody_of_three: (3, &[], false);
        one_of_three: (3, &[3], true);
        one_of_four: (4, &[3], false);
        one_of_five: (5, &[3], false);
        two_of_five: (5, &[3, 4], true);
        strangers_do_not_count: (3, &[8, 9], false);
    }
}

#[test]
fn pre_vote_changes_no_state_anywhere() {
    let mut asked = member(3, 2, &[1]);
    assert_eq!(granted(&step(&mut asked, 2, 3, pre_vote(1, 1))), Some(true));
    assert_eq!((asked.term(), asked.hard_state().vote), (Term(2), None));

    let mut asking = member(3, 2, &[1]);
    asking.campaign();
    assert_eq!(asking.poll_append(), None, "nothing to remember");
    assert_eq!((asking.role(), asking.term()), (Role::PreCandidate, Term(2)));
    run(&mut asking);
    step(&mut asking, 2, 3, pre_vote_reply(true));
    assert_eq!((asking.role(), asking.term()), (Role::Candidate, Term(3)));
}

#[test]
fn a_refused_pre_candidate_goes_back_to_following() {
    let mut raft = member(3, 2, &[1]);
    raft.campaign();
    run(&mut raft);
    step(&mut raft, 2, 2, pre_vote_reply(false));
    step(&mut raft, 3, 2, pre_vote_reply(false));
    assert_eq!((raft.role(), raft.term()), (Role::Follower, Term(2)));
}
