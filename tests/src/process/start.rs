//! What a first start costs: the time until it answers, and the bytes it writes for that. Once quickly, on any machine;
//! and once as a figure, on a quiet one.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Binary, START_MAX, Server, Site};

use super::{Failure, Verdict, ensure};

/// Starts of [`run`], whose fastest is judged: what else runs on the machine makes starts slow, and none fast.
const STARTS: usize = 5;
/// Starts of [`health`], whose median is judged.
const HEALTH_STARTS: usize = 15;
/// From exec to an answer of /health.
const READY_WITHIN: Duration = Duration::from_millis(100);
/// Written before the first answer.
const WRITTEN_MAX: u64 = 16 << 20;
/// Room of the data directory then.
const SPACE_MAX: u64 = 32 << 20;

/// A few starts, of which the fastest must be fast enough.
pub fn run(binary: &Binary) -> Verdict {
    let costs = Costs::of(binary, STARTS)?;
    costs.check(0)?;
    Ok(costs.to_string())
}

/// Starts with each of `drivers`, or with the subject's own if none is named, of which half must be fast enough.
pub fn health(binary: &Binary, drivers: &[&str]) -> Verdict {
    if drivers.is_empty() {
        let costs = Costs::of(binary, HEALTH_STARTS)?;
        costs.check(HEALTH_STARTS / 2)?;
        return Ok(costs.to_string());
    }
    let mut all = Vec::new();
    for driver in drivers {
        let mut binary = binary.clone();
        binary.flags.push(format!("--kontiki-driver={driver}"));
        all.push(format!("{driver}: {}", health(&binary, &[])?));
    }
    Ok(all.join("; "))
}

/// What starts in new directories cost.
struct Costs {
    /// Until /health answered, sorted.
    times: Vec<Duration>,
    /// Bytes written until then, sorted. What the server goes on to write is in it where this process was late to look.
    written: Vec<u64>,
    /// Bytes on disk, the most of all starts.
    space: u64,
}

impl Costs {
    /// One start after the other.
    fn of(binary: &Binary, starts: usize) -> Result<Costs, Failure> {
        let mut costs = Costs { times: Vec::new(), written: Vec::new(), space: 0 };
        for _ in 0..starts {
            let site = Site::new("start")?;
            let (address, data) = (site.client(), site.data_dir());
            let begun = Instant::now();
            let server = Server::launch(binary, site, &[])?;
            while !is_healthy(address) {
                ensure(begun.elapsed() < START_MAX, || format!("never healthy: {:?}", server.log()))?;
                thread::sleep(Duration::from_millis(1));
            }
            costs.times.push(begun.elapsed());
            costs.written.push(bytes_written(server.id())?);
            costs.space = costs.space.max(room_of(&data)?);
        }
        costs.times.sort_unstable();
        costs.written.sort_unstable();
        Ok(costs)
    }

    /// Whether the start that is `nth` from the best was good enough.
    fn check(&self, nth: usize) -> Result<(), Failure> {
        let (time, written) = (self.times[nth], self.written[nth]);
        ensure(time <= READY_WITHIN, || format!("later than {READY_WITHIN:?}: {self}"))?;
        ensure(written <= WRITTEN_MAX, || format!("more than {} MiB: {self}", mib(WRITTEN_MAX)))?;
        ensure(self.space <= SPACE_MAX, || format!("more than {} MiB: {self}", mib(SPACE_MAX)))
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (middle, last) = (self.times.len() / 2, self.times.len() - 1);
        write!(
            f,
            "{} starts, healthy after {:.1?} at least, {:.1?} in the middle, {:.1?} at most; {:.1} MiB written until then \
             in the middle, {:.1} at most; {:.1} MiB on disk",
            self.times.len(),
            self.times[0],
            self.times[middle],
            self.times[last],
            mib(self.written[middle]),
            mib(self.written[last]),
            mib(self.space)
        )
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Whether GET /health says so now.
fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.contains(r#""health":"true""#))
}

/// Bytes the process has sent towards the disk.
fn bytes_written(process: u32) -> Result<u64, Failure> {
    let io = fs::read_to_string(format!("/proc/{process}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    let bytes = line.and_then(|number| number.parse().ok());
    bytes.ok_or_else(|| Failure::Broken(format!("/proc/{process}/io says {io:?}").into()))
}

/// Room that everything below `path` takes.
fn room_of(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { room_of(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}
