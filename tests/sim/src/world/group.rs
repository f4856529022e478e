//! Several members: their messages, what befalls the machines, and the peace in which all must come to agree.

use std::time::Duration;

use engine::lease::lessor::Renewal;
use engine::types::LeaseId;
use raft::{ConfState, MemberId};

use super::{Event, Stop, World};
use crate::consensus::holds;
use crate::network::Weather;

/// In peace all members agree within this time: some elections, and every deadline of a request.
const PEACE_MAX: Duration = Duration::from_secs(60);

impl World {
    /// Puts what the node has to say on the network.
    pub(super) fn post(&mut self) -> Result<(), Stop> {
        while let Some(message) = self.member().replica.poll_message() {
            self.consensus.sent(self.at, &message).map_err(Stop::Violation)?;
            self.loyalty.sent(self.at, &message).map_err(Stop::Violation)?;
            self.trace.note(format_args!("{} node {} says {message:?}\n", self.now.as_micros(), self.at));
            let Some(to) = self.nodes.iter().position(|node| node.id == message.to()) else { continue };
            let arrivals = self.network.post(&mut self.pcg, self.now, self.at, to, message.clone());
            self.look_at_sent(&message, arrivals.is_empty());
            for (number, after) in arrivals {
                self.schedule(after, Event::Mail(number));
            }
        }
        Ok(())
    }

    /// A message arrives; false if nobody is there.
    pub(super) fn deliver(&mut self, number: u64) -> bool {
        let Some(message) = self.network.arrive(number) else { return false };
        if !self.is_running() {
            return false;
        }
        self.look_at_heard(&message);
        let (now, shown) = (self.now(), self.shown());
        let World { loyalty, nodes, at, .. } = self;
        let raft = nodes[*at].member.as_ref().expect("it runs").replica.raft();
        loyalty.heard(*at, shown, &message, raft);
        // What is refused is the network's doing.
        let _ = self.member().replica.step(now, message);
        true
    }

    /// The node stands still for so long, as if it were stopped by a signal.
    pub fn pause(&mut self, time: Duration) {
        let until = self.now + time;
        self.loyalty.paused(self.at, self.nodes[self.at].clock.show(until));
        self.nodes[self.at].paused_until = until;
    }

    /// What the node's own clock shows.
    fn shown(&self) -> Duration {
        self.nodes[self.at].clock.show(self.now)
    }

    /// The node, which leads, has committed something: a majority has it, as far as anybody can see, of the configuration
    /// it had before or of the one it has now.
    pub(super) fn check_majority(&self, before: &ConfState) -> Result<(), String> {
        let leader = self.replica().raft();
        // What is not running is believed.
        let has = |node: &&super::Node| {
            node.member.as_ref().is_none_or(|member| holds(member.replica.raft(), leader))
        };
        let is_majority = |conf: &ConfState| {
            let nodes = self.nodes.iter().filter(|node| conf.is_voter(MemberId(node.id)));
            nodes.filter(has).count() > conf.voters.len() / 2
        };
        if is_majority(before) || is_majority(leader.conf_state()) {
            return Ok(());
        }
        Err(format!(
            "node {} commits {} in term {}, which no majority of {:?} has",
            self.at,
            leader.commit_index(),
            leader.term(),
            leader.conf_state()
        ))
    }

    pub(super) fn check_loyalty(&mut self) -> Result<(), String> {
        let shown = self.shown();
        let World { loyalty, nodes, at, .. } = self;
        loyalty.check(*at, shown, nodes[*at].member.as_ref().expect("it runs").replica.raft())
    }

    /// Asks the node for a renewal, before it does anything else.
    pub fn renew(&mut self, id: LeaseId) -> Renewal {
        let now = self.now();
        self.member().replica.lease_renew(now, id)
    }

    /// The node that leads the newest term, if any says so.
    pub fn leader(&self) -> Option<usize> {
        let leads = |n: &usize| self.nodes[*n].member.as_ref().is_some_and(|m| m.replica.raft().is_leader());
        let term = |n: &usize| self.nodes[*n].member.as_ref().map(|member| member.replica.raft().term());
        (0..self.nodes.len()).filter(leads).max_by_key(term)
    }

    /// Nothing goes wrong any more: the network is mended and every member runs.
    pub fn make_peace(&mut self) -> Result<(), Stop> {
        self.network.mend();
        self.network.weather = Weather::fair();
        for node in 0..self.nodes.len() {
            self.stand_at(node);
            self.nodes[node].paused_until = Duration::ZERO;
            if !self.is_running() && !self.is_gone() {
                self.open()?;
            }
        }
        Ok(())
    }

    /// Events until all members have applied the same, nothing is under way and all calls are ended.
    pub fn agree(&mut self) -> Result<(), Stop> {
        let until = self.now + PEACE_MAX;
        loop {
            if self.is_quiet() && self.is_agreed() && self.quarrel().is_none() {
                return Ok(());
            }
            if self.now > until {
                let state = |node: &super::Node| {
                    node.member.as_ref().map(|member| {
                        let raft = member.replica.raft();
                        (
                            raft.role(),
                            raft.term(),
                            raft.commit_index(),
                            raft.applied_index(),
                            raft.last_index(),
                        )
                    })
                };
                let states: Vec<_> = self.nodes.iter().map(state).collect();
                let quarrel = self.quarrel();
                return Err(Stop::Violation(format!(
                    "no agreement in {PEACE_MAX:?} of peace: {quarrel:?} {states:?}"
                )));
            }
            if !self.step()? {
                return Err(Stop::Violation("no agreement, and nothing is under way".into()));
            }
        }
    }

    fn is_agreed(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let leader = self.nodes[leader].member.as_ref().expect("it leads").replica.raft();
        let agrees = |node: &super::Node| {
            node.member.as_ref().is_some_and(|member| {
                let raft = member.replica.raft();
                raft.term() == leader.term()
                    && raft.last_index() == leader.last_index()
                    && member.replica.published().index == leader.last_index().0
                    && !raft.is_recovering()
                    && !member.replica.has_more()
            })
        };
        let members = self.belonging();
        members.iter().all(|member| agrees(&self.nodes[*member]))
    }

    /// In peace: what every member stores, and whether it is the same, and right.
    pub fn inspect_all(&mut self) -> Result<(), Stop> {
        self.agree()?;
        for node in self.belonging() {
            self.stand_at(node);
            self.inspect_node()?;
        }
        Ok(())
    }
}
