//! What a first start costs: the time until it answers, and the bytes it writes for that.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Binary, START_MAX, Server, Site};

use super::{Failure, Verdict, ensure};

const STARTS: usize = 5;
/// From exec to an answer of /health. The fastest start is judged: what else runs on the machine makes starts slow, and
/// none fast.
const READY_WITHIN: Duration = Duration::from_millis(100);
/// Written before the first answer.
const WRITTEN_MAX: u64 = 16 << 20;
/// Room of the data directory then.
const SPACE_MAX: u64 = 32 << 20;

/// Starts in new directories, one after the other.
pub fn run(binary: &Binary) -> Verdict {
    let mut times = Vec::new();
    let (mut written, mut space) = (0, 0);
    for _ in 0..STARTS {
        let site = Site::new("start")?;
        let (address, data) = (site.client(), site.data_dir());
        let begun = Instant::now();
        let server = Server::launch(binary, site, &[])?;
        while !is_healthy(address) {
            ensure(begun.elapsed() < START_MAX, || format!("never healthy: {:?}", server.log()))?;
            thread::sleep(Duration::from_millis(1));
        }
        times.push(begun.elapsed());
        written = written.max(bytes_written(server.id())?);
        space = space.max(room_of(&data)?);
    }
    times.sort_unstable();
    let (fastest, median) = (times[0], times[STARTS / 2]);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let numbers = format!(
        "healthy after {fastest:.1?}, median {median:.1?}, {:.1} MiB written until then, {:.1} MiB on disk",
        mib(written),
        mib(space)
    );
    ensure(fastest <= READY_WITHIN, || format!("later than {READY_WITHIN:?}: {numbers}"))?;
    ensure(written <= WRITTEN_MAX, || format!("more than {} MiB: {numbers}", mib(WRITTEN_MAX)))?;
    ensure(space <= SPACE_MAX, || format!("more than {} MiB: {numbers}", mib(SPACE_MAX)))?;
    Ok(numbers)
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
