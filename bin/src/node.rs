//! The state core's loop: it feeds the replica and the front, and does what they ask.
//!
//! Everything here happens on one executor. Inputs (socket bytes, completions, time) go into the cores at once and
//! ring the bell; one task answers it, after letting all other ready tasks run, so that everything that arrived together
//! is proposed, logged and answered together. A turn ends with one send per connection.
//!
//! Work that waits for a disk outside the log, or burns CPU, goes to a few background threads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::disk::peek::{self, Peeked, Peeks};
use engine::disk::{Durability, FileName, Op, Outcome, Output, Owner, Token};
use engine::error::ApiError;
use engine::map::MapError;
use engine::replica::{CheckpointJob, Fatal, Replica, Work};
use engine::types::Revision;
use net::api::route::ROUTES;
use net::front::{ConnId, Front};
use net::h2::abuse;
use net::http::pace;
use tokio::sync::Semaphore;
use tuning::probe::limits::open_files;

use crate::complaints::Complaints;
use crate::conn::Conn;
use crate::disks::{Disks, LogFiles};
use crate::guests::Guests;
use crate::logging::Logger;
use crate::metrics::Metrics;
use crate::pulse::Beat;
use crate::runtime::{COLD_READS_MAX, Runtime};
use crate::slow::Slowness;
use crate::wake::{Wake, yield_once};

/// Time is looked at least this often, so a deadline that is set meanwhile is at most this late.
const TICK_MAX: Duration = Duration::from_millis(50);

/// And at most this often.
const TICK_MIN: Duration = Duration::from_millis(2);

/// Checkpoint operations are this far apart, so that the log's writes find the disk free in between.
const CHECKPOINT_PAUSE: Duration = Duration::from_micros(500);

/// Cold reads of one turn that may be answered out of the page cache: a millisecond of them.
const PEEKS_MAX: usize = 512;

/// What long answers may send in one turn, shared by their connections: two milliseconds, which puts and gets wait for.
const SENT_MAX: usize = 2 << 20;

/// The least and the most of that for a connection. Less is not worth a call of the kernel, more is never in its output.
const SHARE: RangeInclusive<usize> = 16 << 10..=256 << 10;

/// What a connection may send of long answers in a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub bytes: usize,
    pub turn: u64,
}

/// The state core.
pub struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) cores: RefCell<Cores>,
    pub(crate) log: Logger,
    pub(crate) metrics: Metrics,
    /// Rows of the metrics' calls, by row of the route table.
    rows: Vec<Option<usize>>,
    /// Read buffer of all connections of this executor: it is in use only between a receive and the end of its handling.
    pub(crate) read_buffer: RefCell<Vec<u8>>,
    wake: Wake,
    log_files: LogFiles,
    disks: Disks,
    /// Cold reads that need not wait.
    peeks: RefCell<Peeks>,
    /// Background threads that cold reads may have.
    cold_reads: Semaphore,
    /// Reads for HTTP checks that are under way.
    outside: RefCell<HashMap<u64, Rc<OutsideRead>>>,
    next_outside: Cell<u64>,
    pub(crate) draining: Cell<bool>,
    pub(crate) guests: Rc<Guests>,
    complaints: RefCell<Complaints>,
    slowness: Slowness,
    pub(crate) share: Cell<Share>,
    /// The leader that was known last.
    leader: Cell<Option<u64>>,
}

/// The pure cores and who is connected.
pub(crate) struct Cores {
    pub replica: Replica,
    pub front: Front,
    pub conns: HashMap<ConnId, Rc<Conn>>,
    /// When connections must hear of time.
    timers: BTreeMap<(Instant, u64), ConnId>,
    next_timer: u64,
}

/// A read for somebody outside gRPC.
#[derive(Default)]
struct OutsideRead {
    wake: Wake,
    outcome: Cell<Option<Result<(), ApiError>>>,
}

impl Node {
    /// A node of one executor, which must be the one this is called on.
    pub fn new(
        runtime: Runtime,
        replica: Replica,
        front: Front,
        log: Logger,
        log_files: LogFiles,
        disks: Disks,
        metrics: Metrics,
    ) -> Rc<Node> {
        front.tally().keep_ended();
        let rows = ROUTES.iter().map(|route| metrics.grpc.index_of(route.path)).collect();
        Rc::new(Node {
            runtime,
            cores: RefCell::new(Cores {
                replica,
                front,
                conns: HashMap::new(),
                timers: BTreeMap::new(),
                next_timer: 0,
            }),
            log,
            metrics,
            rows,
            read_buffer: RefCell::new(vec![0; READ_BUFFER]),
            wake: Wake::default(),
            log_files,
            peeks: RefCell::new(Peeks::new(disks.root().to_owned())),
            disks,
            cold_reads: Semaphore::new(COLD_READS_MAX),
            outside: RefCell::default(),
            next_outside: Cell::new(0),
            draining: Cell::new(false),
            guests: Rc::new(Guests::new(open_files().unwrap_or(u64::MAX))),
            complaints: RefCell::default(),
            slowness: Slowness::default(),
            share: Cell::default(),
            leader: Cell::default(),
        })
    }

    /// Something happened: a turn is due.
    pub fn ring(&self) {
        self.wake.ring();
    }

    /// Turns for as long as the process lives.
    pub async fn run_turns(self: Rc<Node>) {
        let mut more = false;
        loop {
            if more {
                self.runtime.yield_to_io().await;
            } else {
                self.wake.wait().await;
                // Whatever is ready now joins this turn's batch.
                yield_once().await;
            }
            let now = Instant::now();
            more = match self.turn(now) {
                Ok(more) => more,
                Err(fatal) => self.end_with(&fatal),
            };
            self.settle_ended(now);
        }
    }

    /// Looks at the time for as long as the process lives.
    pub async fn run_clock(self: Rc<Node>, beat: Beat) {
        let mut replica_due = Instant::now();
        loop {
            let due = self.cores.borrow().timers.first_key_value().map(|((due, _), _)| *due);
            let wait = due.map_or(TICK_MAX, |due| due.saturating_duration_since(Instant::now()));
            self.runtime.sleep(wait.clamp(TICK_MIN, TICK_MAX)).await;
            beat.beat();
            let now = Instant::now();
            if now >= replica_due {
                replica_due = self.cores.borrow_mut().replica.handle_timeout(now);
                self.ring();
            }
            self.expire_connections(now);
            self.guests.look(now, |reason, remote| {
                if reason != pace::IDLE {
                    self.complain(reason, remote);
                }
            });
        }
    }

    /// True if there is more to do at once.
    fn turn(self: &Rc<Node>, now: Instant) -> Result<bool, Fatal> {
        let mut cores = self.cores.borrow_mut();
        let Cores { replica, front, conns, .. } = &mut *cores;
        front.begin_turn(now);
        if replica.wants_pin() {
            replica.pin(front.oldest_pin(now));
        }
        replica.turn(now)?;
        front.run_slices(now, replica)?;
        front.run_watches(now, replica)?;
        self.metrics.count_leases(replica.lessor_mut());
        self.follow_leader(replica.raft().leader().map(|leader| leader.0));
        while let Some(event) = replica.poll_event() {
            front.on_event(now, event, replica)?;
        }
        while let Some((id, outcome)) = front.poll_outside() {
            if let Some(read) = self.outside.borrow_mut().remove(&id) {
                read.outcome.set(Some(outcome));
                read.wake.ring();
            }
        }
        let mut peeked = 0;
        while let Some(work) = replica.poll_work() {
            match work {
                Work::Disk(token, op)
                    if peeked < PEEKS_MAX
                        && let Some(data) = self.peek(token, &op) =>
                {
                    peeked += 1;
                    replica.on_disk(token, Ok(Output::Data(data)))?;
                }
                work => self.start(work),
            }
        }
        let more = peeked > 0 || replica.has_more() || front.has_slices();
        while let Some(conn) = front.poll_ended() {
            if let Some(connection) = conns.get(&conn) {
                self.complain(abuse::MEMORY_FULL_ALL, connection.remote);
                connection.finish();
            }
        }
        let mut dirty = Vec::new();
        while let Some(conn) = front.poll_dirty() {
            dirty.push(conn);
        }
        let bytes = (SENT_MAX / dirty.len().max(1)).clamp(*SHARE.start(), *SHARE.end());
        self.share.set(Share { bytes, turn: self.share.get().turn + 1 });
        for conn in dirty {
            self.arm(&mut cores, conn);
            if let Some(connection) = cores.conns.get(&conn).cloned() {
                connection.flush(self, &mut cores)?;
            }
        }
        Ok(more || cores.front.has_dirty())
    }

    /// Remembers when the connection must hear of time.
    fn arm(&self, cores: &mut Cores, conn: ConnId) {
        let Some(due) = cores.front.next_timeout(conn) else { return };
        let Some(connection) = cores.conns.get(&conn) else { return };
        if connection.timer.get().is_some_and(|(armed, _)| armed <= due) {
            return;
        }
        if let Some(old) = connection.timer.take() {
            cores.timers.remove(&old);
        }
        let key = (due, cores.next_timer);
        cores.next_timer += 1;
        connection.timer.set(Some(key));
        cores.timers.insert(key, conn);
    }

    fn expire_connections(&self, now: Instant) {
        let mut cores = self.cores.borrow_mut();
        while let Some((&key, &conn)) = cores.timers.first_key_value() {
            if key.0 > now {
                break;
            }
            cores.timers.remove(&key);
            let Some(connection) = cores.conns.get(&conn).cloned() else { continue };
            connection.timer.set(None);
            if let Err(error) = cores.front.handle_timeout(now, conn) {
                self.complain(error.text, connection.remote);
                connection.finish();
            }
            if let Some(limit) = cores.front.take_limit(conn) {
                self.complain(limit, connection.remote);
            }
            self.ring();
        }
    }

    /// A client met a limit.
    pub(crate) fn complain(&self, limit: &'static str, remote: Option<SocketAddr>) {
        self.complaints.borrow_mut().log(&self.log, Instant::now(), limit, remote);
    }

    /// Warns of requests that take longer than these.
    pub fn warn_of_slow(&self, apply: Duration, unary: Duration) {
        self.slowness.set(apply, unary);
    }

    /// Times the calls that are over since the last turn, and logs the slow ones. This turn began at `begun`.
    fn settle_ended(&self, begun: Instant) {
        let now = Instant::now();
        self.slowness.on_turn(now, now - begun);
        self.cores.borrow().front.tally().take_ended(|ended| {
            let row = usize::from(ended.method.0);
            let took = now.saturating_duration_since(ended.begun);
            if let Some(metric) = self.rows[row] {
                self.metrics.on_ended(metric, ROUTES[row].method, ended.code, took);
            }
            if self.slowness.log(&self.log, now, ended) {
                self.metrics.slow_apply.inc();
            }
        });
    }

    /// Counts leaders as etcd does: each one that is known and was not the last.
    fn follow_leader(&self, leader: Option<u64>) {
        if leader.is_some() && leader != self.leader.get() {
            self.metrics.leader_changes.inc();
        }
        self.leader.set(leader);
    }

    /// Starts work; its end comes back as input.
    fn start(self: &Rc<Node>, work: Work) {
        let node = Rc::clone(self);
        let work = match work {
            Work::Disk(token, op) if is_block(token, &op) => return self.start_block(token, op),
            work => work,
        };
        let task = async move {
            let outcome = match work {
                Work::Disk(token, op) => {
                    let outcome = node.run_disk(op).await;
                    node.cores.borrow_mut().replica.on_disk(token, outcome)
                }
                Work::Checkpoint(job) => {
                    let (job, outcome) = node.run_checkpoint(job).await;
                    node.cores.borrow_mut().replica.on_checkpoint(job, outcome)
                }
                Work::Prefault(prefault) => match node.runtime.spawn_blocking(move || prefault.run()).await {
                    Ok(done) => {
                        node.cores.borrow_mut().replica.on_prefaulted(done);
                        Ok(())
                    }
                    Err(error) => Err(Fatal::Index(MapError::Memory(error.to_string()))),
                },
                Work::Populate(populate) => {
                    let done = node.in_background_cold(move || populate.run()).await;
                    node.cores.borrow_mut().replica.on_populated(done)
                }
            };
            node.go_on(outcome);
        };
        self.runtime.spawn_local(task);
    }

    /// A log block is on its way to the disk before this returns: the rest of the turn does not delay it.
    fn start_block(self: &Rc<Node>, token: Token, op: Op) {
        let (node, started, block) = (Rc::clone(self), Instant::now(), Block::of(&op));
        let written = self.log_files.run(op);
        self.runtime.spawn_local(async move {
            let outcome = written.await;
            node.on_log_written(started, block);
            let heard = node.cores.borrow_mut().replica.on_disk(token, outcome);
            node.go_on(heard);
        });
    }

    /// The replica heard of something: a turn is due, or the end.
    fn go_on(&self, heard: Result<(), Fatal>) {
        match heard {
            Ok(()) => self.ring(),
            Err(fatal) => self.end_with(&fatal),
        }
    }

    /// What a cold read asks for, if the page cache holds it.
    fn peek(self: &Rc<Node>, token: Token, op: &Op) -> Option<Bytes> {
        let Op::Read { file, offset, enough, .. } = *op else { return None };
        if token.owner != Owner::History || !self.disks.stall().is_zero() {
            return None;
        }
        match self.peeks.borrow_mut().read(file, offset, enough) {
            Peeked::Here(data) => Some(data),
            Peeked::Elsewhere => None,
            Peeked::Unopened(path) => {
                self.open_to_peek(file, path);
                None
            }
        }
    }

    fn open_to_peek(self: &Rc<Node>, file: FileName, path: PathBuf) {
        let node = Rc::clone(self);
        self.runtime.spawn_local(async move {
            // Should it fail, the reads that may wait will say why.
            if let Ok(opened) = node.in_background_cold(move || peek::open(&path)).await {
                node.peeks.borrow_mut().add(file, opened);
            }
        });
    }

    async fn run_disk(&self, op: Op) -> Outcome {
        if let Op::Remove { file } = op {
            self.peeks.borrow_mut().forget(file);
        }
        if matches!(op, Op::Rename { .. } | Op::Remove { .. }) {
            self.log_files.forget(op.file());
        }
        let disks = self.disks.clone();
        match op {
            Op::Read { .. } => self.in_background_cold(move || disks.with(|disk| disk.run(op))).await,
            _ => self.runtime.spawn_blocking(move || disks.with(|disk| disk.run(op))).await,
        }
    }

    /// A block of the log was written, or is durable, or both.
    fn on_log_written(&self, started: Instant, block: Block) {
        let now = Instant::now();
        let took = now - started;
        if let Some(len) = block.written_bytes {
            self.metrics.wal_write.observe_duration(took);
            self.metrics.wal_write_bytes.add(len as f64);
        }
        if block.synced {
            self.metrics.wal_fsync.observe_duration(took);
        }
        self.slowness.on_log_write(now, took);
    }

    /// A read of something cold. Cold reads wait for each other, and never take all threads: a disk that is slow to read
    /// must not hold up the log's new segments, the history and the checkpoint.
    async fn in_background_cold<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _permit = self.cold_reads.acquire().await.expect("nobody closes it");
        let stall = self.disks.stall();
        self.runtime
            .spawn_blocking(move || {
                if !stall.is_zero() {
                    std::thread::sleep(stall);
                }
                work()
            })
            .await
    }

    async fn run_checkpoint(&self, job: CheckpointJob) -> (CheckpointJob, Result<(), MapError>) {
        let started = Instant::now();
        let disks = self.disks.clone();
        let done = self
            .runtime
            .spawn_blocking(move || {
                let mut job = job;
                let outcome = disks.with(|disk| job.run(disk, || std::thread::sleep(CHECKPOINT_PAUSE)));
                (job, outcome)
            })
            .await;
        self.metrics.backend_commit.observe_duration(started.elapsed());
        done
    }

    /// A linearizable read for a health check.
    pub(crate) async fn read_outside(&self) -> Result<(), ApiError> {
        self.ask_outside(|front, id, replica| front.read_outside(Instant::now(), id, replica)).await
    }

    async fn ask_outside(&self, ask: impl FnOnce(&mut Front, u64, &mut Replica)) -> Result<(), ApiError> {
        let id = self.next_outside.get();
        self.next_outside.set(id + 1);
        let read = Rc::new(OutsideRead::default());
        self.outside.borrow_mut().insert(id, Rc::clone(&read));
        {
            let mut cores = self.cores.borrow_mut();
            let Cores { replica, front, .. } = &mut *cores;
            ask(front, id, replica);
        }
        self.ring();
        read.wake.wait().await;
        read.outcome.take().expect("set before the bell")
    }

    /// Compacts, for the member itself.
    pub(crate) async fn compact_outside(&self, revision: Revision) -> Result<(), ApiError> {
        self.ask_outside(|front, id, replica| front.compact_outside(Instant::now(), id, revision, replica))
            .await
    }

    /// Brings the gauges up to date, for a page of metrics.
    pub(crate) fn update_gauges(&self) {
        let cores = self.cores.borrow();
        let (replica, m) = (&cores.replica, &self.metrics);
        let (root, state) = replica.store().published();
        let raft = replica.raft();
        m.has_leader.set(f64::from(u8::from(raft.leader().is_some())));
        m.is_leader.set(f64::from(u8::from(raft.is_leader())));
        m.is_learner.set(0.0);
        m.proposals_committed.set(raft.commit_index().0 as f64);
        m.proposals_applied.set(raft.applied_index().0 as f64);
        m.proposals_pending.set(replica.pending() as f64);
        m.db_total_size.set(replica.db_size() as f64);
        m.db_in_use_size.set(replica.db_size_in_use() as f64);
        let dead = replica.store().reclaimed().tally().dead;
        m.compacted_keys.add(dead - m.compacted_keys.count());
        m.proposals_failed.set(replica.failed());
        let (slow, failed) = replica.reads_late();
        m.slow_read_indexes.set(slow);
        m.read_indexes_failed.set(failed);
        m.put_bytes.set(replica.store().put_bytes() as f64);
        m.show_alarms(replica.store().alarms());
        m.defragmentations.set(cores.front.defragments() as f64);
        for row in cores.front.versions().rows() {
            m.client_requests.row(&[&row.version, "unary"]).set(row.unary);
            m.client_requests.row(&[&row.version, "stream"]).set(row.streams);
        }
        m.keys.set(root.live as f64);
        m.current_revision.set(state.revision.0 as f64);
        m.compact_revision.set(state.compacted.0 as f64);
        let (watches, events) = cores.front.watch_counts();
        m.watch_streams.set(watches.streams as f64);
        m.watchers.set(watches.watchers as f64);
        m.slow_watchers.set(watches.behind as f64);
        m.pending_events.set(watches.queued as f64);
        m.events.add(events - m.events.count());
        // Without a quota there is nothing to alert on.
        if cores.front.quota() > 0 {
            m.quota_backend_bytes.set(cores.front.quota() as f64);
        }
        let operations = cores.front.operations();
        m.ranges.set(operations.ranges);
        m.puts.set(operations.puts);
        m.deletes.set(operations.deletes);
        m.txns.set(operations.txns);
        let tally = cores.front.tally();
        let (received, sent) = tally.bytes();
        m.client_received_bytes.set(received);
        m.client_sent_bytes.set(sent);
        for (route, counts) in ROUTES.iter().zip(tally.counts()) {
            if let Some(row) = m.grpc.index_of(route.path) {
                m.grpc.at(row).set(&counts);
            }
        }
    }

    /// Stops taking requests, lets those under way finish, and writes everything down.
    pub async fn stop(self: &Rc<Node>, drain: Duration, all: Duration) {
        let begun = Instant::now();
        self.draining.set(true);
        self.cores.borrow_mut().front.shutdown(begun);
        self.ring();
        while begun.elapsed() < drain && !self.is_drained() {
            self.runtime.sleep(Duration::from_millis(2)).await;
        }
        self.cores.borrow_mut().replica.stop();
        while begun.elapsed() < all && !self.cores.borrow().replica.is_stopped() {
            self.ring();
            self.runtime.sleep(Duration::from_millis(2)).await;
        }
        if !self.cores.borrow().replica.is_stopped() {
            self.log.warn("the disk is too slow for an orderly end; the next start replays the log", &[]);
        }
    }

    fn is_drained(&self) -> bool {
        let mut cores = self.cores.borrow_mut();
        let conns: Vec<ConnId> = cores.conns.keys().copied().collect();
        conns.into_iter().all(|conn| cores.front.is_drained(conn))
    }

    /// The disk cannot be trusted any more: nothing is acknowledged from here on.
    pub(crate) fn end_with(&self, fatal: &Fatal) -> ! {
        self.log.fatal(
            "the data directory cannot be used any more; nothing was acknowledged since. Check the disk, then start again",
            &[("error", &fatal.to_string())],
        )
    }
}

fn is_block(token: Token, op: &Op) -> bool {
    token.owner == Owner::Log && matches!(op, Op::Write { .. } | Op::Sync { .. })
}

/// What an operation does with a block of the log.
#[derive(Clone, Copy)]
struct Block {
    /// It writes so many bytes.
    written_bytes: Option<usize>,
    /// Its end makes them durable.
    synced: bool,
}

impl Block {
    fn of(op: &Op) -> Block {
        match op {
            Op::Write { data, durability, .. } => {
                Block { written_bytes: Some(data.len()), synced: *durability == Durability::Synced }
            }
            _ => Block { written_bytes: None, synced: true },
        }
    }
}

/// One receive takes at most this.
const READ_BUFFER: usize = 256 << 10;
