//! Reads that take more than a slice, and answers that take more than one send.

use std::time::Instant;

use engine::apply::read_txn::ReadTxn;
use engine::mvcc::Cold;
use engine::mvcc::hash::HashTask;
use engine::mvcc::range::{Progress, RangeTask};
use engine::mvcc::walk::Budget;
use engine::replica::{CallId, Fatal, Replica};
use engine::response::Response;
use engine::types::Seq;

use super::lease::Listing;
use super::pins::{self, Pin, Sending};
use super::serve::Served;
use super::{Front, Outgoing, Place, Waiting};
use crate::api::encoder::{Encoder, Fill};
use crate::api::maintenance;
use crate::api::records::{self, RecordRef, Records};
use crate::api::snapshot::{Next, Snapshot};
use crate::grpc::{self, Status};
use crate::slab::Key;

/// Records a long list looks up at a time.
const WALK_BATCH: usize = 1024;

/// Records looked at behind one that is cold.
const PREFETCH_MAX: usize = 64;

/// Reads that run in one turn; the others are next.
const SLICES_MAX: usize = 4;

/// Keys the long answers of a connection may pass in one turn: with a filter, many are passed for each one sent.
const WALK_BUDGET: Budget = Budget(4 * Budget::SLICE.0);

/// What snapshots may do in one turn, in all: a few hundred KiB.
const STREAM_BUDGET: Budget = Budget(512);

/// A read in slices.
#[derive(Debug)]
pub struct Task {
    pub place: Place,
    pub work: Work,
    /// The revision it reads; an answer under way has a pin of its own.
    pub _pin: Option<Pin>,
}

impl Task {
    /// Work that names no record of the past.
    pub fn of_now(place: Place, work: Work) -> Task {
        Task { place, work, _pin: None }
    }
}

/// What is read.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a task is boxed as a whole")]
pub enum Work {
    /// A range of several keys.
    Range(Box<RangeTask>),
    /// A transaction that only reads.
    Txn(Box<ReadTxn>),
    /// A hash of all keys.
    Hash(Box<HashTask>),
    /// The length of a snapshot.
    Count(Box<Snapshot>),
    /// The keys of a lease.
    Lease(Box<Listing>),
    /// A long answer whose walk used up its turn.
    Resume,
}

/// The replica's records as answers want them.
pub struct Stored<'a>(pub &'a Replica);

impl Records for Stored<'_> {
    fn record(&self, seq: Seq) -> Result<RecordRef<'_>, records::Cold> {
        match self.0.store().history().record(seq) {
            Ok(Some(record)) => Ok(RecordRef { wire: record.wire() }),
            Ok(None) => unreachable!("record {seq} was reclaimed under an answer that names it"),
            Err(_) => Err(records::Cold(seq)),
        }
    }
}

impl Front {
    /// Runs a few slices, of each read in turn.
    pub fn run_slices(&mut self, now: Instant, replica: &mut Replica) -> Result<(), Fatal> {
        self.stream_budget = STREAM_BUDGET;
        self.answer_finished(replica)?;
        for _ in 0..self.tasks.len().min(SLICES_MAX) {
            let task = self.tasks.pop_front().expect("as many as there were");
            let place = task.place;
            // A connection that is gone, or a call, takes its read with it.
            let mut slot = Some(task);
            self.with(place, |front, server| {
                front.run_slice(now, slot.take().expect("run once"), server, replica)
            })?;
        }
        Ok(())
    }

    fn run_slice(
        &mut self,
        now: Instant,
        mut task: Task,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        let mut budget = Budget::SLICE;
        let view = replica.view();
        let progress = match &mut task.work {
            Work::Range(range) => range
                .advance(&view, &mut budget)
                .map(|progress| progress.map(Response::Range).map(Served::Answer)),
            Work::Txn(txn) => txn
                .advance(&view, &mut budget)
                .map(|progress| progress.map(Response::Txn).map(Served::Answer)),
            Work::Lease(listing) => listing.advance(replica, budget).map(|complete| match complete {
                true => Progress::Done(Served::Message(listing.answer(now, replica))),
                false => Progress::More,
            }),
            Work::Hash(task) => {
                let header = Front::origin(replica).at(task.current());
                task.advance(&view, &mut budget)
                    .map(|progress| progress.map(|hash| Served::Message(maintenance::hash_kv(header, hash))))
            }
            Work::Count(snapshot) => match snapshot.count(&view, &mut budget) {
                Ok(Progress::Done(())) => {
                    let Work::Count(snapshot) = task.work else { unreachable!("matched just now") };
                    return self.settle(task.place, Served::Snapshot(snapshot), server, replica);
                }
                Ok(Progress::More) => Ok(Progress::More),
                Err(cold) => Err(cold),
            },
            Work::Resume => {
                server.want_writable(task.place.call);
                return Ok(());
            }
        };
        match progress {
            Ok(Progress::Done(served)) => {
                if let Served::Answer(answer) = &served {
                    self.operations.count(answer);
                }
                self.settle(task.place, served, server, replica)
            }
            Ok(Progress::More) => {
                self.tasks.push_back(task);
                Ok(())
            }
            Err(cold) => {
                let key = self.waiting.insert(Waiting::Slice(task));
                replica.fetch(&cold, CallId(key.to_u64()))
            }
        }
    }

    /// Begins an answer that is sent piece by piece.
    pub(super) fn begin_answer(
        &mut self,
        place: Place,
        answer: Response,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        let pin = self.pins.pin(pins::oldest_named(&answer));
        match Encoder::new(Front::origin(replica), answer, &Stored(replica)) {
            Ok(encoder) => {
                server.begin_message(place.call, encoder.encoded_len());
                server.charge(place.call, encoder.memory_bytes());
                if encoder.remaining() == 0 {
                    server.finish(place.call, &Status::OK);
                } else {
                    self.answers.insert(place.key(), Sending::new(Outgoing::Message(encoder), pin));
                }
                Ok(())
            }
            Err((answer, cold)) => {
                let waiting = Waiting::Answer { place, answer: Box::new(answer), pin };
                self.wait_for_record(waiting, cold, replica)
            }
        }
    }

    /// Gives each long answer of a connection as much as its windows allow, and all of them `room` bytes at most.
    pub(super) fn fill_answers(
        &mut self,
        conn: super::ConnId,
        server: &mut grpc::Server,
        replica: &mut Replica,
        room_left: &mut usize,
    ) -> Result<(), Fatal> {
        let mut walk_budget = WALK_BUDGET;
        while *room_left > 0
            && let Some((call, offered)) = server.poll_writable()
        {
            let (room, before) = (offered.min(*room_left), server.output().len());
            self.fill_call(Place { conn, call }, room, &mut walk_budget, server, replica)?;
            let filled = server.output().len() - before;
            *room_left = room_left.saturating_sub(filled);
        }
        Ok(())
    }

    /// Gives the long answer of a call `room` bytes.
    fn fill_call(
        &mut self,
        place: Place,
        room: usize,
        walk_budget: &mut Budget,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        let Some(mut sending) = self.answers.remove(&place.key()) else {
            return self.fill_watch(place, room, server, replica);
        };
        let left = sending.outgoing.remaining();
        let complete = match &mut sending.outgoing {
            Outgoing::Message(encoder) => self.fill(place, encoder, room, walk_budget, server, replica)?,
            Outgoing::Snapshot(snapshot) => self.stream(place, snapshot, room, server, replica)?,
        };
        if !complete {
            sending.moved |= sending.outgoing.remaining() < left;
            self.answers.insert(place.key(), sending);
        }
        Ok(())
    }

    /// Adds `room` bytes, if they are at hand. True when the answer is complete.
    fn fill(
        &mut self,
        place: Place,
        encoder: &mut Encoder,
        mut room: usize,
        walk_budget: &mut Budget,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<bool, Fatal> {
        loop {
            self.scratch.clear();
            let fill = encoder.fill(&Stored(replica), &mut self.scratch, room);
            room -= self.scratch.len();
            if !self.scratch.is_empty() {
                let scratch = &self.scratch;
                server.push_chunk(place.call, |out| out.extend_from_slice(scratch));
            }
            match fill {
                Fill::Done => {
                    server.finish(place.call, &Status::OK);
                    return Ok(true);
                }
                Fill::Full => return Ok(false),
                Fill::Cold(seq) => {
                    self.wait_for_record(Waiting::Stream(place), records::Cold(seq), replica)?;
                    prefetch(encoder.upcoming(), replica)?;
                    return Ok(false);
                }
                Fill::WalkBatch => {
                    let list = encoder.walk().expect("a walk asked for its batch");
                    match list.next(&replica.view(), WALK_BATCH, walk_budget) {
                        Ok(batch) if batch.is_empty() => {
                            self.tasks.push_back(Task::of_now(place, Work::Resume));
                            return Ok(false);
                        }
                        Ok(batch) => encoder.feed(&batch),
                        Err(cold) => {
                            let key = self.waiting.insert(Waiting::Stream(place));
                            replica.fetch(&cold, CallId(key.to_u64()))?;
                            return Ok(false);
                        }
                    }
                }
            }
        }
    }

    /// Sends messages of about `room` bytes, if they are at hand. True when the last one is sent.
    fn stream(
        &mut self,
        place: Place,
        snapshot: &mut Snapshot,
        mut room: usize,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<bool, Fatal> {
        loop {
            match snapshot.next(&replica.view(), &mut self.stream_budget) {
                Ok(Next::Message(message)) => {
                    room = room.saturating_sub(message.len());
                    server.send_message(place.call, |out| out.extend_from_slice(&message));
                }
                Ok(Next::Later) => {
                    self.tasks.push_back(Task::of_now(place, Work::Resume));
                    return Ok(false);
                }
                Ok(Next::End) => {
                    server.finish(place.call, &Status::OK);
                    return Ok(true);
                }
                Err(cold) => {
                    let key = self.waiting.insert(Waiting::Stream(place));
                    replica.fetch(&cold, CallId(key.to_u64()))?;
                    return Ok(false);
                }
            }
            if room == 0 {
                server.want_writable(place.call);
                return Ok(false);
            }
        }
    }

    /// Has a record brought in for whoever waits.
    pub(super) fn wait_for_record(
        &mut self,
        waiting: Waiting,
        cold: records::Cold,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        let key: Key = self.waiting.insert(waiting);
        let cold = match replica.store().history().record(cold.0) {
            Err(cold) => cold,
            Ok(_) => Cold::Record(cold.0),
        };
        replica.fetch(&cold, CallId(key.to_u64()))
    }
}

/// Has the cold ones of the records that come next brought in, at depth, for nobody in particular.
pub(super) fn prefetch(seqs: &[Seq], replica: &mut Replica) -> Result<(), Fatal> {
    for &seq in seqs.iter().take(PREFETCH_MAX) {
        if let Err(cold) = replica.store().history().record(seq) {
            replica.fetch(&cold, CallId::NOBODY)?;
        }
    }
    Ok(())
}
