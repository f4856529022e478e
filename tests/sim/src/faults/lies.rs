//! The drive says that it did what it was asked, and did not.

use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::disk::{FileName, Op};
use engine::map::page::PAGE_SIZE;
use engine::wal::inspect;
use engine::wal::layout::Header;

use super::{is_loss, rest};
use crate::outcome::{Outcome, Row};
use crate::world::{Stop, World};

/// Row 4: the drive says that it wrote, and did not, or elsewhere; or it reads elsewhere.
///
/// A process that goes on never notices; what counts is what the next one finds. A block that was lost at the very end
/// of the log is like one that was never written.
pub fn lies(cases: u64) -> Vec<Row> {
    let names = ["lost write", "misdirected write or read", "misdirected block of the log"];
    let mut rows = names.map(Row::new);
    for seed in 0..cases {
        // The end of a run is what its successor sees.
        let (end, blocks) = match operations_of(seed) {
            Ok(operations) => operations,
            Err(stop) => {
                rows[0].add(format!("seed {seed}"), Outcome::Wrong(stop.to_string()));
                continue;
            }
        };
        let mut pcg = Pcg::new(seed);
        let at = end - pcg.below(100).min(end - 1);
        let elsewhere = |pcg: &mut Pcg| Fault::Misdirect(pcg.below(30) * 4096);
        let lies = [(at, Fault::LoseWrite), (at, elsewhere(&mut pcg))];
        // Blocks are some of the last operations only, and the last ones are those that nobody vouches for.
        let block = pcg.below(BLOCKS.min(blocks.len() as u64)) as usize;
        let astray = (blocks[blocks.len() - 1 - block], elsewhere(&mut pcg));
        for ((at, fault), row) in lies.into_iter().chain([astray]).zip(&mut rows) {
            let (op, outcome) = lie(seed, at, fault);
            row.add(format!("seed {seed} operation {at}, {op}, {fault:?}"), outcome);
        }
    }
    rows.into()
}

/// So many blocks at the end of a log may go astray.
const BLOCKS: u64 = 10;

/// How many operations a run has, and which of them write blocks of the log.
fn operations_of(seed: u64) -> Result<(u64, Vec<u64>), Stop> {
    let mut world = World::new(seed);
    rest(&mut world)?;
    Ok((world.disk().operations(), world.blocks))
}

/// What the operation was, and how the case ended.
fn lie(seed: u64, at: u64, fault: Fault) -> (String, Outcome) {
    let mut world = World::new(seed);
    world.inject(at, fault);
    let mut blind = Blind::Nowhere;
    let outcome = Outcome::of(|| {
        rest(&mut world)?;
        blind = world.injected().map_or(Blind::Nowhere, |op| blind_spot(&mut world.disk().clone(), op));
        world.open()?;
        world.inspect()
    });
    let op = world.injected().map(Op::to_string).unwrap_or_default();
    match outcome {
        Outcome::Wrong(what) if blind == Blind::EndOfLog && is_loss(&what) => (op, Outcome::Blind),
        Outcome::Wrong(_) if blind == Blind::IndexPage => (op, Outcome::Blind),
        outcome => (op, outcome),
    }
}

/// Where nothing can tell that a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blind {
    Nowhere,
    /// A block that no later block says to be durable: a torn write looks the same.
    EndOfLog,
    /// A page of the index: the slot may hold an older page of the same number, sound in itself.
    IndexPage,
}

fn blind_spot(disk: &mut MemDisk, op: &Op) -> Blind {
    match op {
        Op::Write { file: FileName::Log(_), data, .. } => {
            let proven = inspect::check(disk, 0).map_or(0, |report| report.proven);
            let unproven = Header::decode(data).is_ok_and(|(header, _)| header.number > proven);
            if unproven { Blind::EndOfLog } else { Blind::Nowhere }
        }
        Op::Write { file: FileName::Index, offset, .. } if *offset >= 2 * PAGE_SIZE as u64 => {
            Blind::IndexPage
        }
        _ => Blind::Nowhere,
    }
}
