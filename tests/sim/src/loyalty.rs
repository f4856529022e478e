//! Whether members stay true to a leader that they hear (thesis §4.2.3, §9.6), and leaders lead only while they are
//! heard (§6.2). Neither is needed for safety; without them one bad link can keep a group from working.
//!
//! Times are those of the member's own clock. They are judged with some slack, because a member counts ticks.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::replica::peer::Message;
use raft::{MemberId, Payload, Raft, Term};

/// Time of a tick, and the ticks of an election timeout: what members are configured with.
const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: u32 = 10;

/// Whoever heard its leader within this time is loyal.
const LOYAL: Duration = TICK.saturating_mul(ELECTION_TICKS - 2);

/// A leader looks every election timeout whom it heard since the last look.
const UNHEARD_MAX: Duration = TICK.saturating_mul(2 * ELECTION_TICKS + 3);

/// What one node heard in its life.
#[derive(Clone, Debug, Default)]
struct Ears {
    /// The term whose leader was heard, and when last.
    leader: Option<(Term, Duration)>,
    /// When each other member was heard last.
    members: BTreeMap<MemberId, Duration>,
    /// The term it leads, the voters it leads, and since when.
    leads: Option<(Term, Vec<MemberId>, Duration)>,
    /// It stood still, and does not know the time before.
    deaf_until: Duration,
    /// Who asked for a vote in which term, for a test or in earnest: whether it was to be ignored every time.
    asked: BTreeMap<(MemberId, Term, bool), bool>,
}

/// What was seen of all nodes.
#[derive(Clone, Debug, Default)]
pub struct Loyalty {
    nodes: BTreeMap<usize, Ears>,
}

impl Loyalty {
    /// A node was opened.
    pub fn opened(&mut self, node: usize) {
        self.nodes.insert(node, Ears::default());
    }

    /// A node stands still until this time of its clock.
    pub fn paused(&mut self, node: usize, until: Duration) {
        self.nodes.entry(node).or_default().deaf_until = until + TICK;
    }

    /// A message is about to reach a node that is as `raft` says.
    pub fn heard(&mut self, node: usize, now: Duration, message: &Message, raft: &Raft) {
        let ears = self.nodes.entry(node).or_default();
        let Message::Raft(message) = message else { return };
        // To whoever was removed nobody listens.
        if !raft.conf_state().members().any(|member| member == message.from) {
            return;
        }
        ears.members.insert(message.from, now);
        // A late request of the leader's own, from before it was elected, is no disloyalty.
        let is_loyal = ears.is_loyal(now, raft) && raft.leader() != Some(message.from);
        let mut asks = |earnest: bool, ignored: bool| {
            let asked = ears.asked.entry((message.from, message.term, earnest)).or_insert(true);
            *asked &= ignored;
        };
        match message.payload {
            Payload::PreVote { .. } => asks(false, is_loyal),
            Payload::Vote { transfer, .. } => asks(true, is_loyal && !transfer),
            Payload::Append { .. } | Payload::Heartbeat { .. }
                if (raft.leader(), raft.term()) == (Some(message.from), message.term) =>
            {
                ears.leader = Some((message.term, now));
            }
            _ => {}
        }
    }

    /// A node sent a message. Errors: it helps against a leader that it hears.
    pub fn sent(&mut self, node: usize, message: &Message) -> Result<(), String> {
        let ears = self.nodes.entry(node).or_default();
        let Message::Raft(raft::Message { to, term, payload, .. }) = message else { return Ok(()) };
        let earnest = match payload {
            Payload::PreVoteReply { granted: true, .. } => false,
            Payload::VoteReply { granted: true, .. } => true,
            _ => return Ok(()),
        };
        match ears.asked.get(&(*to, *term, earnest)) {
            Some(true) => Err(format!(
                "node {node} says yes to {to} for term {term} although it heard its leader: {:?}",
                ears.leader
            )),
            _ => Ok(()),
        }
    }

    /// After each event at a node. Errors: it leads unheard.
    pub fn check(&mut self, node: usize, now: Duration, raft: &Raft) -> Result<(), String> {
        let ears = self.nodes.entry(node).or_default();
        if !raft.is_leader() {
            ears.leads = None;
            return Ok(());
        }
        let voters = &raft.conf_state().voters;
        let since = match &ears.leads {
            Some((term, led, since)) if *term == raft.term() && led == voters => *since,
            _ => ears.leads.insert((raft.term(), voters.clone(), now)).2,
        };
        let others = voters.iter().filter(|voter| raft.leader() != Some(**voter));
        let mut heard: Vec<Duration> = others.filter_map(|voter| ears.members.get(voter).copied()).collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        // Of a majority of n/2 + 1 the leader itself is one.
        let last = match (voters.len() / 2).checked_sub(1) {
            None => now,
            Some(nth) => heard.get(nth).copied().unwrap_or_default(),
        };
        if now > last.max(since).max(ears.deaf_until) + UNHEARD_MAX {
            return Err(format!(
                "node {node} leads term {} and hears no majority since {last:?}",
                raft.term()
            ));
        }
        Ok(())
    }
}

impl Ears {
    fn is_loyal(&self, now: Duration, raft: &Raft) -> bool {
        let heard = self.leader.filter(|(term, at)| *term == raft.term() && *at >= self.deaf_until);
        !raft.is_leader() && raft.leader().is_some() && heard.is_some_and(|(_, at)| now <= at + LOYAL)
    }
}
