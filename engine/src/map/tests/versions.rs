//! Random batches, checkpoints, pins and power cuts against a model: the list of numbers of every version.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::page::{PageNo, ReadPages};
use super::super::{Checkpoint, Guard, Loader, Reader, TAG_WORDS, Wanted, Writer};
use super::disk::MemDisk;
use super::toy::{build, change, load_values, open_toy, values};
use crate::disk::{Disk, Outcome, Token};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Changes, adds or removes a number in the batch.
    Change(usize, Option<u64>),
    /// Makes the batch the newest version.
    Publish,
    /// A reader pins the newest version, after checking and dropping what it had.
    Pin(usize),
    /// A reader lets go.
    Unpin(usize),
    /// A checkpoint begins if none is out; else it emits one more operation.
    Checkpoint,
    /// One of the outstanding operations ends.
    Complete(usize),
    /// Clean pages leave memory.
    Evict(u32),
}

const READERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..12, prop::option::weighted(0.85, any::<u64>())).prop_map(|(i, n)| Step::Change(i, n)),
        3 => Just(Step::Publish),
        2 => (0..READERS).prop_map(Step::Pin),
        1 => (0..READERS).prop_map(Step::Unpin),
        4 => Just(Step::Checkpoint),
        4 => (0usize..4).prop_map(Step::Complete),
        1 => (0u32..16).prop_map(Step::Evict),
    ]
}

/// The store between two power cuts.
struct Life<'r> {
    disk: MemDisk,
    writer: Writer,
    /// Root and numbers of the batch.
    root: PageNo,
    batch: Vec<u64>,
    /// Numbers of the newest version.
    published: Vec<u64>,
    pins: Vec<Option<(Guard<'r>, Vec<u64>)>>,
    readers: &'r [Reader],
    checkpoint: Option<Checkpoint>,
    /// Numbers of the version the checkpoint writes.
    checkpointing: Vec<u64>,
    outstanding: VecDeque<(Token, Outcome)>,
    loader: Loader,
    /// Something was evicted.
    may_miss: bool,
    /// Numbers of the newest durable version.
    durable: Vec<u64>,
}

impl Life<'_> {
    fn run(&mut self, step: Step) {
        match step {
            Step::Change(i, number) => {
                let i = i.min(self.batch.len());
                self.root = change(&mut self.writer, self.root, i, number);
                match number {
                    Some(number) if i < self.batch.len() => self.batch[i] = number,
                    Some(number) => self.batch.push(number),
                    None if i < self.batch.len() => drop(self.batch.remove(i)),
                    None => {}
                }
            }
            Step::Publish => {
                self.writer.publish(self.root, [self.batch.len() as u64; TAG_WORDS]);
                self.published.clone_from(&self.batch);
            }
            Step::Pin(i) => {
                self.pins[i] = None;
                let guard = self.readers[i].pin();
                assert_eq!(guard.version().tag[0], self.published.len() as u64);
                self.pins[i] = Some((guard, self.published.clone()));
            }
            Step::Unpin(i) => self.pins[i] = None,
            Step::Checkpoint => self.poll_checkpoint(),
            Step::Complete(i) => self.complete(i),
            Step::Evict(resident_max) => {
                self.writer.evict(resident_max);
                self.may_miss = true;
            }
        }
        self.check_pins();
        self.bring_back();
        assert_eq!(values(&self.writer, self.root), Ok(self.batch.clone()), "the batch");
    }

    fn poll_checkpoint(&mut self) {
        let writer = &mut self.writer;
        let checkpoint = self.checkpoint.get_or_insert_with(|| {
            self.checkpointing.clone_from(&self.published);
            writer.begin_checkpoint(&[])
        });
        if let Some((token, op)) = checkpoint.poll() {
            let outcome = self.disk.run(op);
            self.outstanding.push_back((token, outcome));
        }
    }

    fn complete(&mut self, i: usize) {
        let Some(checkpoint) = &mut self.checkpoint else { return };
        if self.outstanding.is_empty() {
            return;
        }
        let (token, outcome) = self.outstanding.remove(i % self.outstanding.len()).expect("in range");
        checkpoint.on_completed(token, outcome).unwrap();
        if checkpoint.is_durable() {
            self.writer.finish_checkpoint(self.checkpoint.take().expect("just seen"));
            self.durable.clone_from(&self.checkpointing);
        }
    }

    fn check_pins(&self) {
        for (guard, numbers) in self.pins.iter().flatten() {
            match guard.root().map_or(Ok(Vec::new()), |root| values(guard, root)) {
                Ok(found) => assert_eq!(found, *numbers, "version {}", guard.version().number),
                Err(miss) => assert!(self.may_miss, "{miss:?} although nothing was evicted"),
            }
        }
    }

    /// Brings in what the batch needs.
    fn bring_back(&mut self) {
        while let Err(miss) = values(&self.writer, self.root) {
            assert!(self.may_miss, "{miss:?} although nothing was evicted");
            let wanted = self.loader.load(&mut self.writer, &mut self.disk, miss.page);
            assert_eq!(wanted, Ok(Wanted::Ready));
        }
    }
}

/// Lives through `steps`, then the power fails. Returns the disk and the versions it may hold.
fn live(mut disk: MemDisk, durable: Vec<u64>, steps: Vec<Step>, torn: u64) -> (MemDisk, Vec<Vec<u64>>) {
    let mut writer = open_toy(&mut disk).writer;
    assert_eq!(load_values(&mut disk, &mut writer), durable);
    let readers: Vec<Reader> = (0..READERS).map(|_| writer.reader()).collect();
    let root = match writer.version().root {
        Some(root) => root,
        None => build(&mut writer, &[]),
    };
    writer.publish(root, [durable.len() as u64; TAG_WORDS]);
    let mut life = Life {
        disk,
        writer,
        root,
        batch: durable.clone(),
        published: durable.clone(),
        pins: (0..READERS).map(|_| None).collect(),
        readers: &readers,
        checkpoint: None,
        checkpointing: durable.clone(),
        outstanding: VecDeque::new(),
        loader: Loader::new(),
        may_miss: false,
        durable,
    };
    for step in steps {
        life.run(step);
    }
    // Once nobody reads and no checkpoint is out, only what the durable checkpoints hold is not free.
    if life.checkpoint.is_none() {
        life.pins.clear();
        life.run_out();
    }
    let mut bits = torn;
    let image = life.disk.power_cut(|| {
        bits = bits.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits >> 63 == 1
    });
    (image, vec![life.durable, life.checkpointing])
}

impl Life<'_> {
    fn run_out(&mut self) {
        self.writer.publish(self.root, [0; TAG_WORDS]);
        while self.writer.reclaim() {}
        let usage = self.writer.usage();
        assert_eq!(usage.waiting, 0, "{usage:?}");
        assert_eq!(
            usage.frames - usage.frames_free,
            usage.live,
            "every frame in use holds a live page: {usage:?}"
        );
        let used = LIMITS_USED - self.writer.slots.room();
        assert_eq!(used as usize, 2 + usage.live as usize + usage.held, "no slot is lost: {usage:?}");
        assert!(self.writer.page(self.root).is_ok());
    }
}

const LIMITS_USED: u32 = super::toy::LIMITS.page_count_max;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 200 }))]
    #[test]
    fn every_version_stays_as_it_was_and_every_power_cut_leaves_one(
        lives in prop::collection::vec((prop::collection::vec(step(), 0..150), any::<u64>()), 1..5),
    ) {
        let mut disk = MemDisk::default();
        let mut may_hold = vec![Vec::new()];
        for (steps, torn) in lives {
            let mut found = open_toy(&mut disk.clone()).writer;
            let numbers = load_values(&mut disk.clone(), &mut found);
            prop_assert!(may_hold.contains(&numbers), "{numbers:?} is none of {may_hold:?}");
            (disk, may_hold) = live(disk, numbers, steps, torn);
        }
    }
}
