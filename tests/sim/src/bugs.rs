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

impl Find {
    /// Which check it was that failed.
    pub fn checker(&self) -> &'static str {
        let known = CHECKERS.iter().find(|(phrase, _)| self.what.contains(phrase));
        known.map_or("another", |(_, name)| name)
    }
}

/// Words of a verdict, and the check that they come from.
const CHECKERS: [(&str, &str); 19] = [
    ("panicked", "assertion"),
    ("watcher", "watchers"),
    ("the previous value", "watchers"),
    ("the other meta is sound", "either meta opens"),
    ("was refused", "the data directory opens"),
    ("the process ended", "the process goes on"),
    ("acknowledged and lost", "acknowledged calls are there"),
    ("was stored, and now", "what was stored stays"),
    ("two calls were told", "a revision has one call"),
    ("stale", "real time"),
    ("compaction revision", "the compaction revision stays"),
    ("alarm", "alarms stay"),
    ("ran out at", "no lease ends early"),
    ("a lease came or went", "leases stay"),
    ("is not stored", "leases stay"),
    ("leases list", "lists of leases"),
    ("pinned version", "pinned versions stay"),
    ("the tree counts", "walk of the tree"),
    ("right is", "the model's answer"),
];

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
    let mut rows = faults::crash::points_of(seed, 20);
    rows.extend(faults::rot::Zone::ALL.map(|zone| faults::rot::bit_flips_of(zone, seed, 10)));
    rows.into_iter().find_map(|Row { name, wrong, .. }| {
        let (case, what) = wrong.first()?.split_once(": ")?;
        Some(Find { case: format!("{name}, {case}"), what: what.to_owned() })
    })
}
