//! No room is left on the disk.

use engine::disk::Disk;

use crate::outcome::{Outcome, Row};
use crate::world::{Stop, World};

/// Row 5: the disk is full from some moment on. Until there is room again the member may stop; nothing acknowledged may
/// be missing afterwards.
pub fn full_disk(cases: u64) -> Vec<Row> {
    let mut row = Row::new("disk full");
    for seed in 0..cases {
        let mut gave_up = None;
        let outcome = Outcome::of_sound(|| {
            let mut world = World::new(seed);
            world.judge.full_disk = true;
            world.open()?;
            let room = world.pcg.below(400 << 10);
            let used: u64 = world.disk.list().expect("a list").iter().map(|(_, len)| len).sum();
            world.disk.set_capacity(Some(used + room));
            world.let_clients(200);
            match world.run_until_quiet().and_then(|()| world.inspect()) {
                Ok(()) => {}
                Err(Stop::Violation(what)) => return Err(Stop::Violation(what)),
                Err(stop) => gave_up = Some(stop.to_string()),
            }
            world.cut_power();
            world.disk.set_capacity(None);
            world.open()?;
            world.inspect()
        });
        let outcome = match (outcome, gave_up) {
            (Outcome::Right, Some(stop)) => Outcome::Detected(stop),
            (outcome, _) => outcome,
        };
        row.add(format!("seed {seed}"), outcome);
    }
    vec![row]
}
