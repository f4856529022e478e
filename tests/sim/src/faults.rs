//! Rows of the scoreboard: one kind of fault each, at many places.

// Crashes at every event of the disk.
pub mod crash;

// Bits that change in place.
pub mod rot;

// Writes that did not happen, or elsewhere.
pub mod lies;

// No room.
pub mod full;

// Operations that fail.
pub mod failure;

use crate::outcome::Row;
use crate::world::{Stop, World};

/// Tries a kind of fault at about so many places.
pub type Faults = fn(u64) -> Vec<Row>;

/// All kinds, each with the number of places that the gate asks for.
pub const ROWS: &[(u64, Faults)] = &[
    (2_000, crash::points),
    (200, rot::bit_flips),
    (200, lies::lies),
    (300, full::full_disk),
    (1_000, failure::failing_operations),
];

/// Calls of a scripted trace.
const CALLS: u64 = 60;

/// Lives until some state is on disk, and dies.
fn rest(world: &mut World) -> Result<(), Stop> {
    world.open()?;
    world.let_clients(150);
    world.run_until_quiet()?;
    world.inspect()?;
    for _ in 0..world.pcg.below(40) {
        world.step()?;
    }
    world.kill();
    Ok(())
}

/// Whether a verdict says that the end is missing, and nothing worse.
fn is_loss(what: &str) -> bool {
    [
        "acknowledged and lost",
        "the store ends at",
        "was stored, and now",
        "compaction revision is",
        "the alarm was lost",
        "is committed",
        "are committed",
    ]
    .iter()
    .any(|phrase| what.contains(phrase))
}
