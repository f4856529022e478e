//! One version of the store, for reading: which keys there are, at which revision, and where their records stand.

use crate::lease::record::{self, Lease};
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::history::History;
use crate::mvcc::index::IndexView;
use crate::mvcc::index::entry::KeyEntry;
use crate::mvcc::index::table::Table;
use crate::mvcc::wire;
use crate::types::{LeaseId, Revision, Seq};

/// A version of the store. Cheap to make; borrowed, so never kept across a wait.
#[derive(Debug)]
pub struct View<'a, R> {
    /// Newest versions.
    pub index: IndexView<'a, R>,
    /// All versions.
    pub history: &'a History,
    /// The newest revision in `index`.
    pub revision: Revision,
    /// Revisions below this are gone.
    pub compacted: Revision,
}

impl<R> Clone for View<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for View<'_, R> {}

/// A point in time: a revision and the last record that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The revision.
    pub revision: Revision,
    /// Its last record.
    pub last: Seq,
}

/// A version of a key that exists at some revision: all that an answer sorts and filters by, but the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its record.
    pub seq: Seq,
    /// Length of its KeyValue.
    pub wire_len: u32,
    /// Length of its KeyValue without the value.
    pub bare_len: u32,
    /// Revision that wrote it.
    pub modified: Revision,
    /// Revision that created the key.
    pub created: Revision,
    /// Version within the generation.
    pub version: i64,
    /// Lease it is attached to.
    pub lease: LeaseId,
}

impl Found {
    fn of_entry(key: &[u8], entry: &KeyEntry) -> Found {
        let bare = wire::bytes_field_len(key.len())
            + [entry.created.0, entry.modified.0, entry.version, entry.lease.0]
                .map(wire::int_field_len)
                .iter()
                .sum::<usize>();
        Found {
            seq: entry.seq,
            wire_len: entry.wire_len,
            bare_len: bare as u32,
            modified: entry.modified,
            created: entry.created,
            version: entry.version,
            lease: entry.lease,
        }
    }

    /// Bytes of this version as an element of a `repeated KeyValue` field with a one-byte tag.
    pub fn encoded_len(&self, keys_only: bool) -> u64 {
        let len = if keys_only { self.bare_len } else { self.wire_len };
        wire::message_field_len(len as usize) as u64
    }
}

impl<'a, R: ReadPages> View<'a, R> {
    /// The present.
    pub fn now(&self) -> Result<At, Cold> {
        self.at(self.revision)
    }

    /// A revision between the compaction and now.
    pub fn at(&self, revision: Revision) -> Result<At, Cold> {
        assert!(revision <= self.revision, "revision {revision} is beyond {}", self.revision);
        Ok(At { revision, last: self.history.last_seq_at(revision)? })
    }

    /// The version of `key` that exists now.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, Cold> {
        let entry = self.index.get(key)?.filter(KeyEntry::is_live);
        Ok(entry.map(|entry| Found::of_entry(key, &entry)))
    }

    /// What is stored of a lease.
    pub fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Cold> {
        let row = self.index.row(Table::Lease, &record::row(id))?;
        let parsed = row.map(|value| record::parse_row(&record::row(id), &value).ok_or_else(|| damaged(id)));
        Ok(parsed.transpose()?.map(|(_, lease)| lease))
    }

    /// Tells `each` of the keys attached to a lease, in order, from the one after `after` on, until it has had enough.
    /// Returns true if there are no more.
    pub fn lease_keys(
        &self,
        id: LeaseId,
        after: Option<&[u8]>,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Cold> {
        let prefix = record::row(id);
        let mut rows = match after {
            None => self.index.rows(Table::LeaseKeys, &prefix),
            Some(key) => self.index.rows_after(Table::LeaseKeys, &prefix, &record::attachment_row(id, key)),
        };
        while let Some((row, _)) = rows.next()? {
            if !each(record::attached_key(row)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The version of a key that exists at `at`, given its newest one.
    ///
    /// Records tell, not revisions: `at` may lie inside an open transaction, which goes on under the same revision.
    pub fn version_at(&self, key: &[u8], newest: &KeyEntry, at: At) -> Result<Option<Found>, Cold> {
        if newest.seq <= at.last {
            return Ok(newest.is_live().then(|| Found::of_entry(key, newest)));
        }
        let Some(record) = self.history.version_at(newest.seq, at.last)? else { return Ok(None) };
        if record.is_tombstone() {
            return Ok(None);
        }
        let kv = record.fields();
        assert_eq!(kv.key, key, "record {} belongs to another key", record.seq());
        let wire_len = record.wire().len();
        Ok(Some(Found {
            seq: record.seq(),
            wire_len: wire_len as u32,
            bare_len: wire::wire_len_without_value(wire_len, kv.value.len()) as u32,
            modified: Revision(kv.mod_revision),
            created: Revision(kv.create_revision),
            version: kv.version,
            lease: LeaseId(kv.lease),
        }))
    }
}

fn damaged(id: LeaseId) -> Cold {
    Cold::Damaged(format!("the index holds a row of lease {} that this version cannot read", id.0))
}
