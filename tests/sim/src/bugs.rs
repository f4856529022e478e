//! Whether the simulator finds what it is for: one mistake after the other is compiled in and hunted.

use engine::seeded::Bug;

use crate::cluster;
use crate::faults;
use crate::outcome::Row;
use crate::seeds;

/// Seeds after which a mistake counts as not found.
pub const SEEDS_MAX: u64 = 2_000;

/// A mistake, wherever it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// In the engine.
    Engine(Bug),
    /// In consensus.
    Raft(raft::seeded::Bug),
}

/// Mistakes of the engine's that need several members.
const OF_GROUPS: [Bug; 6] = [
    Bug::ForgetTruncation,
    Bug::ReadAtFollower,
    Bug::ExpireUnled,
    Bug::TakePieceTwice,
    Bug::TransferClaimsMore,
    Bug::TransferWithoutLeases,
];

impl Mistake {
    /// All of them: those that a single member can make first.
    pub fn all() -> Vec<Mistake> {
        let of_engine = |of_group: bool| {
            let chosen = Bug::ALL.iter().filter(move |bug| OF_GROUPS.contains(bug) == of_group);
            chosen.map(|bug| Mistake::Engine(*bug))
        };
        let of_raft = raft::seeded::Bug::ALL.iter().map(|bug| Mistake::Raft(*bug));
        of_engine(false).chain(of_engine(true)).chain(of_raft).collect()
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Mistake::Engine(bug) => format!("{bug:?}"),
            Mistake::Raft(bug) => format!("{bug:?}"),
        }
    }

    /// Whether it takes several members to make it.
    pub fn is_of_groups(self) -> bool {
        match self {
            Mistake::Engine(bug) => OF_GROUPS.contains(&bug),
            Mistake::Raft(_) => true,
        }
    }

    fn choose(chosen: Option<Mistake>) {
        let (mut engine, mut raft) = (None, None);
        match chosen {
            Some(Mistake::Engine(bug)) => engine = Some(bug),
            Some(Mistake::Raft(bug)) => raft = Some(bug),
            None => {}
        }
        engine::seeded::choose(engine);
        raft::seeded::choose(raft);
    }
}

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
const CHECKERS: [(&str, &str); 41] = [
    ("panicked", "assertion"),
    ("voted for", "one vote a term"),
    ("forgot its vote", "votes are kept"),
    ("stands for election in it", "a term begins with a candidate"),
    ("although it heard its leader", "members are loyal"),
    ("hears no majority", "leaders are heard"),
    ("and came back with", "acknowledged entries are kept"),
    ("and has entries up to", "acknowledged entries are kept"),
    ("both led term", "one leader a term"),
    ("are committed", "a leader has what is committed"),
    ("of its own term", "leaders commit their own term"),
    ("which no majority of", "a majority has what is committed"),
    ("without a majority of", "a majority has what is committed"),
    ("is committed", "one entry an index"),
    ("went back from", "nothing goes back"),
    (", committed ", "applied is committed"),
    ("no agreement", "peace brings agreement"),
    ("from nowhere", "a change has a call"),
    ("is missing, and", "what is not dead is there"),
    ("has no end", "reclaim comes to its end"),
    ("watcher", "watchers"),
    ("the previous value", "watchers"),
    ("the other meta is sound", "either meta opens"),
    ("was refused", "the data directory opens"),
    ("the process ended", "the process goes on"),
    ("acknowledged and lost", "acknowledged calls are there"),
    ("was stored, and now", "what was stored stays"),
    ("changed from", "what was stored stays"),
    ("two calls were told", "a revision has one call"),
    ("stale", "real time"),
    ("was begun after revision", "real time"),
    ("before it was written", "real time"),
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

/// Hunts one mistake: in clusters, or where one member can make it in mixed runs, with some crash points and some rot for
/// every tenth seed.
pub fn hunt(mistake: Mistake) -> Option<Find> {
    Mistake::choose(Some(mistake));
    let try_seed = if mistake.is_of_groups() { hunt_cluster } else { hunt_seed };
    let find = (0..SEEDS_MAX).find_map(try_seed);
    Mistake::choose(None);
    find
}

fn hunt_cluster(seed: u64) -> Option<Find> {
    let what = cluster::run(seed).err()?;
    Some(Find { case: format!("cluster {seed}"), what })
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
