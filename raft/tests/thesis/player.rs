//! The hand that plays everybody but member 1.

pub use bytes::Bytes;
pub use raft::{
    AppendOutcome, ConfChange, ConfChangeOp, ConfChangeRefusal, ConfState, Config, Entry, EntryKind,
    HardState, LogIndex, MemberId, Message, Payload, Promise, ProposeError, Raft, ReadError, ReadRound,
    Restored, Role, SnapshotMeta, StepError, Term, TransferError,
};

/// Entries from index 1 with these terms.
pub fn entries(terms: &[u64]) -> Vec<Entry> {
    entries_from(1, terms)
}

pub fn entries_from(first: u64, terms: &[u64]) -> Vec<Entry> {
    let entry = |(i, &term): (usize, &u64)| Entry {
        term: Term(term),
        index: LogIndex(first + i as u64),
        kind: EntryKind::Normal,
        data: Bytes::from(format!("{term}")),
    };
    terms.iter().enumerate().map(entry).collect()
}

/// Member 1 of `voters`, in `term`, with a durable log of these terms.
pub fn member_with(config: Config, voters: u64, term: u64, log: &[u64]) -> Raft {
    let restored = Restored {
        hard_state: HardState { term: Term(term), ..HardState::default() },
        conf_state: ConfState::new((1..=voters).map(MemberId), []),
        entries: entries(log),
        ..Restored::default()
    };
    Raft::new(config, restored).unwrap()
}

pub fn member(voters: u64, term: u64, log: &[u64]) -> Raft {
    member_with(Config::new(MemberId(1), 3), voters, term, log)
}

/// Without pre-vote, to be a candidate at once.
pub fn plain_config() -> Config {
    Config { pre_vote: false, ..Config::new(MemberId(1), 3) }
}

pub fn candidate(voters: u64, term: u64, log: &[u64]) -> Raft {
    let mut raft = member_with(plain_config(), voters, term - 1, log);
    raft.campaign();
    run(&mut raft);
    raft
}

/// Member 1 leading `term`, its no-op the last entry of its log.
pub fn leader(voters: u64, term: u64, log: &[u64]) -> Raft {
    let mut raft = candidate(voters, term, log);
    for voter in 2..=voters / 2 + 1 {
        step(&mut raft, voter, term, vote_reply(true));
    }
    assert!(raft.is_leader());
    raft
}

/// Completes every write and applies every entry; what was sent.
pub fn run(raft: &mut Raft) -> Vec<Message> {
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

pub fn step(raft: &mut Raft, from: u64, term: u64, payload: Payload) -> Vec<Message> {
    let message = Message { from: MemberId(from), to: MemberId(1), term: Term(term), payload };
    raft.step(message).unwrap();
    run(raft)
}

pub fn tick(raft: &mut Raft, times: u32) -> Vec<Message> {
    (0..times).for_each(|_| raft.tick());
    run(raft)
}

pub fn vote(last_index: u64, last_term: u64) -> Payload {
    Payload::Vote { last_index: LogIndex(last_index), last_term: Term(last_term), transfer: false }
}

pub fn pre_vote(last_index: u64, last_term: u64) -> Payload {
    Payload::PreVote { last_index: LogIndex(last_index), last_term: Term(last_term) }
}

pub fn vote_reply(granted: bool) -> Payload {
    Payload::VoteReply { granted, commit: LogIndex(0), commit_term: Term(0) }
}

pub fn pre_vote_reply(granted: bool) -> Payload {
    Payload::PreVoteReply { granted, commit: LogIndex(0), commit_term: Term(0) }
}

pub fn append(prev: (u64, u64), entries: Vec<Entry>, commit: u64) -> Payload {
    let (prev_index, prev_term) = (LogIndex(prev.0), Term(prev.1));
    Payload::Append { prev_index, prev_term, entries, commit: LogIndex(commit), round: ReadRound(0) }
}

pub fn heartbeat(commit: u64) -> Payload {
    Payload::Heartbeat { commit: LogIndex(commit), round: ReadRound(0) }
}

pub fn snapshot(index: u64, term: u64) -> Payload {
    snapshot_of(index, term, ConfState::new([1, 2, 3].map(MemberId), []))
}

pub fn snapshot_of(index: u64, term: u64, conf_state: ConfState) -> Payload {
    Payload::Snapshot { meta: SnapshotMeta { index: LogIndex(index), term: Term(term), conf_state } }
}

pub fn matched(index: u64) -> Payload {
    let outcome = AppendOutcome::Matched { index: LogIndex(index) };
    Payload::AppendReply { outcome, round: ReadRound(0), counting: true }
}

pub fn echo(round: ReadRound) -> Payload {
    Payload::HeartbeatReply { round }
}

pub fn granted(messages: &[Message]) -> Option<bool> {
    messages.iter().find_map(|message| match message.payload {
        Payload::VoteReply { granted, .. } | Payload::PreVoteReply { granted, .. } => Some(granted),
        _ => None,
    })
}

pub fn outcome(messages: &[Message]) -> Option<AppendOutcome> {
    messages.iter().find_map(|message| match message.payload {
        Payload::AppendReply { outcome, .. } => Some(outcome),
        _ => None,
    })
}

pub fn terms(raft: &Raft) -> Vec<u64> {
    (1..=raft.last_index().0).map(|index| raft.term_at(LogIndex(index)).unwrap().0).collect()
}
