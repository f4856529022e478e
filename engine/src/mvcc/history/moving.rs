//! What reclaim asks of the history: records in order, counts of dead ones, and chunks in the place of others.
//!
//! Nothing here decides what is dead; `mvcc::reclaim` does. A chunk that is moved keeps the numbers of its records, so
//! that nothing which points to them changes; it goes to a file of its own stream, behind what was moved before.

use std::sync::Arc;

use bytes::Bytes;

use super::chunk::{Packed, Table};
use super::directory::{ChunkInfo, Slot};
use super::record::Record;
use super::{History, OpenError, table_of};
use crate::mvcc::Cold;
use crate::types::{Revision, Seq};

/// An unfinished chunk that is shorter than this part of an ordinary one is left alone: dead records in it cost little.
const CLOSED_PART: usize = 8;

/// The state of moving.
#[derive(Debug, Default)]
pub struct Moves {
    /// File and offset where the next moved chunk goes, once there was one.
    place: Option<(u64, u64)>,
    /// Files without chunks, to be removed when nobody reads them any more.
    leaving: Vec<u64>,
    /// Dead records of the active chunk.
    pub active_dead: u32,
    /// Bytes of dead records in finished chunks.
    dead_bytes: u64,
}

/// A chunk in memory because reclaim asked for it.
#[derive(Debug)]
pub struct Loaded {
    first: Seq,
    bytes: Bytes,
    table: Arc<Table>,
}

/// What the dead scan needs of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub seq: Seq,
    /// Its revision.
    pub main: Revision,
    /// The key's version before it.
    pub prev: Option<Seq>,
    /// The key, if it ends a generation.
    pub tombstone: Option<Vec<u8>>,
    /// Whether it opens one.
    pub creates: bool,
}

impl Seen {
    fn of(record: &Record<'_>) -> Seen {
        let fields = record.fields();
        Seen {
            seq: record.seq(),
            main: record.main(),
            prev: record.prev(),
            tombstone: record.is_tombstone().then(|| fields.key.to_vec()),
            creates: fields.version == 1,
        }
    }
}

/// A chunk whose records are read one after the other.
#[derive(Debug)]
pub struct Source {
    /// Where it is, and what it stands for.
    pub info: ChunkInfo,
    bytes: Bytes,
    table: Arc<Table>,
    next: usize,
    /// Its bytes come from the disk and were not looked at.
    unchecked: bool,
}

impl Source {
    /// The next record; [`Source::pass`] goes on to the one behind it.
    pub fn record(&self) -> Result<Option<Record<'_>>, Cold> {
        let Some((seq, _, offset)) = self.table.row(self.next) else { return Ok(None) };
        let bytes = self.bytes.get(offset..).unwrap_or_default();
        if !self.unchecked {
            return Ok(Some(Record::trusted(bytes)));
        }
        match Record::parse(bytes) {
            Ok(record) if record.seq() == seq => Ok(Some(record)),
            other => Err(Cold::Damaged(format!(
                "{} at offset {}: record {seq} of the chunk there is {other:?}",
                self.info.file(),
                self.info.offset
            ))),
        }
    }

    /// Goes on to the next record.
    pub fn pass(&mut self) {
        self.next += 1;
    }
}

impl History {
    /// A finished chunk is listed.
    pub(super) fn list(&mut self, info: ChunkInfo) {
        self.finished_bytes += u64::from(info.region);
        self.moves.dead_bytes += info.dead_bytes();
        self.shelf.add(&info);
    }

    /// Bytes that dead records take in finished chunks, as far as they are marked.
    pub fn dead_bytes(&self) -> u64 {
        self.moves.dead_bytes
    }

    /// Dead records of the unfinished chunk, which has no row: the reclaim row of a checkpoint keeps them.
    pub fn active_dead(&self) -> u32 {
        self.moves.active_dead
    }

    /// Sets what [`History::active_dead`] was at the checkpoint that was opened.
    pub fn set_active_dead(&mut self, dead: u32) {
        self.moves.active_dead = dead;
    }

    /// Up to `max` records from `next` to `last`, both included, with the number from which to go on; a scan ends at the
    /// end of a chunk.
    pub fn scan(&self, next: Seq, last: Seq, max: usize) -> Result<(Vec<Seen>, Seq), Cold> {
        let mut seen = Vec::new();
        let over = Seq(last.0 + 1);
        if let Some(active) = &self.active
            && next >= active.table().first_seq()
        {
            let from = active.table().position(next);
            for (seq, _, _) in (from..).map_while(|position| active.table().row(position)) {
                if seq > last || seen.len() == max {
                    return Ok((seen, seq.min(over)));
                }
                let row = active.table().find(seq).expect("its own row");
                seen.push(Seen::of(&active.record(row)));
            }
            return Ok((seen, over));
        }
        let Some(slot) = self.finished.of_seq(next).or_else(|| self.finished.after(next)) else {
            let active = self.active.as_ref().map(|active| active.table().first_seq());
            return Ok((seen, active.map_or(over, |first| first.min(over))));
        };
        let mut source = self.source(slot.info.first_seq)?;
        source.next = source.table.position(next);
        while let Some(record) = source.record()? {
            if record.seq() > last || seen.len() == max {
                return Ok((seen, record.seq().min(over)));
            }
            seen.push(Seen::of(&record));
            source.pass();
        }
        Ok((seen, Seq(slot.info.last_seq.0 + 1).min(over)))
    }

    /// The finished chunk that begins with `first`, to be read from its beginning.
    pub fn source(&self, first: Seq) -> Result<Source, Cold> {
        let slot = self.finished.of_seq(first).expect("a chunk that reclaim reads is listed");
        let source = |bytes: &Bytes, table: &Arc<Table>, unchecked| Source {
            info: slot.info,
            bytes: bytes.clone(),
            table: Arc::clone(table),
            next: 0,
            unchecked,
        };
        match (&slot.bytes, &slot.table, &self.loaded) {
            (Some(bytes), Some(table), _) => Ok(source(bytes, table, false)),
            (_, _, Some(loaded)) if loaded.first == first => Ok(source(&loaded.bytes, &loaded.table, true)),
            _ => Err(Cold::Chunk(first)),
        }
    }

    pub(super) fn install_chunk(&mut self, first: Seq, bytes: Bytes) -> Result<(), OpenError> {
        let slot = self.finished.of_seq(first).expect("its place was compared");
        let tail = bytes.len() - Table::tail_len(slot.info.records);
        let table = Arc::new(table_of(&slot.info, &bytes[tail..])?);
        self.loaded = Some(Loaded { first: slot.info.first_seq, bytes, table });
        Ok(())
    }

    /// A record is dead. Returns the chunk whose row has changed by it, if it is in a finished one.
    pub fn mark_dead(&mut self, seq: Seq) -> Option<Seq> {
        if let Some(active) = &self.active
            && seq >= active.table().first_seq()
        {
            self.moves.active_dead += 1;
            return None;
        }
        let slot = self.finished.of_seq_mut(seq)?;
        self.moves.dead_bytes -= slot.info.dead_bytes();
        // More dead records than records cannot be; a count that is wrong must not spread.
        slot.info.dead = (slot.info.dead + 1).min(slot.info.records);
        self.moves.dead_bytes += slot.info.dead_bytes();
        Some(slot.info.first_seq)
    }

    /// Bytes of an ordinary chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.config.chunk_bytes
    }

    /// The chunk that begins with `first`.
    pub fn chunk(&self, first: Seq) -> Option<&ChunkInfo> {
        self.finished.of_seq(first).map(|slot| &slot.info).filter(|info| info.first_seq == first)
    }

    /// The chunk behind the one that begins with `first`.
    pub fn chunk_after(&self, first: Seq) -> Option<&ChunkInfo> {
        self.finished.after(first).map(|slot| &slot.info)
    }

    /// Finishes the unfinished chunk if half of its records are dead and it is long enough to care, so that it may be
    /// moved as well. Returns its first record. Not inside a transaction.
    pub fn close_dead(&mut self) -> Option<Seq> {
        let active = self.active.as_ref()?;
        let is_dead = u64::from(self.moves.active_dead) * 2 >= u64::from(active.records());
        if self.open || !is_dead || active.filled() * CLOSED_PART < self.config.chunk_bytes {
            return None;
        }
        let first = active.table().first_seq();
        self.finish_active();
        Some(first)
    }

    /// Whether the chunk that begins with `first` is still on its way into its file.
    pub fn is_unwritten(&self, first: Seq) -> bool {
        self.finished.of_seq(first).is_some_and(|slot| slot.info.first_seq == first && !slot.written)
    }

    /// Chunks that may be moved: those that are wholly in their files.
    pub fn movable(&self) -> impl Iterator<Item = &ChunkInfo> {
        self.finished.iter().filter(|slot| slot.written).map(|slot| &slot.info)
    }

    /// Files whose chunks take less than half of them, but for those that are appended to.
    pub fn sparse_files(&self) -> impl Iterator<Item = u64> + '_ {
        let appended = [Some(self.segment), self.moves.place.map(|(segment, _)| segment)];
        let sparse = self.shelf.uses().filter(|(_, using)| using.bytes * 2 < using.end);
        sparse.map(|(segment, _)| segment).filter(move |segment| !appended.contains(&Some(*segment)))
    }

    /// Puts `packed` in the place of the chunks that begin with `first` to `last`, or nothing if it is empty, and
    /// queues its write. Returns its row.
    pub fn replace(&mut self, first: Seq, last: Seq, packed: Packed) -> Option<ChunkInfo> {
        let begins = self.chunk(first).copied().expect("a chunk that was moved is listed");
        let ends = self.chunk(last).copied().expect("a chunk that was moved is listed");
        let slot = (packed.records() > 0).then(|| self.place_moved(begins, ends, packed));
        let info = slot.as_ref().map(|slot| slot.info);
        for old in self.finished.replace(first, last, slot) {
            assert!(old.written, "{:?} was moved before it was written", old.info);
            self.finished_bytes -= u64::from(old.info.region);
            self.moves.dead_bytes -= old.info.dead_bytes();
            self.shelf.remove(&old.info);
            if self.segment != old.info.segment
                && self.moves.place.is_none_or(|(segment, _)| segment != old.info.segment)
            {
                self.shelf.vacate(old.info.segment);
            }
        }
        self.loaded = None;
        info
    }

    /// A history to be filled with [`History::import`]; files up to `newest` are not its own.
    pub fn begin_import(config: super::Config, newest: u64) -> History {
        History { segment: newest + 1, next_segment: newest + 2, ..History::new(config) }
    }

    /// Adds a chunk of another member's records, behind those that are there, and queues its write.
    pub fn import(&mut self, packed: Packed) {
        let region = packed.region() as u64;
        let records = packed.records();
        self.place(region);
        let (bytes, table) = packed.finish();
        let bytes = Bytes::from(bytes);
        let (last_seq, last_main, _) = table.row(table.len() - 1).expect("a chunk has records");
        let info = ChunkInfo {
            first_seq: table.first_seq(),
            last_seq,
            first_main: table.first_main(),
            last_main,
            segment: self.segment,
            offset: self.offset,
            region: region as u32,
            records,
            dead: 0,
        };
        assert!(info.first_seq > self.last_seq, "chunk {info:?} behind record {}", self.last_seq);
        self.flush.write(self.segment, self.offset, bytes.clone(), Some(info.first_seq));
        self.finished.push(Slot { info, table: Some(Arc::new(table)), bytes: Some(bytes), written: false });
        self.list(info);
        self.offset += region;
        (self.last_seq, self.last_main) = (last_seq, last_main);
    }

    fn place_moved(&mut self, begins: ChunkInfo, ends: ChunkInfo, packed: Packed) -> Slot {
        let (region, records) = (packed.region() as u64, packed.records());
        let fits = |place: &(u64, u64)| place.1 + region <= self.config.segment_bytes;
        let (segment, offset) = self.moves.place.filter(fits).unwrap_or_else(|| {
            let segment = self.next_segment;
            self.next_segment += 1;
            self.flush.create(segment);
            if let Some((full, _)) = self.moves.place.replace((segment, 0)) {
                self.shelf.vacate(full);
            }
            (segment, 0)
        });
        self.moves.place = Some((segment, offset + region));
        let (bytes, table) = packed.finish();
        let bytes = Bytes::from(bytes);
        let info = ChunkInfo {
            first_seq: begins.first_seq,
            last_seq: ends.last_seq,
            first_main: begins.first_main,
            last_main: ends.last_main,
            segment,
            offset,
            region: region as u32,
            records,
            dead: 0,
        };
        self.flush.write(segment, offset, bytes.clone(), Some(info.first_seq));
        self.list(info);
        Slot { info, table: Some(Arc::new(table)), bytes: Some(bytes), written: false }
    }

    /// Files that the next checkpoint lets go.
    pub fn vacated(&self) -> &[u64] {
        self.shelf.vacated()
    }

    /// Whether the disk has no room for what is to be written; it waits for [`History::retry_space`].
    pub fn is_full(&self) -> bool {
        self.flush.is_full()
    }

    /// There may be room now.
    pub fn retry_space(&mut self) {
        self.flush.retry();
    }

    /// Whether no write is under way.
    pub fn is_idle(&self) -> bool {
        self.flush.is_idle()
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.flush.queued_bytes()
    }

    /// Whether files wait for checkpoints.
    pub fn waits_for_checkpoint(&self) -> bool {
        self.shelf.is_waiting()
    }

    /// Whether files wait for checkpoints, or for their readers.
    pub fn is_releasing(&self) -> bool {
        self.shelf.is_waiting() || !self.moves.leaving.is_empty()
    }

    /// A checkpoint was pinned, and lists [`History::vacated`].
    pub fn on_checkpoint_pinned(&mut self) {
        self.shelf.on_pinned();
    }

    /// That checkpoint is durable.
    pub fn on_checkpoint_durable(&mut self) {
        self.moves.leaving.extend(self.shelf.on_durable());
    }

    /// Queues the end of files that left and that nobody reads.
    pub(super) fn remove_unread(&mut self) {
        let History { moves, cold, flush, .. } = self;
        moves.leaving.retain(|&segment| {
            let read = cold.is_reading(segment);
            if !read {
                flush.remove(segment);
            }
            read
        });
    }
}
