//! All connections of one core between socket bytes and the replica, without input or output.
//!
//! A request comes out of its connection's [`grpc::Server`], is decoded and checked by [`api`](crate::api), and either
//! answered at once (reads of what is in memory), or handed to the [`Replica`] and answered when its [`Event`] comes.
//! Answers gather in each connection's output; the driver sends one batch per connection and turn.
//!
//! The driver's part: [`Front::accept`], [`Front::handle_input`], [`Front::oldest_pin`] before each turn in which the
//! replica wants one, and in each turn [`Front::on_event`], [`Front::run_slices`] and [`Front::run_watches`], then
//! [`Front::poll_dirty`] to flush. Time comes in as an argument, so the simulator can drive it.

// What each request becomes.
mod serve;

// Reads that take more than a slice, and answers that take more than one send.
mod long;

// The Lease service.
mod lease;

// What answers under way need, and who waits for reclaim.
mod pins;

// Calls whose client sends a stream of messages.
mod streams;

// The stream that keeps leases alive.
mod keep_alive;

// The stream that tells whether the server serves.
mod health;

// Watch streams.
mod watch;

// How many operations of each kind there were.
pub mod operations;

// What the clients' libraries say they are.
pub mod versions;

// What all connections hold together.
mod ledger;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::error::ApiError;
use engine::mvcc::walk::Budget;
use engine::replica::passage::Passage;
use engine::replica::{CallId, Event, Fatal, ReadStart, Replica};
use engine::request::{Compact, Write};
use engine::types::{Member, Revision};

use crate::api::Refusal;
use crate::api::encoder::Encoder;
use crate::api::header::Origin;
use crate::api::route::{self, Kind, Method};
use crate::api::snapshot::Snapshot;
use crate::grpc;
use crate::h2::ConnectionError;
use crate::slab::{Key, Slab};
use keep_alive::KeepAlive;
use ledger::Ledger;
use long::Task;
use operations::Operations;
use pins::{Finishing, Pin, Pins, Sending};
use streams::Streamed;
use versions::Versions;
use watch::Watches;

/// A connection of this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(Key);

/// What the front needs to know of the member.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of each connection.
    pub grpc: grpc::Config,
    /// `--max-txn-ops`.
    pub ops_max: usize,
    /// The etcd version answered as: `3.6.16`.
    pub version: String,
    /// Version of the stored data: `3.6.0`.
    pub storage_version: String,
    /// The quota in force.
    pub quota: i64,
    /// All members.
    pub members: Vec<Member>,
    /// Watchers.
    pub watch: engine::watch::Config,
    /// A stream that wants a leader ends when there was none for this long.
    pub leader_grace: Duration,
}

/// A call that waits for the replica.
#[derive(Debug)]
enum Waiting {
    /// A write waits for its answer.
    Write(Place),
    /// A compaction whose answer waits for reclaim as well.
    Compaction(Place, Revision),
    /// A request, whose message is held, waits until it can be served from the beginning.
    Again { place: Place, method: Method },
    /// A read in slices found something cold.
    Slice(Task),
    /// An answer found a record cold.
    Answer { place: Place, answer: Box<engine::response::Response>, pin: Pin },
    /// A long answer found a record cold.
    Stream(Place),
    /// The first request of a stream that keeps leases alive waits.
    KeepAlive(Place),
    /// Somebody outside gRPC waits for a linearizable read.
    Outside(u64),
}

impl Waiting {
    /// Whose call it is.
    fn place(&self) -> Option<Place> {
        Some(match self {
            Waiting::Write(place)
            | Waiting::Compaction(place, _)
            | Waiting::Again { place, .. }
            | Waiting::Slice(Task { place, .. })
            | Waiting::Answer { place, .. }
            | Waiting::Stream(place)
            | Waiting::KeepAlive(place) => *place,
            Waiting::Outside(_) => return None,
        })
    }
}

/// An answer on its way out.
#[derive(Debug)]
enum Outgoing {
    /// One message.
    Message(Encoder),
    /// Many.
    Snapshot(Box<Snapshot>),
}

impl Outgoing {
    /// Bytes not handed out.
    fn remaining(&self) -> u64 {
        match self {
            Outgoing::Message(encoder) => encoder.remaining(),
            Outgoing::Snapshot(snapshot) => snapshot.remaining(),
        }
    }
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    conn: ConnId,
    call: grpc::CallId,
}

impl Place {
    fn key(self) -> (u64, u64) {
        (self.conn.0.to_u64(), self.call.to_u64())
    }

    fn of_key((conn, call): (u64, u64)) -> Place {
        Place { conn: ConnId(Key::from_u64(conn)), call: grpc::CallId::from_u64(call) }
    }
}

/// One connection.
#[derive(Debug)]
struct Connection {
    server: grpc::Server,
    /// It is listed as dirty.
    dirty: bool,
    /// What the ledger of all connections knows of it.
    noted_bytes: usize,
}

/// All connections of one core.
#[derive(Debug)]
pub struct Front {
    config: Config,
    conns: Slab<Connection>,
    waiting: Slab<Waiting>,
    /// Reads that go on in the next slices, in turn.
    tasks: VecDeque<Task>,
    /// Messages of requests that wait. Their connections' ledgers know of them, and they go with their calls.
    held: BTreeMap<(u64, u64), Bytes>,
    /// Answers on their way out.
    answers: BTreeMap<(u64, u64), Sending>,
    /// What the reads and answers under way need.
    pins: Pins,
    /// When stalled answers were looked for.
    looked_at: Option<Instant>,
    /// Calls that are answered when reclaim is finished.
    finishing: Vec<Finishing>,
    /// What is left of this turn for streams of messages.
    stream_budget: Budget,
    /// Streams that keep leases alive.
    keep_alives: BTreeMap<(u64, u64), KeepAlive>,
    /// Open calls of `Health/Watch`.
    health_watches: BTreeSet<(u64, u64)>,
    watches: Watches,
    dirty: Vec<ConnId>,
    /// Reads for others than gRPC clients that may go on now.
    outside: VecDeque<(u64, Result<(), ApiError>)>,
    scratch: Vec<u8>,
    ledger: Ledger,
    tally: Rc<grpc::Tally>,
    operations: Operations,
    versions: Versions,
}

impl Front {
    /// No connections yet.
    pub fn new(config: Config) -> Front {
        Front {
            watches: Watches::new(config.watch),
            config,
            conns: Slab::default(),
            waiting: Slab::default(),
            tasks: VecDeque::new(),
            held: BTreeMap::new(),
            answers: BTreeMap::new(),
            stream_budget: Budget(0),
            keep_alives: BTreeMap::new(),
            health_watches: BTreeSet::new(),
            pins: Pins::default(),
            looked_at: None,
            finishing: Vec::new(),
            dirty: Vec::new(),
            outside: VecDeque::new(),
            scratch: Vec::new(),
            ledger: Ledger::default(),
            tally: Rc::default(),
            operations: Operations::default(),
            versions: Versions::default(),
        }
    }

    /// A connection was accepted, and its first bytes say HTTP/2.
    pub fn accept(&mut self, now: Instant) -> ConnId {
        let server = grpc::Server::counting(self.config.grpc, now, Rc::clone(&self.tally));
        ConnId(self.conns.insert(Connection { server, dirty: false, noted_bytes: 0 }))
    }

    /// Takes what it can of `input`; see [`grpc::Server`] for what may be left.
    ///
    /// Errors: the connection is over (`Err(Some)`), after its output has been sent; or the process is.
    pub fn handle_input(
        &mut self,
        now: Instant,
        conn: ConnId,
        input: &mut &[u8],
        replica: &mut Replica,
    ) -> Result<Result<(), ConnectionError>, Fatal> {
        self.tally.advance(now);
        let Some(mut connection) = self.take(conn) else { return Ok(Ok(())) };
        let outcome = self.poll_events(now, conn, &mut connection, input, replica);
        self.put_back(conn, connection);
        outcome
    }

    fn poll_events(
        &mut self,
        now: Instant,
        conn: ConnId,
        connection: &mut Connection,
        input: &mut &[u8],
        replica: &mut Replica,
    ) -> Result<Result<(), ConnectionError>, Fatal> {
        loop {
            let event = match connection.server.poll_event(now, input) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            match event {
                grpc::Event::Request { call, method, metadata, message } => {
                    let place = Place { conn, call };
                    let served = match self.admit(method, metadata, replica) {
                        Ok(()) => self.serve(now, place, route::method_of(method), message, replica)?,
                        Err(error) => serve::Served::Refused(error.into()),
                    };
                    self.settle(place, served, &mut connection.server, replica)?;
                }
                grpc::Event::Call { call, method, metadata } => {
                    let place = Place { conn, call };
                    let opened = match self.admit(method, metadata, replica) {
                        Ok(()) => self.open_call(now, place, route::method_of(method), metadata),
                        Err(error) => Streamed::End(Refusal::from(error).into()),
                    };
                    streams::settle(place, opened, &mut connection.server);
                }
                grpc::Event::Message { call, method, message } => {
                    let place = Place { conn, call };
                    let method = route::method_of(method);
                    let taken = self.take_message(now, place, method, message, replica)?;
                    streams::settle(place, taken, &mut connection.server);
                }
                grpc::Event::HalfClosed { call } => {
                    let place = Place { conn, call };
                    streams::settle(place, self.half_close(place), &mut connection.server);
                }
                grpc::Event::Cancelled { call } => {
                    self.answers.remove(&Place { conn, call }.key());
                    self.held.remove(&Place { conn, call }.key());
                    self.finishing.retain(|waiting| waiting.place != Place { conn, call });
                    self.cancel_call(Place { conn, call });
                }
            }
        }
    }

    /// The limit that turned something of the connection's away since this was last asked, by its name in
    /// [`abuse`](crate::h2::abuse).
    pub fn take_limit(&mut self, conn: ConnId) -> Option<&'static str> {
        self.conns.entry(conn.0)?.server.take_limit()
    }

    /// A turn begins: calls answered in it take until now.
    pub fn begin_turn(&mut self, now: Instant) {
        self.tally.advance(now);
    }

    /// The quota in force; 0 is none.
    pub fn quota(&self) -> i64 {
        self.config.quota
    }

    /// What all calls add up to.
    pub fn tally(&self) -> &grpc::Tally {
        &self.tally
    }

    /// How many operations of each kind there were.
    pub fn operations(&self) -> Operations {
        self.operations
    }

    /// Calls by what their clients' libraries say they are.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Calls of `Defragment` that wait for reclaim.
    pub fn defragments(&self) -> usize {
        self.finishing.iter().filter(|waiting| waiting.is_defragment()).count()
    }

    /// The next connection that was ended for what all hold together; the driver closes it once its output has gone.
    pub fn poll_ended(&mut self) -> Option<ConnId> {
        self.ledger.poll_ended()
    }

    /// Whether the connection takes more input before its output has gone.
    pub fn wants_input(&mut self, conn: ConnId) -> bool {
        self.conns.entry(conn.0).is_some_and(|connection| connection.server.wants_input())
    }

    /// The replica has news.
    pub fn on_event(&mut self, now: Instant, event: Event, replica: &mut Replica) -> Result<(), Fatal> {
        let (call, outcome, passage) = match event {
            Event::Answer { call, answer, passage } => (call, Some(answer), passage),
            Event::Go { call } => (call, None, Passage { logged: Some(now), durable: None }),
            Event::Refused { call, error } => (call, Some(Err(error)), Passage::default()),
            Event::Lease { call, times } => return self.on_lease_times(now, call, times, replica),
        };
        let Some(waiting) = self.waiting.remove(Key::from_u64(call.0)) else { return Ok(()) };
        if let Some(place) = waiting.place() {
            self.note_passage(place, passage);
        }
        match (waiting, outcome) {
            (Waiting::Outside(id), outcome) => {
                let read = outcome.map_or(Ok(()), |answer| answer.map(|_| ()));
                self.outside.push_back((id, read));
                Ok(())
            }
            (Waiting::KeepAlive(place), outcome) => self.with(place, |front, server| {
                let outcome = outcome.map_or(Ok(()), |answer| answer.map(drop));
                front.resume_keep_alive(now, place, outcome, server, replica);
                Ok(())
            }),
            (Waiting::Write(place), Some(answer)) => {
                if let Ok(answer) = &answer {
                    self.operations.count(answer);
                }
                self.deliver(place, answer, replica)
            }
            (Waiting::Compaction(place, revision), Some(Ok(answer))) => {
                self.finish_compaction(place, revision, answer);
                self.answer_finished(replica)
            }
            (Waiting::Compaction(place, _), Some(refused)) => self.deliver(place, refused, replica),
            (Waiting::Again { place, .. }, Some(answer)) => {
                self.held.remove(&place.key());
                self.deliver(place, answer, replica)
            }
            (Waiting::Again { place, method }, None) => {
                // It went with its call, or that one with its connection.
                let Some(message) = self.held.remove(&place.key()) else { return Ok(()) };
                self.with(place, |front, server| {
                    let served = front.serve_now(now, place, method, &message, replica)?;
                    front.settle(place, served, server, replica)
                })
            }
            (Waiting::Slice(task), None) => {
                self.tasks.push_back(task);
                Ok(())
            }
            (Waiting::Answer { place, answer, pin: _pin }, None) => self.with(place, |front, server| {
                front.settle(place, serve::Served::Answer(*answer), server, replica)
            }),
            (Waiting::Stream(place), None) => self.with(place, |_, server| {
                server.want_writable(place.call);
                Ok(())
            }),
            (waiting, outcome) => unreachable!("{outcome:?} for {waiting:?}"),
        }
    }

    /// Notes for a call when it went on, and when it was durable.
    fn note_passage(&mut self, place: Place, passage: Passage) {
        let connection = self.conns.entry(place.conn.0);
        let stages = connection.and_then(|connection| connection.server.stages(place.call));
        // What a long answer finds cold on its way out delays no stage before that.
        if let Some(stages) = stages.filter(|stages| stages.answered.is_none()) {
            stages.started = passage.logged.or(stages.started);
            stages.durable = passage.durable.or(stages.durable);
        }
    }

    fn deliver(
        &mut self,
        place: Place,
        answer: Result<engine::response::Response, ApiError>,
        replica: &mut Replica,
    ) -> Result<(), Fatal> {
        self.with(place, |front, server| {
            let served = match answer {
                Ok(answer) => serve::Served::Answer(answer),
                Err(error) => serve::Served::Refused(error.into()),
            };
            front.settle(place, served, server, replica)
        })
    }

    /// A request waits for the replica, and its message with it.
    fn hold(&mut self, place: Place, method: Method, message: &[u8]) -> Key {
        self.held.insert(place.key(), Bytes::copy_from_slice(message));
        self.waiting.insert(Waiting::Again { place, method })
    }

    /// It does not wait after all.
    fn unhold(&mut self, place: Place, key: Key) {
        self.waiting.remove(key);
        self.held.remove(&place.key());
    }

    /// Works on a connection that may be gone; then so is what was to be done.
    fn with(
        &mut self,
        place: Place,
        work: impl FnOnce(&mut Front, &mut grpc::Server) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        let Some(mut connection) = self.take(place.conn) else { return Ok(()) };
        let outcome =
            if connection.server.is_live(place.call) { work(self, &mut connection.server) } else { Ok(()) };
        self.put_back(place.conn, connection);
        outcome
    }

    /// Begins a linearizable read for somebody outside gRPC; [`Front::poll_outside`] says when it is done.
    pub fn read_outside(&mut self, now: Instant, id: u64, replica: &mut Replica) {
        let key = self.waiting.insert(Waiting::Outside(id));
        if replica.read_index(now, CallId(key.to_u64())) == ReadStart::Ready {
            self.waiting.remove(key);
            self.outside.push_back((id, Ok(())));
        }
    }

    /// Compacts for somebody outside gRPC; [`Front::poll_outside`] says how it went.
    pub fn compact_outside(&mut self, now: Instant, id: u64, revision: Revision, replica: &mut Replica) {
        let key = self.waiting.insert(Waiting::Outside(id));
        let compact = Write::Compact(Compact { revision: revision.0, physical: false });
        if let Err(error) = replica.propose(now, CallId(key.to_u64()), &compact, 0) {
            self.waiting.remove(key);
            self.outside.push_back((id, Err(error)));
        }
    }

    /// The next read or compaction for somebody outside gRPC that is done.
    pub fn poll_outside(&mut self) -> Option<(u64, Result<(), ApiError>)> {
        self.outside.pop_front()
    }

    /// The next connection with something to send; it is named once until it is touched again.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        let conn = self.dirty.pop()?;
        if let Some(connection) = self.conns.entry(conn.0) {
            connection.dirty = false;
        }
        Some(conn)
    }

    /// Whether a connection has something to send, or may have.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Fills long answers as windows allow, by at most `room` bytes or little more, and gives what there is to send. What
    /// was filled is taken from `room`; a connection that has none left is named again by [`Front::poll_dirty`], so that
    /// all that have long answers get on alike and none keeps the driver for itself.
    pub fn output(&mut self, conn: ConnId, replica: &mut Replica, room: &mut usize) -> Result<&[u8], Fatal> {
        if let Some(mut connection) = self.conns.remove_for(conn.0) {
            let outcome = self.fill_answers(conn, &mut connection.server, replica, room);
            let is_over = self.ledger.settle(&mut connection);
            self.conns.restore(conn.0, connection);
            outcome?;
            if is_over {
                self.end_largest();
            }
            if *room == 0 {
                self.touch(conn);
            }
        }
        Ok(self.conns.entry(conn.0).map_or(&[], |connection| connection.server.output()))
    }

    /// The socket took this much.
    pub fn consume_output(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        if let Some(connection) = self.conns.entry(conn.0) {
            connection.server.consume_output(now, bytes);
            self.ledger.settle(connection);
        }
    }

    /// The connection is closed; its calls are cancelled.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(mut gone) = self.conns.remove(conn.0) {
            gone.server.on_closed();
            self.ledger.note(gone.noted_bytes, 0);
        }
        drop_of(&mut self.answers, conn, |_| false);
        drop_of(&mut self.held, conn, |_| false);
        self.drop_finishing(conn, |_| false);
        self.cancel_calls_of(conn);
    }

    /// Begins a graceful end of all connections.
    pub fn shutdown(&mut self, now: Instant) {
        self.stop_watches();
        self.stop_health_watches();
        for key in self.conns.keys().collect::<Vec<_>>() {
            if let Some(connection) = self.conns.entry(key) {
                connection.server.shutdown(now);
            }
            self.touch(ConnId(key));
        }
    }

    /// Whether the connection may be closed: it was shut down, and nothing is under way on it.
    pub fn is_drained(&mut self, conn: ConnId) -> bool {
        self.conns.entry(conn.0).is_none_or(|connection| connection.server.is_drained())
    }

    /// What a connection holds that grows with what its client sends or does not read.
    pub fn waiting_bytes(&mut self, conn: ConnId) -> usize {
        self.conns.entry(conn.0).map_or(0, |connection| connection.server.waiting_bytes())
    }

    /// When the connection must hear of time.
    pub fn next_timeout(&mut self, conn: ConnId) -> Option<Instant> {
        self.conns.entry(conn.0)?.server.next_timeout()
    }

    /// Time has passed for a connection. Errors end it.
    pub fn handle_timeout(&mut self, now: Instant, conn: ConnId) -> Result<(), ConnectionError> {
        self.touch(conn);
        let Some(connection) = self.conns.entry(conn.0) else { return Ok(()) };
        connection.server.handle_timeout(now)?;
        // Calls past their deadline take their answers with them.
        drop_of(&mut self.answers, conn, |call| connection.server.is_live(call));
        drop_of(&mut self.held, conn, |call| connection.server.is_live(call));
        self.finishing
            .retain(|waiting| waiting.place.conn != conn || connection.server.is_live(waiting.place.call));
        self.close_dead_watches(conn);
        Ok(())
    }

    /// Connections open.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Whether reads or watchers wait for their next slice.
    pub fn has_slices(&self) -> bool {
        !self.tasks.is_empty() || self.watches.has_more
    }

    fn touch(&mut self, conn: ConnId) {
        if let Some(connection) = self.conns.entry(conn.0)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(conn);
        }
    }

    /// Takes a connection out of its place while it is worked on, so that the rest of the front stays at hand.
    fn take(&mut self, conn: ConnId) -> Option<Connection> {
        self.conns.remove_for(conn.0)
    }

    fn put_back(&mut self, conn: ConnId, mut connection: Connection) {
        let is_over = self.ledger.settle(&mut connection);
        self.conns.restore(conn.0, connection);
        self.touch(conn);
        if is_over {
            self.end_largest();
        }
    }

    fn origin(replica: &Replica) -> Origin {
        Origin {
            cluster_id: replica.cluster(),
            member_id: replica.member(),
            raft_term: replica.raft().term().0,
        }
    }
}

/// Gives up what is kept for the calls of a connection, but for those to `keep`.
fn drop_of<T>(kept: &mut BTreeMap<(u64, u64), T>, conn: ConnId, keep: impl Fn(grpc::CallId) -> bool) {
    let number = conn.0.to_u64();
    let all = kept.range((number, 0)..=(number, u64::MAX)).map(|(&key, _)| key);
    let gone: Vec<_> = all.filter(|&(_, call)| !keep(grpc::CallId::from_u64(call))).collect();
    for key in gone {
        kept.remove(&key);
    }
}

/// The route table as the gRPC layer asks for it: methods that are built.
pub fn lookup(service: &str, method: &str) -> grpc::Lookup {
    match route::find_parts(service, method) {
        Some((row, route)) if serve::is_built(route.method) => {
            let row = u16::try_from(row).expect("the table has fewer rows");
            let kind = match route.kind {
                Kind::Unary | Kind::ServerStream => grpc::MethodKind::OneMessage,
                Kind::BidiStream => grpc::MethodKind::Streaming,
            };
            grpc::Lookup::Method(grpc::MethodId(row), kind)
        }
        Some(_) => grpc::Lookup::UnknownMethod,
        None if route::has_service(service) => grpc::Lookup::UnknownMethod,
        None => grpc::Lookup::UnknownService,
    }
}

#[cfg(test)]
mod tests;
