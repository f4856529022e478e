//! What recovery leaves unread, and that it cannot matter: long blocks and segments, so that there is much to
//! leave out.

use bytes::Bytes;
use engine::disk::mem::MemDisk;
use engine::disk::pcg::Pcg;
use engine::disk::{Disk, DiskError, FileName, Op, Outcome};
use engine::wal::inspect::{self, Verdict};
use engine::wal::layout::Header;
use engine::wal::recover::{RecoverError, Standing, Voters};
use engine::wal::{Config, Entry, EntryId, HardState, Identity, Mode, Recovered, Writer, open, recover};

const IDENTITY: Identity = Identity { cluster: 0xc1, member: 0x3e };

/// Makes each block long enough to be leapt over.
const ENTRY_BYTES: usize = 200 << 10;

fn config() -> Config {
    Config {
        mode: Mode::Dsync { depth: 4 },
        segment_bytes: 2 << 20,
        segment_bytes_first: 2 << 20,
        ahead_bytes_min: 2 << 20,
        entry_bytes_max: 256 << 10,
        ..Config::default()
    }
}

fn entry(index: u64) -> Entry {
    Entry { term: 1, index, kind: 0, data: vec![index as u8; ENTRY_BYTES].into() }
}

fn applied(index: u64) -> EntryId {
    EntryId { index, term: index.min(1) }
}

fn start(disk: &mut MemDisk, index: u64, nonce: u64) -> (Writer, Recovered) {
    let recovered = recover(disk, IDENTITY, applied(index), Voters::Single).unwrap();
    (open(disk, &recovered, config(), nonce).unwrap(), recovered)
}

fn run(writer: &mut Writer, disk: &mut MemDisk) {
    while let Some((token, op)) = writer.poll(true) {
        let outcome = disk.run(op);
        writer.on_completed(token, outcome).unwrap();
    }
}

/// 66 entries in blocks of their own, in seven segments; two of them share their blocks with configurations.
/// Stopped in order.
fn stopped_log() -> MemDisk {
    let mut disk = MemDisk::new();
    let (mut writer, _) = start(&mut disk, 0, 1);
    writer.push_hard_state(0, HardState { term: 1, vote: Some(0x3e), commit: 0 });
    for index in 1..=LAST {
        if index == 3 || index == CONF_AT {
            writer.push_conf_state(index, Bytes::from(format!("voters as of {index}")));
        }
        writer.push_entries(index, &[entry(index)]);
        run(&mut writer, &mut disk);
    }
    writer.push_stop(LAST + 1);
    run(&mut writer, &mut disk);
    disk
}

const LAST: u64 = 66;
const CONF_AT: u64 = 63;

/// File, offset and header of each block behind a segment's head.
fn blocks(disk: &mut MemDisk) -> Vec<(FileName, u64, Header)> {
    let mut found = Vec::new();
    for (file, len) in disk.list().unwrap() {
        let content = disk.content(file).unwrap();
        let mut at = 4096;
        while at + 4096 < len
            && let Ok((header, _)) = Header::decode(&content[at as usize..])
        {
            let length = u64::from(header.length);
            found.push((file, at, header));
            at += length;
        }
    }
    found
}

/// A disk that remembers what was read.
struct Watched<'a> {
    disk: &'a mut MemDisk,
    reads: Vec<(FileName, u64, usize)>,
}

impl Disk for Watched<'_> {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        self.disk.list()
    }

    fn run(&mut self, op: Op) -> Outcome {
        if let Op::Read { file, offset, len, .. } = op {
            self.reads.push((file, offset, len));
        }
        self.disk.run(op)
    }
}

#[test]
fn what_the_index_holds_is_not_read() {
    let mut disk = stopped_log();
    let blocks = blocks(&mut disk);
    let last_file = blocks.last().unwrap().0;
    // Every body rots but those that nothing vouches for, and the one that holds a configuration.
    for (file, at, header) in &blocks {
        if header.number + 1 < blocks.last().unwrap().2.number && header.last_index != CONF_AT {
            disk.flip_bit(*file, at + 200, 1);
        }
    }
    let mut watched = Watched { disk: &mut disk, reads: Vec::new() };
    let recovered = recover(&mut watched, IDENTITY, applied(LAST), Voters::Single).unwrap();
    let reads = watched.reads;
    assert!(recovered.clean && recovered.entries.is_empty(), "{:?}", recovered.warnings);
    assert_eq!(recovered.hard_state, HardState { term: 1, vote: Some(0x3e), commit: LAST });
    assert_eq!(recovered.conf_state.unwrap(), format!("voters as of {CONF_AT}"));
    let outside = reads.iter().filter(|(file, ..)| *file != last_file);
    assert!(outside.clone().all(|&(_, _, len)| len <= 4096), "{reads:?}");
    // Headers leapt to, a piece behind the head and one behind the short last block, and three bodies.
    let bytes: usize = reads.iter().map(|&(_, _, len)| len).sum();
    assert!(bytes < (2 << 20) + 4 * ENTRY_BYTES, "{bytes} bytes: {reads:?}");
}

#[test]
fn rot_counts_above_the_applied_entry_and_nowhere_else() {
    let disk = stopped_log();
    let blocks = blocks(&mut disk.clone());
    let sealed = &blocks[..blocks.len() - 1];
    // In the middle of a segment, at its first and at its last entry.
    for applied_index in [27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37] {
        for (file, at, header) in sealed.iter().filter(|(.., header)| header.last_index.abs_diff(32) < 12) {
            let mut rotten = disk.clone();
            rotten.flip_bit(*file, at + 200, 1);
            let outcome = recover(&mut rotten, IDENTITY, applied(applied_index), Voters::Single);
            let context = format!("block {} with {applied_index} applied", header.number);
            match outcome {
                Ok(recovered) if header.last_index <= applied_index => {
                    let expected: Vec<Entry> = (applied_index + 1..=LAST).map(entry).collect();
                    assert!(recovered.entries == expected && recovered.clean, "{context}");
                }
                Err(RecoverError::Damaged { file: f, offset, index, .. }) => {
                    assert_eq!((f, offset, index), (*file, *at, header.first_index), "{context}");
                    assert!(header.last_index > applied_index, "{context}");
                }
                other => panic!("{context}: {:?}", other.map(|recovered| recovered.warnings)),
            }
        }
    }
}

#[test]
fn a_rotten_header_below_the_applied_entry_costs_the_prefix_only() {
    let disk = stopped_log();
    let blocks = blocks(&mut disk.clone());
    let last_file = blocks.last().unwrap().0;
    for index in [5, 64] {
        let mut rotten = disk.clone();
        let (file, at, _) = blocks.iter().find(|(.., header)| header.last_index == index).unwrap().clone();
        rotten.flip_bit(file, at + 50, 3);
        let recovered = recover(&mut rotten, IDENTITY, applied(65), Voters::Single).unwrap();
        assert_eq!((recovered.entries, recovered.standing), (vec![entry(LAST)], Standing::Sound));
        // A segment that is left out whole may rot unnoticed; the operator's check sees it.
        let noticed = recovered.warnings.iter().any(|warning| warning.contains("is damaged at offset"));
        assert_eq!((noticed, recovered.clean), (file == last_file, file != last_file), "entry {index}");
        let report = inspect::check(&mut rotten, 0).unwrap();
        assert!(matches!(report.verdict, Verdict::Damaged { .. }), "{report}");
    }
}

#[test]
fn a_configuration_that_rots_below_the_applied_entry_is_noticed() {
    let mut disk = stopped_log();
    let (file, at, _) =
        blocks(&mut disk).into_iter().find(|(.., header)| header.last_index == CONF_AT).unwrap();
    disk.flip_bit(file, at + 200, 1);
    let recovered = recover(&mut disk, IDENTITY, applied(LAST), Voters::Single).unwrap();
    assert_eq!((recovered.conf_state, recovered.entries.len()), (None, 0));
    assert!(recovered.warnings[0].contains("is damaged at offset"), "{:?}", recovered.warnings);
}

#[test]
fn another_members_index_is_still_seen() {
    let mut disk = stopped_log();
    for index in [20, 45, LAST] {
        let other = EntryId { index, term: 2 };
        let refused = recover(&mut disk, IDENTITY, other, Voters::Single).unwrap_err();
        assert_eq!(refused, RecoverError::Mismatch { applied: other, term: 1 });
    }
}

#[test]
fn every_applied_entry_leads_to_the_same_log() {
    let mut disk = stopped_log();
    for index in 0..=LAST {
        let recovered = recover(&mut disk, IDENTITY, applied(index), Voters::Single).unwrap();
        let expected: Vec<Entry> = (index + 1..=LAST).map(entry).collect();
        assert!(recovered.entries == expected && recovered.clean, "{index}: {:?}", recovered.warnings);
        let conf_state = format!("voters as of {CONF_AT}");
        assert_eq!(recovered.conf_state.unwrap(), conf_state, "with {index} applied");
        assert_eq!(recovered.next_block, recovered.cut);
    }
}

/// A segment that is made ready has the head of its former life. It must not pass for the newest one when all that are
/// newer are gone: the entries behind those were acknowledged.
#[test]
fn a_stale_head_does_not_stand_for_heads_that_are_gone() {
    let mut disk = MemDisk::new();
    let (mut writer, _) = start(&mut disk, 0, 1);
    let mut former = Vec::new();
    for index in 1..=LAST {
        writer.push_entries(index, &[entry(index)]);
        run(&mut writer, &mut disk);
        writer.release(index.saturating_sub(30));
        if index == 20 {
            former = disk.content(FileName::Log(2)).unwrap().to_vec();
        }
    }
    let mut logs = disk.list().unwrap();
    logs.retain(|(file, _)| matches!(file, FileName::Log(_)));
    let (ready, _) = logs.pop().unwrap();
    assert!(Header::decode(disk.content(ready).unwrap()).is_err(), "{ready} is not the one made ready");
    assert!(logs[0].0 > FileName::Log(2) && logs.len() > 2, "{logs:?}");
    disk.put(ready, former);
    for (file, len) in logs {
        disk.flip_bit(file, 50, 0);
        disk.flip_bit(file, len - 4096 + 50, 0);
    }
    let outcome = recover(&mut disk, IDENTITY, applied(60), Voters::Single);
    assert!(
        outcome.is_err(),
        "{ready}: {:?}",
        outcome.map(|recovered| (recovered.last(), recovered.warnings))
    );
}

/// Segments come round again with stale heads and blocks, starts follow each other, and either checkpoint may
/// be the one that opens.
#[test]
fn many_lives_with_either_checkpoint() {
    for seed in 0..2 {
        let mut pcg = Pcg::new(seed);
        let mut disk = MemDisk::new();
        let (mut last, mut checkpoints) = (0, [0, 0]);
        for life in 0..8 {
            let (mut writer, recovered) = start(&mut disk, checkpoints[1], seed << 8 | life);
            assert!(recovered.last().index >= last, "seed {seed} life {life}: {:?}", recovered.warnings);
            last = recovered.last().index;
            for index in last + 1..=last + 10 + pcg.below(30) {
                writer.push_entries(index, &[entry(index)]);
                while let Some((token, op)) = writer.poll(true) {
                    disk.submit(token, op);
                }
                while !disk.in_flight().is_empty() && !pcg.one_in(3) {
                    let nth = pcg.below(disk.in_flight().len() as u64) as usize;
                    let (token, outcome) = disk.complete(nth);
                    writer.on_completed(token, outcome).unwrap();
                }
                if pcg.one_in(12) && writer.durable() > checkpoints[1] {
                    checkpoints = [checkpoints[1], writer.durable()];
                    writer.release(checkpoints[1]);
                }
            }
            last = writer.durable().max(last);
            if pcg.one_in(4) {
                disk.kill(&mut pcg)
            } else {
                disk.crash(&mut pcg)
            }
            for checkpoint in checkpoints {
                let mut copy = disk.clone();
                let recovered = recover(&mut copy, IDENTITY, applied(checkpoint), Voters::Single)
                    .unwrap_or_else(|error| panic!("seed {seed} life {life} from {checkpoint}: {error}"));
                let found = recovered.entries.iter().all(|found| *found == entry(found.index));
                assert!(found && recovered.last().index >= last, "seed {seed} life {life} from {checkpoint}");
                let damaged = recovered.warnings.iter().any(|warning| warning.contains("damaged"));
                assert!(!damaged, "seed {seed} life {life}: {:?}", recovered.warnings);
            }
        }
    }
}
