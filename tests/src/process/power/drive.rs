//! A disk as its promises describe it: what is stable, what is only in caches, and what a power cut may leave of both.
//!
//! The promises are those of `engine/src/disk/mod.rs`. A durable write is stable by its own end, a cached one by a sync
//! that began after its end; until then each of its 512-byte units is there or not. A file that grew may be as short
//! as it was. A name is changed for good when the operation ends; while it is under way, it is changed or not.
//!
//! A killed process loses no cache. What it had under way is looked up in its files ([`Drive::settle`]) and from then on
//! is cached like anything else that nobody synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::random::Random;

use super::recording::{Event, Op, What};

/// What a disk writes wholly or not at all.
const UNIT: u64 = 512;
/// Images are written in pieces; those of zeroes are left out.
const PIECE: usize = 64 << 10;

/// A file by the order of creation; names change, this does not.
type Number = usize;

/// A disk.
#[derive(Debug, Default)]
pub struct Drive {
    files: Vec<Contents>,
    /// What a running server sees.
    visible: BTreeMap<String, Number>,
    /// What a power cut leaves at least.
    stable: BTreeMap<String, Number>,
    /// By id, which is the order of their beginnings.
    under_way: BTreeMap<u64, UnderWay>,
    /// Changes of names that a killed process made and nobody made stable since.
    unsynced: Vec<Change>,
}

#[derive(Debug, Default)]
struct Contents {
    stable: Vec<u8>,
    /// Not stable yet, in the order begun.
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    offset: u64,
    data: Vec<u8>,
    ended: bool,
}

impl Pending {
    fn overlaps(&self, other: &Pending) -> bool {
        let end = |pending: &Pending| pending.offset + pending.data.len() as u64;
        self.offset < end(other) && other.offset < end(self)
    }
}

#[derive(Debug)]
enum UnderWay {
    Write { number: Number, durable: bool },
    Sync { number: Number, covers: Vec<u64> },
    Change(Change),
}

/// A change of names.
#[derive(Clone, Debug)]
enum Change {
    Create { path: String, number: Number, len: u64 },
    Rename { from: String, to: String },
    Remove { path: String },
}

/// What a power cut takes of the caches.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Nothing,
    Everything,
    /// So many units of a hundred.
    Units(u64),
}

/// Files by path.
pub type Image = BTreeMap<String, Vec<u8>>;

impl Drive {
    /// A disk with these files, all stable.
    pub fn new(files: Image) -> Drive {
        let mut drive = Drive::default();
        for (path, stable) in files {
            drive.stable.insert(path, drive.files.len());
            drive.files.push(Contents { stable, pending: Vec::new() });
        }
        drive.visible = drive.stable.clone();
        drive
    }

    /// Goes on by one event.
    pub fn handle(&mut self, event: &Event) {
        match &event.what {
            What::Begin(op) => {
                let begun = self.begin(event.id, op);
                self.under_way.insert(event.id, begun);
            }
            // A failed operation ends the process; it may have happened in part.
            What::End(false) => {}
            What::End(true) => {
                let begun = self.under_way.remove(&event.id);
                self.end(event.id, begun.unwrap_or_else(|| panic!("operation {} never began", event.id)));
            }
        }
    }

    fn begin(&mut self, id: u64, op: &Op) -> UnderWay {
        let number = |path: &String| {
            *self
                .visible
                .get(path)
                .unwrap_or_else(|| panic!("operation {id} is about {path}, which is not there"))
        };
        match op {
            Op::Write { path, offset, data, durable } => {
                let number = number(path);
                let pending = Pending { id, offset: *offset, data: data.clone(), ended: false };
                // What has ended, perhaps in a process that was killed, is on its way before this.
                let overlaps = |other: &Pending| *durable && !other.ended && other.overlaps(&pending);
                let overlaps = self.files[number].pending.iter().any(overlaps);
                assert!(!overlaps, "operation {id} on {path}: what is stable then is not defined");
                self.files[number].pending.push(pending);
                UnderWay::Write { number, durable: *durable }
            }
            Op::Sync { path } => {
                let number = number(path);
                let ended = self.files[number].pending.iter().filter(|pending| pending.ended);
                UnderWay::Sync { number, covers: ended.map(|pending| pending.id).collect() }
            }
            Op::Create { path, len } => {
                self.files.push(Contents::default());
                UnderWay::Change(Change::Create {
                    path: path.clone(),
                    number: self.files.len() - 1,
                    len: *len,
                })
            }
            Op::Rename { from, to } => {
                UnderWay::Change(Change::Rename { from: from.clone(), to: to.clone() })
            }
            Op::Remove { path } => UnderWay::Change(Change::Remove { path: path.clone() }),
        }
    }

    fn end(&mut self, id: u64, begun: UnderWay) {
        match begun {
            UnderWay::Write { number, durable: true } => {
                self.files[number].supersede(id);
                self.files[number].harden(&[id]);
            }
            UnderWay::Write { number, durable: false } => {
                let pending = self.files[number].pending.iter_mut().find(|pending| pending.id == id);
                pending.expect("it was pushed when it began").ended = true;
            }
            UnderWay::Sync { number, covers } => self.files[number].harden(&covers),
            UnderWay::Change(change) => {
                // Its directory was synced, and with it whatever an earlier process had changed there.
                let (synced, others) =
                    self.unsynced.drain(..).partition(|earlier| earlier.directory() == change.directory());
                self.unsynced = others;
                let synced: Vec<Change> = synced;
                synced.iter().chain([&change]).for_each(|change| change.apply(&mut self.stable));
                change.apply(&mut self.visible);
                if let Change::Create { number, len, .. } = change {
                    self.files[number].stable = vec![0; len as usize];
                }
            }
        }
    }

    /// The process was killed and its files are in `directory`: what it had under way is what is found there, and
    /// everything else must be found as recorded; the error names the first file that is not.
    pub fn settle(&mut self, directory: &Path) -> io::Result<Result<(), String>> {
        let found = read_tree(directory)?;
        for (id, begun) in std::mem::take(&mut self.under_way) {
            match begun {
                UnderWay::Write { number, .. } => {
                    let path = self.visible.iter().find(|(_, of)| **of == number).map(|(path, _)| path);
                    let bytes = path.and_then(|path| found.get(path)).map_or(&[][..], Vec::as_slice);
                    let pending = self.files[number].pending.iter_mut().find(|pending| pending.id == id);
                    let pending = pending.expect("it was pushed when it began");
                    let start = bytes.len().min(pending.offset as usize);
                    let end = bytes.len().min(start + pending.data.len());
                    pending.data = bytes[start..end].to_vec();
                    pending.ended = true;
                }
                UnderWay::Sync { .. } => {}
                UnderWay::Change(change) if change.has_happened(&found) => {
                    let mut change = change;
                    if let Change::Create { path, number, len } = &mut change {
                        *len = found[path].len() as u64;
                        self.files[*number].pending =
                            vec![Pending { id, offset: 0, data: vec![0; *len as usize], ended: true }];
                    }
                    change.apply(&mut self.visible);
                    self.unsynced.push(change);
                }
                UnderWay::Change(_) => {}
            }
        }
        // Ids begin anew with the next process.
        for (id, pending) in self.files.iter_mut().flat_map(|file| &mut file.pending).enumerate() {
            pending.id = SETTLED + id as u64;
        }
        Ok(self.compare(&found))
    }

    /// Whether `found` is what a running server sees.
    fn compare(&self, found: &Image) -> Result<(), String> {
        let expected: Image = self
            .visible
            .iter()
            .map(|(path, number)| (path.clone(), self.files[*number].after(|| true, true)))
            .collect();
        let names = |image: &Image| image.keys().cloned().collect::<Vec<_>>();
        if names(&expected) != names(found) {
            return Err(format!("recorded are {:?}, there are {:?}", names(&expected), names(found)));
        }
        for (path, bytes) in expected {
            let other = &found[&path];
            if bytes != *other {
                let at = bytes.iter().zip(other).position(|(a, b)| a != b);
                return Err(format!(
                    "{path} is not as recorded: {} bytes, recorded {}, first difference at {at:?}",
                    other.len(),
                    bytes.len()
                ));
            }
        }
        Ok(())
    }

    /// What a power cut in this moment may leave; `random` decides.
    pub fn cut(&self, random: &mut Random) -> Image {
        let mut names = self.stable.clone();
        let under_way = self.under_way.values().filter_map(|begun| match begun {
            UnderWay::Change(change) => Some(change),
            _ => None,
        });
        let mut skipped = BTreeSet::new();
        let mut lengths = BTreeMap::new();
        for change in self.unsynced.iter().chain(under_way) {
            // A change rests on those before it that have the same names.
            if random.percent(50) || change.paths().iter().any(|path| skipped.contains(path)) {
                skipped.extend(change.paths());
                continue;
            }
            change.apply(&mut names);
            if let Change::Create { number, len, .. } = change {
                lengths.insert(*number, length_between(0, *len, random));
            }
        }
        let mut image = Image::new();
        for (path, number) in names {
            let loss = match random.below(4) {
                0 => Loss::Nothing,
                1 => Loss::Everything,
                _ => Loss::Units(random.below(101)),
            };
            let file = &self.files[number];
            let mut bytes = match loss {
                Loss::Nothing => file.after(|| true, false),
                Loss::Everything => file.stable.clone(),
                Loss::Units(percent) => file.after(|| !random.percent(percent), false),
            };
            let len = length_between(file.stable.len() as u64, bytes.len() as u64, random);
            bytes.truncate(len as usize);
            if let Some(len) = lengths.get(&number) {
                bytes.resize(bytes.len().max(*len as usize), 0);
            }
            image.insert(path, bytes);
        }
        image
    }
}

/// How long a file is that was growing from `min` to `max`.
fn length_between(min: u64, max: u64, random: &mut Random) -> u64 {
    match random.below(3) {
        0 => max,
        1 => min,
        _ => min + random.below(max - min + 1),
    }
}

/// Ids of writes of processes that are gone: beyond those of any recording.
const SETTLED: u64 = 1 << 63;

impl Contents {
    /// These writes are stable now.
    /// What a write replaces is not pending any more.
    fn supersede(&mut self, id: u64) {
        let newer = self.pending.iter().rposition(|pending| pending.id == id).expect("it was pushed");
        let (from, len) = (self.pending[newer].offset, self.pending[newer].data.len());
        let behind = self.pending.split_off(newer);
        for Pending { id, offset, data, ended } in std::mem::take(&mut self.pending) {
            let first = data.len().min(from.saturating_sub(offset) as usize);
            let last = data.len().min((from + len as u64).saturating_sub(offset) as usize).max(first);
            let rest = [(offset, &data[..first]), (offset + last as u64, &data[last..])];
            for (offset, data) in rest.into_iter().filter(|(_, data)| !data.is_empty()) {
                self.pending.push(Pending { id, offset, data: data.to_vec(), ended });
            }
        }
        self.pending.extend(behind);
    }

    fn harden(&mut self, ids: &[u64]) {
        for pending in self.pending.extract_if(.., |pending| ids.contains(&pending.id)) {
            overlay(&mut self.stable, pending.offset, &pending.data);
        }
    }

    /// The bytes with those units of pending writes that `keeps` says; with `ended_only`, of those that ended.
    fn after(&self, mut keeps: impl FnMut() -> bool, ended_only: bool) -> Vec<u8> {
        let mut bytes = self.stable.clone();
        for Pending { offset, data, .. } in self.pending.iter().filter(|pending| pending.ended || !ended_only)
        {
            let end = offset + data.len() as u64;
            let mut at = *offset;
            while at < end {
                let unit_end = end.min((at / UNIT + 1) * UNIT);
                // A lost unit may still have made the file longer.
                bytes.resize(bytes.len().max(unit_end as usize), 0);
                if keeps() {
                    overlay(&mut bytes, at, &data[(at - offset) as usize..(unit_end - offset) as usize]);
                }
                at = unit_end;
            }
        }
        bytes
    }
}

fn overlay(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let (start, end) = (offset as usize, offset as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

impl Change {
    fn paths(&self) -> Vec<String> {
        match self {
            Change::Create { path, .. } | Change::Remove { path } => vec![path.clone()],
            Change::Rename { from, to } => vec![from.clone(), to.clone()],
        }
    }

    /// All renames stay in their directory.
    fn directory(&self) -> String {
        let path = self.paths().remove(0);
        path.rsplit_once('/').map_or(String::new(), |(directory, _)| directory.to_owned())
    }

    fn apply(&self, names: &mut BTreeMap<String, Number>) {
        match self {
            Change::Create { path, number, .. } => {
                names.insert(path.clone(), *number);
            }
            Change::Rename { from, to } => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
            Change::Remove { path } => {
                names.remove(path);
            }
        }
    }

    fn has_happened(&self, found: &Image) -> bool {
        match self {
            Change::Create { path, .. } => found.contains_key(path),
            Change::Rename { from, to } => found.contains_key(to) && !found.contains_key(from),
            Change::Remove { path } => !found.contains_key(path),
        }
    }
}

/// All files below `directory`, by their paths from there.
pub fn read_tree(directory: &Path) -> io::Result<Image> {
    let mut image = Image::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let below = read_tree(&entry.path())?;
            image.extend(below.into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            image.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(image)
}

/// Writes `image` to the new directory `target`.
pub fn write_tree(image: &Image, target: &Path) -> io::Result<()> {
    for directory in ["log", "history"] {
        fs::create_dir_all(target.join(directory))?;
    }
    for (path, bytes) in image {
        let file = File::create_new(target.join(path))?;
        file.set_len(bytes.len() as u64)?;
        for (piece, at) in bytes.chunks(PIECE).zip((0..).step_by(PIECE)) {
            if piece != &[0; PIECE][..piece.len()] {
                file.write_all_at(piece, at)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(events: &[(u64, Option<Op>)]) -> Drive {
        let mut drive = Drive::new([("old".to_owned(), vec![b'o'; 1024])].into());
        for (id, op) in events {
            let what = op.clone().map_or(What::End(true), What::Begin);
            drive.handle(&Event { at: 0, id: *id, what });
        }
        drive
    }

    fn write(offset: u64, byte: u8, durable: bool) -> Option<Op> {
        Some(Op::Write { path: "old".into(), offset, data: vec![byte; 1024], durable })
    }

    /// All images of many cuts, each file as one letter a unit.
    fn cuts(drive: &Drive) -> BTreeSet<String> {
        let mut random = Random::new(1);
        let letters = |bytes: &Vec<u8>| -> String {
            bytes.chunks(UNIT as usize).map(|unit| char::from(unit[0].max(b'0'))).collect()
        };
        (0..400)
            .map(|_| {
                let image = drive.cut(&mut random);
                image
                    .iter()
                    .map(|(path, bytes)| format!("{path}={}", letters(bytes)))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    }

    #[test]
    fn a_durable_write_replaces_what_was_cached_under_it() {
        let half = |offset, byte| {
            Some(Op::Write { path: "old".into(), offset, data: vec![byte; 512], durable: true })
        };
        let cached = drive(&[(1, write(0, b'c', false)), (1, None), (2, half(512, b'd')), (2, None)]);
        assert_eq!(cuts(&cached), BTreeSet::from(["old=od".to_owned(), "old=cd".to_owned()]));
        let whole = drive(&[(1, write(0, b'c', false)), (1, None), (2, write(0, b'd', true)), (2, None)]);
        assert_eq!(cuts(&whole), BTreeSet::from(["old=dd".to_owned()]));
    }

    #[test]
    fn what_a_cut_may_leave() {
        let sync = || Some(Op::Sync { path: "old".into() });
        let create = || Some(Op::Create { path: "new".into(), len: 512 });
        let rename = || Some(Op::Rename { from: "old".into(), to: "new".into() });
        let torn = &["old=oo", "old=no", "old=on", "old=nn"][..];
        type Case<'a> = (&'a str, &'a [(u64, Option<Op>)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("a durable write under way", &[(1, write(0, b'n', true))], torn),
            ("a durable write", &[(1, write(0, b'n', true)), (1, None)], &["old=nn"]),
            ("a cached write", &[(1, write(0, b'n', false)), (1, None)], torn),
            (
                "a sync that began too early",
                &[(2, sync()), (1, write(0, b'n', false)), (1, None), (2, None)],
                torn,
            ),
            ("a sync under way", &[(1, write(0, b'n', false)), (1, None), (2, sync())], torn),
            ("a synced write", &[(1, write(0, b'n', false)), (1, None), (2, sync()), (2, None)], &["old=nn"]),
            (
                "a file that grows",
                &[(1, write(512, b'n', false)), (1, None)],
                &["old=oo", "old=on", "old=oo0", "old=on0", "old=oon", "old=onn"],
            ),
            ("a create under way", &[(1, create())], &["old=oo", "new= old=oo", "new=0 old=oo"]),
            ("a create", &[(1, create()), (1, None)], &["new=0 old=oo"]),
            ("a rename under way", &[(1, rename())], &["old=oo", "new=oo"]),
            ("a rename", &[(1, rename()), (1, None)], &["new=oo"]),
            ("a remove under way", &[(1, Some(Op::Remove { path: "old".into() }))], &["old=oo", ""]),
        ];
        for (name, events, expected) in cases {
            assert_eq!(
                cuts(&drive(events)),
                expected.iter().map(|&text| text.to_owned()).collect(),
                "{name}"
            );
        }
    }
}
