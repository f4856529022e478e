//! The trace: one line for each thing a member does.

use raft::{
    Append, AppendOutcome, ConfChange, ConfChangeOp, ConfState, Entry, EntryKind, MemberId, Message, Payload,
    Role, Term,
};

pub fn role(id: u64, (role, term, leader): (Role, Term, Option<MemberId>)) -> String {
    match (role, leader) {
        (Role::Leader, _) => format!("{id} is leader of term {term}"),
        (Role::Follower, Some(leader)) => format!("{id} is follower of {leader} in term {term}"),
        (Role::Follower, None) => format!("{id} is follower in term {term}"),
        (Role::Candidate, _) => format!("{id} is candidate in term {term}"),
        (Role::PreCandidate, _) => format!("{id} is pre-candidate in term {term}"),
    }
}

pub fn append(id: u64, write: &Append) -> String {
    let hard = write.hard_state;
    let mut line = format!("{id} writes @{}: term {}", write.position, hard.term);
    if let Some(vote) = hard.vote {
        line += &format!(" vote {vote}");
    }
    line += &format!(" commit {}", hard.commit);
    if let Some(meta) = &write.snapshot {
        line += &format!(" snapshot {}/{}", meta.index, meta.term);
    }
    if let Some(from) = write.truncate_from {
        line += &format!(" truncate {from}");
    }
    if !write.entries.is_empty() {
        line += &format!(" entries {}", entries(&write.entries));
    }
    if let Some(conf) = &write.conf_state {
        line += &format!(" members {}", members(conf));
    }
    line
}

pub fn message(message: &Message) -> String {
    let Message { from, to, term, payload } = message;
    format!("{from}->{to} term {term} {}", says(payload))
}

fn says(payload: &Payload) -> String {
    match payload {
        Payload::PreVote { last_index, last_term } => format!("PreVote last {last_index}/{last_term}"),
        Payload::PreVoteReply { granted, commit, commit_term } => {
            format!("PreVoteReply {} commit {commit}/{commit_term}", answer(*granted))
        }
        Payload::Vote { last_index, last_term, transfer } => {
            let why = if *transfer { " transfer" } else { "" };
            format!("Vote last {last_index}/{last_term}{why}")
        }
        Payload::VoteReply { granted, commit, commit_term } => {
            format!("VoteReply {} commit {commit}/{commit_term}", answer(*granted))
        }
        Payload::Append { prev_index, prev_term, entries: sent, commit, round } => {
            format!("Append prev {prev_index}/{prev_term} {} commit {commit} round {round}", entries(sent))
        }
        Payload::AppendReply { outcome, round, counting } => {
            let counting = if *counting { "" } else { " not counting" };
            match outcome {
                AppendOutcome::Matched { index } => {
                    format!("AppendReply matched {index} round {round}{counting}")
                }
                AppendOutcome::Rejected { prev_index, hint_index, hint_term } => {
                    format!(
                        "AppendReply rejected {prev_index} hint {hint_index}/{hint_term} round {round}{counting}"
                    )
                }
            }
        }
        Payload::Heartbeat { commit, round } => format!("Heartbeat commit {commit} round {round}"),
        Payload::HeartbeatReply { round } => format!("HeartbeatReply round {round}"),
        Payload::Snapshot { meta } => {
            format!("Snapshot {}/{} members {}", meta.index, meta.term, members(&meta.conf_state))
        }
        Payload::TimeoutNow => "TimeoutNow".into(),
        Payload::Propose { data, .. } => format!("Propose {} entries", data.len()),
        Payload::ReadIndex { round } => format!("ReadIndex round {round}"),
        Payload::ReadIndexReply { round, index } => format!("ReadIndexReply round {round} index {index}"),
    }
}

fn answer(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

pub fn entries(entries: &[Entry]) -> String {
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!("[{}]", entries.join(" "))
}

/// index/term and what is in it.
pub fn entry(entry: &Entry) -> String {
    let place = format!("{}/{}", entry.index, entry.term);
    match entry.kind {
        EntryKind::Normal if entry.data.is_empty() => place,
        EntryKind::Normal => format!("{place}={}", String::from_utf8_lossy(&entry.data)),
        EntryKind::ConfChange => {
            let change = ConfChange::decode(&entry.data).unwrap();
            format!("{place}={}{}", op(change.op), change.member)
        }
    }
}

fn op(op: ConfChangeOp) -> &'static str {
    match op {
        ConfChangeOp::AddVoter => "+",
        ConfChangeOp::AddLearner => "+learner:",
        ConfChangeOp::Remove => "-",
        ConfChangeOp::Update => "~",
    }
}

pub fn members(conf: &ConfState) -> String {
    let list = |ids: &[MemberId]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    match conf.learners.as_slice() {
        [] => format!("({})", list(&conf.voters)),
        learners => format!("({} learners {})", list(&conf.voters), list(learners)),
    }
}
