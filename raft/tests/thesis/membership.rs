//! §3.10 leadership transfer and §4 membership: what is refused. The ways they go well are scenarios.

use crate::player::*;

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

/// What makes a leader of three refuse.
enum Guard {
    NotLeading,
    NothingCommitted,
    Inherited,
    Pending,
    Nothing,
}

fn a_change(guard: Guard, op: ConfChangeOp, member_id: u64, expected: Result<(), ProposeError>) {
    let change = ConfChange { op, member: MemberId(member_id), context: Bytes::new() };
    let mut raft = match guard {
        Guard::NotLeading => member(3, 2, &[1]),
        Guard::NothingCommitted => leader(3, 2, &[]),
        Guard::Inherited | Guard::Pending | Guard::Nothing => leader(3, 2, &[1]),
    };
    if let Guard::Pending | Guard::Nothing = guard {
        step(&mut raft, 2, 2, matched(2));
        let op = ConfChangeOp::AddLearner;
        raft.apply_conf_change(&ConfChange { op, member: MemberId(4), context: Bytes::new() });
    }
    if let Guard::Pending = guard {
        let op = ConfChangeOp::Update;
        raft.propose_conf_change(&ConfChange { op, member: MemberId(2), context: Bytes::new() }).unwrap();
    }
    assert_eq!(raft.propose_conf_change(&change).map(|_| ()), expected);
}

fn refused(refusal: ConfChangeRefusal) -> Result<(), ProposeError> {
    Err(ProposeError::Refused(refusal))
}

cases! {
    a_change {
        needs_a_leader: (Guard::NotLeading, ConfChangeOp::AddVoter, 5, Err(ProposeError::NotLeader { leader: None }));
        // Published in 2015: without an entry committed in the own term, two configurations may share no majority.
        needs_a_commit_in_the_term: (Guard::NothingCommitted, ConfChangeOp::AddVoter, 5, Err(ProposeError::LeaderNotReady));
        // An inherited entry may be a change: it must be applied first.
        waits_for_what_was_inherited: (Guard::Inherited, ConfChangeOp::AddVoter, 5, Err(ProposeError::ConfChangePending));
        waits_for_the_one_before: (Guard::Pending, ConfChangeOp::AddVoter, 5, Err(ProposeError::ConfChangePending));
        adds_a_voter: (Guard::Nothing, ConfChangeOp::AddVoter, 5, Ok(()));
        adds_a_learner: (Guard::Nothing, ConfChangeOp::AddLearner, 5, Ok(()));
        adds_who_is_there: (Guard::Nothing, ConfChangeOp::AddVoter, 2, Ok(()));
        removes_a_voter: (Guard::Nothing, ConfChangeOp::Remove, 2, Ok(()));
        removes_the_leader: (Guard::Nothing, ConfChangeOp::Remove, 1, Ok(()));
        removes_a_learner: (Guard::Nothing, ConfChangeOp::Remove, 4, Ok(()));
        removes_a_stranger: (Guard::Nothing, ConfChangeOp::Remove, 9, Ok(()));
        updates: (Guard::Nothing, ConfChangeOp::Update, 2, Ok(()));
        demotes_nobody: (Guard::Nothing, ConfChangeOp::AddLearner, 2, refused(ConfChangeRefusal::AlreadyVoter));
        promotes_only_who_has_the_log: (Guard::Nothing, ConfChangeOp::AddVoter, 4, refused(ConfChangeRefusal::LearnerNotReady));
        names_somebody: (Guard::Nothing, ConfChangeOp::Remove, 0, refused(ConfChangeRefusal::ZeroId));
    }
}

#[test]
fn the_last_voter_is_not_removed() {
    let mut raft = leader(1, 2, &[1]);
    let change = ConfChange { op: ConfChangeOp::Remove, member: MemberId(1), context: Bytes::new() };
    let refusal = ProposeError::Refused(ConfChangeRefusal::LastVoter);
    assert_eq!(raft.propose_conf_change(&change), Err(refusal));
}
