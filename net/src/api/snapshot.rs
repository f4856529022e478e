//! The messages of `Maintenance.Snapshot`: an image of the store in pieces, and its SHA-256 as the last one.
//!
//! As etcd sends it: pieces of 32 KiB, each with what is left behind it and the version of the stored data, without a
//! header.

use engine::map::page::ReadPages;
use engine::mvcc::Cold;
use engine::mvcc::range::Progress;
use engine::mvcc::view::View;
use engine::mvcc::walk::Budget;
use engine::snapshot::contents::Facts;
use engine::snapshot::image::Image;
use engine::types::Revision;
use prost::Message;

use crate::pb;
use crate::pb::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use crate::pb::wire::Malformed;

/// Bytes of a piece.
const PIECE: usize = 32 << 10;

/// Checks the request, which says nothing.
pub fn decode(message: &[u8]) -> Result<(), Malformed> {
    pb::decode(message).map(|SnapshotRequest {}| ())
}

/// A snapshot on its way out.
#[derive(Debug)]
pub struct Snapshot {
    image: Image,
    version: String,
    /// Bytes of the image not sent.
    remaining: u64,
    /// The last message is out.
    finished: bool,
}

/// What there is to send.
#[derive(Debug)]
pub enum Next {
    /// A message.
    Message(Vec<u8>),
    /// Nothing yet: the budget is used up.
    Later,
    /// Nothing any more.
    End,
}

impl Snapshot {
    /// A snapshot of everything up to `revision`. `facts` are of the same moment.
    pub fn new(facts: Facts, revision: Revision) -> Snapshot {
        let version = facts.storage_version.clone();
        Snapshot { image: Image::new(facts, revision), version, remaining: 0, finished: false }
    }

    /// Versions that are not dead at this revision are still needed.
    pub fn pin(&self) -> Revision {
        self.image.pin()
    }

    /// Bytes of the image that no message has.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Finds out how long the image will be; to be repeated until it is done.
    pub fn count<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Progress<()>, Cold> {
        let counted = self.image.count(view, budget)?;
        if matches!(counted, Progress::Done(())) {
            self.remaining = self.image.encoded_len();
        }
        Ok(counted)
    }

    /// The next message, once the length is known.
    pub fn next<R: ReadPages>(&mut self, view: &View<'_, R>, budget: &mut Budget) -> Result<Next, Cold> {
        if self.finished {
            return Ok(Next::End);
        }
        if self.remaining == 0 {
            self.finished = true;
            let digest = self.image.digest();
            return Ok(Next::Message(self.message(digest.to_vec())));
        }
        if budget.0 == 0 || matches!(self.image.write(view, budget, PIECE)?, Progress::More) {
            return Ok(Next::Later);
        }
        let piece = self.image.at_hand();
        let piece = piece[..piece.len().min(PIECE)].to_vec();
        assert!(!piece.is_empty(), "{} bytes are missing", self.remaining);
        self.image.consume(piece.len());
        self.remaining -= piece.len() as u64;
        budget.charge(piece.len());
        Ok(Next::Message(self.message(piece)))
    }

    fn message(&self, blob: Vec<u8>) -> Vec<u8> {
        SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob: blob.into(),
            version: self.version.clone(),
        }
        .encode_to_vec()
    }
}
