//! How long it takes to read a log again, with the page cache dropped.
//!
//! `cargo run --release -p kontiki-engine --example recover_bench [MiB] [bytes a block]`, as root for a cold cache. It
//! makes a log in the temporary directory and recovers it after an orderly stop and after a kill, with everything
//! applied, with 80 % and with nothing.
#![allow(clippy::disallowed_methods, reason = "it measures time and drops caches")]

use std::time::Instant;

use bytes::Bytes;
use engine::disk::file::FileDisk;
use engine::disk::{Disk, Durability, Op};
use engine::wal::recover::Voters;
use engine::wal::{Config, Entry, EntryId, Identity, Writer, open, recover};

const IDENTITY: Identity = Identity { cluster: 1, member: 2 };
const ENTRY_BYTES: usize = 300;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let log_bytes = arguments.next().unwrap_or(320) << 20;
    let block_bytes = arguments.next().unwrap_or(32 << 10) as usize;
    let root = std::env::temp_dir().join(format!("kontiki-recover-{}", std::process::id()));
    let mut disk = FileDisk::open(&root).expect("a directory to work in");
    for (stop, orderly) in [("killed", false), ("stopped in order", true)] {
        let last = fill(&mut disk, if orderly { 40 << 20 } else { log_bytes }, block_bytes, orderly);
        for percent in [100, 80, 0] {
            let index = last * percent / 100;
            let applied = EntryId { index, term: index.min(1) };
            let cold = drop_caches();
            let before = Instant::now();
            let recovered = recover(&mut disk, IDENTITY, applied, Voters::Single).expect("a sound log");
            let cache = if cold { "cold" } else { "warm" };
            println!(
                "{stop}, {percent} % applied, {cache}: {:?} for {} entries in {} segments",
                before.elapsed(),
                recovered.entries.len(),
                recovered.segments.len()
            );
            assert_eq!(
                (recovered.last().index, recovered.clean),
                (last, orderly),
                "{:?}",
                recovered.warnings
            );
        }
    }
    std::fs::remove_dir_all(&root).expect("the directory is ours");
}

/// Adds blocks to the log; returns its last entry.
fn fill(disk: &mut FileDisk, log_bytes: u64, block_bytes: usize, orderly: bool) -> u64 {
    let recovered = recover(disk, IDENTITY, EntryId::default(), Voters::Single).expect("a sound log");
    let mut writer = open(disk, &recovered, Config::default(), recovered.start + 1).expect("a log to write");
    let data = Bytes::from(vec![7; ENTRY_BYTES]);
    let count = block_bytes / (ENTRY_BYTES + 24);
    let mut index = recovered.last().index;
    for position in 1..=log_bytes / block_bytes as u64 {
        let entry = |index| Entry { term: 1, index, kind: 0, data: data.clone() };
        let entries: Vec<Entry> = (index + 1..).take(count).map(entry).collect();
        index += count as u64;
        writer.push_entries(position, &entries);
        run(&mut writer, disk);
    }
    if orderly {
        writer.push_stop(u64::MAX);
        run(&mut writer, disk);
    }
    index
}

/// Does what is due. Nothing is synced block by block: the reading is what is measured.
fn run(writer: &mut Writer, disk: &mut FileDisk) {
    while let Some((token, mut op)) = writer.poll(true) {
        if let Op::Write { durability, .. } = &mut op {
            *durability = Durability::Cached;
        }
        let outcome = disk.run(op);
        writer.on_completed(token, outcome).expect("the disk takes it");
    }
}

/// Writes everything back and empties the page cache, if we may.
fn drop_caches() -> bool {
    let synced = std::process::Command::new("sync").status().is_ok_and(|status| status.success());
    synced && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
