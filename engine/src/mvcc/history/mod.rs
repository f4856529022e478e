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

use bytes::Bytes;

use crate::disk::{self, Disk, DiskError, FileName, Op, Outcome, Output, Owner, Token};
use crate::mvcc::Cold;
use crate::seeded::{self, Bug};
use crate::types::{Revision, Seq};
use chunk::{Active, Table};
use cold::{ColdRecords, Wanted};
use directory::{ChunkInfo, Directory, Slot};
use flush::{Flush, Progress};
use jump::Jumps;
use record::{Change, NewRecord, Record};

/// Sizes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A file takes chunks until the next one would pass this.
    pub segment_bytes: u64,
    /// Finished chunks beyond this leave memory, oldest first.
    pub resident_bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { segment_bytes: 64 << 20, resident_bytes: 256 << 20 }
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
    new_rows: Vec<ChunkInfo>,
    last_seq: Seq,
    last_main: Revision,
    /// A transaction is open.
    open: bool,
    jumps: Jumps,
    flush: Flush,
    cold: ColdRecords,
    spare: Vec<Vec<u8>>,
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
        }
    }

    /// Opens the history that a checkpoint left: its finished chunks in order, and where it ended. Reads the one
    /// unfinished chunk, and no other.
    ///
    /// Errors: a disk that refuses, or stored bytes that are not what the checkpoint promised.
    pub fn open(
        config: Config,
        rows: Vec<ChunkInfo>,
        mark: Mark,
        disk: &mut dyn Disk,
    ) -> Result<History, OpenError> {
        let mut history = History::new(config);
        (history.last_seq, history.last_main) = (Seq(mark.last_seq), Revision(mark.last_main));
        (history.segment, history.offset) = (mark.segment, mark.offset);
        for info in rows {
            history.finished_bytes += u64::from(info.region);
            history.finished.push(Slot { info, table: None, bytes: None, written: true });
        }
        let begun = mark.offset > 0 || mark.written > 0;
        remove_strays(&history.finished, begun.then_some(mark.segment), disk).map_err(OpenError::Disk)?;
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
            let active = Active::new(self.spare.pop().unwrap_or_default(), seq, main, len);
            self.place(active.region() as u64);
            self.active = Some(active);
        }
        self.active.as_mut().expect("just made")
    }

    /// Chooses the file and offset for a chunk of `region` bytes.
    fn place(&mut self, region: u64) {
        if self.offset > 0 && self.offset + region > self.config.segment_bytes {
            self.segment += 1;
            self.offset = 0;
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
        };
        let at = self.offset + self.submitted as u64;
        self.flush.write(self.segment, at, bytes.slice(self.submitted..), Some(first_seq));
        self.finished.push(Slot { info, table: Some(table), bytes: Some(bytes), written: false });
        self.new_rows.push(info);
        self.finished_bytes += region as u64;
        self.offset += region as u64;
        self.submitted = 0;
    }

    /// Chunks finished since the last call; the caller puts their rows into the index before it publishes.
    pub fn take_finished(&mut self) -> Vec<ChunkInfo> {
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
        if let Some(bytes) = self.cold.record(seq) {
            return Ok(Some(Record::trusted(bytes)));
        }
        let Some(table) = &slot.table else { return Err(Cold::Record(seq)) };
        let Some(row) = table.find(seq) else { return Ok(None) };
        match &slot.bytes {
            Some(bytes) => Ok(Some(Record::trusted(&bytes[row.offset as usize..]))),
            None => Err(Cold::Record(seq)),
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
        Ok(table.last_at(revision).expect("the chunk begins at or below the revision"))
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

    /// Asks for what a read found cold; [`History::poll_disk`] has the operation, and [`History::on_completed`] says when
    /// what is returned here has come.
    pub fn fetch(&mut self, cold: &Cold) -> Wanted {
        let wanted = match *cold {
            Cold::Record(seq) => match self.finished.of_seq(seq) {
                Some(Slot { table: None, info, .. }) => Wanted::Table(info.first_seq),
                Some(_) => Wanted::Record(seq),
                None => unreachable!("record {seq} is in no chunk, and so never cold"),
            },
            Cold::Table(first) => Wanted::Table(first),
            Cold::Run(first) => {
                self.fetch_run_behind(first);
                Wanted::Run(first)
            }
            Cold::Page(_) | Cold::Damaged(_) => unreachable!("{cold:?} is not the history's"),
        };
        self.cold.want(wanted);
        wanted
    }

    /// The next operation to carry out: chunks on their way to the files, and cold reads.
    pub fn poll_disk(&mut self) -> Option<(Token, Op)> {
        if let Some(work) = self.flush.poll() {
            return Some(work);
        }
        let wanted = self.cold.take()?;
        let id = self.flush.take_id();
        self.cold.started(id, wanted);
        Some((Token { owner: Owner::History, id }, self.read_of(wanted)))
    }

    fn read_of(&self, wanted: Wanted) -> Op {
        let seq = match wanted {
            Wanted::Table(seq) | Wanted::Record(seq) | Wanted::Run(seq) => seq,
        };
        let slot = self.finished.of_seq(seq).expect("what was cold is in a chunk");
        let tail = Table::tail_len(slot.info.records);
        let (at, enough, len) = match wanted {
            Wanted::Table(_) => (slot.info.region as usize - tail, tail, tail),
            Wanted::Run(_) => (0, slot.info.region as usize, slot.info.region as usize),
            Wanted::Record(seq) => {
                let table = slot.table.as_ref().expect("a record is asked for after its table");
                let end = slot.info.region as usize - tail;
                let (at, len) = table.extent(seq, end).expect("a cold record has a row");
                (at, len, len.max(READ_AHEAD.min(end - at)))
            }
        };
        Op::Read { file: slot.info.file(), offset: slot.info.offset + at as u64, len, enough }
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
        let wanted = self.cold.finished(token.id).expect("a completion of a history read under way");
        let Output::Data(data) = outcome.map_err(OpenError::Disk)? else {
            unreachable!("a read returned no data");
        };
        match wanted {
            Wanted::Table(first) => self.install_table(first, &data)?,
            Wanted::Record(seq) => self.install_record(seq, data)?,
            Wanted::Run(first) => self.install_run(first, data)?,
        }
        Ok(Some(wanted))
    }

    fn install_table(&mut self, first: Seq, tail: &[u8]) -> Result<(), OpenError> {
        let slot = self.finished.of_seq_mut(first).expect("a table's chunk is listed");
        let table = Table::parse(tail, slot.info.first_seq, slot.info.first_main)
            .filter(|table| table.last_seq() == slot.info.last_seq);
        let place = || format!("{} at offset {}: damaged table", slot.info.file(), slot.info.offset);
        slot.table = Some(table.ok_or_else(|| OpenError::Damaged(place()))?);
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
            if record.seq().0 != last.0 + 1 {
                return;
            }
            last = record.seq();
            let len = record.padded_len().min(data.len());
            self.cold.keep(last, data.split_to(len));
        }
    }

    fn evict(&mut self) {
        let spare = &mut self.spare;
        self.finished.evict(self.config.resident_bytes, |bytes| {
            let ordinary = bytes.len() == chunk::REGION;
            if ordinary && spare.len() < SPARE_BUFFERS_MAX && bytes.is_unique() {
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

/// Removes files that the checkpoint does not know: what was begun after it will be begun again.
fn remove_strays(finished: &Directory, begun: Option<u64>, disk: &mut dyn Disk) -> Result<(), DiskError> {
    for (file, _) in disk.list()? {
        let FileName::History(segment) = file else { continue };
        let known = begun == Some(segment) || finished.iter().any(|slot| slot.info.segment == segment);
        if !known {
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
