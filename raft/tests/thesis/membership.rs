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

#[test]
fn membership_changes_are_guarded() {
    let change = |op, member| ConfChange { op, member: MemberId(member), context: Bytes::new() };
    let add = change(ConfChangeOp::AddVoter, 4);
    let mut raft = member(3, 2, &[1]);
    assert_eq!(raft.propose_conf_change(&add), Err(ProposeError::NotLeader { leader: None }));

    // Published in 2015: without an entry committed in the own term, two configurations may share no
    // majority.
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
