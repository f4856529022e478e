//! The simulator's command line; `cargo xtask sim` runs it.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use sim::cluster;
use sim::faults;
use sim::goals::Goals;
use sim::outcome::{Outcome, Row};
use sim::seeds::{self, Passed};
use sim::trace::brief;
use sim::world::World;

const USAGE: &str = "\
usage: cargo xtask sim [OPTION]
  (nothing)         seeds 0..200, each twice, and the faults of the gate
  --seed N          one seed, with everything that happens in it
  --seeds A..B      seeds, each twice
  --cluster A..B    the same with several members
  --cluster N       one such seed, with everything that happens in it
  --faults [N]      each kind of fault at the gate's number of places, or at about N
  --bugs [NAME]     whether the mistakes that can be compiled in are found, or one, or those of groups; needs
                    --features seeded-bugs, which xtask adds";

/// Seeds of a plain run.
const SEEDS: Range<u64> = 0..200;

/// So many clusters must reach every goal.
const GOAL_SEEDS: u64 = 1000;

/// Failures that are told of each kind.
const TOLD_MAX: usize = 5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let passed = match args[..] {
        [] => run_seeds(SEEDS) & run_faults(None),
        ["--seed", seed] => seed.parse().ok().map_or_else(usage, tell_seed),
        ["--seeds", seeds] => parse_range(seeds).map_or_else(usage, run_seeds),
        ["--cluster", seeds] => match parse_range(seeds) {
            Some(seeds) => run_clusters(seeds),
            None => seeds.parse().ok().map_or_else(usage, tell_cluster),
        },
        ["--faults"] => run_faults(None),
        ["--faults", places] => places.parse().ok().map_or_else(usage, |places| run_faults(Some(places))),
        ["--bugs"] => hunt(None),
        ["--bugs", name] => hunt(Some(name)),
        _ => usage(),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> bool {
    eprintln!("{USAGE}");
    false
}

fn parse_range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// Runs one seed and prints all of it.
fn tell_seed(seed: u64) -> bool {
    let mut world = World::new(seed);
    world.trace.lines = Some(Vec::new());
    let outcome = Outcome::of_sound(|| seeds::run_in(&mut world)).into_result();
    tell_world(&world, seed, outcome)
}

/// The same for several members.
fn tell_cluster(seed: u64) -> bool {
    let mut world = cluster::world(seed);
    world.trace.lines = Some(Vec::new());
    let outcome = Outcome::of_sound(|| cluster::run_in(&mut world)).into_result();
    tell_world(&world, seed, outcome)
}

fn tell_world(world: &World, seed: u64, outcome: Result<(), String>) -> bool {
    world.trace.lines.iter().flatten().for_each(|line| print!("{}", brief(line)));
    println!("{:?}\ntrace {:016x}", world.settings(), world.trace.hash());
    tell_failure(format_args!("seed {seed}"), outcome)
}

fn tell_failure<T>(what: impl std::fmt::Display, outcome: Result<T, String>) -> bool {
    outcome.map_err(|error| println!("{what}: {}", brief(&error))).is_ok()
}

fn run_seeds(seeds: Range<u64>) -> bool {
    run_each("seed", seeds, seeds::run).is_some()
}

/// A run of many must come across all that is worth it.
fn run_clusters(seeds: Range<u64>) -> bool {
    let is_long = seeds.end.saturating_sub(seeds.start) >= GOAL_SEEDS;
    let Some(goals) = run_each("cluster", seeds, cluster::run) else { return false };
    println!("sim: came across {goals}");
    let missed = goals.missed();
    if !missed.is_empty() {
        println!("sim: never came across {missed:?}");
    }
    missed.is_empty() || !is_long
}

/// Runs each twice. What they came across, if none failed.
fn run_each(what: &str, seeds: Range<u64>, run: fn(u64) -> Result<Passed, String>) -> Option<Goals> {
    let start = Instant::now();
    let (mut goals, mut failed) = (Goals::default(), 0);
    for seed in seeds.clone() {
        match seeds::twice(seed, run) {
            Ok(passed) => goals.add(passed.goals),
            Err(error) => {
                println!("{what} {seed}: {}", brief(&error));
                failed += 1;
            }
        }
    }
    println!("sim: {} {what}s, each twice, {failed} failed, {:.1?}", seeds.count(), start.elapsed());
    (failed == 0).then_some(goals)
}

fn run_faults(places: Option<u64>) -> bool {
    let mut passed = true;
    for (gate, run) in faults::ROWS {
        let start = Instant::now();
        let rows = run(places.unwrap_or(*gate));
        rows.iter().for_each(|row| passed &= tell_row(row));
        println!("sim: {:.1?}", start.elapsed());
    }
    passed
}

fn tell_row(row: &Row) -> bool {
    println!("{row}");
    row.wrong.iter().take(TOLD_MAX).for_each(|wrong| println!("  {}", brief(wrong)));
    row.wrong.is_empty()
}

#[cfg(feature = "seeded-bugs")]
fn hunt(name: Option<&str>) -> bool {
    use sim::bugs::{Mistake, hunt};

    // Failures are what is looked for; their messages come back in the table.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| bug | check that failed | in |\n|---|---|---|");
    let chosen = Mistake::all().into_iter().filter(|mistake| match name {
        None => true,
        Some("groups") => mistake.is_of_groups(),
        Some(name) => mistake.name() == name,
    });
    let mut all = true;
    for mistake in chosen {
        match hunt(mistake) {
            Some(find) => {
                println!("| {} | {} | {} |", mistake.name(), find.checker(), find.case);
                if name == Some(mistake.name().as_str()) {
                    println!("{}", brief(&find.what));
                }
            }
            None => {
                println!("| {} | **not found** | |", mistake.name());
                all = false;
            }
        }
    }
    all
}

#[cfg(not(feature = "seeded-bugs"))]
fn hunt(_: Option<&str>) -> bool {
    eprintln!("sim: built without --features seeded-bugs");
    false
}
