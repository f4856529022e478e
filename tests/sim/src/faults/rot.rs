//! Bits of files that nobody is writing change: found or harmless, and healed where a second copy is kept.

use engine::disk::mem::MemDisk;
use engine::disk::{Disk, FileName};
use engine::map::layout::Meta;
use engine::map::page::{PAGE_SIZE, PageNo};
use engine::wal::inspect;
use engine::wal::layout::{HEADER_BYTES, Header};

use super::{is_loss, rest};
use crate::outcome::{Outcome, Row};
use crate::world::World;

/// A file, or a part of one, that rot may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Segments of the log.
    Log,
    /// Chunks of the history.
    History,
    /// Pages of the index.
    Index,
    /// The index's two meta pages.
    Meta,
}

impl Zone {
    /// Each of them.
    pub const ALL: [Zone; 4] = [Zone::Log, Zone::History, Zone::Index, Zone::Meta];

    fn name(self) -> &'static str {
        match self {
            Zone::Log => "bit flip in the log",
            Zone::History => "bit flip in the history",
            Zone::Index => "bit flip in the index",
            Zone::Meta => "bit flip in a meta page",
        }
    }

    fn holds(self, file: FileName) -> bool {
        match file {
            FileName::Log(_) => self == Zone::Log,
            FileName::History(_) => self == Zone::History,
            FileName::Index => matches!(self, Zone::Index | Zone::Meta),
            FileName::LogSpare(_) | FileName::Reserve | FileName::Incoming => false,
        }
    }
}

/// Row 3: rot in files that nobody is writing.
pub fn bit_flips(flips: u64) -> Vec<Row> {
    Zone::ALL.iter().map(|zone| bit_flips_in(*zone, flips)).collect()
}

fn bit_flips_in(zone: Zone, flips: u64) -> Row {
    let mut sum = Row::new(zone.name());
    for seed in 0.. {
        let left = flips - sum.cases.min(flips);
        if left == 0 {
            break;
        }
        sum.merge(bit_flips_of(zone, seed, left.min(flips.div_ceil(10))));
    }
    sum
}

/// Bits of what one run left, each on a copy of its own.
pub fn bit_flips_of(zone: Zone, seed: u64, flips: u64) -> Row {
    let mut row = Row::new(zone.name());
    let mut world = World::new(seed);
    let ready = Outcome::of_sound(|| rest(&mut world));
    if ready != Outcome::Right {
        row.add(format!("seed {seed}"), ready);
        return row;
    }
    for flip in 0..flips {
        let Some((file, offset, bit)) = pick_bit(&mut world, zone, flip) else { break };
        let mut disk = world.disk().clone();
        let unprotected = is_in_window(&mut disk, file, offset);
        let has_other = zone == Zone::Meta && has_two_metas(&disk);
        disk.flip_bit(file, offset, bit);
        let mut world = world.fork(disk, flip);
        let outcome = match Outcome::of(|| world.open().and_then(|()| world.inspect())) {
            Outcome::Wrong(what) if unprotected && is_loss(&what) => Outcome::Blind,
            Outcome::Detected(what) if has_other => {
                Outcome::Wrong(format!("the other meta is sound: {what}"))
            }
            outcome => outcome,
        };
        row.add(format!("seed {seed} bit {bit} of byte {offset} of {file}"), outcome);
    }
    row
}

/// One of the bits in use; the first ones of each kind of header are gone through one by one.
fn pick_bit(world: &mut World, zone: Zone, nth: u64) -> Option<(FileName, u64, u8)> {
    let files = world.disk_mut().list().expect("a list").into_iter().filter(|(file, _)| zone.holds(*file));
    let files: Vec<(FileName, u64)> = files.collect();
    for _ in 0..1000 {
        let (file, len) = *files.get(world.pcg.below(files.len().max(1) as u64) as usize)?;
        let (from, len) = match zone {
            Zone::Meta => (0, len.min(8192)),
            Zone::Index => (8192, len.saturating_sub(8192)),
            _ => (0, len),
        };
        if len == 0 {
            continue;
        }
        let block = from + world.pcg.below(len.div_ceil(4096)) * 4096;
        // Headers and the bytes after them more often than the rest of a block.
        let within = if nth.is_multiple_of(2) { world.pcg.below(160) } else { world.pcg.below(4096) };
        let offset = block + within;
        let content = world.disk().content(file).expect("it was listed");
        let block = &content[block as usize..content.len().min(block as usize + 4096)];
        let is_used = offset < content.len() as u64 && block.iter().any(|byte| *byte != 0);
        if is_used {
            return Some((file, offset, world.pcg.below(8) as u8));
        }
    }
    None
}

/// Whether either meta page could be lost: then the other one, and the log behind it, must do.
fn has_two_metas(disk: &MemDisk) -> bool {
    let content = disk.content(FileName::Index).unwrap_or_default();
    let pages = content.as_chunks::<PAGE_SIZE>().0;
    let metas = (0..2).map(|slot| Meta::decode(PageNo(slot), pages.get(slot as usize)?).ok());
    metas.flatten().count() == 2
}

/// Whether the byte belongs to a block of the log that no later block protects: rot there looks like a torn write.
pub fn is_in_window(disk: &mut MemDisk, file: FileName, offset: u64) -> bool {
    let FileName::Log(_) = file else { return false };
    let proven = inspect::check(disk, 0).map_or(0, |report| report.proven);
    let content = disk.content(file).expect("it was listed");
    let mut at = 0;
    while at < content.len() {
        let Ok((header, _)) = Header::decode(&content[at..]) else {
            at += 4096;
            continue;
        };
        let len = (HEADER_BYTES + header.body_length as usize).next_multiple_of(4096);
        if (at..at + len).contains(&(offset as usize)) {
            return header.number > proven;
        }
        at += len;
    }
    false
}
