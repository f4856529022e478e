//! Members that come and go: nodes that are added, changes that are asked for, and what became of them.

use std::time::Duration;

use engine::apply::Answer;
use engine::error::ApiError;
use engine::members::MemberChange;
use engine::replica::{CallId, Config, Replica};
use engine::types::Member;
use raft::MemberId;

use super::{Node, Stop, World};
use crate::call::MEMBER;
use crate::clock::Clock;
use crate::watching::Watching;

/// Calls from here up are changes of members.
const FIRST_CALL: u64 = 1 << 61;

/// How members of a run come and go.
#[derive(Clone, Debug, Default)]
pub struct Coming {
    /// They do; if not, nobody has a name.
    pub on: bool,
    /// See [`Config::strict_reconfig`].
    pub strict: bool,
    /// One that lost its disk and is a member still.
    pub lost: Option<usize>,
    asked: Vec<Asked>,
}

/// A change that was asked for.
#[derive(Clone, Debug)]
struct Asked {
    change: MemberChange,
    answer: Option<Answer>,
}

impl Coming {
    /// Changes that were made, and those that were refused.
    pub fn counts(&self) -> (u64, u64) {
        let answers = || self.asked.iter().filter_map(|asked| asked.answer.as_ref());
        (
            answers().filter(|answer| answer.is_ok()).count() as u64,
            answers().filter(|a| a.is_err()).count() as u64,
        )
    }
}

/// The id of a node.
fn id_of(node: usize) -> u64 {
    MEMBER + node as u64
}

/// A node as a new member.
pub fn member_of(node: usize, is_learner: bool) -> Member {
    let id = id_of(node);
    Member { id, peer_urls: vec![format!("http://peer:{id}")], is_learner, ..Member::default() }
}

impl World {
    /// What a member is told of the cluster when it is opened.
    pub(super) fn introduce(&self, config: &mut Config) {
        let node = &self.nodes[self.at];
        config.member = node.id;
        let founders = (0..self.nodes.len()).filter(|nth| node.founds && self.nodes[*nth].founds);
        if !self.coming.on {
            config.founders = founders.map(|nth| Member { id: id_of(nth), ..Member::default() }).collect();
            return;
        }
        let name = |nth| format!("m{}", id_of(nth));
        config.founders = founders.map(|nth| Member { name: name(nth), ..member_of(nth, false) }).collect();
        config.name = name(self.at);
        config.client_urls = vec![format!("http://client:{}", node.id)];
        config.strict_reconfig = self.coming.strict;
    }

    /// A machine more, which may be added to the cluster.
    pub fn add_node(&mut self) -> usize {
        let nth = self.nodes.len();
        let (clock, seed) = (Clock::any(&mut self.pcg), self.pcg.next_u64());
        self.nodes.push(Node {
            founds: false,
            ..Node::new(id_of(nth), Default::default(), clock, Watching::new(seed))
        });
        nth
    }

    /// The node never runs again.
    pub fn take_away(&mut self, node: usize) {
        self.stand_at(node);
        if self.is_running() {
            self.kill();
        }
        self.nodes[node].gone = true;
    }

    /// Whether it never runs again.
    pub fn is_gone(&self) -> bool {
        self.nodes[self.at].gone
    }

    /// Asks the node for a change. Returns its number; see [`World::answer`].
    pub fn ask(&mut self, change: MemberChange) -> Result<usize, Stop> {
        let number = self.coming.asked.len();
        self.trace.note(format_args!(
            "{} node {} change {number} {change:?}\n",
            self.now.as_micros(),
            self.at
        ));
        let now = self.now();
        let call = CallId(FIRST_CALL + number as u64);
        let refused = self.member().replica.change_member(now, call, change.clone()).err();
        self.coming.asked.push(Asked { change, answer: refused.map(Err) });
        self.pump()?;
        Ok(number)
    }

    /// What a change was answered, if it was.
    pub fn answer(&self, number: usize) -> Option<&Answer> {
        self.coming.asked[number].answer.as_ref()
    }

    /// Whether an answer to this call is one to a change; it is kept.
    pub(super) fn on_change_answer(&mut self, call: CallId, answer: &Answer) -> bool {
        let Some(number) = call.0.checked_sub(FIRST_CALL).filter(|n| *n < self.coming.asked.len() as u64)
        else {
            return false;
        };
        self.trace.note(format_args!("{} change {number} {answer:?}\n", self.now.as_micros()));
        let asked = &mut self.coming.asked[number as usize];
        assert!(asked.answer.is_none(), "a second answer to {:?}", asked.change);
        asked.answer = Some(answer.clone());
        let unknown = |error: &ApiError| {
            matches!(error, ApiError::Timeout | ApiError::TimeoutLeaderFailed | ApiError::Stopped)
        };
        let not_to_be = answer.as_ref().is_err_and(|error| !unknown(error));
        if let MemberChange::Add(member) = &asked.change
            && let Some(node) = self.nodes.iter_mut().find(|node| node.id == member.id && node.lives == 0)
            && not_to_be
        {
            node.gone = true;
        }
        true
    }

    /// Whether the running node takes itself for a member, as clients would find it.
    pub(super) fn is_member(&self, node: usize) -> bool {
        self.nodes[node].member.as_ref().is_some_and(|member| {
            let replica = &member.replica;
            !replica.is_removed() && (!self.coming.on || replica.roster().get(replica.member()).is_some())
        })
    }

    /// Nodes that run and take themselves for members.
    pub fn members_running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.is_member(*node)).collect()
    }

    /// Which node everything concerns.
    pub fn standing_at(&self) -> usize {
        self.at
    }

    /// The replica of the leader, in peace.
    pub fn leading(&self) -> &Replica {
        let leader = self.leader().expect("in peace somebody leads");
        &self.nodes[leader].member.as_ref().expect("it leads").replica
    }

    /// Events, for so long.
    pub fn wait(&mut self, time: Duration) -> Result<(), Stop> {
        let until = self.now + time;
        self.run_until(|world| world.now >= until)
    }

    /// The nodes that belong to the cluster as the leader says, but for one that lost its disk.
    pub fn belonging(&self) -> Vec<usize> {
        if !self.coming.on {
            return (0..self.nodes.len()).collect();
        }
        let leader = self.leader().and_then(|leader| self.nodes[leader].member.as_ref());
        let Some(roster) = leader.map(|leader| leader.replica.roster()) else { return Vec::new() };
        (0..self.nodes.len())
            .filter(|n| roster.get(id_of(*n)).is_some() && Some(*n) != self.coming.lost)
            .collect()
    }

    /// What members do not agree on: all who belong to the cluster say the same of it, each has told its name, and whoever
    /// was removed and can reach one of them knows it.
    pub(super) fn quarrel(&self) -> Option<String> {
        if !self.coming.on {
            return None;
        }
        let leader = self.leader().and_then(|leader| self.nodes[leader].member.as_ref());
        let Some(leader) = leader else { return Some("nobody leads".into()) };
        let (roster, conf) = (leader.replica.roster(), leader.replica.raft().conf_state());
        if !roster.voters().map(|voter| voter.id).eq(conf.voters.iter().map(|id| id.0)) {
            return Some(format!("{roster:?} beside {conf:?}"));
        }
        let belonging = self.belonging();
        for node in &belonging {
            let id = id_of(*node);
            let known = roster.get(id).expect("it belongs to the cluster");
            if known.name != format!("m{id}") || known.client_urls.is_empty() {
                return Some(format!("{known:?} is not published"));
            }
            let replica = self.nodes[*node].member.as_ref().map(|member| &member.replica);
            if replica.is_none_or(|own| own.roster() != roster || own.raft().conf_state() != conf) {
                return Some(format!("{:?} at node {node}, not {roster:?}", replica.map(Replica::roster)));
            }
        }
        let unknowing = |node: &&Node| {
            node.member.as_ref().is_some_and(|member| {
                let reaches = |other: &usize| {
                    let other = MemberId(id_of(*other));
                    member.replica.raft().conf_state().members().any(|known| known == other)
                };
                let knows = member.replica.is_removed();
                knows != roster.is_removed(node.id) && (knows || belonging.iter().any(reaches))
            })
        };
        self.nodes
            .iter()
            .find(unknowing)
            .map(|node| format!("{} is wrong about its removal: {roster:?}", node.id))
    }
}
