//! Begins a new start: the fresh segment that must be durable before anything is served.
//!
//! Every start writes into a segment of its own, whether the last stop was orderly or not. So no block is
//! ever rewritten, a write of a dead process that lands late hits nothing of ours, and the head of each
//! start's first segment, with the nonce that makes its blocks known, is where clients' bytes never reach.

use bytes::{Bytes, BytesMut};

use super::config::Config;
use super::layout::HEAD_BYTES;
use super::recover::{RecoverError, Recovered, Standing};
use super::segment::{Files, Segment, Space, Spare};
use super::tail::{Author, Tail};
use super::writer::Writer;
use crate::disk::{Disk, Durability, FileName, Op};

/// Opens the log for writing after [`super::recover()`], in a fresh segment whose head is durable on return.
///
/// `nonce` is a random number of this start, never shown to clients. Blocks; creates a segment if there is no
/// spare (a new data directory: 4 MiB). The directory is synced on the way, which makes the names of all kept
/// segments durable too.
pub fn open(
    disk: &mut dyn Disk,
    recovered: &Recovered,
    config: Config,
    nonce: u64,
) -> Result<Writer, RecoverError> {
    config.check();
    let mut files =
        Files { spares: usable_spares(disk, recovered, &config)?, unused: recovered.unused.clone() };
    let active = fresh_segment(disk, recovered, &config, &mut files)?;
    let mut tail = Tail {
        author: Author { identity: recovered.identity, start: recovered.start + 1, nonce },
        // The head has the number after this one.
        number: recovered.next_block - 1,
        header_crc: recovered.header_crc,
        hard_state: recovered.hard_state,
        last: recovered.last(),
        conf_state: recovered.conf_state.clone().unwrap_or_default(),
        after_conf_state: false,
        promised: match recovered.standing {
            Standing::Sound => None,
            Standing::Recovering { promised } => Some(promised),
        },
        position: 0,
    };
    let block = tail.head_block(BytesMut::with_capacity(HEAD_BYTES), recovered.cut);
    let kept = recovered.cut - 1;
    let data = tail.seal(block, (!config.is_unsafe()).then_some(kept));
    write_head(disk, active, data)?;
    let space = Space::new(&config, active, recovered, files);
    Ok(Writer::new(config, space, tail))
}

/// The copy first: once the head is there, so is its stand-in.
fn write_head(disk: &mut dyn Disk, active: Segment, data: Bytes) -> Result<(), RecoverError> {
    let file = FileName::Log(active.number);
    let durability = Durability::Synced;
    disk.run(Op::Write { file, offset: active.len - HEAD_BYTES as u64, data: data.clone(), durability })?;
    disk.run(Op::Write { file, offset: 0, data, durability })?;
    Ok(())
}

/// Spares long enough for this configuration; others, such as one whose creation was cut short, are removed.
fn usable_spares(
    disk: &mut dyn Disk,
    recovered: &Recovered,
    config: &Config,
) -> Result<Vec<Spare>, RecoverError> {
    let mut usable = Vec::new();
    for &spare in &recovered.spares {
        let whole = spare.len % HEAD_BYTES as u64 == 0;
        if whole && (config.shortest_segment()..=config.segment_bytes).contains(&spare.len) {
            usable.push(spare);
        } else {
            disk.run(Op::Remove { file: FileName::LogSpare(spare.number) })?;
        }
    }
    Ok(usable)
}

/// Takes a spare, or else a segment that was made ready and not used, or else creates one.
///
/// An unused segment may hold blocks that a power cut left behind a gap. Nothing rests on them, unless the member is
/// Recovering: then they may be the only witnesses of what it promised, until the new head is durable.
fn fresh_segment(
    disk: &mut dyn Disk,
    recovered: &Recovered,
    config: &Config,
    files: &mut Files,
) -> Result<Segment, RecoverError> {
    let numbers = recovered.segments.iter().chain(&recovered.unused).map(|segment| segment.number);
    let number = numbers.max().map_or(1, |highest| highest + 1);
    let spare_number = recovered.spares.iter().map(|spare| spare.number + 1).max().unwrap_or(1);
    let long_enough = |segment: &Segment| segment.len >= config.shortest_segment();
    let spare = if let Some(spare) = files.spares.pop() {
        spare
    } else if recovered.standing == Standing::Sound && files.unused.last().is_some_and(long_enough) {
        let segment = files.unused.pop().expect("just seen");
        let spare = Spare { number: spare_number, len: segment.len };
        disk.run(Op::Rename { from: FileName::Log(segment.number), to: FileName::LogSpare(spare.number) })?;
        spare
    } else {
        let spare = Spare { number: spare_number, len: config.segment_bytes_first };
        disk.run(Op::Create { file: FileName::LogSpare(spare.number), len: spare.len })?;
        spare
    };
    disk.run(Op::Rename { from: FileName::LogSpare(spare.number), to: FileName::Log(number) })?;
    Ok(Segment { number, len: spare.len, max_index: recovered.last().index })
}
