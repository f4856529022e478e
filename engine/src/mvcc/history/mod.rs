//! The history: every version of every key, in revision order, in wire form.
//!
//! Append-only. A record is found by its sequence number; a key's records are chained from the newest back, and the
//! index knows the newest. What a client reads is copied from here unchanged.

/// One record, byte by byte.
pub mod record;

/// Jump pointers between a key's records.
pub mod jump;

use crate::mvcc::Cold;
use crate::types::{Revision, Seq};
use jump::Jumps;
use record::{Change, NewRecord, Record};

/// All versions not yet reclaimed.
#[derive(Debug, Default)]
pub struct History {
    bytes: Vec<u8>,
    /// Offset in `bytes` of record 1, 2, ...
    offsets: Vec<u64>,
    /// First record of revision 2, 3, ...
    revisions: Vec<Seq>,
    jumps: Jumps,
    /// The last record of the open transaction is not sealed yet.
    open: bool,
}

impl History {
    /// An empty history.
    pub fn new() -> History {
        History::default()
    }

    /// Sequence number the next record gets.
    pub fn next_seq(&self) -> Seq {
        Seq(self.offsets.len() as u64 + 1)
    }

    /// Appends a version. Records of one transaction follow each other with `sub` from 0, and
    /// [`History::end_transaction`] closes them.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Seq {
        let seq = self.next_seq();
        assert_eq!(
            record.sub == 0,
            !self.open,
            "record {seq} at sub revision {} of {}",
            record.sub,
            record.main
        );
        assert!(record.prev.is_none_or(|p| p < seq), "record {seq} would follow {:?}", record.prev);
        self.seal_last(false);
        if record.sub == 0 {
            assert_eq!(record.main.0, self.revisions.len() as i64 + 2, "revisions are dense");
            self.revisions.push(seq);
        }
        let version = match record.change {
            Change::Put { version, .. } => version,
            Change::Delete => 0,
        };
        let jump = self.jumps.push(record.prev, seq, version);
        self.offsets.push(self.bytes.len() as u64);
        record::encode(&mut self.bytes, seq, jump, record);
        self.open = true;
        seq
    }

    /// Closes the transaction; a transaction without records leaves no trace.
    pub fn end_transaction(&mut self) {
        self.seal_last(true);
        self.open = false;
    }

    fn seal_last(&mut self, last: bool) {
        if self.open {
            let offset = *self.offsets.last().expect("an open transaction has a record") as usize;
            record::seal(&mut self.bytes[offset..], last);
        }
    }

    /// The record, or `None` if it was reclaimed.
    pub fn record(&self, seq: Seq) -> Result<Option<Record<'_>>, Cold> {
        let Some(&offset) = seq.0.checked_sub(1).and_then(|i| self.offsets.get(i as usize)) else {
            return Ok(None);
        };
        Ok(Some(Record::trusted(&self.bytes[offset as usize..])))
    }

    /// Last record of the newest revision at or below `revision`; `Seq(0)` if there is none.
    pub fn last_seq_at(&self, revision: Revision) -> Result<Seq, Cold> {
        let next = self.revisions.get((revision.0 - 1).max(0) as usize);
        Ok(next.map_or(Seq(self.offsets.len() as u64), |first| Seq(first.0 - 1)))
    }

    /// The newest version at or before record `last` in the chain that ends at `newest`; `None` if the key was
    /// not there yet, or if that version was reclaimed.
    ///
    /// A jump is taken only if it leads to a record still newer than `last`, so that it never passes the version that
    /// is looked for.
    pub fn version_at(&self, newest: Seq, last: Seq) -> Result<Option<Record<'_>>, Cold> {
        let mut at = newest;
        loop {
            let Some(record) = self.record(at)? else { return Ok(None) };
            if at <= last {
                return Ok(Some(record));
            }
            at = match (record.jump(), record.prev()) {
                (Some(jump), _) if jump > last => jump,
                (_, Some(prev)) => prev,
                (_, None) => return Ok(None),
            };
        }
    }
}
