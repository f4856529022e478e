//! One test for each rule of the thesis that a single member can show, in the order of its sections.
//!
//! Ongaro, "Consensus: Bridging Theory and Practice" (2014). Most tests drive member 1 alone and play the others by hand;
//! what needs several members uses the cluster in `harness/`.

mod harness;

use bytes::Bytes;
use harness::{Cluster, Disk};
use raft::{
    AppendOutcome, ConfChange, ConfChangeOp, ConfChangeRefusal, ConfState, Config, Entry, EntryKind,
    HardState, LogIndex, MemberId, Message, Payload, ProposeError, Raft, ReadError, ReadRound, Restored,
    Role, StepError, Term, TransferError,
};

/// Entries from index 1 with these terms.
fn entries(terms: &[u64]) -> Vec<Entry> {
    entries_from(1, terms)
}

fn entries_from(first: u64, terms: &[u64]) -> Vec<Entry> {
    let entry = |(i, &term): (usize, &u64)| Entry {
        term: Term(term),
        index: LogIndex(first + i as u64),
        kind: EntryKind::Normal,
        data: Bytes::from(format!("{term}")),
    };
    terms.iter().enumerate().map(entry).collect()
}

/// Member 1 of `voters`, in `term`, with a durable log of these terms.
fn member_with(config: Config, voters: u64, term: u64, log: &[u64]) -> Raft {
    let restored = Restored {
        hard_state: HardState { term: Term(term), ..HardState::default() },
        conf_state: ConfState::new((1..=voters).map(MemberId), []),
        entries: entries(log),
        ..Restored::default()
    };
    Raft::new(config, restored).unwrap()
}

fn member(voters: u64, term: u64, log: &[u64]) -> Raft {
    member_with(Config::new(MemberId(1), 3), voters, term, log)
}

/// Without pre-vote, to be a candidate at once.
fn plain_config() -> Config {
    Config { pre_vote: false, ..Config::new(MemberId(1), 3) }
}

fn candidate(voters: u64, term: u64, log: &[u64]) -> Raft {
    let mut raft = member_with(plain_config(), voters, term - 1, log);
    raft.campaign();
    run(&mut raft);
    raft
}

/// Member 1 leading `term`, its no-op the last entry of its log.
fn leader(voters: u64, term: u64, log: &[u64]) -> Raft {
    let mut raft = candidate(voters, term, log);
    for voter in 2..=voters / 2 + 1 {
        step(&mut raft, voter, term, vote_reply(true));
    }
    assert!(raft.is_leader());
    raft
}

/// Completes every write and applies every entry; what was sent.
fn run(raft: &mut Raft) -> Vec<Message> {
    let mut sent = Vec::new();
    loop {
        sent.extend(std::iter::from_fn(|| raft.poll_message()));
        if let Some(write) = raft.poll_append() {
            raft.persisted(write.position);
        } else if let Some(batch) = raft.poll_committed(u64::MAX) {
            raft.applied(batch.last().unwrap().index);
        } else {
            return sent;
        }
    }
}

fn step(raft: &mut Raft, from: u64, term: u64, payload: Payload) -> Vec<Message> {
    let message = Message { from: MemberId(from), to: MemberId(1), term: Term(term), payload };
    raft.step(message).unwrap();
    run(raft)
}

fn tick(raft: &mut Raft, times: u32) -> Vec<Message> {
    (0..times).for_each(|_| raft.tick());
    run(raft)
}

fn vote(last_index: u64, last_term: u64) -> Payload {
    Payload::Vote { last_index: LogIndex(last_index), last_term: Term(last_term), transfer: false }
}

fn pre_vote(last_index: u64, last_term: u64) -> Payload {
    Payload::PreVote { last_index: LogIndex(last_index), last_term: Term(last_term) }
}

fn vote_reply(granted: bool) -> Payload {
    Payload::VoteReply { granted, commit: LogIndex(0), commit_term: Term(0) }
}

fn pre_vote_reply(granted: bool) -> Payload {
    Payload::PreVoteReply { granted, commit: LogIndex(0), commit_term: Term(0) }
}

fn append(prev: (u64, u64), entries: Vec<Entry>, commit: u64) -> Payload {
    let (prev_index, prev_term) = (LogIndex(prev.0), Term(prev.1));
    Payload::Append { prev_index, prev_term, entries, commit: LogIndex(commit), round: ReadRound(0) }
}

fn heartbeat(commit: u64) -> Payload {
    Payload::Heartbeat { commit: LogIndex(commit), round: ReadRound(0) }
}

fn matched(index: u64) -> Payload {
    let outcome = AppendOutcome::Matched { index: LogIndex(index) };
    Payload::AppendReply { outcome, round: ReadRound(0), counting: true }
}

fn echo(round: ReadRound) -> Payload {
    Payload::HeartbeatReply { round }
}

fn granted(messages: &[Message]) -> Option<bool> {
    messages.iter().find_map(|message| match message.payload {
        Payload::VoteReply { granted, .. } | Payload::PreVoteReply { granted, .. } => Some(granted),
        _ => None,
    })
}

fn outcome(messages: &[Message]) -> Option<AppendOutcome> {
    messages.iter().find_map(|message| match message.payload {
        Payload::AppendReply { outcome, .. } => Some(outcome),
        _ => None,
    })
}

fn terms(raft: &Raft) -> Vec<u64> {
    (1..=raft.last_index().0).map(|index| raft.term_at(LogIndex(index)).unwrap().0).collect()
}

// §3.3 Terms, §3.4 elections.

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

// §3.5 Log replication.

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

// §3.6 Safety.

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

#[test]
fn votes_go_to_logs_at_least_as_complete() {
    let check = |log: &[u64], last: (u64, u64), expected: bool| {
        for request in [vote(last.0, last.1), pre_vote(last.0, last.1)] {
            let mut raft = member(3, 5, log);
            assert_eq!(granted(&step(&mut raft, 2, 6, request)), Some(expected), "{log:?} asked by {last:?}");
        }
    };
    check(&[1], (1, 1), true);
    check(&[1], (2, 1), true);
    check(&[1, 1], (1, 1), false);
    check(&[1], (1, 2), true);
    check(&[1], (2, 2), true);
    check(&[1, 1], (1, 2), true);
    check(&[2], (1, 1), false);
    check(&[2], (2, 1), false);
    check(&[1, 2], (1, 1), false);
    check(&[], (0, 0), true);
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
#[test]
fn only_entries_of_the_own_term_are_counted() {
    let check = |acknowledged: u64, expected: u64| {
        let mut raft = leader(3, 4, &[1, 2]);
        step(&mut raft, 2, 4, matched(acknowledged));
        assert_eq!(raft.commit_index(), LogIndex(expected), "{acknowledged} acknowledged");
    };
    check(1, 0);
    check(2, 0);
    check(3, 3);
}

// §3.10 Leadership transfer (the way it goes well is a scenario).

#[test]
fn transfers_go_to_voters_only() {
    assert_eq!(member(3, 2, &[1]).transfer(MemberId(2)), Err(TransferError::NotLeader { leader: None }));
    let mut raft = leader(3, 2, &[1]);
    assert_eq!(raft.transfer(MemberId(9)), Err(TransferError::NotAVoter));
    assert_eq!(raft.transfer(MemberId(1)), Ok(()), "it leads already");
    assert!(raft.propose([Bytes::new()]).is_ok());
}

#[test]
fn a_transfer_waits_until_the_target_has_everything() {
    let mut raft = leader(3, 2, &[1]);
    raft.transfer(MemberId(2)).unwrap();
    let told = |sent: &[Message]| sent.iter().any(|message| message.payload == Payload::TimeoutNow);
    assert!(!told(&run(&mut raft)));
    assert_eq!(raft.propose([Bytes::new()]), Err(ProposeError::Transferring));
    assert!(!told(&step(&mut raft, 3, 2, matched(2))), "not to somebody else");
    assert!(told(&step(&mut raft, 2, 2, matched(2))));
}

// §4 Membership (the ways it goes well are scenarios).

#[test]
fn membership_changes_are_guarded() {
    let change = |op, member| ConfChange { op, member: MemberId(member), context: Bytes::new() };
    let add = change(ConfChangeOp::AddVoter, 4);
    let mut raft = member(3, 2, &[1]);
    assert_eq!(raft.propose_conf_change(&add), Err(ProposeError::NotLeader { leader: None }));

    // Published in 2015: without an entry committed in the own term, two configurations may share no majority.
    let mut raft = leader(3, 2, &[]);
    assert_eq!(raft.propose_conf_change(&add), Err(ProposeError::LeaderNotReady));
    step(&mut raft, 2, 2, matched(1));
    assert!(raft.propose_conf_change(&add).is_ok());
    assert_eq!(raft.propose_conf_change(&add), Err(ProposeError::ConfChangePending));

    // An inherited entry may be a change: it must be applied first.
    let mut raft = leader(3, 2, &[1]);
    assert_eq!(raft.propose_conf_change(&add), Err(ProposeError::ConfChangePending));
    step(&mut raft, 2, 2, matched(2));
    let refused = |refusal| Err(ProposeError::Refused(refusal));
    let demote = change(ConfChangeOp::AddLearner, 2);
    assert_eq!(raft.propose_conf_change(&demote), refused(ConfChangeRefusal::AlreadyVoter));
    assert_eq!(
        raft.propose_conf_change(&change(ConfChangeOp::Remove, 0)),
        refused(ConfChangeRefusal::ZeroId)
    );
}

#[test]
fn a_live_leader_is_not_replaced() {
    // §4.2.3: within an election timeout of hearing from a leader, requests to replace it are ignored, term and all.
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

// §6.4 Reads.

#[test]
fn a_read_needs_a_majority_of_echoes_in_this_term() {
    let check = |voters: u64, learners: &[u64], echoes: &[(u64, u64)], expected: bool| {
        let mut raft = leader(voters, 2, &[1]);
        for &id in learners {
            let op = ConfChangeOp::AddLearner;
            raft.apply_conf_change(&ConfChange { op, member: MemberId(id), context: Bytes::new() });
        }
        (2..=voters).for_each(|from| drop(step(&mut raft, from, 2, matched(2))));
        let round = raft.read_index().unwrap();
        run(&mut raft);
        for &(from, echoed) in echoes {
            step(&mut raft, from, 2, echo(ReadRound(echoed)));
        }
        let answer = raft.poll_read();
        assert_eq!(answer.is_some_and(|read| read.round == round), expected, "{voters}: {echoes:?}");
    };
    check(1, &[], &[], true);
    check(3, &[], &[], false);
    check(3, &[], &[(2, 1)], true);
    check(3, &[], &[(2, 0)], false);
    check(5, &[], &[(2, 1)], false);
    check(5, &[], &[(2, 1), (2, 1)], false);
    check(5, &[], &[(2, 1), (3, 1)], true);
    // Learners and strangers never count.
    check(3, &[4], &[(4, 1)], false);
    check(3, &[], &[(9, 1)], false);
    // An echo of a round that was never sent is not believed in advance.
    check(3, &[], &[(2, 7)], true);
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
    raft.read_index().unwrap();
    run(&mut raft);
    step(&mut raft, 3, 3, heartbeat(0));
    tick(&mut raft, 20);
    step(&mut raft, 2, 4, vote_reply(true));
    assert_eq!((raft.role(), raft.term()), (Role::Leader, Term(4)));
    step(&mut raft, 2, 4, matched(3));
    step(&mut raft, 2, 4, echo(ReadRound(1)));
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

// §9.6 Pre-vote.

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

// §10.2.1 Pipelining and its bounds; not in the thesis, but next to it: limits on memory.

#[test]
fn the_window_bounds_what_is_sent_unanswered() {
    let mut config = plain_config();
    config.inflight_count_max = 2;
    let mut raft = member_with(config, 3, 1, &[]);
    raft.campaign();
    run(&mut raft);
    step(&mut raft, 2, 2, vote_reply(true));
    step(&mut raft, 2, 2, matched(1));
    let to_second = |sent: Vec<Message>| sent.into_iter().filter(|message| message.to == MemberId(2)).count();
    let propose = |raft: &mut Raft| {
        raft.propose([Bytes::from_static(b"a")]).unwrap();
        to_second(run(raft))
    };
    assert_eq!([propose(&mut raft), propose(&mut raft), propose(&mut raft)], [1, 1, 0]);
    let sent = step(&mut raft, 2, 2, matched(2));
    assert!(to_second(sent) >= 1, "an answer opens the window");
}

#[test]
fn uncommitted_bytes_are_bounded_and_one_entry_always_fits() {
    let mut config = plain_config();
    config.uncommitted_bytes_max = 200;
    let mut raft = member_with(config, 3, 1, &[]);
    raft.campaign();
    run(&mut raft);
    step(&mut raft, 2, 2, vote_reply(true));
    step(&mut raft, 2, 2, matched(1));
    let mut entries = (0..10).map(|_| Bytes::from(vec![0; 1_000]));
    let proposed = raft.propose(&mut entries).unwrap();
    assert_eq!(proposed.first, proposed.last, "one, although it is larger than the bound");
    assert_eq!(entries.len(), 9, "the rest stays with the caller");
    assert_eq!(raft.propose(&mut entries), Err(ProposeError::TooManyRequests));
    run(&mut raft);
    step(&mut raft, 2, 2, matched(2));
    assert!(raft.propose(&mut entries).is_ok(), "commit gives the bytes back");
}

#[test]
fn proposals_wait_for_apply_critical_ones_longer() {
    let mut config = plain_config();
    config.apply_gap_max = 10;
    let mut raft = member_with(config, 1, 1, &[]);
    raft.campaign();
    run(&mut raft);
    let commit = |raft: &mut Raft, count: usize| {
        let result = raft.propose_critical((0..count).map(|_| Bytes::new()));
        if let Some(write) = raft.poll_append() {
            raft.persisted(write.position);
        }
        result.map(|_| ())
    };
    let plain = |raft: &mut Raft| raft.propose([]).map(|_| ());
    commit(&mut raft, 10).unwrap();
    assert_eq!(plain(&mut raft), Ok(()), "ten are as many as allowed");
    commit(&mut raft, 1).unwrap();
    assert_eq!(plain(&mut raft), Err(ProposeError::TooManyRequests));
    commit(&mut raft, 9).unwrap();
    commit(&mut raft, 1).unwrap();
    assert_eq!(commit(&mut raft, 1), Err(ProposeError::TooManyRequests));
    run(&mut raft);
    assert_eq!(plain(&mut raft), Ok(()));
}

// What arrives may be damaged or meant for somebody else.

#[test]
fn malformed_messages_are_errors_without_effect() {
    let check = |change: fn(&mut Message), expected: StepError| {
        let mut raft = member(3, 2, &[1]);
        let payload = append((1, 1), entries_from(2, &[2, 2]), 0);
        let mut message = Message { from: MemberId(2), to: MemberId(1), term: Term(2), payload };
        change(&mut message);
        assert_eq!(raft.step(message), Err(expected));
        assert_eq!((raft.poll_append(), raft.poll_message(), raft.leader()), (None, None, None));
    };
    check(|m| m.to = MemberId(3), StepError::Misdelivered);
    check(|m| m.from = MemberId(1), StepError::Misdelivered);
    check(|m| m.from = MemberId(0), StepError::Misdelivered);
    check(|m| m.term = Term(u64::MAX), StepError::Malformed);
    check(|m| m.payload = append((u64::MAX, 1), vec![], 0), StepError::Malformed);
    check(|m| m.payload = append((1, 1), entries_from(3, &[2]), 0), StepError::Malformed);
    check(|m| m.payload = append((1, 1), entries_from(2, &[2, 1]), 0), StepError::Malformed);
    check(|m| m.payload = append((1, 1), entries_from(2, &[3]), 0), StepError::Malformed);
    check(|m| m.payload = append((1, 3), vec![], 0), StepError::Malformed);
    check(|m| m.payload = matched(u64::MAX), StepError::Malformed);
    check(
        |m| {
            let entry = Entry { kind: EntryKind::ConfChange, ..entries_from(2, &[2])[0].clone() };
            m.payload = append((1, 1), vec![entry], 0);
        },
        StepError::Malformed,
    );
}

#[test]
fn a_recovering_member_promises_nothing() {
    let restored = Restored {
        hard_state: HardState { term: Term(2), ..HardState::default() },
        conf_state: ConfState::new([1, 2, 3].map(MemberId), []),
        entries: entries(&[1]),
        recovering: Some(raft::Promise { term: Term(2), index: LogIndex(3) }),
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
