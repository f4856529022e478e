//! Frames: anonymous memory for pages that are not (yet) in the file's mapping, handed out one by one and recycled,
//! never given back to the system.
//!
//! A first touch of a fresh 2 MiB stretch can cost 4-8 ms in a virtual machine, so a background thread opens chunks
//! ahead ([`Prefault`]): at least [`AHEAD_MIN`] frames, and under load as many as one checkpoint's pages, because
//! every page of a checkpoint is born in a frame before the previous checkpoint's frames come back. If the thread
//! falls behind, a chunk is opened on the spot: slow, never wrong.

use std::sync::Arc;

use super::range::CHUNK_UNITS;
use super::space::{Frame, Space};

/// Frames kept ready when nothing happens: 4 MiB.
const AHEAD_MIN: u32 = 1024;

/// Most frames kept ready: 512 MiB, the pages of a large checkpoint.
const AHEAD_MAX: u32 = 1 << 17;

const _: () = assert!(AHEAD_MIN.is_multiple_of(CHUNK_UNITS) && AHEAD_MAX.is_multiple_of(CHUNK_UNITS));

/// The frames nobody uses, and how far the range is open.
#[derive(Debug)]
pub(super) struct Frames {
    space: Arc<Space>,
    /// Last in, first out: the newest is the warmest in the CPU's caches.
    free: Vec<Frame>,
    /// First frame that is neither open nor being opened.
    next_chunk: u32,
    /// A chunk the background thread has.
    opening: bool,
}

impl Frames {
    pub fn new(space: Arc<Space>) -> Frames {
        Frames { space, free: Vec::new(), next_chunk: 0, opening: false }
    }

    /// A frame for exclusive use, with arbitrary bytes in it. Panics at the limit: `Writer::room` tells in time.
    pub fn take(&mut self) -> Frame {
        if self.free.is_empty() {
            let first = self.next_chunk().unwrap_or_else(|| {
                panic!(
                    "all {} frames are in use; admission let too much in",
                    self.space.limits().frame_count_max
                )
            });
            self.space.open_chunk(first).expect("opening memory of our own reservation");
            self.add_chunk(first);
        }
        self.free.pop().expect("a chunk was just added")
    }

    /// Takes a frame back; nobody reads it any more.
    pub fn give_back(&mut self, frame: Frame) {
        debug_assert!(frame.0 < self.next_chunk, "{frame:?} was never handed out");
        self.free.push(frame);
    }

    /// Frames that can still be handed out.
    pub fn room(&self) -> u32 {
        self.free.len() as u32 + (self.space.limits().frame_count_max - self.next_chunk)
    }

    /// Frames open, in use or not.
    pub fn open_count(&self) -> u32 {
        self.next_chunk
    }

    /// Frames open and free.
    pub fn free_count(&self) -> u32 {
        self.free.len() as u32
    }

    /// Work for the background thread, if fewer frames are ready than `dirty` pages ask for.
    pub fn poll_prefault(&mut self, dirty: u32) -> Option<Prefault> {
        if self.opening || self.free.len() as u32 >= dirty.clamp(AHEAD_MIN, AHEAD_MAX) {
            return None;
        }
        let first = self.next_chunk()?;
        self.opening = true;
        Some(Prefault { space: Arc::clone(&self.space), first })
    }

    /// The background thread is done.
    pub fn on_prefaulted(&mut self, done: Prefaulted) {
        assert!(self.opening, "a chunk arrived that nobody asked for");
        self.opening = false;
        self.add_chunk(done.first);
    }

    fn next_chunk(&mut self) -> Option<Frame> {
        let first = self.next_chunk;
        if first + CHUNK_UNITS > self.space.limits().frame_count_max {
            return None;
        }
        self.next_chunk += CHUNK_UNITS;
        Some(Frame(first))
    }

    fn add_chunk(&mut self, first: Frame) {
        // Highest first: frames are then handed out in order of address.
        self.free.extend((first.0..first.0 + CHUNK_UNITS).rev().map(Frame));
    }
}

/// Opens a chunk of frames; run it on a background thread and hand the result to `Writer::on_prefaulted`.
#[must_use = "the frames are lost until it ran"]
#[derive(Debug)]
pub struct Prefault {
    space: Arc<Space>,
    first: Frame,
}

/// Frames ready for use.
#[must_use = "the frames are lost until the writer has them"]
#[derive(Debug)]
pub struct Prefaulted {
    first: Frame,
}

impl Prefault {
    /// Faults the memory in; takes milliseconds.
    ///
    /// Errors: the system has no memory left to give.
    pub fn run(self) -> std::io::Result<Prefaulted> {
        self.space.open_chunk(self.first)?;
        Ok(Prefaulted { first: self.first })
    }
}
