//! The KV service: requests from bytes, answers to bytes.
//!
//! Decoding borrows from the request. Encoding has two ways. `encode_whole` appends a small answer in one pass
//! without allocating: the put and the single-key read that make up nearly all traffic. Everything it declines goes
//! through an `Encoder`, which works in pieces.

use engine::check;
use engine::error::ApiError;
use engine::request::{Compact, DeleteRange, Op, Put, Range, Txn};
use engine::response::{DeleteAnswer, KvList, Kvs, RangeAnswer, Response};
use engine::types::Seq;

use super::header::{Header, Origin};
use super::plan::field;
use super::records::{Cold, Records};
use crate::pb::hot;
use crate::pb::wire::{Malformed, put_len_prefix, put_varint_field};

/// Lists and previous values longer than this, in bytes, are encoded in pieces.
pub const WHOLE_LEN_MAX: u64 = 64 << 10;

/// A request to the KV service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvRequest<'a> {
    /// `Range`.
    Range(Range<'a>),
    /// `Put`.
    Put(Put<'a>),
    /// `DeleteRange`.
    DeleteRange(DeleteRange<'a>),
    /// `Txn`.
    Txn(Txn<'a>),
    /// `Compact`.
    Compact(Compact),
}

/// The methods of the KV service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvMethod {
    /// `Range`.
    Range,
    /// `Put`.
    Put,
    /// `DeleteRange`.
    DeleteRange,
    /// `Txn`.
    Txn,
    /// `Compact`.
    Compact,
}

/// Reads a request's message. `ops_max` is `--max-txn-ops`.
pub fn decode(method: KvMethod, message: &[u8], ops_max: usize) -> Result<KvRequest<'_>, Malformed> {
    match method {
        KvMethod::Range => hot::decode_range(message).map(KvRequest::Range),
        KvMethod::Put => hot::decode_put(message).map(KvRequest::Put),
        KvMethod::DeleteRange => hot::decode_delete_range(message).map(KvRequest::DeleteRange),
        KvMethod::Txn => hot::decode_txn(message, ops_max).map(KvRequest::Txn),
        KvMethod::Compact => hot::decode_compact(message).map(KvRequest::Compact),
    }
}

impl KvRequest<'_> {
    /// The checks that need no state, in etcd's order. In etcd they come after the quota check.
    pub fn check(&self, ops_max: usize) -> Result<(), ApiError> {
        match self {
            KvRequest::Range(range) => check::check_range(range),
            KvRequest::Put(put) => check::check_put(put),
            KvRequest::DeleteRange(delete) => check::check_delete(delete),
            KvRequest::Txn(txn) => check::check_txn(txn, ops_max),
            KvRequest::Compact(_) => Ok(()),
        }
    }
}

/// How a request comes to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Read from this member's own state, at once.
    Serializable,
    /// Read from this member's own state, once it is known to be current.
    Linearizable,
    /// Through the log.
    Proposed,
}

impl KvRequest<'_> {
    /// The course etcd takes. A transaction is a read if both branches hold plain ranges alone; one without any
    /// operation does not even wait to be current, and a nested one always makes it a write.
    pub fn course(&self) -> Course {
        match self {
            KvRequest::Range(range) if range.serializable => Course::Serializable,
            KvRequest::Range(_) => Course::Linearizable,
            KvRequest::Txn(txn) => txn_course(txn),
            KvRequest::Put(_) | KvRequest::DeleteRange(_) | KvRequest::Compact(_) => Course::Proposed,
        }
    }
}

fn txn_course(txn: &Txn<'_>) -> Course {
    let mut course = Course::Serializable;
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) if range.serializable => {}
            Op::Range(_) => course = Course::Linearizable,
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Unset => return Course::Proposed,
        }
    }
    course
}

/// Outcome of [`encode_whole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// The answer was appended.
    Encoded,
    /// Too large or of a kind that is planned first; nothing was appended.
    Declined,
    /// A record must be brought into memory; nothing was appended.
    Cold(Cold),
}

/// Appends the answer if it is small.
pub fn encode_whole(
    origin: Origin,
    answer: &Response,
    records: &(impl Records + ?Sized),
    out: &mut Vec<u8>,
) -> Whole {
    match answer {
        Response::Put(answer) => put(origin.at(answer.revision), answer.prev, records, out),
        Response::Range(RangeAnswer { kvs: Kvs::List(list), revision, more, count, .. }) => {
            range(origin.at(*revision), list, *more, *count, records, out)
        }
        Response::DeleteRange(answer) => delete_range(origin.at(answer.revision), answer, records, out),
        _ => Whole::Declined,
    }
}

fn put(header: Header, prev: Option<Seq>, records: &(impl Records + ?Sized), out: &mut Vec<u8>) -> Whole {
    match prev.map(|seq| records.record(seq)).transpose() {
        Err(cold) => return Whole::Cold(cold),
        Ok(Some(prev)) if prev.wire.len() as u64 > WHOLE_LEN_MAX => return Whole::Declined,
        Ok(prev) => {
            out.extend_from_slice(header.field().as_slice());
            if let Some(prev) = prev {
                put_len_prefix(out, field::PUT_PREV_KV, prev.wire.len() as u64);
                out.extend_from_slice(prev.wire);
            }
        }
    }
    Whole::Encoded
}

fn range(
    header: Header,
    kvs: &KvList,
    more: bool,
    count: i64,
    records: &(impl Records + ?Sized),
    out: &mut Vec<u8>,
) -> Whole {
    let encoded = head_and_list(field::RANGE_KVS, kvs, records, out, |out| {
        out.extend_from_slice(header.field().as_slice());
    });
    if encoded == Whole::Encoded {
        put_varint_field(out, field::RANGE_MORE, u64::from(more));
        put_varint_field(out, field::RANGE_COUNT, count as u64);
    }
    encoded
}

fn delete_range(
    header: Header,
    answer: &DeleteAnswer,
    records: &(impl Records + ?Sized),
    out: &mut Vec<u8>,
) -> Whole {
    head_and_list(field::DELETE_PREV_KVS, &answer.prev, records, out, |out| {
        out.extend_from_slice(header.field().as_slice());
        put_varint_field(out, field::DELETE_DELETED, answer.deleted as u64);
    })
}

/// Appends what stands before a list, and the list; or, if it is too long or not in memory, nothing.
fn head_and_list(
    number: u32,
    list: &KvList,
    records: &(impl Records + ?Sized),
    out: &mut Vec<u8>,
    put_before: impl FnOnce(&mut Vec<u8>),
) -> Whole {
    if list.encoded_len > WHOLE_LEN_MAX {
        return Whole::Declined;
    }
    let start = out.len();
    put_before(out);
    let list_start = out.len();
    for &seq in &list.seqs {
        let (before, after) = match records.record(seq) {
            Ok(record) => record.parts(list.keys_only),
            Err(cold) => {
                out.truncate(start);
                return Whole::Cold(cold);
            }
        };
        put_len_prefix(out, number, (before.len() + after.len()) as u64);
        out.extend_from_slice(before);
        out.extend_from_slice(after);
    }
    let encoded_len = (out.len() - list_start) as u64;
    assert_eq!(encoded_len, list.encoded_len, "a list is not as long as the index said");
    Whole::Encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::encoder::{Encoder, Fill};
    use crate::api::testing::{ORIGIN, Store, any_draft};
    use engine::response::PutAnswer;
    use engine::types::Revision;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whole_answers_are_the_generated_bytes(draft in any_draft(), head in proptest::collection::vec(any::<u8>(), 0..9)) {
            let mut store = Store::default();
            let (answer, expected) = draft.build(&mut store);
            let mut out = head.clone();
            match encode_whole(ORIGIN, &answer, &store, &mut out) {
                Whole::Encoded => prop_assert_eq!(&out, &[head, expected].concat()),
                Whole::Declined => {
                    prop_assert!(matches!(answer, Response::Txn(_)));
                    prop_assert_eq!(&out, &head);
                }
                Whole::Cold(cold) => prop_assert!(false, "{:?} is not cold", cold),
            }
        }

        #[test]
        fn a_cold_record_leaves_nothing_behind(draft in any_draft()) {
            let mut store = Store::default();
            let (answer, expected) = draft.build(&mut store);
            store.chill_all();
            let mut out = b"before".to_vec();
            while let Whole::Cold(Cold(seq)) = encode_whole(ORIGIN, &answer, &store, &mut out) {
                prop_assert_eq!(&out, b"before");
                store.bring_in(seq);
            }
            prop_assert!(out == b"before" || out[6..] == expected);
        }
    }

    #[test]
    fn long_lists_and_values_are_declined() {
        let list = KvList { seqs: vec![Seq(1)], encoded_len: WHOLE_LEN_MAX + 1, keys_only: false };
        let answer = Response::DeleteRange(DeleteAnswer { revision: Revision(2), deleted: 1, prev: list });
        assert_eq!(encode_whole(ORIGIN, &answer, &Store::default(), &mut Vec::new()), Whole::Declined);
        let mut store = Store::default();
        store.records.insert(1, vec![0; WHOLE_LEN_MAX as usize + 1]);
        let answer = Response::Put(PutAnswer { revision: Revision(2), prev: Some(Seq(1)) });
        assert_eq!(encode_whole(ORIGIN, &answer, &store, &mut Vec::new()), Whole::Declined);
    }

    #[test]
    fn a_compaction_is_answered_with_a_header_alone() {
        let answer = Response::Compact { revision: Revision(5) };
        let mut encoder = Encoder::new(ORIGIN, answer, &Store::default()).unwrap();
        let mut out = Vec::new();
        assert_eq!(encoder.fill(&Store::default(), &mut out, 1000), Fill::Done);
        assert_eq!(out, ORIGIN.at(Revision(5)).field().as_slice());
    }

    #[test]
    fn courses() {
        let check = |method, message: &[u8], expected| {
            assert_eq!(decode(method, message, 128).unwrap().course(), expected, "{message:?}");
        };
        check(KvMethod::Range, b"", Course::Linearizable);
        check(KvMethod::Range, b"\x38\x01", Course::Serializable);
        for method in [KvMethod::Put, KvMethod::DeleteRange, KvMethod::Compact] {
            check(method, b"", Course::Proposed);
        }
        let (range, serializable) = (b"\x12\x02\x0a\0", b"\x12\x04\x0a\x02\x38\x01");
        let in_failure = b"\x1a\x02\x0a\0";
        let (put, nested) = (b"\x12\x02\x12\0", b"\x12\x02\x22\0");
        check(KvMethod::Txn, b"", Course::Serializable);
        check(KvMethod::Txn, serializable, Course::Serializable);
        check(KvMethod::Txn, range, Course::Linearizable);
        check(KvMethod::Txn, &[&serializable[..], in_failure].concat(), Course::Linearizable);
        check(KvMethod::Txn, &[&range[..], put].concat(), Course::Proposed);
        check(KvMethod::Txn, nested, Course::Proposed);
    }

    #[test]
    fn requests_are_decoded_and_checked_by_their_method() {
        let check = |method, message: &[u8], expected: Result<(), ApiError>| {
            let request = decode(method, message, 128).unwrap();
            assert_eq!(request.check(128), expected, "{request:?}");
        };
        check(KvMethod::Range, b"\x0a\x01a", Ok(()));
        check(KvMethod::Range, b"\x0a\x01a\x28\x7f", Err(ApiError::InvalidSortOption));
        check(KvMethod::Put, b"\x12\x01v", Err(ApiError::EmptyKey));
        check(KvMethod::DeleteRange, b"", Err(ApiError::EmptyKey));
        check(KvMethod::Txn, b"\x12\x00", Err(ApiError::KeyNotFound));
        check(KvMethod::Txn, &b"\x12\0".repeat(1000), Err(ApiError::TooManyOps));
        check(KvMethod::Compact, b"", Ok(()));
    }
}
