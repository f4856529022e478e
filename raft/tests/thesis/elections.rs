//! §3.3 terms, §3.4 elections, §4.2.3 loyalty to a live leader, §6.2 quorum checks, §9.6 pre-vote.

use crate::player::*;

#[test]
fn every_role_adopts_a_higher_term_and_follows() {
    // Check-quorum would make a leader deaf to votes; that is tested below.
    let deaf_to_nobody = || Config { check_quorum: false, ..plain_config() };
    let make = |role: Role| {
        let mut raft = member_with(deaf_to_nobody(), 3, 1, &[1]);
        if role != Role::Follower {
            raft.campaign();
            run(&mut raft);
        }
        if role == Role::Leader {
            step(&mut raft, 2, 2, vote_reply(true));
        }
        assert_eq!(raft.role(), role);
        raft
    };
    let check = |role: Role, payload: Payload, leader: Option<u64>| {
        let mut raft = make(role);
        step(&mut raft, 2, 9, payload.clone());
        let state = (raft.role(), raft.term(), raft.leader());
        assert_eq!(state, (Role::Follower, Term(9), leader.map(MemberId)), "{role:?} <- {payload:?}");
    };
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        check(role, append((0, 0), vec![], 0), Some(2));
        check(role, heartbeat(0), Some(2));
        check(role, vote(9, 8), None);
        check(role, vote_reply(false), None);
        check(role, matched(0), None);
    }
}

#[test]
fn stale_terms_change_nothing() {
    let check = |payload: Payload, answered: bool| {
        let mut raft = member(3, 5, &[1, 5]);
        let sent = step(&mut raft, 2, 4, payload.clone());
        assert_eq!((raft.term(), raft.leader(), terms(&raft)), (Term(5), None, vec![1, 5]), "{payload:?}");
        assert_eq!(!sent.is_empty(), answered, "{payload:?}: {sent:?}");
        assert!(sent.iter().all(|message| message.term == Term(5)), "{sent:?}");
    };
    // A deposed leader and a candidate behind learn of the newer term; nobody else is answered.
    check(append((0, 0), entries(&[4]), 1), true);
    check(heartbeat(2), true);
    check(pre_vote(9, 4), true);
    check(vote(9, 4), false);
    check(vote_reply(true), false);
    check(matched(2), false);
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

#[test]
fn a_majority_of_votes_makes_a_leader() {
    let check = |voters: u64, answers: &[(u64, bool)], expected: Role| {
        let mut raft = candidate(voters, 2, &[1]);
        for &(from, granted) in answers {
            step(&mut raft, from, 2, vote_reply(granted));
        }
        assert_eq!(raft.role(), expected, "{voters}: {answers:?}");
    };
    check(1, &[], Role::Leader);
    check(3, &[(2, true)], Role::Leader);
    check(3, &[(2, true), (3, false)], Role::Leader);
    check(5, &[(2, true), (3, true)], Role::Leader);
    check(3, &[], Role::Candidate);
    check(5, &[(2, true)], Role::Candidate);
    check(5, &[(2, true), (2, true)], Role::Candidate);
    check(5, &[(2, true), (3, false), (4, false)], Role::Candidate);
    check(3, &[(2, false), (3, false)], Role::Follower);
    check(5, &[(2, false), (3, false), (4, false)], Role::Follower);
    check(3, &[(9, true)], Role::Candidate);
}

#[test]
fn one_vote_a_term_first_come_first_served() {
    let check = |first: u64, second: u64, expected: bool| {
        let mut raft = member(5, 1, &[1]);
        assert_eq!(granted(&step(&mut raft, first, 2, vote(1, 1))), Some(true));
        assert_eq!(granted(&step(&mut raft, second, 2, vote(1, 1))), Some(expected), "{first} then {second}");
        assert_eq!(raft.hard_state().vote, Some(MemberId(first)));
    };
    check(2, 2, true);
    check(2, 3, false);
    check(3, 2, false);
}

#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    for term in [2, 3] {
        let mut raft = candidate(3, 2, &[1]);
        step(&mut raft, 3, term, append((1, 1), vec![], 0));
        assert_eq!(
            (raft.role(), raft.leader(), raft.term()),
            (Role::Follower, Some(MemberId(3)), Term(term))
        );
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

#[test]
fn a_live_leader_is_not_replaced() {
    // §4.2.3: within an election timeout of hearing from a leader, requests to replace it are ignored, term
    // and all.
    let check = |silent_ticks: u32, request: Payload, heard: bool| {
        let mut raft = member(3, 2, &[1]);
        step(&mut raft, 2, 2, heartbeat(0));
        tick(&mut raft, silent_ticks);
        let sent = step(&mut raft, 3, 3, request.clone());
        assert_eq!(granted(&sent).is_some(), heard, "{request:?} after {silent_ticks} ticks");
    };
    check(0, vote(9, 2), false);
    check(9, vote(9, 2), false);
    check(9, pre_vote(9, 2), false);
    check(10, vote(9, 2), true);
    check(10, pre_vote(9, 2), true);
    let transfer = Payload::Vote { last_index: LogIndex(9), last_term: Term(2), transfer: true };
    check(0, transfer, true);
}

#[test]
fn a_leader_that_hears_no_quorum_steps_down() {
    let check = |voters: u64, answering: &[u64], leads: bool| {
        let mut raft = leader(voters, 2, &[1]);
        for _ in 0..30 {
            tick(&mut raft, 1);
            for &from in answering {
                step(&mut raft, from, 2, echo(ReadRound(0)));
            }
        }
        assert_eq!(raft.is_leader(), leads, "{voters}, of which {answering:?} answer");
    };
    check(1, &[], true);
    check(3, &[], false);
    check(3, &[3], true);
    check(5, &[3], false);
    check(5, &[3, 4], true);
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
