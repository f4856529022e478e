//! Changes of members: asked for at any member, judged and proposed by the leader one after the other, answered where
//! they were asked for when they are applied there.
//!
//! Like a write a change is proposed once: the leader takes each from another member once, and only those that were sent
//! in its own term. What got lost is not asked again, and its client hears that the outcome is unknown. The leader lets a
//! change wait until the one before it is applied, as raft demands, and then judges it by what it hears of the others;
//! what it refuses is answered at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use raft::{ConfChange, ConfChangeRefusal, MemberId, ProposeError, StepError, Term};

use super::payload::Members;
use super::peer::{MemberBody, Message};
use super::{CallId, Replica};
use crate::apply::Answer;
use crate::command::RequestId;
use crate::error::ApiError;
use crate::members::change::Proposed;
use crate::members::guards::{self, Link};
use crate::members::{MemberChange, Roster};
use crate::mvcc::Cold;
use crate::response::Response;

/// A member that has answered for so long is counted on (etcd's `HealthInterval`).
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Changes that wait for their turn at the leader.
const WAITING_MAX: usize = 64;

/// Changes a leader takes from others in one term.
const TAKEN_MAX: usize = 10_000;

/// Changes under way, and what is heard of the other members.
#[derive(Debug, Default)]
pub struct Changes {
    /// Asked for here and not answered.
    asked: BTreeMap<RequestId, Asked>,
    /// Leader: waiting for the one before to be applied.
    waiting: VecDeque<Waiting>,
    /// Leader: what was taken from others in this term. Their numbers are no other request's.
    taken: (Term, BTreeSet<(u64, RequestId)>),
    heard: BTreeMap<u64, Heard>,
    messages: VecDeque<Message>,
}

#[derive(Debug)]
struct Asked {
    proposed: Proposed,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For a leader.
    Unsent,
    /// At this member, which leads, for its turn.
    Waiting,
    /// It is in the log, or on its way to the leader: whether it happens is open.
    Sent,
}

#[derive(Debug)]
struct Waiting {
    /// Which member asked.
    from: u64,
    request: RequestId,
    proposed: Proposed,
    /// For those of others; own ones are looked after with other requests.
    deadline: Option<Instant>,
}

/// Messages of a member came without a long pause between them.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Instant,
    last: Instant,
}

impl Changes {
    /// The next message.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// A message of another member came.
    pub fn hear(&mut self, now: Instant, from: u64, pause_max: Duration) {
        let heard = self.heard.entry(from).or_insert(Heard { since: now, last: now });
        if now > heard.last + pause_max {
            heard.since = now;
        }
        heard.last = now;
    }

    fn link(&self, now: Instant, member: u64, pause_max: Duration) -> Link {
        match self.heard.get(&member) {
            Some(heard) if now > heard.last + pause_max => Link::Down,
            Some(heard) if now >= heard.since + STEADY_AFTER => Link::Steady,
            Some(_) => Link::Young,
            None => Link::Down,
        }
    }

    /// Puts a message behind the others.
    pub fn send(&mut self, message: Message) {
        self.messages.push_back(message);
    }

    /// Whether this member's own name is on its way.
    pub fn is_publishing(&self) -> bool {
        let publishes = |asked: &Asked| matches!(asked.proposed.change, MemberChange::Publish { .. });
        self.asked.values().any(publishes)
    }

    /// The request has its answer.
    pub fn forget(&mut self, request: RequestId) {
        self.asked.remove(&request);
    }

    /// Gives a request up; true if it is a change that therefore never happens.
    pub fn withdraw(&mut self, request: RequestId) -> bool {
        let is_here = self.asked.get(&request).is_some_and(|asked| asked.stage != Stage::Sent);
        if is_here {
            self.waiting.retain(|waiting| waiting.request != request);
        }
        is_here
    }
}

impl Replica {
    /// Asks for a change of one member. Its answer comes as one [`Event::Answer`](super::Event::Answer), with all members
    /// after it, and after it was applied here.
    ///
    /// Errors: it is refused and has no effect.
    pub fn change_member(
        &mut self,
        now: Instant,
        call: CallId,
        change: MemberChange,
    ) -> Result<(), ApiError> {
        if self.stopping || self.is_removed() {
            return Err(ApiError::Stopped);
        }
        if self.changes.asked.len() >= WAITING_MAX {
            return Err(ApiError::TooManyRequests);
        }
        let request = self.proposals.expect(call, now + self.config.request_timeout);
        let proposed = Proposed { change, request: Some(request), learners_max: self.config.learners_max };
        self.changes.asked.insert(request, Asked { proposed, stage: Stage::Unsent });
        Ok(())
    }

    /// The members as of the last applied entry.
    pub fn roster(&self) -> &Roster {
        self.store.roster()
    }

    /// Index of the newest configuration change in force.
    pub fn conf_index(&self) -> u64 {
        self.conf_index
    }

    /// Longest pause between two messages of a member that is not down.
    pub(super) fn pause_max(&self) -> Duration {
        self.config.raft.election_ticks * self.config.heartbeat
    }

    /// Passes on what was asked here, and, while leading, proposes the next change.
    pub(super) fn pump_changes(&mut self, now: Instant) {
        self.publish_self(now);
        if self.raft.is_leader() {
            self.queue_own();
            self.propose_changes(now);
        } else {
            self.leave_queue();
            self.send_changes();
        }
        if self.is_removed() {
            self.refuse_everything();
        }
    }

    /// What was asked for at the leader itself.
    fn queue_own(&mut self) {
        let own = self.config.member;
        let Changes { asked, waiting, .. } = &mut self.changes;
        for (&request, asked) in asked.iter_mut().filter(|(_, asked)| asked.stage == Stage::Unsent) {
            asked.stage = Stage::Waiting;
            let proposed = asked.proposed.clone();
            waiting.push_back(Waiting { from: own, request, proposed, deadline: None });
        }
    }

    /// This member leads no more: what waited here may go to the next leader, and others hear that time is up.
    fn leave_queue(&mut self) {
        let Changes { asked, waiting, .. } = &mut self.changes;
        for Waiting { request, .. } in waiting.drain(..) {
            if let Some(own) = asked.get_mut(&request).filter(|own| own.stage == Stage::Waiting) {
                own.stage = Stage::Unsent;
            }
        }
    }

    fn send_changes(&mut self) {
        if !self.raft.takes_proposals() {
            return;
        }
        let (Some(leader), term) = (self.raft.leader(), self.raft.term()) else { return };
        let Changes { asked, messages, .. } = &mut self.changes;
        for (request, asked) in asked.iter_mut().filter(|(_, asked)| asked.stage == Stage::Unsent) {
            asked.stage = Stage::Sent;
            let change = asked.proposed.encode();
            let body = MemberBody::Change { term, number: request.0, change };
            messages.push_back(Message::Member { from: self.config.member, to: leader.0, body });
        }
    }

    fn propose_changes(&mut self, now: Instant) {
        while self.raft.takes_conf_changes()
            && let Some(next) = self.changes.waiting.pop_front()
        {
            let own = next.from == self.config.member;
            if next.deadline.is_some_and(|deadline| deadline <= now) {
                continue;
            }
            match self.propose_change(now, &next.proposed) {
                Ok(()) => {
                    self.proposals.were_made = true;
                    if let Some(asked) = self.changes.asked.get_mut(&next.request).filter(|_| own) {
                        asked.stage = Stage::Sent;
                    }
                }
                Err(error) => self.refuse_change(next.from, next.request, error),
            }
        }
    }

    fn refuse_change(&mut self, from: u64, request: RequestId, error: ApiError) {
        if from == self.config.member {
            return self.refuse(request, error);
        }
        let body = MemberBody::Refused { number: request.0, error };
        self.changes.messages.push_back(Message::Member { from: self.config.member, to: from, body });
    }

    fn propose_change(&mut self, now: Instant, proposed: &Proposed) -> Result<(), ApiError> {
        let change = &proposed.change;
        if let MemberChange::Promote(id) = change {
            match self.raft.is_in_sync(MemberId(*id)) {
                None => return Err(ApiError::MemberNotFound),
                Some(false) => return Err(ApiError::LearnerNotReady),
                Some(true) => {}
            }
        }
        if self.config.strict_reconfig {
            let link = |id| self.changes.link(now, id, self.pause_max());
            guards::check(self.store.roster(), self.config.member, change, link)?;
        }
        let limits = Proposed { learners_max: self.config.learners_max, ..proposed.clone() };
        match self.raft.propose_conf_change(&limits.encode()) {
            Ok(_) => Ok(()),
            Err(ProposeError::TooManyRequests) => Err(ApiError::TooManyRequests),
            Err(ProposeError::Refused(refusal)) => Err(match refusal {
                ConfChangeRefusal::LastVoter => ApiError::NotEnoughStartedMembers,
                // Only a new member is added under an id that is there.
                ConfChangeRefusal::AlreadyVoter => ApiError::MemberExists,
                ConfChangeRefusal::LearnerNotReady if matches!(change, MemberChange::Add(_)) => {
                    ApiError::MemberExists
                }
                ConfChangeRefusal::LearnerNotReady => ApiError::LearnerNotReady,
                ConfChangeRefusal::ZeroId => ApiError::MemberNotFound,
            }),
            Err(error) => unreachable!("{error:?} of a change that would be taken"),
        }
    }

    /// A message about members arrived.
    pub(super) fn on_member_message(
        &mut self,
        now: Instant,
        from: u64,
        body: MemberBody,
    ) -> Result<(), StepError> {
        match body {
            MemberBody::Change { term, number, change } => {
                let proposed = Proposed::decode(&change).ok_or(StepError::Malformed)?;
                self.on_change(now, from, term, number, proposed);
            }
            MemberBody::Refused { number, error } => {
                let request = RequestId(number);
                if self.changes.asked.get(&request).is_some_and(|asked| asked.stage == Stage::Sent) {
                    self.refuse(request, error);
                }
            }
            // Whoever was removed is told so whatever it says.
            MemberBody::Question => {}
            MemberBody::Removed => self.belonging.on_told_removed(),
        }
        Ok(())
    }

    fn on_change(&mut self, now: Instant, from: u64, term: Term, number: u64, proposed: Proposed) {
        if !self.raft.is_leader() || term != self.raft.term() {
            return;
        }
        let (of_term, taken) = &mut self.changes.taken;
        if *of_term != term {
            (*of_term, *taken) = (term, BTreeSet::new());
        }
        let request = RequestId(number);
        if taken.contains(&(from, request)) {
            return;
        }
        if taken.len() >= TAKEN_MAX || self.changes.waiting.len() >= WAITING_MAX {
            return self.refuse_change(from, request, ApiError::TooManyRequests);
        }
        taken.insert((from, request));
        let proposed = Proposed { request: Some(request), ..proposed };
        let deadline = Some(now + self.config.request_timeout);
        self.changes.waiting.push_back(Waiting { from, request, proposed, deadline });
    }

    /// Applies a change. For raft it is made once: one behind which another was made in an earlier life is passed over,
    /// because going back to an older configuration, even for a moment, could let two majorities decide. Names and URLs
    /// are state like any other, and are as of the last applied entry.
    ///
    /// `proposed` is what `change` says. Returns the answer for whoever asked.
    pub(super) fn configure(
        &mut self,
        index: u64,
        change: &ConfChange,
        proposed: &Proposed,
    ) -> Result<Answer, Cold> {
        if let Err(error) = self.store.roster().check(&proposed.change, proposed.learners_max) {
            return Ok(Err(error));
        }
        let is_new = index > self.conf_index;
        let current = self.raft.conf_state();
        let conf_state = if is_new { current.after(change) } else { current.clone() };
        let members = Members { conf_state, index: self.conf_index.max(index) };
        self.store.put_members(&members.encode())?;
        self.store.change_members(&proposed.change)?;
        if is_new {
            self.conf_index = index;
            self.raft.apply_conf_change(change);
        }
        let members = self.store.roster().members().cloned().collect();
        Ok(Ok(Response::Members { revision: self.store.revision(), members }))
    }
}
