//! Rot, lies of the drive and failing operations: detected or harmless, never a wrong entry.

mod wal_world;

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::disk::{Disk, FileName};
use engine::wal::inspect::{self, Verdict};
use engine::wal::layout::{HEADER_BYTES, Header};
use engine::wal::recover::{RecoverError, Standing, Voters};
use engine::wal::{Config, Entry, EntryId, HardState, Mode, Recovered, open, recover};
use wal_world::{IDENTITY, World, config, segments};

const DSYNC: Mode = Mode::Dsync { depth: 4 };

/// A log with many blocks, nothing in flight, and a durable seal at the end.
fn sealed_world(seed: u64) -> World {
    let mut world = World::new(DSYNC, seed);
    for event in 0..150 {
        match event % 5 {
            0 => world.push_term(),
            1 => world.push_truncate(),
            2 => world.push_entries(&[300, 5000]),
            _ => world.push_entries(&[10, 900, 300]),
        }
        world.poll(true);
        if event % 3 == 0 {
            world.settle();
        }
    }
    world.settle();
    world.writer.poll_timer(world.now);
    world.now += Duration::from_millis(100);
    world.writer.poll_timer(world.now);
    world.settle();
    world
}

/// Places of all blocks that a start would accept.
fn blocks(world: &mut World) -> Vec<(FileName, u64, Header)> {
    let mut found = Vec::new();
    for (file, len) in segments(&mut world.disk) {
        let content = world.disk.content(file).unwrap();
        let mut at = 0;
        while at + 4096 < len {
            match Header::decode(&content[at as usize..]) {
                Ok((header, _)) => {
                    let length = u64::from(header.length);
                    found.push((file, at, header));
                    at += length;
                }
                Err(_) => at += 4096,
            }
        }
    }
    found
}

#[derive(Debug, PartialEq)]
enum Seen {
    Harmless,
    Detected,
    /// The rot hit the last block, which nothing after it vouches for.
    TakenForTorn,
}

/// Recovers a rotten disk. Whatever comes out, entries are right.
fn judge(world: &World, disk: &mut MemDisk) -> Seen {
    let state = world.state();
    let prefix = |recovered: &Recovered| {
        let all = &recovered.entries;
        world.steps.iter().any(|(_, step)| {
            step.entries.get(world.applied.index as usize..).is_some_and(|above| above == all)
        })
    };
    match recover(disk, IDENTITY, world.applied, Voters::Single) {
        Ok(recovered) => {
            assert!(prefix(&recovered), "entries nobody pushed");
            let whole = recovered.last() == state.last() && recovered.hard_state.term == state.term;
            if whole { Seen::Harmless } else { Seen::TakenForTorn }
        }
        Err(RecoverError::Damaged { .. } | RecoverError::CommitLost { .. } | RecoverError::Format { .. }) => {
            let recovered = recover(disk, IDENTITY, world.applied, Voters::Group);
            if let Ok(recovered) = recovered {
                assert!(prefix(&recovered), "entries nobody pushed");
                let Standing::Recovering { promised } = recovered.standing else {
                    panic!("a member of a group forgot a promise");
                };
                assert!(promised.index >= state.last().index, "{promised:?} below {:?}", state.last());
                assert_eq!(recovered.hard_state.term, state.term);
            }
            Seen::Detected
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn rot_is_detected_or_harmless() {
    let mut world = sealed_world(1);
    let blocks = blocks(&mut world);
    let (seal_file, seal_at, seal) = blocks.last().unwrap().clone();
    let mut pcg = Pcg::new(1);
    let mut flips = 0;
    for (file, at, header) in &blocks {
        let body = (0..8).map(|_| HEADER_BYTES as u64 + pcg.below(u64::from(header.length) - 128));
        for byte in (0..HEADER_BYTES as u64).chain(body.collect::<Vec<_>>()) {
            if byte < 128 && byte % 16 != header.number % 16 && header.number > 3 {
                continue;
            }
            let mut disk = world.disk.clone();
            disk.flip_bit(*file, at + byte, pcg.below(8) as u8);
            flips += 1;
            if judge(&world, &mut disk) == Seen::TakenForTorn {
                panic!("block {} byte {byte}: sealed data was cut silently", header.number);
            }
        }
    }
    assert!(flips > 1000, "{flips} flips");
    // The seal itself is what remains ambiguous: it holds nothing.
    assert_eq!(
        (seal.first_index, seal.last_index),
        (world.state().last().index + 1, world.state().last().index)
    );
    let mut disk = world.disk.clone();
    disk.flip_bit(seal_file, seal_at + 20, 0);
    assert_eq!(judge(&world, &mut disk), Seen::Harmless);

    // Without a seal the last window in flight is ambiguous, and only that.
    world.push_entries(&[100]);
    world.settle();
    world.push_entries(&[100]);
    world.settle();
    let open_end = self::blocks(&mut world);
    let proven = open_end.iter().map(|(_, _, header)| header.durable_upto).max().unwrap();
    for (file, at, header) in &open_end[open_end.len() - 6..] {
        let mut disk = world.disk.clone();
        disk.flip_bit(*file, at + 130, 0);
        let torn = judge(&world, &mut disk) == Seen::TakenForTorn;
        assert_eq!(torn, header.number > proven, "block {} with {proven} proven", header.number);
    }
}

#[test]
fn damage_below_the_applied_entry_costs_the_prefix_only() {
    let mut world = sealed_world(2);
    let last = world.state().last();
    world.applied = EntryId { index: last.index - 10, ..last };
    world.applied.term = world.state().entries[world.applied.index as usize - 1].term;
    let blocks = blocks(&mut world);
    let damaged = blocks[blocks.len() / 2].clone();
    let mut disk = world.disk.clone();
    disk.flip_bit(damaged.0, damaged.1 + 50, 3);
    let recovered = recover(&mut disk, IDENTITY, world.applied, Voters::Single).unwrap();
    assert_eq!(recovered.entries, world.state().entries[world.applied.index as usize..]);
    assert_eq!(recovered.standing, Standing::Sound);
    assert!(recovered.warnings[0].contains("is damaged at offset"), "{:?}", recovered.warnings);
    assert!(!recovered.clean);

    // Life goes on, and the next start says the same.
    drop(open(&mut disk, &recovered, config(DSYNC), 99).unwrap());
    let again = recover(&mut disk, IDENTITY, world.applied, Voters::Single).unwrap();
    assert_eq!(again.entries, recovered.entries);
}

#[test]
fn a_recovering_member_stays_so_until_told_otherwise() {
    let mut world = sealed_world(3);
    let blocks = blocks(&mut world);
    let (file, at, _) = blocks[blocks.len() / 2].clone();
    world.disk.flip_bit(file, at + 40, 0);
    let refused = recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Single).unwrap_err();
    assert!(
        matches!(&refused, RecoverError::Damaged { file: f, offset, .. } if (*f, *offset) == (file, at)),
        "{refused}"
    );
    assert!(refused.to_string().contains(&file.to_string()), "{refused}");
    let mut promised = None;
    for nonce in 0..3 {
        let recovered = recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Group).unwrap();
        let Standing::Recovering { promised: now } = recovered.standing else { panic!("promise forgotten") };
        assert_eq!(*promised.get_or_insert(now), now);
        open(&mut world.disk, &recovered, config(DSYNC), nonce).unwrap();
    }
    // A single member does not become sound by restarting.
    recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Single).unwrap_err();

    let recovered = recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Group).unwrap();
    let mut writer = open(&mut world.disk, &recovered, config(DSYNC), 7).unwrap();
    writer.push_recovered(1);
    while let Some((token, op)) = writer.poll(true) {
        let outcome = world.disk.run(op);
        writer.on_completed(token, outcome).unwrap();
    }
    let recovered = recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Group).unwrap();
    assert_eq!(recovered.standing, Standing::Sound);
}

#[test]
fn a_crash_while_a_recovering_member_starts_forgets_nothing() {
    let mut world = sealed_world(10);
    let blocks = blocks(&mut world);
    let (file, at, _) = blocks[blocks.len() / 2].clone();
    world.disk.flip_bit(file, at + 40, 0);
    let start = |disk: &mut MemDisk| -> Result<Standing, RecoverError> {
        let recovered = recover(disk, IDENTITY, EntryId::default(), Voters::Group)?;
        open(disk, &recovered, config(DSYNC), 11)?;
        Ok(recovered.standing)
    };
    let mut whole = world.disk.clone();
    let standing = start(&mut whole).unwrap();
    assert!(matches!(standing, Standing::Recovering { .. }));
    // The last operations are those that change something.
    let operations = whole.operations() - 20..whole.operations();
    for (nth, seed) in operations.flat_map(|nth| (0..8).map(move |seed| (nth, seed))) {
        let mut disk = world.disk.clone();
        disk.inject(nth, Fault::PowerCut);
        let _ = start(&mut disk);
        disk.crash(&mut Pcg::new(seed));
        assert_eq!(start(&mut disk), Ok(standing), "power cut at operation {nth}, seed {seed}");
    }
}

#[test]
fn a_damaged_member_of_a_group_lives_on() {
    let mut recovering = 0;
    for seed in 0..120 {
        let mut world = sealed_world(20 + seed % 4);
        let mut pcg = Pcg::new(seed);
        let blocks = blocks(&mut world);
        for _ in 0..=pcg.below(3) {
            let (file, at, header) = &blocks[pcg.below(blocks.len() as u64) as usize];
            world.disk.flip_bit(*file, at + pcg.below(u64::from(header.length)), pcg.below(8) as u8);
        }
        let mut expected: Option<Recovered> = None;
        for life in 0..4 {
            let recovered = recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Group).unwrap();
            if let Some(expected) = &expected {
                assert_eq!(recovered.entries, expected.entries, "seed {seed} life {life}");
                assert_eq!(recovered.standing, expected.standing, "seed {seed} life {life}");
                assert_eq!(recovered.hard_state, expected.hard_state, "seed {seed} life {life}");
            }
            recovering += usize::from(recovered.standing != Standing::Sound);
            let mut writer = open(&mut world.disk, &recovered, config(DSYNC), pcg.next_u64()).unwrap();
            let mut next = recovered;
            for index in next.last().index + 1..next.last().index + 30 {
                let entry = Entry { term: 50, index, kind: 0, data: vec![life; 900].into() };
                writer.push_entries(index, std::slice::from_ref(&entry));
                next.entries.push(entry);
                while let Some((token, op)) = writer.poll(true) {
                    let outcome = world.disk.run(op);
                    writer.on_completed(token, outcome).unwrap();
                }
            }
            world.disk.crash(&mut pcg);
            expected = Some(next);
        }
    }
    assert!(recovering > 200, "{recovering} lives as a recovering member");
}

#[test]
fn check_points_at_the_damage_and_cut_keeps_what_stands_before_it() {
    let mut world = sealed_world(4);
    let report = inspect::check(&mut world.disk, 0).unwrap();
    assert_eq!(report.verdict, Verdict::Sound { torn: 0 }, "{report}");
    assert!(report.to_string().contains("log of member 3e of cluster c1"), "{report}");

    let blocks = blocks(&mut world);
    let (file, at, header) = blocks[blocks.len() / 2].clone();
    world.disk.flip_bit(file, at, 0);
    let before = world.disk.clone();
    let report = inspect::check(&mut world.disk, 0).unwrap();
    let Verdict::Damaged { file: f, offset, block, from_index, to_index } = report.verdict else {
        panic!("{report}");
    };
    assert_eq!((f, offset, block), (file, at, header.number));
    assert!(from_index <= header.first_index && to_index >= world.state().last().index, "{report}");

    let mut backup = MemDisk::new();
    let cut = |disk: &mut MemDisk, backup: &mut MemDisk| {
        inspect::cut(disk, backup, IDENTITY, EntryId::default(), Voters::Single, config(DSYNC), 5)
    };
    cut(&mut world.disk, &mut backup).unwrap();
    for (file, _) in segments(&mut backup) {
        assert_eq!(backup.content(file), before.content(file), "{file}");
    }
    cut(&mut world.disk, &mut backup).unwrap_err();
    world.disk.crash(&mut Pcg::new(4));
    let recovered = recover(&mut world.disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
    assert_eq!(recovered.last().index, from_index - 1);
    let sound = inspect::check(&mut world.disk, 0).unwrap();
    assert_eq!(sound.verdict, Verdict::Sound { torn: 0 }, "{sound}");
}

/// A block as the writer makes them, under a nonce that was guessed.
fn forged(number: u64, nonce: u64) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_slice(&[1, 0, 0, 0, 4, 0, 0, 0]);
    body.put_u64_le(1);
    body.put_u64_le(999);
    body.put_slice(b"evil");
    let header = Header {
        flags: 0,
        identity: IDENTITY,
        start: 1,
        nonce,
        number,
        length: 4096,
        previous: 0,
        hard_state: HardState { term: 999, vote: Some(9), commit: 999 },
        first_index: 1,
        last_index: 999,
        durable_upto: number - 1,
        body_length: body.len() as u32,
        body_crc: crc32fast::hash(&body),
    };
    let mut block = vec![0; 4096];
    header.encode(&mut block);
    block[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
    block
}

#[test]
fn bytes_that_a_client_stored_never_pass_for_a_block() {
    let seed = 5;
    let nonce = seed | 1 << 40;
    // With the nonce guessed wrong, blocks inside entries are nothing. With the nonce stolen from the disk, a
    // stale number still is.
    for (number, nonce) in [(u64::MAX - 1, nonce ^ 1), (2, nonce)] {
        let mut world = World::new(DSYNC, seed);
        world.push_entries(&[10]);
        world.settle();
        // The payload begins at HEADER_BYTES + 24 of its block; pad so that the forgery meets a 4 KiB
        // boundary.
        let mut data = vec![0; 4096 - HEADER_BYTES - 24];
        data.extend(forged(number, nonce));
        let last = world.state().last();
        let entry = Entry { term: 1, index: last.index + 1, kind: 0, data: data.into() };
        world.position += 1;
        let mut state = world.state().clone();
        state.entries.push(entry.clone());
        world.steps.push((world.position, state));
        world.writer.push_entries(world.position, &[entry]);
        world.settle();
        let (file, at, _) = blocks(&mut world).last().unwrap().clone();
        let real = world.disk.content(file).unwrap();
        assert!(Header::decode(&real[at as usize + 4096..]).is_ok(), "the forgery is on a boundary");
        world.check(&world.recover_on(&mut world.disk.clone()).unwrap());

        // The real block around it is torn: the forgery is on the disk for all to see.
        let mut disk = world.disk.clone();
        disk.flip_bit(file, at + 8, 1);
        let recovered = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
        assert_eq!((recovered.last(), recovered.hard_state.term), (last, 0), "{:?}", recovered.warnings);
        assert_eq!(recovered.standing, Standing::Sound);
        assert!(recovered.next_block < 10, "the forgery moved the numbers to {}", recovered.next_block);
    }
}

#[test]
fn lost_and_misdirected_writes_are_seen_once_anything_vouches_for_them() {
    let mut detected = 0;
    let mut cases = 0;
    for seed in 0..200 {
        let mut world = World::new(DSYNC, 1000 + seed);
        for _ in 0..10 {
            world.push_entries(&[200]);
            world.settle();
        }
        let operation = world.disk.operations() + world.pcg.below(3);
        let elsewhere = 4096 * (1 + world.pcg.below(8));
        let fault = if seed % 2 == 0 { Fault::LoseWrite } else { Fault::Misdirect(elsewhere) };
        world.disk.inject(operation, fault);
        for _ in 0..6 {
            world.push_entries(&[200]);
            world.settle();
        }
        cases += 1;
        let seen = judge(&world, &mut world.disk.clone());
        assert_ne!(seen, Seen::TakenForTorn, "seed {seed} {fault:?}");
        detected += usize::from(seen == Seen::Detected);
    }
    // Faults can hit an operation that is no write.
    assert!(detected * 10 > cases * 8, "{detected} of {cases}");
}

/// A settled log of six blocks that hold entries, the block that is `behind` blocks before the last, and the disk after
/// the drive wrote it so many blocks further on. The index holds what is before it.
fn gone_astray(behind: usize, blocks_on: usize) -> (World, (FileName, u64, Header), MemDisk) {
    let mut world = World::new(DSYNC, 1);
    for _ in 0..6 {
        world.push_entries(&[100]);
        world.settle();
    }
    let blocks = blocks(&mut world);
    let (file, at, header) = blocks[blocks.len() - 1 - behind].clone();
    world.applied = world.state().entries[header.first_index as usize - 2].id();
    let mut disk = world.disk.clone();
    let mut content = disk.content(file).unwrap().to_vec();
    let (from, len) = (at as usize, header.length as usize);
    content.copy_within(from..from + len, from + blocks_on * len);
    content[from..from + len].fill(0);
    disk.put(file, content);
    (world, (file, at, header), disk)
}

/// Simulator, lies, seeds 16 and 5371: recovery resumed at the block in the wrong place, nothing followed it there, and
/// the blocks behind the right place were cut as torn: without a refusal when nobody vouched for them.
#[test]
fn a_block_that_went_astray_does_not_end_the_log() {
    for (behind, blocks_on) in [(0, 2), (0, 5), (1, 3), (1, 5), (2, 4), (2, 5), (4, 6), (4, 9)] {
        let (world, (_, at, header), mut disk) = gone_astray(behind, blocks_on);
        let recovered = recover(&mut disk, IDENTITY, world.applied, Voters::Single);
        let recovered = recovered.unwrap_or_else(|error| panic!("{behind} {blocks_on}: {error}"));
        world.check(&recovered);
        assert_eq!(recovered.last(), world.state().last(), "{behind} {blocks_on}");
        let place = format!("block {} stands at offset {}", header.number, at + 4096 * blocks_on as u64);
        assert!(
            recovered.warnings.iter().any(|warning| warning.starts_with(&place)),
            "{:?}",
            recovered.warnings
        );
        // The next start finds it there again.
        open(&mut disk, &recovered, config(DSYNC), 77).unwrap();
        let again = recover(&mut disk, IDENTITY, world.applied, Voters::Single).unwrap();
        assert_eq!(again.entries, recovered.entries, "{behind} {blocks_on}");
    }
}

/// Nobody can tell whether there was one more block, where a stray one lies right behind the last.
#[test]
fn what_a_stray_block_may_have_overwritten_is_damage() {
    for (behind, blocks_on) in [(1, 1), (2, 2), (3, 3), (0, 1), (1, 2), (2, 3)] {
        let (world, (file, at, header), mut disk) = gone_astray(behind, blocks_on);
        let refused = recover(&mut disk, IDENTITY, world.applied, Voters::Single).unwrap_err();
        let (on, offset) = (blocks_on as u64, at + 4096 * blocks_on as u64);
        let (block, index) = (header.number + on, header.last_index + on);
        assert_eq!(refused, RecoverError::Damaged { file, offset, block, index });
    }
}

#[test]
fn every_operation_may_fail_and_nothing_is_acknowledged_after() {
    let trace = |fault: Option<u64>| -> (World, bool) {
        let mut world = World::new(Mode::Fdatasync, 77);
        if let Some(operation) = fault {
            world.disk.inject(operation, Fault::Fail(ErrorKind::Other));
        }
        for event in 0..120 {
            if event % 3 == 0 {
                world.push_entries(&[500, 2000]);
            }
            world.poll(true);
            while !world.disk.in_flight().is_empty() {
                let (token, outcome) = world.disk.complete(0);
                let failed = outcome.is_err();
                let durable = world.writer.durable();
                let answer = world.writer.on_completed(token, outcome);
                assert_eq!(answer.is_err(), failed);
                if failed {
                    assert_eq!(world.writer.durable(), durable);
                    world.push_entries(&[1]);
                    assert!(world.writer.poll(true).is_none(), "a failed log goes on");
                    assert!(world.writer.failure().is_some());
                    return (world, true);
                }
                world.poll(true);
            }
        }
        (world, false)
    };
    let (whole, _) = trace(None);
    let mut failures = 0;
    for operation in 4..whole.disk.operations() {
        let (mut world, failed) = trace(Some(operation));
        failures += usize::from(failed);
        world.disk.crash(&mut Pcg::new(operation));
        let recovered = world.recover_on(&mut world.disk.clone()).unwrap();
        world.check(&recovered);
    }
    assert!(failures > 60, "{failures} operations failed");
}

#[test]
fn a_full_disk_is_announced_before_the_log_is_full() {
    let mut world = World::new(DSYNC, 6);
    world.settle();
    let total = world.writer.total_bytes();
    world.disk.set_capacity(Some(total + (64 << 10)));
    let mut written_after_alarm = 0;
    for _ in 0..200 {
        world.push_entries(&[2000]);
        for _ in 0..20 {
            world.poll(true);
            world.complete_one();
        }
        if world.writer.durable() == world.position {
            written_after_alarm += u64::from(world.writer.needs_space()) * 4096;
        }
    }
    assert!(world.writer.needs_space());
    assert!(written_after_alarm >= 32 << 10, "{written_after_alarm} bytes after the alarm");
    assert!(world.writer.durable() < world.position && world.writer.failure().is_none());

    // Checkpoints free what is behind; what waited goes out.
    while world.writer.durable() < world.position {
        world.checkpoint();
        for _ in 0..20 {
            world.poll(true);
            world.complete_one();
        }
    }
    world.disk.set_capacity(None);
    world.writer.retry_space();
    world.settle();
    assert!(!world.writer.needs_space());
    world.restart();
}

#[test]
fn a_full_disk_does_not_keep_the_log_from_opening() {
    let mut world = World::new(DSYNC, 12);
    world.push_entries(&[100]);
    world.settle();
    let total = world.writer.total_bytes();
    world.disk.set_capacity(Some(total));
    // The segment that was ready for later serves now.
    world.restart();
    assert_eq!(world.state().last().index, 1);
}

#[test]
fn a_strangers_log_is_refused() {
    let mut world = World::new(DSYNC, 8);
    let other = engine::wal::Identity { member: 9, ..IDENTITY };
    let refused = recover(&mut world.disk, other, EntryId::default(), Voters::Single).unwrap_err();
    assert!(matches!(refused, RecoverError::Stranger { found: IDENTITY, .. }), "{refused}");
}

#[test]
fn a_new_log_is_ready_after_four_mebibytes_and_small() {
    let mut disk = MemDisk::new();
    let recovered = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single).unwrap();
    let mut writer = open(&mut disk, &recovered, Config::default(), 1).unwrap();
    assert_eq!(segments(&mut disk), [(FileName::Log(1), 4 << 20)]);
    while let Some((token, op)) = writer.poll(true) {
        let outcome = disk.run(op);
        writer.on_completed(token, outcome).unwrap();
    }
    assert!(writer.ahead_bytes() >= 8 << 20, "{} bytes ahead", writer.ahead_bytes());
    let on_disk: u64 = disk.list().unwrap().iter().map(|(_, len)| len).sum();
    assert_eq!(on_disk, writer.total_bytes());
    assert!(on_disk <= 32 << 20, "{on_disk} bytes in a new log");
}

#[test]
fn snapshot_marks_count_when_the_index_stands_there() {
    let mut world = World::new(DSYNC, 9);
    world.push_entries(&[10, 10, 10]);
    let mark = EntryId { index: 50, term: 4 };
    let after = Entry { term: 4, index: 51, kind: 0, data: "after".into() };
    world.writer.push_snapshot_mark(10, mark);
    world.writer.push_entries(11, std::slice::from_ref(&after));
    while let Some((token, op)) = world.writer.poll(true) {
        let outcome = world.disk.run(op);
        world.writer.on_completed(token, outcome).unwrap();
    }
    let recover = |applied| recover(&mut world.disk.clone(), IDENTITY, applied, Voters::Single).unwrap();
    let installed = recover(mark);
    assert_eq!((installed.boundary, installed.entries), (mark, vec![after]));
    let ignored = recover(EntryId { index: 2, term: 1 });
    assert_eq!(ignored.last(), EntryId { index: 3, term: 1 });
    assert_eq!(ignored.warnings.len(), 1, "{:?}", ignored.warnings);
}

mod garbage {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_files_recover_or_are_refused(
            files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20_000), 0..4)
        ) {
            let mut disk = MemDisk::new();
            for (number, content) in files.into_iter().enumerate() {
                disk.put(FileName::Log(number as u64), content);
            }
            let _ = recover(&mut disk, IDENTITY, EntryId::default(), Voters::Single);
            let _ = inspect::check(&mut disk, 0);
        }

        #[test]
        fn a_mangled_log_never_yields_a_foreign_entry(seed in any::<u64>(), strokes in 1..20) {
            let mut world = sealed_world(seed % 4);
            let mut pcg = Pcg::new(seed);
            let files = segments(&mut world.disk);
            for _ in 0..strokes {
                let (file, len) = files[pcg.below(files.len() as u64) as usize];
                world.disk.flip_bit(file, pcg.below(len), pcg.below(8) as u8);
            }
            judge(&world, &mut world.disk.clone());
            let _ = inspect::check(&mut world.disk, 0);
        }
    }
}
