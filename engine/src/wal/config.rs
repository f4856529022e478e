//! Sizes and mode of a log.

use std::time::Duration;

use super::layout::{FRAME_BYTES, HEAD_BYTES, HEADER_BYTES, SEGMENT_BYTES_MAX, padded};

/// How blocks become durable; one mode a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each write is durable by its own completion; up to `depth` in flight.
    Dsync {
        /// At least 1.
        depth: usize,
    },
    /// A write, then a sync submitted after it completed; one such pair at a time.
    Fdatasync,
    /// Completion counts as durable although it is not (`--unsafe-no-fsync`); up to `depth` in flight.
    NoFsync {
        /// At least 1.
        depth: usize,
    },
}

/// Sizes and mode of a log. Sizes are multiples of 4096.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How blocks become durable.
    pub mode: Mode,
    /// A block grows up to here, unless its first entry needs more.
    pub block_bytes_max: usize,
    /// With something in flight, this much is enough to go at once.
    pub batch_bytes: usize,
    /// Longest entry: the request limit and what raft and the command add.
    pub entry_bytes_max: usize,
    /// Length of a segment of a grown log.
    pub segment_bytes: u64,
    /// Length of the first segment of all; later ones double up to `segment_bytes`.
    pub segment_bytes_first: u64,
    /// Least zeroed space ahead.
    pub ahead_bytes_min: u64,
    /// Idle time after which a seal protects the last blocks.
    pub seal_after: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mode: Mode::Dsync { depth: 4 },
            block_bytes_max: 256 << 10,
            batch_bytes: 16 << 10,
            entry_bytes_max: (1536 << 10) + (512 << 10),
            segment_bytes: 64 << 20,
            segment_bytes_first: 4 << 20,
            ahead_bytes_min: 8 << 20,
            seal_after: Duration::from_millis(100),
        }
    }
}

impl Config {
    /// The default sizes, grown where entries of up to `entry_bytes_max` need it.
    pub fn for_entries(entry_bytes_max: usize) -> Config {
        let mut config = Config { entry_bytes_max, ..Config::default() };
        let shortest = config.shortest_segment();
        config.segment_bytes_first = config.segment_bytes_first.max(2 * shortest);
        config.segment_bytes = config.segment_bytes.max(4 * shortest);
        config
    }

    /// Longest block: one entry of the greatest length alone.
    pub fn longest_block(&self) -> usize {
        padded(HEADER_BYTES + FRAME_BYTES + self.entry_bytes_max).max(self.block_bytes_max)
    }

    /// Shortest segment that is of use: its head, the longest block, the head's copy.
    pub fn shortest_segment(&self) -> u64 {
        (2 * HEAD_BYTES + self.longest_block()) as u64
    }

    /// Asserts that the sizes fit together.
    pub(super) fn check(&self) {
        let depth = self.depth();
        assert!((1..=DEPTH_MAX).contains(&depth), "{depth} writes in flight");
        assert!(
            self.segment_bytes_first >= self.shortest_segment()
                && self.segment_bytes >= self.segment_bytes_first,
            "segments of {} and {} bytes do not hold a block of {}",
            self.segment_bytes_first,
            self.segment_bytes,
            self.longest_block()
        );
        assert!(self.segment_bytes <= SEGMENT_BYTES_MAX, "segments of {} bytes", self.segment_bytes);
    }

    /// Completions prove nothing.
    pub(super) fn is_unsafe(&self) -> bool {
        matches!(self.mode, Mode::NoFsync { .. })
    }

    /// Writes in flight at most, light ones apart.
    pub(super) fn depth(&self) -> usize {
        match self.mode {
            Mode::Dsync { depth } | Mode::NoFsync { depth } => depth,
            Mode::Fdatasync => 1,
        }
    }
}

/// More would only make recovery's window wider.
const DEPTH_MAX: usize = 64;
