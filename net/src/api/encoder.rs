//! Answers of the KV service as bytes, of any size, in bounded memory.
//!
//! gRPC sends a message's length first. So an answer is planned before it is sent (`plan`): everything but the records
//! is written at once into a *skeleton*, with a *cut* wherever a list of records belongs. The lengths of the lists are
//! known from the index, so the plan gives the exact length of the answer without reading a record. Then
//! `Encoder::fill` hands out the bytes piece by piece, as windows open:
//!
//! ```text
//! skeleton   header ─┐            ┌─ more, count, enclosing messages … ─┐           ┌─ …
//! cuts               └ kv kv kv … ┘                                     └ prev kv … ┘
//! ```
//!
//! A record is copied once, from the history into the caller's buffer, and may be split between two calls at any
//! byte. A record the disk has to deliver, or a walk that needs its next batch, stops the filling and is named; the
//! caller resumes when it is there.

use engine::mvcc::range::LongList;
use engine::response::{KvList, Response};
use engine::types::Seq;

use super::header::Origin;
use super::plan::{Plan, plan};
use super::records::{Cold, RecordRef, Records};
use crate::pb::wire::{VARINT_LEN_MAX, len_tag, write_varint};

/// An answer on its way out.
#[derive(Debug)]
pub struct Encoder {
    skeleton: Vec<u8>,
    /// Bytes of the skeleton handed out.
    skeleton_done: usize,
    /// The last cut is the next one.
    cuts: Vec<Cut>,
    /// Bytes of the answer.
    encoded_len: u64,
    /// Bytes of the answer not handed out yet.
    remaining: u64,
}

/// A list of records in the skeleton.
#[derive(Debug)]
pub(super) struct Cut {
    /// Bytes of the skeleton behind it.
    behind: usize,
    /// Field number of each record.
    number: u32,
    /// Records in order; for a walk those of the current batch.
    seqs: Vec<Seq>,
    /// Records of `seqs` handed out.
    seqs_done: usize,
    /// Bytes of the next record handed out.
    record_done: usize,
    keys_only: bool,
    /// Yields further batches.
    walk: Option<Box<LongList>>,
    /// Bytes of the list not handed out yet.
    remaining: u64,
}

/// Why [`Encoder::fill`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The answer is complete.
    Done,
    /// The budget is used up.
    Full,
    /// This record must be brought into memory.
    Cold(Seq),
    /// [`Encoder::walk`] must be moved on and its batch given to [`Encoder::feed`].
    WalkBatch,
}

impl Encoder {
    /// Plans an answer.
    ///
    /// Fails, and gives the answer back, if the length of a previous version is not known because its record is
    /// cold; the caller has it brought in and tries again.
    pub fn new(
        origin: Origin,
        answer: Response,
        records: &(impl Records + ?Sized),
    ) -> Result<Encoder, (Response, Cold)> {
        let Plan { skeleton, cuts, encoded_len } = plan(origin, answer, records)?;
        Ok(Encoder { skeleton, skeleton_done: 0, cuts, encoded_len, remaining: encoded_len })
    }

    /// Exact length of the answer in bytes.
    pub fn encoded_len(&self) -> u64 {
        self.encoded_len
    }

    /// Memory it holds, however long the answer is.
    pub fn memory_bytes(&self) -> usize {
        let lists = self.cuts.iter().map(|cut| {
            let batch = if cut.walk.is_some() { WALK_COST_BYTES } else { 0 };
            size_of::<Cut>() + batch + cut.seqs.capacity() * size_of::<Seq>()
        });
        size_of::<Encoder>() + self.skeleton.capacity() + lists.sum::<usize>()
    }

    /// Bytes not handed out yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Appends at most `budget` bytes of the answer to `out` and says why not more.
    pub fn fill(&mut self, records: &(impl Records + ?Sized), out: &mut Vec<u8>, budget: usize) -> Fill {
        let end = out.len() + budget;
        loop {
            let before = out.len();
            let step = self.step(records, out, end);
            self.remaining -= (out.len() - before) as u64;
            if let Some(fill) = step {
                let left = self.remaining;
                assert!(fill != Fill::Done || left == 0, "the answer is {left} bytes shorter than planned");
                return fill;
            }
        }
    }

    /// The records that come next, as far as they are known.
    pub fn upcoming(&self) -> &[Seq] {
        self.cuts.last().map_or(&[], |cut| &cut.seqs[cut.seqs_done..])
    }

    /// The walk that [`Fill::WalkBatch`] asked to move on.
    pub fn walk(&mut self) -> Option<&mut LongList> {
        self.cuts.last_mut()?.walk.as_deref_mut()
    }

    /// Gives the current walk its next records; an empty batch is allowed, and asks again.
    pub fn feed(&mut self, batch: &[Seq]) {
        let cut = self.cuts.last_mut().expect("only a walk that asked is fed");
        assert_eq!(cut.seqs_done, cut.seqs.len(), "a walk is fed before its last batch was handed out");
        cut.seqs.clear();
        cut.seqs.extend_from_slice(batch);
        cut.seqs_done = 0;
    }

    /// Hands out one piece: skeleton up to the next cut, or (a part of) one record.
    fn step(&mut self, records: &(impl Records + ?Sized), out: &mut Vec<u8>, end: usize) -> Option<Fill> {
        let skeleton_end = self.skeleton.len() - self.cuts.last().map_or(0, |cut| cut.behind);
        self.skeleton_done += copy(&[&self.skeleton[..skeleton_end]], self.skeleton_done, out, end);
        if self.skeleton_done < skeleton_end {
            return Some(Fill::Full);
        }
        let Some(cut) = self.cuts.last_mut() else { return Some(Fill::Done) };
        if cut.remaining == 0 {
            assert_eq!(cut.seqs_done, cut.seqs.len(), "a list is longer than the index said");
            self.cuts.pop();
            return None;
        }
        let Some(&seq) = cut.seqs.get(cut.seqs_done) else {
            assert!(cut.walk.is_some(), "a list is {} bytes shorter than the index said", cut.remaining);
            return Some(Fill::WalkBatch);
        };
        match records.record(seq) {
            Ok(record) => cut.put(record, out, end),
            Err(Cold(seq)) => Some(Fill::Cold(seq)),
        }
    }
}

impl Cut {
    /// A list of records in fields `number`, with `behind` bytes of the skeleton behind it.
    pub(super) fn list(behind: usize, number: u32, list: KvList) -> Cut {
        let KvList { seqs, encoded_len, keys_only } = list;
        Cut {
            behind,
            number,
            seqs,
            seqs_done: 0,
            record_done: 0,
            keys_only,
            walk: None,
            remaining: encoded_len,
        }
    }

    /// The same for a list that `walk` yields.
    pub(super) fn walk(behind: usize, number: u32, walk: Box<LongList>) -> Cut {
        let LongList { encoded_len, keys_only, .. } = *walk;
        let cut = Cut::list(behind, number, KvList { seqs: Vec::new(), encoded_len, keys_only });
        Cut { walk: Some(walk), ..cut }
    }

    /// Hands out what is left of the current record, or as much as there is room for.
    fn put(&mut self, record: RecordRef<'_>, out: &mut Vec<u8>, end: usize) -> Option<Fill> {
        let (before, after) = record.parts(self.keys_only);
        let prefix = Prefix::new(self.number, (before.len() + after.len()) as u64);
        let pieces = [prefix.bytes(), before, after];
        let copied = copy(&pieces, self.record_done, out, end);
        assert!(copied as u64 <= self.remaining, "a record is longer than the index said");
        self.remaining -= copied as u64;
        self.record_done += copied;
        if self.record_done < pieces.iter().map(|piece| piece.len()).sum() {
            return Some(Fill::Full);
        }
        self.record_done = 0;
        self.seqs_done += 1;
        None
    }
}

/// Appends `pieces` as if they were one, from byte `done` on, until `out` is `end` long. Returns how many bytes.
fn copy(pieces: &[&[u8]], mut done: usize, out: &mut Vec<u8>, end: usize) -> usize {
    let start = out.len();
    for piece in pieces {
        let rest = &piece[done.min(piece.len())..];
        done -= piece.len() - rest.len();
        out.extend_from_slice(&rest[..rest.len().min(end - out.len())]);
    }
    out.len() - start
}

/// Tag and length in front of a record.
struct Prefix {
    bytes: [u8; 1 + VARINT_LEN_MAX],
    len: usize,
}

impl Prefix {
    fn new(number: u32, len: u64) -> Prefix {
        let mut bytes = [0; 1 + VARINT_LEN_MAX];
        bytes[0] = u8::try_from(len_tag(number)).expect("records stand in fields below 16");
        let len = 1 + write_varint(&mut bytes[1..], len);
        Prefix { bytes, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What a walk may hold at any time: itself, and a batch.
const WALK_COST_BYTES: usize = 9 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{Draft, ORIGIN, Store, alarm_answer, any_draft, any_kv};
    use crate::pb::mvccpb::KeyValue;
    use engine::response::{Kvs, RangeAnswer};
    use engine::types::Revision;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Encodes with `budget` bytes a call, bringing cold records in and moving walks on by `batch` records.
    fn encode(answer: Response, store: &Store, budget: usize, batch: usize) -> Vec<u8> {
        let mut answer = Some(answer);
        let mut encoder = loop {
            match Encoder::new(ORIGIN, answer.take().expect("given back on failure"), store) {
                Ok(encoder) => break encoder,
                Err((given_back, Cold(seq))) => {
                    store.bring_in(seq);
                    answer = Some(given_back);
                }
            }
        };
        let len = encoder.encoded_len();
        let mut batches = store.walk.seqs.chunks(batch);
        let mut out = Vec::new();
        loop {
            let before = out.len();
            let fill = encoder.fill(store, &mut out, budget);
            assert!(out.len() - before <= budget, "{} bytes for a budget of {budget}", out.len() - before);
            assert_eq!(encoder.remaining(), len - out.len() as u64);
            match fill {
                Fill::Done => break,
                Fill::Full => assert_eq!(out.len() - before, budget),
                Fill::Cold(seq) => store.bring_in(seq),
                Fill::WalkBatch => {
                    assert!(encoder.walk().is_some());
                    encoder.feed(batches.next().expect("asked for more than there is"));
                }
            }
        }
        assert_eq!(out.len() as u64, len);
        out
    }

    proptest! {
        #[test]
        fn every_answer_is_the_generated_bytes_at_every_budget(draft in any_draft(), budget in 1..64usize, cold: bool) {
            let mut store = Store::default();
            let (answer, expected) = draft.build(&mut store);
            if cold {
                store.chill_all();
            }
            prop_assert_eq!(&encode(answer.clone(), &store, budget, 1), &expected);
            prop_assert_eq!(&encode(answer, &store, 1 << 20, 1), &expected);
        }

        #[test]
        fn walks_are_the_generated_bytes(
            kvs in vec(any_kv(), 0..20), keys_only: bool, batch in 1..8usize, budget in 1..500usize, cold: bool,
        ) {
            let mut store = Store::default();
            let draft = Draft::Range { kvs, keys_only, more: true, count: 1000, revision: 7 };
            let (answer, expected) = draft.build(&mut store);
            let Response::Range(answer) = answer else { unreachable!("a range was drafted") };
            let RangeAnswer { kvs: Kvs::List(list), .. } = answer else { unreachable!("drafts are lists") };
            store.walk = list;
            let answer = RangeAnswer { kvs: store.long_list(), ..answer };
            if cold {
                store.chill_all();
            }
            prop_assert_eq!(encode(Response::Range(answer), &store, budget, batch), expected);
        }
    }

    /// Recorded from etcd 3.6.16: a put with its previous version, a keys-only range, a nested transaction of a put and
    /// a range, and a delete. The outer header, which differs from ours, is left out.
    #[test]
    fn a_transaction_is_etcds_to_the_byte() {
        let kv = |key: &'static str, create_revision, mod_revision, version, value: &'static str| KeyValue {
            key: key.into(),
            create_revision,
            mod_revision,
            version,
            value: value.into(),
            lease: 0,
        };
        let range = |kvs: Vec<KeyValue>, keys_only| {
            let count = kvs.len() as i64;
            Draft::Range { kvs, keys_only, more: false, count, revision: 124 }
        };
        let a = || kv("a", 120, 124, 3, "x");
        let b = || kv("b", 119, 123, 2, "two");
        let n = kv("n", 124, 124, 1, "new");
        let nested = vec![
            Draft::Put { prev: None, revision: 124 },
            range(vec![a(), b(), kv("e", 121, 121, 1, ""), n], false),
        ];
        let ops = vec![
            Draft::Put { prev: Some(kv("a", 120, 122, 2, "one")), revision: 124 },
            range(vec![a(), b()], true),
            Draft::Txn { succeeded: true, ops: nested, revision: 124 },
            Draft::Delete { prev: vec![b()], deleted: 1, revision: 124 },
        ];
        let mut store = Store::default();
        let (answer, _) = Draft::Txn { succeeded: true, ops, revision: 124 }.build(&mut store);
        let hex: String = encode(answer, &store, 7, 1).iter().map(|byte| format!("{byte:02x}")).collect();
        let recorded = [
            "1001",
            "1a1612140a02187c120e0a01611078187a20022a036f6e65",
            "1a1e0a1c0a02187c12090a01611078187c200312090a01621077187b20022002",
            "1a51224f0a0010011a0612040a02187c1a410a3f0a02187c120c0a01611078187c20032a0178",
            "120e0a01621077187b20022a0374776f12090a0165107918792001120e0a016e107c187c20012a036e65772004",
            "1a181a160a02187c10011a0e0a01621077187b20022a0374776f",
        ];
        assert!(hex.ends_with(&recorded.concat()), "{hex}");
    }

    #[test]
    fn alarms_are_the_generated_bytes() {
        let (answer, expected) = alarm_answer();
        assert_eq!(encode(answer, &Store::default(), 3, 1), expected);
    }

    #[test]
    fn an_empty_batch_asks_again() {
        let mut store = Store::default();
        store.records.insert(1, b"\x0a\x01k".to_vec());
        store.walk = KvList { seqs: vec![Seq(1)], encoded_len: 5, keys_only: false };
        let kvs = store.long_list();
        let revision = Revision(1);
        let answer = Response::Range(RangeAnswer { revision, kvs, more: false, count: 1 });
        let mut encoder = Encoder::new(Origin::default(), answer, &store).unwrap();
        let mut out = Vec::new();
        for _ in 0..2 {
            assert_eq!(encoder.fill(&store, &mut out, 100), Fill::WalkBatch);
            encoder.feed(&[]);
        }
        assert_eq!(encoder.fill(&store, &mut out, 100), Fill::WalkBatch);
        encoder.feed(&[Seq(1)]);
        assert_eq!(encoder.fill(&store, &mut out, 100), Fill::Done);
        assert_eq!(out, b"\x0a\x02\x18\x01\x12\x03\x0a\x01k\x20\x01");
    }

    #[test]
    #[should_panic(expected = "longer than the index said")]
    fn a_record_longer_than_promised_is_our_mistake() {
        let mut store = Store::default();
        store.records.insert(1, b"\x0a\x02kk".to_vec());
        let kvs = Kvs::List(KvList { seqs: vec![Seq(1)], encoded_len: 5, keys_only: false });
        let revision = Revision(1);
        let answer = Response::Range(RangeAnswer { revision, kvs, more: false, count: 1 });
        Encoder::new(ORIGIN, answer, &store).unwrap().fill(&store, &mut Vec::new(), 100);
    }
}
