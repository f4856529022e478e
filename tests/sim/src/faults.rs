//! Rows of the scoreboard: one kind of fault each, at many places.
//!
//! Crash points are not reached by running a trace again for each: the disk is copied at every event of one run, and a
//! world of its own goes on from each copy.

use std::io::ErrorKind;

use engine::disk::mem::{Fault, MemDisk};
use engine::disk::pcg::Pcg;
use engine::disk::{Disk, FileName, Op};
use engine::map::layout::Meta;
use engine::map::page::{PAGE_SIZE, PageNo};
use engine::wal::inspect;
use engine::wal::layout::Header;

use crate::outcome::{Outcome, Row};
use crate::world::{Stop, World};

/// Tries a kind of fault at about so many places.
pub type Faults = fn(u64) -> Vec<Row>;

/// All kinds, each with the number of places that the gate asks for.
pub const ROWS: &[(u64, Faults)] =
    &[(2_000, crash_points), (200, bit_flips), (200, lies), (300, full_disk), (1_000, failing_operations)];

/// Calls of a scripted trace.
const CALLS: u64 = 60;

/// Of each trace one disk event in this many is a point, another one for each seed, so that there are many traces.
const THINNING: u64 = 4;

/// Rows 1 and 2: the process is killed, and the power cut three times, at `points` disk events; at some of them again
/// after the member has served a while, and again while it recovers.
pub fn crash_points(points: u64) -> Vec<Row> {
    let mut sums = crash_rows();
    for seed in 0.. {
        let left = points - sums[0].cases.min(points);
        if left == 0 {
            break;
        }
        for (sum, row) in sums.iter_mut().zip(crash_points_of(seed, left)) {
            sum.merge(row);
        }
    }
    sums
}

fn crash_rows() -> Vec<Row> {
    let names = ["kill", "power cut", "kill, serve, power cut", "power cut, again while recovering"];
    names.map(Row::new).into()
}

/// The points of one trace, `points` at most.
pub fn crash_points_of(seed: u64, points: u64) -> Vec<Row> {
    let mut rows = crash_rows();
    let outcome = Outcome::of_sound(|| {
        let mut world = World::new(seed);
        world.open()?;
        world.let_clients(CALLS);
        world.probe_disk();
        let mut event = seed;
        while !world.is_quiet() && rows[0].cases < points {
            world.step()?;
            for disk in world.take_probes() {
                event += 1;
                if event.is_multiple_of(THINNING) {
                    crash_point(&world, &disk, seed, event, &mut rows);
                }
            }
        }
        Ok(())
    });
    if outcome != Outcome::Right {
        rows[0].add(format!("seed {seed}"), outcome);
    }
    rows
}

fn crash_point(world: &World, disk: &MemDisk, seed: u64, point: u64, rows: &mut [Row]) {
    let case = |variant: u64| format!("seed {seed} event {point}.{variant}");
    let fork = |variant: u64| world.fork(disk.clone(), point << 8 | variant);
    let killed = Outcome::of_sound(|| {
        let mut world = fork(0);
        world.kill();
        world.open()?;
        world.inspect()
    });
    rows[0].add(case(0), killed);
    for variant in 1..=3 {
        let cut = Outcome::of_sound(|| {
            let mut world = fork(variant);
            world.cut_power();
            world.open()?;
            world.inspect()
        });
        rows[1].add(case(variant), cut);
    }
    if point.is_multiple_of(5) {
        let twice = Outcome::of_sound(|| {
            let mut world = fork(4);
            world.kill();
            world.open()?;
            world.let_clients(12);
            for _ in 0..world.pcg.below(60) {
                world.step()?;
            }
            world.cut_power();
            world.open()?;
            world.inspect()
        });
        rows[2].add(case(4), twice);
        rows[3].add(case(5), Outcome::of_sound(|| cut_while_recovering(fork(5))));
    }
}

fn cut_while_recovering(mut world: World) -> Result<(), Stop> {
    world.cut_power();
    for nth in 0..world.pcg.below(25) {
        let at = world.disk.operations() + nth;
        world.disk.inject(at, Fault::PowerCut);
        match world.open() {
            Err(Stop::Refused(_)) if world.disk.operations() > at => {}
            Err(stop) => return Err(stop),
            Ok(()) => {}
        }
        world.cut_power();
    }
    world.open()?;
    world.inspect()
}

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
            FileName::LogSpare(_) => false,
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
        let mut disk = world.disk.clone();
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

/// Lives until some state is on disk, and dies.
fn rest(world: &mut World) -> Result<(), Stop> {
    world.open()?;
    world.let_clients(150);
    world.run_until_quiet()?;
    world.inspect()?;
    for _ in 0..world.pcg.below(40) {
        world.step()?;
    }
    world.kill();
    Ok(())
}

/// One of the bits in use; the first ones of each kind of header are gone through one by one.
fn pick_bit(world: &mut World, zone: Zone, nth: u64) -> Option<(FileName, u64, u8)> {
    let files = world.disk.list().expect("a list").into_iter().filter(|(file, _)| zone.holds(*file));
    let files: Vec<(FileName, u64)> = files.collect();
    let pcg = &mut world.pcg;
    for _ in 0..1000 {
        let (file, len) = *files.get(pcg.below(files.len().max(1) as u64) as usize)?;
        let (from, len) = match zone {
            Zone::Meta => (0, len.min(8192)),
            Zone::Index => (8192, len.saturating_sub(8192)),
            _ => (0, len),
        };
        if len == 0 {
            continue;
        }
        let block = from + pcg.below(len.div_ceil(4096)) * 4096;
        // Headers and the bytes after them more often than the rest of a block.
        let within = if nth.is_multiple_of(2) { pcg.below(160) } else { pcg.below(4096) };
        let offset = block + within;
        let content = world.disk.content(file).expect("it was listed");
        let block = &content[block as usize..content.len().min(block as usize + 4096)];
        if offset < content.len() as u64 && block.iter().any(|byte| *byte != 0) {
            return Some((file, offset, pcg.below(8) as u8));
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
fn is_in_window(disk: &mut MemDisk, file: FileName, offset: u64) -> bool {
    let FileName::Log(_) = file else { return false };
    let proven = inspect::check(disk, 0).map_or(0, |report| report.proven);
    let content = disk.content(file).expect("it was listed");
    let mut at = 0;
    while at < content.len() {
        let Ok((header, _)) = Header::decode(&content[at..]) else {
            at += 4096;
            continue;
        };
        let len = (engine::wal::layout::HEADER_BYTES + header.body_length as usize).next_multiple_of(4096);
        if (at..at + len).contains(&(offset as usize)) {
            return header.number > proven;
        }
        at += len;
    }
    false
}

/// Whether a verdict says that the end is missing, and nothing worse.
fn is_loss(what: &str) -> bool {
    [
        "acknowledged and lost",
        "the store ends at",
        "was stored, and now",
        "compaction revision is",
        "the alarm was lost",
    ]
    .iter()
    .any(|phrase| what.contains(phrase))
}

/// Row 4: the drive says that it wrote, and did not, or elsewhere; or it reads elsewhere.
///
/// A process that goes on never notices; what counts is what the next one finds. A block that was lost at the very end
/// of the log is like one that was never written.
pub fn lies(cases: u64) -> Vec<Row> {
    let mut rows = ["lost write", "misdirected write or read"].map(Row::new);
    for seed in 0..cases {
        // The end of a run is what its successor sees.
        let end = match operations_of(seed) {
            Ok(operations) => operations,
            Err(stop) => {
                rows[0].add(format!("seed {seed}"), Outcome::Wrong(stop.to_string()));
                continue;
            }
        };
        let mut pcg = Pcg::new(seed);
        let at = end - pcg.below(100).min(end - 1);
        let elsewhere = Fault::Misdirect(pcg.below(30) * 4096);
        for (fault, row) in [Fault::LoseWrite, elsewhere].into_iter().zip(&mut rows) {
            let (op, outcome) = lie(seed, at, fault);
            row.add(format!("seed {seed} operation {at}, {op}, {fault:?}"), outcome);
        }
    }
    rows.into()
}

fn operations_of(seed: u64) -> Result<u64, Stop> {
    let mut world = World::new(seed);
    rest(&mut world)?;
    Ok(world.disk.operations())
}

/// What the operation was, and how the case ended.
fn lie(seed: u64, at: u64, fault: Fault) -> (String, Outcome) {
    let mut world = World::new(seed);
    world.inject(at, fault);
    let mut blind = Blind::Nowhere;
    let outcome = Outcome::of(|| {
        rest(&mut world)?;
        blind = world.injected().map_or(Blind::Nowhere, |op| blind_spot(&mut world.disk.clone(), op));
        world.open()?;
        world.inspect()
    });
    let op = world.injected().map(Op::to_string).unwrap_or_default();
    match outcome {
        Outcome::Wrong(what) if blind == Blind::EndOfLog && is_loss(&what) => (op, Outcome::Blind),
        Outcome::Wrong(_) if blind == Blind::IndexPage => (op, Outcome::Blind),
        outcome => (op, outcome),
    }
}

/// Where nothing can tell that a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blind {
    Nowhere,
    /// A block that no later block says to be durable: a torn write looks the same.
    EndOfLog,
    /// A page of the index: the slot may hold an older page of the same number, sound in itself.
    IndexPage,
}

fn blind_spot(disk: &mut MemDisk, op: &Op) -> Blind {
    match op {
        Op::Write { file: FileName::Log(_), data, .. } => {
            let proven = inspect::check(disk, 0).map_or(0, |report| report.proven);
            let unproven = Header::decode(data).is_ok_and(|(header, _)| header.number > proven);
            if unproven { Blind::EndOfLog } else { Blind::Nowhere }
        }
        Op::Write { file: FileName::Index, offset, .. } if *offset >= 2 * PAGE_SIZE as u64 => {
            Blind::IndexPage
        }
        _ => Blind::Nowhere,
    }
}

/// Row 5: the disk is full from some moment on. Until there is room again the member may stop; nothing acknowledged may
/// be missing afterwards.
pub fn full_disk(cases: u64) -> Vec<Row> {
    let mut row = Row::new("disk full");
    for seed in 0..cases {
        let mut gave_up = None;
        let outcome = Outcome::of_sound(|| {
            let mut world = World::new(seed);
            world.judge.full_disk = true;
            world.open()?;
            let room = world.pcg.below(400 << 10);
            let used: u64 = world.disk.list().expect("a list").iter().map(|(_, len)| len).sum();
            world.disk.set_capacity(Some(used + room));
            world.let_clients(200);
            match world.run_until_quiet().and_then(|()| world.inspect()) {
                Ok(()) => {}
                Err(Stop::Violation(what)) => return Err(Stop::Violation(what)),
                Err(stop) => gave_up = Some(stop.to_string()),
            }
            world.cut_power();
            world.disk.set_capacity(None);
            world.open()?;
            world.inspect()
        });
        let outcome = match (outcome, gave_up) {
            (Outcome::Right, Some(stop)) => Outcome::Detected(stop),
            (outcome, _) => outcome,
        };
        row.add(format!("seed {seed}"), outcome);
    }
    vec![row]
}

/// Row 6: each operation of a few traces fails once. The process ends, and what it had acknowledged is there.
pub fn failing_operations(cases: u64) -> Vec<Row> {
    let names = [
        "an operation fails, the process ends",
        "the same, and the power is cut",
        "the same, killed, later a power cut",
    ];
    let mut rows = names.map(Row::new);
    let mut left = cases;
    for seed in 0.. {
        for at in 0.. {
            if left == 0 {
                return rows.into();
            }
            let mut reached = true;
            for (cut, row) in rows.iter_mut().enumerate() {
                let mut ended = None;
                let outcome = Outcome::of(|| fail_once(seed, at, cut, &mut ended).map(|came| reached = came));
                let outcome = match (outcome, ended) {
                    (Outcome::Right, Some(stop)) => Outcome::Detected(stop),
                    (outcome, _) => outcome,
                };
                row.add(format!("seed {seed} operation {at}"), outcome);
            }
            left -= 1;
            if !reached {
                break;
            }
        }
    }
    unreachable!("there is always another seed")
}

/// Whether the run came as far as the operation; `ended` says how the process did.
fn fail_once(seed: u64, at: u64, cut: usize, ended: &mut Option<String>) -> Result<bool, Stop> {
    let mut world = World::new(seed);
    world.inject(at, Fault::Fail(ErrorKind::Other));
    let sound = |stop: Stop| Stop::Violation(format!("after the failure: {stop}"));
    let mut life = || {
        world.open()?;
        world.let_clients(CALLS);
        world.run_until_quiet()?;
        world.inspect()
    };
    match life() {
        Ok(()) if world.disk.operations() <= at => return Ok(false),
        // It was of no consequence.
        Ok(()) => {}
        Err(Stop::Violation(what)) => return Err(Stop::Violation(what)),
        Err(stop) => *ended = Some(stop.to_string()),
    }
    if cut == 1 {
        world.cut_power();
    } else {
        world.kill();
    }
    world.open().map_err(sound)?;
    // The log goes around the page cache, so its blocks are not clean and lost after a failed sync: the next sync is
    // an honest one. The simulated disk does not know that.
    let log_sync = matches!(world.injected(), Some(Op::Sync { file: FileName::Log(_) }));
    if cut == 2 && !log_sync {
        world.let_clients(12);
        for _ in 0..world.pcg.below(80) {
            world.step().map_err(sound)?;
        }
        world.cut_power();
        world.open().map_err(sound)?;
    }
    world.inspect().map_err(sound)?;
    Ok(true)
}
