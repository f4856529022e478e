//! The Watch service: requests from bytes, responses around stored bytes.
//!
//! A response is a head (header, watch id, what happened) and events; an event's bytes do not depend on who is told, so
//! that a thousand watchers of one prefix share one encoding ([`Memo`]).

use engine::error::ApiError;
use engine::map::page::ReadPages;
use engine::mvcc::Cold;
use engine::mvcc::view::View;
use engine::mvcc::walk::Budget;
use engine::request::KeyRange;
use engine::types::Revision;
use engine::watch::{Batch, Create, Event, Events, Filter, Message, Next, Options, Refusal};

use super::header::Origin;
use crate::pb::wire::{Fields, Malformed, len_field_len, put_len_prefix, put_varint_field, varint_len};

/// A message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Create a watcher.
    Create(Create<'a>),
    /// Cancel the one with this id.
    Cancel(i64),
    /// Say how far the stream has come.
    Progress,
    /// Nothing this version knows.
    Nothing,
}

/// Decodes a `WatchRequest`. Of several members of the oneof the last one counts.
pub fn decode(bytes: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "WatchRequest");
    let mut request = Request::Nothing;
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => request = Request::Create(decode_create(fields.bytes(tag, "CreateRequest")?)?),
            2 => request = Request::Cancel(decode_cancel(fields.bytes(tag, "CancelRequest")?)?),
            3 => {
                check_progress(fields.bytes(tag, "ProgressRequest")?)?;
                request = Request::Progress;
            }
            _ => fields.skip(tag)?,
        }
    }
    Ok(request)
}

fn decode_create(bytes: &[u8]) -> Result<Create<'_>, Malformed> {
    let mut fields = Fields::new(bytes, "WatchCreateRequest");
    let (mut key, mut range_end): (&[u8], &[u8]) = (&[], &[]);
    let (mut start, mut id, mut options) = (0, 0, Options::default());
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => key = fields.bytes(tag, "Key")?,
            2 => range_end = fields.bytes(tag, "RangeEnd")?,
            3 => start = fields.int64(tag, "StartRevision")?,
            4 => options.progress_notify = fields.boolean(tag, "ProgressNotify")?,
            5 => {
                let filter = &mut options.filter;
                fields.enumerations(tag, "Filters", |number| add_filter(filter, number))?;
            }
            6 => options.prev_kv = fields.boolean(tag, "PrevKv")?,
            7 => id = fields.int64(tag, "WatchId")?,
            8 => options.fragment = fields.boolean(tag, "Fragment")?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(Create { keys: KeyRange::new(key, range_end), start, id, options })
}

fn add_filter(filter: &mut Filter, number: i32) {
    match number {
        0 => filter.no_put = true,
        1 => filter.no_delete = true,
        _ => {}
    }
}

fn decode_cancel(bytes: &[u8]) -> Result<i64, Malformed> {
    let mut fields = Fields::new(bytes, "WatchCancelRequest");
    let mut id = 0;
    while let Some(tag) = fields.next_tag()? {
        match tag.number {
            1 => id = fields.int64(tag, "WatchId")?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(id)
}

fn check_progress(bytes: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::new(bytes, "WatchProgressRequest");
    while let Some(tag) = fields.next_tag()? {
        fields.skip(tag)?;
    }
    Ok(())
}

/// Field numbers of `WatchResponse`.
mod field {
    pub const WATCH_ID: u32 = 2;
    pub const CREATED: u32 = 3;
    pub const CANCELED: u32 = 4;
    pub const COMPACT_REVISION: u32 = 5;
    pub const CANCEL_REASON: u32 = 6;
    pub const FRAGMENT: u32 = 7;
    pub const EVENTS: u32 = 11;

    pub const EVENT_TYPE: u32 = 1;
    pub const EVENT_KV: u32 = 2;
    pub const EVENT_PREV_KV: u32 = 3;
}

/// The id of a watcher that was not created.
const NO_ID: i64 = -1;

/// Appends a response without events.
pub fn encode_word(origin: Origin, message: &Message, out: &mut Vec<u8>) {
    match *message {
        Message::Created { id, revision } => {
            head(origin, revision, id, out);
            put_varint_field(out, field::CREATED, 1);
        }
        Message::Refused { why, revision } => {
            head(origin, revision, NO_ID, out);
            put_varint_field(out, field::CREATED, 1);
            put_varint_field(out, field::CANCELED, 1);
            let reason = reason(why);
            put_len_prefix(out, field::CANCEL_REASON, reason.len() as u64);
            out.extend_from_slice(reason.as_bytes());
        }
        Message::Canceled { id, revision } => {
            head(origin, revision, id, out);
            put_varint_field(out, field::CANCELED, 1);
        }
        Message::Compacted { id, compacted } => {
            // As in etcd, this one header tells no revision.
            head(origin, Revision(0), id, out);
            put_varint_field(out, field::CANCELED, 1);
            put_varint_field(out, field::COMPACT_REVISION, compacted.0 as u64);
        }
        Message::Progress { id, revision } => head(origin, revision, id, out),
        Message::Events(ref batch) => unreachable!("{batch:?} is encoded with its events"),
    }
}

fn reason(why: Refusal) -> &'static str {
    match why {
        Refusal::EmptyRange => "mvcc: watcher range is empty",
        Refusal::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        Refusal::Compacted => ApiError::Compacted.text(),
    }
}

fn head(origin: Origin, revision: Revision, id: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(origin.at(revision).field().as_slice());
    put_varint_field(out, field::WATCH_ID, id as u64);
}

/// Appends what stands before the events of a response, or of a part of one.
pub fn encode_events_head(origin: Origin, batch: &Batch, more_parts: bool, out: &mut Vec<u8>) {
    head(origin, batch.revision, batch.id, out);
    put_varint_field(out, field::FRAGMENT, u64::from(more_parts));
}

/// Bytes of an event as an element of a response.
pub fn event_len(event: &Event<'_>) -> u64 {
    len_field_len(event_body_len(event))
}

fn event_body_len(event: &Event<'_>) -> u64 {
    let kind = if event.record.is_tombstone() { 2 } else { 0 };
    let prev = event.prev.map_or(0, |prev| len_field_len(prev.wire().len() as u64));
    kind + len_field_len(event.record.wire().len() as u64) + prev
}

/// An event's bytes in pieces that follow each other: what stands before each stored message, and the message.
#[derive(Debug)]
pub struct Pieces<'a> {
    heads: [Vec<u8>; 2],
    wires: [&'a [u8]; 2],
}

impl<'a> Pieces<'a> {
    /// The pieces of `event`.
    pub fn of(event: &Event<'a>) -> Pieces<'a> {
        let (mut head, mut prev_head) = (Vec::with_capacity(HEAD_LEN_MAX), Vec::new());
        let wire = event.record.wire();
        put_event_head(event, &mut head);
        let prev = event.prev.map_or(&[][..], |prev| prev.wire());
        if event.prev.is_some() {
            put_len_prefix(&mut prev_head, field::EVENT_PREV_KV, prev.len() as u64);
        }
        Pieces { heads: [head, prev_head], wires: [wire, prev] }
    }

    /// Appends `max` bytes, or what there is, after the first `skip`; returns how many.
    pub fn put(&self, mut skip: usize, max: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        for piece in [&self.heads[0][..], self.wires[0], &self.heads[1][..], self.wires[1]] {
            let rest = &piece[skip.min(piece.len())..];
            skip = skip.saturating_sub(piece.len());
            out.extend_from_slice(&rest[..rest.len().min(max - (out.len() - start))]);
        }
        out.len() - start
    }
}

const HEAD_LEN_MAX: usize = 2 * 11 + 2;

/// Appends an event as an element of a response.
fn put_event(event: &Event<'_>, out: &mut Vec<u8>) {
    put_event_head(event, out);
    out.extend_from_slice(event.record.wire());
    if let Some(prev) = event.prev {
        put_len_prefix(out, field::EVENT_PREV_KV, prev.wire().len() as u64);
        out.extend_from_slice(prev.wire());
    }
}

/// Appends an event up to its `kv`.
fn put_event_head(event: &Event<'_>, out: &mut Vec<u8>) {
    put_len_prefix(out, field::EVENTS, event_body_len(event));
    put_varint_field(out, field::EVENT_TYPE, u64::from(event.record.is_tombstone()));
    put_len_prefix(out, field::EVENT_KV, event.record.wire().len() as u64);
}

/// The events of a response as bytes, or what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded<'a> {
    /// The bytes, and how many events they are.
    Whole(&'a [u8], u64),
    /// Too long, or too far apart, to be encoded in one go.
    Long,
    /// The history has lost them.
    Lost,
}

/// Events that were encoded lately, for the next watcher that is told the same.
#[derive(Debug)]
pub struct Memo {
    entries: Vec<Option<Entry>>,
    last: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    events: Events,
    bytes: Vec<u8>,
    count: u64,
}

impl Default for Memo {
    fn default() -> Memo {
        Memo { entries: (0..MEMO_ENTRIES).map(|_| None).collect(), last: Vec::new() }
    }
}

impl Memo {
    /// The bytes of all `events`, if they are no more than [`WHOLE_LEN_MAX`].
    pub fn encode<R: ReadPages>(&mut self, events: &Events, view: &View<'_, R>) -> Result<Encoded<'_>, Cold> {
        let place = events.number() as usize % MEMO_ENTRIES;
        let known = self.entries[place].as_ref().is_some_and(|entry| entry.events == *events);
        if !known {
            self.last.clear();
            let (mut left, mut budget, mut count) = (events.clone(), Budget::SLICE, 0);
            loop {
                match left.next(view, &mut budget)? {
                    Next::Event(event) => put_event(&event, &mut self.last),
                    Next::End => break,
                    Next::More => return Ok(Encoded::Long),
                    Next::Lost => return Ok(Encoded::Lost),
                }
                count += 1;
                if self.last.len() > WHOLE_LEN_MAX {
                    return Ok(Encoded::Long);
                }
            }
            if self.last.len() > MEMO_LEN_MAX {
                return Ok(Encoded::Whole(&self.last, count));
            }
            let bytes = self.entries[place].take().map(|entry| entry.bytes).unwrap_or_default();
            let mut entry = Entry { events: events.clone(), bytes, count };
            entry.bytes.clear();
            entry.bytes.extend_from_slice(&self.last);
            self.entries[place] = Some(entry);
        }
        let entry = self.entries[place].as_ref().expect("just filled");
        Ok(Encoded::Whole(&entry.bytes, entry.count))
    }
}

/// Events of a response that are encoded in one go, in bytes; longer ones are sent piece by piece.
pub const WHOLE_LEN_MAX: usize = 64 << 10;

/// Encodings kept.
const MEMO_ENTRIES: usize = 64;

/// The longest one that is kept.
const MEMO_LEN_MAX: usize = 4 << 10;

/// The events of one response, counted before they are sent because their length stands first.
#[derive(Clone, Debug)]
pub struct Plan {
    from: Events,
    left: Events,
    /// Bytes of the events counted.
    pub len: u64,
    /// How many they are.
    pub count: u64,
}

/// How counting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// All are counted.
    All,
    /// Those counted make a part; the rest is for the next ones.
    Part,
    /// The budget is used up; go on later.
    More,
    /// The history has lost them.
    Lost,
}

impl Plan {
    /// Begins to count.
    pub fn new(events: Events) -> Plan {
        Plan { from: events.clone(), left: events, len: 0, count: 0 }
    }

    /// Counts on. With a limit, those are a part that encode to less than `limit` bytes, or the first alone.
    pub fn advance<R: ReadPages>(
        &mut self,
        limit: Option<u64>,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Planned, Cold> {
        loop {
            let before = self.left.clone();
            match self.left.next(view, budget)? {
                Next::Event(event) => {
                    let len = event_len(&event);
                    if self.count > 0 && limit.is_some_and(|limit| self.len + len >= limit) {
                        self.left = before;
                        return Ok(Planned::Part);
                    }
                    (self.len, self.count) = (self.len + len, self.count + 1);
                }
                Next::End => return Ok(Planned::All),
                Next::More => return Ok(Planned::More),
                Next::Lost => return Ok(Planned::Lost),
            }
            if !budget.spend() {
                return Ok(Planned::More);
            }
        }
    }

    /// All events, from the first one counted on.
    pub fn from(&self) -> &Events {
        &self.from
    }
}

/// Bytes of the head of a part that is not the last.
pub fn part_head_len(origin: Origin, batch: &Batch) -> u64 {
    let header = origin.at(batch.revision).field().as_slice().len();
    let id = if batch.id == 0 { 0 } else { 1 + varint_len(batch.id as u64) };
    (header + id) as u64 + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::watch_request::RequestUnion;
    use crate::pb::etcdserverpb::{
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    };
    use prost::Message as _;

    fn request(union: RequestUnion) -> Vec<u8> {
        WatchRequest { request_union: Some(union) }.encode_to_vec()
    }

    #[test]
    fn requests_are_read() {
        let create = WatchCreateRequest {
            key: "k".into(),
            range_end: "l".into(),
            start_revision: 7,
            progress_notify: true,
            filters: vec![0, 9, 1],
            prev_kv: true,
            watch_id: -7,
            fragment: true,
        };
        let options = Options {
            filter: Filter { no_put: true, no_delete: true },
            prev_kv: true,
            fragment: true,
            progress_notify: true,
        };
        let expected = Create { keys: KeyRange::new(b"k", b"l"), start: 7, id: -7, options };
        let bytes = request(RequestUnion::CreateRequest(create));
        assert_eq!(decode(&bytes), Ok(Request::Create(expected)));
        let check = |bytes: &[u8], expected| assert_eq!(decode(bytes), Ok(expected), "{bytes:?}");
        let cancel = WatchCancelRequest { watch_id: 3 };
        check(&request(RequestUnion::CancelRequest(cancel)), Request::Cancel(3));
        check(&request(RequestUnion::ProgressRequest(WatchProgressRequest {})), Request::Progress);
        check(b"", Request::Nothing);
        check(b"\x22\x01\x00", Request::Nothing);
        // Filters one by one, as old clients send them.
        let filter = Filter { no_put: false, no_delete: true };
        let options = Options { filter, ..Options::default() };
        let create = Create { keys: KeyRange::new(b"", b""), start: 0, id: 0, options };
        check(b"\x0a\x02\x28\x01", Request::Create(create));
        assert!(decode(b"\x0a\x02\x28").is_err() && decode(b"\x08\x01").is_err());
    }

    #[test]
    fn words_are_the_generated_bytes() {
        let origin = Origin { cluster_id: 300, member_id: 2, raft_term: 3 };
        let check = |message: Message, revision, response: WatchResponse| {
            let mut out = Vec::new();
            encode_word(origin, &message, &mut out);
            let header = origin.at(Revision(revision)).message();
            assert_eq!(out, WatchResponse { header, ..response }.encode_to_vec(), "{message:?}");
        };
        let revision = Revision(9);
        let response = WatchResponse { created: true, ..WatchResponse::default() };
        check(Message::Created { id: 0, revision }, 9, response);
        let cancel_reason = "mvcc: watcher range is empty".into();
        let response = WatchResponse {
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason,
            ..WatchResponse::default()
        };
        check(Message::Refused { why: Refusal::EmptyRange, revision }, 9, response);
        let response = WatchResponse { watch_id: 5, canceled: true, ..WatchResponse::default() };
        check(Message::Canceled { id: 5, revision }, 9, response.clone());
        let response = WatchResponse { compact_revision: 8, ..response };
        check(Message::Compacted { id: 5, compacted: Revision(8) }, 0, response);
        let response = WatchResponse { watch_id: -1, ..WatchResponse::default() };
        check(Message::Progress { id: -1, revision }, 9, response);
    }
}
