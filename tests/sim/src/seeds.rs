//! A run with crashes of every kind in it, from one number.

use engine::disk::mem::Fault;

use crate::goals::Goals;
use crate::judge::Tally;
use crate::outcome::Outcome;
use crate::world::{Stop, World};

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// See [`crate::trace::Trace::hash`].
    pub trace: u64,
    /// What was judged.
    pub tally: Tally,
    /// What was come across.
    pub goals: Goals,
}

impl Passed {
    /// A run that came to its end.
    pub fn of(world: &World) -> Passed {
        Passed { trace: world.trace.hash(), tally: world.judge.tally, goals: world.goals() }
    }
}

/// Lives of a member in one run, at most.
const LIVES_MAX: u64 = 8;

/// Calls in one life, at most.
const CALLS_MAX: u64 = 120;

/// Runs a seed to its end. Errors: what went wrong, in a sentence.
pub fn run(seed: u64) -> Result<Passed, String> {
    let mut world = World::new(seed);
    Outcome::of_sound(|| run_in(&mut world)).into_result()?;
    Ok(Passed::of(&world))
}

/// Runs a seed twice: both must be the same to the last event, or no failure could be repeated.
pub fn run_twice(seed: u64) -> Result<Passed, String> {
    twice(seed, run)
}

/// The same for runs of another kind.
pub fn twice(seed: u64, run: fn(u64) -> Result<Passed, String>) -> Result<Passed, String> {
    let first = run(seed)?;
    let again = run(seed)?;
    if first == again {
        return Ok(first);
    }
    Err(format!("a second run differs: {first:?}, then {again:?}"))
}

/// The run of [`run`], in a world that the caller keeps.
pub fn run_in(world: &mut World) -> Result<(), Stop> {
    world.open()?;
    let lives = 2 + world.pcg.below(LIVES_MAX - 1);
    for _ in 0..lives {
        let calls = 1 + world.pcg.below(CALLS_MAX);
        world.let_clients(calls);
        end_life(world, calls)?;
        reopen(world)?;
        if world.pcg.one_in(2) {
            world.inspect()?;
        }
        if world.pcg.one_in(8) {
            world.inspect()?;
            world.wait_for_reclaim()?;
        }
    }
    world.inspect()?;
    world.wait_for_reclaim()?;
    world.inspect()?;
    world.stop()?;
    world.open()?;
    world.inspect()
}

/// Some events, and then the end: in good order, by a signal, or by the power.
fn end_life(world: &mut World, calls: u64) -> Result<(), Stop> {
    if world.pcg.one_in(6) {
        return world.stop();
    }
    // A call takes about five, so most lives end in the middle of their calls.
    for _ in 0..world.pcg.below(7 * calls) {
        if world.pcg.one_in(50) {
            let events = world.pcg.below(40);
            world.hold_version(events)?;
        }
        world.step()?;
    }
    if world.pcg.one_in(3) {
        world.kill()
    } else {
        world.cut_power()
    }
    Ok(())
}

/// Opens again; sometimes the power fails on the way.
fn reopen(world: &mut World) -> Result<(), Stop> {
    while world.pcg.one_in(4) {
        let at = world.disk().operations() + world.pcg.below(30);
        world.disk_mut().inject(at, Fault::PowerCut);
        match world.open() {
            Ok(()) => {}
            Err(Stop::Refused(_)) if world.disk().operations() > at => {}
            Err(stop) => return Err(stop),
        }
        world.cut_power();
    }
    world.open()
}
