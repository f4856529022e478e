//! Leases at a member that does not lead: it asks the one that does, as often as it takes.
//!
//! Asking twice does no harm, so a question that got no answer is repeated, and goes to a new leader at once. At the
//! leader a question may have to wait like a client's own renewal; there it is a call of the replica's own.
//!
//! That there is no such lease is said only by a leader that has made sure, by a round of reads, that it is one: its
//! successor may have granted the lease while it was cut off. (etcd 3.6 does not ask, and its client takes the lease
//! for lost.)

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use raft::MemberId;

use super::peer::{LeaseBody, LeaseTimes, Message};
use super::{CallId, Event, ReadStart, Replica};
use crate::error::ApiError;
use crate::lease::lessor::{Later, Renewal};
use crate::types::LeaseId;

/// How long a question may go without an answer before it is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Questions of other members that wait, at most; more are left to be repeated.
const WAITING_MAX: usize = 10_000;

/// Questions under way, asked and answered.
#[derive(Debug)]
pub struct Renewals {
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Questions of others that wait for something.
    waiting: BTreeMap<CallId, Question>,
    /// Leases that nobody knows here, by the read that tells whether it counts; and who asked.
    doubted: BTreeMap<CallId, (CallId, LeaseId)>,
    next_call: CallId,
    /// Calls of our own that may look again.
    ready: Vec<CallId>,
    messages: VecDeque<Message>,
}

/// What the leader was asked, or will be.
#[derive(Debug)]
struct Asked {
    call: CallId,
    id: LeaseId,
    renew: bool,
    deadline: Instant,
    /// When it was sent last, if the leader is still the same.
    sent_at: Option<Instant>,
}

/// What another member asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    from: u64,
    number: u64,
    id: LeaseId,
    renew: bool,
}

impl Renewals {
    /// None yet; numbers count up from `first`, which no other start comes near.
    pub fn new(first: u64) -> Renewals {
        Renewals {
            asked: BTreeMap::new(),
            next: first,
            waiting: BTreeMap::new(),
            doubted: BTreeMap::new(),
            next_call: CallId::OWN,
            ready: Vec::new(),
            messages: VecDeque::new(),
        }
    }

    /// The next message.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// Another leader is to be asked.
    pub fn leader_changed(&mut self) {
        self.asked.values_mut().for_each(|asked| asked.sent_at = None);
    }

    /// No question will be answered here any more.
    pub fn refuse_all(&mut self, error: ApiError, events: &mut VecDeque<Event>) {
        let asked = std::mem::take(&mut self.asked);
        events.extend(asked.into_values().map(|Asked { call, .. }| Event::Refused { call, error }));
    }

    /// A call of the replica's own has news.
    pub fn wake(&mut self, call: CallId) {
        self.ready.push(call);
    }

    /// A call of the replica's own comes to nothing; its asker asks again.
    pub fn forget(&mut self, call: CallId) {
        self.waiting.remove(&call);
        // It finds that this member does not lead, or asks once more.
        if self.doubted.contains_key(&call) {
            self.ready.push(call);
        }
    }

    fn own_call(&mut self) -> CallId {
        let call = self.next_call;
        self.next_call = CallId(call.0 + 1);
        call
    }

    /// Whether the next turn has something to do.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl Replica {
    /// Asks the leader how long a lease has left, and to renew it if `renew`. The call hears by [`Event::Lease`], by
    /// [`Event::Go`] if this member leads meanwhile and should be asked itself, or by [`Event::Refused`].
    pub(super) fn ask_leader(&mut self, now: Instant, call: CallId, id: LeaseId, renew: bool) {
        let number = self.renewals.next;
        self.renewals.next += 1;
        let deadline = now + self.config.request_timeout;
        self.renewals.asked.insert(number, Asked { call, id, renew, deadline, sent_at: None });
    }

    /// Sends what is to be asked, gives up on what took too long, and goes on with others' questions.
    pub(super) fn pump_renewals(&mut self, now: Instant) {
        for call in std::mem::take(&mut self.renewals.ready) {
            if let Some(question) = self.renewals.waiting.remove(&call) {
                self.answer_question(now, question);
            }
            if let Some((asker, id)) = self.renewals.doubted.remove(&call) {
                self.settle_doubt(now, asker, id);
            }
        }
        if self.renewals.asked.is_empty() {
            return;
        }
        let own = MemberId(self.config.member);
        let leader = self.raft.leader();
        let Renewals { asked, messages, .. } = &mut self.renewals;
        asked.retain(|&number, asked| {
            if leader == Some(own) {
                self.events.push_back(Event::Go { call: asked.call });
                return false;
            }
            if now >= asked.deadline {
                let error = if leader.is_none() { ApiError::NoLeader } else { ApiError::Timeout };
                self.events.push_back(Event::Refused { call: asked.call, error });
                return false;
            }
            if let Some(leader) = leader
                && asked.sent_at.is_none_or(|at| now >= at + RETRY_AFTER)
            {
                asked.sent_at = Some(now);
                let body = LeaseBody::Question { id: asked.id, renew: asked.renew };
                messages.push_back(Message::Lease { from: own.0, to: leader.0, number, body });
            }
            true
        });
    }

    pub(super) fn on_lease_question(
        &mut self,
        now: Instant,
        from: u64,
        number: u64,
        id: LeaseId,
        renew: bool,
    ) {
        if self.raft.is_leader() {
            self.answer_question(now, Question { from, number, id, renew });
        }
    }

    fn answer_question(&mut self, now: Instant, question: Question) {
        let Question { from, number, id, renew } = question;
        let later = if !self.lessor.is_primary() {
            Later::Primary
        } else if !renew {
            return self.tell(from, number, self.lessor.times(now, id));
        } else {
            match self.lease_renew(now, id) {
                Renewal::Renewed(ttl) => {
                    return self.tell(from, number, Some(LeaseTimes { granted: ttl, left: ttl }));
                }
                Renewal::Gone => return self.tell(from, number, None),
                Renewal::Later(later) => later,
            }
        };
        if self.renewals.waiting.len() >= WAITING_MAX || !self.raft.is_leader() {
            return;
        }
        let call = self.renewals.own_call();
        // What is refused is asked again.
        if self.lease_wait(now, id, later, call).is_ok() {
            self.renewals.waiting.insert(call, question);
        }
    }

    fn tell(&mut self, to: u64, number: u64, times: Option<LeaseTimes>) {
        let (from, body) = (self.config.member, LeaseBody::Answer(times));
        self.renewals.messages.push_back(Message::Lease { from, to, number, body });
    }

    /// Asks whether this member still leads before it says that there is no such lease.
    pub(super) fn doubt(&mut self, now: Instant, call: CallId, id: LeaseId) {
        let read = self.renewals.own_call();
        self.renewals.doubted.insert(read, (call, id));
        if self.read_index(now, read) == ReadStart::Ready {
            self.renewals.wake(read);
        }
    }

    /// It was said who leads.
    fn settle_doubt(&mut self, now: Instant, call: CallId, id: LeaseId) {
        let event = match self.lessor.is_primary().then(|| self.lessor.renew(now, id)) {
            Some(Renewal::Gone) => Event::Lease { call, times: None },
            Some(Renewal::Renewed(ttl)) => {
                Event::Lease { call, times: Some(LeaseTimes { granted: ttl, left: ttl }) }
            }
            Some(Renewal::Later(_)) | None => Event::Go { call },
        };
        self.events.push_back(event);
    }

    /// What another member asked is known now.
    pub(super) fn on_own_lease(&mut self, call: CallId, times: Option<LeaseTimes>) {
        if let Some(Question { from, number, .. }) = self.renewals.waiting.remove(&call) {
            self.tell(from, number, times);
        }
    }

    pub(super) fn on_lease_answer(&mut self, number: u64, times: Option<LeaseTimes>) {
        if let Some(Asked { call, .. }) = self.renewals.asked.remove(&number) {
            self.events.push_back(Event::Lease { call, times });
        }
    }
}
