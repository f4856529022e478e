//! Sizes and speeds of a run: small, so that every boundary of the product comes up within a few hundred calls, and
//! different for every seed.

use std::time::Duration;

use engine::disk::Op;
use engine::disk::pcg::Pcg;
use engine::mvcc::history;
use engine::mvcc::walk::Budget;
use engine::replica::{Config, Pace};
use engine::{map, wal};

use crate::call::MEMBER;

/// What shapes a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Clients, each with one call at a time.
    pub clients: usize,
    /// Longest pause of a client between two calls.
    pub think_us_max: u64,
    /// Clients rest now and then, so that leases run out.
    pub rests: bool,
    /// Usual time of a disk operation.
    disk_us: u64,
    /// One operation in this many takes a hundred times as long.
    stall_one_in: u64,
    mode: wal::Mode,
    seal_after: Duration,
    checkpoint_entries: u64,
    checkpoint_idle: Duration,
    history: history::Config,
    apply_slice: Budget,
    reclaim: Pace,
    append_bytes_max: Option<u64>,
    inflight_count_max: Option<usize>,
    kept_entries_max: Option<u64>,
}

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 48 << 10;

impl Settings {
    /// Drawn from a seed.
    pub fn new(pcg: &mut Pcg) -> Settings {
        let depth = 1 + pcg.below(4) as usize;
        let mode = if pcg.one_in(4) { wal::Mode::Fdatasync } else { wal::Mode::Dsync { depth } };
        Settings {
            clients: 1 + pcg.below(6) as usize,
            think_us_max: [2, 200, 2_000][pcg.below(3) as usize],
            rests: pcg.one_in(2),
            disk_us: [20, 100, 1_000][pcg.below(3) as usize],
            stall_one_in: 10 + pcg.below(200),
            mode,
            seal_after: Duration::from_millis([1, 5, 100][pcg.below(3) as usize]),
            checkpoint_entries: [4, 15, 40, 10_000][pcg.below(4) as usize],
            checkpoint_idle: Duration::from_millis([3, 20, 2_000][pcg.below(3) as usize]),
            history: history::Config {
                segment_bytes: [24 << 10, 256 << 10, 600 << 10][pcg.below(3) as usize],
                chunk_bytes: [4 << 10, 16 << 10, 256 << 10][pcg.below(3) as usize],
                resident_bytes: [0, 256 << 10, 64 << 20][pcg.below(3) as usize],
            },
            apply_slice: [Budget(1), Budget(5), Budget::SLICE][pcg.below(3) as usize],
            reclaim: Pace {
                bytes_per_second: [1 << 20, 64 << 20][pcg.below(2) as usize],
                steps: [1, 7, 64][pcg.below(3) as usize],
            },
            append_bytes_max: None,
            inflight_count_max: None,
            kept_entries_max: None,
        }
    }

    /// The same for a member of several: what it sends the others at once, and what it keeps for them.
    pub fn of_group(pcg: &mut Pcg) -> Settings {
        let mut settings = Settings::new(pcg);
        settings.append_bytes_max = [Some(1), Some(400), None][pcg.below(3) as usize];
        settings.inflight_count_max = [Some(1), Some(3), None, None][pcg.below(4) as usize];
        settings.kept_entries_max = [Some(0), Some(20), None][pcg.below(3) as usize];
        settings
    }

    /// Every start makes a checkpoint as soon as it has applied an entry of its own.
    pub fn checkpoint_at_once(&mut self) {
        self.checkpoint_entries = 1;
    }

    /// The member's configuration.
    pub fn replica(&self) -> Config {
        let mut config = Config::new(0xc1, MEMBER, 1);
        config.request_bytes_max = REQUEST_BYTES_MAX;
        config.wal = wal::Config {
            mode: self.mode,
            block_bytes_max: 16 << 10,
            batch_bytes: 4 << 10,
            entry_bytes_max: REQUEST_BYTES_MAX + 4096,
            segment_bytes: 128 << 10,
            segment_bytes_first: 64 << 10,
            ahead_bytes_min: 64 << 10,
            seal_after: self.seal_after,
        };
        config.raft.append_bytes_max = self.append_bytes_max.unwrap_or(config.raft.append_bytes_max);
        config.raft.inflight_count_max = self.inflight_count_max.unwrap_or(config.raft.inflight_count_max);
        config.raft.kept_entries_max = self.kept_entries_max.unwrap_or(config.raft.kept_entries_max);
        config.history = self.history;
        config.apply_slice = self.apply_slice;
        config.reclaim = self.reclaim;
        // A mapping of its own for each of thousands of openings: small ones.
        config.map = map::Limits { page_count_max: 4096, frame_count_max: 1024, readers_max: 4 };
        config.reserve_bytes = 32 << 10;
        config.checkpoint_entries = self.checkpoint_entries;
        config.checkpoint_log_bytes = 64 << 10;
        config.checkpoint_idle = self.checkpoint_idle;
        config
    }

    /// How long an operation takes.
    pub fn latency(&self, pcg: &mut Pcg, op: &Op) -> Duration {
        let usual = match op {
            Op::Read { .. } => self.disk_us / 2,
            Op::Create { .. } => self.disk_us * 4,
            _ => self.disk_us,
        };
        let stalled = if pcg.one_in(self.stall_one_in) { 100 } else { 1 };
        Duration::from_micros((usual / 2 + pcg.below(usual + 1)) * stalled + 1)
    }
}
