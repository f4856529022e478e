//! One operation fails, and the process with it.

use std::io::ErrorKind;

use engine::disk::mem::Fault;
use engine::disk::{FileName, Op};

use super::CALLS;
use crate::outcome::{Outcome, Row};
use crate::world::{Stop, World};

/// Row 6: each operation of a few traces fails once. The process ends, and what it had acknowledged is there.
pub fn failing_operations(cases: u64) -> Vec<Row> {
    let names = [
        "an operation fails, the process ends",
        "the same, and the power is cut",
        "the same, killed, later a power cut",
        "the same, a checkpoint due at every start",
    ];
    let mut rows = names.map(Row::new);
    let mut left = cases;
    for seed in 0.. {
        for at in 0.. {
            if left == 0 {
                return rows.into();
            }
            let mut reached = false;
            for (cut, row) in rows.iter_mut().enumerate() {
                let mut ended = None;
                let mut came = true;
                let outcome =
                    Outcome::of(|| fail_once(seed, at, cut, &mut ended).map(|reached| came = reached));
                reached |= came;
                let outcome = match (outcome, ended) {
                    (Outcome::Right, Some(stop)) => Outcome::Detected(stop),
                    (outcome, _) => outcome,
                };
                row.add(format!("seed {seed} operation {at}"), outcome);
            }
            left -= 1;
            if !reached {
                break;
            }
        }
    }
    unreachable!("there is always another seed")
}

/// Whether the run came as far as the operation; `ended` says how the process did.
fn fail_once(seed: u64, at: u64, cut: usize, ended: &mut Option<String>) -> Result<bool, Stop> {
    let mut world = World::new(seed);
    if cut == 3 {
        // So the next process gives the slots that a failed checkpoint names to pages of its own.
        world.settings_mut().checkpoint_at_once();
    }
    world.inject(at, Fault::Fail(ErrorKind::Other));
    let mut life = || {
        world.open()?;
        world.let_clients(CALLS);
        world.run_until_quiet()?;
        world.inspect()
    };
    match life() {
        Ok(()) if world.disk().operations() <= at => return Ok(false),
        // It was of no consequence.
        Ok(()) => {}
        Err(Stop::Violation(what)) => return Err(Stop::Violation(what)),
        Err(stop) => *ended = Some(stop.to_string()),
    }
    let failed = world.injected().map(Op::to_string).unwrap_or_default();
    let sound = |stop: Stop| Stop::Violation(format!("after the failure of {failed}: {stop}"));
    if cut == 1 {
        world.cut_power();
    } else {
        world.kill();
    }
    world.open().map_err(sound)?;
    // The log goes around the page cache, so its blocks are not clean and lost after a failed sync: the next sync is
    // an honest one. The simulated disk does not know that.
    let log_sync = matches!(world.injected(), Some(Op::Sync { file: FileName::Log(_) }));
    if cut >= 2 && !log_sync {
        world.let_clients(12);
        for _ in 0..world.pcg.below(80) {
            world.step().map_err(sound)?;
        }
        world.cut_power();
        world.open().map_err(sound)?;
    }
    world.inspect().map_err(sound)?;
    Ok(true)
}
