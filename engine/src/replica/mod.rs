//! One member, without input or output: requests, completions and ticks in; disk work, answers and messages out.
//!
//! The order of effects, for a batch of writes:
//!
//! 1. [`Replica::propose`] admits a request and encodes it, once, into the batch.
//! 2. [`Replica::turn`] proposes the batch to raft. What raft appends goes to the log and, at the same time, to peers.
//! 3. [`Replica::poll_work`] hands the log's blocks to the driver; [`Replica::on_disk`] reports them. Only a block's
//!    own completion makes it durable, and only then does raft count it.
//! 4. What raft commits is applied, in order, in slices that end with the budget; the version being built becomes
//!    visible with one publication.
//! 5. Answers leave by [`Replica::poll_event`] after that publication, never before: whoever sees an answer and then
//!    reads, on any connection, reads at least what the answer said.
//!
//! A linearizable read asks raft for an index and runs when that index is published; see [`Replica::read_index`].
//!
//! The driver calls `turn` after any input, then drains `poll_work` and `poll_event`. The simulator is such a driver.
//!
//! Any error from here ([`Fatal`]) ends the process: a log that failed once is never written again, and
//! bytes that are not what was written are never answered from.

// What a checkpoint's meta page says about the store.
pub mod payload;

// What members tell each other.
pub mod peer;

// From a data directory to a replica.
pub mod open;

// Writes on their way to the log.
mod proposals;

// Changes of members on their way to the log.
mod changes;

// Whether this member is one.
mod belonging;

// Who leads, and what that means for those who wait.
mod leadership;

// When the store's state goes to the index file.
mod checkpoint;

// Committed entries into answers.
mod applying;

// Reads that wait for an index.
mod read;

// When writes passed the log.
pub mod passage;

// Hashes that compactions leave.
mod hashing;

// Leases as clients ask for them, and their end.
mod lease;

// Leases at a member that does not lead.
mod renewals;

// State for members that are too far behind, and from a leader.
mod transfers;

// What compaction made dead is given back.
mod reclaim;

// A disk without room.
mod space;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use raft::{LogPosition, MemberId, Raft};

use crate::apply::{Answer, quota};
use crate::disk::{Op, Outcome, Owner, Token};
use crate::error::ApiError;
use crate::lease::ids::LeaseIds;
use crate::lease::lessor::Lessor;
use crate::map;
use crate::mvcc::history::OpenError;
use crate::mvcc::history::cold::Wanted;
use crate::mvcc::store::Store;
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::mvcc::{Cold, history};
use crate::request::{Alarm, AlarmAction, AlarmKind, Write};
use crate::seeded::{self, Bug};
use crate::types::Member;
use crate::wal::{self, EntryId, WalFailure};
use applying::ApplyQueue;
use belonging::Belonging;
use changes::Changes;
use checkpoint::Checkpoints;
use hashing::Hashing;
use leadership::Leadership;
use passage::Passage;
use payload::Members;
use peer::LeaseTimes;
use proposals::Proposals;
use read::Reads;
use reclaim::Reclaiming;
use renewals::Renewals;
use space::Reserve;
use transfers::Transfers;

pub use checkpoint::CheckpointJob;
pub use read::ReadStart;
pub use reclaim::Pace;

/// Names a call of the driver's; opaque here, and below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

impl CallId {
    /// The member's own requests; nobody waits for their answers.
    pub const NOBODY: CallId = CallId(u64::MAX);

    /// Revocations of leases that ran out.
    const LESSOR: CallId = CallId(u64::MAX - 1);

    /// From here up they are the replica's own.
    const OWN: CallId = CallId(1 << 63);

    /// Whether a driver may use it.
    fn is_drivers(self) -> bool {
        self < CallId::OWN
    }
}

/// What the replica tells its driver.
#[derive(Debug)]
pub enum Event {
    /// A write has its answer. Exactly one for each admitted write.
    Answer {
        /// Whose.
        call: CallId,
        /// What.
        answer: Answer,
        /// When it passed the log.
        passage: Passage,
    },
    /// A read may go on: its index is published, or what it found cold may be in memory now.
    Go {
        /// Whose.
        call: CallId,
    },
    /// The leader told the times of a lease, and renewed it if that was asked for; none if there is no such lease.
    Lease {
        /// Whose.
        call: CallId,
        /// What.
        times: Option<LeaseTimes>,
    },
    /// A read or a renewal cannot be served.
    Refused {
        /// Whose.
        call: CallId,
        /// Why.
        error: ApiError,
    },
}

/// Work for the driver.
#[derive(Debug)]
pub enum Work {
    /// For a disk; the outcome goes to [`Replica::on_disk`].
    Disk(Token, Op),
    /// For a background thread; it comes back to [`Replica::on_checkpoint`].
    Checkpoint(CheckpointJob),
    /// For a background thread: memory to fault in ahead of need. Back to [`Replica::on_prefaulted`].
    Prefault(map::Prefault),
    /// For a background thread: mapped pages to fault in. Back to [`Replica::on_populated`].
    Populate(map::Populate),
}

/// What a cold thing waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    /// Nothing: it is in memory by now.
    Now,
    /// Pages of the index.
    Page,
    /// A read of the history.
    History(Wanted),
}

/// Why the process must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// The log failed.
    Log(WalFailure),
    /// The history failed or is damaged.
    History(OpenError),
    /// The index failed or is damaged.
    Index(map::MapError),
    /// Stored bytes are not what was written.
    Damaged(String),
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fatal::Log(failure) => failure.fmt(f),
            Fatal::History(error) => error.fmt(f),
            Fatal::Index(error) => error.fmt(f),
            Fatal::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fatal {}

/// Limits and sizes; checked by whoever makes it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: u64,
    /// This member.
    pub member: u64,
    /// The founders of a new cluster, this member among them, the same at each of them. None for one that joins a
    /// cluster under the id that was added there, and waits to hear from it. Without effect on a data directory that is
    /// not empty.
    pub founders: Vec<Member>,
    /// What this member calls itself; the others are told when it has started.
    pub name: String,
    /// Where clients reach it; told as well.
    pub client_urls: Vec<String>,
    /// Whether changes of members are refused that would cost the cluster its quorum (etcd's `--strict-reconfig-check`).
    pub strict_reconfig: bool,
    /// Learners there may be (etcd's `--max-learners`).
    pub learners_max: u16,
    /// Raft's own configuration.
    pub raft: raft::Config,
    /// Time of one raft tick.
    pub heartbeat: Duration,
    /// The server's own limit for a write or a read index (etcd: 5 s and two election timeouts).
    pub request_timeout: Duration,
    /// Longest request, in bytes of its own message.
    pub request_bytes_max: usize,
    /// Bytes of data after which writes that add to them are refused; none is no quota.
    pub quota_bytes: Option<u64>,
    /// What one turn may spend on applying; then the sockets and the log have their turn.
    pub apply_slice: Budget,
    /// The log.
    pub wal: wal::Config,
    /// The history.
    pub history: history::Config,
    /// The index.
    pub map: map::Limits,
    /// A checkpoint is due after this many bytes of log.
    pub checkpoint_log_bytes: u64,
    /// And after this many applied entries.
    pub checkpoint_entries: u64,
    /// And when nothing was applied for this long, if anything was since the last.
    pub checkpoint_idle: Duration,
    /// Reclaim.
    pub reclaim: Pace,
    /// Bytes kept free for when the disk is full; 0 for none.
    pub reserve_bytes: u64,
}

impl Config {
    /// Sizes for a server.
    pub fn new(cluster: u64, member: u64, seed: u64) -> Config {
        Config {
            cluster,
            member,
            founders: vec![Member { id: member, ..Member::default() }],
            name: String::new(),
            client_urls: Vec::new(),
            strict_reconfig: true,
            learners_max: 1,
            raft: raft::Config::new(MemberId(member), seed),
            heartbeat: Duration::from_millis(100),
            request_timeout: Duration::from_secs(7),
            request_bytes_max: 1536 << 10,
            quota_bytes: Some(2 << 30),
            apply_slice: Budget::SLICE,
            wal: wal::Config::default(),
            history: history::Config::default(),
            map: map::Limits::default(),
            checkpoint_log_bytes: 64 << 20,
            checkpoint_entries: 300_000,
            checkpoint_idle: Duration::from_secs(5),
            reclaim: Pace::default(),
            reserve_bytes: 16 << 20,
        }
    }
}

/// Committed entries taken from raft at once, in bytes.
const APPLY_BYTES_MAX: u64 = 16 << 20;

/// One member.
pub struct Replica {
    config: Config,
    raft: Raft,
    wal: wal::Writer,
    store: Store<map::Writer>,
    loader: map::Loader,
    proposals: Proposals,
    changes: Changes,
    belonging: Belonging,
    applies: ApplyQueue,
    reads: Reads,
    leadership: Leadership,
    hashing: Hashing,
    lessor: Lessor,
    lease_ids: LeaseIds,
    renewals: Renewals,
    transfers: Transfers,
    checkpoints: Checkpoints,
    reclaiming: Reclaiming,
    reserve: Reserve,
    events: VecDeque<Event>,
    /// The log says that promises are missing.
    recovering: bool,
    /// Entry of the newest configuration change made.
    conf_index: u64,
    /// Position of the newest append handed to the log.
    pushed: LogPosition,
    /// Term and vote as last logged.
    logged: (u64, Option<u64>),
    /// Bytes of entries handed to the log since the start.
    logged_bytes: u64,
    next_tick: Instant,
    stopping: bool,
    /// Size of the data when the quota refused a write.
    full_at: Option<u64>,
}

impl Replica {
    /// Whether the quota has room for a write. If not, the alarm is raised, and stays until somebody lowers it: a full
    /// store takes deletes and compactions, but nothing that adds to it.
    ///
    /// Not part of [`Replica::propose`], because clients hear of it before they hear that their request is
    /// malformed.
    pub fn check_quota(&mut self, now: Instant, write: &Write<'_>) -> Result<(), ApiError> {
        let cost = quota::cost(write);
        let Some(quota) = self.config.quota_bytes.filter(|_| cost > 0) else { return Ok(()) };
        let size = self.db_size();
        // Once full it stays so until something is freed, even for a write that would just fit.
        if size + cost < quota && self.full_at.is_none_or(|full| size < full) {
            return Ok(());
        }
        self.full_at = Some(size);
        self.raise_no_space(now);
        Err(ApiError::NoSpace)
    }

    /// Moves everything on that can move: call it after any input.
    pub fn turn(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.transfers.is_installing() {
            // Only the log and what the others say matter until this member is opened again.
            self.pump_raft();
            self.follow_leadership(now);
            return self.pump_transfers(now);
        }
        self.reclaim(now)?;
        // Before anything is proposed in its name: it may lead no more, or again.
        self.follow_leadership(now);
        self.proposals.passages.settle(now, self.wal.durable());
        self.revoke_expired(now);
        self.propose_batch(now);
        self.apply(now)?;
        self.pump_changes(now);
        self.advance_hashes()?;
        self.advance_checkpoint(now)?;
        // What was applied may release reads, and what raft learned of it may be written.
        self.pump_raft();
        self.release_reads();
        self.follow_leadership(now);
        self.pump_transfers(now)
    }

    /// Carries raft's outputs to where they go.
    fn pump_raft(&mut self) {
        if self.recovering && !self.raft.is_recovering() {
            self.recovering = false;
            self.wal.push_recovered(self.pushed.0);
        }
        while let Some(append) = self.raft.poll_append() {
            self.log(append);
        }
        while let Some(state) = self.raft.poll_read() {
            self.reads.confirmed(state);
        }
        while let Some(entries) = self.raft.poll_committed(APPLY_BYTES_MAX) {
            self.applies.extend(entries);
        }
    }

    fn log(&mut self, append: raft::Append) {
        let position = append.position.0;
        assert!(append.position >= self.pushed, "append {:?} after {:?}", append.position, self.pushed);
        let hard_state = wal::HardState {
            term: append.hard_state.term.0,
            vote: append.hard_state.vote.map(|member| member.0),
            commit: append.hard_state.commit.0,
        };
        let promise = (hard_state.term, hard_state.vote);
        if self.logged != promise {
            self.wal.push_hard_state(position, hard_state);
            self.logged = promise;
        } else {
            self.wal.note_commit(hard_state.commit);
        }
        if let Some(snapshot) = &append.snapshot {
            let mark = EntryId { index: snapshot.index.0, term: snapshot.term.0 };
            self.wal.push_snapshot_mark(position, mark);
            self.transfers.marked(append.position);
        }
        if let Some(from) = append.truncate_from.filter(|_| !seeded::is(Bug::ForgetTruncation)) {
            let keep = from.prev();
            let term = self.raft.term_at(keep).expect("the entry before a cut is in the log");
            self.wal.push_truncate(position, EntryId { index: keep.0, term: term.0 });
        }
        let entries: Vec<wal::Entry> = append.entries.into_iter().map(log_entry).collect();
        self.logged_bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        self.wal.push_entries(position, &entries);
        if let Some(conf_state) = &append.conf_state {
            let members = Members { conf_state: conf_state.clone(), index: self.conf_index };
            self.wal.push_conf_state(position, members.encode());
        }
        self.pushed = append.position;
        if seeded::is(Bug::AckBeforeDurable) {
            self.raft.persisted(append.position);
        }
    }

    /// The next work for the driver; drain it after every turn.
    pub fn poll_work(&mut self) -> Option<Work> {
        if let Some((token, op)) = self.wal.poll(!self.proposals.were_made) {
            return Some(Work::Disk(token, op));
        }
        self.proposals.were_made = false;
        if let Some((token, op)) = self.transfers.poll() {
            return Some(Work::Disk(token, op));
        }
        if self.transfers.is_installing() {
            return None;
        }
        if let Some((token, op)) = self.reserve.poll() {
            return Some(Work::Disk(token, op));
        }
        let work = self.store.history_mut().poll_disk();
        for wanted in self.store.history_mut().take_settled() {
            self.history_warmed(wanted);
        }
        if let Some((token, op)) = work {
            return Some(Work::Disk(token, op));
        }
        if let Some(load) = self.loader.poll(self.store.pages_mut()) {
            return Some(load_work(load));
        }
        if let Some(job) = self.poll_checkpoint() {
            return Some(Work::Checkpoint(job));
        }
        if let Some(prefault) = self.store.pages_mut().poll_prefault() {
            return Some(Work::Prefault(prefault));
        }
        // Last, so that what somebody waits for goes first.
        self.loader.poll_preload(self.store.pages_mut()).map(load_work)
    }

    /// The next thing to tell a client; drain it after every turn.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.events.pop_front()?;
            match event {
                Event::Answer { call: CallId::NOBODY, .. } => {}
                Event::Answer { call, .. } | Event::Go { call } if !call.is_drivers() => {
                    self.renewals.wake(call);
                }
                Event::Refused { call, .. } if !call.is_drivers() => self.renewals.forget(call),
                Event::Lease { call, times } if !call.is_drivers() => self.on_own_lease(call, times),
                event => return Some(event),
            }
        }
    }

    /// A disk operation has ended.
    pub fn on_disk(&mut self, token: Token, outcome: Outcome) -> Result<(), Fatal> {
        match token.owner {
            Owner::Log => {
                self.wal.on_completed(token, outcome).map_err(Fatal::Log)?;
                let durable = LogPosition(self.wal.durable());
                self.raft.persisted(self.transfers.counted(durable));
                return Ok(());
            }
            Owner::History => {
                let come = self.store.history_mut().on_completed(token, outcome).map_err(Fatal::History)?;
                if let Some(wanted) = come {
                    self.history_warmed(wanted);
                }
            }
            Owner::Index => {
                self.loader.on_completed(self.store.pages_mut(), token, outcome).map_err(Fatal::Index)?;
                self.pages_warmed();
            }
            Owner::Checkpoint => unreachable!("checkpoints come back whole"),
            Owner::Reserve => self.on_reserve(outcome)?,
            Owner::Incoming => self.on_incoming(outcome)?,
        }
        Ok(())
    }

    /// Something of the history was brought in, or is not there any more: whoever waits for it looks again.
    fn history_warmed(&mut self, wanted: Wanted) {
        self.reads.history_warmed(wanted, &mut self.events);
        self.applies.warmed();
        self.hashing.warmed();
        self.reclaiming.warmed();
        self.transfers.warmed();
    }

    /// Pages were brought in: whoever found one cold looks again.
    fn pages_warmed(&mut self) {
        self.reads.pages_warmed(&mut self.events);
        self.applies.warmed();
        self.hashing.warmed();
        self.reclaiming.warmed();
        self.transfers.warmed();
    }

    /// Memory was faulted in.
    pub fn on_prefaulted(&mut self, done: map::Prefaulted) {
        self.store.pages_mut().on_prefaulted(done);
    }

    /// Mapped pages were faulted in.
    pub fn on_populated(&mut self, done: map::Populated) -> Result<(), Fatal> {
        self.loader.on_populated(self.store.pages_mut(), done).map_err(Fatal::Index)?;
        self.pages_warmed();
        Ok(())
    }

    /// Time has passed. Returns when to call again.
    pub fn handle_timeout(&mut self, now: Instant) -> Instant {
        while self.next_tick <= now {
            self.next_tick += self.config.heartbeat;
            self.raft.tick();
        }
        self.expire_proposals(now);
        self.doubt_membership(now);
        self.retry_reads(now);
        self.reads.expire(now, self.config.request_timeout, &mut self.events);
        self.relieve(now);
        let check = self.expire_leases(now);
        let seal = self.wal.poll_timer(now);
        let others = [seal, self.reclaiming.next_timeout(now), Some(check)];
        others.into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    /// Raises this member's NOSPACE alarm, unless it is raised. A second one while the first is under way changes
    /// nothing.
    fn raise_no_space(&mut self, now: Instant) {
        let member = self.config.member;
        let raised = self.store.alarms().any(|alarm| alarm == (member, AlarmKind::NoSpace));
        if !raised && !self.stopping {
            let alarm = Alarm { action: AlarmAction::Activate, member, kind: AlarmKind::NoSpace };
            self.propose(now, CallId::NOBODY, &Write::Alarm(alarm), 0).expect("an alarm is small");
        }
    }

    /// What readers see.
    pub fn view(&self) -> View<'_, map::Writer> {
        self.store.view()
    }

    /// The store, for its counters.
    pub fn store(&self) -> &Store<map::Writer> {
        &self.store
    }

    /// Has brought in what a read found cold; the call hears by [`Event::Go`].
    pub fn fetch(&mut self, cold: &Cold, call: CallId) -> Result<(), Fatal> {
        match self.want(cold)? {
            Coming::Now => self.events.push_back(Event::Go { call }),
            Coming::Page => self.reads.wait_for_page(call),
            Coming::History(wanted) => self.reads.wait_for_history(wanted, call),
        }
        Ok(())
    }

    /// Asks for something cold.
    fn want(&mut self, cold: &Cold) -> Result<Coming, Fatal> {
        match cold {
            Cold::Damaged(what) => Err(Fatal::Damaged(what.clone())),
            Cold::Page(no) => match self.loader.want(self.store.pages(), *no) {
                map::Wanted::Ready => Ok(Coming::Now),
                map::Wanted::Coming => Ok(Coming::Page),
                map::Wanted::Gone => {
                    Err(Fatal::Damaged(format!("index page {} is referred to and not there", no.0)))
                }
            },
            Cold::Record(_) | Cold::Table(_) | Cold::Run(_) | Cold::Chunk(_) => {
                Ok(Coming::History(self.store.history_mut().fetch(cold)))
            }
        }
    }

    /// Stops taking writes, and when all are answered writes the last checkpoint and the last block. The driver goes
    /// on until [`Replica::is_stopped`].
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether everything is on disk and nothing is under way.
    pub fn is_stopped(&self) -> bool {
        self.checkpoints.is_final() && self.wal.is_idle() && self.store.history().is_idle()
    }

    /// Raft's view of this member.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The last entry whose effect readers see.
    pub fn published(&self) -> EntryId {
        self.applies.published()
    }

    /// This member's id.
    pub fn member(&self) -> u64 {
        self.config.member
    }

    /// The cluster's id.
    pub fn cluster(&self) -> u64 {
        self.config.cluster
    }

    /// Writes admitted and not answered.
    pub fn pending(&self) -> usize {
        self.proposals.waiting()
    }

    /// Admitted writes that were refused or whose time was up.
    pub fn failed(&self) -> u64 {
        self.proposals.failed
    }

    /// Linearizable reads that waited long for their index, and those that never got it.
    pub fn reads_late(&self) -> (u64, u64) {
        self.reads.late()
    }

    /// Bytes of index pages in use and history not reclaimed: etcd's dbSize. Log and spares do not count.
    pub fn db_size(&self) -> u64 {
        let pages = u64::from(self.store.pages().usage().live) * map::page::PAGE_SIZE as u64;
        pages + self.store.history().size()
    }

    /// The same without dead records, as far as they are known: etcd's dbSizeInUse.
    pub fn db_size_in_use(&self) -> u64 {
        self.db_size() - self.store.history().dead_bytes()
    }
}

fn load_work(load: map::Load) -> Work {
    match load {
        map::Load::Read(token, op) => Work::Disk(token, op),
        map::Load::Populate(populate) => Work::Populate(populate),
    }
}

fn log_entry(entry: raft::Entry) -> wal::Entry {
    let kind = match entry.kind {
        raft::EntryKind::Normal => payload::NORMAL,
        raft::EntryKind::ConfChange => payload::CONF_CHANGE,
    };
    wal::Entry { term: entry.term.0, index: entry.index.0, kind, data: entry.data }
}
