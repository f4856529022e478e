//! Whether the simulator finds what it is for: one mistake after the other is compiled in and hunted.

use engine::seeded::{self, Bug};

use crate::faults;
use crate::outcome::Row;
use crate::seeds;

/// Seeds after which a mistake counts as not found.
pub const SEEDS_MAX: u64 = 2_000;

/// Where a mistake was found.
#[derive(Clone, Debug)]
pub struct Find {
    /// The run that failed.
    pub case: String,
    /// What was said.
    pub what: String,
}

/// Hunts one mistake. One seed is a mixed run, and for every tenth some crash points and some rot besides.
pub fn hunt(bug: Bug) -> Option<Find> {
    seeded::choose(Some(bug));
    let find = (0..SEEDS_MAX).find_map(hunt_seed);
    seeded::choose(None);
    find
}

fn hunt_seed(seed: u64) -> Option<Find> {
    if let Err(what) = seeds::run(seed) {
        return Some(Find { case: format!("mixed run, seed {seed}"), what });
    }
    if !seed.is_multiple_of(10) {
        return None;
    }
    let mut rows = faults::crash_points_of(seed, 20);
    rows.extend(faults::Zone::ALL.map(|zone| faults::bit_flips_of(zone, seed, 10)));
    rows.into_iter().find_map(|Row { name, wrong, .. }| {
        let (case, what) = wrong.first()?.split_once(": ")?;
        Some(Find { case: format!("{name}, {case}"), what: what.to_owned() })
    })
}
