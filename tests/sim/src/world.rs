//! One thread, one event heap, one virtual clock: the real replica, driven as its documentation says, on a disk that
//! completes operations in any order the rules allow.
//!
//! A [`World`] is a run. Everything random comes from its seed. Its member lives, dies ([`World::cut_power`],
//! [`World::kill`]), and is opened again on what the disk has kept.

// A look at everything, with nothing else going on.
mod inspect;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::disk::{Disk, FileName, Op, Owner, Token};
use engine::replica::{self, CallId, CheckpointJob, Fatal, Replica, Work};
use engine::seeded::{self, Bug};
use engine::types::Revision;

use crate::judge::Judge;
use crate::serve::{PROBE, Served, Serving};
use crate::settings::Settings;
use crate::trace::Trace;
use crate::watching::{self, Watching};
use crate::workload::Workload;

/// Why a run does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The replica gave up: fine where the disk failed, a violation elsewhere.
    Fatal(Fatal),
    /// The data directory was refused: fine where it was damaged, a violation elsewhere.
    Refused(replica::open::Error),
    /// Something that must never happen.
    Violation(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stop::Fatal(fatal) => write!(f, "the process ended: {fatal}"),
            Stop::Refused(error) => write!(f, "the data directory was refused: {error}"),
            Stop::Violation(what) => f.write_str(what),
        }
    }
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Stop {
        Stop::Fatal(fatal)
    }
}

/// Longest rest of a client: longer than some leases.
const REST_US_MAX: u64 = 2_500_000;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A disk operation completes.
    Disk(Token),
    /// The replica is called although nothing came in: it had more to do than fits a turn.
    Turn,
    /// The replica asked to be called.
    Timer,
    /// A client begins its next call.
    Client(usize),
    /// A read goes on with its next slice.
    Slice(u64),
}

/// A running process.
struct Member {
    replica: Replica,
    serving: Serving,
    watches: watching::Serving,
    job: Option<CheckpointJob>,
    /// Which client waits for which call.
    clients: Vec<Option<usize>>,
    /// A turn is scheduled.
    turning: bool,
    /// When the timer is scheduled.
    timer: Option<Instant>,
}

/// A run.
pub struct World {
    /// The disk, which outlives the processes.
    pub disk: MemDisk,
    /// Who watches.
    pub judge: Judge,
    /// What happened.
    pub trace: Trace,
    /// The run's own randomness.
    pub pcg: Pcg,
    /// Numbers of the disk operations that write blocks of the log.
    pub blocks: Vec<u64>,
    settings: Settings,
    workload: Workload,
    watching: Watching,
    origin: Instant,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    member: Option<Member>,
    /// Calls the clients may still begin.
    calls_left: u64,
    /// The last new name, if the seeded bug keeps its directory from being synced.
    unsynced_name: Option<Op>,
    /// The operation with this number, once it is submitted.
    watched: Option<(u64, Option<Op>)>,
    /// Disk images at which something could have happened, for those who ask.
    probes: Option<Vec<MemDisk>>,
}

impl World {
    /// An empty disk, and no process yet.
    pub fn new(seed: u64) -> World {
        let mut pcg = Pcg::new(seed);
        let settings = Settings::new(&mut pcg);
        World::with(settings, seed, MemDisk::new(), Judge::default())
    }

    /// A run that goes on with what another left.
    pub fn with(settings: Settings, seed: u64, disk: MemDisk, judge: Judge) -> World {
        let mut pcg = Pcg::new(seed ^ 0x5eed);
        let workload = Workload::new(&mut pcg);
        let now = judge.now;
        World {
            disk,
            judge,
            trace: Trace::default(),
            pcg,
            blocks: Vec::new(),
            workload,
            watching: Watching::new(seed),
            settings,
            #[allow(
                clippy::disallowed_methods,
                reason = "an origin for the simulated clock; only differences count"
            )]
            origin: Instant::now(),
            now,
            events: BinaryHeap::new(),
            scheduled: 0,
            member: None,
            calls_left: 0,
            unsynced_name: None,
            watched: None,
            probes: None,
        }
    }

    /// The same disk and the same judge, in a world of its own where the member is not running.
    pub fn fork(&self, disk: MemDisk, seed: u64) -> World {
        World::with(self.settings.clone(), seed, disk, self.judge.clone())
    }

    /// What shapes the run.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What shapes the processes to come.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn now(&self) -> Instant {
        self.origin + self.now
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + after, self.scheduled, event)));
    }

    /// Opens the data directory.
    pub fn open(&mut self) -> Result<(), Stop> {
        assert!(self.member.is_none(), "one process at a time");
        let config = self.settings.replica();
        // Never the same, and ids that follow one do not reach the next.
        let nonce = self.pcg.next_u64() >> 1;
        let now = self.now();
        let opened = replica::open::open(config, &mut self.disk, None, nonce, now).map_err(Stop::Refused)?;
        self.trace.note(format_args!("open: {} replayed, {:?}\n", opened.replayed, opened.warnings));
        self.member = Some(Member {
            watches: self.watching.serve(now, &opened.replica),
            replica: opened.replica,
            serving: Serving::default(),
            job: None,
            clients: vec![None; self.settings.clients],
            turning: false,
            timer: None,
        });
        self.schedule(Duration::ZERO, Event::Timer);
        self.pump()
    }

    /// Lets the clients begin this many calls more.
    pub fn let_clients(&mut self, calls: u64) {
        self.calls_left = calls;
        for client in 0..self.settings.clients {
            let after = self.think();
            self.schedule(after, Event::Client(client));
        }
    }

    fn think(&mut self) -> Duration {
        if self.settings.rests && self.pcg.one_in(12) {
            return Duration::from_micros(self.pcg.below(REST_US_MAX));
        }
        Duration::from_micros(self.pcg.below(self.settings.think_us_max))
    }

    /// Whether all calls are begun and ended.
    pub fn is_quiet(&self) -> bool {
        self.calls_left == 0
            && self.member.as_ref().is_none_or(|member| member.clients.iter().all(Option::is_none))
    }

    /// The next event; false if there is none.
    pub fn step(&mut self) -> Result<bool, Stop> {
        let Some(Reverse((at, _, event))) = self.events.pop() else { return Ok(false) };
        self.now = at;
        self.judge.now = at;
        if self.member.is_none() {
            return Ok(true);
        }
        match event {
            Event::Disk(token) => self.complete(token)?,
            Event::Turn => self.member().turning = false,
            Event::Timer => self.on_timer(),
            Event::Client(client) => self.begin_call(client)?,
            Event::Slice(call) => {
                let request = self.judge.request(call as usize).clone();
                let Member { serving, replica, .. } = self.member();
                let served = serving.advance(call, &request, replica)?;
                self.on_served(call, served);
            }
        }
        self.pump()?;
        Ok(true)
    }

    /// Events until all calls are ended.
    pub fn run_until_quiet(&mut self) -> Result<(), Stop> {
        self.run_until(World::is_quiet)
    }

    /// Events until all calls are ended, or for so long: on a full disk a renewal may wait for a revocation that finds no
    /// room in the log.
    pub fn run_until_quiet_or(&mut self, time: Duration) -> Result<(), Stop> {
        let until = self.now + time;
        self.run_until(|world| world.is_quiet() || world.now >= until)
    }

    fn run_until(&mut self, is_done: impl Fn(&World) -> bool) -> Result<(), Stop> {
        while !is_done(self) {
            if !self.step()? {
                return Err(Stop::Violation("nothing is under way and calls wait".into()));
            }
        }
        Ok(())
    }

    fn member(&mut self) -> &mut Member {
        self.member.as_mut().expect("the process runs")
    }

    /// The running replica.
    pub fn replica(&self) -> &Replica {
        &self.member.as_ref().expect("the process runs").replica
    }

    fn on_timer(&mut self) {
        let now = self.now();
        let member = self.member();
        if member.timer.take().is_some_and(|timer| timer > now) {
            // An earlier one was scheduled meanwhile; this is the later.
            return;
        }
        let next = member.replica.handle_timeout(now);
        self.schedule(next.saturating_duration_since(now).max(Duration::from_micros(1)), Event::Timer);
    }

    fn begin_call(&mut self, client: usize) -> Result<(), Stop> {
        if self.calls_left == 0 || self.member().clients[client].is_some() {
            return Ok(());
        }
        self.calls_left -= 1;
        let request = self.workload.next(&mut self.pcg, self.judge.seen_revision());
        self.trace.note(format_args!("{} client {client} {request:?}\n", self.now.as_micros()));
        let call = self.judge.begin(request.clone());
        let now = self.now();
        let Member { serving, replica, clients, .. } = self.member();
        clients[client] = Some(call);
        let served = serving.begin(now, call as u64, &request, replica)?;
        self.on_served(call as u64, served);
        Ok(())
    }

    fn on_served(&mut self, call: u64, served: Served) {
        match served {
            Served::Waiting => {}
            Served::Again => self.schedule(Duration::from_micros(3), Event::Slice(call)),
            Served::Done(reply) => {
                self.trace.note(format_args!("{} call {call} {reply:?}\n", self.now.as_micros()));
                self.judge.end(call as usize, reply);
                let clients = &mut self.member().clients;
                let client = clients.iter().position(|waits| *waits == Some(call as usize));
                let client = client.expect("a call belongs to a client");
                clients[client] = None;
                let after = self.think();
                self.schedule(after, Event::Client(client));
            }
        }
    }

    /// Everything the replica wants after an input.
    fn pump(&mut self) -> Result<(), Stop> {
        let now = self.now();
        // The judge reads everything that is new since it looked last.
        let judged = Revision(self.judge.model().revision());
        let member = self.member();
        let pins = [member.serving.oldest_pin(), member.watches.oldest(now), Some(judged)];
        member.replica.pin(pins.into_iter().flatten().min());
        member.replica.turn(now)?;
        let published = self.replica().store().published().1.revision;
        self.judge.see(published.0);
        let Member { watches, replica, .. } = self.member.as_mut().expect("the process runs");
        self.watching.turn(now, watches, replica)?.map_err(Stop::Violation)?;
        self.start_work()?;
        while let Some(event) = self.member().replica.poll_event() {
            if matches!(event, replica::Event::Answer { call: CallId::NOBODY, .. }) {
                continue;
            }
            if matches!(event, replica::Event::Go { call: watching::COLD }) {
                continue;
            }
            let judge = &self.judge;
            let member = self.member.as_mut().expect("the process runs");
            let request = |call: u64| judge.request(call as usize).clone();
            let (call, served) = member.serving.on_event(now, event, request, &mut member.replica)?;
            if call != PROBE.0 {
                self.on_served(call, served);
            }
        }
        // What events asked for.
        self.start_work()?;
        if self.member().replica.has_more() && !self.member().turning {
            self.member().turning = true;
            self.schedule(Duration::from_micros(5), Event::Turn);
        }
        Ok(())
    }

    fn start_work(&mut self) -> Result<(), Stop> {
        while let Some(work) = self.member().replica.poll_work() {
            match work {
                Work::Disk(token, op) => self.submit(token, op),
                Work::Checkpoint(job) => {
                    assert!(self.member().job.is_none(), "one checkpoint at a time");
                    self.member().job = Some(job);
                    self.advance_job();
                }
                Work::Prefault(prefault) => {
                    let done = prefault.run().expect("memory for the simulation");
                    self.member().replica.on_prefaulted(done);
                }
                Work::Populate(populate) => {
                    let done = populate.run();
                    self.member().replica.on_populated(done)?;
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, token: Token, op: Op) {
        let after = self.settings.latency(&mut self.pcg, &op);
        self.trace.note(format_args!("{} {token:?} {op}\n", self.now.as_micros()));
        if let Some((number, watched)) = &mut self.watched
            && *number == self.disk.operations()
        {
            *watched = Some(op.clone());
        }
        if let Op::Write { file: FileName::Log(_), .. } = &op {
            self.blocks.push(self.disk.operations());
        }
        self.disk.submit(token, op);
        self.schedule(after, Event::Disk(token));
        self.probe();
    }

    /// Lets `fault` happen to the operation with this number, and remembers which one that is.
    pub fn inject(&mut self, operation: u64, fault: Fault) {
        self.disk.inject(operation, fault);
        self.watched = Some((operation, None));
    }

    /// The operation of [`World::inject`], if the process came as far as that.
    pub fn injected(&self) -> Option<&Op> {
        self.watched.as_ref().and_then(|(_, op)| op.as_ref())
    }

    fn probe(&mut self) {
        if let Some(probes) = &mut self.probes {
            probes.push(self.disk.clone());
        }
    }

    /// Keeps an image of the disk at each of its events from now on; see [`World::take_probes`].
    pub fn probe_disk(&mut self) {
        self.probes = Some(Vec::new());
    }

    /// The images of the disk since the last call.
    pub fn take_probes(&mut self) -> Vec<MemDisk> {
        self.probes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn complete(&mut self, token: Token) -> Result<(), Stop> {
        let Some(nth) = self.disk.in_flight().iter().position(|op| op.token == token) else {
            // It belonged to a process that is gone.
            return Ok(());
        };
        let op = self.disk.in_flight()[nth].op.clone();
        let (token, outcome) = self.disk.complete(nth);
        if seeded::is(Bug::SkipDirectorySync) && matches!(op, Op::Create { .. } | Op::Rename { .. }) {
            self.unsynced_name = Some(op);
        }
        self.probe();
        if let Err(error) = &outcome {
            self.trace.note(format_args!("{} {error}\n", self.now.as_micros()));
        }
        if token.owner != Owner::Checkpoint {
            return Ok(self.member().replica.on_disk(token, outcome)?);
        }
        let mut job = self.member().job.take().expect("a checkpoint is under way");
        if let Err(error) = job.checkpoint.on_completed(token, outcome) {
            return Ok(self.member().replica.on_checkpoint(job, Err(error))?);
        }
        if job.checkpoint.is_durable() {
            let outcome = job.checkpoint.settle();
            return Ok(self.member().replica.on_checkpoint(job, outcome)?);
        }
        if job.checkpoint.is_full() {
            return Ok(self.member().replica.on_checkpoint(job, Ok(()))?);
        }
        self.member().job = Some(job);
        self.advance_job();
        Ok(())
    }

    /// The checkpoint's next operations.
    fn advance_job(&mut self) {
        while let Some((token, op)) = self.member().job.as_mut().and_then(|job| job.checkpoint.poll()) {
            self.submit(token, op);
        }
    }

    fn die(&mut self, how: &str) {
        self.trace.note(format_args!("{} {how}\n", self.now.as_micros()));
        self.member = None;
        self.events.clear();
        self.calls_left = 0;
        self.judge.crash();
    }

    /// The power fails: any part of what was not stable may be gone.
    pub fn cut_power(&mut self) {
        self.disk.crash(&mut self.pcg);
        // A driver that does not sync the directory loses the newest name.
        match self.unsynced_name.take() {
            Some(Op::Create { file, .. }) => drop(self.disk.run(Op::Remove { file })),
            Some(Op::Rename { from, to }) => drop(self.disk.run(Op::Rename { from: to, to: from })),
            _ => {}
        }
        self.die("power cut");
    }

    /// The process dies and the machine does not.
    pub fn kill(&mut self) {
        self.disk.kill(&mut self.pcg);
        self.die("kill");
    }

    /// Stops in good order.
    pub fn stop(&mut self) -> Result<(), Stop> {
        self.run_until_quiet()?;
        self.member().replica.stop();
        self.pump()?;
        while !self.replica().is_stopped() {
            if !self.step()? {
                return Err(Stop::Violation("the stop does not come to its end".into()));
            }
        }
        // Somebody who waits no more may have had something read.
        if !self.disk.in_flight().is_empty() {
            self.disk.kill(&mut self.pcg);
        }
        self.die("stopped");
        Ok(())
    }
}
