//! Scenarios as text: a command, `----`, and everything that happened because of it.
//!
//! A blank line ends a block; lines that begin with `#` are comments. `KONTIKI_REWRITE=1 cargo test` writes
//! what really happens into the files, to be read like any other change. Commands:
//!
//! | command | effect |
//! |---|---|
//! | `found 1 2 3`, `join 4` | new members; joining ones know nothing yet |
//! | `set keep 0` | how members started from now on are configured, see `set` below |
//! | `led 1 2 3` | founders of which the first leads, without the trace of getting there |
//! | `log 1 term 3: 1 1 2` | starts a member in that term whose durable log has these terms; `of 1 2 3` first |
//! | `of 1 2 3` | the voters of members started by `log` |
//! | `campaign 1`, `tick 1 [times]`, `pass [ticks]` | time; `pass` ticks everybody and settles each time |
//! | `propose 1 a b`, `forward 2 a`, `read 1`, `transfer 1 to 2` | requests |
//! | `read-and-propose 1 a b` | both in one turn, before any message is taken |
//! | `conf 1 add\|learner\|remove\|update 4` | proposes a membership change |
//! | `write 1`, `persist 1 [count]` | hands the open write to the disk; completes the oldest ones |
//! | `deliver [from to]`, `drop [from to]` | messages on the wire, all or those of one link |
//! | `repeat [from to]`, `reverse`, `keep-for-later [from to]`, `replay` | messages twice, backwards, and much later |
//! | `settle`, `slow 1`, `fast 1` | everything until quiet, except what a slow disk would do |
//! | `turn [times]` | one write each, then one delivery of what is on the wire |
//! | `cut 1`, `heal [1]`, `block 1 2`, `unblock 1 2` | links of a member both ways; one link one way |
//! | `restart 1`, `kill 1`, `start 1`, `compact 1 upto` | faults and upkeep |
//! | `corrupt 1 2`, `checkpoint 1`, `unreachable 1 2` | damage to the newest writes; durable state; the driver's word |
//! | `hold 1`, `apply 1` | stops and resumes applying |
//! | `status`, `quiet` | one line a member; forgets the trace of this block so far |
//! | `expect 1 leader`, `expect 2 commit 5`, `expect agree`, ... | fails unless it is so, see `expect` below |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeOp, ConfState, Config, Entry, EntryKind, HardState, LogIndex, MemberId, Message,
    Role, Term,
};

use super::{Cluster, Disk, trace};

/// Runs the scenario in `path` and compares, or rewrites it.
pub fn run(path: &Path) {
    let text = std::fs::read_to_string(path).expect("scenario is readable");
    let mut stage = Stage::default();
    let mut actual = String::new();
    for block in text.split("\n\n") {
        let command = block.split("\n----").next().expect("split yields one part at least").trim_end();
        actual += command;
        actual += "\n";
        let is_command = |line: &&str| !line.starts_with('#') && !line.is_empty();
        if command.lines().any(|line| is_command(&line)) {
            for line in command.lines().filter(is_command) {
                stage.execute(line);
            }
            actual += "----\n";
            actual += &std::mem::take(&mut stage.cluster.trace);
        }
        actual += "\n";
    }
    let actual = format!("{}\n", actual.trim_end());
    if std::env::var_os("KONTIKI_REWRITE").is_some() {
        std::fs::write(path, actual).expect("scenario is writable");
    } else if actual != text {
        let line = actual.lines().zip(text.lines()).take_while(|(is, was)| is == was).count();
        panic!(
            "{}: line {} differs\n  expected: {}\n  happened: {}\nKONTIKI_REWRITE=1 accepts what happens:\n\n{actual}",
            path.display(),
            line + 1,
            text.lines().nth(line).unwrap_or("(end)"),
            actual.lines().nth(line).unwrap_or("(end)"),
        );
    }
}

/// The cluster of a scenario, and what stands beside it.
struct Stage {
    cluster: Cluster,
    voters: Vec<MemberId>,
    /// Disks of members that were killed.
    disks: BTreeMap<u64, Disk>,
    /// Copies of messages, to arrive much later.
    later: Vec<Message>,
}

impl Default for Stage {
    fn default() -> Self {
        Self { cluster: Cluster::empty(), voters: Vec::new(), disks: BTreeMap::new(), later: Vec::new() }
    }
}

impl Stage {
    fn execute(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers =
            || words[1..].iter().map(|word| word.parse::<u64>().unwrap_or_else(|_| panic!("{line}")));
        let cluster = &mut self.cluster;
        match words[0] {
            "found" => {
                let ids: Vec<u64> = numbers().collect();
                ids.iter().for_each(|&id| cluster.found(id, &ids));
            }
            "set" => set(&mut cluster.config, words[1], words[2]),
            "led" => {
                *cluster = Cluster { config: cluster.config.clone(), ..Cluster::empty() };
                let ids: Vec<u64> = numbers().collect();
                cluster.found_all(&ids);
                cluster.elect(ids[0]);
            }
            "of" => self.voters = numbers().map(MemberId).collect(),
            "log" => {
                let (id, rest) = line[4..].split_once(" term ").unwrap_or_else(|| panic!("{line}"));
                let (term, terms) = rest.split_once(':').unwrap_or_else(|| panic!("{line}"));
                let disk = disk_with(&self.voters, term.parse().unwrap(), terms);
                cluster.start(id.parse().unwrap(), disk);
            }
            "pass" => cluster.pass(numbers().next().unwrap_or(1) as usize),
            "deliver" => deliver(cluster, link(&words), Cluster::deliver),
            "drop" => deliver(cluster, link(&words), Cluster::drop),
            "repeat" => {
                let copies = on_link(cluster, link(&words));
                cluster.wire.extend(copies);
            }
            "keep-for-later" => self.later.extend(on_link(cluster, link(&words))),
            "replay" => cluster.wire.extend(self.later.drain(..)),
            "reverse" => cluster.wire = cluster.wire.drain(..).rev().collect(),
            "block" => {
                cluster.cut.extend(link(&words));
            }
            "unblock" => cluster.cut.retain(|cut| Some(*cut) != link(&words)),
            "settle" => cluster.settle(),
            "turn" => (0..numbers().next().unwrap_or(1)).for_each(|_| turn(cluster)),
            "heal" if words.len() == 1 => cluster.heal(),
            "start" => {
                let id = numbers().next().unwrap();
                cluster.start(id, self.disks.remove(&id).unwrap_or_default());
            }
            "kill" => {
                let id = numbers().next().unwrap();
                self.disks.insert(id, cluster.kill(id));
            }
            "status" => status(cluster),
            "quiet" => cluster.trace.clear(),
            "expect" => expect(cluster, &words[1..]),
            _ => of_member(cluster, line, &words),
        }
    }
}

/// Commands whose first word after the name is a member.
fn of_member(cluster: &mut Cluster, line: &str, words: &[&str]) {
    let number = |n: usize| words.get(n).map(|word| word.parse::<u64>().unwrap_or_else(|_| panic!("{line}")));
    let id = number(1).unwrap_or_else(|| panic!("{line}: which member?"));
    match words[0] {
        "join" => cluster.join(id),
        "campaign" => {
            cluster.raft(id).campaign();
            cluster.observe(id);
        }
        "tick" => (0..number(2).unwrap_or(1)).for_each(|_| cluster.tick(id)),
        "propose" => {
            let proposed = cluster.propose(id, &words[2..]);
            complain(cluster, proposed);
        }
        "forward" => {
            let data = words[2..].iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            let forwarded = cluster.raft(id).forward(EntryKind::Normal, data);
            complain(cluster, forwarded);
            cluster.observe(id);
        }
        "read-and-propose" => {
            let round = cluster.read_and_propose(id, &words[2..]);
            writeln!(cluster.trace, "round {round}").unwrap();
        }
        "read" => match cluster.read(id) {
            Ok(round) => writeln!(cluster.trace, "round {round}").unwrap(),
            Err(error) => writeln!(cluster.trace, "{error:?}").unwrap(),
        },
        "transfer" => {
            let transferred = cluster.raft(id).transfer(MemberId(words[3].parse().unwrap()));
            complain(cluster, transferred);
            cluster.observe(id);
        }
        "conf" => conf_change(cluster, id, words[2], words[3]),
        "write" => {
            cluster.write(id);
        }
        "persist" => {
            for _ in 0..number(2).unwrap_or(1) {
                assert!(cluster.persist(id), "{line}: nothing in flight");
            }
        }
        "cut" => cluster.isolate(id),
        "heal" => cluster.rejoin(id),
        "slow" => cluster.node(id).slow = true,
        "fast" => cluster.node(id).slow = false,
        "hold" => cluster.node(id).applies = false,
        "apply" => {
            cluster.node(id).applies = true;
            cluster.observe(id);
        }
        "restart" => cluster.restart(id),
        "corrupt" => cluster.corrupt(id, number(2).expect("how many writes") as usize),
        "checkpoint" => cluster.checkpoint(id),
        "unreachable" => cluster.unreachable(id, number(2).expect("whom")),
        "compact" => cluster.raft(id).compact(LogIndex(number(2).expect("upto"))),
        _ => panic!("unknown command: {line}"),
    }
}

/// Every member writes and completes what it has, unless its disk is slow; then what is on the wire arrives.
fn turn(cluster: &mut Cluster) {
    for id in cluster.ids() {
        if !cluster.nodes[&id].slow {
            cluster.write(id);
            while cluster.persist(id) {}
        }
    }
    deliver(cluster, None, Cluster::deliver);
}

fn complain<T, E: std::fmt::Debug>(cluster: &mut Cluster, result: Result<T, E>) {
    if let Err(error) = result {
        writeln!(cluster.trace, "{error:?}").unwrap();
    }
}

fn set(config: &mut Config, what: &str, value: &str) {
    let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("set {what} {value}"));
    match what {
        "pre-vote" => config.pre_vote = value == "on",
        "check-quorum" => config.check_quorum = value == "on",
        "keep" => config.kept_entries_max = number(),
        "window" => config.inflight_count_max = number() as usize,
        "window-bytes" => config.inflight_bytes_max = number(),
        "append-bytes" => config.append_bytes_max = number(),
        "uncommitted-bytes" => config.uncommitted_bytes_max = number(),
        "apply-gap" => config.apply_gap_max = number(),
        _ => panic!("unknown setting: {what}"),
    }
}

/// A disk with a log of these terms, none of it known committed.
fn disk_with(voters: &[MemberId], term: u64, terms: &str) -> Disk {
    let entry = |(at, word): (usize, &str)| Entry {
        term: Term(word.parse().unwrap()),
        index: LogIndex(at as u64 + 1),
        kind: EntryKind::Normal,
        data: Bytes::copy_from_slice(word.as_bytes()),
    };
    Disk {
        hard_state: HardState { term: Term(term), ..HardState::default() },
        conf_state: ConfState::new(voters.iter().copied(), []),
        entries: terms.split_whitespace().enumerate().map(entry).collect(),
        ..Disk::default()
    }
}

/// Fails unless a member, or the whole cluster, is as said.
fn expect(cluster: &Cluster, words: &[&str]) {
    let number = |n: usize| words[n].parse::<u64>().unwrap_or_else(|_| panic!("expect {words:?}"));
    let holds = match *words {
        ["agree"] => cluster.agrees(),
        ["nobody-leads"] => cluster.leader().is_none(),
        ["wire", count] => cluster.wire.len().to_string() == count,
        [_, what, ref value @ ..] => {
            let node = &cluster.nodes[&number(0)];
            let (raft, status) = (&node.raft, node.raft.status());
            match (what, value) {
                ("leader", []) => raft.role() == Role::Leader,
                ("candidate", []) => raft.role() == Role::Candidate,
                ("pre-candidate", []) => raft.role() == Role::PreCandidate,
                ("follower", []) => raft.role() == Role::Follower,
                ("follows", ["nobody"]) => raft.leader().is_none(),
                ("follows", [_]) => raft.leader() == Some(MemberId(number(2))) && !raft.is_leader(),
                ("term", [_]) => raft.term() == Term(number(2)),
                ("commit", [_]) => raft.commit_index() == LogIndex(number(2)),
                ("applied", [_]) => raft.applied_index() == LogIndex(number(2)),
                ("first", [_]) => raft.first_index() == LogIndex(number(2)),
                ("last", [_]) => raft.last_index() == LogIndex(number(2)),
                ("stable", [_]) => status.stable_index == LogIndex(number(2)),
                ("recovering", []) => status.recovering,
                ("counting", []) => !status.recovering,
                ("voters", ids) => {
                    let ids = ids.iter().map(|id| MemberId(id.parse().unwrap()));
                    status.conf_state.voters == ids.collect::<Vec<_>>()
                }
                ("learners", ids) => {
                    let ids = ids.iter().map(|id| MemberId(id.parse().unwrap()));
                    status.conf_state.learners == ids.collect::<Vec<_>>()
                }
                ("sees", [_, state, rest @ ..]) => {
                    let peer = status.followers.iter().find(|peer| peer.id == MemberId(number(2)));
                    let peer = peer.unwrap_or_else(|| panic!("{words:?}: no such follower"));
                    let matched = rest.get(1).is_none_or(|at| peer.match_index.to_string() == *at);
                    format!("{:?}", peer.state).to_lowercase() == *state && matched
                }
                _ => panic!("unknown expectation: {words:?}"),
            }
        }
        _ => panic!("unknown expectation: {words:?}"),
    };
    assert!(holds, "it is not so: {words:?}\n{}", cluster.trace);
}

fn link(words: &[&str]) -> Option<(u64, u64)> {
    let number = |n: usize| words.get(n).map(|word| word.parse().unwrap_or_else(|_| panic!("{words:?}")));
    number(1).zip(number(2))
}

/// Copies of what is on the wire, of one link or of all.
fn on_link(cluster: &Cluster, link: Option<(u64, u64)>) -> Vec<Message> {
    let is_on = |message: &&Message| link.is_none_or(|link| link == (message.from.0, message.to.0));
    cluster.wire.iter().filter(is_on).cloned().collect()
}

fn conf_change(cluster: &mut Cluster, id: u64, op: &str, member: &str) {
    let op = match op {
        "add" => ConfChangeOp::AddVoter,
        "learner" => ConfChangeOp::AddLearner,
        "remove" => ConfChangeOp::Remove,
        "update" => ConfChangeOp::Update,
        _ => panic!("unknown change: {op}"),
    };
    let change = ConfChange { op, member: MemberId(member.parse().unwrap()), context: Bytes::new() };
    let proposed = cluster.propose_conf_change(id, &change);
    complain(cluster, proposed);
}

/// Does something with what is on the wire now, of one link or of all; what is sent meanwhile stays.
fn deliver(cluster: &mut Cluster, link: Option<(u64, u64)>, what: fn(&mut Cluster, usize)) {
    let mut left = cluster.wire.len();
    let mut at = 0;
    while left > 0 {
        let message = &cluster.wire[at];
        if link.is_some_and(|link| link != (message.from.0, message.to.0)) {
            at += 1;
        } else {
            what(cluster, at);
        }
        left -= 1;
    }
}

fn status(cluster: &mut Cluster) {
    let mut lines = String::new();
    for (id, node) in &cluster.nodes {
        let status = node.raft.status();
        let members = trace::members(&status.conf_state);
        write!(
            lines,
            "{id} {:?} term {} applied {} commit {} stable {} log {}..={} members {members}",
            status.role,
            status.hard_state.term,
            status.applied,
            status.hard_state.commit,
            status.stable_index,
            status.first_index,
            status.last_index,
        )
        .unwrap();
        for follower in status.followers {
            write!(lines, "; {} {:?} match {}", follower.id, follower.state, follower.match_index).unwrap();
            write!(lines, " next {}", follower.next_index).unwrap();
        }
        lines.push('\n');
    }
    cluster.trace.push_str(&lines);
}
