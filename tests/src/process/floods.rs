//! Clients that flood, drip or do not listen, one kind after the other, while honest clients go on as if nothing were.
//!
//! An honest client writes and reads all the time and does what grpc-go does on the way: a PING with every call, and a
//! WINDOW_UPDATE with every answer. `IDLE_CONNECTIONS` more connections, as many as one Kubernetes API server opens, are open and silent.
//! For each kind: the honest client's p99 stays near that of the quiet, no honest connection is ended, memory stays
//! within `GROWTH_BYTES_MAX`, and the log names each limit at most once a minute.

// What each kind sends.
mod attack;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::differential::build::get;
use crate::server::{Binary, Server};
use crate::wire::{Frame, FrameKind};

use super::memory::resident_bytes;
use super::{Failure, Verdict, ensure};
use attack::Attack;

/// The connections of one Kubernetes API server.
const IDLE_CONNECTIONS: usize = 71;
/// What the server may hold more than before, whatever one client at a time does. One connection's ledger is 64 MiB.
const GROWTH_BYTES_MAX: u64 = 128 << 20;
/// What the log says of a client that met a limit.
const COMPLAINT: &str = "turned a client away";
/// The least time between two lines about the same limit.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// How long each kind goes on, and what it may cost the honest client.
#[derive(Clone, Copy, Debug)]
struct Terms {
    time: Duration,
    /// Its p99 may be this many times that of the quiet, ...
    factor: u32,
    /// ... and this much is noise.
    noise: Duration,
}

/// On a quiet machine.
const FULL: Terms = Terms { time: Duration::from_secs(30), factor: 2, noise: Duration::from_millis(2) };
/// In CI, where the floods, the server and everybody else share two cores.
const SHORT: Terms = Terms { time: Duration::from_secs(2), factor: 10, noise: Duration::from_millis(150) };

/// Runs all kinds.
pub fn run(binary: &Binary, full: bool) -> Verdict {
    let terms = if full { FULL } else { SHORT };
    let mut server = Server::start(binary, &[])?;
    let address = server.client();
    attack::prepare(address)?;
    let idle = (0..IDLE_CONNECTIONS).map(|_| Client::open(address)).collect::<Result<Vec<_>, _>>()?;
    let quiet = Honest::measure(address, terms.time)?;
    let process = server.id();
    let before = resident_bytes(process)?;
    let (mut worst, mut peak) = (Duration::ZERO, 0);
    println!("quiet: {quiet}");
    let begun = Instant::now();
    for kind in attack::KINDS {
        let during = under(address, kind, terms.time).map_err(|failure| named(kind, &failure))?;
        let growth = resident_bytes(process)?.saturating_sub(before);
        println!("{:16} {during}, {} MiB more", kind.name, growth >> 20);
        ensure(server.is_running(), || format!("{}: the server died of it", kind.name))?;
        let bound = quiet.p99 * terms.factor + terms.noise;
        ensure(during.p99 <= bound, || format!("{}: {during} against {quiet} in the quiet", kind.name))?;
        ensure(growth <= GROWTH_BYTES_MAX, || format!("{}: {} MiB more", kind.name, growth >> 20))?;
        (worst, peak) = (worst.max(during.p99), peak.max(growth));
    }
    for mut client in idle {
        let answer = client.range(&get("a"))?;
        ensure(answer.is_ok(), || format!("a connection that was idle: {answer:?}"))?;
    }
    let lines = check_log(&server.log(), begun.elapsed())?;
    Ok(format!(
        "{} kinds; p99 {:?} quiet, {worst:?} at worst; {} MiB more; {lines} lines in the log",
        attack::KINDS.len(),
        quiet.p99,
        peak >> 20
    ))
}

fn named(kind: &Attack, failure: &Failure) -> Failure {
    Failure::Wrong(format!("{}: {failure}", kind.name))
}

/// The honest client's time while an attack goes on.
fn under(address: SocketAddr, kind: &Attack, time: Duration) -> Result<Honest, Failure> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacker = scope.spawn(|| (kind.run)(address, &over));
        let honest = Honest::measure(address, time);
        over.store(true, Ordering::Relaxed);
        attacker.join().expect("an attack does not panic")?;
        honest
    })
}

/// What an honest client sees.
#[derive(Clone, Copy, Debug)]
struct Honest {
    p99: Duration,
    max: Duration,
    calls: usize,
}

impl std::fmt::Display for Honest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} calls, p99 {:.1?}, max {:.1?}", self.calls, self.p99, self.max)
    }
}

impl Honest {
    /// Puts and gets for `time`. Every call must succeed, on the one connection.
    fn measure(address: SocketAddr, time: Duration) -> Result<Honest, Failure> {
        let mut client = Client::open(address)?;
        let mut times = Vec::new();
        let end = Instant::now() + time;
        while Instant::now() < end {
            let begun = Instant::now();
            client.conn().send(&Frame::new(FrameKind::Ping, 0, 0, *b"grpc-go!"))?;
            if times.len() % 2 == 0 {
                let answer = client.put(b"honest", &(times.len() as u64).to_be_bytes())?;
                ensure(answer.is_ok(), || format!("{answer:?}"))?;
            } else {
                let answer = client.range(&get("honest"))?;
                ensure(answer.is_ok(), || format!("{answer:?}"))?;
            }
            times.push(begun.elapsed());
        }
        times.sort();
        let (calls, max) = (times.len(), times.last().copied().unwrap_or_default());
        ensure(calls > 0, || "no call was made".to_owned())?;
        Ok(Honest { p99: times[calls * 99 / 100], max, calls })
    }
}

/// Complaints must be there, each with who and what to do, and no kind more often than once a minute.
fn check_log(log: &[String], time: Duration) -> Result<usize, Failure> {
    let mut counts = BTreeMap::new();
    for line in log.iter().filter(|line| line.contains(COMPLAINT)) {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        ensure(text("remote-addr").starts_with("127.0.0.1:"), || line.to_string())?;
        ensure(!text("cure").is_empty(), || line.to_string())?;
        *counts.entry(text("reason")).or_insert(0) += 1;
    }
    let max = 1 + (time.as_secs() / COMPLAINT_INTERVAL.as_secs()) as usize;
    for (reason, count) in &counts {
        ensure(*count <= max, || format!("{count} lines say {reason} within {time:?}"))?;
    }
    for reason in attack::KINDS.iter().filter_map(|kind| kind.reason) {
        ensure(counts.contains_key(reason), || format!("no line says {reason}: {counts:?}"))?;
    }
    Ok(counts.values().sum())
}
