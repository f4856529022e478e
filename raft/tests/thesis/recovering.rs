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
