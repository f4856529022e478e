//! What plain `cargo test` runs of the simulator: fewer places than `cargo xtask sim`, the same code.

use sim::cluster;
use sim::faults;
use sim::outcome::Row;
use sim::seeds;

#[test]
fn two_hundred_seeds_are_right_and_repeat_exactly() {
    let (mut resolved, mut lost) = (0, 0);
    for seed in 0..200 {
        let passed = seeds::run_twice(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        (resolved, lost) = (resolved + passed.tally.resolved, lost + passed.tally.lost);
    }
    assert!(resolved > 20 && lost > 20, "{resolved} calls without an answer took effect, {lost} did not");
}

#[test]
fn clusters_agree_whatever_happens() {
    let (mut leaders, mut installed, mut lost, mut hashes, mut changes) = (0, 0, 0, 0, 0);
    for seed in 0..100 {
        let passed =
            seeds::twice(seed, cluster::run).unwrap_or_else(|error| panic!("cluster {seed}: {error}"));
        leaders += passed.tally.leaders;
        installed += passed.tally.installed;
        lost += passed.tally.lost;
        hashes += passed.tally.hashes;
        changes += passed.tally.changes.0;
    }
    // Else the trouble was none.
    assert!(
        leaders > 300 && installed > 20 && lost > 100 && hashes > 400 && changes > 100,
        "{leaders} leaders, {installed} installed, {lost} lost, {hashes} hashes, {changes} changes of members"
    );
}

/// Runs a kind of fault at about `places` places; `detected` tells whether it shall be noticed at all.
fn check(places: u64, run: fn(u64) -> Vec<Row>, detected: bool) {
    for row in run(places) {
        assert!(row.wrong.is_empty(), "{row}\n{:#?}", row.wrong);
        assert_eq!(row.detected > 0, detected, "{row}");
    }
}

#[test]
fn crashes_at_disk_events_lose_nothing() {
    check(300, faults::crash::points, false);
}

#[test]
fn rot_is_found_or_harmless() {
    check(80, faults::rot::bit_flips, true);
}

#[test]
fn a_lying_drive_is_found_or_harmless() {
    check(100, faults::lies::lies, true);
}

#[test]
fn a_full_disk_loses_nothing() {
    check(50, faults::full::full_disk, false);
}

#[test]
fn a_failed_operation_ends_the_process_and_loses_nothing() {
    check(300, faults::failure::failing_operations, true);
}
