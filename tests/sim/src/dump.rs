//! Everything a replica stores, read record by record, with the checks that need no model: sequence numbers without
//! gaps, whole transactions, chains that lead from version to version, an index that names the newest of each key, and
//! a tree whose counts are the sums of what is below them.
//!
//! What reclaim took is missing; it must be what an earlier dump has shown, and dead by then.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::members::Roster;
use engine::members::record::Row;
use engine::mvcc::Cold;
use engine::mvcc::history::record::Record;
use engine::mvcc::index::table::Table;
use engine::replica::Replica;
use engine::request::AlarmKind;
use engine::types::{LeaseId, Seq};

use crate::judge::kv_of;
use crate::model::{Change, Model};

/// What is stored.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// The newest revision.
    pub revision: i64,
    /// The compaction revision, -1 for none.
    pub compacted: i64,
    /// Alarms raised.
    pub alarms: Vec<(u64, AlarmKind)>,
    /// What each revision changed, in order.
    pub changes: BTreeMap<i64, Vec<Change>>,
}

/// A dump being read.
#[derive(Debug)]
pub struct Reader<'a> {
    dump: Dump,
    /// What earlier dumps have shown.
    model: &'a Model,
    /// Its changes with their revisions, by sequence number - 1.
    known: Vec<(i64, &'a Change)>,
    /// Records that are missing.
    missing: u64,
    /// Keys by sequence number - 1.
    keys: Vec<Bytes>,
    /// The newest record of each key, whether it is live, and its revision.
    newest: BTreeMap<Bytes, (Seq, bool, i64)>,
    /// Keys whose index entry was compared.
    compared: usize,
}

/// Why a dump did not go on.
#[derive(Debug)]
pub enum Pause {
    /// Something must be brought into memory; then go on.
    Cold(Cold),
    /// What is stored cannot be right.
    Wrong(String),
}

impl From<Cold> for Pause {
    fn from(cold: Cold) -> Pause {
        Pause::Cold(cold)
    }
}

impl<'a> Reader<'a> {
    /// Nothing read yet; `model` is what earlier dumps have shown.
    pub fn new(model: &'a Model) -> Reader<'a> {
        let changes = |revision| model.changes(revision).iter().map(move |change| (revision, change));
        let known = (2..=model.revision()).flat_map(changes).collect();
        let (dump, keys, newest) = (Dump::default(), Vec::new(), BTreeMap::new());
        Reader { dump, model, known, missing: 0, keys, newest, compared: 0 }
    }

    /// Records that are missing.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Everything, once [`Reader::advance`] has said so.
    pub fn into_dump(self) -> Dump {
        self.dump
    }

    /// Goes on reading; `Ok` when everything is read. The replica must not change meanwhile.
    pub fn advance(&mut self, replica: &Replica) -> Result<(), Pause> {
        let view = replica.view();
        (self.dump.revision, self.dump.compacted) = (view.revision.0, view.compacted.0);
        self.dump.alarms = replica.store().alarms().collect();
        let last = view.now()?.last;
        while (self.keys.len() as u64) < last.0 {
            let seq = Seq(self.keys.len() as u64 + 1);
            match view.history.record(seq)? {
                Some(record) => self.record(seq, &record).map_err(Pause::Wrong)?,
                None => self.gone(seq).map_err(Pause::Wrong)?,
            }
        }
        while let Some((key, (seq, live, main))) = self.newest.iter().nth(self.compared) {
            let entry = view.index.get(key).map_err(Cold::from)?;
            let forgotten = entry.is_none() && !live && *main < self.dump.compacted;
            if !forgotten && entry.is_none_or(|entry| entry.seq != *seq) {
                return Err(Pause::Wrong(format!("the index has {entry:?} for {key:?}, not record {seq}")));
            }
            self.compared += 1;
        }
        let attached = self.check_leases(replica)?;
        let members = check_members(replica)?;
        let report = view.index.check().map_err(Cold::from)?;
        let rows = report.entries.saturating_sub(self.newest.len() as u64);
        let live = self.newest.values().filter(|(_, live, _)| *live).count() as u64;
        if report.live != live {
            return Err(Pause::Wrong(format!("the tree counts {} live keys of {live}", report.live)));
        }
        // The rows of the format, of raft's configuration and of reclaim, members, alarms, leases and their keys, and one
        // row a finished chunk.
        let leases = replica.lessor().by_due().len() as u64 + attached;
        let expected =
            3 + members + self.dump.alarms.len() as u64 + leases + view.history.chunks().count() as u64;
        let settled = replica.store().is_published() && replica.is_reclaimed(view.compacted);
        if rows > expected && settled {
            return Err(Pause::Wrong(format!("{rows} rows in the small tables, {expected} expected")));
        }
        Ok(())
    }

    /// The lists of leases hold the keys that are attached to them, and no others. Returns how many.
    fn check_leases(&self, replica: &Replica) -> Result<u64, Pause> {
        let view = replica.view();
        let mut listed = BTreeMap::new();
        for id in replica.lessor().by_due() {
            if view.lease(id)?.is_none() {
                return Err(Pause::Wrong(format!("lease {} is not stored", id.0)));
            }
            view.lease_keys(id, None, |key| listed.insert(Bytes::copy_from_slice(key), id).is_none())?;
        }
        let mut attached = BTreeMap::new();
        for key in self.newest.keys() {
            let entry = view.index.get(key).map_err(Cold::from)?;
            attached.extend(entry.filter(|e| e.lease != LeaseId::NONE).map(|e| (key.clone(), e.lease)));
        }
        if listed != attached {
            return Err(Pause::Wrong(format!("leases list {listed:?}, attached are {attached:?}")));
        }
        Ok(attached.len() as u64)
    }

    fn record(&mut self, seq: Seq, record: &Record<'_>) -> Result<(), String> {
        let fields = record.fields();
        let kv = kv_of(&fields);
        let main = record.main().0;
        let wrong = |what: &str| Err(format!("record {seq} at revision {main}: {what} ({record:?})"));
        if record.seq() != seq {
            return wrong("another sequence number");
        }
        let changes = self.dump.changes.entry(main).or_default();
        if record.sub() as usize != changes.len() || record.is_first() != changes.is_empty() {
            return wrong("out of place in its transaction");
        }
        if kv.modified != main {
            return wrong("the message has another revision");
        }
        let before = self.newest.get(&kv.key);
        let forgotten = before.is_some_and(|(_, live, main)| !live && *main < self.dump.compacted);
        if record.prev() != before.map(|(seq, ..)| *seq) && !(forgotten && record.prev().is_none()) {
            return wrong("the version before it is another");
        }
        let jumps_astray = |jump: Seq| jump >= seq || self.keys[jump.0 as usize - 1] != kv.key;
        if record.jump().is_some_and(jumps_astray) {
            return wrong("it jumps to another key");
        }
        let key = kv.key.clone();
        self.note(seq, main, Change { key, kv: (!record.is_tombstone()).then_some(kv) });
        let before = self.dump.changes.range(..main).next_back();
        if before.is_some_and(|(before, _)| *before != main - 1) {
            return wrong("revisions are missing before it");
        }
        Ok(())
    }

    /// A record is missing: what stood there is known from before, if it may be missing at all.
    fn gone(&mut self, seq: Seq) -> Result<(), String> {
        let Some(&(main, change)) = self.known.get(seq.0 as usize - 1) else {
            return Err(format!("record {seq} is missing, and nobody has seen it"));
        };
        let floor = self.dump.compacted.min(self.model.revision());
        if !self.model.is_dead(change, main, floor) {
            return Err(format!(
                "record {seq} at revision {main} is missing, and not dead at {floor}: {change:?}"
            ));
        }
        self.missing += 1;
        self.note(seq, main, change.clone());
        Ok(())
    }

    fn note(&mut self, seq: Seq, main: i64, change: Change) {
        self.newest.insert(change.key.clone(), (seq, change.kv.is_some(), main));
        self.keys.push(change.key.clone());
        self.dump.changes.entry(main).or_default().push(change);
    }
}

/// The members stored are those that the replica knows. Returns how many rows they have.
fn check_members(replica: &Replica) -> Result<u64, Pause> {
    let view = replica.view();
    let mut rows = Vec::new();
    let mut found = view.index.rows(Table::Member, &[]);
    while let Some((key, value)) = found.next().map_err(Cold::from)? {
        let row = Row::parse(key, &value);
        rows.push(row.ok_or_else(|| Pause::Wrong(format!("the row of a member {key:?} is {value:?}")))?);
    }
    let count = rows.len() as u64;
    let stored = Roster::of_rows(rows);
    if replica.store().is_published() && stored != *replica.roster() {
        return Err(Pause::Wrong(format!("members stored are {stored:?}, known {:?}", replica.roster())));
    }
    Ok(count)
}
