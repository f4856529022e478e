//! The file that a transfer gathers in, one operation at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::piece::{Head, Piece};
use crate::disk::{DiskError, Durability, FileName, Op, Outcome, Owner, Token};
use crate::seeded::{self, Bug};
use crate::types::Seq;

/// A transfer on its way here.
#[derive(Debug)]
pub struct Spool {
    /// What it brings, as raft was told at the other end.
    pub meta: raft::Message,
    /// The sender's number of the transfer.
    pub number: u64,
    /// Known once the head is here.
    pub head: Option<Box<Head>>,
    /// Where the next piece begins.
    next: Seq,
    offset: u64,
    ops: VecDeque<Step>,
    busy: Option<Step>,
    next_id: u64,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Step {
    Remove,
    Create,
    Write(Bytes, Option<Seq>),
    Sync,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Pieces are missing.
    Gathering,
    /// All are in the file and durable.
    Whole,
    /// The commit is durable too: the member is to be opened again.
    Committed,
}

impl Spool {
    /// Begins; what lay in the file before is removed if `exists`.
    pub fn new(meta: raft::Message, number: u64, exists: bool, first_id: u64) -> Spool {
        let mut ops = VecDeque::new();
        if exists {
            ops.push_back(Step::Remove);
        }
        ops.push_back(Step::Create);
        Spool {
            meta,
            number,
            head: None,
            next: Seq(0),
            offset: 0,
            ops,
            busy: None,
            next_id: first_id,
            stage: Stage::Gathering,
        }
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Number for the next operation.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Whether an operation is under way.
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Takes a piece if it is the next one. Returns where the next one begins, if that needs no write first.
    pub fn take(&mut self, piece: &Piece) -> Option<Seq> {
        if self.stage != Stage::Gathering {
            return Some(self.next);
        }
        let again = seeded::is(Bug::TakePieceTwice) && piece.at() < self.next;
        if piece.at() != self.next && !again {
            // One that is on its way into the file is answered when it is there.
            return self.ops.is_empty().then_some(self.next).filter(|_| self.busy.is_none());
        }
        if let Piece::Head(head) = piece {
            self.head = Some(head.clone());
        }
        self.next = piece.behind();
        self.ops.push_back(Step::Write(piece.encode(), Some(self.next)));
        if self.is_complete() {
            self.ops.push_back(Step::Sync);
        }
        None
    }

    fn is_complete(&self) -> bool {
        self.head.as_ref().is_some_and(|head| self.next > head.last_seq)
    }

    /// The log is durable up to the end of the transfer.
    pub fn commit(&mut self) {
        if self.stage == Stage::Whole && self.ops.is_empty() && self.busy.is_none() {
            self.ops.extend([Step::Write(Piece::Commit.encode(), None), Step::Sync]);
        }
    }

    /// The next operation.
    pub fn poll(&mut self) -> Option<(Token, Op)> {
        if self.busy.is_some() {
            return None;
        }
        let step = self.ops.pop_front()?;
        let file = FileName::Incoming;
        let op = match &step {
            Step::Remove => Op::Remove { file },
            Step::Create => Op::Create { file, len: 0 },
            Step::Write(data, _) => {
                let (data, durability) = (data.clone(), Durability::Cached);
                Op::Write { file, offset: self.offset, data, durability }
            }
            Step::Sync => Op::Sync { file },
        };
        self.busy = Some(step);
        self.next_id += 1;
        Some((Token { owner: Owner::Incoming, id: self.next_id }, op))
    }

    /// It ended. Returns where the next piece begins, if the sender should hear of it.
    pub fn on_completed(&mut self, outcome: Outcome) -> Result<Option<Seq>, DiskError> {
        outcome?;
        match self.busy.take().expect("an operation was under way") {
            Step::Remove | Step::Create => Ok(None),
            Step::Write(data, next) => {
                self.offset += data.len() as u64;
                Ok(next)
            }
            Step::Sync => {
                self.stage = match self.stage {
                    Stage::Gathering => Stage::Whole,
                    _ => Stage::Committed,
                };
                Ok(None)
            }
        }
    }
}
