//! Scenarios as text: a command, `----`, and everything that happened because of it.
//!
//! A blank line ends a block; lines that begin with `#` are comments. `KONTIKI_REWRITE=1 cargo test` writes
//! what really happens into the files, to be read like any other change. Commands:
//!
//! | command | effect |
//! |---|---|
//! | `found 1 2 3`, `join 4` | new members; joining ones know nothing yet |
//! | `keep-none` | before `led`: compaction keeps nothing for slow followers |
//! | `led 1 2 3` | founders of which the first leads, without the trace of getting there |
//! | `campaign 1`, `tick 1 [times]`, `pass [ticks]` | time; `pass` ticks everybody and settles each time |
//! | `propose 1 a b`, `read 1`, `transfer 1 to 2` | requests |
//! | `read-and-propose 1 a b` | both in one turn, before any message is taken |
//! | `conf 1 add\|learner\|remove\|update 4` | proposes a membership change |
//! | `write 1`, `persist 1 [count]` | hands the open write to the disk; completes the oldest ones |
//! | `deliver [from to]`, `drop [from to]` | messages on the wire, all or those of one link |
//! | `settle`, `slow 1`, `fast 1` | everything until quiet, except what a slow disk would do |
//! | `cut 1`, `heal [1]`, `restart 1`, `compact 1 upto` | faults and upkeep |
//! | `hold 1`, `apply 1` | stops and resumes applying |
//! | `status` | one line a member |

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use raft::{ConfChange, ConfChangeOp, LogIndex, MemberId};

use super::{Cluster, trace};

/// Runs the scenario in `path` and compares, or rewrites it.
pub fn run(path: &Path) {
    let text = std::fs::read_to_string(path).expect("scenario is readable");
    let mut cluster = Cluster::empty();
    let mut actual = String::new();
    for block in text.split("\n\n") {
        let command = block.split("\n----").next().expect("split yields one part at least").trim_end();
        actual += command;
        actual += "\n";
        let is_command = |line: &&str| !line.starts_with('#') && !line.is_empty();
        if command.lines().any(|line| is_command(&line)) {
            for line in command.lines().filter(is_command) {
                execute(&mut cluster, line);
            }
            actual += "----\n";
            actual += &std::mem::take(&mut cluster.trace);
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

fn execute(cluster: &mut Cluster, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |n: usize| words.get(n).map(|word| word.parse::<u64>().unwrap_or_else(|_| panic!("{line}")));
    let id = number(1).filter(|_| !matches!(words[0], "pass" | "deliver" | "drop"));
    let member = || id.unwrap_or_else(|| panic!("{line}: which member?"));
    match words[0] {
        "found" => {
            let ids: Vec<u64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
            ids.iter().for_each(|&id| cluster.found(id, &ids));
        }
        "keep-none" => cluster.tune = |config| config.kept_entries_max = 0,
        "led" => {
            let ids: Vec<u64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
            *cluster = Cluster::led(&ids, cluster.tune);
        }
        "join" => cluster.join(member()),
        "campaign" => {
            cluster.raft(member()).campaign();
            cluster.observe(member());
        }
        "tick" => (0..number(2).unwrap_or(1)).for_each(|_| cluster.tick(member())),
        "pass" => cluster.pass(number(1).unwrap_or(1) as usize),
        "propose" => {
            if let Err(error) = cluster.propose(member(), &words[2..]) {
                writeln!(cluster.trace, "{error:?}").unwrap();
            }
        }
        "read-and-propose" => {
            let round = cluster.read_and_propose(member(), &words[2..]);
            writeln!(cluster.trace, "round {round}").unwrap();
        }
        "read" => match cluster.read(member()) {
            Ok(round) => writeln!(cluster.trace, "round {round}").unwrap(),
            Err(error) => writeln!(cluster.trace, "{error:?}").unwrap(),
        },
        "transfer" => {
            let to = MemberId(words[3].parse().unwrap());
            if let Err(error) = cluster.raft(member()).transfer(to) {
                writeln!(cluster.trace, "{error:?}").unwrap();
            }
            cluster.observe(member());
        }
        "conf" => conf_change(cluster, member(), words[2], words[3]),
        "write" => {
            cluster.write(member());
        }
        "persist" => {
            for _ in 0..number(2).unwrap_or(1) {
                assert!(cluster.persist(member()), "{line}: nothing in flight");
            }
        }
        "deliver" => deliver(cluster, number(1).zip(number(2)), true),
        "drop" => deliver(cluster, number(1).zip(number(2)), false),
        "settle" => cluster.settle(),
        "cut" => cluster.isolate(member()),
        "heal" => match id {
            Some(id) => cluster.rejoin(id),
            None => cluster.heal(),
        },
        "slow" => cluster.node(member()).slow = true,
        "fast" => cluster.node(member()).slow = false,
        "hold" => cluster.node(member()).applies = false,
        "apply" => {
            cluster.node(member()).applies = true;
            cluster.observe(member());
        }
        "restart" => cluster.restart(member()),
        "compact" => cluster.raft(member()).compact(LogIndex(number(2).expect("upto"))),
        "status" => status(cluster),
        _ => panic!("unknown command: {line}"),
    }
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
    if let Err(error) = cluster.propose_conf_change(id, &change) {
        writeln!(cluster.trace, "{error:?}").unwrap();
    }
}

/// Takes what is on the wire now, of one link or of all; what is sent meanwhile stays.
fn deliver(cluster: &mut Cluster, link: Option<(u64, u64)>, arrives: bool) {
    let mut left = cluster.wire.len();
    let mut at = 0;
    while left > 0 {
        let message = &cluster.wire[at];
        if link.is_some_and(|link| link != (message.from.0, message.to.0)) {
            at += 1;
        } else if arrives {
            cluster.deliver(at);
        } else {
            cluster.drop(at);
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
