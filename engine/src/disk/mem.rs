//! A disk in memory that can lose power: what unit tests and the simulator run on.
//!
//! It keeps two images of each file: what reads see and what is stable. Writes that are in flight or wait for
//! a sync stand between them, and [`MemDisk::crash`] lets any subset of their 512-byte units survive.
//! Directory operations are atomic: at a crash one in flight has happened or has not. This is the contract of
//! [`super`], neither kinder nor harsher; lies of a drive (lost and misdirected writes, rot) come only by
//! injection.
//!
//! It has two faces: [`Disk::run`] carries out one operation at once; [`MemDisk::submit`] and
//! [`MemDisk::complete`] keep many in flight and complete them in the order the caller chooses. Nothing here
//! is random by itself.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};

use bytes::Bytes;

use super::pcg::Pcg;
use super::{Disk, DiskError, Durability, FileName, Op, Outcome, Output, Token};

/// Unit that a power cut leaves whole.
const SECTOR: usize = 512;

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails. Parts of a write may survive all the same; after a failed sync no later sync covers the
    /// data.
    Fail(ErrorKind),
    /// A write or a sync reports success and nothing happens.
    LoseWrite,
    /// A write reports success and lands at this offset of its file; a read returns what is there.
    Misdirect(u64),
    /// The machine stops: this operation stays in flight and all later ones fail, until [`MemDisk::crash`].
    PowerCut,
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    files: BTreeMap<FileName, MemFile>,
    in_flight: Vec<InFlight>,
    faults: BTreeMap<u64, Fault>,
    /// Operations submitted so far.
    operations: u64,
    /// Orders writes and syncs.
    clock: u64,
    capacity: Option<u64>,
    power_is_off: bool,
}

#[derive(Clone, Debug, Default)]
struct MemFile {
    seen: Vec<u8>,
    stable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

impl MemFile {
    /// Puts bytes, written at `at`, on stable storage; what an earlier write left unstable there is gone.
    fn make_stable(&mut self, offset: usize, data: &[u8], at: u64) {
        store(&mut self.stable, offset, data);
        let end = offset + data.len();
        let mut rest = Vec::new();
        for write in std::mem::take(&mut self.unsynced) {
            let until = write.offset + write.data.len();
            if write.written_at > at || write.offset >= end || until <= offset {
                rest.push(write);
                continue;
            }
            let mut keep = |from: usize, to: usize| {
                let data = write.data.slice(from - write.offset..to - write.offset);
                rest.push(Unsynced { offset: from, data, ..write.clone() });
            };
            if write.offset < offset {
                keep(write.offset, offset);
            }
            if until > end {
                keep(end, until);
            }
        }
        self.unsynced = rest;
    }
}

/// A write that is not stable.
#[derive(Clone, Debug)]
struct Unsynced {
    offset: usize,
    data: Bytes,
    /// When it completed; a sync submitted later covers it. `u64::MAX`: none ever will.
    completed_at: u64,
    /// When it was carried out, whether or not it succeeded.
    written_at: u64,
}

/// A submitted operation.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Its token.
    pub token: Token,
    /// What was asked.
    pub op: Op,
    number: u64,
    submitted_at: u64,
}

impl MemDisk {
    /// An empty disk of unlimited size.
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// Limits the sum of all file lengths; what would exceed it fails with [`ErrorKind::StorageFull`].
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// Operations submitted so far; the next one has this number.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Lets `fault` happen to the operation with this number.
    pub fn inject(&mut self, operation: u64, fault: Fault) {
        self.faults.insert(operation, fault);
    }

    /// Flips one bit of what is stored, as rot does.
    pub fn flip_bit(&mut self, file: FileName, offset: u64, bit: u8) {
        let file = self.files.get_mut(&file).unwrap_or_else(|| panic!("{file} does not exist"));
        file.seen[offset as usize] ^= 1 << bit;
        // What was appended and not synced is in no other place.
        if let Some(byte) = file.stable.get_mut(offset as usize) {
            *byte ^= 1 << bit;
        }
    }

    /// What reads of the whole file would return.
    pub fn content(&self, file: FileName) -> Option<&[u8]> {
        self.files.get(&file).map(|file| file.seen.as_slice())
    }

    /// Puts a file there, stable.
    pub fn put(&mut self, file: FileName, content: Vec<u8>) {
        self.files.insert(file, MemFile { stable: content.clone(), seen: content, unsynced: Vec::new() });
    }

    /// Begins an operation; it has no effect before it completes, except that a crash may complete parts of
    /// it.
    ///
    /// While the power is off it is forgotten.
    pub fn submit(&mut self, token: Token, op: Op) {
        let number = self.operations;
        self.operations += 1;
        self.clock += 1;
        if self.faults.get(&number) == Some(&Fault::PowerCut) {
            self.power_is_off = true;
        } else if self.power_is_off {
            return;
        }
        self.in_flight.push(InFlight { token, op, number, submitted_at: self.clock });
    }

    /// Operations in flight, in order of submission.
    pub fn in_flight(&self) -> &[InFlight] {
        &self.in_flight
    }

    /// Completes the `nth` operation in flight.
    pub fn complete(&mut self, nth: usize) -> (Token, Outcome) {
        assert!(!self.power_is_off, "nothing completes while the power is off");
        let InFlight { token, op, number, submitted_at } = self.in_flight.remove(nth);
        self.clock += 1;
        let fault = self.faults.remove(&number);
        (token, self.carry_out(op, fault, submitted_at))
    }

    /// The process dies and the machine does not: operations in flight happen or not, what is not synced
    /// stays.
    pub fn kill(&mut self, pcg: &mut Pcg) {
        for InFlight { op, submitted_at, .. } in std::mem::take(&mut self.in_flight) {
            self.clock += 1;
            if pcg.one_in(2) {
                // Nobody is left to hear of an error.
                let _ = self.carry_out(op, None, submitted_at);
            }
        }
        self.faults.clear();
    }

    /// The power fails and comes back. Any part of what was not stable survives.
    pub fn crash(&mut self, pcg: &mut Pcg) {
        for InFlight { op, .. } in std::mem::take(&mut self.in_flight) {
            match op {
                Op::Write { file, offset, data, .. } => {
                    if let Some(file) = self.files.get_mut(&file) {
                        let offset = offset as usize;
                        let (completed_at, written_at) = (u64::MAX, u64::MAX);
                        file.unsynced.push(Unsynced { offset, data, completed_at, written_at });
                    }
                }
                Op::Create { .. } | Op::Rename { .. } | Op::Remove { .. } if pcg.one_in(2) => {
                    // An error means that it did not happen, which is the other possibility.
                    let _ = self.carry_out(op, None, 0);
                }
                _ => {}
            }
        }
        for file in self.files.values_mut() {
            for write in std::mem::take(&mut file.unsynced) {
                survive(&mut file.stable, &write, pcg);
            }
            file.seen.clone_from(&file.stable);
        }
        self.faults.clear();
        self.power_is_off = false;
    }

    fn carry_out(&mut self, op: Op, fault: Option<Fault>, submitted_at: u64) -> Outcome {
        match fault {
            Some(Fault::Fail(kind)) => return self.fail(op, kind),
            Some(Fault::LoseWrite) if matches!(op, Op::Write { .. } | Op::Sync { .. }) => {
                return Ok(Output::Done);
            }
            _ => {}
        }
        let place = |offset| match fault {
            Some(Fault::Misdirect(elsewhere)) => elsewhere,
            _ => offset,
        };
        match op {
            Op::Write { file, offset, data, durability } => {
                let offset = place(offset);
                self.write(file, offset, data, durability)
            }
            Op::Sync { file } => {
                let file = self.file(file)?;
                let (covered, rest) = std::mem::take(&mut file.unsynced)
                    .into_iter()
                    .partition::<Vec<_>, _>(|write| write.completed_at < submitted_at);
                file.unsynced = rest;
                covered
                    .iter()
                    .for_each(|write| file.make_stable(write.offset, &write.data, write.completed_at));
                Ok(Output::Done)
            }
            Op::Read { file, offset, len, enough } => {
                // The contract allows either.
                let len = if self.clock.is_multiple_of(2) { len } else { enough };
                let content = &self.file(file)?.seen;
                let from = place(offset) as usize;
                match content.get(from..from.saturating_add(len)) {
                    Some(bytes) => Ok(Output::Data(Bytes::copy_from_slice(bytes))),
                    None => Err(error(
                        ErrorKind::UnexpectedEof,
                        format!("read {len} bytes at {offset} of {file}"),
                    )),
                }
            }
            Op::Create { file, len } => {
                if self.files.contains_key(&file) {
                    return Err(error(ErrorKind::AlreadyExists, format!("create {file}")));
                }
                self.check_capacity(len, || format!("create {file}"))?;
                self.put(file, vec![0; len as usize]);
                Ok(Output::Done)
            }
            Op::Rename { from, to } => {
                if self.files.contains_key(&to) {
                    return Err(error(ErrorKind::AlreadyExists, format!("rename {from} to {to}")));
                }
                self.file(from)?;
                let file = self.files.remove(&from).expect("just looked it up");
                self.files.insert(to, file);
                Ok(Output::Done)
            }
            Op::Remove { file } => {
                self.file(file)?;
                self.files.remove(&file);
                Ok(Output::Done)
            }
        }
    }

    fn write(&mut self, name: FileName, offset: u64, data: Bytes, durability: Durability) -> Outcome {
        let end = offset + data.len() as u64;
        let grows = end.saturating_sub(self.file(name)?.seen.len() as u64);
        self.check_capacity(grows, || format!("write {} bytes at {offset} of {name}", data.len()))?;
        let clock = self.clock;
        let file = self.file(name)?;
        let offset = offset as usize;
        store(&mut file.seen, offset, &data);
        match durability {
            Durability::Synced => file.make_stable(offset, &data, clock),
            Durability::Cached => {
                file.unsynced.push(Unsynced { offset, data, completed_at: clock, written_at: clock })
            }
        }
        Ok(Output::Done)
    }

    fn fail(&mut self, op: Op, kind: ErrorKind) -> Outcome {
        let context = op.to_string();
        match op {
            Op::Write { file, offset, data, .. } => {
                let (offset, written_at) = (offset as usize, self.clock);
                let write = Unsynced { offset, data, completed_at: u64::MAX, written_at };
                self.file(file)?.unsynced.push(write);
            }
            Op::Sync { file } => {
                self.file(file)?.unsynced.iter_mut().for_each(|write| write.completed_at = u64::MAX);
            }
            _ => {}
        }
        Err(error(kind, context))
    }

    fn file(&mut self, name: FileName) -> Result<&mut MemFile, DiskError> {
        self.files.get_mut(&name).ok_or_else(|| error(ErrorKind::NotFound, format!("open {name}")))
    }

    fn check_capacity(&self, more: u64, context: impl Fn() -> String) -> Result<(), DiskError> {
        let used: u64 = self.files.values().map(|file| file.seen.len() as u64).sum();
        match self.capacity {
            Some(capacity) if used + more > capacity && more > 0 => {
                Err(error(ErrorKind::StorageFull, context()))
            }
            _ => Ok(()),
        }
    }
}

impl Disk for MemDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.files.iter().map(|(&name, file)| (name, file.seen.len() as u64)).collect())
    }

    fn run(&mut self, op: Op) -> Outcome {
        self.submit(Token { owner: super::Owner::Index, id: u64::MAX }, op);
        if self.power_is_off {
            return Err(error(ErrorKind::Other, "the power is off".into()));
        }
        self.complete(self.in_flight.len() - 1).1
    }
}

/// Copies some of a write's sectors: none, all, a prefix, or any.
fn survive(image: &mut Vec<u8>, write: &Unsynced, pcg: &mut Pcg) {
    let sectors = write.data.len().div_ceil(SECTOR);
    let mode = pcg.below(4);
    let prefix = pcg.below(sectors as u64 + 1) as usize;
    for sector in 0..sectors {
        let survives = match mode {
            0 => false,
            1 => true,
            2 => sector < prefix,
            _ => pcg.one_in(2),
        };
        if survives {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(write.data.len());
            store(image, write.offset + from, &write.data[from..to]);
        }
    }
}

fn store(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

fn error(kind: ErrorKind, context: String) -> DiskError {
    DiskError::new(context, &Error::from(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Owner, read};

    const FILE: FileName = FileName::Log(1);

    fn write(fill: u8, offset: u64, durability: Durability) -> Op {
        Op::Write { file: FILE, offset, data: vec![fill; 4096].into(), durability }
    }

    fn token(id: u64) -> Token {
        Token { owner: Owner::Log, id }
    }

    fn disk() -> MemDisk {
        let mut disk = MemDisk::new();
        disk.run(Op::Create { file: FILE, len: 8192 }).unwrap();
        disk
    }

    /// Values that the byte at `offset` has after a crash, over many seeds.
    fn outcomes(disk: &MemDisk, offset: usize) -> Vec<u8> {
        let mut seen: Vec<u8> = (0..64)
            .map(|seed| {
                let mut disk = disk.clone();
                disk.crash(&mut Pcg::new(seed));
                disk.content(FILE).unwrap()[offset]
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn synced_writes_survive_and_cached_ones_may() {
        let mut disk = disk();
        disk.run(write(1, 0, Durability::Synced)).unwrap();
        disk.run(write(2, 4096, Durability::Cached)).unwrap();
        assert_eq!(read(&mut disk, FILE, 4096, 1).unwrap()[0], 2, "reads see completed writes");
        assert_eq!(outcomes(&disk, 0), [1]);
        assert_eq!(outcomes(&disk, 4096), [0, 2]);
        disk.run(Op::Sync { file: FILE }).unwrap();
        assert_eq!(outcomes(&disk, 4096), [2]);
    }

    #[test]
    fn a_sync_covers_what_completed_before_it_was_submitted() {
        let mut disk = disk();
        disk.submit(token(1), write(1, 0, Durability::Cached));
        disk.submit(token(2), write(2, 4096, Durability::Cached));
        assert_eq!(disk.complete(0).0, token(1));
        disk.submit(token(3), Op::Sync { file: FILE });
        disk.complete(0).1.unwrap();
        disk.complete(0).1.unwrap();
        assert_eq!(outcomes(&disk, 0), [1]);
        assert_eq!(outcomes(&disk, 4096), [0, 2], "completed after the sync was submitted");
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_a_later_one() {
        let mut disk = disk();
        disk.run(write(1, 0, Durability::Cached)).unwrap();
        disk.inject(disk.operations(), Fault::Fail(ErrorKind::Other));
        disk.run(Op::Sync { file: FILE }).unwrap_err();
        disk.run(Op::Sync { file: FILE }).unwrap();
        assert_eq!(outcomes(&disk, 0), [0, 1]);
    }

    #[test]
    fn directory_operations_in_flight_happen_or_not() {
        let mut disk = disk();
        disk.submit(token(1), Op::Rename { from: FILE, to: FileName::Log(2) });
        let names = |seed| {
            let mut disk = disk.clone();
            disk.crash(&mut Pcg::new(seed));
            disk.list().unwrap()
        };
        let all: Vec<_> = (0..16).map(names).collect();
        assert!(all.contains(&vec![(FILE, 8192)]) && all.contains(&vec![(FileName::Log(2), 8192)]));
        assert!(all.iter().all(|names| names.len() == 1));
    }

    #[test]
    fn lies_and_limits_come_by_injection() {
        let mut disk = disk();
        disk.inject(disk.operations(), Fault::LoseWrite);
        disk.run(write(1, 0, Durability::Synced)).unwrap();
        disk.inject(disk.operations(), Fault::Misdirect(4096));
        disk.run(write(2, 0, Durability::Synced)).unwrap();
        disk.flip_bit(FILE, 4097, 0);
        assert_eq!(
            (disk.content(FILE).unwrap()[0], &disk.content(FILE).unwrap()[4096..4098]),
            (0, &[2, 3][..])
        );
        disk.set_capacity(Some(8192));
        let full = disk.run(Op::Create { file: FileName::Log(2), len: 1 }).unwrap_err();
        assert_eq!(full.kind, ErrorKind::StorageFull);
        disk.run(write(3, 0, Durability::Synced)).unwrap();
        disk.inject(disk.operations(), Fault::PowerCut);
        disk.run(write(4, 0, Durability::Synced)).unwrap_err();
        disk.run(Op::Sync { file: FILE }).unwrap_err();
        assert_eq!(outcomes(&disk, 0), [3, 4]);
    }
}
