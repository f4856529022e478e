//! The store: the version being built and the one readers see.
//!
//! One writer. Changes go to the version being built, one transaction after the other; [`Store::publish`] makes
//! all of them visible at once. Every step either happens or finds something [`Cold`] and changes nothing that it would
//! not change again, so that the caller may have it fetched and repeat the step.

use std::collections::BTreeSet;

use crate::lease::record::{self, Lease};
use crate::map::page::WritePages;
use crate::members::{MemberChange, Roster};
use crate::mvcc::Cold;
use crate::mvcc::history::History;
use crate::mvcc::history::record::{Change, NewRecord, Record};
use crate::mvcc::index::entry::KeyEntry;
use crate::mvcc::index::table::Table;
use crate::mvcc::index::{Index, IndexView, Root};
use crate::mvcc::reclaim::{self, Reclaim, Spend};
use crate::mvcc::view::View;
use crate::request::{AlarmKind, Put};
use crate::seeded::{self, Bug};
use crate::types::{LeaseId, Revision, Seq};

/// Numbers that go with a version of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Newest revision.
    pub revision: Revision,
    /// Revisions below this are gone; -1 before the first compaction.
    pub compacted: Revision,
}

impl State {
    /// Of a store that was never written.
    pub const INITIAL: State = State { revision: Revision::INITIAL, compacted: Revision::NEVER_COMPACTED };
}

/// Keys, versions, alarms and leases.
#[derive(Debug)]
pub struct Store<W> {
    index: Index<W>,
    history: History,
    building: State,
    /// Changes of the open transaction.
    subs: u32,
    /// Finished history chunks whose rows are not in the index yet.
    rows: Vec<Seq>,
    reclaim: Reclaim,
    /// Compactions since [`Store::take_compactions`], each with the one before it.
    compactions: Vec<(Revision, Revision)>,
    alarms: BTreeSet<(u64, AlarmKind)>,
    roster: Roster,
    published: (Root, State),
    /// Bytes of keys and values put since this was opened.
    put_bytes: u64,
}

impl<W: WritePages> Store<W> {
    /// A store that was opened at `state`, or is new.
    pub fn new(
        index: Index<W>,
        history: History,
        state: State,
        alarms: BTreeSet<(u64, AlarmKind)>,
        reclaim: Reclaim,
    ) -> Store<W> {
        assert_eq!(history.last_main(), state.revision, "history and index are of one checkpoint");
        let published = (index.root(), state);
        Store {
            index,
            history,
            building: state,
            subs: 0,
            rows: Vec::new(),
            reclaim,
            compactions: Vec::new(),
            alarms,
            roster: Roster::default(),
            published,
            put_bytes: 0,
        }
    }

    /// What readers see.
    pub fn view(&self) -> View<'_, W> {
        let (root, state) = self.published;
        self.view_of(root, state)
    }

    /// What the open transaction sees: everything before it, and its own changes.
    pub fn building(&self) -> View<'_, W> {
        self.view_of(self.index.root(), State { revision: self.seen_revision(), ..self.building })
    }

    fn view_of(&self, root: Root, state: State) -> View<'_, W> {
        View {
            index: IndexView::new(self.index.pages(), root),
            history: &self.history,
            revision: state.revision,
            compacted: state.compacted,
        }
    }

    /// Revision before the open transaction.
    pub fn revision(&self) -> Revision {
        self.building.revision
    }

    /// Revision the open transaction's changes have, once there is one.
    pub fn next_revision(&self) -> Revision {
        self.building.revision.next()
    }

    /// Whether the open transaction changed anything.
    pub fn is_changed(&self) -> bool {
        self.subs > 0
    }

    /// Revision that an answer inside the open transaction shows.
    pub fn seen_revision(&self) -> Revision {
        if self.is_changed() { self.next_revision() } else { self.revision() }
    }

    /// Writes a key. Returns the version it replaces, if the key existed.
    ///
    /// With `ignore_value` or `ignore_lease` the key must exist, which the caller has checked.
    pub fn put(&mut self, put: &Put<'_>) -> Result<Option<Seq>, Cold> {
        let newest = self.index.get(put.key)?;
        let alive = newest.filter(KeyEntry::is_live);
        let main = self.next_revision();
        let kept = match alive {
            Some(entry) if put.ignore_value => {
                let record = self.history.record(entry.seq)?.expect("a live key has its record");
                record.fields().value.to_vec()
            }
            _ => Vec::new(),
        };
        let value = if put.ignore_value { &kept[..] } else { put.value };
        let lease = match alive {
            Some(entry) if put.ignore_lease => entry.lease,
            _ => put.lease,
        };
        let counted = if seeded::is(Bug::KeepGeneration) { newest } else { alive };
        let (created, version) = counted.map_or((main, 1), |entry| (entry.created, entry.version + 1));
        let change = Change::Put { value, created, version, lease };
        // Where reclaim has taken a tombstone out of the index there is none: a link, and nothing that answers show.
        let prev = newest.map(|entry| entry.seq);
        let new = NewRecord { main, sub: self.subs, prev, key: put.key, change };
        self.attach(put.key, alive.map_or(LeaseId::NONE, |entry| entry.lease), lease)?;
        self.write(&new, created, version, lease)?;
        self.put_bytes += (put.key.len() + value.len()) as u64;
        Ok(alive.map(|entry| entry.seq))
    }

    /// Deletes a key that exists; `entry` is its newest version.
    pub fn delete(&mut self, key: &[u8], entry: &KeyEntry) -> Result<(), Cold> {
        assert!(entry.is_live(), "deleting a key that is deleted: {entry:?}");
        let main = self.next_revision();
        let new = NewRecord { main, sub: self.subs, prev: Some(entry.seq), key, change: Change::Delete };
        self.attach(key, entry.lease, LeaseId::NONE)?;
        self.write(&new, entry.created, entry.version, LeaseId::NONE)
    }

    /// Moves a key from one lease's list to another's. Doing it twice changes nothing, so it may go before what finds
    /// something cold.
    fn attach(&mut self, key: &[u8], from: LeaseId, to: LeaseId) -> Result<(), Cold> {
        if from == to {
            return Ok(());
        }
        if from != LeaseId::NONE && !seeded::is(Bug::KeepAttachment) {
            self.index.remove_row(Table::LeaseKeys, &record::attachment_row(from, key))?;
        }
        let forgets = seeded::is(Bug::ForgetAttachment) && from != LeaseId::NONE;
        if to != LeaseId::NONE && !forgets {
            self.index.put_row(Table::LeaseKeys, &record::attachment_row(to, key), &[])?;
        }
        Ok(())
    }

    /// First the index, which may find a page cold and then changes nothing, then the history, which cannot.
    fn write(
        &mut self,
        new: &NewRecord<'_>,
        created: Revision,
        version: i64,
        lease: LeaseId,
    ) -> Result<(), Cold> {
        let entry = KeyEntry {
            seq: self.history.next_seq(),
            modified: new.main,
            created,
            version,
            wire_len: u32::try_from(new.wire_len()).expect("a version is smaller than 4 GiB"),
            lease,
            tombstone: matches!(new.change, Change::Delete),
        };
        self.index.put(new.key, &entry)?;
        let seq = self.history.append(new);
        assert_eq!(seq, entry.seq, "the index names the record that was written");
        self.subs += 1;
        Ok(())
    }

    /// Ends the open transaction: its changes become one revision, or none if there were none.
    pub fn end_transaction(&mut self) {
        if self.is_changed() {
            self.history.end_transaction();
            self.building.revision = self.next_revision();
            self.subs = 0;
        }
    }

    /// Makes revisions below `revision` unreadable.
    pub fn compact(&mut self, revision: Revision) {
        let State { revision: current, compacted } = self.building;
        assert!(
            compacted < revision && revision <= current,
            "compacting {revision} of {compacted}..={current}"
        );
        self.building.compacted = revision;
        self.compactions.push((compacted, revision));
    }

    /// Compactions since the last call, each behind the one before it.
    pub fn take_compactions(&mut self) -> Vec<(Revision, Revision)> {
        std::mem::take(&mut self.compactions)
    }

    /// The compaction revision of the version being built.
    pub fn compacted(&self) -> Revision {
        self.building.compacted
    }

    /// Alarms raised, ascending.
    pub fn alarms(&self) -> impl Iterator<Item = (u64, AlarmKind)> + '_ {
        self.alarms.iter().copied()
    }

    /// Whether any member raised this alarm.
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|(_, raised)| *raised == kind)
    }

    /// Raises or lowers an alarm. Returns whether it was raised before.
    pub fn set_alarm(&mut self, member: u64, kind: AlarmKind, raised: bool) -> Result<bool, Cold> {
        let row = alarm_row(member, kind);
        if raised {
            if !seeded::is(Bug::ForgetAlarm) {
                self.index.put_row(Table::Alarm, &row, &[])?;
            }
            Ok(!self.alarms.insert((member, kind)))
        } else {
            self.index.remove_row(Table::Alarm, &row)?;
            Ok(self.alarms.remove(&(member, kind)))
        }
    }

    /// Adds a lease, or changes what is stored of it.
    pub fn put_lease(&mut self, id: LeaseId, lease: Lease) -> Result<(), Cold> {
        if !seeded::is(Bug::ForgetLease) {
            self.index.put_row(Table::Lease, &record::row(id), &lease.encode())?;
        }
        Ok(())
    }

    /// Removes a lease to which no key is attached any more.
    pub fn remove_lease(&mut self, id: LeaseId) -> Result<(), Cold> {
        self.index.remove_row(Table::Lease, &record::row(id))?;
        Ok(())
    }

    /// The members of the cluster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The members as they were found when this was opened.
    pub fn set_roster(&mut self, roster: Roster) {
        self.roster = roster;
    }

    /// Makes a change that [`Roster::check`] let pass.
    pub fn change_members(&mut self, change: &MemberChange) -> Result<(), Cold> {
        let after = self.roster.after(change);
        for row in after.rows(&self.roster, change) {
            self.index.put_row(Table::Member, &row.key(), &row.encode())?;
        }
        self.roster = after;
        Ok(())
    }

    /// Remembers who votes as raft sees it, as bytes.
    pub fn put_members(&mut self, members: &[u8]) -> Result<(), Cold> {
        self.index.put_row(Table::Misc, MEMBERS_ROW, members)?;
        Ok(())
    }

    /// Makes the version being built visible; the caller publishes the same root in the page memory.
    ///
    /// Rows of history chunks that were finished meanwhile go in first.
    pub fn publish(&mut self) -> Result<(Root, State), Cold> {
        assert!(!self.is_changed(), "publishing inside a transaction");
        self.rows.extend(self.history.take_finished());
        while let Some(first) = self.rows.last() {
            // Reclaim may have been faster.
            if let Some(info) = self.history.chunk(*first) {
                self.index.put_row(Table::HistorySegment, &info.key(), &info.encode())?;
            }
            self.rows.pop();
        }
        self.published = (self.index.root(), self.building);
        Ok(self.published)
    }

    /// Like [`Store::publish`], with everything that a checkpoint of this version must hold.
    pub fn publish_for_checkpoint(&mut self) -> Result<(Root, State), Cold> {
        self.reclaim.save(&mut self.index, &self.history)?;
        self.publish()
    }

    /// Goes on with reclaim, when nobody reads below `floor`; false if there is nothing left to do. Changes the version
    /// being built. Between commands only.
    pub fn reclaim(&mut self, floor: Revision, spend: &mut Spend) -> Result<bool, Cold> {
        assert!(!self.is_changed(), "reclaiming inside a transaction");
        assert!(floor <= self.published.1.compacted, "floor {floor} above {:?}", self.published.1);
        self.reclaim.advance(&mut self.index, &mut self.history, floor, spend)
    }

    /// Whether somebody may still read a record at or above `floor`, whose last record is `floor_last`. The floor must be
    /// pinned.
    pub fn is_alive(&self, record: &Record<'_>, floor: Revision, floor_last: Seq) -> Result<bool, Cold> {
        reclaim::is_alive(&self.index, &self.history, record, floor, floor_last)
    }

    /// How far reclaim is.
    pub fn reclaimed(&self) -> &Reclaim {
        &self.reclaim
    }

    /// Bytes of keys and values put since this was opened.
    pub fn put_bytes(&self) -> u64 {
        self.put_bytes
    }

    /// Whether the version being built is the one readers see.
    pub fn is_published(&self) -> bool {
        self.published == (self.index.root(), self.building)
    }

    /// The version readers see.
    pub fn published(&self) -> (Root, State) {
        self.published
    }

    /// All versions.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// All versions, for flushing and fetching.
    pub fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// The page memory.
    pub fn pages(&self) -> &W {
        self.index.pages()
    }

    /// The page memory, for publishing, checkpoints and loading.
    pub fn pages_mut(&mut self) -> &mut W {
        self.index.pages_mut()
    }
}

/// Row key of raft's configuration, in the table of single values.
pub const MEMBERS_ROW: &[u8] = b"members";

/// Row key of an alarm: member id, big endian, and its kind.
fn alarm_row(member: u64, kind: AlarmKind) -> [u8; 9] {
    let mut row = [0; 9];
    row[..8].copy_from_slice(&member.to_be_bytes());
    row[8] = kind as u8;
    row
}

/// Reads a row key of the alarm table.
pub fn parse_alarm_row(row: &[u8]) -> Option<(u64, AlarmKind)> {
    let (member, kind) = row.split_first_chunk::<8>()?;
    let kind = match kind {
        [1] => AlarmKind::NoSpace,
        [2] => AlarmKind::Corrupt,
        _ => return None,
    };
    Some((u64::from_be_bytes(*member), kind))
}

// What the store holds is tested with `apply`, against a model.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::types::Seq;

    #[test]
    fn readers_see_the_last_publication() {
        let mut world = World::calm();
        let store = &mut world.store;
        let put = Put { key: b"a", value: b"1", ..Put::default() };
        assert_eq!(store.put(&put), Ok(None));
        assert!(store.is_changed());
        assert_eq!((store.revision(), store.seen_revision()), (Revision(1), Revision(2)));
        let (inside, outside) = (store.building(), store.view());
        assert_eq!(
            (inside.revision, inside.get(b"a").unwrap().map(|found| found.seq)),
            (Revision(2), Some(Seq(1)))
        );
        assert_eq!((outside.revision, outside.get(b"a")), (Revision(1), Ok(None)));
        store.end_transaction();
        assert_eq!((store.revision(), store.view().revision), (Revision(2), Revision(1)));
        // A transaction without changes makes no revision.
        store.end_transaction();
        store.compact(Revision(2));
        assert_eq!((store.compacted(), store.view().compacted), (Revision(2), Revision::NEVER_COMPACTED));
        let (root, state) = store.publish().unwrap();
        assert_eq!((root.live, state), (1, State { revision: Revision(2), compacted: Revision(2) }));
        assert_eq!(store.view().get(b"a").unwrap().map(|found| found.version), Some(1));
    }

    #[test]
    fn alarms_are_rows_of_the_index() {
        let mut world = World::calm();
        let store = &mut world.store;
        assert_eq!(store.set_alarm(u64::MAX, AlarmKind::Corrupt, true), Ok(false));
        assert_eq!(store.set_alarm(3, AlarmKind::NoSpace, true), Ok(false));
        assert_eq!(store.set_alarm(3, AlarmKind::NoSpace, true), Ok(true));
        assert_eq!(store.set_alarm(4, AlarmKind::NoSpace, false), Ok(false));
        let listed: Vec<_> = store.alarms().collect();
        assert_eq!(listed, [(3, AlarmKind::NoSpace), (u64::MAX, AlarmKind::Corrupt)]);
        let view = store.building();
        let mut rows = view.index.rows(Table::Alarm, &[]);
        for alarm in listed {
            let (row, _) = rows.next().unwrap().expect("an alarm has a row");
            assert_eq!(parse_alarm_row(row), Some(alarm));
        }
        assert_eq!(rows.next(), Ok(None));
        for row in [&b""[..], b"12345678", b"12345678\x00", b"12345678\x03", b"12345678\x01\x01"] {
            assert_eq!(parse_alarm_row(row), None);
        }
    }
}
