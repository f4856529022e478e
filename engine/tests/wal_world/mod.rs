//! A log on a disk that can lose power, and a model that knows what may be there afterwards.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::disk::{Disk, FileName};
use engine::wal::recover::{RecoverError, Standing, Voters};
use engine::wal::{Config, Entry, EntryId, HardState, Identity, Mode, Recovered, Writer, open, recover};

pub const IDENTITY: Identity = Identity { cluster: 0xc1, member: 0x3e };

/// Small segments and blocks: every boundary comes up within a few pushes.
pub fn config(mode: Mode) -> Config {
    Config {
        mode,
        block_bytes_max: 8 << 10,
        batch_bytes: 4 << 10,
        entry_bytes_max: 20 << 10,
        segment_bytes: 64 << 10,
        segment_bytes_first: 64 << 10,
        ahead_bytes_min: 64 << 10,
        seal_after: Duration::from_millis(100),
    }
}

/// What a log contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub term: u64,
    pub vote: Option<u64>,
    pub conf_state: Option<Bytes>,
    /// All entries since the beginning; entry i stands at i - 1.
    pub entries: Vec<Entry>,
}

impl State {
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(EntryId::default(), Entry::id)
    }
}

/// A running member's log.
pub struct World {
    pub disk: MemDisk,
    pub writer: Writer,
    pub pcg: Pcg,
    pub mode: Mode,
    /// The state after each step since the last start, under its position.
    pub steps: Vec<(u64, State)>,
    pub position: u64,
    /// What the durable index has applied.
    pub applied: EntryId,
    pub now: Instant,
}

impl World {
    pub fn new(mode: Mode, seed: u64) -> World {
        let mut disk = MemDisk::new();
        let recovered = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
        assert!(recovered.fresh);
        let writer = open(&mut disk, &recovered, config(mode), seed | 1 << 40).unwrap();
        World {
            disk,
            writer,
            pcg: Pcg::new(seed),
            mode,
            steps: vec![(0, State::default())],
            position: 0,
            applied: EntryId::default(),
            #[allow(clippy::disallowed_methods, reason = "an origin for the simulated clock")]
            now: Instant::now(),
        }
    }

    pub fn state(&self) -> &State {
        &self.steps.last().unwrap().1
    }

    fn step(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.state().clone();
        change(&mut state);
        self.steps.push((self.position, state));
    }

    pub fn push_entries(&mut self, sizes: &[usize]) {
        let first = self.state().last().index + 1;
        let term = self.state().term.max(1);
        let entries: Vec<Entry> = (first..)
            .zip(sizes)
            .map(|(index, &size)| {
                let fill = self.pcg.next_u32() as u8;
                Entry { term, index, kind: fill % 3, data: vec![fill; size].into() }
            })
            .collect();
        self.position += 1;
        for entry in &entries {
            self.step(|state| state.entries.push(entry.clone()));
        }
        self.writer.push_entries(self.position, &entries);
    }

    pub fn push_term(&mut self) {
        self.position += 1;
        let term = self.state().term + 1;
        let vote = Some(1 + self.pcg.below(3));
        self.step(|state| (state.term, state.vote) = (term, vote));
        let commit = self.applied.index;
        self.writer.push_hard_state(self.position, HardState { term, vote, commit });
    }

    pub fn push_conf_state(&mut self) {
        self.position += 1;
        let conf_state = Bytes::from(format!("voters as of {}", self.position));
        self.step(|state| state.conf_state = Some(conf_state.clone()));
        self.writer.push_conf_state(self.position, conf_state);
    }

    /// Drops up to three entries above the applied one.
    pub fn push_truncate(&mut self) {
        let last = self.state().last().index;
        let keep = last.saturating_sub(1 + self.pcg.below(3)).max(self.applied.index);
        if keep == last {
            return;
        }
        self.position += 1;
        self.step(|state| state.entries.truncate(keep as usize));
        let keep = self.state().last();
        self.writer.push_truncate(self.position, keep);
    }

    /// The state that is certainly durable.
    pub fn durable_step(&self) -> usize {
        let durable = self.writer.durable();
        self.steps.iter().rposition(|(position, _)| *position <= durable).unwrap()
    }

    /// The index checkpoints what is durable.
    pub fn checkpoint(&mut self) {
        let (_, durable) = &self.steps[self.durable_step()];
        let now = self.state();
        let common = durable.entries.iter().zip(&now.entries).take_while(|(a, b)| a == b).count();
        if common as u64 > self.applied.index {
            self.applied = durable.entries[common - 1].id();
        }
        self.writer.note_commit(self.applied.index);
        self.writer.release(self.applied.index);
    }

    /// Submits what the writer wants done.
    pub fn poll(&mut self, quiet: bool) {
        while let Some((token, op)) = self.writer.poll(quiet) {
            self.disk.submit(token, op);
        }
    }

    pub fn complete_one(&mut self) {
        let in_flight = self.disk.in_flight().len() as u64;
        if in_flight > 0 {
            let nth = self.pcg.below(in_flight) as usize;
            let (token, outcome) = self.disk.complete(nth);
            self.writer.on_completed(token, outcome).unwrap();
        }
    }

    /// One random event.
    pub fn event(&mut self) {
        match self.pcg.below(20) {
            0..=5 => {
                let count = 1 + self.pcg.below(5);
                let sizes: Vec<usize> = (0..count).map(|_| self.pcg.below(1500) as usize).collect();
                self.push_entries(&sizes);
            }
            6 => self.push_entries(&[20 << 10]),
            7 => self.push_term(),
            8 => self.push_conf_state(),
            9 => self.push_truncate(),
            10 => self.checkpoint(),
            11 => {
                self.now += Duration::from_millis(60);
                self.writer.poll_timer(self.now);
            }
            12..=14 => {
                let quiet = self.pcg.one_in(2);
                self.poll(quiet);
            }
            _ => self.complete_one(),
        }
    }

    /// Finishes all that is under way.
    pub fn settle(&mut self) {
        loop {
            self.poll(true);
            if self.disk.in_flight().is_empty() {
                break;
            }
            self.complete_one();
        }
        assert_eq!(self.writer.durable(), self.position);
    }

    /// Checks that `recovered` is one of the states that may be there; returns which.
    pub fn check(&self, recovered: &Recovered) -> usize {
        let least = self.durable_step();
        let is = |state: &State| {
            let last = state.last().index.max(self.applied.index);
            let above = state.entries.get(self.applied.index as usize..).unwrap_or_default();
            state.term == recovered.hard_state.term
                && state.vote == recovered.hard_state.vote
                && state.conf_state == recovered.conf_state
                && last == recovered.last().index
                && above == recovered.entries
        };
        let found = self.steps.iter().enumerate().skip(least).find(|(_, (_, state))| is(state));
        let Some((at, _)) = found else {
            panic!(
                "durable step {least}: {:?}\nrecovered term {} vote {:?} conf {:?} last {:?}, warnings {:?}",
                self.steps[least].1.last(),
                recovered.hard_state.term,
                recovered.hard_state.vote,
                recovered.conf_state,
                recovered.last(),
                recovered.warnings
            );
        };
        assert_eq!(recovered.standing, Standing::Sound);
        assert!(recovered.warnings.iter().all(|w| !w.contains("damaged")), "{:?}", recovered.warnings);
        assert_eq!(recovered.boundary, self.applied);
        at
    }

    /// What a restart on `disk` finds.
    pub fn recover_on(&self, disk: &mut MemDisk) -> Result<Recovered, RecoverError> {
        recover(disk, IDENTITY, self.applied, Voters::Single)
    }

    /// Restarts on the present disk, which must hold one of the possible states.
    pub fn restart(&mut self) {
        let mut disk = self.disk.clone();
        let recovered = self.recover_on(&mut disk).unwrap_or_else(|error| panic!("{error}"));
        let at = self.check(&recovered);
        let nonce = self.pcg.next_u64();
        self.writer = open(&mut disk, &recovered, config(self.mode), nonce).unwrap();
        self.disk = disk;
        let (_, state) = self.steps.swap_remove(at);
        self.steps = vec![(0, state)];
        self.position = 0;
    }

    /// Power is cut at the `nth` disk operation of a restart on `disk`; false if the restart needs fewer.
    pub fn interrupted_restart(&self, disk: &mut MemDisk, nth: u64, pcg: &mut Pcg) -> bool {
        disk.inject(disk.operations() + nth, Fault::PowerCut);
        let done = self
            .recover_on(disk)
            .and_then(|recovered| open(disk, &recovered, config(self.mode), pcg.next_u64()).map(drop));
        disk.crash(pcg);
        done.is_err()
    }
}

/// Names and lengths of the segments of `disk`.
pub fn segments(disk: &mut MemDisk) -> Vec<(FileName, u64)> {
    disk.list().unwrap().into_iter().filter(|(file, _)| matches!(file, FileName::Log(_))).collect()
}
