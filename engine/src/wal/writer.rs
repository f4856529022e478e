//! Group commit without input or output: frames in, disk operations out, a durable position back.
//!
//! The story of an entry:
//! 1. `push_entries` encodes it into the open block, under a position that the caller lets grow.
//! 2. `poll` closes the block and emits its write as soon as the batching rules allow (below).
//! 3. `on_completed` hears that the write, and in fdatasync mode the sync after it, is done.
//! 4. `durable` is the position up to which all blocks are done, in their order: completions out of order
//!    wait.
//!
//! Batching has no timer: with nothing in flight a block goes at once; with some in flight it goes when 16
//! KiB wait or the caller's loop turn brought no proposal; with K in flight frames collect. Segment heads and
//! seals are light: nobody waits for them alone, so they do not count as in flight.
//!
//! A failed operation ends the log for this process: what the kernel did with the data is unknown, so nothing
//! more is acknowledged, and a retry could report success for bytes that were dropped (PostgreSQL's
//! "fsyncgate").

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::block::{Block, aligned_buffer};
use super::config::{Config, Mode};
use super::frame;
use super::layout::{CONF_STATE_BYTES_MAX, FRAME_BYTES, HEADER_BYTES, flags, padded};
use super::segment::Space;
use super::tail::Tail;
use super::{Entry, EntryId, HardState};
use crate::disk::{DiskError, Durability, FileName, Op, Outcome, Owner, Token};
use crate::seeded::{self, Bug};

/// The log failed; only a new process may open it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFailure {
    /// The operation that failed first.
    pub error: DiskError,
}

impl fmt::Display for WalFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log failed and takes no more writes: {}", self.error)
    }
}

impl std::error::Error for WalFailure {}

/// A submitted block.
struct Flight {
    number: u64,
    position: u64,
    file: FileName,
    /// The operation it waits for.
    token: u64,
    stage: Stage,
    light: bool,
    /// Kept so that the buffer can be used again.
    data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Writing,
    /// Only in fdatasync mode: a sync has to follow.
    Written,
    Syncing,
    Done,
}

/// The log, open for writing. Made by [`super::open()`].
pub struct Writer {
    config: Config,
    space: Space,
    tail: Tail,
    /// Blocks not submitted yet, oldest first; frames go into the last one.
    waiting: VecDeque<Block>,
    /// Bytes of their frames.
    waiting_bytes: usize,
    /// Blocks submitted and not known durable together with all before them, oldest first.
    flights: VecDeque<Flight>,
    /// State as of the last push: `tail` with all that waits.
    last: EntryId,
    hard_state: HardState,
    promised: Option<EntryId>,
    position: u64,
    /// `durable_position <= tail.position <= position`, and `durable_number <= tail.number`.
    durable_position: u64,
    durable_number: u64,
    /// Number of the active segment's head.
    active_head: u64,
    /// The write of its copy, until it is emitted.
    head_copy: Option<Op>,
    /// Operations that write copies.
    copies: Vec<u64>,
    /// The operation on segments that is under way.
    space_token: Option<u64>,
    next_token: u64,
    idle_since: Option<Instant>,
    /// Nothing was pushed since the last seal.
    sealed: bool,
    /// Buffers of written blocks.
    buffers: Vec<BytesMut>,
    failure: Option<WalFailure>,
}

impl Writer {
    /// `tail` is the head block just made durable in a fresh segment.
    pub(super) fn new(config: Config, space: Space, tail: Tail) -> Writer {
        config.check();
        Writer {
            last: tail.last,
            hard_state: tail.hard_state,
            promised: tail.promised,
            position: 0,
            durable_position: 0,
            durable_number: tail.number,
            active_head: tail.number,
            config,
            space,
            tail,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flights: VecDeque::new(),
            head_copy: None,
            copies: Vec::new(),
            space_token: None,
            next_token: 0,
            idle_since: None,
            sealed: true,
            buffers: Vec::new(),
            failure: None,
        }
    }

    /// Logs `entries`, which follow the last one. They are durable together, at `position`.
    ///
    /// Positions never go back. After a failure all pushes are dropped: nothing can become durable any more.
    pub fn push_entries(&mut self, position: u64, entries: &[Entry]) {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            assert!(index == self.last.index + 1, "entry {index} does not follow {}", self.last.index);
            assert!(term >= self.last.term, "entry {index} goes back from term {} to {term}", self.last.term);
            let len = entry.data.len();
            assert!(len <= self.config.entry_bytes_max, "entry {index} of {len} bytes exceeds the limit");
            self.last = entry.id();
            let block = self.room(frame::entry_bytes(len));
            frame::put_entry(block.body(), entry);
            self.pushed(frame::entry_bytes(len));
        }
        self.complete(position);
    }

    /// Logs term, vote and commit.
    pub fn push_hard_state(&mut self, position: u64, hard_state: HardState) {
        assert!(hard_state.term >= self.hard_state.term, "term went back to {}", hard_state.term);
        self.hard_state = hard_state;
        self.room(0);
        self.pushed(0);
        self.complete(position);
    }

    /// Remembers `commit` for whatever block comes next; it needs none of its own, being a hint.
    pub fn note_commit(&mut self, commit: u64) {
        self.hard_state.commit = self.hard_state.commit.max(commit);
        if let Some(block) = self.waiting.back_mut() {
            block.hard_state.commit = self.hard_state.commit;
        }
    }

    /// Logs the configuration in force, at most [`CONF_STATE_BYTES_MAX`] bytes.
    pub fn push_conf_state(&mut self, position: u64, conf_state: Bytes) {
        let len = conf_state.len();
        assert!(len <= CONF_STATE_BYTES_MAX, "a configuration of {len} bytes");
        let block = self.room(FRAME_BYTES + len);
        frame::put_conf_state(block.body(), &conf_state);
        block.conf_state = Some(conf_state);
        self.pushed(FRAME_BYTES + len);
        self.complete(position);
    }

    /// Drops all entries after `keep`.
    pub fn push_truncate(&mut self, position: u64, keep: EntryId) {
        assert!(keep.index <= self.last.index, "{keep:?} lies beyond the last entry {:?}", self.last);
        self.last = keep;
        let block = self.room(FRAME_BYTES);
        block.first_index = block.first_index.min(keep.index + 1);
        frame::put_truncate(block.body(), keep);
        self.pushed(FRAME_BYTES);
        self.complete(position);
    }

    /// The log goes on after `mark`, where a snapshot puts the state; no entry before it is needed any more.
    ///
    /// Recovery ignores a mark above the index's applied entry, and all that follows it. So nothing pushed
    /// after the mark may be acknowledged before the index stands at the mark durably.
    pub fn push_snapshot_mark(&mut self, position: u64, mark: EntryId) {
        self.last = mark;
        let block = self.room(FRAME_BYTES);
        block.first_index = mark.index + 1;
        frame::put_snapshot_mark(block.body(), mark);
        self.pushed(FRAME_BYTES);
        self.complete(position);
    }

    /// The member has caught up with all it had promised: [`super::recover::Standing::Recovering`] ends.
    pub fn push_recovered(&mut self, position: u64) {
        self.promised = None;
        self.push_hard_state(position, self.hard_state);
    }

    /// The last block of an orderly stop; durable at `position`. Whoever opens the log next knows nothing is
    /// missing.
    pub fn push_stop(&mut self, position: u64) {
        self.close_open_block();
        let block = self.room(FRAME_BYTES);
        block.flags |= flags::CLEAN;
        frame::put_seal(block.body());
        self.pushed(FRAME_BYTES);
        self.complete(position);
        self.sealed = true;
    }

    /// The next operation to carry out, if one is due; call until `None`. `now_quiet`: the caller's loop turn
    /// saw no new proposal, so waiting longer gains nothing.
    pub fn poll(&mut self, now_quiet: bool) -> Option<(Token, Op)> {
        if self.failure.is_some() {
            return None;
        }
        if let Some(op) = self.head_copy.take() {
            let token = self.new_token();
            self.copies.push(token.id);
            return Some((token, op));
        }
        if let Some(sync) = self.poll_sync() {
            return Some(sync);
        }
        if self.may_submit(now_quiet)
            && let Some(write) = self.submit()
        {
            return Some(write);
        }
        // A late write must not hit a file that has been put to another use.
        let nothing_behind = self.durable_number >= self.active_head && self.copies.is_empty();
        let op = self.space.poll(nothing_behind)?;
        let token = self.new_token();
        self.space_token = Some(token.id);
        Some((token, op))
    }

    /// Seals the log when it has been idle for [`super::Config::seal_after`]: at most once per idle period,
    /// and what is pushed meanwhile does not wait for it. Call when the log has become idle; returns when to
    /// call again. A seal that fell due is the next thing [`Writer::poll`] emits.
    pub fn poll_timer(&mut self, now: Instant) -> Option<Instant> {
        let busy = !self.waiting.is_empty() || !self.flights.is_empty();
        if busy || self.sealed || self.failure.is_some() {
            self.idle_since = None;
            return None;
        }
        let deadline = *self.idle_since.get_or_insert(now) + self.config.seal_after;
        if now < deadline {
            return Some(deadline);
        }
        self.idle_since = None;
        let block = self.room(FRAME_BYTES);
        block.light = true;
        frame::put_seal(block.body());
        self.waiting_bytes += FRAME_BYTES;
        self.sealed = true;
        None
    }

    /// Reports the outcome of an operation. The first failure is returned, and again on every later call.
    pub fn on_completed(&mut self, token: Token, outcome: Outcome) -> Result<(), WalFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let handled = match outcome {
            outcome if self.space_token == Some(token.id) => {
                self.space_token = None;
                self.space.on_completed(outcome.map(drop))
            }
            Err(error) => Err(error),
            Ok(_) => {
                self.on_written(token.id);
                Ok(())
            }
        };
        handled.map_err(|error| {
            let failure = WalFailure { error };
            self.failure = Some(failure.clone());
            failure
        })
    }

    /// Position up to which everything pushed is on stable storage.
    pub fn durable(&self) -> u64 {
        self.durable_position
    }

    /// Bytes pushed and not submitted yet; who feeds the log bounds it by this.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.flights.is_empty()
            && self.copies.is_empty()
            && self.space_token.is_none()
    }

    /// What ended the log, if anything did.
    pub fn failure(&self) -> Option<&WalFailure> {
        self.failure.as_ref()
    }

    /// A checkpoint whose applied index is `upto` is durable. Segments that the checkpoint *before* it covers
    /// are used again: the older of the two index metas can still be opened.
    pub fn release(&mut self, upto: u64) {
        self.space.release(upto);
    }

    /// The disk refused zeroed space ahead of the log: raise the alarm while what is left still takes writes.
    pub fn needs_space(&self) -> bool {
        self.space.needs_space()
    }

    /// Tries again to get the space that [`Writer::needs_space`] misses.
    pub fn retry_space(&mut self) {
        self.space.retry_space();
    }

    /// Bytes of all files of the log, spares included.
    pub fn total_bytes(&self) -> u64 {
        self.space.total_bytes()
    }

    /// Bytes of the segments behind the one written to that are still needed: two checkpoints more, and none is.
    pub fn behind_bytes(&self) -> u64 {
        self.space.behind()
    }

    /// Zeroed bytes that can still be written.
    pub fn ahead_bytes(&self) -> u64 {
        self.space.ahead()
    }

    /// The open block, or a new one if `frame_bytes` do not fit any more.
    fn room(&mut self, frame_bytes: usize) -> &mut Block {
        let fits = |block: &Block| {
            let len = HEADER_BYTES + block.body_len() + frame_bytes;
            len <= self.config.block_bytes_max && !block.light && block.flags == 0
        };
        if !self.waiting.back().is_some_and(fits) {
            let buffer = self.buffer(HEADER_BYTES + frame_bytes);
            // `last` may already be the entry about to be encoded; what the block needs is what came before
            // it.
            let before = self.waiting.back().map_or(self.tail.last, |block| block.last);
            self.waiting.push_back(Block::new(buffer, before, self.hard_state, self.position));
        }
        let (last, hard_state, promised) = (self.last, self.hard_state, self.promised);
        let block = self.waiting.back_mut().expect("just made sure of it");
        block.last = last;
        block.hard_state = hard_state;
        block.promised = promised;
        block
    }

    fn pushed(&mut self, bytes: usize) {
        self.waiting_bytes += bytes;
        self.sealed = false;
        self.idle_since = None;
    }

    /// All frames at `position` are in blocks.
    fn complete(&mut self, position: u64) {
        assert!(position >= self.position, "positions went back from {} to {position}", self.position);
        self.position = position;
        if self.failure.is_some() {
            self.waiting.clear();
            self.waiting_bytes = 0;
            return;
        }
        match self.waiting.back_mut() {
            Some(block) => block.position = position,
            // Nothing was pushed (no entries): what is before the position is what matters.
            None => match self.flights.back_mut() {
                Some(flight) => flight.position = position,
                None => self.durable_position = position,
            },
        }
    }

    /// The next frame begins a block of its own.
    fn close_open_block(&mut self) {
        let buffer = self.buffer(0);
        let last = self.waiting.back().map_or(self.tail.last, |block| block.last);
        self.waiting.push_back(Block::new(buffer, last, self.hard_state, self.position));
    }

    fn may_submit(&self, now_quiet: bool) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        // Blocks that are done but wait for one before them count too: recovery cannot tell them from torn
        // ones.
        let in_flight = self.flights.iter().filter(|flight| !flight.light).count();
        match in_flight {
            _ if first.light => true,
            0 => true,
            n if n < self.config.depth() => now_quiet || self.waiting_bytes >= self.config.batch_bytes,
            _ => false,
        }
    }

    /// Emits the write of the oldest waiting block, or of a segment head that must come first. `None` when
    /// the disk is full up to the last byte.
    fn submit(&mut self) -> Option<(Token, Op)> {
        let block = self.waiting.front().expect("the caller saw one");
        let Some((file, offset)) = self.space.place(block.padded_len(), block.last.index) else {
            return self.submit_head();
        };
        let block = self.waiting.pop_front().expect("the caller saw one");
        self.waiting_bytes -= block.body_len();
        Some(self.write(block, file, offset))
    }

    /// Opens the next segment: its head repeats what must outlive the segments before it.
    fn submit_head(&mut self) -> Option<(Token, Op)> {
        let (file, copy_at) = self.space.advance()?;
        let buffer = self.buffer(0);
        let block = self.tail.head_block(buffer, self.tail.number + 1);
        let (token, op) = self.write(block, file, 0);
        let Op::Write { data, durability, .. } = &op else { unreachable!("blocks are written") };
        self.head_copy =
            Some(Op::Write { file, offset: copy_at, data: data.clone(), durability: *durability });
        self.active_head = self.tail.number;
        Some((token, op))
    }

    fn write(&mut self, block: Block, file: FileName, offset: u64) -> (Token, Op) {
        let light = block.light;
        let durable_upto = (!self.config.is_unsafe()).then_some(self.durable_number);
        let data = self.tail.seal(block, durable_upto);
        let token = self.new_token();
        self.flights.push_back(Flight {
            number: self.tail.number,
            position: self.tail.position,
            file,
            token: token.id,
            stage: Stage::Writing,
            light,
            data: data.clone(),
        });
        let durability = match self.config.mode {
            Mode::Dsync { .. } => Durability::Synced,
            Mode::Fdatasync | Mode::NoFsync { .. } => Durability::Cached,
        };
        (token, Op::Write { file, offset, data, durability })
    }

    fn poll_sync(&mut self) -> Option<(Token, Op)> {
        let at = self.flights.iter().position(|flight| flight.stage == Stage::Written)?;
        let token = self.new_token();
        let flight = &mut self.flights[at];
        flight.stage = Stage::Syncing;
        flight.token = token.id;
        Some((token, Op::Sync { file: flight.file }))
    }

    fn on_written(&mut self, token: u64) {
        if let Some(at) = self.copies.iter().position(|&copy| copy == token) {
            self.copies.swap_remove(at);
            return;
        }
        let synced_apart = self.config.mode == Mode::Fdatasync;
        let flight = self
            .flights
            .iter_mut()
            .find(|flight| flight.token == token && matches!(flight.stage, Stage::Writing | Stage::Syncing))
            .unwrap_or_else(|| panic!("completion of unknown operation {token}"));
        flight.stage = match flight.stage {
            Stage::Writing if synced_apart && !seeded::is(Bug::AckBeforeSync) => Stage::Written,
            _ => Stage::Done,
        };
        if flight.stage == Stage::Done && seeded::is(Bug::AckOutOfOrder) {
            self.durable_position = self.durable_position.max(flight.position);
        }
        while self.flights.front().is_some_and(|flight| flight.stage == Stage::Done) {
            let flight = self.flights.pop_front().expect("just seen");
            self.durable_number = flight.number;
            self.durable_position = self.durable_position.max(flight.position);
            self.reuse(flight.data);
        }
    }

    fn new_token(&mut self) -> Token {
        self.next_token += 1;
        Token { owner: Owner::Log, id: self.next_token }
    }

    fn buffer(&mut self, len: usize) -> BytesMut {
        if len > self.config.block_bytes_max {
            return aligned_buffer(padded(len));
        }
        self.buffers.pop().unwrap_or_else(|| aligned_buffer(self.config.block_bytes_max))
    }

    /// Keeps the buffer of a written block, if it has the usual size and the driver has let go of it.
    fn reuse(&mut self, data: Bytes) {
        let spare_buffers_max = self.config.depth() + 2;
        if data.len() > self.config.block_bytes_max || self.buffers.len() >= spare_buffers_max {
            return;
        }
        if let Ok(buffer) = data.try_into_mut() {
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::frame::Frame;
    use super::super::layout::Header;
    use super::super::recover::{Voters, recover};
    use super::super::{Identity, open};
    use super::*;
    use crate::disk::mem::MemDisk;
    use crate::disk::{Disk, Output};

    fn writer(mode: Mode) -> Writer {
        let mut disk = MemDisk::new();
        let identity = Identity { cluster: 1, member: 1 };
        let recovered = recover(&mut disk, identity, EntryId::default(), Voters::Single).unwrap();
        let config = Config { mode, segment_bytes_first: 3 << 20, ..Config::default() };
        let mut writer = open(&mut disk, &recovered, config, 1).unwrap();
        // What is due for the space ahead, so that only blocks are left to watch.
        while let Some((token, op)) = writer.poll(true) {
            let outcome = disk.run(op);
            writer.on_completed(token, outcome).unwrap();
        }
        writer
    }

    /// Pushes one entry of `len` bytes; its position is its index.
    fn push(writer: &mut Writer, len: usize) {
        let index = writer.last.index + 1;
        writer.push_entries(index, &[Entry { term: 1, index, kind: 0, data: vec![7; len].into() }]);
    }

    fn done(writer: &mut Writer, token: Token) {
        writer.on_completed(token, Ok(Output::Done)).unwrap();
    }

    fn entries(op: &Op) -> usize {
        let Op::Write { data, .. } = op else { panic!("{op} is no write") };
        let (header, _) = Header::decode(data).unwrap();
        let body = data.slice(HEADER_BYTES..HEADER_BYTES + header.body_length as usize);
        frame::decode(&body).unwrap().iter().filter(|frame| matches!(frame, Frame::Entry(_))).count()
    }

    #[test]
    fn with_nothing_in_flight_a_block_goes_at_once() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        push(&mut writer, 300);
        push(&mut writer, 300);
        let (token, op) = writer.poll(false).unwrap();
        assert_eq!(entries(&op), 2);
        assert!(matches!(op, Op::Write { durability: Durability::Synced, .. }));
        assert_eq!(writer.durable(), 0);
        done(&mut writer, token);
        assert_eq!(writer.durable(), 2);
    }

    #[test]
    fn with_some_in_flight_it_waits_for_a_quiet_turn_or_enough() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        push(&mut writer, 300);
        writer.poll(false).unwrap();
        push(&mut writer, 300);
        assert!(writer.poll(false).is_none(), "a busy turn collects");
        push(&mut writer, 300);
        assert_eq!(entries(&writer.poll(true).unwrap().1), 2, "a quiet turn does not");
        push(&mut writer, 10 << 10);
        assert!(writer.poll(false).is_none());
        push(&mut writer, 6 << 10);
        assert_eq!(entries(&writer.poll(false).unwrap().1), 2, "16 KiB are enough");
    }

    #[test]
    fn with_k_in_flight_frames_collect_into_blocks_of_bounded_size() {
        let mut writer = writer(Mode::Dsync { depth: 2 });
        let mut tokens = Vec::new();
        for _ in 0..2 {
            push(&mut writer, 300);
            tokens.push(writer.poll(true).unwrap().0);
        }
        for _ in 0..40 {
            push(&mut writer, 10_000);
        }
        push(&mut writer, 1 << 20);
        assert!(writer.poll(true).is_none(), "two are in flight");
        let mut sizes = Vec::new();
        for _ in 0..3 {
            done(&mut writer, tokens.remove(0));
            let (token, op) = writer.poll(true).unwrap();
            let Op::Write { data, .. } = &op else { panic!("{op}") };
            sizes.push((entries(&op), data.len()));
            tokens.push(token);
        }
        // 26 * 10,024 + 128 fit into 256 KiB; an entry of 1 MiB has a block as long as it needs.
        assert_eq!(sizes, [(26, 262_144), (14, 143_360), (1, 1_052_672)]);
    }

    #[test]
    fn completions_out_of_order_wait_for_the_blocks_before_them() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        let tokens: Vec<Token> = (0..4)
            .map(|_| {
                push(&mut writer, 300);
                writer.poll(true).unwrap().0
            })
            .collect();
        for (completed, durable) in [(2, 0), (1, 0), (0, 3), (3, 4)] {
            done(&mut writer, tokens[completed]);
            assert_eq!(writer.durable(), durable, "after block {completed}");
        }
    }

    #[test]
    fn a_push_over_several_blocks_is_durable_with_the_last() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        let entries: Vec<Entry> =
            (1..=40).map(|index| Entry { term: 1, index, kind: 0, data: vec![7; 10_000].into() }).collect();
        writer.push_entries(9, &entries);
        let first = writer.poll(true).unwrap().0;
        let second = writer.poll(true).unwrap().0;
        assert!(writer.poll(true).is_none());
        done(&mut writer, first);
        assert_eq!(writer.durable(), 0);
        done(&mut writer, second);
        assert_eq!(writer.durable(), 9);
    }

    #[test]
    fn fdatasync_mode_syncs_after_the_write_and_keeps_one_outstanding() {
        let mut writer = writer(Mode::Fdatasync);
        push(&mut writer, 300);
        let (write, op) = writer.poll(true).unwrap();
        assert!(matches!(op, Op::Write { durability: Durability::Cached, .. }));
        push(&mut writer, 300);
        assert!(writer.poll(true).is_none(), "one outstanding");
        done(&mut writer, write);
        let (sync, op) = writer.poll(true).unwrap();
        assert!(matches!(op, Op::Sync { .. }));
        assert!(writer.poll(true).is_none(), "still outstanding");
        assert_eq!(writer.durable(), 0, "written is not synced");
        done(&mut writer, sync);
        assert_eq!(writer.durable(), 1);
        assert_eq!(entries(&writer.poll(true).unwrap().1), 1);
    }

    #[test]
    fn without_fsync_nothing_claims_to_be_durable_on_disk() {
        let mut writer = writer(Mode::NoFsync { depth: 2 });
        for _ in 0..2 {
            push(&mut writer, 300);
            let (token, op) = writer.poll(true).unwrap();
            let Op::Write { data, durability: Durability::Cached, .. } = op else { panic!("{op}") };
            let (header, _) = Header::decode(&data).unwrap();
            assert_eq!((header.durable_upto, header.flags), (0, flags::NO_FSYNC));
            done(&mut writer, token);
        }
        assert_eq!(writer.durable(), 2);
    }

    #[test]
    fn durable_upto_tells_what_was_known_at_submission() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        let mut upto = Vec::new();
        let mut tokens = Vec::new();
        for round in 0..4 {
            push(&mut writer, 300);
            let (token, op) = writer.poll(true).unwrap();
            let Op::Write { data, .. } = op else { panic!("{op}") };
            upto.push(Header::decode(&data).unwrap().0.durable_upto);
            tokens.push(token);
            if round == 1 {
                done(&mut writer, tokens[1]);
                done(&mut writer, tokens[0]);
            }
        }
        // Block 1 is the segment's head, durable since open.
        assert_eq!(upto, [1, 1, 3, 3]);
    }

    #[test]
    fn one_seal_per_idle_period_and_no_put_waits_for_it() {
        for mode in [Mode::Dsync { depth: 1 }, Mode::Fdatasync] {
            let mut writer = writer(mode);
            #[allow(clippy::disallowed_methods, reason = "an origin for the simulated clock")]
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            assert_eq!(writer.poll_timer(at(0)), None, "nothing to seal");
            push(&mut writer, 300);
            assert_eq!(writer.poll_timer(at(0)), None, "busy");
            while let Some((token, _)) = writer.poll(true) {
                done(&mut writer, token);
            }
            assert_eq!(writer.poll_timer(at(10)), Some(at(110)));
            assert_eq!(writer.poll_timer(at(109)), Some(at(110)));
            assert_eq!(writer.poll_timer(at(110)), None);
            let (seal, op) = writer.poll(false).unwrap();
            assert_eq!(entries(&op), 0);
            push(&mut writer, 300);
            let (put, op) = writer.poll(false).expect("the seal is in nobody's way");
            assert_eq!(entries(&op), 1);
            for token in [seal, put] {
                done(&mut writer, token);
            }
            while let Some((token, _)) = writer.poll(true) {
                done(&mut writer, token);
            }
            assert_eq!(writer.durable(), 2);
            writer.poll_timer(at(200));
            writer.poll_timer(at(300));
            let (token, _) = writer.poll(false).expect("a new idle period, a new seal");
            done(&mut writer, token);
            while let Some((token, _)) = writer.poll(true) {
                done(&mut writer, token);
            }
            writer.poll_timer(at(400));
            writer.poll_timer(at(900));
            assert!(writer.poll(true).is_none(), "sealed once is sealed");
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let mut writer = writer(Mode::Dsync { depth: 1 });
        for _ in 0..10 {
            push(&mut writer, 300);
            let (token, op) = writer.poll(true).unwrap();
            drop(op);
            done(&mut writer, token);
            assert_eq!(writer.buffers.len(), 1);
        }
    }

    #[test]
    fn no_segment_is_used_again_while_its_head_copy_is_in_flight() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        let mut copy = None;
        // Three segments' worth: 3 MiB, 6 MiB, and a little.
        while writer.last.index < 6 || copy.is_none() || writer.total_bytes() < 16 << 20 {
            push(&mut writer, 1 << 20);
            while let Some((token, op)) = writer.poll(true) {
                match op {
                    Op::Write { offset, .. } if offset == (3 << 20) - 4096 || offset == (6 << 20) - 4096 => {
                        copy.get_or_insert(token);
                        if copy != Some(token) {
                            done(&mut writer, token);
                        }
                    }
                    _ => done(&mut writer, token),
                }
            }
        }
        for _ in 0..2 {
            writer.release(writer.last.index);
        }
        assert!(writer.poll(true).is_none(), "a late write would hit the recycled file");
        done(&mut writer, copy.unwrap());
        assert!(matches!(writer.poll(true), Some((_, Op::Remove { .. } | Op::Rename { .. }))));
    }

    #[test]
    fn a_failure_is_for_ever() {
        let mut writer = writer(Mode::Dsync { depth: 4 });
        push(&mut writer, 300);
        let (first, _) = writer.poll(true).unwrap();
        push(&mut writer, 300);
        let (second, op) = writer.poll(true).unwrap();
        let error = DiskError::new(op.to_string(), &std::io::Error::from(std::io::ErrorKind::Other));
        let failure = writer.on_completed(second, Err(error.clone())).unwrap_err();
        assert_eq!(failure, WalFailure { error });
        assert_eq!(writer.on_completed(first, Ok(Output::Done)), Err(failure.clone()));
        push(&mut writer, 300);
        assert_eq!((writer.poll(true), writer.durable(), writer.failure()), (None, 0, Some(&failure)));
        assert_eq!(writer.waiting_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "entry 3 does not follow 0")]
    fn a_gap_is_our_own_mistake() {
        let entry = Entry { term: 1, index: 3, kind: 0, data: Bytes::new() };
        writer(Mode::Dsync { depth: 1 }).push_entries(1, &[entry]);
    }
}
