//! The simulator's command line; `cargo xtask sim` runs it.

use std::fmt::Debug;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use sim::cluster;
use sim::faults;
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
  --bugs [NAME]     whether the mistakes that can be compiled in are found; needs --features seeded-bugs, which
                    xtask adds";

/// Seeds of a plain run.
const SEEDS: Range<u64> = 0..200;

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
    run_each("seed", seeds, seeds::run)
}

fn run_clusters(seeds: Range<u64>) -> bool {
    run_each("cluster", seeds, cluster::run)
}

fn run_each(what: &str, seeds: Range<u64>, run: fn(u64) -> Result<Passed, String>) -> bool {
    let start = Instant::now();
    let fails = |seed: &u64| !tell_failure(format_args!("{what} {seed}"), seeds::twice(*seed, run));
    let failed = seeds.clone().filter(fails).count();
    println!("sim: {} {what}s, each twice, {failed} failed, {:.1?}", seeds.count(), start.elapsed());
    failed == 0
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
    use engine::seeded::Bug;
    use sim::bugs::hunt;

    // Failures are what is looked for; their messages come back in the table.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| bug | check that failed | in |\n|---|---|---|");
    let chosen = Bug::ALL.iter().filter(|bug| name.is_none_or(|name| show(bug) == name));
    let mut all = true;
    for bug in chosen {
        match hunt(*bug) {
            Some(find) => println!("| {} | {} | {} |", show(bug), find.checker(), find.case),
            None => {
                println!("| {} | **not found** | |", show(bug));
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

#[cfg_attr(not(feature = "seeded-bugs"), allow(dead_code, reason = "names bugs"))]
fn show(bug: &impl Debug) -> String {
    format!("{bug:?}")
}
