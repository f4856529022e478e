//! The process is killed or the power cut, at every event of the disk.
//!
//! A point is not reached by running its trace again: the disk is copied at every event of one run, and a world of its
//! own goes on from each copy.

use engine::disk::mem::{Fault, MemDisk};

use super::CALLS;
use crate::outcome::{Outcome, Row};
use crate::world::{Stop, World};

/// Of each trace one disk event in this many is a point, another one for each seed, so that there are many traces.
const THINNING: u64 = 4;

/// Rows 1 and 2: the process is killed, and the power cut three times, at `points` disk events; at some of them again
/// after the member has served a while, and again while it recovers.
pub fn points(points: u64) -> Vec<Row> {
    let mut sums = rows();
    for seed in 0.. {
        let left = points - sums[0].cases.min(points);
        if left == 0 {
            break;
        }
        for (sum, row) in sums.iter_mut().zip(points_of(seed, left)) {
            sum.merge(row);
        }
    }
    sums
}

fn rows() -> Vec<Row> {
    let names = ["kill", "power cut", "kill, serve, power cut", "power cut, again while recovering"];
    names.map(Row::new).into()
}

/// The points of one trace, `points` at most.
pub fn points_of(seed: u64, points: u64) -> Vec<Row> {
    let mut rows = rows();
    let outcome = Outcome::of_sound(|| {
        let mut world = World::new(seed);
        world.open()?;
        world.let_clients(CALLS);
        world.probe_disk();
        let mut event = seed;
        while !world.is_quiet() && rows[0].cases < points {
            world.step()?;
            for disk in world.take_probes() {
                event += 1;
                if event.is_multiple_of(THINNING) {
                    point(&world, &disk, seed, event, &mut rows);
                }
            }
        }
        Ok(())
    });
    if outcome != Outcome::Right {
        rows[0].add(format!("seed {seed}"), outcome);
    }
    rows
}

fn point(world: &World, disk: &MemDisk, seed: u64, point: u64, rows: &mut [Row]) {
    let case = |variant: u64| format!("seed {seed} event {point}.{variant}");
    let fork = |variant: u64| world.fork(disk.clone(), point << 8 | variant);
    let killed = Outcome::of_sound(|| {
        let mut world = fork(0);
        world.kill();
        world.open()?;
        world.inspect()
    });
    rows[0].add(case(0), killed);
    for variant in 1..=3 {
        let cut = Outcome::of_sound(|| {
            let mut world = fork(variant);
            world.cut_power();
            world.open()?;
            world.inspect()
        });
        rows[1].add(case(variant), cut);
    }
    if point.is_multiple_of(5) {
        let twice = Outcome::of_sound(|| {
            let mut world = fork(4);
            world.kill();
            world.open()?;
            world.let_clients(12);
            for _ in 0..world.pcg.below(60) {
                world.step()?;
            }
            world.cut_power();
            world.open()?;
            world.inspect()
        });
        rows[2].add(case(4), twice);
        rows[3].add(case(5), Outcome::of_sound(|| cut_while_recovering(fork(5))));
    }
}

fn cut_while_recovering(mut world: World) -> Result<(), Stop> {
    world.cut_power();
    for nth in 0..world.pcg.below(25) {
        let at = world.disk().operations() + nth;
        world.disk_mut().inject(at, Fault::PowerCut);
        match world.open() {
            Err(Stop::Refused(_)) if world.disk().operations() > at => {}
            Err(stop) => return Err(stop),
            Ok(()) => {}
        }
        world.cut_power();
    }
    world.open()?;
    world.inspect()
}
