//! State for members that are too far behind, and state from a leader: both ends of `transfer`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::{LogIndex, LogPosition, MemberId, Payload as Body, SnapshotMeta, Term};

use super::payload::Members;
use super::peer::{Message, TransferBody};
use super::{Coming, Fatal, Replica};
use crate::disk::Outcome;
use crate::map::MapError;
use crate::map::page::WritePages;
use crate::mvcc::Cold;
use crate::mvcc::history::record::ALIGN;
use crate::mvcc::index::table::Table;
use crate::mvcc::store::Store;
use crate::seeded::{self, Bug};
use crate::transfer::piece::TABLES;
use crate::transfer::spool::{Spool, Stage};
use crate::transfer::{Head, Piece};
use crate::types::{Revision, Seq};

/// Pieces on their way to one member.
const WINDOW: usize = 8;

/// Bytes of records after which a piece is full.
const PIECE_BYTES: usize = 256 << 10;

/// A piece that is not answered for so long is sent again, and all behind it.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A transfer that gets no answer for so long has failed.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// Transfers at a time.
const SENDING_MAX: usize = 2;

/// Both ends.
#[derive(Debug, Default)]
pub struct Transfers {
    /// Members that asked and wait for a settled state.
    wanted: Vec<MemberId>,
    sending: BTreeMap<MemberId, Sending>,
    number: u64,
    /// What is on its way here.
    spool: Option<Spool>,
    next_id: u64,
    /// The file is there.
    has_file: bool,
    /// Position of the log's mark, once raft has taken the state for its own: nothing from there on counts before the
    /// member is opened again.
    mark: Option<LogPosition>,
    messages: VecDeque<Message>,
}

/// A transfer to one member.
#[derive(Debug)]
struct Sending {
    number: u64,
    /// Raft's own message, delivered when all has arrived.
    meta: raft::Message,
    head: Box<Head>,
    /// The last record at the floor, once it is known.
    floor_last: Option<Seq>,
    /// Everything before this has arrived.
    taken: Seq,
    /// Where the next piece begins.
    next: Seq,
    /// Beginnings of the pieces on their way.
    in_flight: Vec<Seq>,
    sent_at: Instant,
    heard_at: Instant,
    /// What it reads is on its way into memory.
    cold: bool,
}

impl Sending {
    /// Whether a piece may be sent now.
    fn has_work(&self) -> bool {
        !self.cold && self.in_flight.len() < WINDOW && self.next <= self.head.last_seq
    }
}

impl Transfers {
    /// None yet; numbers count up from `number`, which no other start comes near.
    pub fn new(number: u64) -> Transfers {
        Transfers { number, ..Transfers::default() }
    }

    /// The oldest revision from which on a transfer under way has everything.
    pub fn oldest(&self) -> Option<Revision> {
        self.sending.values().map(|sending| sending.head.floor).min()
    }

    /// The next message.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// The next operation on the file.
    pub fn poll(&mut self) -> Option<(crate::disk::Token, crate::disk::Op)> {
        self.spool.as_mut()?.poll()
    }

    /// Whether raft has the news of a state that is not installed yet.
    pub fn is_installing(&self) -> bool {
        self.mark.is_some()
    }

    /// The log marks the state at this position.
    pub fn marked(&mut self, position: LogPosition) {
        assert!(self.spool.is_some() && self.mark.is_none(), "a mark at {position} for no state");
        self.mark = Some(position);
    }

    /// What of the log counts for raft, if it is durable up to `durable`.
    pub fn counted(&self, durable: LogPosition) -> LogPosition {
        self.mark.map_or(durable, |mark| durable.min(LogPosition(mark.0 - 1)))
    }

    /// Whether a turn left something to send.
    pub fn has_work(&self) -> bool {
        self.sending.values().any(Sending::has_work)
    }

    /// Something was brought in: try again.
    pub fn warmed(&mut self) {
        self.sending.values_mut().for_each(|sending| sending.cold = false);
    }
}

impl Replica {
    /// Whether a state from the leader waits to be installed: the driver ends this replica, once its operations are
    /// over, and opens the data directory again.
    pub fn wants_reopening(&self) -> bool {
        self.transfers.spool.as_ref().is_some_and(|spool| spool.stage() == Stage::Committed)
    }

    /// Goes on with both ends.
    pub(super) fn pump_transfers(&mut self, now: Instant) -> Result<(), Fatal> {
        while let Some(to) = self.raft.poll_snapshot_request() {
            self.transfers.wanted.push(to);
        }
        // A configuration goes with the state that it is of.
        let settled = self.applies.is_settled() && self.conf_index <= self.applies.published().index;
        if settled && !self.transfers.is_installing() {
            for to in std::mem::take(&mut self.transfers.wanted) {
                self.begin_sending(now, to)?;
            }
        }
        self.send_pieces(now)?;
        self.advance_spool();
        Ok(())
    }

    fn begin_sending(&mut self, now: Instant, to: MemberId) -> Result<(), Fatal> {
        if self.transfers.sending.len() >= SENDING_MAX && !self.transfers.sending.contains_key(&to) {
            self.transfers.wanted.push(to);
            return Ok(());
        }
        let head = match self.pin_head() {
            Ok(head) => head,
            Err(cold) => {
                self.want(&cold)?;
                self.transfers.wanted.push(to);
                return Ok(());
            }
        };
        let meta = SnapshotMeta {
            index: LogIndex(head.applied.index),
            term: Term(head.applied.term),
            conf_state: head.members.conf_state.clone(),
        };
        if !self.raft.begin_snapshot(to, meta) {
            self.transfers.sending.remove(&to);
            self.raft.snapshot_status(to, None);
            return Ok(());
        }
        // Raft's message is the last one it emitted, and goes with the transfer.
        let meta = self.take_snapshot_message(to);
        self.transfers.number += 1;
        let number = self.transfers.number;
        let sending = Sending {
            number,
            meta,
            head: Box::new(head),
            floor_last: None,
            taken: Seq(0),
            next: Seq(0),
            in_flight: Vec::new(),
            sent_at: now,
            heard_at: now,
            cold: false,
        };
        self.transfers.sending.insert(to, sending);
        Ok(())
    }

    /// Raft's messages so far; the one about a snapshot for `to` is kept back.
    fn take_snapshot_message(&mut self, to: MemberId) -> raft::Message {
        loop {
            let message = self.raft.poll_message().expect("raft has just emitted it");
            if message.to == to && matches!(message.payload, Body::Snapshot { .. }) {
                return message;
            }
            self.transfers.messages.push_back(Message::Raft(message));
        }
    }

    /// What a transfer of the published state begins with.
    fn pin_head(&self) -> Result<Head, Cold> {
        let view = self.store.view();
        let mut rows = Vec::new();
        let left_out = |table: &Table| seeded::is(Bug::TransferWithoutLeases) && *table == Table::Lease;
        for table in TABLES.into_iter().filter(|table| !left_out(table)) {
            let mut found = view.index.rows(table, &[]);
            loop {
                match found.next() {
                    Ok(Some((key, value))) => rows.push((table, key.to_vec(), value.to_vec())),
                    Ok(None) => break,
                    Err(error) => return Err(Cold::from(error)),
                }
            }
        }
        let mut applied = self.applies.published();
        if seeded::is(Bug::TransferClaimsMore) {
            applied.index += 1;
        }
        Ok(Head {
            applied,
            state: self.store.published().1,
            floor: self.floor(),
            last_seq: view.now()?.last,
            members: Members { conf_state: self.raft.conf_state().clone(), index: self.conf_index },
            rows,
        })
    }

    fn send_pieces(&mut self, now: Instant) -> Result<(), Fatal> {
        let mut failed = Vec::new();
        let mut wanted = Vec::new();
        let leads = self.raft.is_leader();
        for (&to, sending) in &mut self.transfers.sending {
            if !leads || now >= sending.heard_at + GIVE_UP_AFTER {
                failed.push(to);
                continue;
            }
            if !sending.in_flight.is_empty() && now >= sending.sent_at + RETRY_AFTER {
                sending.next = sending.taken;
                sending.in_flight.clear();
            }
            // One a turn: others wait for it.
            if sending.has_work() {
                let piece = match next_piece(sending, &self.store) {
                    Ok(piece) => piece,
                    Err(cold) => {
                        sending.cold = true;
                        wanted.push(cold);
                        continue;
                    }
                };
                sending.in_flight.push(piece.at());
                sending.next = piece.behind();
                sending.sent_at = now;
                let body = TransferBody::Piece { meta: sending.meta.clone(), bytes: piece.encode() };
                let (from, number) = (self.config.member, sending.number);
                self.transfers.messages.push_back(Message::Transfer { from, to: to.0, number, body });
            }
        }
        for cold in wanted {
            if self.want(&cold)? == Coming::Now {
                self.transfers.warmed();
            }
        }
        for to in failed {
            self.transfers.sending.remove(&to);
            self.raft.snapshot_status(to, None);
        }
        Ok(())
    }

    /// A piece of the leader's state arrived.
    pub(super) fn on_piece(&mut self, from: u64, number: u64, meta: raft::Message, bytes: &Bytes) {
        let Body::Snapshot { meta: snapshot } = &meta.payload else { return };
        if meta.from.0 != from || meta.to.0 != self.config.member || self.transfers.is_installing() {
            return;
        }
        if meta.term < self.raft.term() || snapshot.index <= self.raft.commit_index() {
            // It is of no use any more; raft says so itself.
            let _ = self.raft.step(meta);
            return;
        }
        let Some(piece) = Piece::decode(bytes) else { return };
        let known = |spool: &Spool| spool.number == number && spool.meta.from.0 == from;
        let spool = match &mut self.transfers.spool {
            Some(spool) if known(spool) => spool,
            // One operation of the old one may be under way; its end would be taken for the new one's.
            Some(spool) if spool.is_busy() => return,
            _ if piece.at() != Seq(0) => return self.tell_taken(from, number, Seq(0)),
            other => {
                let first_id = other.as_ref().map_or(self.transfers.next_id, Spool::next_id);
                let exists = std::mem::replace(&mut self.transfers.has_file, true);
                other.insert(Spool::new(meta, number, exists, first_id))
            }
        };
        if let Some(next) = spool.take(&piece) {
            self.tell_taken(from, number, next);
        }
    }

    fn tell_taken(&mut self, to: u64, number: u64, next: Seq) {
        let (from, body) = (self.config.member, TransferBody::Taken(next));
        self.transfers.messages.push_back(Message::Transfer { from, to, number, body });
    }

    /// How far a transfer has come.
    pub(super) fn on_taken(&mut self, now: Instant, from: u64, number: u64, next: Seq) {
        let to = MemberId(from);
        let Some(sending) = self.transfers.sending.get_mut(&to).filter(|s| s.number == number) else {
            return;
        };
        sending.heard_at = now;
        if next == Seq(0) {
            // It lost what it had, and begins again.
            (sending.taken, sending.next) = (next, next);
        }
        // What was overtaken on the way is old news.
        sending.taken = sending.taken.max(next);
        sending.next = sending.next.max(next);
        let taken = sending.taken;
        sending.in_flight.retain(|at| *at >= taken && next != Seq(0));
        if next > sending.head.last_seq {
            let index = LogIndex(sending.head.applied.index);
            self.transfers.sending.remove(&to);
            self.raft.snapshot_status(to, Some(index));
        }
    }

    /// All is here: raft hears of it; then the log; then the commit.
    fn advance_spool(&mut self) {
        let Some(spool) = &mut self.transfers.spool else { return };
        if spool.stage() != Stage::Whole {
            return;
        }
        if let Some(mark) = self.transfers.mark {
            if self.wal.durable() >= mark.0 {
                spool.commit();
            }
            return;
        }
        let (before, index) = (self.conf_index, spool.head.as_ref().expect("all is here").members.index);
        if index < before {
            // Back to an older configuration? The leader will have a newer state.
            self.transfers.spool = None;
            return;
        }
        self.conf_index = index;
        let meta = spool.meta.clone();
        let _ = self.raft.step(meta);
        self.pump_raft();
        if !self.transfers.is_installing() {
            // Its time is over, or the log has all of it.
            self.conf_index = before;
            self.transfers.spool = None;
        }
    }

    /// An operation on the file has ended.
    pub(super) fn on_incoming(&mut self, outcome: Outcome) -> Result<(), Fatal> {
        let installing = self.transfers.is_installing();
        let Some(spool) = &mut self.transfers.spool else { return Ok(()) };
        let taken = match spool.on_completed(outcome) {
            Ok(taken) => taken,
            // There is no room for it: the leader gives up after a while, and tries again.
            Err(error) if error.is_full() && !installing => {
                self.transfers.next_id = spool.next_id();
                self.transfers.spool = None;
                return Ok(());
            }
            Err(error) => return Err(Fatal::Index(MapError::Disk(error))),
        };
        self.transfers.next_id = spool.next_id();
        if let Some(next) = taken {
            let (to, number) = (spool.meta.from.0, spool.number);
            self.tell_taken(to, number, next);
        }
        Ok(())
    }
}

/// The piece at `sending.next`.
fn next_piece<W: WritePages>(sending: &mut Sending, store: &Store<W>) -> Result<Piece, Cold> {
    if sending.next == Seq(0) {
        return Ok(Piece::Head(sending.head.clone()));
    }
    let (history, floor) = (store.history(), sending.head.floor);
    let floor_last = match sending.floor_last {
        Some(last) => last,
        None => *sending.floor_last.insert(history.last_seq_at(floor)?),
    };
    let (at, last) = (sending.next, sending.head.last_seq);
    let (mut bytes, mut behind) = (Vec::new(), at);
    // What is cold ends a piece that has something in it, and is fetched for the next.
    let mut look = || -> Result<bool, Cold> {
        let run = history.run(behind)?;
        let run = run.unwrap_or_else(|| panic!("record {last} is the last, and {behind} is before it"));
        let next = run.behind;
        for record in run.take_while(|record| record.seq() <= last) {
            if bytes.len() >= PIECE_BYTES {
                return Ok(false);
            }
            if store.is_alive(&record, floor, floor_last)? {
                bytes.extend_from_slice(record.bytes());
                bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
            }
            behind = Seq(record.seq().0 + 1);
        }
        behind = next.min(Seq(last.0 + 1));
        Ok(behind <= last)
    };
    let ended = loop {
        match look() {
            Ok(true) => {}
            ended => break ended,
        }
    };
    match ended {
        Err(cold) if behind == at => Err(cold),
        _ => Ok(Piece::Records { at, behind, bytes: bytes.into() }),
    }
}
