//! What members tell each other. Delivery may lose, repeat, delay and reorder; nothing here relies on more.
//!
//! The encoding is the transport's business, and so is to tell a member of another cluster from one of ours.

use std::time::Instant;

use bytes::Bytes;
use raft::{ConfChange, StepError, Term};

use super::Replica;
use crate::error::ApiError;
use crate::types::{LeaseId, Seq};

/// A message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Consensus, writes that clients of a follower wrote, and the rounds of reads.
    Raft(raft::Message),
    /// About a lease, of which the leader alone knows how long it has left.
    Lease {
        /// The sender.
        from: u64,
        /// The receiver.
        to: u64,
        /// The asker's number of the question.
        number: u64,
        /// What.
        body: LeaseBody,
    },
    /// About the members themselves.
    Member {
        /// The sender.
        from: u64,
        /// The receiver.
        to: u64,
        /// What.
        body: MemberBody,
    },
    /// The leader's state, for a member whose log is too far behind.
    Transfer {
        /// The sender.
        from: u64,
        /// The receiver.
        to: u64,
        /// The leader's number of the transfer.
        number: u64,
        /// What.
        body: TransferBody,
    },
}

/// What a message of a transfer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferBody {
    /// Part of the state.
    Piece {
        /// What raft is to be told when all has arrived.
        meta: raft::Message,
        /// An encoded [`Piece`](crate::transfer::Piece).
        bytes: Bytes,
    },
    /// Everything before this record has arrived; 0: not even the head.
    Taken(Seq),
}

/// What a message about members says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberBody {
    /// "Propose this change for me", to the leader. Answered only if it is refused.
    Change {
        /// Of the leader that is asked; no other one takes it.
        term: Term,
        /// The asker's number of it, which no other of its requests ever has.
        number: u64,
        /// What, with names and URLs as its context.
        change: ConfChange,
    },
    /// The leader does not propose a change.
    Refused {
        /// Which.
        number: u64,
        /// What the client is told.
        error: ApiError,
    },
    /// "Do I still belong to the cluster?" Answered only if not.
    Question,
    /// "You were removed", to whoever was and says anything.
    Removed,
}

/// What a message about a lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseBody {
    /// "How long has it left?" The leader answers when it knows.
    Question {
        /// Which.
        id: LeaseId,
        /// And give it all its time again.
        renew: bool,
    },
    /// Its times; none if there is no such lease.
    Answer(Option<LeaseTimes>),
}

/// Times of a lease, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// It was granted so many.
    pub granted: i64,
    /// It has so many left; 0 or less if it ran out and is not revoked yet.
    pub left: i64,
}

impl Message {
    /// Who sent it.
    pub fn from(&self) -> u64 {
        match self {
            Message::Raft(message) => message.from.0,
            Message::Lease { from, .. } | Message::Member { from, .. } | Message::Transfer { from, .. } => {
                *from
            }
        }
    }

    /// Whom it is for.
    pub fn to(&self) -> u64 {
        match self {
            Message::Raft(message) => message.to.0,
            Message::Lease { to, .. } | Message::Member { to, .. } | Message::Transfer { to, .. } => *to,
        }
    }

    /// Whether only a leader says so.
    pub(super) fn is_from_leader(&self) -> bool {
        match self {
            Message::Raft(message) => {
                matches!(message.payload, raft::Payload::Append { .. } | raft::Payload::Heartbeat { .. })
            }
            Message::Transfer { body, .. } => matches!(body, TransferBody::Piece { .. }),
            Message::Lease { .. } | Message::Member { .. } => false,
        }
    }

    /// Whether it may overtake others: small, and of no use when late.
    pub fn is_urgent(&self) -> bool {
        match self {
            Message::Raft(message) => message.payload.is_urgent(),
            Message::Lease { .. } | Message::Member { .. } => true,
            Message::Transfer { .. } => false,
        }
    }
}

impl Replica {
    /// A message of another member arrived.
    ///
    /// Errors are the sender's fault or the network's, and leave everything as it was. What comes from a member that was
    /// removed is passed over, and it is told so.
    pub fn step(&mut self, now: Instant, message: Message) -> Result<(), StepError> {
        let (from, pause_max) = (message.from(), self.pause_max());
        if self.is_from_removed(from) {
            return Ok(());
        }
        self.changes.hear(now, from, pause_max);
        self.belonging.hear(now, &message);
        match message {
            Message::Raft(message) => self.raft.step(message),
            Message::Member { from, to, body } => {
                if to != self.config.member || from == to {
                    return Err(StepError::Misdelivered);
                }
                self.on_member_message(now, from, body)
            }
            Message::Lease { from, to, number, body } => {
                let is_peer = self.raft.conf_state().members().any(|member| member.0 == from);
                if to != self.config.member || from == to || !is_peer {
                    return Err(StepError::Misdelivered);
                }
                match body {
                    LeaseBody::Question { id, renew } => self.on_lease_question(now, from, number, id, renew),
                    LeaseBody::Answer(times) => self.on_lease_answer(number, times),
                }
                Ok(())
            }
            Message::Transfer { from, to, number, body } => {
                if to != self.config.member || from == to {
                    return Err(StepError::Misdelivered);
                }
                match body {
                    TransferBody::Piece { meta, bytes } => self.on_piece(from, number, meta, &bytes),
                    TransferBody::Taken(next) => self.on_taken(now, from, number, next),
                }
                Ok(())
            }
        }
    }

    /// The next message for another member; drain it after every turn. Urgent ones come first.
    pub fn poll_message(&mut self) -> Option<Message> {
        let own = self.renewals.poll_message().or_else(|| self.changes.poll_message());
        let urgent = own.or_else(|| self.raft.poll_message().map(Message::Raft));
        urgent.or_else(|| self.transfers.poll_message())
    }
}
