//! A committed spool becomes the store, when the member is opened.
//!
//! The new history goes to new files and the new index to free pages; both are durable before one meta page is written,
//! and until then the old state is whole. What dies before that leaves stray files and pages that nothing names.

use super::piece::{self, Head, PREFIX, Piece};
use crate::disk::{self, Disk, DiskError, FileName, Op};
use crate::lease::record as lease;
use crate::map::{self, MapError};
use crate::mvcc::history::chunk::Packed;
use crate::mvcc::history::record::Record;
use crate::mvcc::history::{self, History, OpenError};
use crate::mvcc::index::entry::KeyEntry;
use crate::mvcc::index::table::Table;
use crate::mvcc::index::{Index, Root};
use crate::mvcc::reclaim::{self, Saved};
use crate::mvcc::store;
use crate::replica::CheckpointJob;
use crate::replica::payload::Payload;
use crate::types::{LeaseId, Revision, Seq};

/// Why it could not be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file.
    Disk(DiskError),
    /// The index.
    Index(MapError),
    /// The history.
    History(OpenError),
    /// What it holds contradicts itself.
    Damaged(String),
}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Error {
        Error::Disk(error)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Disk(error) => error.fmt(f),
            Error::Index(error) => error.fmt(f),
            Error::History(error) => error.fmt(f),
            Error::Damaged(what) => write!(f, "the state received from another member is damaged: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// Installs what a transfer left, if it was committed and the index is not beyond it, and removes the file.
///
/// Waits for the disk; call it before the index is opened. Returns the entry the state then holds, if one was installed.
pub fn install(
    disk: &mut dyn Disk,
    history: history::Config,
    limits: map::Limits,
) -> Result<Option<u64>, Error> {
    let Some((_, len)) = disk.list()?.into_iter().find(|(file, _)| *file == FileName::Incoming) else {
        return Ok(None);
    };
    let installed = match committed(disk, len)? {
        None => None,
        Some(head) => {
            let opened = map::open_anew(disk, limits).map_err(Error::Index)?;
            let has = match opened.generation {
                0 => 0,
                _ => Payload::decode(&opened.payload).map_err(Error::Damaged)?.applied.index,
            };
            let index = head.applied.index;
            if index > has {
                build(disk, len, &head, history, opened.writer)?;
            }
            (index > has).then_some(index)
        }
    };
    disk.run(Op::Remove { file: FileName::Incoming })?;
    Ok(installed)
}

/// The head of a spool that ends with its commit.
fn committed(disk: &mut dyn Disk, len: u64) -> Result<Option<Box<Head>>, Error> {
    let end = Piece::Commit.encode();
    let Some(at) = len.checked_sub(end.len() as u64) else { return Ok(None) };
    if disk::read(disk, FileName::Incoming, at, end.len())? != end {
        return Ok(None);
    }
    match read_piece(disk, 0, len)? {
        (Piece::Head(head), _) => Ok(Some(head)),
        _ => Err(Error::Damaged("it has no head".into())),
    }
}

/// The piece at `at`, and where the next one is.
fn read_piece(disk: &mut dyn Disk, at: u64, len: u64) -> Result<(Piece, u64), Error> {
    let damaged = || Error::Damaged(format!("the piece at {at} of {}", FileName::Incoming));
    if at + PREFIX as u64 > len {
        return Err(damaged());
    }
    let prefix = disk::read(disk, FileName::Incoming, at, PREFIX)?;
    let whole = PREFIX + Piece::len_of(prefix[..].try_into().expect("a prefix was read"));
    if at + whole as u64 > len {
        return Err(damaged());
    }
    let bytes = disk::read(disk, FileName::Incoming, at, whole)?;
    Ok((Piece::decode(&bytes).ok_or_else(damaged)?, at + whole as u64))
}

/// A store being built.
struct Build {
    index: Index<map::Writer>,
    history: History,
    floor: Revision,
    packed: Option<Packed>,
    last: (Seq, Revision),
}

fn build(
    disk: &mut dyn Disk,
    len: u64,
    head: &Head,
    config: history::Config,
    writer: map::Writer,
) -> Result<(), Error> {
    let segment = |(file, _): &(FileName, u64)| match file {
        FileName::History(segment) => Some(*segment),
        _ => None,
    };
    let old: Vec<u64> = disk.list()?.iter().filter_map(segment).collect();
    let newest = old.iter().copied().max().unwrap_or(0);
    let mut build = Build {
        index: Index::new(writer, Root::EMPTY),
        history: History::begin_import(config, newest),
        floor: head.floor,
        packed: None,
        last: (Seq(0), Revision::INITIAL),
    };
    build.row(Table::Misc, b"format", &[1]);
    let (_, mut at) = read_piece(disk, 0, len)?;
    while let (Piece::Records { bytes, .. }, next) = read_piece(disk, at, len)? {
        at = next;
        for record in piece::records(&bytes) {
            let record =
                record.ok_or_else(|| Error::Damaged(format!("a record of the piece before {at}")))?;
            build.add(&record)?;
        }
        build.flush(disk)?;
    }
    build.pack();
    if build.last != (head.last_seq, head.state.revision) {
        return Err(Error::Damaged(format!("it ends at {:?}, not at {:?}", build.last, head.state)));
    }
    for (table, key, value) in &head.rows {
        build.row(*table, key, value);
    }
    build.row(Table::Misc, store::MEMBERS_ROW, &head.members.encode());
    build.finish(disk, head, old)
}

impl Build {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.index.put_row(table, key, value).expect("all pages of a new tree are in memory");
    }

    /// The next record: into a chunk, and into the index.
    fn add(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let (seq, main) = (record.seq(), record.main());
        if seq <= self.last.0 || main < self.last.1 {
            return Err(Error::Damaged(format!("record {seq} of revision {main} behind {:?}", self.last)));
        }
        self.last = (seq, main);
        let full = |packed: &Packed| packed.region() + record.padded_len() > self.history.chunk_bytes();
        if self.packed.as_ref().is_some_and(full) {
            self.pack();
        }
        let older = self.index.get(record.key()).expect("all pages are in memory");
        // The sender leaves out what is dead: by halves it could bring a deleted key back. A tombstone of the floor itself is
        // alive, also where its own revision wrote the key again.
        let tombstone = record.is_tombstone();
        let replaced = older.is_some_and(|older| !older.tombstone || older.modified < self.floor);
        if main <= self.floor && (replaced || (tombstone && main < self.floor)) {
            return Err(Error::Damaged(format!("record {seq} of revision {main} is dead at {}", self.floor)));
        }
        self.packed.get_or_insert_with(|| Packed::new(seq, main)).push(record);
        let (key, fields) = (record.key().to_vec(), record.fields());
        let kept = older.filter(|_| tombstone);
        let lease = LeaseId(fields.lease);
        self.attach(&key, older.map_or(LeaseId::NONE, |older| older.lease), lease);
        let entry = KeyEntry {
            seq,
            modified: main,
            created: kept.map_or(Revision(fields.create_revision), |older| older.created),
            version: kept.map_or(fields.version, |older| older.version),
            wire_len: record.wire().len() as u32,
            lease,
            tombstone,
        };
        self.index.put(&key, &entry).expect("all pages are in memory");
        Ok(())
    }

    fn attach(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if from != LeaseId::NONE {
            let row = lease::attachment_row(from, key);
            self.index.remove_row(Table::LeaseKeys, &row).expect("all pages are in memory");
        }
        if to != LeaseId::NONE {
            self.row(Table::LeaseKeys, &lease::attachment_row(to, key), &[]);
        }
    }

    fn pack(&mut self) {
        if let Some(packed) = self.packed.take() {
            self.history.import(packed);
        }
    }

    /// Carries out what the history has to write.
    fn flush(&mut self, disk: &mut dyn Disk) -> Result<(), Error> {
        while let Some((token, op)) = self.history.poll_disk() {
            let outcome = disk.run(op);
            self.history.on_completed(token, outcome).map_err(Error::History)?;
        }
        Ok(())
    }

    /// History first, then the index with its one meta page.
    fn finish(mut self, disk: &mut dyn Disk, head: &Head, old: Vec<u64>) -> Result<(), Error> {
        let mark = self.history.begin_checkpoint();
        self.flush(disk)?;
        if !self.history.is_stable() {
            return Err(Error::Damaged("there is no room for it on the disk".into()));
        }
        let chunks: Vec<_> = self.history.chunks().copied().collect();
        for info in chunks {
            self.row(Table::HistorySegment, &info.key(), &info.encode());
        }
        let saved = Saved { marked: self.floor, let_go: old, ..Saved::default() };
        self.row(Table::Misc, reclaim::ROW, &saved.encode());
        let root = self.index.root();
        let payload = Payload { root, state: head.state, applied: head.applied, mark };
        let pages = self.index.pages_mut();
        pages.publish(root.page, map::Tag::default());
        let mut job = CheckpointJob::new(pages.begin_checkpoint(&payload.encode()), head.applied);
        job.run(disk, || {}).map_err(Error::Index)?;
        if !job.checkpoint.is_durable() {
            return Err(Error::Damaged("there is no room for its index on the disk".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::disk::mem::MemDisk;
    use crate::map::Limits;
    use crate::request::{DeleteRange, KeyRange, Op as TxnOp, Put, Txn, Write};

    #[test]
    fn a_key_that_the_floors_own_revision_deleted_and_wrote_again_is_no_damage() {
        // The simulator found it: cluster 688.
        let put = |value: &'static [u8]| Put { key: b"k", value, ..Put::default() };
        let mut world = World::new(1, 20, usize::MAX, 1 << 20);
        world.run(&Write::Put(put(b"before"))).unwrap();
        let delete = DeleteRange { keys: KeyRange::new(b"k", b""), prev_kv: false };
        let success = vec![TxnOp::DeleteRange(delete), TxnOp::Put(put(b"again"))];
        world.run(&Write::Txn(Txn { success, ..Txn::default() })).unwrap();
        world.publish();
        let (view, floor) = (world.store.view(), Revision(3));
        let floor_last = view.history.last_seq_at(floor).unwrap();
        let limits = Limits { page_count_max: 1024, frame_count_max: 2048, readers_max: 8 };
        let writer = map::open(&mut MemDisk::new(), None, limits).unwrap().writer;
        let mut build = Build {
            index: Index::new(writer, Root::EMPTY),
            history: History::begin_import(history::Config::default(), 0),
            floor,
            packed: None,
            last: (Seq(0), Revision::INITIAL),
        };
        let mut sent = 0;
        for seq in (1..=floor_last.0).map(Seq) {
            let record = view.history.record(seq).unwrap().unwrap();
            if world.store.is_alive(&record, floor, floor_last).unwrap() {
                build.add(&record).unwrap();
                sent += 1;
            }
        }
        assert_eq!(sent, 2, "the tombstone and what was put behind it");
        let entry = build.index.get(b"k").unwrap().unwrap();
        assert_eq!((entry.seq, entry.modified, entry.version), (floor_last, floor, 1));
    }
}
