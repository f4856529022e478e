//! Watch streams between calls and the engine's [`Watchers`].
//!
//! A call that has something to tell asks to be asked when it may write, and then tells as much as its windows allow. What
//! it does not tell stays where it is: as a note in the engine, or as a batch that is being read from the history. A
//! short response is encoded in one go, a long one is counted first and then sent piece by piece, as long answers are.

use std::collections::BTreeMap;
use std::time::Instant;

use engine::error::ApiError;
use engine::mvcc::Cold;
use engine::mvcc::walk::Budget;
use engine::replica::{CallId, Fatal, Replica};
use engine::types::Revision;
use engine::watch::{self, Batch, Counts, Events, Message, Next, Poll, StreamId, Watchers};

use super::long::{Task, Work};
use super::streams::Streamed;
use super::{ConnId, Front, Place, Waiting};
use crate::api::watch::{self as wire, Encoded, Memo, Pieces, Plan, Planned, Request};
use crate::api::{Refusal, header::Origin};
use crate::grpc::{self, Code, Metadata, Status};

/// Records that matching may pass in one turn.
const MATCH_BUDGET: Budget = Budget(4 * Budget::SLICE.0);

/// Records that all watchers that are behind may pass in one turn.
const CATCH_UP_BUDGET: Budget = Budget(4 * Budget::SLICE.0);

/// The Watch calls of all connections.
#[derive(Debug)]
pub struct Watches {
    core: Watchers,
    calls: BTreeMap<(u64, u64), Call>,
    /// By the engine's stream.
    places: BTreeMap<StreamId, Place>,
    memo: Memo,
    budget: Budget,
    /// Published changes are left to be matched.
    pub has_more: bool,
    /// Events told.
    events: u64,
    leaderless_since: Option<Instant>,
}

/// One call.
#[derive(Debug)]
struct Call {
    stream: StreamId,
    /// The client would rather have an error than wait for a leader.
    requires_leader: bool,
    outgoing: Option<Outgoing>,
}

/// A batch on its way out.
#[derive(Debug)]
enum Outgoing {
    /// It may be short.
    Fresh(Batch),
    /// Its length is being counted; in parts, if that was found to be needed.
    Counting { batch: Batch, plan: Plan, in_parts: bool },
    /// Its bytes are being sent.
    Sending { batch: Batch, left: Events, count: u64, skip: usize, more: bool },
}

/// Why filling stops.
enum Stop {
    /// The windows are used up.
    Full,
    /// There is nothing to tell.
    Idle,
    /// The turn's budget is used up.
    More,
    /// Something must be brought in first.
    Cold(Cold),
    /// What was to be told is lost.
    Lost,
}

impl From<Cold> for Stop {
    fn from(cold: Cold) -> Stop {
        Stop::Cold(cold)
    }
}

impl Watches {
    pub fn new(config: watch::Config) -> Watches {
        Watches {
            core: Watchers::new(config),
            calls: BTreeMap::new(),
            places: BTreeMap::new(),
            memo: Memo::default(),
            budget: CATCH_UP_BUDGET,
            has_more: false,
            events: 0,
            leaderless_since: None,
        }
    }

    fn close(&mut self, place: Place) {
        if let Some(call) = self.calls.remove(&place.key()) {
            self.places.remove(&call.stream);
            self.core.close(call.stream);
        }
    }

    fn places_of(&self, conn: ConnId) -> Vec<Place> {
        let number = conn.0.to_u64();
        let calls = self.calls.range((number, 0)..=(number, u64::MAX));
        calls.map(|(&(_, call), _)| Place { conn, call: grpc::CallId::from_u64(call) }).collect()
    }
}

impl Front {
    /// A Watch call was admitted.
    pub(super) fn open_watch(&mut self, now: Instant, place: Place, metadata: &Metadata) -> Streamed {
        let (conn, call) = place.key();
        let stream = self.watches.core.open(now, conn.wrapping_mul(31).wrapping_add(call));
        let requires_leader = metadata.has_leader();
        self.watches.calls.insert(place.key(), Call { stream, requires_leader, outgoing: None });
        self.watches.places.insert(stream, place);
        Streamed::Nothing
    }

    /// A Watch call has sent its next message.
    pub(super) fn take_watch_request(
        &mut self,
        place: Place,
        message: &[u8],
        replica: &mut Replica,
    ) -> Streamed {
        let Some(call) = self.watches.calls.get(&place.key()) else { return Streamed::Nothing };
        let (stream, core, view) = (call.stream, &mut self.watches.core, replica.view());
        match wire::decode(message) {
            Ok(Request::Create(create)) => core.create(stream, &create, &view),
            Ok(Request::Cancel(id)) => core.cancel(stream, id, view.revision),
            Ok(Request::Progress) => core.request_progress(stream, view.revision),
            Ok(Request::Nothing) => {}
            Err(malformed) => {
                self.watches.close(place);
                return Streamed::End(Refusal::of_streamed(&malformed).into());
            }
        }
        if self.watches.core.is_flooded(stream) {
            self.watches.close(place);
            return Streamed::End(Status::new(Code::ResourceExhausted, FLOODED_TEXT));
        }
        Streamed::Writable
    }

    /// A call is over; true if it was a Watch.
    pub(super) fn close_watch(&mut self, place: Place) {
        self.watches.close(place);
    }

    /// A connection is gone.
    pub(super) fn close_watches_of(&mut self, conn: ConnId) {
        for place in self.watches.places_of(conn) {
            self.watches.close(place);
        }
    }

    /// Calls of a connection may have passed their deadline.
    pub(super) fn close_dead_watches(&mut self, conn: ConnId) {
        let places = self.watches.places_of(conn);
        let Some(connection) = self.conns.entry(conn.0) else { return };
        for place in places {
            if !connection.server.is_live(place.call) {
                self.watches.close(place);
            }
        }
    }

    /// Call it each turn after the replica's: matches what was published, and finds the streams that have something to
    /// tell.
    pub fn run_watches(&mut self, now: Instant, replica: &mut Replica) -> Result<(), Fatal> {
        self.watches.budget = CATCH_UP_BUDGET;
        let matched = self.watches.core.on_published(now, &replica.view(), &mut MATCH_BUDGET.clone());
        self.watches.has_more = match matched {
            Ok(more) => more,
            Err(cold) => {
                replica.fetch(&cold, CallId::NOBODY)?;
                false
            }
        };
        self.watches.core.handle_timeout(now);
        self.check_leader(now, replica);
        while let Some(stream) = self.watches.core.poll_ready() {
            let place = self.watches.places[&stream];
            if let Some(connection) = self.conns.entry(place.conn.0) {
                connection.server.want_writable(place.call);
            }
            self.touch(place.conn);
        }
        Ok(())
    }

    /// Ends the streams that want a leader, when there was none for a time.
    fn check_leader(&mut self, now: Instant, replica: &Replica) {
        if replica.raft().leader().is_some() {
            self.watches.leaderless_since = None;
            return;
        }
        let since = *self.watches.leaderless_since.get_or_insert(now);
        if now.saturating_duration_since(since) > self.config.leader_grace {
            self.end_watches(ApiError::NoLeader, |call| call.requires_leader);
        }
    }

    /// Ends all Watch calls, because the server does.
    pub(super) fn stop_watches(&mut self) {
        self.end_watches(ApiError::Stopped, |_| true);
    }

    fn end_watches(&mut self, error: ApiError, which: impl Fn(&Call) -> bool) {
        let ends = self.watches.calls.values().filter(|call| which(call)).map(|call| call.stream);
        for stream in ends.collect::<Vec<_>>() {
            let place = self.watches.places[&stream];
            self.watches.close(place);
            if let Some(connection) = self.conns.entry(place.conn.0) {
                connection.server.finish(place.call, &Refusal::from(error).into());
            }
            self.touch(place.conn);
        }
    }

    /// Streams, watchers, and events told.
    pub fn watch_counts(&self) -> (Counts, u64) {
        (self.watches.core.counts(), self.watches.events)
    }

    /// What a reclaim must leave readable for watchers: this revision and all that came later.
    pub fn oldest_watched(&self) -> Option<Revision> {
        self.watches.core.oldest()
    }

    /// Tells what a Watch call's windows allow.
    pub(super) fn fill_watch(
        &mut self,
        place: Place,
        room: usize,
        server: &mut grpc::Server,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        let Some(mut call) = self.watches.calls.remove(&place.key()) else { return Ok(()) };
        let mut filling = Filling {
            origin: Front::origin(replica),
            part_len_max: self.config.grpc.message_len_max as u64,
            scratch: &mut self.scratch,
            call: place.call,
            room,
            server,
        };
        let stop = filling.fill(&mut call, &mut self.watches, replica);
        self.watches.calls.insert(place.key(), call);
        match stop {
            Stop::Full => server.want_writable(place.call),
            Stop::Idle => {}
            Stop::More => self.tasks.push_back(Task { place, work: Work::Resume }),
            Stop::Cold(cold) => {
                let key = self.waiting.insert(Waiting::Stream(place));
                replica.fetch(&cold, CallId(key.to_u64()))?;
            }
            Stop::Lost => {
                // The client comes again and is told that its revision is compacted.
                self.watches.close(place);
                server.finish(place.call, &Status::new(Code::Unavailable, LOST_TEXT));
            }
        }
        Ok(())
    }
}

/// A call that is being written to.
struct Filling<'a> {
    origin: Origin,
    part_len_max: u64,
    scratch: &'a mut Vec<u8>,
    call: grpc::CallId,
    room: usize,
    server: &'a mut grpc::Server,
}

impl Filling<'_> {
    fn fill(&mut self, call: &mut Call, watches: &mut Watches, replica: &Replica) -> Stop {
        loop {
            if self.room == 0 {
                return Stop::Full;
            }
            let step = match call.outgoing.take() {
                None => self.poll(call, watches, replica),
                Some(outgoing) => {
                    // Until the step is done, the batch stays where the next attempt finds it.
                    self.step(outgoing, &mut call.outgoing, watches, replica)
                }
            };
            if let Err(stop) = step {
                return stop;
            }
        }
    }

    fn poll(&mut self, call: &mut Call, watches: &mut Watches, replica: &Replica) -> Result<(), Stop> {
        match watches.core.poll(call.stream, &replica.view(), &mut watches.budget)? {
            Poll::Message(Message::Events(batch)) => call.outgoing = Some(Outgoing::Fresh(batch)),
            Poll::Message(word) => {
                self.scratch.clear();
                wire::encode_word(self.origin, &word, self.scratch);
                self.send_scratch();
            }
            Poll::More => return Err(Stop::More),
            Poll::Idle => return Err(Stop::Idle),
        }
        Ok(())
    }

    fn send_scratch(&mut self) {
        let scratch = &self.scratch;
        self.server.send_message(self.call, |out| out.extend_from_slice(scratch));
        self.room = self.room.saturating_sub(self.scratch.len());
    }

    fn step(
        &mut self,
        outgoing: Outgoing,
        place: &mut Option<Outgoing>,
        watches: &mut Watches,
        replica: &Replica,
    ) -> Result<(), Stop> {
        match outgoing {
            Outgoing::Fresh(batch) => self.encode(batch, place, watches, replica),
            Outgoing::Counting { batch, plan, in_parts } => {
                self.count(batch, plan, in_parts, place, watches, replica)
            }
            Outgoing::Sending { batch, left, count, skip, more } => {
                let mut sending = Sending { left, count, skip };
                let sent = self.send(&mut sending, watches, replica);
                let Sending { left, count, skip } = sending;
                *place = match (&sent, count) {
                    (Ok(()), 0) if more => {
                        let plan = Plan::new(left);
                        Some(Outgoing::Counting { batch, plan, in_parts: true })
                    }
                    (Ok(()), 0) => None,
                    _ => Some(Outgoing::Sending { batch, left, count, skip, more }),
                };
                sent
            }
        }
    }

    fn encode(
        &mut self,
        batch: Batch,
        place: &mut Option<Outgoing>,
        watches: &mut Watches,
        replica: &Replica,
    ) -> Result<(), Stop> {
        match watches.memo.encode(&batch.events, &replica.view()) {
            Ok(Encoded::Whole(bytes, count)) => {
                self.scratch.clear();
                wire::encode_events_head(self.origin, &batch, false, self.scratch);
                let (head, len) = (&self.scratch, self.scratch.len() + bytes.len());
                self.server.send_message(self.call, |out| {
                    out.extend_from_slice(head);
                    out.extend_from_slice(bytes);
                });
                self.room = self.room.saturating_sub(len);
                watches.events += count;
                Ok(())
            }
            Ok(Encoded::Long) => {
                let plan = Plan::new(batch.events.clone());
                *place = Some(Outgoing::Counting { batch, plan, in_parts: false });
                Ok(())
            }
            Ok(Encoded::Lost) => Err(Stop::Lost),
            Err(cold) => {
                *place = Some(Outgoing::Fresh(batch));
                Err(Stop::Cold(cold))
            }
        }
    }

    /// Counts the events of the next message, and begins it when they are counted.
    fn count(
        &mut self,
        batch: Batch,
        mut plan: Plan,
        in_parts: bool,
        place: &mut Option<Outgoing>,
        watches: &mut Watches,
        replica: &Replica,
    ) -> Result<(), Stop> {
        let head_len = wire::part_head_len(self.origin, &batch);
        let limit = in_parts.then(|| self.part_len_max.saturating_sub(head_len));
        let from = plan.from().clone();
        let more = match plan.advance(limit, &replica.view(), &mut watches.budget) {
            Ok(Planned::All) => false,
            Ok(Planned::Part) => true,
            Ok(Planned::Lost) => return Err(Stop::Lost),
            unfinished => {
                *place = Some(Outgoing::Counting { batch, plan, in_parts });
                return Err(unfinished.err().map_or(Stop::More, Stop::Cold));
            }
        };
        // Two bytes of that head are there only if the message is a part.
        let is_too_long = plan.len + head_len - 2 >= self.part_len_max;
        if batch.fragment && !in_parts && plan.count > 1 && is_too_long {
            *place = Some(Outgoing::Counting { batch, plan: Plan::new(from), in_parts: true });
            return Ok(());
        }
        self.scratch.clear();
        wire::encode_events_head(self.origin, &batch, more, self.scratch);
        let scratch = &self.scratch;
        self.server.begin_message(self.call, scratch.len() as u64 + plan.len);
        self.server.push_chunk(self.call, |out| out.extend_from_slice(scratch));
        *place = Some(Outgoing::Sending { batch, left: from, count: plan.count, skip: 0, more });
        Ok(())
    }

    fn send(&mut self, sending: &mut Sending, watches: &mut Watches, replica: &Replica) -> Result<(), Stop> {
        let view = replica.view();
        while sending.count > 0 {
            if self.room == 0 {
                return Err(Stop::Full);
            }
            let mut next = sending.left.clone();
            let event = match next.next(&view, &mut watches.budget)? {
                Next::Event(event) => event,
                Next::More => {
                    sending.left = next;
                    return Err(Stop::More);
                }
                Next::End | Next::Lost => return Err(Stop::Lost),
            };
            let (pieces, skip, room) = (Pieces::of(&event), sending.skip, self.room);
            let mut put = 0;
            self.server.push_chunk(self.call, |out| put = pieces.put(skip, room, out));
            (self.room, sending.skip) = (self.room - put, sending.skip + put);
            if sending.skip as u64 == wire::event_len(&event) {
                (sending.left, sending.skip, sending.count) = (next, 0, sending.count - 1);
                watches.events += 1;
            }
        }
        Ok(())
    }
}

/// Events of a message that was begun.
struct Sending {
    left: Events,
    count: u64,
    /// Bytes of the next one that are sent.
    skip: usize,
}

const FLOODED_TEXT: &str = "etcdserver: too many watch requests without reading their answers";
const LOST_TEXT: &str = "etcdserver: the watch is too far behind";
