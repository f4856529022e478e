//! Not in the thesis, but next to §10.2.1: bounds on windows and memory, and messages that are damaged.

use crate::player::*;

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

fn a_malformed_message(change: fn(&mut Message), expected: StepError) {
    let mut raft = member(3, 2, &[1]);
    let payload = append((1, 1), entries_from(2, &[2, 2]), 0);
    let mut message = Message { from: MemberId(2), to: MemberId(1), term: Term(2), payload };
    change(&mut message);
    assert_eq!(raft.step(message), Err(expected));
    assert_eq!((raft.poll_append(), raft.poll_message(), raft.leader()), (None, None, None));
}

fn unreadable_change(message: &mut Message) {
    let entry = Entry { kind: EntryKind::ConfChange, ..entries_from(2, &[2])[0].clone() };
    message.payload = append((1, 1), vec![entry], 0);
}

cases! {
    a_malformed_message {
        to_another: (|m| m.to = MemberId(3), StepError::Misdelivered);
        from_oneself: (|m| m.from = MemberId(1), StepError::Misdelivered);
        from_nobody: (|m| m.from = MemberId(0), StepError::Misdelivered);
        of_an_absurd_term: (|m| m.term = Term(u64::MAX), StepError::Malformed);
        at_an_absurd_index: (|m| m.payload = append((u64::MAX, 1), vec![], 0), StepError::Malformed);
        with_a_gap: (|m| m.payload = append((1, 1), entries_from(3, &[2]), 0), StepError::Malformed);
        with_descending_terms: (|m| m.payload = append((1, 1), entries_from(2, &[2, 1]), 0), StepError::Malformed);
        with_entries_of_the_future: (|m| m.payload = append((1, 1), entries_from(2, &[3]), 0), StepError::Malformed);
        behind_the_future: (|m| m.payload = append((1, 3), vec![], 0), StepError::Malformed);
        with_an_absurd_answer: (|m| m.payload = matched(u64::MAX), StepError::Malformed);
        with_an_unreadable_change: (unreadable_change, StepError::Malformed);
        with_a_snapshot_of_the_future: (|m| m.payload = snapshot(5, 3), StepError::Malformed);
        with_a_snapshot_of_nobody: (|m| m.payload = snapshot_of(5, 1, ConfState::default()), StepError::Malformed);
    }
}
