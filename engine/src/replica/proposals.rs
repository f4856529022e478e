//! Writes on their way to the log: admitted and encoded once, proposed as one batch a turn, here or by way of the
//! leader, and answered when they are applied or their time is up.
//!
//! A write is proposed once. One that was lost on the way to the leader, or with a leader, is not proposed again:
//! nobody could tell it from one that is only late, and it would happen twice. Its client hears that the outcome is
//! unknown. Without a leader the batch waits for one; what waits there too long was never proposed.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use raft::{EntryKind, ProposeError};

use super::passage::Passages;
use super::{CallId, Event, Replica};
use crate::apply::Answer;
use crate::command::{self, RequestId};
use crate::error::ApiError;
use crate::request::Write;

/// Bytes that etcd's internal request adds to the client's message when it decides whether it is too large: header,
/// request id, and the field the message stands in.
const PROPOSAL_OVERHEAD: usize = 20;

/// Admitted and not answered.
#[derive(Debug)]
pub struct Proposals {
    /// Requests of the current batch, encoded one behind the other.
    batch: Vec<u8>,
    /// Where each ends.
    ends: Vec<(usize, RequestId)>,
    next: u64,
    waiting: HashMap<RequestId, CallId>,
    /// When their time is up, oldest first.
    deadlines: VecDeque<(Instant, RequestId)>,
    /// When they passed the log.
    pub passages: Passages,
    /// Writes that were admitted and had no effect as far as their callers know.
    pub failed: u64,
    /// Something was proposed since the log was last polled.
    pub were_made: bool,
}

impl Proposals {
    /// None yet; ids count up from `first`, which no other start of any member comes near.
    pub fn new(first: u64) -> Proposals {
        Proposals {
            batch: Vec::new(),
            ends: Vec::new(),
            next: first,
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            passages: Passages::default(),
            failed: 0,
            were_made: false,
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a request on that `encode` writes behind those of the batch.
    fn admit(&mut self, call: CallId, deadline: Instant, encode: impl FnOnce(&mut Vec<u8>, RequestId)) {
        let id = self.expect(call, deadline);
        encode(&mut self.batch, id);
        self.ends.push((self.batch.len(), id));
    }

    /// Takes a request on that goes its own way.
    pub fn expect(&mut self, call: CallId, deadline: Instant) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.insert(id, call);
        self.deadlines.push_back((deadline, id));
        id
    }

    /// All that wait, oldest first.
    pub fn all_waiting(&self) -> Vec<RequestId> {
        let waits = |(_, id): &(Instant, RequestId)| self.waiting.contains_key(id).then_some(*id);
        self.deadlines.iter().filter_map(waits).collect()
    }

    /// The batch, cut into requests; those whose time is up are not proposed any more.
    fn take(&mut self) -> (Vec<Bytes>, Vec<RequestId>) {
        let bytes = Bytes::from(std::mem::take(&mut self.batch));
        let mut from = 0;
        let mut requests = Vec::with_capacity(self.ends.len());
        let mut ids = Vec::with_capacity(self.ends.len());
        for (end, id) in self.ends.drain(..) {
            let request = bytes.slice(std::mem::replace(&mut from, end)..end);
            if self.waiting.contains_key(&id) {
                requests.push(request);
                ids.push(id);
            }
        }
        (requests, ids)
    }

    /// Forgets requests of `call` that are still in the batch. Returns how many.
    fn withdraw(&mut self, call: CallId) -> usize {
        let of_call = |id: &RequestId| self.waiting.get(id) == Some(&call);
        let ids: Vec<RequestId> = self.ends.iter().map(|(_, id)| *id).filter(of_call).collect();
        for id in &ids {
            self.waiting.remove(id);
        }
        ids.len()
    }

    /// Whether a request that waits was proposed.
    fn was_proposed(&self, id: RequestId) -> bool {
        self.ends.first().is_none_or(|(_, first)| id < *first)
    }
}

impl Replica {
    /// Takes a write on. Its answer comes as one [`Event::Answer`].
    ///
    /// `message_len` is the length of the client's message, for the size limit. Errors: the request is refused and has
    /// no effect.
    pub fn propose(
        &mut self,
        now: Instant,
        call: CallId,
        write: &Write<'_>,
        message_len: usize,
    ) -> Result<(), ApiError> {
        if self.stopping || self.is_removed() {
            return Err(ApiError::Stopped);
        }
        if message_len + PROPOSAL_OVERHEAD > self.config.request_bytes_max {
            return Err(ApiError::RequestTooLarge);
        }
        // Only where there is no leader does a batch become large.
        if self.proposals.batch.len() as u64 > self.config.raft.uncommitted_bytes_max {
            return Err(ApiError::TooManyRequests);
        }
        let deadline = now + self.config.request_timeout;
        self.proposals.admit(call, deadline, |batch, id| command::encode(batch, id, write));
        Ok(())
    }

    pub(super) fn propose_batch(&mut self, now: Instant) {
        if !self.proposals.ends.is_empty() && self.raft.takes_proposals() {
            self.propose_requests(now);
        }
        self.pump_raft();
    }

    fn propose_requests(&mut self, now: Instant) {
        let (requests, ids) = self.proposals.take();
        let Some(&first) = ids.first() else { return };
        self.proposals.were_made = true;
        let (admitted, error) = if self.raft.is_leader() {
            match self.raft.propose(requests) {
                Ok(proposed) => {
                    ((proposed.last.0 + 1 - proposed.first.0) as usize, ApiError::TooManyRequests)
                }
                Err(error) => (0, refusal(error)),
            }
        } else {
            match self.raft.forward(EntryKind::Normal, requests) {
                Ok(()) => (ids.len(), ApiError::TooManyRequests),
                Err(error) => (0, refusal(error)),
            }
        };
        if self.raft.is_leader()
            && let Some(&last) = ids[..admitted].last()
        {
            self.pump_raft();
            self.proposals.passages.push(now, first, last, self.pushed.0);
        }
        for id in &ids[admitted..] {
            self.refuse(*id, error);
        }
    }

    pub(super) fn refuse(&mut self, id: RequestId, error: ApiError) {
        // Whoever is told to come back later has not failed, as in etcd.
        self.proposals.failed += u64::from(error != ApiError::TooManyRequests);
        self.answer(id, Err(error));
    }

    /// This member decides no more when leases run out: what it was about to end, the next one may have given more time.
    pub(super) fn withdraw_revocations(&mut self) {
        for _ in 0..self.proposals.withdraw(CallId::LESSOR) {
            self.lessor.on_revoke_answered(false);
        }
    }

    /// Tells whoever waits; false if nobody does. Without a call it is another member's request, a replayed one, or one
    /// whose time was up.
    pub(super) fn answer(&mut self, id: RequestId, answer: Answer) -> bool {
        self.changes.forget(id);
        match self.proposals.waiting.remove(&id) {
            None => return false,
            Some(CallId::LESSOR) => self.lessor.on_revoke_answered(answer.is_ok()),
            Some(call) => {
                let passage = self.proposals.passages.of(id);
                self.events.push_back(Event::Answer { call, answer, passage });
            }
        }
        true
    }

    /// Refuses those whose time is up: what became of them is unknown, unless they were never proposed.
    pub(super) fn expire_proposals(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.proposals.deadlines.front() {
            let answered = !self.proposals.waiting.contains_key(&id);
            if !answered && deadline > now {
                break;
            }
            self.proposals.deadlines.pop_front();
            if answered {
                continue;
            }
            let error = if !self.changes.withdraw(id) && self.proposals.was_proposed(id) {
                self.leadership.explain_timeout(&self.config, deadline - self.config.request_timeout)
            } else {
                ApiError::DeadlineExceeded
            };
            self.refuse(id, error);
        }
    }
}

fn refusal(error: ProposeError) -> ApiError {
    match error {
        ProposeError::TooManyRequests => ApiError::TooManyRequests,
        ProposeError::NotLeader { .. }
        | ProposeError::Transferring
        | ProposeError::ConfChangePending
        | ProposeError::LeaderNotReady
        | ProposeError::Refused(_) => unreachable!("{error:?} of a proposal that would be taken"),
    }
}
