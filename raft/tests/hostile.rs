//! Messages no correct member would send: a member answers with an error or carries on, and never panics.

use bytes::Bytes;
use proptest::prelude::*;
use raft::{
    AppendOutcome, ConfState, Config, Entry, EntryKind, HardState, LogIndex, MemberId, Message, Payload,
    Raft, ReadRound, Restored, SnapshotMeta, Term,
};

/// Mostly numbers that mean something here, sometimes the far end.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0u64..8, 1 => Just(u64::MAX), 1 => Just(1 << 62), 1 => any::<u64>()]
}

fn index() -> impl Strategy<Value = LogIndex> {
    number().prop_map(LogIndex)
}

fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term)
}

fn round() -> impl Strategy<Value = ReadRound> {
    number().prop_map(ReadRound)
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![4 => Just(EntryKind::Normal), 1 => Just(EntryKind::ConfChange)]
}

fn data() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(0u8..5, 0..12).prop_map(Bytes::from)
}

/// Entries that follow `prev`, or, sometimes, nothing in particular.
fn append() -> impl Strategy<Value = Payload> {
    let entry = (index(), term(), kind(), data());
    (index(), term(), proptest::collection::vec(entry, 0..4), any::<bool>(), index(), round()).prop_map(
        |(prev_index, prev_term, raw, sound, commit, round)| {
            let place = |(n, (index, term, kind, data)): (usize, (LogIndex, Term, EntryKind, Bytes))| {
                let next = LogIndex(prev_index.0.saturating_add(n as u64 + 1));
                if sound {
                    Entry { index: next, term: prev_term, kind: EntryKind::Normal, data }
                } else {
                    Entry { index, term, kind, data }
                }
            };
            let entries = raw.into_iter().enumerate().map(place).collect();
            Payload::Append { prev_index, prev_term, entries, commit, round }
        },
    )
}

fn append_reply() -> impl Strategy<Value = Payload> {
    let outcome = prop_oneof![
        index().prop_map(|index| AppendOutcome::Matched { index }),
        (index(), index(), term()).prop_map(|(prev_index, hint_index, hint_term)| {
            AppendOutcome::Rejected { prev_index, hint_index, hint_term }
        }),
    ];
    (outcome, round(), any::<bool>()).prop_map(|(outcome, round, counting)| Payload::AppendReply {
        outcome,
        round,
        counting,
    })
}

fn snapshot() -> impl Strategy<Value = Payload> {
    let members = proptest::collection::vec((1u64..6).prop_map(MemberId), 0..4);
    (index(), term(), members.clone(), members).prop_map(|(index, term, voters, learners)| {
        Payload::Snapshot { meta: SnapshotMeta { index, term, conf_state: ConfState { voters, learners } } }
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        (index(), term()).prop_map(|(last_index, last_term)| Payload::PreVote { last_index, last_term }),
        (any::<bool>(), index(), term()).prop_map(|(granted, commit, commit_term)| Payload::PreVoteReply {
            granted,
            commit,
            commit_term
        }),
        (index(), term(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| Payload::Vote {
            last_index,
            last_term,
            transfer
        }),
        (any::<bool>(), index(), term()).prop_map(|(granted, commit, commit_term)| Payload::VoteReply {
            granted,
            commit,
            commit_term
        }),
        append(),
        append(),
        append_reply(),
        append_reply(),
        (index(), round()).prop_map(|(commit, round)| Payload::Heartbeat { commit, round }),
        round().prop_map(|round| Payload::HeartbeatReply { round }),
        snapshot(),
        Just(Payload::TimeoutNow),
        (0u64..4, kind(), proptest::collection::vec(data(), 0..3))
            .prop_map(|(number, kind, data)| Payload::Propose { number, kind, data }),
        round().prop_map(|round| Payload::ReadIndex { round }),
        (round(), index()).prop_map(|(round, index)| Payload::ReadIndexReply { round, index }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (0u64..5, term(), payload()).prop_map(|(from, term, payload)| Message {
        from: MemberId(from),
        to: MemberId(1),
        term,
        payload,
    })
}

/// Completes and applies what the member asks for.
fn run(raft: &mut Raft) {
    while raft.poll_message().is_some() {}
    while let Some(write) = raft.poll_append() {
        raft.persisted(write.position);
        if let Some(meta) = write.snapshot {
            raft.applied(meta.index);
        }
        while raft.poll_message().is_some() {}
    }
    while let Some(batch) = raft.poll_committed(u64::MAX) {
        raft.applied(batch.last().expect("never empty").index);
    }
    while raft.poll_snapshot_request().is_some() {}
    while raft.poll_read().is_some() {}
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_panics_a_member(
        messages in proptest::collection::vec((message(), 0u32..30), 1..40),
        pre_vote in any::<bool>(),
        check_quorum in any::<bool>(),
    ) {
        let restored = Restored {
            hard_state: HardState { term: Term(2), ..HardState::default() },
            conf_state: ConfState::new([1, 2, 3].map(MemberId), [MemberId(4)]),
            ..Restored::default()
        };
        let config = Config { pre_vote, check_quorum, ..Config::new(MemberId(1), 5) };
        let mut raft = Raft::new(config, restored).unwrap();
        for (message, ticks) in messages {
            let _ = raft.step(message);
            let _ = raft.read_index();
            let _ = raft.propose([Bytes::from_static(b"x")]);
            run(&mut raft);
            (0..ticks).for_each(|_| raft.tick());
            run(&mut raft);
        }
    }
}
