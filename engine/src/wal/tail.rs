//! Where the log stands: what the next block's header and the next segment's head repeat.

use bytes::{Bytes, BytesMut};

use super::block::Block;
use super::frame::{self, Start};
use super::layout::{HEAD_BYTES, Header, flags};
use super::{EntryId, HardState, Identity};

/// State as of the last submitted block.
pub(super) struct Tail {
    pub author: Author,
    /// Number of that block.
    pub number: u64,
    pub header_crc: u32,
    pub hard_state: HardState,
    pub last: EntryId,
    /// Empty if none was ever logged.
    pub conf_state: Bytes,
    /// That block logged one.
    pub after_conf_state: bool,
    pub promised: Option<EntryId>,
    /// Position that is complete with that block.
    pub position: u64,
}

/// Who writes: the constant part of every header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Author {
    pub identity: Identity,
    pub start: u64,
    pub nonce: u64,
}

impl Tail {
    /// The block that opens a segment. Blocks of earlier starts from number `cut` on do not count.
    pub fn head_block(&self, buffer: BytesMut, cut: u64) -> Block {
        let mut block = Block::new(buffer, self.last, self.hard_state, self.position);
        frame::put_start(block.body(), &Start { cut, last: self.last, promised: self.promised });
        frame::put_conf_state(block.body(), &self.conf_state);
        block.promised = self.promised;
        block.light = true;
        assert!(block.padded_len() == HEAD_BYTES, "a segment head of {} bytes", block.padded_len());
        block
    }

    /// Completes `block` as the next one and moves on to it; returns its bytes. `durable_upto` is `None` when
    /// nothing is known to be durable.
    pub fn seal(&mut self, block: Block, durable_upto: Option<u64>) -> Bytes {
        let no_fsync = if durable_upto.is_none() { flags::NO_FSYNC } else { 0 };
        let recovering = if block.promised.is_some() { flags::RECOVERING } else { 0 };
        let after_conf_state = if self.after_conf_state { flags::AFTER_CONF_STATE } else { 0 };
        let header = Header {
            flags: block.flags | recovering | no_fsync | after_conf_state,
            identity: self.author.identity,
            start: self.author.start,
            nonce: self.author.nonce,
            number: self.number + 1,
            length: 0,
            previous: self.header_crc,
            hard_state: block.hard_state,
            first_index: block.first_index,
            last_index: block.last.index,
            durable_upto: durable_upto.unwrap_or(0),
            body_length: 0,
            body_crc: 0,
        };
        self.number += 1;
        self.hard_state = block.hard_state;
        self.last = block.last;
        self.promised = block.promised;
        self.position = block.position;
        self.after_conf_state = block.conf_state.is_some();
        if let Some(conf_state) = &block.conf_state {
            self.conf_state = conf_state.clone();
        }
        let (bytes, header_crc) = block.seal(header);
        self.header_crc = header_crc;
        bytes
    }
}
