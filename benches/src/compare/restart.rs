//! How long a server with many keys needs to answer again, and how much memory it keeps: after an orderly stop, and after
//! kill -9 with as much log to apply again as there can be. The file caches are dropped between two processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use kontiki_tests::server::{Binary, Server, Site};
use kontiki_tests::wire::{Conn, Request};

use crate::load::{Method, Pace, Plan, Workload, key_bytes, run};

use super::report::{heading, median, write_pair};
use super::scenario::{fill, put};

/// The server may rest this long before its memory is read again, and before the puts that a kill leaves in the log:
/// longer than it takes either server to bring its files up to date when nothing is asked (Kontiki: 5 s).
const REST: Duration = Duration::from_secs(10);
/// How long random keys are read after the restart, so that what a restart leaves for later is brought in.
const READING: Duration = Duration::from_secs(5);
/// How long a first answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// How often a server that does not answer yet is asked.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// What etcd needs for a million keys and more.
const FLAGS: &[&str] = &["--quota-backend-bytes=8589934592"];

/// How much is run.
#[derive(Clone, Debug)]
pub struct RestartOptions {
    /// Rounds; each server runs once in each.
    pub rounds: usize,
    /// Keys in the store.
    pub keys: u64,
    /// Bytes a value.
    pub value_len: usize,
    /// Puts after the last rest, before the kill.
    pub tail: u64,
}

/// One number of one round.
#[derive(Clone, Debug)]
struct Row {
    round: usize,
    server: String,
    measure: &'static str,
    value: f64,
}

/// All numbers in the order in which they came.
#[derive(Debug, Default)]
pub struct Restarts {
    rows: Vec<Row>,
    /// Whether the kernel let us drop its caches each time.
    is_cold: bool,
}

/// Runs everything; `servers` take turns.
pub fn run_restarts(
    servers: &[Binary],
    options: &RestartOptions,
) -> Result<Restarts, Box<dyn std::error::Error>> {
    let mut restarts = Restarts { rows: Vec::new(), is_cold: true };
    for round in 1..=options.rounds {
        for binary in servers {
            let mut note = |measure: &'static str, value: f64| {
                println!("round {round} {:10} {measure:44} {value:10.1}", binary.name);
                restarts.rows.push(Row { round, server: binary.name.clone(), measure, value });
            };
            restarts.is_cold &= run_one(binary, options, &mut note)?;
        }
    }
    if !restarts.is_cold {
        println!("the file caches could not be dropped (that takes root): these starts read from memory");
    }
    Ok(restarts)
}

/// One life of a store; true if the caches were dropped.
fn run_one(
    binary: &Binary,
    options: &RestartOptions,
    note: &mut dyn FnMut(&'static str, f64),
) -> Result<bool, Box<dyn std::error::Error>> {
    let server = Server::start(binary, FLAGS)?;
    let load = fill(&server, options.keys, options.value_len)?;
    note("load, puts/s", load.rate);
    note("load, server CPU us/put", load.cpu_us);
    note("memory after the load, MB", resident_mb(server.id())?);
    thread::sleep(REST);
    note("memory 10 s later, MB", resident_mb(server.id())?);

    let begun = Instant::now();
    let (status, site) = server.terminate()?;
    status.ok_or_else(|| io::Error::other(format!("{} did not end after SIGTERM", binary.name)))?;
    note("SIGTERM to its end, ms", ms(begun.elapsed()));
    note("data directory, MB", files_mb(&site.data_dir())?);
    let mut is_cold = drop_caches();
    let (server, first) = first_read(binary, site, options)?;
    note("first read after SIGTERM, ms", ms(first));
    note("memory at that read, MB", resident_mb(server.id())?);
    thread::sleep(REST);
    note("memory 10 s after the restart, MB", resident_mb(server.id())?);
    read_all_over(&server, options)?;
    note("memory after 5 s of random gets, MB", resident_mb(server.id())?);

    thread::sleep(REST);
    let workload = Workload { method: Method::Put, keys: options.keys, value_len: options.value_len };
    put(&server, workload, options.tail)?;
    let site = server.kill()?;
    is_cold &= drop_caches();
    let (server, first) = first_read(binary, site, options)?;
    note("first read after kill -9, ms", ms(first));
    if let Some(replayed) = replayed(&server.log()) {
        note("entries applied again", replayed);
    }
    note("memory at that read (kill -9), MB", resident_mb(server.id())?);
    Ok(is_cold)
}

/// Starts `binary` and asks for one key until it is there: the time from the start of the process.
fn first_read(
    binary: &Binary,
    site: Site,
    options: &RestartOptions,
) -> Result<(Server, Duration), Box<dyn std::error::Error>> {
    let workload = Workload { method: Method::Get, keys: options.keys, value_len: options.value_len };
    let request = Request::grpc(workload.path(), &workload.message(&key_bytes(options.keys / 2)));
    let begun = Instant::now();
    let server = Server::launch(binary, site, FLAGS)?;
    while begun.elapsed() < ANSWER_WITHIN {
        let answer = Conn::open(server.client()).and_then(|mut conn| conn.exchange(&request));
        let is_there = answer.as_ref().is_ok_and(|answer| {
            answer.status().is_some_and(|status| status.code == 0) && answer.body.len() > options.value_len
        });
        if is_there {
            return Ok((server, begun.elapsed()));
        }
        thread::sleep(ASK_EVERY);
    }
    Err(format!("no answer within {ANSWER_WITHIN:?}: {:?}", server.log()).into())
}

fn read_all_over(server: &Server, options: &RestartOptions) -> io::Result<()> {
    let plan = Plan {
        workload: Workload { method: Method::Get, keys: options.keys, value_len: options.value_len },
        connections: 10,
        pace: Pace::Closed { streams: 100 },
        duration: READING,
        requests: None,
        seed: 1,
    };
    let summary = run(server.client(), &plan)?;
    if summary.failures > 0 {
        return Err(io::Error::other(format!("gets: {:?}", summary.failure)));
    }
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Writes back what is dirty and empties the page cache, if we may.
fn drop_caches() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn resident_mb(id: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    resident_kib(&status)
        .map(|kib| kib as f64 * 1024.0 / 1e6)
        .ok_or_else(|| io::Error::other(format!("no VmRSS in {status}")))
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// All files below `folder`, by length.
fn files_mb(folder: &Path) -> io::Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { files_mb(&entry.path())? * 1e6 } else { meta.len() as f64 };
    }
    Ok(bytes / 1e6)
}

/// What the server says about its log, if it says it.
fn replayed(log: &[String]) -> Option<f64> {
    let line = log.iter().find(|line| line.contains("\"replayed-entries\":"))?;
    let number = line.split("\"replayed-entries\":").nth(1)?;
    number.trim_start_matches('"').split(['"', ',', '}']).next()?.parse().ok()
}

/// Writes `<date>-<host>-restart.md` and `.csv` into `folder`; gives the first one's path.
pub fn write_restarts(
    folder: &Path,
    data: &Path,
    servers: &[Binary],
    options: &RestartOptions,
    label: Option<&str>,
    restarts: &Restarts,
) -> io::Result<PathBuf> {
    let label = label.map_or_else(|| "restart".to_owned(), |label| format!("restart-{label}"));
    let page = markdown(data, servers, options, restarts);
    write_pair(folder, Some(&label), &page, &csv(restarts))
}

fn markdown(data: &Path, servers: &[Binary], options: &RestartOptions, restarts: &Restarts) -> String {
    let mut text = heading("Restart and memory, by turns on one disk", data, servers);
    text += &format!(
        "- {} rounds, {} random keys of 16 bytes, values of {} bytes; {} puts before kill -9; medians over the rounds\n\
         - file caches {}\n\n| |",
        options.rounds,
        options.keys,
        options.value_len,
        options.tail,
        if restarts.is_cold { "dropped before each start" } else { "NOT dropped: that takes root" },
    );
    for server in servers {
        text += &format!(" {} |", server.name);
    }
    text += &format!("\n|---|{}\n", "---:|".repeat(servers.len()));
    for measure in restarts.measures() {
        text += &format!("| {measure} |");
        for server in servers {
            let value = restarts.median(measure, &server.name);
            text += &value.map_or_else(|| " - |".to_owned(), |value| format!(" {value:.1} |"));
        }
        text.push('\n');
    }
    text
}

fn csv(restarts: &Restarts) -> String {
    let mut text = "round,server,measure,value\n".to_owned();
    for Row { round, server, measure, value } in &restarts.rows {
        text += &format!("{round},{server},\"{measure}\",{value:.1}\n");
    }
    text
}

impl Restarts {
    /// In the order of their first appearance.
    fn measures(&self) -> Vec<&'static str> {
        let mut known = Vec::new();
        for row in &self.rows {
            if !known.contains(&row.measure) {
                known.push(row.measure);
            }
        }
        known
    }

    fn median(&self, measure: &str, server: &str) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.measure == measure && row.server == server);
        let values = rows.map(|row| row.value).collect::<Vec<_>>();
        (!values.is_empty()).then(|| median(values))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_tests::scratch::Scratch;

    use super::*;

    #[test]
    fn memory_and_log_are_read() {
        assert_eq!(resident_kib("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t  1234 kB\n"), Some(1234));
        assert!(resident_mb(std::process::id()).unwrap() > 0.0);
        let log = ["x".to_owned(), r#"{"msg":"starting etcd server","replayed-entries":7}"#.to_owned()];
        assert_eq!(replayed(&log), Some(7.0));
        assert_eq!(replayed(&[r#"{"replayed-entries":"12","x":1}"#.to_owned()]), Some(12.0));
        assert_eq!(replayed(&[]), None);
    }

    #[test]
    fn files_are_summed_through_folders() {
        let scratch = Scratch::new("files").unwrap();
        fs::create_dir(scratch.path().join("inner")).unwrap();
        fs::write(scratch.path().join("inner/a"), vec![0; 1_000_000]).unwrap();
        fs::write(scratch.path().join("b"), vec![0; 500_000]).unwrap();
        assert!((files_mb(scratch.path()).unwrap() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_row_has_the_median_of_each_server() {
        let row =
            |round, server: &str, measure, value| Row { round, server: server.to_owned(), measure, value };
        let rows =
            vec![row(1, "a", "x", 3.0), row(2, "a", "x", 1.0), row(3, "a", "x", 2.0), row(1, "b", "y", 5.0)];
        let restarts = Restarts { rows, is_cold: false };
        assert_eq!(restarts.measures(), ["x", "y"]);
        assert_eq!((restarts.median("x", "a"), restarts.median("y", "a")), (Some(2.0), None));
        assert_eq!(csv(&restarts).lines().count(), 5);
    }
}
