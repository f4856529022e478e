//! What members tell each other. Delivery may lose, repeat, delay and reorder; nothing here relies on more.
//!
//! The encoding is the transport's business, and so is to tell a member of another cluster from one of ours.

use std::time::Instant;

use bytes::Bytes;
use raft::StepError;

use super::Replica;
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
            Message::Lease { from, .. } | Message::Transfer { from, .. } => *from,
        }
    }

    /// Whom it is for.
    pub fn to(&self) -> u64 {
        match self {
            Message::Raft(message) => message.to.0,
            Message::Lease { to, .. } | Message::Transfer { to, .. } => *to,
        }
    }

    /// Whether it may overtake others: small, and of no use when late.
    pub fn is_urgent(&self) -> bool {
        match self {
            Message::Raft(message) => message.payload.is_urgent(),
            Message::Lease { .. } => true,
            Message::Transfer { .. } => false,
        }
    }
}

impl Replica {
    /// A message of another member arrived.
    ///
    /// Errors are the sender's fault or the network's, and leave everything as it was.
    pub fn step(&mut self, now: Instant, message: Message) -> Result<(), StepError> {
        match message {
            Message::Raft(message) => self.raft.step(message),
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
        let urgent = self.renewals.poll_message().or_else(|| self.raft.poll_message().map(Message::Raft));
        urgent.or_else(|| self.transfers.poll_message())
    }
}
