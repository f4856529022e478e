//! One thread, one event heap, one virtual clock: real replicas, driven as their documentation says, on disks that
//! complete operations in any order the rules allow.
//!
//! A [`World`] is a run. Everything random comes from its seed. Its members live, die ([`World::cut_power`],
//! [`World::kill`]), and are opened again on what their disks have kept. Most runs have one member; those of
//! [`crate::cluster`] have several, with a network between them. Whatever happens, happens to one of them at a time:
//! the one of [`World::stand_at`].

// A look at everything, with nothing else going on.
mod inspect;

// Several members.
mod group;

// Members that come and go.
pub mod members;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::disk::{Disk, FileName, Op, Owner, Token};
use engine::replica::{self, CheckpointJob, Fatal, Replica, Work};
use engine::seeded::{self, Bug};
use engine::types::Revision;
use raft::MemberId;

use crate::call::MEMBER;
use crate::clock::Clock;
use crate::consensus::Consensus;
use crate::hashes::Hashes;
use crate::judge::Judge;
use crate::network::Network;
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
    /// Inside a process: nothing happens if it is gone.
    Process(Life, Inside),
    /// A client begins its next call.
    Client(usize),
    /// A message arrives.
    Mail(u64),
}

/// A process: which node, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    node: usize,
    nth: u64,
}

/// What happens inside a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Inside {
    /// A disk operation completes.
    Disk(Token),
    /// The replica is called although nothing came in: it had more to do than fits a turn.
    Turn,
    /// The replica asked to be called.
    Timer,
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

/// A machine: its disk outlives the processes.
struct Node {
    id: u64,
    disk: MemDisk,
    clock: Clock,
    watching: Watching,
    member: Option<Member>,
    /// Processes so far.
    lives: u64,
    /// It is among the founders; others join.
    founds: bool,
    /// It never runs again.
    gone: bool,
    /// It does not run until then, and then goes on as if nothing had been.
    paused_until: Duration,
    /// The last new name, if the seeded bug keeps its directory from being synced.
    unsynced_name: Option<Op>,
}

impl Node {
    fn new(id: u64, disk: MemDisk, clock: Clock, watching: Watching) -> Node {
        let paused_until = Duration::ZERO;
        let (founds, gone, unsynced_name) = (true, false, None);
        Node { id, disk, clock, watching, member: None, lives: 0, founds, gone, paused_until, unsynced_name }
    }
}

/// A run.
pub struct World {
    nodes: Vec<Node>,
    /// How members come and go.
    pub coming: members::Coming,
    /// Where something happens now.
    at: usize,
    /// What is between the nodes.
    pub network: Network,
    /// What consensus must never do.
    pub consensus: Consensus,
    /// What the members leave of compactions.
    pub hashes: Hashes,
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
    origin: Instant,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    /// Calls the clients may still begin.
    calls_left: u64,
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
        World::of_nodes(settings, seed, vec![(disk, Clock::default())], judge)
    }

    /// A run of several members, each with a clock of its own.
    pub fn of_nodes(settings: Settings, seed: u64, nodes: Vec<(MemDisk, Clock)>, judge: Judge) -> World {
        let mut pcg = Pcg::new(seed ^ 0x5eed);
        let workload = Workload::new(&mut pcg);
        let now = judge.now;
        let node = |(nth, (disk, clock)): (usize, (MemDisk, Clock))| {
            let nth = nth as u64;
            Node::new(MEMBER + nth, disk, clock, Watching::new(seed ^ nth << 32))
        };
        World {
            nodes: nodes.into_iter().enumerate().map(node).collect(),
            coming: members::Coming::default(),
            at: 0,
            network: Network::default(),
            consensus: Consensus::default(),
            hashes: Hashes::default(),
            judge,
            trace: Trace::default(),
            pcg,
            blocks: Vec::new(),
            workload,
            settings,
            #[allow(
                clippy::disallowed_methods,
                reason = "an origin for the simulated clock; only differences count"
            )]
            origin: Instant::now(),
            now,
            events: BinaryHeap::new(),
            scheduled: 0,
            calls_left: 0,
            watched: None,
            probes: None,
        }
    }

    /// The same disk and the same judge, in a world of its own where the member is not running.
    pub fn fork(&self, disk: MemDisk, seed: u64) -> World {
        World::with(self.settings.clone(), seed, disk, self.judge.clone())
    }

    /// How many machines there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// From here on everything concerns this node, until an event concerns another.
    pub fn stand_at(&mut self, node: usize) {
        self.at = node;
    }

    /// The disk.
    pub fn disk(&self) -> &MemDisk {
        &self.nodes[self.at].disk
    }

    /// The disk.
    pub fn disk_mut(&mut self) -> &mut MemDisk {
        &mut self.nodes[self.at].disk
    }

    /// What shapes the run.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What shapes the processes to come.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The time by the node's own clock.
    fn now(&self) -> Instant {
        self.origin + self.nodes[self.at].clock.show(self.now)
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + after, self.scheduled, event)));
    }

    fn schedule_inside(&mut self, after: Duration, inside: Inside) {
        let life = Life { node: self.at, nth: self.nodes[self.at].lives };
        self.schedule(after, Event::Process(life, inside));
    }

    /// Opens the data directory.
    pub fn open(&mut self) -> Result<(), Stop> {
        assert!(!self.is_running(), "one process at a time");
        let mut config = self.settings.replica();
        self.introduce(&mut config);
        let node = &self.nodes[self.at];
        config.raft = raft::Config { id: MemberId(node.id), seed: node.id + node.lives, ..config.raft };
        // Never the same, and ids that follow one do not reach the next.
        let nonce = self.pcg.next_u64() >> 1;
        let now = self.now();
        let opened = replica::open::open(config, self.disk_mut(), None, nonce, now).map_err(Stop::Refused)?;
        self.trace.note(format_args!("open: {} replayed, {:?}\n", opened.replayed, opened.warnings));
        let clients = vec![None; self.settings.clients];
        let node = &mut self.nodes[self.at];
        node.lives += 1;
        node.member = Some(Member {
            watches: node.watching.serve(now, &opened.replica),
            replica: opened.replica,
            serving: Serving::default(),
            job: None,
            clients,
            turning: false,
            timer: None,
        });
        let World { consensus, nodes, at, .. } = self;
        let raft = nodes[*at].member.as_ref().expect("just opened").replica.raft();
        consensus.opened(*at, raft).map_err(Stop::Violation)?;
        self.schedule_inside(Duration::ZERO, Inside::Timer);
        self.pump()
    }

    /// Whether a process runs on the node.
    pub fn is_running(&self) -> bool {
        self.nodes[self.at].member.is_some()
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
        let idle = |member: &Member| member.clients.iter().all(Option::is_none);
        self.calls_left == 0 && self.nodes.iter().filter_map(|node| node.member.as_ref()).all(idle)
    }

    /// The next event; false if there is none.
    pub fn step(&mut self) -> Result<bool, Stop> {
        let Some(Reverse((at, _, event))) = self.events.pop() else { return Ok(false) };
        self.now = at;
        self.judge.now = at;
        match event {
            Event::Process(life, inside) => {
                self.at = life.node;
                if self.nodes[self.at].lives != life.nth || !self.is_running() {
                    return Ok(true);
                }
                if self.is_put_off(event) {
                    return Ok(true);
                }
                match inside {
                    Inside::Disk(token) => self.complete(token)?,
                    Inside::Turn => self.member().turning = false,
                    Inside::Timer => self.on_timer(),
                    Inside::Slice(call) => self.slice(call)?,
                }
            }
            Event::Client(client) => {
                if !self.begin_call(client)? {
                    return Ok(true);
                }
            }
            Event::Mail(number) => {
                let Some(to) = self.network.receiver(number) else { return Ok(true) };
                self.at = to;
                if self.is_put_off(event) || !self.deliver(number) {
                    return Ok(true);
                }
            }
        }
        self.pump()?;
        Ok(true)
    }

    /// The node stands still, and the event with it.
    fn is_put_off(&mut self, event: Event) -> bool {
        let until = self.nodes[self.at].paused_until;
        let paused = until > self.now;
        if paused {
            self.schedule(until - self.now, event);
        }
        paused
    }

    fn slice(&mut self, call: u64) -> Result<(), Stop> {
        let request = self.judge.request(call as usize).clone();
        let Member { serving, replica, .. } = self.member();
        let served = serving.advance(call, &request, replica)?;
        self.on_served(call, served);
        Ok(())
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

    /// Events until something holds.
    pub fn run_until(&mut self, is_done: impl Fn(&World) -> bool) -> Result<(), Stop> {
        while !is_done(self) {
            if !self.step()? {
                return Err(Stop::Violation("nothing is under way and calls wait".into()));
            }
        }
        Ok(())
    }

    fn member(&mut self) -> &mut Member {
        self.nodes[self.at].member.as_mut().expect("the process runs")
    }

    /// The running replica.
    pub fn replica(&self) -> &Replica {
        &self.nodes[self.at].member.as_ref().expect("the process runs").replica
    }

    fn on_timer(&mut self) {
        let now = self.now();
        let member = self.member();
        if member.timer.take().is_some_and(|timer| timer > now) {
            // An earlier one was scheduled meanwhile; this is the later.
            return;
        }
        let next = member.replica.handle_timeout(now);
        let after = self.nodes[self.at].clock.spell(next.saturating_duration_since(now));
        self.schedule_inside(after.max(Duration::from_micros(1)), Inside::Timer);
    }

    /// A client's next call, to a member that runs; false if there is none.
    fn begin_call(&mut self, client: usize) -> Result<bool, Stop> {
        let waits = |node: &Node| node.member.as_ref().is_some_and(|member| member.clients[client].is_some());
        if self.calls_left == 0 || self.nodes.iter().any(waits) {
            return Ok(false);
        }
        let running: Vec<usize> = (0..self.nodes.len()).filter(|&n| self.is_member(n)).collect();
        let Some(&node) = running.get(self.which(running.len(), client)) else {
            if self.nodes.len() > 1 {
                self.rest(client);
            }
            return Ok(false);
        };
        self.at = node;
        self.calls_left -= 1;
        let request = self.workload.next(&mut self.pcg, self.judge.seen_revision());
        self.trace.note(format_args!("{} client {client} {request:?}\n", self.now.as_micros()));
        let call = self.judge.begin(node, request.clone());
        let now = self.now();
        let Member { serving, replica, clients, .. } = self.member();
        clients[client] = Some(call);
        let served = serving.begin(now, call as u64, &request, replica)?;
        self.on_served(call as u64, served);
        Ok(true)
    }

    /// Which of so many members a client turns to: mostly to the same.
    fn which(&mut self, running: usize, client: usize) -> usize {
        match running {
            0 | 1 => 0,
            _ if self.pcg.one_in(8) => self.pcg.below(running as u64) as usize,
            _ => client % running,
        }
    }

    fn rest(&mut self, client: usize) {
        let after = self.think() + Duration::from_millis(1);
        self.schedule(after, Event::Client(client));
    }

    fn on_served(&mut self, call: u64, served: Served) {
        match served {
            Served::Waiting => {}
            Served::Again => self.schedule_inside(Duration::from_micros(3), Inside::Slice(call)),
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
        let Node { watching, member, .. } = &mut self.nodes[self.at];
        let Member { watches, replica, .. } = member.as_mut().expect("the process runs");
        watching.turn(now, watches, replica)?.map_err(Stop::Violation)?;
        self.start_work()?;
        while let Some(event) = self.member().replica.poll_event() {
            if matches!(event, replica::Event::Go { call: watching::COLD }) {
                continue;
            }
            if let replica::Event::Answer { call, answer, .. } = &event
                && self.on_change_answer(*call, answer)
            {
                continue;
            }
            let judge = &self.judge;
            let member = self.nodes[self.at].member.as_mut().expect("the process runs");
            let request = |call: u64| judge.request(call as usize).clone();
            let (call, served) = member.serving.on_event(now, event, request, &mut member.replica)?;
            if call != PROBE.0 {
                self.on_served(call, served);
            }
        }
        // What events asked for.
        self.start_work()?;
        self.post()?;
        let World { consensus, hashes, nodes, at, .. } = self;
        let replica = &nodes[*at].member.as_ref().expect("the process runs").replica;
        consensus.check(*at, replica.raft()).map_err(Stop::Violation)?;
        consensus.configured(*at, replica.conf_index(), replica.raft()).map_err(Stop::Violation)?;
        hashes.check(*at, replica).map_err(Stop::Violation)?;
        if self.replica().wants_reopening() {
            self.nodes[self.at].disk.kill(&mut self.pcg);
            self.die("is opened again");
            self.judge.tally.installed += 1;
            return self.open();
        }
        if self.member().replica.has_more() && !self.member().turning {
            self.member().turning = true;
            self.schedule_inside(Duration::from_micros(5), Inside::Turn);
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
            && *number == self.nodes[self.at].disk.operations()
        {
            *watched = Some(op.clone());
        }
        if let Op::Write { file: FileName::Log(_), .. } = &op {
            let number = self.disk().operations();
            self.blocks.push(number);
        }
        self.disk_mut().submit(token, op);
        self.schedule_inside(after, Inside::Disk(token));
        self.probe();
    }

    /// Lets `fault` happen to the operation with this number, and remembers which one that is.
    pub fn inject(&mut self, operation: u64, fault: Fault) {
        self.disk_mut().inject(operation, fault);
        self.watched = Some((operation, None));
    }

    /// The operation of [`World::inject`], if the process came as far as that.
    pub fn injected(&self) -> Option<&Op> {
        self.watched.as_ref().and_then(|(_, op)| op.as_ref())
    }

    fn probe(&mut self) {
        if let Some(probes) = &mut self.probes {
            probes.push(self.nodes[self.at].disk.clone());
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
        let Some(nth) = self.disk().in_flight().iter().position(|op| op.token == token) else {
            // It belonged to a process that is gone.
            return Ok(());
        };
        let op = self.disk().in_flight()[nth].op.clone();
        let (token, outcome) = self.disk_mut().complete(nth);
        if seeded::is(Bug::SkipDirectorySync) && matches!(op, Op::Create { .. } | Op::Rename { .. }) {
            self.nodes[self.at].unsynced_name = Some(op);
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
        self.trace.note(format_args!("{} node {} {how}\n", self.now.as_micros(), self.at));
        let member = self.nodes[self.at].member.take();
        self.judge.crash(self.at);
        self.hashes.died(self.at);
        if self.nodes.len() == 1 {
            self.events.clear();
            self.calls_left = 0;
            return;
        }
        // Whoever waited turns to another member.
        let waited = member.iter().flat_map(|member| &member.clients).enumerate();
        let clients: Vec<usize> = waited.filter_map(|(client, call)| call.map(|_| client)).collect();
        clients.into_iter().for_each(|client| self.rest(client));
    }

    /// The power fails: any part of what was not stable may be gone.
    pub fn cut_power(&mut self) {
        let Node { disk, unsynced_name, .. } = &mut self.nodes[self.at];
        disk.crash(&mut self.pcg);
        // A driver that does not sync the directory loses the newest name.
        match unsynced_name.take() {
            Some(Op::Create { file, .. }) => drop(disk.run(Op::Remove { file })),
            Some(Op::Rename { from, to }) => drop(disk.run(Op::Rename { from: to, to: from })),
            _ => {}
        }
        self.die("power cut");
    }

    /// The process dies and the machine does not.
    pub fn kill(&mut self) {
        self.nodes[self.at].disk.kill(&mut self.pcg);
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
        let Node { disk, .. } = &mut self.nodes[self.at];
        if !disk.in_flight().is_empty() {
            disk.kill(&mut self.pcg);
        }
        self.die("stopped");
        Ok(())
    }
}
