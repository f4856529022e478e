//! The history: every version of every key, in revision order, in wire form.
//!
//! Append-only. A record is found by its sequence number; a key's records are chained from the newest back, and the
//! index knows the newest. Range answers, watch events and HashKV copy the stored bytes out unchanged.
//!
//! Records gather in an [active chunk](chunk::Active) of 256 KiB; full chunks go to files of 64 MiB
//! and stay resident until the memory budget evicts them. Nothing waits for these writes: what a crash loses is in
//! the log, and replay appends it again at the same place. Only a checkpoint makes the history stable, and the
//! checkpoint's meta page is what says how far it reaches ([`Mark`]).
//!
//! Reads never touch the disk: a record that is not resident is [`Cold`], the caller [asks](History::fetch) for it
//! and tries again when it is there.

// One record, byte by byte.
pub mod record;

// Jump pointers between a key's records.
pub mod jump;

// The unit of writing, finding and eviction.
pub mod chunk;

// Finished chunks, in order.
pub mod directory;

// Getting chunks into the files.
pub mod flush;

// Records that are on disk only.
pub mod cold;

// Records in order, a chunk at a time.
pub mod run;

// Files in use, and files that may go.
mod shelf;

// What reclaim asks of the history.
mod moving;

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{self, Disk, DiskError, FileName, Op, Outcome, Output, Owner, Token};
use crate::mvcc::Cold;
use crate::seeded::{self, Bug};
use crate::types::{Revision, Seq};
use chunk::{Active, Table};
use cold::{ColdRecords, Place, Wanted};
use directory::{ChunkInfo, Directory, Slot};
use flush::{Flush, Progress};
use jump::Jumps;
use moving::{Loaded, Moves};
use record::{Change, NewRecord, Record};
use shelf::Shelf;

pub use moving::{Seen, Source};

/// Sizes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A file takes chunks until the next one would pass this.
    pub segment_bytes: u64,
    /// A chunk takes records until the next one would pass this; a multiple of 4096.
    pub chunk_bytes: usize,
    /// Finished chunks beyond this leave memory, oldest first.
    pub resident_bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { segment_bytes: 64 << 20, chunk_bytes: chunk::REGION, resident_bytes: 256 << 20 }
    }
}

/// Buffers of evicted chunks kept for reuse: fresh memory faults on first touch, recycled memory does not.
const SPARE_BUFFERS_MAX: usize = 8;

/// Bytes read with a cold record, if the chunk has as many and they come from a disk: it reads no less in the same time,
/// and what was written together is often read together.
const READ_AHEAD: usize = 16 << 10;

/// Where the history ended at a checkpoint; part of the meta page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Records of finished and unfinished chunks: the last sequence number.
    pub last_seq: u64,
    /// Revision of the last record; 1 for an empty history.
    pub last_main: i64,
    /// File of the unfinished chunk.
    pub segment: u64,
    /// Its offset there.
    pub offset: u64,
    /// Bytes of it that are written, a multiple of 4096; 0 if there is no unfinished chunk.
    pub written: u32,
    /// Records in those bytes.
    pub records: u32,
}

/// All versions not yet reclaimed.
#[derive(Debug)]
pub struct History {
    config: Config,
    finished: Directory,
    /// Bytes of all finished chunks.
    finished_bytes: u64,
    active: Option<Active>,
    /// Where the active chunk, or else the next one, goes.
    segment: u64,
    offset: u64,
    /// Bytes of the active chunk that were handed to the disk.
    submitted: usize,
    /// Chunks finished since [`History::take_finished`].
    new_rows: Vec<Seq>,
    last_seq: Seq,
    last_main: Revision,
    /// A transaction is open.
    open: bool,
    jumps: Jumps,
    flush: Flush,
    cold: ColdRecords,
    spare: Vec<Vec<u8>>,
    shelf: Shelf,
    /// Number of the next new file.
    next_segment: u64,
    moves: Moves,
    /// The chunk that reclaim had read.
    loaded: Option<Loaded>,
    /// Something that was asked for need not be read any more.
    settled: Vec<Wanted>,
}

impl History {
    /// An empty history.
    pub fn new(config: Config) -> History {
        History {
            config,
            finished: Directory::default(),
            finished_bytes: 0,
            active: None,
            segment: 0,
            offset: 0,
            submitted: 0,
            new_rows: Vec::new(),
            last_seq: Seq(0),
            last_main: Revision::INITIAL,
            open: false,
            jumps: Jumps::default(),
            flush: Flush::default(),
            cold: ColdRecords::default(),
            spare: Vec::new(),
            shelf: Shelf::default(),
            next_segment: 1,
            moves: Moves::default(),
            loaded: None,
            settled: Vec::new(),
        }
    }

    /// Opens the history that a checkpoint left: its finished chunks in order, and where it ended. Reads the one
    /// unfinished chunk, and no other. `let_go` are files that the checkpoint before it may need, and it does not.
    ///
    /// Errors: a disk that refuses, or stored bytes that are not what the checkpoint promised.
    pub fn open(
        config: Config,
        rows: Vec<ChunkInfo>,
        mark: Mark,
        let_go: Vec<u64>,
        disk: &mut dyn Disk,
    ) -> Result<History, OpenError> {
        let mut history = History::new(config);
        (history.last_seq, history.last_main) = (Seq(mark.last_seq), Revision(mark.last_main));
        (history.segment, history.offset) = (mark.segment, mark.offset);
        let files = disk.list().map_err(OpenError::Disk)?;
        // One that is listed may be gone: the newer checkpoint, which let it go, was durable once and is rotten now.
        let exists = |segment: &u64| files.iter().any(|(file, _)| *file == FileName::History(*segment));
        let let_go: Vec<u64> = let_go.into_iter().filter(exists).collect();
        let newest = let_go.iter().copied().chain(rows.iter().map(|info| info.segment)).max();
        history.next_segment = newest.unwrap_or(0).max(mark.segment) + 1;
        history.shelf = Shelf::opened(let_go.clone());
        for info in rows {
            history.list(info);
            history.finished.push(Slot { info, table: None, bytes: None, written: true });
        }
        let begun = mark.offset > 0 || mark.written > 0;
        let known = let_go.into_iter().chain(begun.then_some(mark.segment)).collect::<Vec<_>>();
        remove_strays(&history.shelf, &known, disk).map_err(OpenError::Disk)?;
        if mark.written > 0 {
            let file = FileName::History(mark.segment);
            let bytes =
                disk::read(disk, file, mark.offset, mark.written as usize).map_err(OpenError::Disk)?;
            let active = Active::reopen(bytes.to_vec(), mark.records)
                .map_err(|what| OpenError::Damaged(format!("{file} at offset {}: {what}", mark.offset)))?;
            history.submitted = mark.written as usize;
            history.active = Some(active);
        }
        let reached = history.active.as_ref().map(|active| active.table().last_seq());
        let reached = reached.or(history.finished.last().map(|slot| slot.info.last_seq)).unwrap_or(Seq(0));
        if reached != history.last_seq {
            return Err(OpenError::Damaged(format!(
                "history ends at record {reached}, not at {}",
                mark.last_seq
            )));
        }
        Ok(history)
    }

    /// Sequence number the next record gets.
    pub fn next_seq(&self) -> Seq {
        Seq(self.last_seq.0 + 1)
    }

    /// Revision of the last record; 1 if there is none.
    pub fn last_main(&self) -> Revision {
        self.last_main
    }

    /// Appends a version. Records of one transaction follow each other with `sub` from 0, and
    /// [`History::end_transaction`] closes them; revisions are dense.
    pub fn append(&mut self, new: &NewRecord<'_>) -> Seq {
        let seq = self.next_seq();
        assert_eq!(new.sub == 0, !self.open, "record {seq} at sub revision {} of {}", new.sub, new.main);
        assert!(new.prev.is_none_or(|p| p < seq), "record {seq} would follow {:?}", new.prev);
        let expected = if self.open { self.last_main } else { self.last_main.next() };
        assert_eq!(new.main, expected, "record {seq} skips a revision");
        let version = match new.change {
            Change::Put { version, .. } => version,
            Change::Delete => 0,
        };
        let jump = self.jumps.push(new.prev, seq, version);
        self.room_for(record::HEADER + new.wire_len(), seq, new.main).append(seq, jump, new);
        (self.last_seq, self.last_main, self.open) = (seq, new.main, true);
        seq
    }

    /// Closes the transaction; one without records leaves no trace.
    pub fn end_transaction(&mut self) {
        if std::mem::take(&mut self.open) {
            self.active.as_mut().expect("an open transaction has a record").seal_record(true);
        }
    }

    fn room_for(&mut self, len: usize, seq: Seq, main: Revision) -> &mut Active {
        if self.active.as_ref().is_some_and(|active| !active.fits(len, main)) {
            self.finish_active();
        }
        if self.active.is_none() {
            let active =
                Active::new(self.spare.pop().unwrap_or_default(), seq, main, len, self.config.chunk_bytes);
            self.place(active.region() as u64);
            self.active = Some(active);
        }
        self.active.as_mut().expect("just made")
    }

    /// Chooses the file and offset for a chunk of `region` bytes.
    fn place(&mut self, region: u64) {
        if self.offset > 0 && self.offset + region > self.config.segment_bytes {
            let full = std::mem::replace(&mut self.segment, self.next_segment);
            self.next_segment += 1;
            self.offset = 0;
            self.shelf.vacate(full);
        }
        if self.offset == 0 {
            self.flush.create(self.segment);
        }
    }

    fn finish_active(&mut self) {
        let Some(mut active) = self.active.take() else { return };
        active.seal_record(false);
        let (first_seq, region) = (active.table().first_seq(), active.region());
        let (bytes, table) = active.finish();
        let bytes = Bytes::from(bytes);
        let info = ChunkInfo {
            first_seq,
            last_seq: table.last_seq(),
            first_main: table.first_main(),
            last_main: self.last_main,
            segment: self.segment,
            offset: self.offset,
            region: region as u32,
            records: table.len() as u32,
            dead: std::mem::take(&mut self.moves.active_dead),
        };
        let at = self.offset + self.submitted as u64;
        self.flush.write(self.segment, at, bytes.slice(self.submitted..), Some(first_seq));
        self.finished.push(Slot { info, table: Some(Arc::new(table)), bytes: Some(bytes), written: false });
        self.new_rows.push(first_seq);
        self.list(info);
        self.offset += region as u64;
        self.submitted = 0;
    }

    /// Chunks finished since the last call; the caller puts their rows into the index before it publishes.
    pub fn take_finished(&mut self) -> Vec<Seq> {
        std::mem::take(&mut self.new_rows)
    }

    /// Fixes where the history ends for a checkpoint that is being pinned, and starts making it stable. Rows of
    /// [`History::take_finished`] must be taken after this and before the root is pinned.
    ///
    /// The caller waits for [`History::is_stable`] before it writes the meta page.
    pub fn begin_checkpoint(&mut self) -> Mark {
        assert!(!self.open, "a checkpoint inside a transaction");
        if self.active.as_ref().is_some_and(Active::is_nearly_full) {
            self.finish_active();
        }
        let mut mark = Mark {
            last_seq: self.last_seq.0,
            last_main: self.last_main.0,
            segment: self.segment,
            offset: self.offset,
            written: 0,
            records: 0,
        };
        if let Some(active) = &mut self.active {
            if active.filled() > self.submitted {
                let data = Bytes::copy_from_slice(active.pad(self.submitted));
                self.flush.write(self.segment, self.offset + self.submitted as u64, data, None);
                self.submitted = active.filled();
            }
            (mark.written, mark.records) = (active.filled() as u32, active.records());
        }
        self.flush.barrier();
        mark
    }

    /// Whether the last [`Mark`] is on stable storage.
    pub fn is_stable(&self) -> bool {
        !self.flush.has_barrier()
    }

    /// The record, or `None` if it was reclaimed or never written.
    pub fn record(&self, seq: Seq) -> Result<Option<Record<'_>>, Cold> {
        if let Some(active) = &self.active
            && seq >= active.table().first_seq()
        {
            return Ok(active.table().find(seq).map(|row| active.record(row)));
        }
        let Some(slot) = self.finished.of_seq(seq) else { return Ok(None) };
        let row = slot.table.as_ref().map(|table| table.find(seq));
        match (row, &slot.bytes, self.cold.record(seq)) {
            // Even if it is in memory still.
            (Some(None), _, _) => Ok(None),
            (Some(Some(row)), Some(bytes), _) => Ok(Some(Record::trusted(&bytes[row.offset as usize..]))),
            (_, _, Some(bytes)) => Ok(Some(Record::trusted(bytes))),
            _ => Err(Cold::Record(seq)),
        }
    }

    /// Last record of the newest revision at or below `revision`; `Seq(0)` if there is none.
    pub fn last_seq_at(&self, revision: Revision) -> Result<Seq, Cold> {
        if revision >= self.last_main {
            return Ok(self.last_seq);
        }
        if let Some(seq) = self.active.as_ref().and_then(|active| active.table().last_at(revision)) {
            return Ok(seq);
        }
        let Some(slot) = self.finished.of_revision(revision) else { return Ok(Seq(0)) };
        if revision >= slot.info.last_main {
            return Ok(slot.info.last_seq);
        }
        let table = slot.table.as_ref().ok_or(Cold::Table(slot.info.first_seq))?;
        // Without one, what the chunk stands for at the revision was reclaimed.
        Ok(table.last_at(revision).unwrap_or(Seq(slot.info.first_seq.0 - 1)))
    }

    /// The newest version at or before record `last` in the chain that ends at `newest`; `None` if the key was not
    /// there yet, or if that version was reclaimed.
    ///
    /// A jump is taken only if it leads to a record still newer than `last`, so that it never passes the version
    /// that is looked for.
    pub fn version_at(&self, newest: Seq, last: Seq) -> Result<Option<Record<'_>>, Cold> {
        match self.seq_at(newest, last)? {
            Some(seq) => self.record(seq),
            None => Ok(None),
        }
    }

    /// Like [`History::version_at`], but reads only records newer than `last`: the version that is found may be cold, or
    /// reclaimed.
    pub fn seq_at(&self, newest: Seq, last: Seq) -> Result<Option<Seq>, Cold> {
        let mut at = newest;
        while at > last {
            let Some(record) = self.record(at)? else { return Ok(None) };
            at = match (record.jump(), record.prev()) {
                (Some(jump), _) if jump > last || seeded::is(Bug::JumpOvershoots) => jump,
                (_, Some(prev)) => prev,
                (_, None) => return Ok(None),
            };
        }
        Ok(Some(at))
    }

    /// Asks for what a read found cold; [`History::poll_disk`] has the operation, and [`History::on_completed`], or
    /// [`History::take_settled`], says when what is returned here has come.
    pub fn fetch(&mut self, cold: &Cold) -> Wanted {
        let wanted = match *cold {
            Cold::Record(seq) => match self.finished.of_seq(seq) {
                Some(Slot { table: None, info, .. }) => Wanted::Table(info.first_seq),
                _ => Wanted::Record(seq),
            },
            Cold::Table(first) => Wanted::Table(first),
            Cold::Run(first) => {
                self.fetch_run_behind(first);
                Wanted::Run(first)
            }
            Cold::Chunk(first) => Wanted::Chunk(first),
            Cold::Page(_) | Cold::Damaged(_) => unreachable!("{cold:?} is not the history's"),
        };
        self.cold.want(wanted);
        wanted
    }

    /// The next operation to carry out: chunks on their way to the files, and cold reads.
    pub fn poll_disk(&mut self) -> Option<(Token, Op)> {
        self.remove_unread();
        if let Some(work) = self.flush.poll() {
            return Some(work);
        }
        while let Some(wanted) = self.cold.take() {
            let Some((place, op)) = self.read_of(wanted) else {
                // Reclaim was faster; whoever asked looks again.
                self.cold.forget(wanted);
                self.settled.push(wanted);
                continue;
            };
            let id = self.flush.take_id();
            self.cold.started(id, wanted, place);
            return Some((Token { owner: Owner::History, id }, op));
        }
        None
    }

    /// What was asked for and, since the last call, turned out to need no read.
    pub fn take_settled(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.settled)
    }

    /// The read that brings what is wanted, unless that is not there any more, or in memory: a chunk that was moved since it
    /// was asked for may not be in its file yet.
    fn read_of(&self, wanted: Wanted) -> Option<(Place, Op)> {
        let slot = self.finished.of_seq(wanted.seq()).filter(|slot| slot.bytes.is_none())?;
        let (region, tail) = (slot.info.region as usize, Table::tail_len(slot.info.records));
        let (at, enough, len) = match wanted {
            Wanted::Table(_) => (region - tail, tail, tail),
            Wanted::Run(_) | Wanted::Chunk(_) => (0, region, region),
            Wanted::Record(seq) => {
                let end = slot.info.region as usize - tail;
                let (at, len) = slot.table.as_ref()?.extent(seq, end)?;
                (at, len, len.max(READ_AHEAD.min(end - at)))
            }
        };
        let (segment, offset) = (slot.info.segment, slot.info.offset);
        let op = Op::Read { file: slot.info.file(), offset: offset + at as u64, len, enough };
        Some(((segment, offset), op))
    }

    /// Reports the outcome of an operation of [`History::poll_disk`]; returns what has come, if it was a read.
    ///
    /// Errors: final. A write or sync that failed cannot be repeated, and bytes that differ from what was written
    /// must not be answered from; the process ends.
    pub fn on_completed(&mut self, token: Token, outcome: Outcome) -> Result<Option<Wanted>, OpenError> {
        assert_eq!(token.owner, Owner::History, "a completion of {token:?}");
        if self.flush.owns(token.id) {
            if let Progress::Written(first) =
                self.flush.on_completed(token.id, outcome).map_err(OpenError::Disk)?
            {
                self.finished.of_seq_mut(first).expect("a written chunk is listed").written = true;
                self.evict();
            }
            return Ok(None);
        }
        let (wanted, place) = self.cold.finished(token.id).expect("a completion of a history read under way");
        let Output::Data(data) = outcome.map_err(OpenError::Disk)? else {
            unreachable!("a read returned no data");
        };
        let slot = self.finished.of_seq(wanted.seq());
        if slot.is_none_or(|slot| (slot.info.segment, slot.info.offset) != place) {
            // Reclaim moved the chunk meanwhile; whoever asked looks again.
            return Ok(Some(wanted));
        }
        match wanted {
            Wanted::Table(first) => self.install_table(first, &data)?,
            Wanted::Record(seq) => self.install_record(seq, data)?,
            Wanted::Run(first) => self.install_run(first, data)?,
            Wanted::Chunk(first) => self.install_chunk(first, data)?,
        }
        Ok(Some(wanted))
    }

    fn install_table(&mut self, first: Seq, tail: &[u8]) -> Result<(), OpenError> {
        let slot = self.finished.of_seq_mut(first).expect("a table's chunk is listed");
        slot.table = Some(Arc::new(table_of(&slot.info, tail)?));
        Ok(())
    }

    fn install_record(&mut self, seq: Seq, data: Bytes) -> Result<(), OpenError> {
        let info = self.finished.of_seq(seq).expect("a record's chunk is listed").info;
        let len = match Record::parse(&data) {
            Ok(record) if record.seq() == seq => record.padded_len().min(data.len()),
            other => {
                let found = other
                    .map_or_else(|damage| format!("{damage:?}"), |record| format!("record {}", record.seq()));
                return Err(OpenError::Damaged(format!(
                    "{} at offset {}: record {seq} of the chunk there is {found}",
                    info.file(),
                    info.offset,
                )));
            }
        };
        self.cold.keep(seq, data.slice(..len));
        self.install_neighbours(seq, data.slice(len..));
        Ok(())
    }

    /// Keeps the whole records behind one that was asked for. What does not parse is cut off, or padding, or will be
    /// reported when it is asked for.
    fn install_neighbours(&mut self, mut last: Seq, mut data: Bytes) {
        while let Ok(record) = Record::parse(&data) {
            if record.seq() <= last {
                return;
            }
            last = record.seq();
            let len = record.padded_len().min(data.len());
            self.cold.keep(last, data.split_to(len));
        }
    }

    fn evict(&mut self) {
        let (spare, ordinary) = (&mut self.spare, self.config.chunk_bytes);
        self.finished.evict(self.config.resident_bytes, |bytes| {
            if bytes.len() == ordinary && spare.len() < SPARE_BUFFERS_MAX && bytes.is_unique() {
                spare.push(Vec::from(bytes));
            }
        });
    }

    /// Bytes of all chunks, finished or not.
    pub fn size(&self) -> u64 {
        self.finished_bytes + self.active.as_ref().map_or(0, |active| active.filled() as u64)
    }

    /// Finished chunks with their places, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = &ChunkInfo> {
        self.finished.iter().map(|slot| &slot.info)
    }
}

/// The table of a finished chunk.
fn table_of(info: &ChunkInfo, tail: &[u8]) -> Result<Table, OpenError> {
    let table = Table::parse(tail, info.first_seq, info.first_main);
    table.filter(|table| table.last_seq() <= info.last_seq).ok_or_else(|| {
        OpenError::Damaged(format!("{} at offset {}: damaged table", info.file(), info.offset))
    })
}

/// Removes files that the checkpoint does not know: what was begun after it will be begun again.
fn remove_strays(shelf: &Shelf, known: &[u64], disk: &mut dyn Disk) -> Result<(), DiskError> {
    for (file, _) in disk.list()? {
        let FileName::History(segment) = file else { continue };
        if !known.contains(&segment) && !shelf.uses().any(|(used, _)| used == segment) {
            disk.run(Op::Remove { file })?;
        }
    }
    Ok(())
}

/// Why the history cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The disk refused an operation.
    Disk(DiskError),
    /// Stored bytes are not what was written; the text names file and offset.
    Damaged(String),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Disk(error) => error.fmt(f),
            OpenError::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests;
