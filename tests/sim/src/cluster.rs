//! A run of three or five members, from one number: a network of some weather, members that die, are cut off and stand
//! still, and after each stretch of that a time of peace, in which all must come to agree on what one correct server
//! could have done.

use std::time::Duration;

use engine::disk::mem::MemDisk;
use engine::disk::pcg::Pcg;

use crate::clock::Clock;
use crate::judge::Judge;
use crate::network::Weather;
use crate::outcome::Outcome;
use crate::seeds::Passed;
use crate::settings::Settings;
use crate::world::{Stop, World};

// Members that come and go.
mod changes;

/// Stretches of trouble in one run, at most.
const STRETCHES_MAX: u64 = 4;

/// Calls in one stretch, at most.
const CALLS_MAX: u64 = 150;

/// A run of this seed, not begun.
pub fn world(seed: u64) -> World {
    let mut pcg = Pcg::new(seed ^ 0xc105);
    let settings = Settings::of_group(&mut pcg);
    let members = if pcg.one_in(3) { 5 } else { 3 };
    let mut world = group(settings, seed, members, || Clock::any(&mut pcg));
    changes::settle_whether(&mut world, seed);
    world
}

/// Three members whom nothing befalls but what a test does to them, not begun.
pub fn calm(seed: u64) -> World {
    group(Settings::new(&mut Pcg::new(seed)), seed, 3, Clock::default)
}

fn group(settings: Settings, seed: u64, members: u64, mut clock: impl FnMut() -> Clock) -> World {
    let nodes = (0..members).map(|_| (MemDisk::new(), clock())).collect();
    let mut judge = Judge::default();
    judge.of_group = true;
    let mut world = World::of_nodes(settings, seed, nodes, judge);
    world.consensus.founders = members;
    world
}

/// Runs a seed to its end. Errors: what went wrong, in a sentence.
pub fn run(seed: u64) -> Result<Passed, String> {
    let mut world = world(seed);
    Outcome::of_sound(|| run_in(&mut world)).into_result()?;
    Ok(Passed::of(&world))
}

/// The run of [`run`], in a world that the caller keeps.
pub fn run_in(world: &mut World) -> Result<(), Stop> {
    world.make_peace()?;
    for _ in 0..1 + world.pcg.below(STRETCHES_MAX) {
        world.network.weather = Weather::any(&mut world.pcg);
        changes::before_trouble(world)?;
        let calls = 1 + world.pcg.below(CALLS_MAX);
        world.let_clients(calls);
        trouble(world, calls)?;
        world.make_peace()?;
        world.inspect_all()?;
        changes::after_peace(world);
    }
    world.judge.tally.changes = world.coming.counts();
    world.judge.tally.leaders = world.consensus.leaders();
    world.judge.tally.hashes = world.hashes.compared;
    Ok(())
}

/// Events, and now and then a blow.
fn trouble(world: &mut World, calls: u64) -> Result<(), Stop> {
    let blows_every = 50 + world.pcg.below(2_000);
    for _ in 0..world.pcg.below(120 * calls) {
        if world.pcg.one_in(blows_every) {
            blow(world)?;
        }
        changes::in_trouble(world)?;
        world.step()?;
    }
    Ok(())
}

/// Something befalls a member, or ends.
fn blow(world: &mut World) -> Result<(), Stop> {
    let members = world.nodes() as u64;
    let one = world.pcg.below(members) as usize;
    world.stand_at(one);
    if world.is_gone() {
        return Ok(());
    }
    match world.pcg.below(9) {
        0 | 1 if world.is_running() => world.kill(),
        2 | 3 if world.is_running() => world.cut_power(),
        0..=4 if !world.is_running() => world.open()?,
        4 => {
            let millis = 1 + world.pcg.below(6_000);
            world.pause(Duration::from_millis(millis));
        }
        5 => isolate(world, one),
        6 => {
            let other = world.pcg.below(members) as usize;
            world.network.cut(one, other);
        }
        7 => split(world),
        _ => world.network.mend(),
    }
    Ok(())
}

/// Nobody hears the member, or it hears nobody, or both.
fn isolate(world: &mut World, one: usize) {
    let how = world.pcg.below(3);
    for other in 0..world.nodes() {
        if how != 0 {
            world.network.cut(one, other);
        }
        if how != 1 {
            world.network.cut(other, one);
        }
    }
}

/// Two parts that do not hear each other.
fn split(world: &mut World) {
    let side: Vec<bool> = (0..world.nodes()).map(|_| world.pcg.one_in(2)).collect();
    for from in 0..side.len() {
        for to in 0..side.len() {
            if side[from] != side[to] {
                world.network.cut(from, to);
            }
        }
    }
}
