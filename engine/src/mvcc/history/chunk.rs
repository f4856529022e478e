//! A chunk: the unit the history is written, found and evicted by.
//!
//! ```text
//!  offset        size
//!       0          4  magic "KTKC"
//!       4          2  format, 1
//!       6          2  reserved, 0
//!       8          4  region: bytes from this header to the end of the trailer, a multiple of 4096
//!      12          4  CRC-32 of bytes 0..12 and 16..32
//!      16          8  sequence number of the first record
//!      24          8  main revision of the first record
//!      32          -  records, each at a multiple of 8; a zero length word means: go on at the next block of 4096
//!       -          -  zeroes
//!  region-16-12n 12n  table: one row a record {seq - first 4, main - first 4, offset 4}, ascending
//!  region-16       4  records (n)
//!  region-12       4  CRC-32 of the table
//!  region-8        8  last sequence number
//! ```
//! Little endian. A chunk is written once, from front to back: a checkpoint may write the part it has, padded to a
//! block, and later writes start at the next block. The table is written when the chunk is full; until then it is in
//! memory only, and opening reads the records of the one unfinished chunk again.

use crate::disk::BLOCK_SIZE;
use crate::mvcc::history::record::{self, NewRecord, Record};
use crate::types::{Revision, Seq};

/// Bytes of an ordinary chunk; one record too large for it gets a region of its own.
pub const REGION: usize = 256 * 1024;

const HEADER: usize = 32;
const TRAILER: usize = 16;
const ROW: usize = 12;
const MAGIC: [u8; 4] = *b"KTKC";
const FORMAT: u16 = 1;
const _: () = assert!(REGION.is_multiple_of(BLOCK_SIZE) && HEADER.is_multiple_of(record::ALIGN));

/// Where one record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    seq: u32,
    main: u32,
    /// Offset of the record in its chunk.
    pub offset: u32,
}

/// Rows of a chunk, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    first_seq: Seq,
    first_main: Revision,
    rows: Vec<Row>,
}

impl Table {
    fn new(first_seq: Seq, first_main: Revision) -> Table {
        Table { first_seq, first_main, rows: Vec::new() }
    }

    /// First sequence number.
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// Main revision of the first record.
    pub fn first_main(&self) -> Revision {
        self.first_main
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Offset and length of what holds `seq`, padding included, where the records end at `end`.
    pub fn extent(&self, seq: Seq, end: usize) -> Option<(usize, usize)> {
        let row = self.find(seq)?;
        let next = self.rows.partition_point(|other| other.offset <= row.offset);
        let until = self.rows.get(next).map_or(end, |other| other.offset as usize);
        // Nothing at all if the row points behind the end: that is no record, and the reader will say so.
        Some((row.offset as usize, until.saturating_sub(row.offset as usize)))
    }

    /// Last sequence number.
    pub fn last_seq(&self) -> Seq {
        Seq(self.first_seq.0 + u64::from(self.rows.last().map_or(0, |row| row.seq)))
    }

    /// Row of `seq`, if the record is still here.
    pub fn find(&self, seq: Seq) -> Option<&Row> {
        let delta = u32::try_from(seq.0.checked_sub(self.first_seq.0)?).ok()?;
        // Without reclaimed records the row stands at its own number.
        match self.rows.get(delta as usize) {
            Some(row) if row.seq == delta => Some(row),
            _ => self.rows.binary_search_by_key(&delta, |row| row.seq).ok().map(|at| &self.rows[at]),
        }
    }

    /// Rows of `seq` and what follows it.
    pub fn rows_from(&self, seq: Seq) -> &[Row] {
        let delta = seq.0.saturating_sub(self.first_seq.0);
        &self.rows[self.rows.partition_point(|row| u64::from(row.seq) < delta)..]
    }

    /// Last record at or below `revision`; `None` if all are above.
    pub fn last_at(&self, revision: Revision) -> Option<Seq> {
        let delta = revision.0.checked_sub(self.first_main.0).filter(|d| *d >= 0)?;
        let after = self.rows.partition_point(|row| i64::from(row.main) <= delta);
        after.checked_sub(1).map(|at| Seq(self.first_seq.0 + u64::from(self.rows[at].seq)))
    }

    fn push(&mut self, seq: Seq, main: Revision, offset: usize) {
        let narrow =
            |n: u64, what: &str| u32::try_from(n).unwrap_or_else(|_| panic!("{what} {n} leaves the chunk"));
        self.rows.push(Row {
            seq: narrow(seq.0 - self.first_seq.0, "sequence number"),
            main: narrow((main.0 - self.first_main.0) as u64, "revision"),
            offset: narrow(offset as u64, "offset"),
        });
    }

    fn encoded_len(&self) -> usize {
        self.rows.len() * ROW + TRAILER
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for row in &self.rows {
            out.extend_from_slice(&row.seq.to_le_bytes());
            out.extend_from_slice(&row.main.to_le_bytes());
            out.extend_from_slice(&row.offset.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.last_seq().0.to_le_bytes());
    }

    /// Length of the tail of a chunk that holds a table of `records` rows.
    pub fn tail_len(records: u32) -> usize {
        records as usize * ROW + TRAILER
    }

    /// Reads the table from the tail of a chunk, `tail_len` bytes long.
    pub fn parse(tail: &[u8], first_seq: Seq, first_main: Revision) -> Option<Table> {
        let (body, trailer) = tail.split_at_checked(tail.len().checked_sub(TRAILER)?)?;
        let count = u32::from_le_bytes(trailer[..4].try_into().ok()?);
        let crc = u32::from_le_bytes(trailer[4..8].try_into().ok()?);
        if body.len() != count as usize * ROW || crc32fast::hash(body) != crc {
            return None;
        }
        let word =
            |row: &[u8], at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("four bytes"));
        let rows = body
            .chunks_exact(ROW)
            .map(|row| Row { seq: word(row, 0), main: word(row, 4), offset: word(row, 8) })
            .collect::<Vec<_>>();
        if !rows.is_sorted_by(|a, b| a.seq < b.seq && a.main <= b.main && a.offset < b.offset) {
            return None;
        }
        let table = Table { first_seq, first_main, rows };
        (table.last_seq().0.to_le_bytes() == trailer[8..16]).then_some(table)
    }
}

/// The chunk being written, in memory as it will stand on disk.
#[derive(Debug)]
pub struct Active {
    bytes: Vec<u8>,
    table: Table,
    region: usize,
    /// The last record's CRC is not filled in yet.
    open: bool,
}

impl Active {
    /// An empty chunk for a first record of `first_len` bytes, in a recycled buffer.
    pub fn new(mut bytes: Vec<u8>, first_seq: Seq, first_main: Revision, first_len: usize) -> Active {
        let needed = HEADER + first_len.next_multiple_of(record::ALIGN) + ROW + TRAILER;
        let region = needed.next_multiple_of(BLOCK_SIZE).max(REGION);
        bytes.clear();
        bytes.reserve(region);
        put_header(&mut bytes, region, first_seq, first_main);
        Active { bytes, table: Table::new(first_seq, first_main), region, open: false }
    }

    /// Reads an unfinished chunk back: `bytes` are the first blocks of its region, as a checkpoint left them, and
    /// `records` of them are known durable.
    pub fn reopen(bytes: Vec<u8>, records: u32) -> Result<Active, String> {
        let (region, first_seq, first_main) = parse_header(&bytes)?;
        let mut active = Active { bytes, table: Table::new(first_seq, first_main), region, open: false };
        let mut at = HEADER;
        while active.table.rows.len() < records as usize {
            at = skip_padding(&active.bytes, at);
            let rest = active.bytes.get(at..).ok_or_else(|| format!("record missing at {at}"))?;
            let record = Record::parse(rest).map_err(|damage| format!("record at {at}: {damage:?}"))?;
            let (seq, main, len) = (record.seq(), record.main(), record.padded_len());
            let numbered = first_seq.0.checked_add(active.table.rows.len() as u64) == Some(seq.0);
            let span = main.0.checked_sub(first_main.0).map(u32::try_from);
            if !numbered || !matches!(span, Some(Ok(_))) {
                return Err(format!("record at {at} is number {seq} of revision {main}"));
            }
            active.table.push(seq, main, at);
            at += len;
        }
        Ok(active)
    }

    /// Bytes of the region, the size it takes in the file.
    pub fn region(&self) -> usize {
        self.region
    }

    /// Bytes filled so far.
    pub fn filled(&self) -> usize {
        self.bytes.len()
    }

    /// Where its records are.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Records so far.
    pub fn records(&self) -> u32 {
        self.table.len() as u32
    }

    /// Whether a record of `len` bytes still fits, with its row.
    pub fn fits(&self, len: usize, main: Revision) -> bool {
        let filled = self.bytes.len() + len.next_multiple_of(record::ALIGN) + self.table.encoded_len() + ROW;
        filled <= self.region && main.0 - self.table.first_main.0 <= i64::from(u32::MAX)
    }

    /// Appends a record that fits.
    pub fn append(&mut self, seq: Seq, jump: Option<Seq>, new: &NewRecord<'_>) {
        self.seal_record(false);
        self.table.push(seq, new.main, self.bytes.len());
        record::encode(&mut self.bytes, seq, jump, new);
        self.open = true;
        assert!(
            self.bytes.len() + self.table.encoded_len() <= self.region,
            "record {seq} overflows its chunk"
        );
    }

    /// Finishes the newest record; `last` if it closes its transaction.
    pub fn seal_record(&mut self, last: bool) {
        if std::mem::take(&mut self.open) {
            let row = self.table.rows.last().expect("an open record has a row");
            record::seal(&mut self.bytes[row.offset as usize..], last);
        }
    }

    /// Pads to a block, so that what is there can be written for good, and returns the bytes from `from` on.
    pub fn pad(&mut self, from: usize) -> &[u8] {
        assert!(!self.open, "a checkpoint inside a transaction");
        // The table must still fit behind the padding; if it does not, the chunk is full anyway.
        let padded = self.bytes.len().next_multiple_of(BLOCK_SIZE).min(self.region);
        self.bytes.resize(padded, 0);
        &self.bytes[from..]
    }

    /// Whether padding now would leave no room for the table: the caller finishes the chunk instead.
    pub fn is_nearly_full(&self) -> bool {
        self.bytes.len().next_multiple_of(BLOCK_SIZE) + self.table.encoded_len() + BLOCK_SIZE > self.region
    }

    /// The whole region with its table, and the table itself.
    pub fn finish(mut self) -> (Vec<u8>, Table) {
        assert!(!self.open, "a chunk finished inside a record");
        self.bytes.resize(self.region - self.table.encoded_len(), 0);
        self.table.encode(&mut self.bytes);
        assert_eq!(self.bytes.len(), self.region, "table of the chunk at {}", self.table.first_seq);
        (self.bytes, self.table)
    }

    /// Header and records so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The record in `row`.
    pub fn record(&self, row: &Row) -> Record<'_> {
        Record::trusted(&self.bytes[row.offset as usize..])
    }
}

/// A zero length word means that the rest of the block is padding.
fn skip_padding(bytes: &[u8], at: usize) -> usize {
    let starts_here = bytes.get(at..at + 4).is_some_and(|word| word != [0; 4]);
    if starts_here || at.is_multiple_of(BLOCK_SIZE) { at } else { at.next_multiple_of(BLOCK_SIZE) }
}

fn put_header(out: &mut Vec<u8>, region: usize, first_seq: Seq, first_main: Revision) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&u32::try_from(region).expect("a chunk is smaller than 4 GiB").to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&first_seq.0.to_le_bytes());
    out.extend_from_slice(&first_main.0.to_le_bytes());
    let crc = header_crc(out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
}

fn header_crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..HEADER]);
    hasher.finalize()
}

fn parse_header(bytes: &[u8]) -> Result<(usize, Seq, Revision), String> {
    if bytes.len() < HEADER || bytes[..4] != MAGIC {
        return Err("not a history chunk".into());
    }
    let format = u16::from_le_bytes([bytes[4], bytes[5]]);
    if format != FORMAT {
        return Err(format!(
            "history format {format}, this version reads format {FORMAT}: start a newer kontiki"
        ));
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    if header_crc(bytes) != word(12) {
        return Err("damaged chunk header".into());
    }
    Ok((word(8) as usize, Seq(long(16)), Revision(long(24) as i64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::history::record::Change;
    use crate::types::LeaseId;

    fn put(main: i64, value: &[u8]) -> NewRecord<'_> {
        let change = Change::Put { value, created: Revision(2), version: 1, lease: LeaseId::NONE };
        NewRecord { main: Revision(main), sub: 0, prev: None, key: b"key", change }
    }

    fn filled(records: u64) -> Active {
        let mut active = Active::new(Vec::new(), Seq(10), Revision(5), 100);
        for n in 0..records {
            active.append(Seq(10 + n), None, &put(5 + n as i64, b"value"));
        }
        active.seal_record(true);
        active
    }

    #[test]
    fn a_finished_chunk_finds_its_records_again() {
        let (bytes, table) = filled(100).finish();
        assert_eq!(bytes.len(), REGION);
        let tail = &bytes[REGION - Table::tail_len(100)..];
        let read = Table::parse(tail, Seq(10), Revision(5)).unwrap();
        assert_eq!(read, table);
        for n in 0..100 {
            let row = read.find(Seq(10 + n)).unwrap();
            let record = Record::parse(&bytes[row.offset as usize..]).unwrap();
            assert_eq!((record.seq(), record.main()), (Seq(10 + n), Revision(5 + n as i64)));
            assert_eq!(read.last_at(Revision(5 + n as i64)), Some(Seq(10 + n)));
        }
        assert_eq!((read.find(Seq(9)), read.find(Seq(110))), (None, None));
        assert_eq!((read.last_at(Revision(4)), read.last_at(Revision(999))), (None, Some(Seq(109))));
    }

    #[test]
    fn an_unfinished_chunk_is_read_back_across_padding() {
        let mut active = filled(3);
        active.pad(0);
        active.append(Seq(13), None, &put(8, b"later"));
        active.seal_record(true);
        let bytes = active.pad(0).to_vec();
        let reopened = Active::reopen(bytes.clone(), 4).unwrap();
        assert_eq!(reopened.table(), active.table());
        assert_eq!(reopened.filled(), active.filled());
        assert!(Active::reopen(bytes.clone(), 5).is_err(), "a fifth record was never written");
        let mut damaged = bytes;
        damaged[60] ^= 1;
        assert!(Active::reopen(damaged, 4).is_err());
    }

    #[test]
    fn a_large_record_gets_its_own_region() {
        let value = vec![7; 3 << 20];
        let mut active = Active::new(Vec::new(), Seq(1), Revision(2), value.len() + 100);
        assert!(active.region() > 3 << 20);
        assert!(active.fits(value.len() + 60, Revision(2)));
        active.append(Seq(1), None, &put(2, &value));
        active.seal_record(true);
        let (bytes, table) = active.finish();
        let row = table.find(Seq(1)).unwrap();
        assert_eq!(Record::parse(&bytes[row.offset as usize..]).unwrap().fields().value, value);
    }

    #[test]
    fn chunks_fill_to_the_end_and_no_further() {
        let mut active = filled(0);
        let (value, mut n) = (vec![1; 900], 0);
        while active.fits(record::HEADER + put(5 + n, &value).wire_len(), Revision(5 + n)) {
            active.append(Seq(10 + n as u64), None, &put(5 + n, &value));
            n += 1;
        }
        active.seal_record(true);
        assert!(active.is_nearly_full());
        assert!(active.filled() + active.table().encoded_len() > REGION - 1100);
        active.finish();
    }

    #[test]
    fn unknown_formats_are_refused_with_the_cure() {
        let mut active = filled(1);
        let mut bytes = active.pad(0).to_vec();
        bytes[4] = 99;
        let error = Active::reopen(bytes, 1).unwrap_err();
        assert!(error.contains("format 99") && error.contains("newer kontiki"), "{error}");
    }
}
