//! Power cuts at every event of random traces: what was reported durable is there, nothing else is invented,
//! and a torn tail is never called damage.

mod wal_world;

use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::wal::recover::Voters;
use engine::wal::{EntryId, Mode, open, recover};
use wal_world::{IDENTITY, World, config};

const MODES: [Mode; 3] = [Mode::Dsync { depth: 4 }, Mode::Dsync { depth: 1 }, Mode::Fdatasync];

#[test]
fn every_crash_point_recovers() {
    let mut cases = 0;
    for (seed, mode) in (0..6).flat_map(|seed| MODES.map(|mode| (seed, mode))) {
        let mut world = World::new(mode, seed);
        for event in 0..120 {
            world.event();
            for variant in 0..2 {
                let mut disk = world.disk.clone();
                disk.crash(&mut Pcg::new(seed << 32 | event << 8 | variant));
                let recovered = world
                    .recover_on(&mut disk)
                    .unwrap_or_else(|error| panic!("seed {seed} {mode:?} event {event}: {error}"));
                world.check(&recovered);
                cases += 1;
            }
        }
    }
    assert!(cases >= 2000, "{cases} crash points");
}

#[test]
fn many_lives_with_crashes_in_between() {
    for (seed, mode) in (100..130).flat_map(|seed| MODES.map(|mode| (seed, mode))) {
        let mut world = World::new(mode, seed);
        for life in 0..8 {
            for _ in 0..world.pcg.below(150) {
                world.event();
            }
            let mut pcg = Pcg::new(seed << 8 | life);
            match life % 3 {
                0 => world.disk.kill(&mut pcg),
                _ => world.disk.crash(&mut pcg),
            }
            world.restart();
        }
    }
}

#[test]
fn power_fails_again_at_every_operation_of_a_restart() {
    let mut cases = 0;
    for (seed, mode) in (200..206).flat_map(|seed| MODES.map(|mode| (seed, mode))) {
        let mut world = World::new(mode, seed);
        for _ in 0..200 {
            world.event();
        }
        let mut crashed = world.disk.clone();
        crashed.crash(&mut Pcg::new(seed));
        let first = world.recover_on(&mut crashed.clone()).unwrap();
        for nth in 0.. {
            let mut disk = crashed.clone();
            let mut pcg = Pcg::new(seed << 16 | nth);
            let interrupted = world.interrupted_restart(&mut disk, nth, &mut pcg);
            let again = world.recover_on(&mut disk).unwrap();
            world.check(&again);
            assert_eq!(again.entries, first.entries, "seed {seed}: the second restart found other entries");
            cases += 1;
            if !interrupted {
                break;
            }
        }
    }
    assert!(cases > 100, "{cases} interrupted restarts");
}

#[test]
fn the_very_first_start_may_be_interrupted_anywhere() {
    for (nth, seed) in (0..6).flat_map(|nth| (0..16).map(move |seed| (nth, seed))) {
        let mut disk = MemDisk::new();
        let start = |disk: &mut MemDisk| {
            let recovered = recover(disk, IDENTITY, EntryId::default(), Voters::Single)?;
            assert!(recovered.fresh && recovered.warnings.is_empty(), "{:?}", recovered.warnings);
            open(disk, &recovered, config(MODES[0]), seed).map(drop)
        };
        disk.inject(nth, Fault::PowerCut);
        if start(&mut disk).is_err() {
            disk.crash(&mut Pcg::new(seed));
            // Once the head is there, the log is: not fresh, and empty.
            let recovered = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
            assert_eq!(recovered.last(), EntryId::default());
            if recovered.fresh {
                start(&mut disk).unwrap();
            }
        }
    }
}

#[test]
fn an_orderly_stop_is_known_as_one() {
    for mode in MODES {
        let mut world = World::new(mode, 7);
        for _ in 0..100 {
            world.event();
        }
        world.settle();
        let dirty = world.recover_on(&mut world.disk.clone()).unwrap();
        assert!(!dirty.clean);
        world.position += 1;
        let state = world.state().clone();
        world.steps.push((world.position, state));
        world.writer.push_stop(world.position);
        world.settle();
        let clean = world.recover_on(&mut world.disk.clone()).unwrap();
        assert!(clean.clean && clean.warnings.is_empty(), "{:?}", clean.warnings);
        world.restart();
        let dirty = world.recover_on(&mut world.disk.clone()).unwrap();
        assert!(!dirty.clean, "a new start is not a stop");
    }
}
