//! From a data directory to a replica: the index's newest checkpoint, the history it names, the log behind both.
//!
//! Blocks; nothing is served before it returns. No key is read: rows of the small tables are, and the one unfinished
//! chunk of the history, and the log. What the log holds above the checkpoint is applied by the first turns.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Instant;

use raft::{
    ConfState, Entry, EntryKind, HardState, LogIndex, LogPosition, MemberId, Promise, Raft, RestoreError,
    Restored, Term,
};

use super::applying::ApplyQueue;
use super::belonging::Belonging;
use super::changes::Changes;
use super::checkpoint::Checkpoints;
use super::hashing::Hashing;
use super::leadership::Leadership;
use super::payload::{self, Members, Payload};
use super::proposals::Proposals;
use super::read::Reads;
use super::renewals::Renewals;
use super::space::Reserve;
use super::transfers::Transfers;
use super::{Config, Replica};
use crate::disk::{Disk, FileName};
use crate::lease::ids::LeaseIds;
use crate::lease::record::{self, Lease};
use crate::map::{self, MapError};
use crate::members::record::Row;
use crate::members::{Roster, change};
use crate::mvcc::history::directory::ChunkInfo;
use crate::mvcc::history::{self, History};
use crate::mvcc::index::table::Table;
use crate::mvcc::index::{self, Index, Root};
use crate::mvcc::reclaim::{self, Reclaim, Saved};
use crate::mvcc::store::{self, State, Store};
use crate::request::AlarmKind;
use crate::seeded::{self, Bug};
use crate::transfer::install;
use crate::types::LeaseId;
use crate::wal::recover::{RecoverError, Standing, Voters};
use crate::wal::{self, EntryId, Recovered};

/// Why a data directory cannot be opened. Each is a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The log.
    Log(RecoverError),
    /// The index.
    Index(MapError),
    /// The history.
    History(history::OpenError),
    /// Log, index and history do not belong together, or hold what this version cannot read.
    Mismatch(String),
    /// What the log says contradicts itself.
    Raft(RestoreError),
    /// The state that another member sent.
    Transfer(install::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Log(error) => error.fmt(f),
            Error::Index(error) => error.fmt(f),
            Error::History(error) => error.fmt(f),
            Error::Mismatch(what) => f.write_str(what),
            Error::Transfer(error) => error.fmt(f),
            Error::Raft(error) => write!(f, "the log contradicts itself: {error:?}"),
        }
    }
}

impl std::error::Error for Error {}

/// A replica and what an operator should know about how it was found.
pub struct Opened {
    /// The replica; if it is the only voter, it leads as soon as its first blocks are durable.
    pub replica: Replica,
    /// Sentences for the log.
    pub warnings: Vec<String>,
    /// The directory was empty.
    pub fresh: bool,
    /// Entries above the checkpoint, to be applied again.
    pub replayed: u64,
}

/// Opens, or begins, the data directory behind `disk`.
///
/// `mapping` opens the index file for reading, where the file system shows writes in mappings. `nonce` is a random
/// number of this start.
pub fn open(
    config: Config,
    disk: &mut dyn Disk,
    mapping: Option<&dyn Fn() -> std::io::Result<File>>,
    nonce: u64,
    now: Instant,
) -> Result<Opened, Error> {
    let mut warnings = Vec::new();
    let installed = install::install(disk, config.history, config.map).map_err(Error::Transfer)?;
    warnings.extend(installed.map(|index| format!("the leader's state up to entry {index} was installed")));
    let opened = map::open(disk, mapping, config.map).map_err(Error::Index)?;
    warnings.extend(opened.passed_over.as_ref().map(|error| format!("an older checkpoint is used: {error}")));
    let found = match opened.generation {
        0 => None,
        _ => Some(Payload::decode(&opened.payload).map_err(Error::Mismatch)?),
    };
    let files = disk.list().map_err(|error| Error::History(history::OpenError::Disk(error)))?;
    let has_reserve = files.iter().any(|(file, _)| *file == FileName::Reserve);
    let Held { mut store, loader, leases, members } = open_store(&config, disk, opened.writer, found)?;
    let applied = found.map_or(EntryId::default(), |payload| payload.applied);
    let identity = wal::Identity { cluster: config.cluster, member: config.member };
    let recovered =
        wal::recover(disk, identity, applied, voters(&config, members.as_ref())).map_err(Error::Log)?;
    if recovered.fresh && applied.index > 0 {
        return Err(Error::Mismatch(format!(
            "the index holds entries up to {}, but there is no log: restore the log directory that belongs to it",
            applied.index
        )));
    }
    warnings.extend(recovered.warnings.iter().cloned());
    let wal = wal::open(disk, &recovered, config.wal, nonce).map_err(Error::Log)?;
    let newest = newest_members(&recovered, members)?;
    if let Some(newest) = newest.as_ref().filter(|_| store.roster().is_empty() && !is_told_by(&recovered)) {
        store.set_roster(Roster::of_ids(&newest.conf_state));
    }
    let (mut raft, conf_index) = open_raft(&config, &recovered, applied, newest)?;
    if raft.conf_state().voters == [MemberId(config.member)] {
        // Nobody else could be the leader.
        raft.campaign();
    }
    let replica = Replica {
        recovering: raft.is_recovering(),
        raft,
        wal,
        store,
        loader,
        // Ids of this start follow the nonce, so that no entry of an earlier one answers a request of this.
        proposals: Proposals::new(if seeded::is(Bug::ReuseRequestIds) { 0 } else { nonce }),
        changes: Changes::default(),
        belonging: Belonging::default(),
        applies: ApplyQueue::new(applied),
        reads: Reads::default(),
        leadership: Leadership::default(),
        hashing: Hashing::default(),
        lessor: super::lease::lessor(&config, leases, now),
        lease_ids: LeaseIds::new(config.member, nonce),
        renewals: Renewals::new(nonce),
        transfers: Transfers::new(nonce),
        checkpoints: Checkpoints::new(applied),
        reclaiming: Default::default(),
        reserve: Reserve::new(config.reserve_bytes, has_reserve),
        events: Default::default(),
        conf_index,
        pushed: LogPosition(0),
        logged: (recovered.hard_state.term, recovered.hard_state.vote),
        logged_bytes: 0,
        next_tick: now + config.heartbeat,
        stopping: false,
        full_at: None,
        config,
    };
    Ok(Opened { replica, warnings, fresh: recovered.fresh, replayed: recovered.entries.len() as u64 })
}

/// Who else holds copies of what this member acknowledged, as far as the index knows. Whoever is wrong about it says
/// "nobody", and damage is refused rather than repaired.
fn voters(config: &Config, members: Option<&Members>) -> Voters {
    let own = MemberId(config.member);
    let is_alone = match members {
        Some(members) => members.conf_state.voters == [own],
        None => config.founders.iter().map(|founder| founder.id).eq([config.member]),
    };
    if is_alone { Voters::Single } else { Voters::Group }
}

/// Who votes, by the newest configuration that was in force; `indexed` is the one of the index.
fn newest_members(recovered: &Recovered, indexed: Option<Members>) -> Result<Option<Members>, Error> {
    let logged = match &recovered.conf_state {
        Some(bytes) => Some(
            Members::decode(bytes)
                .ok_or_else(|| Error::Mismatch("the log holds a configuration that cannot be read".into()))?,
        ),
        None => None,
    };
    // A single member of an early version kept it in the log alone.
    Ok(logged.into_iter().chain(indexed).max_by_key(|members| members.index))
}

/// Whether the entries to be applied begin with the founders, so that members are known by them.
fn is_told_by(recovered: &Recovered) -> bool {
    recovered.boundary.index == 0
        && recovered.entries.first().is_some_and(|first| first.kind == payload::CONF_CHANGE)
}

/// The raft of this member, and the entry of the newest configuration change in its configuration.
fn open_raft(
    config: &Config,
    recovered: &Recovered,
    applied: EntryId,
    newest: Option<Members>,
) -> Result<(Raft, u64), Error> {
    let own = MemberId(config.member);
    // What ended before the founding entries were durable has not begun. A single member of an early version wrote none.
    let is_unborn = newest.is_none() && recovered.last().index == 0;
    if is_unborn && !config.founders.is_empty() {
        let founders = config.founders.iter().map(|one| (MemberId(one.id), change::founding_context(one)));
        let founds = Raft::bootstrap(config.raft.clone(), founders).map_err(Error::Raft)?;
        return Ok((founds, 0));
    }
    // One that joins has none before the leader sends it.
    let founders = ConfState::new(config.founders.iter().map(|founder| MemberId(founder.id)), []);
    let Members { conf_state, index } = newest.unwrap_or(Members { conf_state: founders, index: 0 });
    let recovering = match recovered.standing {
        Standing::Sound => None,
        Standing::Recovering { promised } if conf_state.voters == [own] => {
            return Err(Error::Mismatch(format!(
                "the log lost entries up to {} that it had promised to keep, and no other member has them",
                promised.index
            )));
        }
        Standing::Recovering { promised } => {
            Some(Promise { index: LogIndex(promised.index), term: Term(promised.term) })
        }
    };
    let restored = Restored {
        hard_state: HardState {
            term: Term(recovered.hard_state.term),
            vote: recovered.hard_state.vote.map(MemberId),
            commit: LogIndex(recovered.hard_state.commit),
        },
        conf_state,
        applied: LogIndex(applied.index),
        boundary_index: LogIndex(recovered.boundary.index),
        boundary_term: Term(recovered.boundary.term),
        entries: recovered.entries.iter().map(raft_entry).collect::<Result<_, _>>()?,
        starts: recovered.start,
        recovering,
    };
    Ok((Raft::new(config.raft.clone(), restored).map_err(Error::Raft)?, index))
}

fn raft_entry(entry: &wal::Entry) -> Result<Entry, Error> {
    let kind = match entry.kind {
        payload::NORMAL => EntryKind::Normal,
        payload::CONF_CHANGE => EntryKind::ConfChange,
        kind => return Err(Error::Mismatch(format!("log entry {} is of unknown kind {kind}", entry.index))),
    };
    Ok(Entry { term: Term(entry.term), index: LogIndex(entry.index), kind, data: entry.data.clone() })
}

/// What an index file holds.
struct Held {
    store: Store<map::Writer>,
    loader: map::Loader,
    leases: Vec<(LeaseId, Lease)>,
    members: Option<Members>,
}

fn open_store(
    config: &Config,
    disk: &mut dyn Disk,
    writer: map::Writer,
    found: Option<Payload>,
) -> Result<Held, Error> {
    let mut loader = map::Loader::new();
    let Some(payload) = found else {
        let mut index = Index::new(writer, Root::EMPTY);
        // A tree is never empty, so that every version has a root page.
        index.put_row(Table::Misc, b"format", &[1]).expect("a new tree misses no page");
        let root = index.root().page;
        index.pages_mut().publish(root, map::Tag::default());
        // What a checkpoint does not name does not exist: files left by a start that never made one go away.
        let nothing = history::Mark { last_main: State::INITIAL.revision.0, ..history::Mark::default() };
        let history = History::open(config.history, Vec::new(), nothing, Vec::new(), disk);
        let history = history.map_err(Error::History)?;
        let store = Store::new(index, history, State::INITIAL, BTreeSet::new(), Reclaim::default());
        return Ok(Held { store, loader, leases: Vec::new(), members: None });
    };
    let mut index = Index::new(writer, payload.root);
    let chunks = rows(&mut index, &mut loader, disk, Table::HistorySegment, ChunkInfo::decode)?;
    let alarms: BTreeSet<(u64, AlarmKind)> =
        rows(&mut index, &mut loader, disk, Table::Alarm, |key, _| store::parse_alarm_row(key))?
            .into_iter()
            .collect();
    let leases = rows(&mut index, &mut loader, disk, Table::Lease, record::parse_row)?;
    let members_rows = rows(&mut index, &mut loader, disk, Table::Member, Row::parse)?;
    let misc = rows(&mut index, &mut loader, disk, Table::Misc, misc_row)?;
    let (mut saved, mut members) = (None, None);
    for single in misc {
        match single {
            Single::Reclaim(found) => saved = Some(found),
            Single::Members(found) => members = Some(found),
            Single::Other => {}
        }
    }
    let (reclaim, let_go, dead) = match saved {
        None => (Reclaim::default(), Vec::new(), 0),
        Some(saved) => (Reclaim::new(saved.clone()), saved.let_go, saved.active_dead),
    };
    let history = History::open(config.history, chunks, payload.mark, let_go, disk);
    let mut history = history.map_err(Error::History)?;
    history.set_active_dead(dead);
    let mut store = Store::new(index, history, payload.state, alarms, reclaim);
    store.set_roster(Roster::of_rows(members_rows));
    Ok(Held { store, loader, leases, members })
}

/// A row of the table of single values.
enum Single {
    Reclaim(Saved),
    Members(Members),
    Other,
}

fn misc_row(key: &[u8], row: &[u8]) -> Option<Single> {
    match key {
        reclaim::ROW => Saved::decode(row).map(Single::Reclaim),
        store::MEMBERS_ROW => Members::decode(row).map(Single::Members),
        _ => Some(Single::Other),
    }
}

/// Reads a small table, waiting for its pages.
fn rows<T>(
    index: &mut Index<map::Writer>,
    loader: &mut map::Loader,
    disk: &mut dyn Disk,
    table: Table,
    read: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    loop {
        let missing = {
            let view = index.view();
            let mut rows = match &last {
                None => view.rows(table, &[]),
                Some(last) => view.rows_after(table, &[], last),
            };
            loop {
                match rows.next() {
                    Ok(None) => return Ok(found),
                    Ok(Some((key, value))) => {
                        let row = read(key, &value);
                        found.push(row.ok_or_else(|| unreadable(table, key))?);
                        last = Some(key.to_vec());
                    }
                    Err(index::Error::Miss(page)) => break page,
                    Err(damaged) => return Err(Error::Mismatch(damaged.to_string())),
                }
            }
        };
        match loader.load(index.pages_mut(), disk, missing).map_err(Error::Index)? {
            map::Wanted::Ready => {}
            wanted => return Err(Error::Mismatch(format!("index page {} is {wanted:?}", missing.0))),
        }
    }
}

fn unreadable(table: Table, key: &[u8]) -> Error {
    Error::Mismatch(format!("table {table:?} of the index has a row {key:?} that this version cannot read"))
}
