//! No room is left on the disk.

use std::time::Duration;

use engine::disk::Disk;

use crate::outcome::{Outcome, Row};
use crate::world::World;

/// A call that can end on a full disk has ended by then.
const FULL_TIME: Duration = Duration::from_secs(60);

/// Row 5: the disk is full from some moment on. The member goes on as well as it can; when there is room again, with or
/// without a crash in between, it serves, and nothing acknowledged is missing.
pub fn full_disk(cases: u64) -> Vec<Row> {
    let mut row = Row::new("disk full");
    for seed in 0..cases {
        let outcome = Outcome::of_sound(|| {
            let mut world = World::new(seed);
            world.judge.full_disk = true;
            world.open()?;
            let room = world.pcg.below(400 << 10);
            let used: u64 = world.disk_mut().list().expect("a list").iter().map(|(_, len)| len).sum();
            world.disk_mut().set_capacity(Some(used + room));
            world.let_clients(200);
            world.run_until_quiet_or(FULL_TIME)?;
            if seed.is_multiple_of(2) {
                world.disk_mut().set_capacity(None);
                world.let_clients(50);
                world.run_until_quiet()?;
                world.inspect()?;
                world.wait_for_reclaim()?;
            } else if world.is_quiet() {
                world.inspect()?;
            }
            world.cut_power();
            world.disk_mut().set_capacity(None);
            world.open()?;
            world.inspect()
        });
        row.add(format!("seed {seed}"), outcome);
    }
    vec![row]
}
