//! A member of a group whose log is damaged: it keeps what stands before, counts for nothing, and is repaired by the
//! leader.

use engine::disk::{Disk, FileName};
use sim::cluster;
use sim::faults::rot;
use sim::world::World;

/// Places that are damaged, each in a run of its own.
const PLACES: u64 = 60;

/// Three members that were busy for a while, all of whom agree.
fn busy(seed: u64) -> World {
    let mut world = cluster::calm(seed);
    world.make_peace().unwrap();
    world.let_clients(80);
    world.agree().unwrap();
    world
}

/// A byte of the log that a later block says to be durable.
fn a_byte(world: &mut World) -> Option<(FileName, u64)> {
    let files = world.disk_mut().list().unwrap().into_iter();
    let logs: Vec<FileName> =
        files.map(|(file, _)| file).filter(|file| matches!(file, FileName::Log(_))).collect();
    for _ in 0..200 {
        let file = logs[world.pcg.below(logs.len() as u64) as usize];
        let len = world.disk().content(file).unwrap().len() as u64;
        let offset = world.pcg.below(len.max(1));
        let used = world.disk().content(file).unwrap().get(offset as usize).is_some_and(|byte| *byte != 0);
        if used && !rot::is_in_window(world.disk_mut(), file, offset) {
            return Some((file, offset));
        }
    }
    None
}

#[test]
fn a_follower_whose_log_is_damaged_is_repaired_by_the_leader() {
    let (mut recovering, mut harmless) = (0, 0);
    for seed in 0..PLACES {
        let mut world = busy(seed);
        let leader = world.leader().unwrap();
        let one = (leader + 1) % 3;
        world.stand_at(one);
        world.kill();
        let Some((file, offset)) = a_byte(&mut world) else { continue };
        world.disk_mut().flip_bit(file, offset, (seed % 8) as u8);
        // The others go on, and then it comes back.
        world.let_clients(10);
        world.run_until_quiet().unwrap();
        world.stand_at(one);
        let case = format!("seed {seed}, byte {offset} of {file}");
        world.open().unwrap_or_else(|stop| panic!("{case}: {stop}"));
        if world.replica().raft().is_recovering() {
            recovering += 1;
        } else {
            harmless += 1;
        }
        world.inspect_all().unwrap_or_else(|stop| panic!("{case}: {stop}"));
    }
    assert!(recovering > 5 && harmless > 5, "{recovering} were recovering, to {harmless} it was nothing");
}
