//! The way out: `etcdctl snapshot save` takes a snapshot while clients write, etcd's tools find nothing wrong with it, and
//! a real etcd that was restored from it holds the same keys and answers the same hashes.
//!
//! What a snapshot costs is measured on the way: puts before and meanwhile, and memory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::differential::build::{del_range, op, put, range, txn};
use crate::proto::etcdserverpb as pb;
use crate::scratch::Scratch;
use crate::server::{Binary, Server, Site};

use super::{Failure, Verdict, ensure};

const VALUE_LEN: u64 = 1000;
/// Keys written by one transaction while loading.
const BATCH: u64 = 100;
/// Clients that put, one request at a time each, before and while the snapshot is taken.
const PUTTERS: u64 = 4;
/// How long puts are timed alone.
const ALONE: Duration = Duration::from_secs(5);
/// Fewer puts than these say nothing of the slowest hundredth.
const SAMPLES_MIN: usize = 2000;
/// The slow puts may double, and this much is noise.
const NOISE: Duration = Duration::from_millis(2);
/// What a snapshot of any size may add to the memory of the process.
const MEMORY_KIB_MAX: u64 = 64 << 10;
/// Revisions whose hashes are compared.
const HASHES: i64 = 5;
/// etcd passes all its rows for a hash, which it may have to read first.
const HASH_MAX: Duration = Duration::from_secs(120);
/// Keys read at once when all are compared.
const PAGE: i64 = 1000;

/// Takes a snapshot of `mib` MiB of values.
pub fn run(binary: &Binary, mib: u64) -> Verdict {
    let tools = Tools::find()?;
    let server = Server::start(binary, &["--quota-backend-bytes=8589934592"])?;
    let keys = (mib << 20) / VALUE_LEN;
    load(server.client(), keys)?;
    let scratch = Scratch::new("snapshot")?;
    let file = scratch.path().join("snapshot.db");

    let alone = Putters::start(server.client());
    thread::sleep(ALONE);
    let alone = alone.stop()?;
    let memory_before = anonymous_kib(server.id());
    let putters = Putters::start(server.client());
    let begun = Instant::now();
    let memory = tools.save(&server, &file)?;
    let took = begun.elapsed();
    let beside = putters.stop()?;
    let grown = memory.saturating_sub(memory_before);

    println!("snapshot: taken in {took:.1?}; puts alone {alone}, meanwhile {beside}; {grown} KiB of memory");
    let status = tools.status(&file)?;
    let revision = status["revision"].as_i64().unwrap_or_default();
    let restored = tools.restore(&file)?;
    same_hashes(&server, &restored, revision)?;
    let same = same_keys(&server, &restored, revision)?;
    ensure(status["totalKey"].as_u64() == Some(same), || format!("{same} keys, but {status}"))?;
    let numbers = format!(
        "{} bytes of {same} keys in {took:.1?}; puts alone {alone}, meanwhile {beside}; {grown} KiB of memory",
        status["totalSize"]
    );
    ensure(grown <= MEMORY_KIB_MAX, || format!("memory grew: {numbers}"))?;
    ensure(beside.count < SAMPLES_MIN || beside.p99 <= alone.p99 * 2 + NOISE, || {
        format!("puts became slow: {numbers}")
    })?;
    Ok(numbers)
}

/// Keys, some written again, some deleted, and a compaction amid all that.
fn load(address: SocketAddr, keys: u64) -> Result<(), Failure> {
    write(address, 0, keys)?;
    let mut client = Client::open(address)?;
    write(address, 0, keys / 20)?;
    let response = client.delete(&del_range(key(keys / 40), key(keys / 30)))?;
    let deleted = response.map_err(|status| Failure::Wrong(format!("deleting: {status:?}")))?;
    let revision = deleted.header.unwrap_or_default().revision;
    client.compact(revision - 10, false)?.map_err(|status| Failure::Wrong(format!("compact: {status:?}")))?;
    write(address, keys / 30, keys / 25)?;
    client.delete(&del_range(key(0), key(20)))?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    Ok(())
}

fn write(address: SocketAddr, from: u64, to: u64) -> Result<(), Failure> {
    let mut client = Client::open(address)?;
    for first in (from..to).step_by(BATCH as usize) {
        let mut request = txn([], [], []);
        let value = |number: u64| vec![b'a' + (number % 26) as u8; VALUE_LEN as usize];
        let numbers = first..to.min(first + BATCH);
        request.success = numbers.map(|number| op(put(key(number), value(number)))).collect();
        client.txn(&request)?.map_err(|status| Failure::Wrong(format!("loading: {status:?}")))?;
    }
    Ok(())
}

fn key(number: u64) -> Vec<u8> {
    format!("snapshot/{number:09}").into_bytes()
}

/// etcd's own programs.
struct Tools {
    etcd: Binary,
    dir: PathBuf,
}

impl Tools {
    fn find() -> Result<Tools, Failure> {
        let etcd = Binary::etcd()?;
        let dir = etcd.path.parent().expect("a program is in a directory").to_path_buf();
        Ok(Tools { etcd, dir })
    }

    fn command(&self, tool: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.dir.join(tool));
        command.args(args);
        command
    }

    fn run(&self, tool: &str, args: &[&str]) -> Result<String, Failure> {
        let output = self.command(tool, args).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.success(), || format!("{tool} {args:?}: {stderr}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Saves a snapshot. Returns the most memory the server had meanwhile.
    fn save(&self, server: &Server, file: &Path) -> Result<u64, Failure> {
        let endpoint = format!("--endpoints={}", server.client());
        let file = file.display().to_string();
        let mut saving: Child = self
            .command("etcdctl", &[&endpoint, "snapshot", "save", &file, "--command-timeout=600s"])
            .spawn()?;
        let mut memory = 0;
        let status = loop {
            memory = memory.max(anonymous_kib(server.id()));
            match saving.try_wait()? {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        ensure(status.success(), || format!("etcdctl snapshot save: {status}"))?;
        Ok(memory)
    }

    /// What `snapshot status` says, after it has looked at every page.
    fn status(&self, file: &Path) -> Result<serde_json::Value, Failure> {
        let text = self.run("etcdutl", &["snapshot", "status", &file.display().to_string(), "-w", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A real etcd with the snapshot's data.
    fn restore(&self, file: &Path) -> Result<Server, Failure> {
        let site = Site::new("restored")?;
        let peer = format!("http://{}", site.peer());
        let file = file.display().to_string();
        let data = format!("--data-dir={}", site.data_dir().display());
        let cluster = format!("--initial-cluster=m0={peer}");
        let advertise = format!("--initial-advertise-peer-urls={peer}");
        self.run("etcdutl", &["snapshot", "restore", &file, "--name=m0", &data, &cluster, &advertise])?;
        Ok(Server::start_at(&self.etcd, site, &[]).map_err(|(error, _)| error)?)
    }
}

/// Hashes at some revisions between the compaction and the snapshot.
fn same_hashes(ours: &Server, theirs: &Server, revision: i64) -> Result<(), Failure> {
    let mut clients = [Client::open(ours.client())?, Client::open(theirs.client())?];
    for client in &mut clients {
        client.conn().set_patience(HASH_MAX)?;
    }
    let newest = hash(&mut clients[1], 0)?;
    ensure(newest.hash_revision == revision, || format!("etcd is at {newest:?}, not {revision}"))?;
    let compacted = newest.compact_revision;
    for step in 1..=HASHES {
        let at = compacted + (revision - compacted) * step / HASHES;
        let [ours, theirs] = clients.each_mut().map(|client| hash(client, at));
        let (ours, theirs) = (ours?, theirs?);
        let same = ours.hash == theirs.hash && ours.compact_revision == theirs.compact_revision;
        ensure(same, || format!("hashes at {at} of {revision}: {ours:?} and etcd's {theirs:?}"))?;
    }
    Ok(())
}

fn hash(client: &mut Client, revision: i64) -> Result<pb::HashKvResponse, Failure> {
    client.hash_kv(revision)?.map_err(|status| Failure::Wrong(format!("HashKV at {revision}: {status:?}")))
}

/// All pairs at the snapshot's revision. Returns how many there are.
fn same_keys(ours: &Server, theirs: &Server, revision: i64) -> Result<u64, Failure> {
    let mut clients = [Client::open(ours.client())?, Client::open(theirs.client())?];
    let mut from = b"\0".to_vec();
    let mut seen = 0;
    loop {
        let request = pb::RangeRequest { revision, limit: PAGE, ..range(from, "\0") };
        let [ours, theirs] = clients.each_mut().map(|client| client.range(&request));
        let (ours, theirs) = (ours?, theirs?);
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
            return Err(Failure::Wrong(format!("a page at {revision} was refused")));
        };
        ensure(ours.kvs == theirs.kvs, || format!("the pages from {:?} on differ", request.key))?;
        seen += ours.kvs.len() as u64;
        match ours.kvs.last() {
            Some(last) if ours.more => from = [&last.key[..], b"\0"].concat(),
            _ => return Ok(seen),
        }
    }
}

/// Anonymous memory of a process, in KiB; pages of mapped files are the system's to take back.
fn anonymous_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// Clients that put.
struct Putters {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Result<Vec<Duration>, String>>>,
}

/// Times of puts.
struct Times {
    count: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Times { count, p50, p99, max } = self;
        write!(f, "p50 {p50:.0?} p99 {p99:.0?} max {max:.0?} of {count}")
    }
}

impl Putters {
    fn start(address: SocketAddr) -> Putters {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = (0..PUTTERS)
            .map(|worker| {
                let stop = stop.clone();
                thread::spawn(move || puts(address, worker, &stop).map_err(|error| error.to_string()))
            })
            .collect();
        Putters { stop, workers }
    }

    fn stop(self) -> Result<Times, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for worker in self.workers {
            times.extend(worker.join().expect("a client does not panic").map_err(Failure::Wrong)?);
        }
        times.sort_unstable();
        ensure(!times.is_empty(), || "no put was answered".into())?;
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Ok(Times { count: times.len(), p50: at(50), p99: at(99), max: at(100) })
    }
}

fn puts(address: SocketAddr, worker: u64, stop: &AtomicBool) -> Result<Vec<Duration>, Failure> {
    let mut client = Client::open(address)?;
    let mut times = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("put/{worker}/{}", number % 1000);
        let begun = Instant::now();
        client.put(key.as_bytes(), b"value")?.map_err(|status| Failure::Wrong(format!("put: {status:?}")))?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
